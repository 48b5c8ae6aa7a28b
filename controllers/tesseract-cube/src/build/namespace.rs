//! The namespace of a project.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use upm_crds::Project;
use upm_crds::names::{annotation, label};

use super::Map;

/// The namespace as the project wants it. It has no owner: deleting it would delete volumes.
pub(crate) fn namespace(project: &Project) -> Namespace {
    let name = project.name_any();
    let pairs = [
        (label::PROJECT, name.as_str()),
        (label::OWNER, "upm"),
        (label::NAMESPACE, name.as_str()),
        (label::MANAGED_BY, label::TESSERACT_CUBE),
        ("pod-security.kubernetes.io/enforce", "baseline"),
        ("pod-security.kubernetes.io/warn", "restricted"),
        ("pod-security.kubernetes.io/audit", "restricted"),
    ];
    Namespace {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(
                pairs
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
            ),
            annotations: Some(Map::from([(
                annotation::PROJECT_UID.to_owned(),
                project.uid().unwrap_or_default(),
            )])),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// Whether the namespace was made for a project of this name.
pub(crate) fn is_ours(namespace: &Namespace, project: &str) -> bool {
    namespace
        .labels()
        .get(label::PROJECT)
        .is_some_and(|name| name == project)
}

/// Names that no project may take.
pub(crate) fn is_reserved(name: &str) -> bool {
    name == "default" || name.starts_with("kube-") || name.starts_with("upm-")
}
