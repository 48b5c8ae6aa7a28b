use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};
use upm_crds::conditions::{find, is_true, kind};
use upm_crds::names::{annotation, finalizer};
use upm_crds::unit_set::{RetainedVolumes, ServiceTemplate, VolumeRetentionPolicy};

use super::plan::Converge;
use super::*;
use crate::build::tests::{package, set as bare_set, settings, unit_of};
use crate::build::{config_map, pod, service, volume};
use crate::rollout::Step;

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn set() -> UnitSet {
    let mut set = bare_set();
    set.finalizers_mut().push(finalizer::UNIT_SET.into());
    set
}

fn observed(set: &UnitSet) -> Observed {
    Observed {
        now: now(),
        errors: set.spec.validate(),
        package: Ok(package()),
        value: Ok("redis: {}".into()),
        settings: Arc::new(settings()),
        units: BTreeMap::new(),
        pods: BTreeMap::new(),
        claims: BTreeMap::new(),
        maps: BTreeMap::new(),
        services: BTreeMap::new(),
        in_project: true,
        gate: Gate::default(),
        drained: BTreeSet::new(),
        secret: SecretState::Present {
            missing: vec![],
            generated_for: Some("uid-1".into()),
            uid: "s".into(),
        },
    }
}

fn ready_pod(unit: &Unit, role: &str) -> Pod {
    let mut pod = pod::pod(unit);
    pod.metadata.uid = Some(format!("pod-of-{}", unit.name_any()));
    pod.metadata.creation_timestamp = Some(Time(now() - SignedDuration::from_hours(1)));
    pod.labels_mut().insert(label::ROLE.into(), role.into());
    let status: Value = json!({
        "phase": "Running",
        "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T11:00:00Z" }]
    });
    pod.status = serde_json::from_value(status).unwrap();
    pod
}

/// The set as it runs: three ready units, unit 0 is the primary.
fn running(set: &UnitSet) -> Observed {
    let mut observed = observed(set);
    for ordinal in 0..3 {
        let unit = unit_of(set, &package(), ordinal);
        let pod = ready_pod(&unit, if ordinal == 0 { "primary" } else { "replica" });
        let mut claim = volume::claim(&unit, &unit.spec.volume_claim_templates[0]);
        claim.status = serde_json::from_value(json!({ "capacity": { "storage": "1Gi" } })).unwrap();
        observed.claims.insert(claim.name_any(), Arc::new(claim));
        observed.pods.insert(ordinal, Arc::new(pod));
        observed.units.insert(ordinal, Arc::new(unit));
    }
    observed
}

fn converge(set: &UnitSet, observed: &Observed) -> Converge {
    match plan::plan(set, observed) {
        Plan::Converge(converge) => *converge,
        other => panic!("{other:?}"),
    }
}

fn condition(set: &UnitSet, observed: &Observed, kind: &str) -> (String, String, String) {
    let status = status::status(set, observed, &plan::plan(set, observed));
    let found = find(&status.conditions, kind).unwrap().clone();
    (found.status, found.reason, found.message)
}

#[test]
fn makes_everything_of_a_new_set() {
    let set = set();
    let observed = Observed {
        secret: SecretState::Absent,
        ..observed(&set)
    };
    let plan = converge(&set, &observed);
    assert!(plan.make_secret);
    assert_eq!(plan.maps.len(), 4, "a template and three units' values");
    assert_eq!(plan.services.len(), 1, "the headless one");
    let names: Vec<_> = plan
        .units
        .iter()
        .map(|unit| (unit.name_any(), unit.spec.startup))
        .collect();
    assert_eq!(
        names,
        [
            ("demo-0".into(), true),
            ("demo-1".into(), true),
            ("demo-2".into(), true)
        ]
    );
    assert_eq!(
        condition(&set, &observed, kind::PROGRESSING).1,
        "ScalingOut"
    );
}

#[test]
fn does_nothing_before_its_finalizer_is_there() {
    assert!(matches!(
        plan::plan(&bare_set(), &observed(&bare_set())),
        Plan::AddFinalizer
    ));
}

#[test]
fn says_that_a_running_set_is_ready_and_complete() {
    let set = set();
    let observed = running(&set);
    let plan = plan::plan(&set, &observed);
    let status = status::status(&set, &observed, &plan);
    assert!(is_true(&status.conditions, kind::READY));
    assert_eq!(
        (status.units, status.ready_units, status.updated_units),
        (3, 3, 3)
    );
    assert_eq!(condition(&set, &observed, kind::PROGRESSING).1, "Complete");
    assert_eq!(status.unit_statuses[0].role.as_deref(), Some("primary"));
    for synced in [
        status.unit_pvc_synced,
        status.unit_image_synced,
        status.unit_resource_synced,
    ] {
        assert_eq!(synced.unwrap().status, "True");
    }
    let converge = converge(&set, &observed);
    assert_eq!(converge.decision.steps, []);
}

#[test]
fn a_restart_that_is_taken_back_restarts_nobody() {
    let mut set = set();
    let mut observed = running(&set);
    let mut marked = set.clone();
    marked.spec.restarted_at = Some("2026-01-01T11:00:00Z".into());
    let unit = unit_of(&marked, &package(), 2);
    observed
        .pods
        .insert(2, Arc::new(ready_pod(&unit, "replica")));
    observed.units.insert(2, Arc::new(unit));
    assert_eq!(
        converge(&marked, &observed).decision.steps,
        [Step::Restart(1)],
        "the restart is under way"
    );
    for taken_back in [None, Some("2026-01-01T10:00:00Z")] {
        set.spec.restarted_at = taken_back.map(str::to_owned);
        let steps = converge(&set, &observed).decision.steps;
        assert!(!steps.contains(&Step::Restart(2)), "{taken_back:?}");
        assert_eq!(steps.is_empty(), taken_back.is_none(), "{taken_back:?}");
    }
    set.spec.restarted_at = Some("2026-01-01T12:00:00Z".into());
    assert_eq!(
        converge(&set, &observed).decision.steps,
        [Step::Restart(2)],
        "the next restart is everybody's"
    );
}

#[test]
fn restarts_one_replica_after_a_change_and_leaves_the_others_what_they_are() {
    let before = set();
    let observed = running(&before);
    let mut set = before.clone();
    set.spec.restarted_at = Some("2026-01-01".into());
    let plan = converge(&set, &observed);
    assert_eq!(plan.decision.steps, [Step::Restart(2)]);
    let old = &observed.units[&0].spec.template;
    assert_eq!(
        plan.units[0].spec.template.spec, old.spec,
        "the primary keeps its template"
    );
    assert_eq!(
        plan.units[2].spec.template.annotations[annotation::RESTARTED_AT],
        "2026-01-01"
    );
    let status = status::status(&set, &observed, &plan::plan(&set, &observed));
    assert_eq!(
        (status.restarted_at, status.in_update.as_str()),
        (None, "demo-2")
    );
}

#[test]
fn a_new_configuration_leaves_the_files_of_units_whose_turn_has_not_come() {
    let set = set();
    let mut observed = running(&set);
    let old = config_map::template_map(&set, &package(), BTreeMap::new());
    observed.maps.insert(old.name_any(), Arc::new(old.clone()));
    observed.package.as_mut().unwrap().template = "port 7000".into();
    let plan = converge(&set, &observed);
    let template = plan.maps[0].data.as_ref().unwrap();
    for (key, content) in old
        .data
        .as_ref()
        .unwrap()
        .iter()
        .filter(|(key, _)| key.contains('.'))
    {
        assert_eq!(&template[key], content);
    }
    assert_eq!(template["redis"], "port 7000");
    let used = config_map::mounted(&plan.units[0].spec.template.spec, "demo-config-template");
    assert!(
        used.iter()
            .all(|key| old.data.as_ref().unwrap().contains_key(key))
    );
}

#[test]
fn waits_for_the_users_choice_about_volumes_of_an_earlier_set() {
    let set = set();
    let mut found = observed(&set);
    let mut earlier = set.clone();
    earlier.metadata.uid = Some("earlier".into());
    let unit = unit_of(&earlier, &package(), 4);
    let mut claim = volume::claim(&unit, &unit.spec.volume_claim_templates[0]);
    claim.metadata.uid = Some("claim".into());
    found.claims.insert(claim.name_any(), Arc::new(claim));
    found.secret = SecretState::Present {
        missing: vec![],
        generated_for: Some("earlier".into()),
        uid: "s".into(),
    };

    assert!(
        converge(&set, &found).units.is_empty(),
        "no unit, hence no pod"
    );
    let (status, _, message) = condition(&set, &found, kind::VOLUMES_RETAINED);
    assert_eq!(status, "True");
    assert!(message.contains("demo-4-data"), "{message}");
    assert_eq!(condition(&set, &found, kind::READY).1, "VolumesRetained");

    let mut choice = set.clone();
    choice.spec.retained_volumes = RetainedVolumes::Adopt;
    let (status, _, message) = condition(&choice, &found, kind::VOLUMES_RETAINED);
    assert_eq!(status, "True", "unit 4 may have the newest data");
    assert!(message.contains("set units to 5"), "{message}");
    choice.spec.units = 5;
    let plan = converge(&choice, &found);
    assert_eq!(plan.retained.adopt, ["demo-4-data"]);
    assert_eq!(
        plan.retained.discard_secret, None,
        "the password belongs to the data"
    );
    choice.spec.retained_volumes = RetainedVolumes::Discard;
    let plan = converge(&choice, &found);
    assert_eq!(
        plan.retained.discard,
        [("demo-4-data".into(), Some("claim".into()))]
    );
    assert_eq!(plan.retained.discard_secret, Some("s".into()));
    assert!(plan.units.is_empty(), "first the old volumes go");
}

#[test]
fn scales_in_from_the_top_one_at_a_time_and_keeps_the_volumes() {
    let mut set = set();
    let observed = running(&set);
    set.spec.units = 1;
    let plan = converge(&set, &observed);
    assert_eq!(plan.surplus.delete.unwrap().0, "demo-2");
    assert!(plan.drop_claims.is_empty());
    assert_eq!(condition(&set, &observed, kind::PROGRESSING).1, "ScalingIn");
}

/// The topology of the set, with its answer to those that asked to leave.
fn gate(members: i32, answer: &str) -> Gate {
    let name = |ordinal: i32| format!("demo-{ordinal}");
    let mut topology: RedisReplication = serde_json::from_value(json!({
        "apiVersion": "upm.syntropycloud.io/v1alpha1", "kind": "RedisReplication",
        "metadata": { "name": "demo", "namespace": "p1" },
        "spec": {
            "source": { "name": name(0), "host": "a", "port": 6379 },
            "replica": (1..members).map(|i| json!({ "name": name(i), "host": name(i), "port": 6379 })).collect::<Vec<_>>(),
            "secret": { "name": "s" },
        },
    }))
    .unwrap();
    if !answer.is_empty() {
        let mut status = upm_crds::RedisReplicationStatus::default();
        conditions::set(
            &mut status.conditions,
            kind::MEMBER_LEAVE,
            false,
            "MemberInSync",
            answer,
            now(),
        );
        topology.status = Some(status);
    }
    Gate::of(&[Arc::new(topology)])
}

fn asks(observed: &mut Observed, ordinal: i32, granted: bool) {
    let mut pod = observed.pods[&ordinal].as_ref().clone();
    let uid = pod.uid().unwrap();
    let request = upm_crds::leave::request("ScaleIn", &uid);
    let annotations = pod.annotations_mut();
    annotations.insert(annotation::LEAVE_REQUESTED.into(), request);
    annotations.insert(annotation::LEAVE_REQUESTED_AT.into(), now().to_string());
    if granted {
        annotations.insert(annotation::LEAVE_GRANTED.into(), uid);
    }
    observed.pods.insert(ordinal, Arc::new(pod));
}

#[test]
fn unit_that_a_topology_names_is_removed_only_when_let_go() {
    let mut set = set();
    let mut observed = running(&set);
    observed.gate = gate(3, "demo-1 copies the data");
    set.spec.units = 2;
    let plan = converge(&set, &observed);
    assert_eq!((plan.surplus.delete, plan.surplus.ask), (None, Some(2)));
    let (_, reason, message) = condition(&set, &observed, kind::PROGRESSING);
    assert_eq!(reason, "LeaveRequested");
    assert!(message.contains("demo-1 copies the data"), "{message}");
    asks(&mut observed, 2, false);
    let plan = converge(&set, &observed);
    assert_eq!((plan.surplus.delete, plan.surplus.ask), (None, None));
    assert!(
        matches!(plan.next, Some(Next::After(wait)) if wait.as_secs() <= 3),
        "the answer changes without a change of the set"
    );
    asks(&mut observed, 2, true);
    let plan = converge(&set, &observed);
    assert_eq!(plan.surplus.delete.unwrap().0, "demo-2");
    let mut out = running(&set);
    out.gate = gate(2, "");
    assert_eq!(
        converge(&set, &out).surplus.delete.unwrap().0,
        "demo-2",
        "the topology does not name it any more"
    );
}

#[test]
fn surplus_goes_unready_first_and_the_primary_last() {
    let mut set = set();
    let mut observed = running(&set);
    observed.gate = gate(3, "");
    for (ordinal, role) in [(0, "replica"), (2, "primary")] {
        let pod = ready_pod(&observed.units[&ordinal], role);
        observed.pods.insert(ordinal, Arc::new(pod));
    }
    set.spec.units = 1;
    assert_eq!(converge(&set, &observed).surplus.ask, Some(1));
    asks(&mut observed, 2, false);
    assert_eq!(converge(&set, &observed).surplus.take_back, [2]);
    let mut held = observed.units[&1].as_ref().clone();
    held.annotations_mut()
        .insert(annotation::MAINTENANCE.into(), "true".into());
    observed.units.insert(1, Arc::new(held));
    asks(&mut observed, 2, true);
    assert_eq!(
        converge(&set, &observed).surplus.delete.unwrap().0,
        "demo-2"
    );
    observed.units.remove(&2);
    assert_eq!(converge(&set, &observed).surplus.delete, None);
    assert_eq!(
        condition(&set, &observed, kind::PROGRESSING).1,
        "Maintenance"
    );
    observed.units = running(&set).units;
    let mut broken = observed.pods[&1].as_ref().clone();
    broken.status = None;
    observed.pods.insert(1, Arc::new(broken));
    assert_eq!(
        converge(&set, &observed).surplus.delete.unwrap().0,
        "demo-1"
    );
}

#[test]
fn rollout_leaves_a_unit_in_maintenance_alone_and_says_so() {
    let mut set = set();
    let mut observed = running(&set);
    for unit in observed.units.values_mut() {
        let mut held = unit.as_ref().clone();
        held.annotations_mut()
            .insert(annotation::MAINTENANCE.into(), "true".into());
        *unit = Arc::new(held);
    }
    set.spec.restarted_at = Some("2026-01-01".into());
    let plan = converge(&set, &observed);
    assert_eq!(plan.decision.steps, []);
    assert_eq!(
        plan.units[2].spec.template.spec,
        observed.units[&2].spec.template.spec
    );
    assert_eq!(
        condition(&set, &observed, kind::PROGRESSING).1,
        "Maintenance"
    );
}

#[test]
fn budget_lets_nobody_be_evicted_whom_a_gatekeeper_keeps() {
    let mut set = set();
    let mut observed = running(&set);
    let least = |set: &UnitSet, observed: &Observed| {
        let budget = converge(set, observed).budget;
        assert_eq!(budget.name_any(), "demo-pdb");
        serde_json::to_value(budget.spec.unwrap().min_available).unwrap()
    };
    assert_eq!(least(&set, &observed), json!(2), "one at a time");
    observed.gate = gate(3, "");
    assert_eq!(least(&set, &observed), json!(3));
    set.spec.units = 2;
    assert_eq!(
        least(&set, &observed),
        json!(3),
        "also while it gets smaller"
    );
}

#[test]
fn pods_on_a_drained_node_are_asked_for() {
    let set = set();
    let mut observed = running(&set);
    observed.gate = gate(3, "");
    observed.drained = [0, 1].into();
    let steps = converge(&set, &observed).decision.steps;
    assert_eq!(steps, [Step::Ask(1, crate::rollout::Why::Drain)]);
    asks(&mut observed, 1, true);
    let plan = converge(&set, &observed);
    assert_eq!(plan.decision.steps, [Step::Move(1)]);
    let before = &observed.units[&1].spec.template;
    assert_eq!(&plan.units[1].spec.template.spec, &before.spec);
}

#[test]
fn removes_what_belongs_to_units_that_are_gone_and_volumes_only_when_asked_to() {
    let mut set = set();
    set.spec.unit_service = Some(ServiceTemplate::default());
    let mut observed = running(&set);
    for ordinal in 0..3 {
        let map = config_map::value_map(&set, ordinal, "", BTreeMap::new());
        observed.maps.insert(map.name_any(), Arc::new(map));
        let service = service::unit(
            &set,
            &package(),
            ordinal,
            upm_crds::unit_set::ServiceType::ClusterIp,
        );
        observed
            .services
            .insert(service.name_any(), Arc::new(service));
    }
    set.spec.units = 2;
    assert!(
        converge(&set, &observed).drop_maps.is_empty(),
        "not while the unit is there"
    );
    observed.units.remove(&2);
    observed.pods.remove(&2);
    let plan = converge(&set, &observed);
    assert_eq!(plan.drop_maps[0].0, "demo-2-config-value");
    assert_eq!(plan.drop_services[0].0, "demo-2-svc");
    assert!(plan.drop_claims.is_empty());
    set.spec.volume_retention_policy = VolumeRetentionPolicy::Delete;
    assert_eq!(converge(&set, &observed).drop_claims[0].0, "demo-2-data");
}

#[test]
fn stops_replicas_first_and_starts_all_again() {
    let mut set = set();
    let observed = running(&set);
    set.spec.startup = false;
    let on = |plan: &Converge| -> Vec<bool> {
        plan.units.iter().map(|unit| unit.spec.startup).collect()
    };
    assert_eq!(on(&converge(&set, &observed)), [true, false, false]);
    let mut alone = running(&set);
    alone.pods.remove(&1);
    alone.pods.remove(&2);
    assert_eq!(on(&converge(&set, &alone)), [false, false, false]);
    alone.pods.clear();
    assert_eq!(condition(&set, &alone, kind::READY).1, "Stopped");
    set.spec.startup = true;
    assert_eq!(on(&converge(&set, &alone)), [true, true, true]);
}

#[test]
fn leaves_what_runs_alone_when_the_spec_or_the_package_is_unusable() {
    let set = set();
    let mut missing = running(&set);
    missing.package = Package::read(&set.spec, None, None, None);
    assert!(matches!(plan::plan(&set, &missing), Plan::Blocked));
    assert_eq!(
        condition(&set, &missing, kind::PACKAGE_FOUND).1,
        "PackageNotFound"
    );
    assert_eq!(condition(&set, &missing, kind::READY).1, "PackageNotFound");

    let mut wrong = set.clone();
    wrong.spec.storage[0].size.0 = "abc".into();
    let invalid = Observed {
        errors: wrong.spec.validate(),
        ..running(&set)
    };
    assert!(matches!(plan::plan(&wrong, &invalid), Plan::Blocked));
    let (_, reason, message) = condition(&wrong, &invalid, kind::VALID);
    assert_eq!(reason, "Invalid");
    assert!(message.starts_with("storage[0].size"), "{message}");
}

#[test]
fn deletes_units_first_and_volumes_only_when_the_policy_says_so() {
    let mut set = set();
    set.metadata.deletion_timestamp = Some(Time(now()));
    let teardown = |set: &UnitSet, observed: &Observed| match plan::plan(set, observed) {
        Plan::Teardown(teardown) => teardown,
        other => panic!("{other:?}"),
    };
    let full = running(&set);
    let first = teardown(&set, &full);
    assert_eq!(
        (first.units.len(), first.claims.len(), first.done),
        (3, 0, false)
    );
    let mut empty = running(&set);
    empty.units.clear();
    let pods_left = teardown(&set, &empty);
    assert!(
        !pods_left.done && pods_left.waiting.contains("demo-0"),
        "pods count as well"
    );
    empty.pods.clear();
    let keeps = teardown(&set, &empty);
    assert_eq!((keeps.done, keeps.keep.len()), (false, empty.claims.len()));
    for claim in empty.claims.values_mut() {
        let mut marked = claim.as_ref().clone();
        let units = set.spec.units.to_string();
        marked
            .annotations_mut()
            .insert(annotation::KEPT_OF_UNITS.into(), units);
        *claim = Arc::new(marked);
    }
    assert!(teardown(&set, &empty).done, "volumes and passwords stay");

    set.spec.volume_retention_policy = VolumeRetentionPolicy::Delete;
    let second = teardown(&set, &empty);
    assert_eq!(
        (second.claims.len(), second.secret, second.done),
        (3, Some("s".into()), false)
    );
    let mut foreign = empty.claims.remove("demo-0-data").unwrap().as_ref().clone();
    foreign
        .annotations_mut()
        .insert(annotation::UNIT_SET_UID.into(), "earlier".into());
    empty.claims = BTreeMap::from([("demo-0-data".into(), Arc::new(foreign))]);
    empty.secret = SecretState::Present {
        missing: vec![],
        generated_for: None,
        uid: "s".into(),
    };
    let last = teardown(&set, &empty);
    assert!(
        last.done && last.claims.is_empty() && last.secret.is_none(),
        "what is not its own stays"
    );
}

#[test]
fn writes_the_same_status_again_when_nothing_changed() {
    let mut set = set();
    let mut observed = running(&set);
    let first = status::status(&set, &observed, &plan::plan(&set, &observed));
    set.status = Some(first.clone());
    observed.now = now() + SignedDuration::from_mins(5);
    assert_eq!(
        status::status(&set, &observed, &plan::plan(&set, &observed)),
        first
    );
}

#[test]
fn set_outside_a_project_says_so_and_goes_on() {
    let set = set();
    let mut observed = running(&set);
    observed.in_project = false;
    let (status, reason, message) = condition(&set, &observed, kind::IN_PROJECT);
    assert_eq!(
        (status.as_str(), reason.as_str()),
        ("False", "NamespaceWithoutProject")
    );
    assert!(message.contains("make a Project p1"), "{message}");
    assert!(matches!(plan::plan(&set, &observed), Plan::Converge(_)));
    observed.in_project = true;
    let status = status::status(&set, &observed, &plan::plan(&set, &observed));
    assert!(find(&status.conditions, kind::IN_PROJECT).is_none());
}

#[test]
fn fields_without_effect_are_named() {
    let mut set = set();
    let observed = running(&set);
    let status = |set: &UnitSet| status::status(set, &observed, &plan::plan(set, &observed));
    assert!(find(&status(&set).conditions, kind::IGNORED_FIELDS).is_none());
    set.spec.pod_monitor = Some(Default::default());
    set.spec.certificate_profile = Some(Default::default());
    let (holds, _, message) = condition(&set, &observed, kind::IGNORED_FIELDS);
    assert_eq!(holds, "True");
    assert!(
        message.contains("spec.certificateProfile, spec.podMonitor"),
        "{message}"
    );
}
