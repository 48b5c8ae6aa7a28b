use std::collections::BTreeMap;

use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};
use upm_crds::names::annotation;
use upm_crds::unit::Phase;

use super::*;
use crate::build::tests::{package, set, unit_of};

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn unit() -> Unit {
    unit_of(&set(), &package(), 1)
}

/// A pod of the unit with a status.
fn pod_of(unit: &Unit, status: Value) -> Pod {
    let mut pod = pod::pod(unit);
    pod.metadata.uid = Some("pod-1".into());
    pod.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        now() - SignedDuration::from_hours(1),
    ));
    pod.spec.as_mut().unwrap().node_name = Some("n1".into());
    pod.status = serde_json::from_value(status).unwrap();
    pod
}

fn ready() -> Value {
    json!({
        "phase": "Running",
        "podIPs": [{ "ip": "10.1.1.1" }],
        "hostIP": "10.0.0.1",
        "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T11:00:00Z" }],
        "containerStatuses": [
            { "name": "redis", "ready": true, "image": "", "imageID": "", "restartCount": 0, "state": { "running": {} } }
        ],
    })
}

fn claim_of(unit: &Unit) -> PersistentVolumeClaim {
    let mut claim = volume::claim(unit, &unit.spec.volume_claim_templates[0]);
    claim.spec.as_mut().unwrap().storage_class_name = Some("fast".into());
    claim
}

fn observed(pod: Option<Pod>, claim: Option<PersistentVolumeClaim>) -> Observed {
    Observed {
        now: now(),
        unwatched: false,
        pod: pod.map(Arc::new),
        claims: claim
            .into_iter()
            .map(|claim| (claim.name_any(), Arc::new(claim)))
            .collect::<BTreeMap<_, _>>(),
        growing_classes: vec!["fast".into()],
        renew_at: now() + SignedDuration::from_hours(10),
        unready: None,
        node_ready: "True".into(),
    }
}

#[test]
fn makes_volumes_certificate_and_pod_of_a_new_unit() {
    let unit = unit();
    let found = Observed {
        renew_at: now(),
        ..observed(None, None)
    };
    let plan = plan::plan(&unit, &found);
    assert!(
        matches!(&plan.claims[..], [ClaimStep::Create(claim)] if claim.name_any() == "demo-1-data")
    );
    assert!(plan.issue_identity);
    assert_eq!(plan.pod, PodStep::Create);
    assert_eq!(status::status(&unit, &found, &plan).phase, Phase::Pending);
}

#[test]
fn leaves_a_ready_unit_alone_and_says_so() {
    let unit = unit();
    let found = observed(Some(pod_of(&unit, ready())), Some(claim_of(&unit)));
    let plan = plan::plan(&unit, &found);
    assert_eq!(
        (plan.claims.len(), &plan.pod, plan.issue_identity),
        (0, &PodStep::Leave, false)
    );
    let status = status::status(&unit, &found, &plan);
    assert_eq!(
        (status.phase, status.ready, status.process_state.as_str()),
        (Phase::Ready, true, "running")
    );
    assert_eq!(status.node_name.as_deref(), Some("n1"));
    assert_eq!(status.config_sync_status.unwrap().status, "True");
    assert_eq!(status.persistent_volume_claim.len(), 1);
}

#[test]
fn never_restarts_a_running_pod_of_another_revision() {
    let unit = unit();
    let mut pod = pod_of(&unit, ready());
    pod.metadata
        .annotations
        .as_mut()
        .unwrap()
        .insert(annotation::REVISION.into(), "other".into());
    let found = observed(Some(pod), Some(claim_of(&unit)));
    let plan = plan::plan(&unit, &found);
    assert_eq!(plan.pod, PodStep::Leave);
    assert_eq!(
        status::status(&unit, &found, &plan)
            .config_sync_status
            .unwrap()
            .status,
        "False"
    );
}

#[test]
fn replaces_a_pod_that_ended_but_not_one_that_ended_at_once() {
    let unit = unit();
    let evicted = || pod_of(&unit, json!({ "phase": "Failed", "reason": "Evicted" }));
    let step = plan::plan(&unit, &observed(Some(evicted()), Some(claim_of(&unit)))).pod;
    let PodStep::Delete { uid, note, .. } = step else {
        panic!("{step:?}")
    };
    assert_eq!(uid.as_deref(), Some("pod-1"));
    assert_eq!(note, "replaces pod demo-1, which ended: Evicted");

    let mut young = evicted();
    young.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        now() - SignedDuration::from_secs(3),
    ));
    let plan = plan::plan(&unit, &observed(Some(young), Some(claim_of(&unit))));
    assert_eq!(
        (plan.pod, plan.next),
        (PodStep::Leave, Next::After(Duration::from_secs(8)))
    );
}

#[test]
fn does_not_force_a_pod_off_a_lost_node_and_says_why() {
    let unit = unit();
    let mut pod = pod_of(&unit, ready());
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        now() - SignedDuration::from_secs(60),
    ));
    let found = Observed {
        node_ready: "Unknown".into(),
        ..observed(Some(pod), Some(claim_of(&unit)))
    };
    let plan = plan::plan(&unit, &found);
    assert_eq!(plan.pod, PodStep::Leave);
    assert!(
        plan.task.contains("node n1 does not report"),
        "{}",
        plan.task
    );
    assert_eq!(status::status(&unit, &found, &plan).phase, Phase::Unknown);
}

#[test]
fn stops_without_touching_the_volumes() {
    let mut unit = unit();
    unit.spec.startup = false;
    let found = observed(Some(pod_of(&unit, ready())), Some(claim_of(&unit)));
    assert!(matches!(
        plan::plan(&unit, &found).pod,
        PodStep::Delete {
            reason: "PodStopped",
            ..
        }
    ));
    let found = observed(None, Some(claim_of(&unit)));
    let plan = plan::plan(&unit, &found);
    assert_eq!((plan.claims.len(), &plan.pod), (0, &PodStep::Leave));
    assert_eq!(status::status(&unit, &found, &plan).phase, Phase::Stopped);
}

#[test]
fn starts_nothing_on_a_volume_of_an_earlier_set() {
    let unit = unit();
    let mut claim = claim_of(&unit);
    claim
        .metadata
        .annotations
        .as_mut()
        .unwrap()
        .insert(annotation::UNIT_SET_UID.into(), "earlier".into());
    let plan = plan::plan(&unit, &observed(None, Some(claim)));
    assert_eq!((plan.pod, plan.claims.len()), (PodStep::Leave, 0));
    assert_eq!(
        plan.task,
        "claim demo-1-data belongs to an earlier set of this name"
    );
}

#[test]
fn grows_a_volume_where_its_class_allows_it_and_never_shrinks_one() {
    let mut unit = unit();
    let claim = claim_of(&unit);
    let size = |unit: &mut Unit, size: &str| {
        let resources = unit.spec.volume_claim_templates[0]
            .spec
            .resources
            .as_mut()
            .unwrap();
        resources
            .requests
            .as_mut()
            .unwrap()
            .get_mut("storage")
            .unwrap()
            .0 = size.into();
    };
    size(&mut unit, "2Gi");
    let plan = plan::plan(&unit, &observed(None, Some(claim.clone())));
    assert!(matches!(&plan.claims[..], [ClaimStep::Grow { size, .. }] if size.0 == "2Gi"));
    let fixed = Observed {
        growing_classes: vec![],
        ..observed(None, Some(claim.clone()))
    };
    let pod = Some(Arc::new(pod_of(&unit, ready())));
    let plan = plan::plan(&unit, &Observed { pod, ..fixed });
    assert!(plan.claims.is_empty());
    size(&mut unit, "1024Mi");
    assert!(
        plan::plan(&unit, &observed(None, Some(claim.clone())))
            .claims
            .is_empty(),
        "the same in other words"
    );
    size(&mut unit, "512Mi");
    assert!(
        plan::plan(&unit, &observed(None, Some(claim)))
            .claims
            .is_empty()
    );
}

#[test]
fn writes_labels_that_changed_into_the_running_pod() {
    let mut unit = unit();
    let pod = pod_of(&unit, ready());
    unit.spec
        .template
        .labels
        .insert("unit-operator/unitset.units.count".into(), "5".into());
    unit.spec
        .template
        .annotations
        .insert(annotation::REVISION.into(), "next".into());
    let step = plan::plan(&unit, &observed(Some(pod), Some(claim_of(&unit)))).pod;
    let PodStep::Label {
        labels,
        annotations,
    } = step
    else {
        panic!("{step:?}")
    };
    assert_eq!(
        labels,
        BTreeMap::from([(
            "unit-operator/unitset.units.count".to_owned(),
            "5".to_owned()
        )])
    );
    assert!(annotations.is_empty(), "what it was started with stays");
}

#[test]
fn leaves_a_pod_of_somebody_else_and_one_in_maintenance_alone() {
    let mut unit = unit();
    let mut pod = pod_of(&unit, json!({ "phase": "Failed" }));
    pod.metadata.owner_references = None;
    let plan = plan::plan(&unit, &observed(Some(pod), Some(claim_of(&unit))));
    assert_eq!(plan.pod, PodStep::Leave);
    assert!(plan.task.contains("somebody else"));
    unit.annotations_mut()
        .insert(annotation::MAINTENANCE.into(), "true".into());
    assert_eq!(
        plan::plan(&unit, &observed(None, Some(claim_of(&unit)))).pod,
        PodStep::Leave
    );
}

#[test]
fn renews_a_certificate_after_two_thirds_of_its_life_or_when_the_authority_changed() {
    use upm_operator::authority::ClusterAuthority;
    let (authority, _) = ClusterAuthority::generate(Timestamp::now(), "upm-system").unwrap();
    let (other, _) = ClusterAuthority::generate(Timestamp::now(), "upm-system").unwrap();
    let issued = authority
        .issue("spiffe://upm/unit/p1/demo-1", &[], identity::LIFETIME)
        .unwrap();
    let secret = identity::secret(&unit(), &issued);
    let moment = Timestamp::now();
    let renew = identity::renew_at(Some(&secret), &authority.trusted_pem(), moment);
    let days = renew.duration_since(moment).as_hours() / 24;
    assert!((19..=20).contains(&days), "{days}");
    assert_eq!(
        identity::renew_at(Some(&secret), &other.trusted_pem(), moment),
        moment
    );
    assert_eq!(
        identity::renew_at(None, &authority.trusted_pem(), moment),
        moment
    );
    assert_eq!(secret.name_any(), "demo-1-identity");
}

#[test]
fn labels_that_somebody_removed_are_put_back() {
    let unit = unit();
    let mut pod = pod_of(&unit, ready());
    pod.labels_mut().remove(names::label::UNIT_SET);
    pod.labels_mut()
        .insert(names::label::UNIT.into(), "x".into());
    let mut claim = claim_of(&unit);
    claim.labels_mut().remove(names::label::UNIT);
    let found = Observed {
        unwatched: true,
        ..observed(Some(pod), Some(claim))
    };
    let plan = plan::plan(&unit, &found);
    let PodStep::Label { labels, .. } = &plan.pod else {
        panic!("{:?}", plan.pod);
    };
    assert_eq!(labels[names::label::UNIT_SET], "demo");
    assert_eq!(labels[names::label::UNIT], "demo-1");
    let [ClaimStep::Label { name, labels }] = &plan.claims[..] else {
        panic!("{:?}", plan.claims);
    };
    assert_eq!(
        (name.as_str(), labels[names::label::UNIT].as_str()),
        ("demo-1-data", "demo-1")
    );
    assert!(
        matches!(plan.next, Next::After(wait) if wait <= Duration::from_secs(2)),
        "nothing tells when it changes"
    );
}

#[test]
fn objects_belong_to_whom_their_owner_says_not_their_label() {
    let unit = unit();
    let mut pod = pod_of(&unit, ready());
    pod.labels_mut().clear();
    assert_eq!(crate::build::set_of_object(&pod).as_deref(), Some("demo"));
    assert_eq!(
        crate::build::unit_of_object(&pod).as_deref(),
        Some("demo-1")
    );
    pod.labels_mut()
        .insert(names::label::UNIT_SET.into(), "other".into());
    assert_eq!(crate::build::set_of_object(&pod).as_deref(), Some("demo"));
    let claim = claim_of(&unit);
    assert_eq!(
        crate::build::set_of_object(&claim).as_deref(),
        Some("demo"),
        "claims have no owner"
    );
}

#[test]
fn unready_server_is_told_in_its_own_words() {
    let event = |minute: i64, message: &str| Event {
        last_timestamp: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            now() + SignedDuration::from_mins(minute),
        )),
        message: Some(message.into()),
        ..Default::default()
    };
    let said = "the server does not run: exit status: 1; >>> 'hz 010'; out of range";
    let events = [
        event(
            1,
            "Readiness probe failed: not ready: the server has not answered yet",
        ),
        event(2, &format!("Readiness probe failed: not ready: {said}\n")),
    ];
    let mut status = ready();
    status["conditions"][0]["status"] = "False".into();
    let unit = unit();
    let pod = pod_of(&unit, status);
    assert!(facts::runs_unready(&pod, now()));
    let mut observed = observed(Some(pod), Some(claim_of(&unit)));
    observed.unready = facts::probe_words(&events);
    let plan = plan::plan(&unit, &observed);
    let status = status::status(&unit, &observed, &plan);
    assert!(status.task.contains(said), "{}", status.task);
    assert_eq!(
        facts::probe_words(&[event(1, "Readiness probe errored")]),
        None
    );
}
