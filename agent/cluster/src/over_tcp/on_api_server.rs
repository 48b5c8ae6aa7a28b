//! What the cluster itself says of the agent, by a real API server: tokens of its service account, and what it may do in a project.

mod control_plane;
mod requested;
mod units;

use kube::Client;
use serde_json::{Value, json};

use super::*;
use crate::{
    applier::{Applier, kinds::Kinds},
    hub::accounts::{self as service_accounts, Accounts},
    policy::{Impersonation, Policy},
    session::{Verdict, Work},
};
use control_plane::ControlPlane;
use upm_proto::ledger::key_text;

const SYSTEM: &str = "upm-system";

async fn namespace(plane: &ControlPlane, name: &str) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    plane.make(object).await;
}

async fn account(plane: &ControlPlane, name: &str) {
    let metadata = json!({"name": name, "namespace": SYSTEM});
    plane
        .make(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}))
        .await;
}

/// Gives an account rights: everywhere without a namespace.
async fn grant(plane: &ControlPlane, namespace: &str, to: &str, rules: Value) {
    let kind = if namespace.is_empty() {
        "ClusterRole"
    } else {
        "Role"
    };
    let mut metadata = json!({"name": to});
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    plane
        .make(json!({"apiVersion": version, "kind": kind, "metadata": metadata, "rules": rules}))
        .await;
    plane
        .make(json!({
            "apiVersion": version, "kind": format!("{kind}Binding"), "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": kind, "name": to},
            "subjects": [{"kind": "ServiceAccount", "name": to, "namespace": SYSTEM}],
        }))
        .await;
}

#[tokio::test]
async fn a_real_token_of_the_agents_account_lets_it_in_again_and_those_of_others_do_not() {
    let plane = ControlPlane::start().await;
    namespace(&plane, SYSTEM).await;
    account(&plane, "upm-agent").await;
    account(&plane, "another").await;
    let folder = tempfile::tempdir().unwrap();
    let projected_file = folder.path().join("account");
    let projected = plane.token(SYSTEM, "upm-agent", Some("upm-hub")).await;
    std::fs::write(&projected_file, &projected).unwrap();
    // Every account may read who issues tokens: it needs no rights of its own.
    let own = Client::try_from(plane.config_of(SYSTEM, "upm-agent").await).unwrap();
    let issuer = service_accounts::read(&own).await.unwrap();
    assert_eq!(issuer.issuer, "https://kubernetes.default.svc");
    let known = watch::Sender::new(Some(issuer));
    let own_account = Accounts::new(known.subscribe(), projected_file);

    let authority = Arc::new(mesh::Authority::create().unwrap());
    let mut hub = hub(&folder, &authority, local().await).await;
    let (token, pin) = hub.token(true).await;
    let (disk, file) = (Disk::default(), token_file(&folder, &token));
    let place = Place {
        accounts: Some(own_account),
        ..place(&[&hub.address], &pin, file.clone())
    };
    let mut one = run(&disk, place.clone());
    one.reason("CONNECTED").await;
    one.stop().await;
    std::fs::remove_file(&file).unwrap();
    let kept = disk.kept.lock().unwrap().clone();
    *disk.kept.lock().unwrap() = accounts::ended(&authority, &kept);
    let mut one = run(&disk, place);
    one.reason("CONNECTED").await;
    assert_eq!(one.report.borrow().agent_id, "c1");
    one.stop().await;

    for (token, reason) in [
        (
            plane.token(SYSTEM, "upm-agent", None).await,
            "SERVICE_ACCOUNT_AUDIENCE_MISMATCH",
        ),
        (
            plane.token(SYSTEM, "another", Some("upm-hub")).await,
            "SERVICE_ACCOUNT_SUBJECT_MISMATCH",
        ),
    ] {
        let said = accounts::asked(&hub, &pin, "c1", &token).await;
        assert_eq!(said.as_deref(), Some(reason));
    }
    // A cluster of the same kind with an issuer of the same name.
    let other = ControlPlane::start().await;
    namespace(&other, SYSTEM).await;
    account(&other, "upm-agent").await;
    let token = other.token(SYSTEM, "upm-agent", Some("upm-hub")).await;
    let said = accounts::asked(&hub, &pin, "c1", &token).await;
    assert_eq!(said.as_deref(), Some("SERVICE_ACCOUNT_NOT_PINNED"));
    hub.stop().await;
}

fn unit_set(namespace: &str) -> (pb::Key, Value) {
    let key = pb::Key {
        namespace: namespace.into(),
        ..key()
    };
    let body = json!({
        "apiVersion": "upm.syntropycloud.io/v1alpha2", "kind": "UnitSet",
        "metadata": {"name": "k0", "namespace": namespace},
        "spec": {"type": "redis", "version": "7.0.15", "units": 1, "startup": false},
    });
    (key, body)
}

/// Writes an intent and waits for what comes of it.
async fn outcome(
    hub: &mut HubSide,
    key: &pb::Key,
    body: &Value,
    generation: u64,
) -> pb::ObjectResult {
    hub.ledger
        .apply_objects(pb::ApplyObjectsRequest {
            agent_id: "c1".into(),
            writer: Some(pb::Writer {
                owner: OWNER.into(),
                epoch: 1,
            }),
            intents: vec![pb::Intent {
                key: Some(key.clone()),
                intent_uid: vec![1; 16].into(),
                generation,
                json: serde_json::to_vec(body).unwrap().into(),
                ..pb::Intent::default()
            }],
        })
        .await
        .unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let request = pb::GetObjectRequest {
            agent_id: "c1".into(),
            key: Some(key.clone()),
        };
        let object = hub.ledger.get_object(request).await.unwrap().into_inner();
        if let Some(result) = object.result.filter(|r| r.generation == generation) {
            return result;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "no result for {key:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn intents_of_a_project_are_done_with_the_rights_of_its_account_and_forbidden_kinds_not_at_all()
 {
    let plane = ControlPlane::start().await;
    plane.definitions().await;
    for name in [SYSTEM, "p1", "p2", "p3", "p4"] {
        namespace(&plane, name).await;
    }
    account(&plane, "upm-agent").await;
    // As the chart grants it: everything of the engine everywhere, impersonation of the named accounts alone.
    let everything = json!([
        {"apiGroups": ["upm.syntropycloud.io"], "resources": ["*"], "verbs": ["get", "create", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["get", "create", "patch", "delete"]},
    ]);
    grant(&plane, "", "upm-agent", everything).await;
    let impersonation = json!([
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"], "resourceNames": ["upm-p1", "upm-p2"]},
    ]);
    grant(&plane, SYSTEM, "upm-agent", impersonation).await;
    let in_project = json!([
        {"apiGroups": ["upm.syntropycloud.io"], "resources": ["unitsets"], "verbs": ["get", "create", "patch", "delete"]},
    ]);
    grant(&plane, "p1", "upm-p1", in_project.clone()).await;

    let config = plane.config_of(SYSTEM, "upm-agent").await;
    let client = Client::try_from(config.clone()).unwrap();
    let named = [
        "p1=upm-system/upm-p1",
        "p2=upm-system/upm-p2",
        "p3=upm-system/upm-p3",
    ];
    let named = named.map(|text| text.parse::<Impersonation>().unwrap());
    let policy = Policy {
        system_namespace: SYSTEM.into(),
        accounts: named
            .into_iter()
            .map(|of| (of.project, of.account))
            .collect(),
        ..Policy::default()
    };
    let worker = Applier::new(client.clone(), Kinds::new(client), policy)
        .impersonating(&config)
        .unwrap();

    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(mesh::Authority::create().unwrap());
    let mut hub = hub(&folder, &authority, local().await).await;
    let (token, pin) = hub.token(true).await;
    let place = place(&[&hub.address], &pin, token_file(&folder, &token));
    let mut one = run_with(&Disk::default(), place, Some(Arc::new(worker)));
    one.reason("CONNECTED").await;
    let version = "upm.syntropycloud.io/v1alpha2";

    // With the account's rights; and with the agent's own where no account is named.
    for project in ["p1", "p4"] {
        let (key, body) = unit_set(project);
        let done = outcome(&mut hub, &key, &body, 1).await;
        assert_eq!(done.outcome(), pb::Outcome::Applied, "{project}: {done:?}");
        assert!(plane.exists(version, "UnitSet", project, "k0").await);
    }
    // The account of p2 has no rights, and that of p3 may not be impersonated; the agent itself could write in both.
    for (project, words) in [("p2", "cannot get resource"), ("p3", "cannot impersonate")] {
        let (key, body) = unit_set(project);
        let done = outcome(&mut hub, &key, &body, 1).await;
        assert_eq!(
            done.outcome(),
            pb::Outcome::DeniedLocalPolicy,
            "{project}: {done:?}"
        );
        let why = done.error.unwrap().message;
        assert!(why.contains(words), "{why}");
        assert!(!plane.exists(version, "UnitSet", project, "k0").await);
    }
    // The administrator gives it rights: the next generation is done.
    grant(&plane, "p2", "upm-p2", in_project).await;
    let (key, mut body) = unit_set("p2");
    body["spec"]["units"] = json!(2);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for generation in 2.. {
        // The API server learns of its own rules a moment later.
        body["metadata"]["labels"] = json!({"generation": generation.to_string()});
        let done = outcome(&mut hub, &key, &body, generation).await;
        if done.outcome() == pb::Outcome::Applied {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{done:?}");
    }

    // Kinds that are not the platform's: the agent could, and does not.
    for (version, kind, namespace) in [
        ("v1", "Secret", "p4"),
        ("v1", "Secret", SYSTEM),
        ("v1", "ConfigMap", "p4"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", ""),
    ] {
        let (group, short) = version.split_once('/').unwrap_or(("", version));
        let key = pb::Key {
            group: group.into(),
            version: short.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: "k0".into(),
        };
        let mut body = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "k0"}});
        if !namespace.is_empty() {
            body["metadata"]["namespace"] = json!(namespace);
        }
        let done = outcome(&mut hub, &key, &body, 1).await;
        assert_eq!(
            done.outcome(),
            pb::Outcome::DeniedLocalPolicy,
            "{kind}: {done:?}"
        );
        assert!(
            !plane.exists(version, kind, namespace, "k0").await,
            "{kind}"
        );
    }
    one.stop().await;
    hub.stop().await;
}

#[tokio::test]
async fn edits_by_others_are_taken_back_and_named() {
    let plane = ControlPlane::start().await;
    plane.definitions().await;
    namespace(&plane, "p1").await;
    let client = plane.client.clone();
    let worker = Applier::new(
        client.clone(),
        Kinds::new(client.clone()),
        Policy::default(),
    );
    let (key, body) = unit_set("p1");
    let apply = pb::Apply {
        key: Some(key.clone()),
        intent_uid: vec![1; 16].into(),
        generation: 1,
        digest: vec![2; 32].into(),
        body: Some(pb::apply::Body::Json(
            serde_json::to_vec(&body).unwrap().into(),
        )),
        ..pb::Apply::default()
    };
    let work = || Work::Apply {
        text: key_text(&key),
        apply: Box::new(apply.clone()),
        attempt: 0,
    };
    let done = async || match worker.work(work()).await.verdict {
        Verdict::Outcome(result) => *result,
        Verdict::BodyNeeded => panic!("the body is there"),
    };
    assert_eq!(done().await.outcome(), pb::Outcome::Applied);
    assert_eq!(done().await.outcome(), pb::Outcome::Unchanged);

    let sets: kube::Api<upm_crds::UnitSet> = kube::Api::namespaced(client.clone(), "p1");
    let edit = |spec: Value| kube::api::Patch::Merge(json!({ "spec": spec }));
    let by_hand = kube::api::PatchParams {
        field_manager: Some("kubectl-patch".into()),
        ..kube::api::PatchParams::default()
    };
    let edited = edit(json!({"units": 3, "version": "9"}));
    sets.patch("k0", &by_hand, &edited).await.unwrap();
    let result = done().await;
    assert_eq!(result.outcome(), pb::Outcome::Applied);
    let said = result.error.unwrap();
    assert_eq!(said.reason, "DRIFT_REVERTED");
    assert!(
        said.message.contains("spec.units, spec.version"),
        "{}",
        said.message
    );
    let now = sets.get("k0").await.unwrap();
    assert_eq!((now.spec.units, now.spec.version.as_str()), (1, "7.0.15"));
    assert_eq!(result.observed_generation, now.metadata.generation.unwrap());
    assert_eq!(done().await.outcome(), pb::Outcome::Unchanged);

    let events: kube::Api<k8s_openapi::api::events::v1::Event> =
        kube::Api::namespaced(client, "p1");
    let events = events
        .list(&kube::api::ListParams::default())
        .await
        .unwrap();
    let told = events
        .items
        .iter()
        .find(|event| event.reason.as_deref() == Some("DriftReverted"));
    let note = told.and_then(|event| event.note.clone()).unwrap();
    assert!(note.contains("spec.units"), "{note}");
}
