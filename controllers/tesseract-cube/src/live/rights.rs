//! What the chart grants the agent, on the API server of the test.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Api, Client};
use serde::Deserialize as _;
use serde_json::{Value, json};
use upm_crds::Project;
use upm_crds::names::annotation;

use super::control_plane::program;
use super::world::until;
use super::{PROJECT, SYSTEM};
use crate::SecretsRole;

/// The chart's objects.
pub(super) fn rendered() -> Vec<Value> {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../helm/upm-agent");
    let output = Command::new(program("helm"))
        .env("KUBECONFIG", "/dev/null")
        .args(["template", "upm-agent", "--kube-version", "1.30.0"])
        .args(["--namespace", SYSTEM, "--values"])
        .arg(chart.join("ci/hub-values.yaml"))
        .arg(&chart)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let documents = serde_yaml::Deserializer::from_slice(&output.stdout);
    documents
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|object| !object.is_null())
        .collect()
}

/// The role that the chart's Deployment names.
pub(super) fn named(objects: &[Value]) -> SecretsRole {
    let deployment = objects.iter().find(|one| one["kind"] == "Deployment");
    let container = &deployment.unwrap()["spec"]["template"]["spec"]["containers"][0];
    let argument = |name: &str| {
        let all = container["args"].as_array().unwrap().iter();
        let mut values = all.filter_map(|one| one.as_str()?.strip_prefix(name));
        values.next().unwrap().to_owned()
    };
    SecretsRole {
        role: argument("--secrets-role="),
        account: argument("--service-account="),
    }
}

/// Grants what the chart grants.
pub(super) async fn grant(admin: &Client) -> SecretsRole {
    let objects = rendered();
    for object in &objects {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str);
        let (group, version) = text("/apiVersion")
            .and_then(|version| version.split_once('/'))
            .unwrap_or_default();
        let guards = ["rbac.authorization.k8s.io", "admissionregistration.k8s.io"];
        if !guards.contains(&group) {
            continue;
        }
        let kind = GroupVersionKind::gvk(group, version, text("/kind").unwrap());
        let resource = match kind.kind.as_str() {
            // the guessed plural is another one
            "ValidatingAdmissionPolicy" => {
                ApiResource::from_gvk_with_plural(&kind, "validatingadmissionpolicies")
            }
            _ => ApiResource::from_gvk(&kind),
        };
        let api: Api<DynamicObject> = match text("/metadata/namespace") {
            Some(namespace) => Api::namespaced_with(admin.clone(), namespace, &resource),
            None => Api::all_with(admin.clone(), &resource),
        };
        let params = PatchParams::apply("administrator");
        api.patch(
            text("/metadata/name").unwrap(),
            &params,
            &Patch::Apply(object),
        )
        .await
        .unwrap();
    }
    named(&objects)
}

fn forbidden<T: std::fmt::Debug>(what: &str, answer: kube::Result<T>) {
    match answer {
        Err(kube::Error::Api(status)) => assert_eq!(status.code, 403, "{what}: {status:?}"),
        other => panic!("{what}: {other:?}"),
    }
}

fn binding(namespace: &str, name: &str, role: &str, account: &str) -> RoleBinding {
    let mut binding = RoleBinding {
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".into(),
            kind: "ClusterRole".into(),
            name: role.into(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".into(),
            name: account.into(),
            namespace: Some(SYSTEM.into()),
            ..Subject::default()
        }]),
        ..RoleBinding::default()
    };
    binding.metadata.name = Some(name.into());
    binding.metadata.namespace = Some(namespace.into());
    binding
}

/// The API server learns of a policy a moment after it was made.
pub(super) async fn enforced(admin: &Client, agent: &Client, secrets: &SecretsRole) {
    let own: Api<RoleBinding> = Api::namespaced(agent.clone(), "default");
    let all: Api<RoleBinding> = Api::namespaced(admin.clone(), "default");
    let SecretsRole { role, account } = secrets;
    let wanted = binding("default", role, role, account);
    until("the API server refuses a binding", async || {
        let made = own.create(&PostParams::default(), &wanted).await;
        if made.is_ok() {
            all.delete(role, &DeleteParams::default()).await.unwrap();
        }
        matches!(made, Err(kube::Error::Api(status)) if status.message.contains("only in namespaces of projects"))
    })
    .await;
}

/// The agent has the Secrets of projects, two of its own, and no others; and it gives itself no more.
pub(super) async fn secrets(admin: &Client, agent: &Client, secrets: &SecretsRole) {
    let SecretsRole { role, account } = secrets;
    for namespace in ["default", "kube-system", "cube-foreign", SYSTEM] {
        let api: Api<Secret> = Api::namespaced(admin.clone(), namespace);
        let theirs: Secret = serde_json::from_value(json!({
            "metadata": { "name": "theirs" }, "data": { "password": "c2VjcmV0" },
        }))
        .unwrap();
        api.create(&PostParams::default(), &theirs).await.unwrap();
        let own: Api<Secret> = Api::namespaced(agent.clone(), namespace);
        forbidden(namespace, own.get("theirs").await);
        forbidden(namespace, own.list(&Default::default()).await);
        let stolen = binding(namespace, role, role, account);
        let bindings: Api<RoleBinding> = Api::namespaced(agent.clone(), namespace);
        forbidden(
            namespace,
            bindings.create(&PostParams::default(), &stolen).await,
        );
    }
    let everywhere: Api<Secret> = Api::all(agent.clone());
    forbidden("all", everywhere.list(&Default::default()).await);
    let own: Api<Secret> = Api::namespaced(agent.clone(), SYSTEM);
    own.get("upm-cluster-ca").await.unwrap();

    // in a project too it binds only this role, under its name, and only to itself
    let bindings: Api<RoleBinding> = Api::namespaced(agent.clone(), PROJECT);
    for (what, name, role, account) in [
        ("another account", role.as_str(), role.as_str(), "default"),
        ("another name", "more", role, account),
        ("another role", "more", "cluster-admin", account),
    ] {
        let wanted = binding(PROJECT, name, role, account);
        let params = PatchParams::apply("agent").force();
        let answer = bindings.patch(name, &params, &Patch::Apply(&wanted)).await;
        forbidden(what, answer);
    }

    // taken away, it is granted again, as soon as the project is looked at
    let all: Api<RoleBinding> = Api::namespaced(admin.clone(), PROJECT);
    all.delete(role, &DeleteParams::default()).await.unwrap();
    let projects: Api<Project> = Api::all(admin.clone());
    let touched = json!({ "metadata": { "annotations": { annotation::INTENT_UID: "seen" } } });
    projects
        .patch(PROJECT, &PatchParams::default(), &Patch::Merge(touched))
        .await
        .unwrap();
    let theirs: Api<Secret> = Api::namespaced(agent.clone(), PROJECT);
    until("the agent has the project's Secrets again", async || {
        all.get_opt(role).await.unwrap().is_some()
            && matches!(theirs.get_opt("not-there").await, Ok(None))
    })
    .await;
}
