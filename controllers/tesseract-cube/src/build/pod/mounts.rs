//! Volumes of a pod and where its containers see them.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, EmptyDirVolumeSource, KeyToPath,
    PersistentVolumeClaimVolumeSource, PodSpec, ProjectedVolumeSource, SecretVolumeSource, Volume,
    VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;
use upm_crds::names::{self, annotation};

use super::super::Map;
use super::{Inputs, add_volume};

/// Readable by the pod's group only.
const SECRET_MODE: i32 = 0o440;

pub(super) fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn add_mount(container: &mut Container, mount: VolumeMount) {
    let mounts = container.volume_mounts.get_or_insert_default();
    if !mounts
        .iter()
        .any(|present| present.mount_path == mount.mount_path)
    {
        mounts.push(mount);
    }
}

fn empty_dir(name: &str, medium: Option<&str>, limit: Option<Quantity>) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(str::to_owned),
            size_limit: limit,
        }),
        ..Volume::default()
    }
}

fn secret(name: &str, secret: String, optional: bool) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(SECRET_MODE),
            optional: optional.then_some(true),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// The folders of the unit agent: `/upm/{bin,config,secrets,identity,run}`, in the server's container only.
pub(super) fn unit_agent(inputs: Inputs<'_>, spec: &mut PodSpec) {
    let set_name = inputs.set.name_any();
    let unit = names::unit_name(&set_name, inputs.ordinal);
    let (credentials, optional) = match &inputs.set.spec.generated_secret {
        Some(generated) => (generated.name.clone(), false),
        None => (names::credentials(&set_name), true),
    };
    let volumes = [
        empty_dir("upm-bin", None, None),
        config(inputs, &set_name, &unit),
        secret("upm-secrets", credentials, optional),
        secret("upm-identity", names::identity_secret(&unit), false),
        empty_dir("upm-run", Some("Memory"), Some(Quantity("16Mi".to_owned()))),
    ];
    for volume in volumes {
        add_volume(spec, volume);
    }
    let type_ = &inputs.set.spec.type_;
    if let Some(main) = spec
        .containers
        .iter_mut()
        .find(|container| container.name == *type_)
    {
        add_mount(main, mount("upm-bin", "/upm/bin", true));
        add_mount(main, mount("upm-config", "/upm/config", true));
        add_mount(main, mount("upm-secrets", "/upm/secrets", true));
        add_mount(main, mount("upm-identity", "/upm/identity", true));
        add_mount(main, mount("upm-run", "/upm/run", false));
    }
}

/// `unit.yaml`, `template` and `value.yaml`, each from the key of its content.
fn config(inputs: Inputs<'_>, set: &str, unit: &str) -> Volume {
    let item = |key: &str, path: &str| KeyToPath {
        key: key.to_owned(),
        path: path.to_owned(),
        mode: None,
    };
    let source = |name: String, items: Vec<KeyToPath>| VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name,
            items: Some(items),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    let mut shared = vec![item(&inputs.keys.template, "template")];
    shared.extend(
        inputs
            .keys
            .unit_yaml
            .as_deref()
            .map(|key| item(key, "unit.yaml")),
    );
    Volume {
        name: "upm-config".to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(vec![
                source(names::config_template(set), shared),
                source(
                    names::config_value(unit),
                    vec![item(&inputs.keys.value, "value.yaml")],
                ),
            ]),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// The set's own volumes, in every container but the unit agent's. Returns the annotations that tell templates where.
pub(super) fn storage(inputs: Inputs<'_>, spec: &mut PodSpec) -> Map {
    let set = &inputs.set.spec;
    let unit = names::unit_name(&inputs.set.name_any(), inputs.ordinal);
    let mut annotations = Map::new();
    let mut mounts = Vec::new();
    for storage in &set.storage {
        add_volume(
            spec,
            Volume {
                name: storage.name.clone(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: names::pvc(&unit, &storage.name),
                    read_only: None,
                }),
                ..Volume::default()
            },
        );
        mounts.push(mount(&storage.name, &storage.mount_path, false));
        annotations.insert(
            annotation::mount_path(&storage.name),
            storage.mount_path.clone(),
        );
    }
    for scratch in &set.empty_dir {
        add_volume(
            spec,
            empty_dir(&scratch.name, None, Some(scratch.size.clone())),
        );
        mounts.push(mount(&scratch.name, &scratch.mount_path, false));
        annotations.insert(
            annotation::mount_path(&scratch.name),
            scratch.mount_path.clone(),
        );
    }
    for extra in &set.extra_volume {
        let name = &extra.volume.name;
        add_volume(spec, extra.volume.clone());
        mounts.push(mount(name, &extra.volume_mount_path, true));
        let mut fact = |fact: &str, value: Option<String>| {
            annotations.extend(value.map(|value| (annotation::extra_volume(name, fact), value)));
        };
        fact(
            "secretName",
            extra
                .volume
                .secret
                .as_ref()
                .and_then(|secret| secret.secret_name.clone()),
        );
        fact(
            "configMapName",
            extra.volume.config_map.as_ref().map(|map| map.name.clone()),
        );
        fact("volumeMountPath", Some(extra.volume_mount_path.clone()));
    }
    let inits = spec
        .init_containers
        .iter_mut()
        .flatten()
        .filter(|container| container.name != super::INSTALL);
    for container in inits.chain(spec.containers.iter_mut()) {
        for mount in &mounts {
            add_mount(container, mount.clone());
        }
    }
    annotations
}
