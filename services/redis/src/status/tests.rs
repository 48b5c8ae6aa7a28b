use engine::{
    DeletionPolicy, Engine as _, Switchover,
    desired::{self, DesiredState, MAIN, RetainedVolumes, SwitchoverRequest},
    intent::{IntentTemplate, Marks, Part, mark},
    names::ServiceName,
    pool,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use upm_proto::hub::v1 as hub;

use super::*;
use crate::{
    redis::Redis,
    spec::{Wish, tests::software},
};

/// A change of the primary to `demo-1` that was asked for.
fn asked(id: &str, accept_loss: Option<&str>) -> SwitchoverRequest {
    let to = desired::Switchover {
        target: "demo-1".into(),
        expected_epoch: 3,
        accept_loss: accept_loss.map(str::to_owned),
    };
    to.requested(id)
}

/// As clients see a service that wants so many members.
fn as_shown(service: &Service, members: u32, observed: Option<&Observed>) -> pb::RedisStatus {
    let spec = RedisSpec {
        members,
        ..engine::spec_of::<Redis>(service).unwrap()
    };
    view(service, &spec, observed)
}

pub(crate) fn service(members: u32) -> Service {
    let wanted = pb::RedisSpec {
        members: 3,
        ..Default::default()
    };
    let spec = Wish::parse(Some(&wanted))
        .unwrap()
        .resolve("c", &software())
        .unwrap();
    let package = engine::Package {
        name: "redis-7.0.15-0123456789ab".into(),
        software: "software/redis-7.0.15".into(),
        digest: "0123456789ab".into(),
        type_: "redis".into(),
        edition: String::new(),
        version: "7.0.15".into(),
        config_template: String::new(),
        config_value: String::new(),
        pod_template: String::new(),
        manifest: engine::Manifest::of(&software()).to_json().unwrap(),
        create_us: 0,
    };
    let name = ServiceName::new("p", "redisServices", "demo");
    let units = [(MAIN.to_owned(), members)].into();
    let mut desired = DesiredState::of(&units, RetainedVolumes::Refuse);
    desired.topology.served = true;
    let set = &Redis::pools(&spec)[0];
    let set = pool::unit_set(set, &desired.pools[MAIN], &name, &package).unwrap();
    let mut intents = Redis::topology(&spec, &desired, &name).unwrap();
    intents.push(IntentTemplate::of(Part::Pool(MAIN.to_owned()), &set).unwrap());
    let mut marks = Marks::new();
    mark(&mut marks, &intents, uuid_of);
    Service {
        name,
        engine: "redis".into(),
        uid: "u".into(),
        version: 1,
        spec: serde_json::to_value(&spec).unwrap(),
        spec_version: 1,
        labels: [].into(),
        description: String::new(),
        deletion_policy: DeletionPolicy::KeepData,
        cluster: "c".into(),
        life: Life::Active,
        message: String::new(),
        operation: String::new(),
        package: package.name,
        desired,
        marks,
        retained: None,
        create_us: 1,
        update_us: 1,
    }
}

fn uuid_of() -> uuid::Uuid {
    uuid::Uuid::from_u128(7)
}

/// A cluster that reported this.
pub(crate) fn observed(
    service: &Service,
    units: Value,
    replication: Value,
    connected: bool,
) -> Observed {
    let object = |part: Part, mut status: Value| {
        let mark = service.wanted(&part).next().unwrap();
        status["observedGeneration"] = json!(1);
        hub::Object {
            key: Some(hub::Key::from(&mark.key)),
            intent_uid: mark.uid.as_bytes().to_vec().into(),
            generation: mark.generation,
            agent_connected: connected,
            status: Some(hub::ObjectStatus {
                json: json!({"metadata": {"generation": 1}, "status": status})
                    .to_string()
                    .into_bytes()
                    .into(),
                intent_generation: mark.generation,
                update_time: Some(store::time::timestamp(5_000_000)),
                ..Default::default()
            }),
            ..Default::default()
        }
    };
    Observed {
        objects: vec![
            object(Part::Pool(MAIN.to_owned()), units),
            object(Part::Topology, replication),
        ],
    }
}

pub(crate) fn units(ready: &[bool]) -> Value {
    let units: Vec<Value> = ready
        .iter()
        .enumerate()
        .map(|(at, ready)| {
            json!({"name": format!("demo-{at}"), "ordinal": at, "phase": "Ready", "ready": ready, "nodeName": format!("node-{at}")})
        })
        .collect();
    json!({"units": ready.len(), "readyUnits": ready.iter().filter(|ready| **ready).count(), "unitStatuses": units})
}

/// A replication whose primary is `demo-<primary>`; the other members are linked or not, with this lag.
pub(crate) fn replication(primary: usize, links: &[(bool, i64)], writable: bool) -> Value {
    let topology: serde_json::Map<String, Value> = links
        .iter()
        .enumerate()
        .map(|(at, (linked, lag))| {
            let member = if at == primary {
                json!({"role": "Source", "ready": true, "version": "7.0.15"})
            } else {
                let link = if *linked { "up" } else { "down" };
                json!({"role": "Replica", "ready": linked, "masterLinkStatus": link, "lagBytes": lag, "version": "7.0.15"})
            };
            (format!("demo-{at}"), member)
        })
        .collect();
    json!({
        "primary": format!("demo-{primary}"), "epoch": 4, "writable": writable, "phase": "Healthy", "topology": topology,
        "conditions": [{
            "type": "PrimaryElected", "status": if writable { "True" } else { "False" }, "reason": "NotEnoughReplicas",
            "message": "1 of 2 acknowledge", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    })
}

pub(crate) const UP: (bool, i64) = (true, 0);

#[test]
fn shows_roles_addresses_and_versions() {
    let service = service(3);
    let seen = observed(
        &service,
        units(&[true; 3]),
        replication(1, &[UP; 3], true),
        true,
    );
    let shown = as_shown(&service, 3, Some(&seen));
    assert_eq!(shown.state(), pb::ServiceState::Ready, "{shown:#?}");
    assert_eq!((shown.primary.as_str(), shown.epoch), ("demo-1", 4));
    assert_eq!(shown.readwrite_address, "demo-readwrite.p.svc:6379");
    assert_eq!(shown.readonly_address, "demo-readonly.p.svc:6379");
    let roles: Vec<_> = shown.members.iter().map(pb::RedisMember::role).collect();
    assert_eq!(
        roles,
        [
            pb::MemberRole::Replica,
            pb::MemberRole::Primary,
            pb::MemberRole::Replica
        ]
    );
    let first = &shown.members[0];
    assert_eq!(first.address, "demo-0.demo-headless-svc.p.svc:6379");
    assert_eq!(
        (first.version.as_str(), first.node.as_str(), first.link_up),
        ("7.0.15", "node-0", true)
    );
    assert!(shown.agent_connected && shown.observe_time.is_some());
    assert!(
        shown
            .conditions
            .iter()
            .any(|condition| condition.name == "PRIMARY_ELECTED" && condition.satisfied)
    );
}

#[test]
fn says_which_member_does_not_do_its_part() {
    let service = service(3);
    let seen = observed(
        &service,
        units(&[true, true, false]),
        replication(0, &[UP, UP, (false, -1)], true),
        true,
    );
    let shown = as_shown(&service, 3, Some(&seen));
    assert_eq!(shown.state(), pb::ServiceState::Degraded);
    assert!(
        shown.message.contains("2 of 3") && shown.message.contains("demo-2"),
        "{}",
        shown.message
    );
}

#[test]
fn a_service_without_writes_is_unavailable_and_says_why() {
    let service = service(3);
    let seen = observed(
        &service,
        units(&[true; 3]),
        replication(0, &[UP; 3], false),
        true,
    );
    let shown = as_shown(&service, 3, Some(&seen));
    assert_eq!(shown.state(), pb::ServiceState::Unavailable);
    assert!(
        shown.message.contains("1 of 2 acknowledge"),
        "{}",
        shown.message
    );
}

#[test]
fn tells_old_news_as_old_and_no_news_as_none() {
    let service = service(3);
    let seen = observed(
        &service,
        units(&[true; 3]),
        replication(0, &[UP; 3], true),
        false,
    );
    let shown = as_shown(&service, 3, Some(&seen));
    assert!(!shown.agent_connected && shown.message.contains("reported last"));
    let shown = as_shown(&service, 3, None);
    assert_eq!(shown.state(), pb::ServiceState::Degraded);
    assert!(shown.message.contains("hub"));
    assert_eq!(shown.members.len(), 3);
}

#[test]
fn a_source_that_was_not_chosen_is_no_primary() {
    let service = service(2);
    let mut status = replication(0, &[UP; 2], true);
    status["topology"]["demo-1"]["role"] = json!("Source");
    let seen = observed(&service, units(&[true; 2]), status, true);
    let shown = as_shown(&service, 2, Some(&seen));
    assert_eq!(shown.members[1].role(), pb::MemberRole::Parked);
}

#[test]
fn waits_until_exactly_the_wanted_members_take_part() {
    let service = service(2);
    let seen = observed(
        &service,
        units(&[true; 3]),
        replication(0, &[UP; 3], true),
        true,
    );
    let predicates = replication_ready(&service, &seen);
    let unmet: Vec<_> = predicates
        .iter()
        .filter(|predicate| !predicate.satisfied)
        .collect();
    assert_eq!(unmet.len(), 1);
    assert_eq!(unmet[0].name, "MEMBERS_TAKE_PART");
    assert!(unmet[0].reason.contains("demo-2"));
    let seen = observed(
        &service,
        units(&[true; 2]),
        replication(0, &[UP; 2], true),
        true,
    );
    assert!(engine::all_hold(&replication_ready(&service, &seen)));
    assert!(engine::all_hold(&writable(&service, &seen)));
}

#[test]
fn counts_linked_replicas_and_names_the_others() {
    let service = service(3);
    let seen = observed(
        &service,
        units(&[true; 3]),
        replication(0, &[UP, UP, (false, -1)], true),
        true,
    );
    let predicates = replication_ready(&service, &seen);
    let linked = predicates
        .iter()
        .find(|predicate| predicate.name == "REPLICAS_LINKED")
        .unwrap();
    assert_eq!(linked.reason, "1 of 2 replicas linked; demo-2: link down");
}

#[test]
fn a_switchover_ends_only_under_its_own_request_id() {
    let service = service(3);
    let asked = |id: &str| asked(id, None);
    let mut status = replication(1, &[UP; 3], true);
    status["lastSwitchover"] = json!({"requestId": "a", "result": "Succeeded"});
    let seen = observed(&service, units(&[true; 3]), status.clone(), true);
    assert_eq!(switchover(&service, &asked("a"), &seen), Switchover::Done);
    assert!(matches!(
        switchover(&service, &asked("b"), &seen),
        Switchover::Waiting(_)
    ));
    status["lastSwitchover"] =
        json!({"requestId": "a", "result": "Failed", "reason": "StaleEpoch", "message": "at 4"});
    let seen = observed(&service, units(&[true; 3]), status, true);
    let failed = Switchover::Failed {
        reason: "STALE_EPOCH".into(),
        message: "at 4".into(),
    };
    assert_eq!(switchover(&service, &asked("a"), &seen), failed);
}

#[test]
fn failover_ends_only_with_the_loss_that_was_accepted() {
    let service = service(3);
    let asked = asked("a", Some("loss-a"));
    let after = |change: &dyn Fn(&mut Value)| {
        let mut status = replication(0, &[UP; 3], false);
        status["epoch"] = json!(3);
        status["phase"] = json!("Refused");
        status["refusal"] = json!({"candidate": "demo-1", "loss": "10 bytes", "lossId": "loss-a"});
        change(&mut status);
        let seen = observed(&service, units(&[true; 3]), status, true);
        switchover(&service, &asked, &seen)
    };
    assert!(matches!(after(&|_| ()), Switchover::Waiting(_)));
    let other = after(&|status| status["refusal"]["lossId"] = json!("loss-b"));
    assert!(matches!(other, Switchover::Failed { reason, .. } if reason == "LOSS_NOT_ACCEPTED"));
    let back = after(&|status| {
        status["refusal"] = json!(null);
        status["writable"] = json!(true);
    });
    assert!(matches!(back, Switchover::Failed { reason, .. } if reason == "NOTHING_REFUSED"));
    let elected = after(&|status| {
        status["refusal"] = json!(null);
        status["epoch"] = json!(4);
        status["phase"] = json!("Degraded");
    });
    assert_eq!(elected, Switchover::Done);
}

#[test]
fn takes_a_report_that_is_no_object_for_none() {
    for text in ["0", "[]", "null", "{\"status\": 7}"] {
        let service = service(3);
        let mut seen = observed(
            &service,
            units(&[true; 3]),
            replication(0, &[UP; 3], true),
            true,
        );
        seen.objects[1].status.as_mut().unwrap().json = text.as_bytes().to_vec().into();
        assert_eq!(
            as_shown(&service, 3, Some(&seen)).state(),
            pb::ServiceState::Unavailable,
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn the_best_replica_is_linked_stays_and_is_least_behind(
        primary in 0_usize..5,
        links in proptest::collection::vec((any::<bool>(), 0_i64..4), 5),
        below in 0_u32..6,
    ) {
        let service = service(5);
        let seen = observed(&service, units(&[true; 5]), replication(primary, &links, true), true);
        let candidates: Vec<usize> =
            (0..5).filter(|at| *at != primary && links[*at].0 && (*at as u32) < below).collect();
        match best_replica(&service, &seen, below) {
            None => prop_assert!(candidates.is_empty()),
            Some(name) => {
                let at: usize = name.strip_prefix("demo-").unwrap().parse().unwrap();
                prop_assert!(candidates.contains(&at));
                prop_assert!(candidates.iter().all(|other| links[at].1 <= links[*other].1));
                prop_assert!(engine::all_hold(&target_ready(&service, &seen, &name)));
            }
        }
    }

    #[test]
    fn there_is_never_more_than_one_primary(primary in 0_usize..3, links in proptest::collection::vec((any::<bool>(), 0_i64..4), 3), ready in proptest::collection::vec(any::<bool>(), 3)) {
        let service = service(3);
        let seen = observed(&service, units(&ready), replication(primary, &links, true), true);
        let shown = as_shown(&service, 3, Some(&seen));
        let primaries = shown.members.iter().filter(|member| member.role() == pb::MemberRole::Primary).count();
        prop_assert_eq!(primaries, 1);
        let well = shown.members.iter().all(|member| member.ready && member.link_up);
        prop_assert_eq!(shown.state() == pb::ServiceState::Ready, well);
    }

    #[test]
    fn never_panics_at_what_a_cluster_reports(text in ".{0,60}") {
        let service = service(3);
        let mut seen = observed(&service, units(&[true; 3]), replication(0, &[UP; 3], true), true);
        seen.objects[1].status.as_mut().unwrap().json = text.into_bytes().into();
        as_shown(&service, 3, Some(&seen));
        replication_ready(&service, &seen);
    }
}
