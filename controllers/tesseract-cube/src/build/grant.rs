//! The agent's right to the Secrets of one project.

use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use upm_crds::names::label;
use upm_operator::{SecretsRole, Settings};

use super::Map;

const RBAC: &str = "rbac.authorization.k8s.io";

/// The RoleBinding in a project's namespace. It is named like the role: what a binding refers to can never change, so another role is another
/// binding.
pub(crate) fn binding(project: &str, settings: &Settings, secrets: &SecretsRole) -> RoleBinding {
    RoleBinding {
        metadata: ObjectMeta {
            name: Some(secrets.role.clone()),
            namespace: Some(project.to_owned()),
            labels: Some(Map::from([
                (label::PROJECT.to_owned(), project.to_owned()),
                (
                    label::MANAGED_BY.to_owned(),
                    label::TESSERACT_CUBE.to_owned(),
                ),
            ])),
            ..ObjectMeta::default()
        },
        role_ref: RoleRef {
            api_group: RBAC.to_owned(),
            kind: "ClusterRole".to_owned(),
            name: secrets.role.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: secrets.account.clone(),
            namespace: Some(settings.system_namespace.clone()),
            ..Subject::default()
        }]),
    }
}

/// Whether a binding that was found grants what the wanted one does, to the same account and nobody else.
pub(crate) fn grants(found: &RoleBinding, wanted: &RoleBinding) -> bool {
    let who = |binding: &RoleBinding| -> Vec<(String, String, Option<String>)> {
        let subjects = binding.subjects.iter().flatten();
        subjects
            .map(|one| (one.kind.clone(), one.name.clone(), one.namespace.clone()))
            .collect()
    };
    found.role_ref == wanted.role_ref && who(found) == who(wanted)
}
