//! The environment of a pod's containers: the set's, over what the unit is, over what the package says.

use k8s_openapi::api::core::v1::{
    EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec, ResourceFieldSelector,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;
use upm_crds::names::{self, label};

use super::Inputs;

fn value(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.into()),
        value_from: None,
    }
}

fn field(name: &str, path: &str) -> EnvVar {
    let source = ObjectFieldSelector {
        field_path: path.to_owned(),
        api_version: None,
    };
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(source),
            ..EnvVarSource::default()
        }),
    }
}

/// What the unit is. The number of units is read from a label, so that scaling restarts nobody.
fn facts(inputs: Inputs<'_>) -> Vec<EnvVar> {
    let set = inputs.set;
    let name = set.name_any();
    let namespace = set.namespace().unwrap_or_default();
    let volumes = || {
        let storage = set
            .spec
            .storage
            .iter()
            .map(|volume| (&volume.name, &volume.mount_path));
        storage.chain(
            set.spec
                .empty_dir
                .iter()
                .map(|volume| (&volume.name, &volume.mount_path)),
        )
    };
    let mounted = |wanted: &str| {
        volumes()
            .find(|(name, _)| *name == wanted)
            .map(|(_, path)| path.clone())
    };
    let mut facts = vec![
        field("POD_NAME", "metadata.name"),
        field("NAMESPACE", "metadata.namespace"),
        value("SERVICE_NAME", &name),
        value("UNIT_SN", inputs.ordinal.to_string()),
        field(
            "UNIT_COUNT",
            &format!("metadata.labels['{}']", label::UNIT_COUNT),
        ),
        value(
            "UNIT_HOST",
            names::unit_host(&name, inputs.ordinal, &namespace),
        ),
        value(
            "DATA_MOUNT",
            mounted("data").unwrap_or_else(|| "/data".to_owned()),
        ),
    ];
    facts.extend(mounted("log").map(|path| value("LOG_MOUNT", path)));
    if inputs.package.unit_yaml().is_some() {
        facts.push(value("SECRET_MOUNT", "/upm/secrets"));
        facts.push(value("CONFIG_DIR", "/upm/config"));
    }
    let memory = ResourceFieldSelector {
        container_name: Some(set.spec.type_.clone()),
        resource: "limits.memory".to_owned(),
        divisor: Some(Quantity("1".to_owned())),
    };
    facts.push(EnvVar {
        name: "MEMORY_LIMIT".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            resource_field_ref: Some(memory),
            ..EnvVarSource::default()
        }),
    });
    facts
}

/// Facts come first, so that the package's and the set's variables may refer to them; of one name the set's wins, then the fact.
fn merged(facts: &[EnvVar], package: Option<Vec<EnvVar>>, wanted: &[EnvVar]) -> Vec<EnvVar> {
    let mut merged = facts.to_vec();
    for variable in package.into_iter().flatten() {
        if !merged.iter().any(|present| present.name == variable.name) {
            merged.push(variable);
        }
    }
    for variable in wanted {
        match merged
            .iter_mut()
            .find(|present| present.name == variable.name)
        {
            Some(present) => present.clone_from(variable),
            None => merged.push(variable.clone()),
        }
    }
    merged
}

pub(super) fn set(inputs: Inputs<'_>, spec: &mut PodSpec) {
    let facts = facts(inputs);
    let inits = spec
        .init_containers
        .iter_mut()
        .flatten()
        .filter(|container| container.name != super::INSTALL);
    for container in inits.chain(spec.containers.iter_mut()) {
        container.env = Some(merged(&facts, container.env.take(), &inputs.set.spec.env));
    }
}
