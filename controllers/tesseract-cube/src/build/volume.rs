//! Claims of a unit's volumes. They have no owner: nothing but an explicit decision removes them.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use upm_crds::names::{self, annotation, label};
use upm_crds::unit::VolumeClaimTemplate;
use upm_crds::{Unit, UnitSet};

use super::{Map, labels};

/// The claims of one unit of the set.
pub(crate) fn claim_templates(set: &UnitSet, ordinal: i32) -> Vec<VolumeClaimTemplate> {
    let name = set.name_any();
    let unit = names::unit_name(&name, ordinal);
    let templates = set.spec.storage.iter().map(|storage| {
        let mut labels = labels(&name);
        labels.insert(label::UNIT.to_owned(), unit.clone());
        labels.insert(label::STORAGE.to_owned(), storage.name.clone());
        let requests = [("storage".to_owned(), storage.size.clone())];
        VolumeClaimTemplate {
            name: storage.name.clone(),
            labels,
            annotations: Map::from([(
                annotation::UNIT_SET_UID.to_owned(),
                set.uid().unwrap_or_default(),
            )]),
            spec: PersistentVolumeClaimSpec {
                access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
                resources: Some(VolumeResourceRequirements {
                    requests: Some(requests.into()),
                    ..VolumeResourceRequirements::default()
                }),
                storage_class_name: storage.storage_class_name.clone(),
                ..PersistentVolumeClaimSpec::default()
            },
        }
    });
    templates.collect()
}

/// The claim of a unit that a template describes.
pub(crate) fn claim(unit: &Unit, template: &VolumeClaimTemplate) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::pvc(&unit.name_any(), &template.name)),
            namespace: unit.namespace(),
            labels: Some(template.labels.clone()),
            annotations: Some(template.annotations.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        ..PersistentVolumeClaim::default()
    }
}

/// The size that a template asks for.
pub(crate) fn wanted_size(template: &VolumeClaimTemplate) -> Option<&Quantity> {
    template
        .spec
        .resources
        .as_ref()?
        .requests
        .as_ref()?
        .get("storage")
}

/// The size that a claim asks for.
pub(crate) fn requested_size(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim
        .spec
        .as_ref()?
        .resources
        .as_ref()?
        .requests
        .as_ref()?
        .get("storage")
}

/// The size that a claim has.
pub(crate) fn capacity(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim.status.as_ref()?.capacity.as_ref()?.get("storage")
}

/// How many units the deleted set had that this claim was kept of.
pub(crate) fn kept_of(claim: &PersistentVolumeClaim) -> Option<i32> {
    claim
        .annotations()
        .get(annotation::KEPT_OF_UNITS)?
        .parse()
        .ok()
}

/// Whether the claim was made for, or adopted by, the set with this uid.
pub(crate) fn belongs_to(claim: &PersistentVolumeClaim, set_uid: &str) -> bool {
    claim
        .annotations()
        .get(annotation::UNIT_SET_UID)
        .is_some_and(|uid| uid == set_uid)
}
