//! The Unit of an ordinal.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use upm_crds::names::{self, annotation, label};
use upm_crds::unit::PodTemplate;
use upm_crds::{Unit, UnitSet, UnitSpec};

use super::{Map, owner, volume};

/// The labels that a set hands down to its units and pods.
pub(crate) fn inherited_labels(set: &UnitSet) -> Map {
    let own = |key: &str| {
        key.starts_with("upm.syntropycloud.io/") || key.starts_with("app.kubernetes.io/managed-by")
    };
    let labels = set.labels().iter().filter(|(key, _)| !own(key));
    labels
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The annotations that a set hands down to its pods; templates may read them.
pub(crate) fn inherited_annotations(set: &UnitSet) -> Map {
    let own = |key: &str| {
        key.starts_with("upm.syntropycloud.io/") || key.starts_with("kubectl.kubernetes.io/")
    };
    let annotations = set.annotations().iter().filter(|(key, _)| !own(key));
    annotations
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Labels of a unit and its pod.
pub(crate) fn unit_labels(set: &UnitSet, ordinal: i32) -> Map {
    let name = set.name_any();
    let mut labels = inherited_labels(set);
    labels.extend(super::labels(&name));
    labels.insert(label::UNIT.to_owned(), names::unit_name(&name, ordinal));
    labels.insert(label::UNIT_SN.to_owned(), ordinal.to_string());
    labels.insert(label::UNIT_COUNT.to_owned(), set.spec.units.to_string());
    labels
}

/// The Unit with this pod.
pub(crate) fn unit(set: &UnitSet, ordinal: i32, template: PodTemplate, startup: bool) -> Unit {
    let name = set.name_any();
    let unit = names::unit_name(&name, ordinal);
    let mut annotations = Map::from([(
        annotation::MAIN_CONTAINER.to_owned(),
        set.spec.type_.clone(),
    )]);
    for key in [annotation::REVISION, annotation::MAIN_VERSION] {
        if let Some(value) = template.annotations.get(key) {
            annotations.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(trace) = set.annotations().get(annotation::TRACEPARENT) {
        annotations.insert(annotation::TRACEPARENT.to_owned(), trace.clone());
    }
    Unit {
        metadata: ObjectMeta {
            name: Some(unit.clone()),
            namespace: set.namespace(),
            labels: Some(unit_labels(set, ordinal)),
            annotations: Some(annotations),
            owner_references: owner(set).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: UnitSpec {
            unit_set: name.clone(),
            ordinal,
            startup,
            config_template_name: names::config_template(&name),
            config_value_name: names::config_value(&unit),
            volume_claim_templates: volume::claim_templates(set, ordinal),
            template,
            failed_pod_recovery_policy: None,
        },
        status: None,
    }
}
