//! The pod of a unit: the package's pod template with the set's wishes and the unit agent put in.

mod affinity;
mod env;
mod image;
mod mounts;

use k8s_openapi::api::core::v1::{Container, ExecAction, Pod, PodSpec, Probe, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::json;
use upm_crds::names::{self, annotation};
use upm_crds::unit::PodTemplate;
use upm_crds::{Unit, UnitSet};
use upm_operator::Settings;
use upm_operator::call::digest;

use super::config_map::Keys;
use super::{Map, owner, unit};
use crate::package::Package;

/// The init container that brings the unit agent.
pub(crate) const INSTALL: &str = "unit-agent-install";
/// Where the unit agent lies in the pod.
const AGENT: &str = "/upm/bin/upm-unit-agent";
/// How long a server may take to end.
const TERMINATION_SECONDS: i64 = 60;

/// What a unit's pod is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs<'a> {
    pub(crate) set: &'a UnitSet,
    pub(crate) package: &'a Package,
    pub(crate) ordinal: i32,
    pub(crate) keys: &'a Keys,
    pub(crate) settings: &'a Settings,
    /// The `restartedAt` that the running pod was started for, if there is one.
    pub(crate) started_for: Option<&'a str>,
}

/// The pod that a unit of the set shall have, with its revision among the annotations.
pub(crate) fn template(inputs: Inputs<'_>) -> PodTemplate {
    let Inputs {
        set,
        package,
        ordinal,
        ..
    } = inputs;
    let set_name = set.name_any();
    let unit_name = names::unit_name(&set_name, ordinal);
    let base = package.pod.template.clone().unwrap_or_default();
    let base_meta = base.metadata.unwrap_or_default();
    let mut spec = base.spec.unwrap_or_default();

    spec.hostname = Some(unit_name.clone());
    spec.subdomain = Some(names::headless_service(&set_name));
    spec.automount_service_account_token = Some(false);
    spec.enable_service_links.get_or_insert(false);
    spec.restart_policy = Some("Always".to_owned());
    spec.termination_grace_period_seconds
        .get_or_insert(TERMINATION_SECONDS);
    main_container(inputs, &mut spec);
    if package.unit_yaml().is_some() {
        unit_agent(inputs, &mut spec);
    }
    let mut annotations = base_meta.annotations.unwrap_or_default();
    annotations.extend(mounts::storage(inputs, &mut spec));
    env::set(inputs, &mut spec);
    affinity::set(inputs, &mut spec);
    image::set(inputs.settings, &mut spec);

    annotations.insert(
        annotation::MAIN_CONTAINER.to_owned(),
        set.spec.type_.clone(),
    );
    annotations.insert(
        annotation::MAIN_VERSION.to_owned(),
        set.spec.version.clone(),
    );
    if let Some(mark) = restart_mark(set.spec.restarted_at.as_deref(), inputs.started_for) {
        annotations.insert(annotation::RESTARTED_AT.to_owned(), mark.to_owned());
    }
    let revision = revision(&spec, &annotations);
    annotations.extend(unit::inherited_annotations(set));
    annotations.insert(annotation::REVISION.to_owned(), revision);
    let mut labels = base_meta.labels.unwrap_or_default();
    labels.extend(unit::unit_labels(set, ordinal));
    PodTemplate {
        name: unit_name,
        namespace: set.namespace().unwrap_or_default(),
        labels,
        annotations,
        spec,
    }
}

/// The mark of a pod: that of the set, unless the pod was started for a later one. A wish for a restart that is taken back restarts nobody: neither
/// those that were restarted for it, nor those that were not. Texts that are no times are changes, as they always were.
pub(crate) fn restart_mark<'a>(
    wanted: Option<&'a str>,
    started_for: Option<&'a str>,
) -> Option<&'a str> {
    let (Some(wanted), Some(started_for)) = (wanted, started_for) else {
        return wanted.or(started_for);
    };
    let later = |pair: (&str, &str)| -> Option<bool> {
        let (at, than): (Timestamp, Timestamp) = (pair.0.parse().ok()?, pair.1.parse().ok()?);
        Some(at > than)
    };
    if later((started_for, wanted)) == Some(true) {
        Some(started_for)
    } else {
        Some(wanted)
    }
}

/// Digest of everything that takes effect only by a restart. The unit agent's image does not count: it comes with the
/// next restart, so that an upgrade of the platform restarts no database.
fn revision(spec: &PodSpec, annotations: &Map) -> String {
    let mut spec = spec.clone();
    for container in spec
        .init_containers
        .iter_mut()
        .flatten()
        .filter(|container| container.name == INSTALL)
    {
        container.image = None;
    }
    digest(&json!({ "spec": spec, "annotations": annotations }))
}

/// What a template's pod was made from.
pub(crate) fn revision_of(annotations: &Map) -> String {
    annotations
        .get(annotation::REVISION)
        .cloned()
        .unwrap_or_default()
}

/// Resources of the server's container.
fn main_container(inputs: Inputs<'_>, spec: &mut PodSpec) {
    let wanted = &inputs.set.spec;
    let Some(main) = spec
        .containers
        .iter_mut()
        .find(|container| container.name == wanted.type_)
    else {
        return;
    };
    if let Some(resources) = &wanted.resources {
        main.resources = Some(resources.clone());
    }
    if !wanted.resize_policy.is_empty() {
        main.resize_policy = Some(wanted.resize_policy.clone());
    }
}

/// Lets the unit agent start the server and say when it is ready.
fn unit_agent(inputs: Inputs<'_>, spec: &mut PodSpec) {
    mounts::unit_agent(inputs, spec);
    let type_ = &inputs.set.spec.type_;
    let Some(main) = spec
        .containers
        .iter_mut()
        .find(|container| container.name == *type_)
    else {
        return;
    };
    main.command = Some(
        [AGENT, "run", "--config", "/upm/config/unit.yaml"]
            .map(str::to_owned)
            .into(),
    );
    main.args = None;
    if main.readiness_probe.is_none() {
        main.readiness_probe = Some(Probe {
            exec: Some(ExecAction {
                command: Some([AGENT, "ready"].map(str::to_owned).into()),
            }),
            period_seconds: Some(2),
            timeout_seconds: Some(2),
            failure_threshold: Some(2),
            ..Probe::default()
        });
    }
    let install = Container {
        name: INSTALL.to_owned(),
        image: Some(inputs.settings.unit_agent_image.clone()),
        command: Some(
            ["/upm-unit-agent", "install", "/upm/bin"]
                .map(str::to_owned)
                .into(),
        ),
        // as the server's: neither rights nor a class of service of its own
        security_context: main.security_context.clone(),
        resources: main.resources.clone(),
        volume_mounts: Some(vec![mounts::mount("upm-bin", "/upm/bin", false)]),
        ..Container::default()
    };
    spec.init_containers
        .get_or_insert_default()
        .insert(0, install);
}

/// The pod of a unit.
pub(crate) fn pod(unit: &Unit) -> Pod {
    let template = &unit.spec.template;
    Pod {
        metadata: ObjectMeta {
            name: Some(unit.name_any()),
            namespace: unit.namespace(),
            labels: Some(template.labels.clone()),
            annotations: Some(template.annotations.clone()),
            owner_references: owner(unit).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    }
}

/// Adds a volume unless the template brings one of this name.
fn add_volume(spec: &mut PodSpec, volume: Volume) {
    let volumes = spec.volumes.get_or_insert_default();
    if !volumes.iter().any(|present| present.name == volume.name) {
        volumes.push(volume);
    }
}
