use std::collections::BTreeMap;

use super::*;
use crate::redis_replication::election::Evidence;
use crate::redis_replication::model::{Acceptance, Last, Leave, Node, Request, Role, Seen};

struct Case {
    group: Group,
    state: State,
    world: World,
    memory: Memory,
}

fn host(index: usize) -> String {
    format!("10.0.0.{index}")
}

fn name(index: usize) -> String {
    format!("r-{index}")
}

fn replica(epoch: i64, offset: i64) -> View {
    View {
        reachable: true,
        live: Live::Replica,
        recorded: Some(Role::Replica),
        grant_epoch: epoch,
        promised: epoch,
        standing: Standing::Synced,
        replid: "h".to_owned(),
        primary_replid: "h".to_owned(),
        second_offset: -1,
        offset,
        follows: (host(0), 6379),
        link_up: true,
        keys: 10,
        aof_intact: true,
        persistence_healthy: true,
        min_replicas: 1000,
        ..View::default()
    }
}

fn id(index: usize) -> String {
    format!("{index:032x}")
}

fn leader(epoch: i64, offset: i64) -> View {
    View {
        live: Live::Primary,
        recorded: Some(Role::Primary),
        standing: Standing::Continuous,
        follows: (String::new(), 0),
        link_up: false,
        online: 2,
        min_replicas: 1,
        primary_replid: String::new(),
        ..replica(epoch, offset)
    }
}

/// Three members, `r-0` leads in epoch 5.
fn healthy() -> Case {
    let mut case = Case {
        group: Group {
            source: name(0),
            generation: 1,
            ..Group::default()
        },
        state: State {
            epoch: 5,
            primary: Some(name(0)),
            ackers: [name(1), name(2)].into(),
            source: Some(name(0)),
            ..State::default()
        },
        world: World::default(),
        memory: Memory::default(),
    };
    for index in 0..3 {
        case.group.members.insert(
            name(index),
            Node {
                host: host(index),
                port: 6379,
                ..Node::default()
            },
        );
        let mut view = if index == 0 {
            leader(5, 100)
        } else {
            replica(5, 100)
        };
        view.member_id = id(index);
        if index == 0 {
            view.admitted = [id(1), id(2)].into();
            view.group = (0..3).map(id).collect();
        }
        case.state.member_ids.insert(name(index), id(index));
        case.world.members.insert(
            name(index),
            Seen {
                view: Some(view),
                host: host(index),
                port: 6379,
                ..Seen::default()
            },
        );
    }
    case
}

impl Case {
    fn plan(&self) -> Decision {
        plan(Inputs {
            group: &self.group,
            state: &self.state,
            world: &self.world,
            memory: &self.memory,
        })
    }

    fn seen(&mut self, index: usize) -> &mut Seen {
        self.world.members.get_mut(&name(index)).unwrap()
    }

    fn view(&mut self, index: usize) -> &mut View {
        self.seen(index).view.as_mut().unwrap()
    }

    /// The primary is gone, and the replicas know.
    fn primary_lost(mut self) -> Self {
        self.seen(0).view = None;
        self.seen(0).silent = Duration::from_secs(3);
        for index in 1..3 {
            self.view(index).link_up = false;
        }
        self
    }

    fn fence(&mut self, index: usize, epoch: i64) {
        let view = self.view(index);
        (view.live, view.promised, view.link_up) = (Live::Parked, epoch, false);
    }
}

fn recorded(decision: &Decision) -> &Change {
    match &decision.actions[..] {
        [Action::Record(change)] => change,
        other => panic!("not a record: {other:?}, {}", decision.message),
    }
}

#[test]
fn leaves_a_healthy_group_alone() {
    let decision = healthy().plan();
    assert_eq!(
        (decision.actions.len(), decision.phase, decision.withdraw),
        (0, Phase::Steady, false)
    );
}

#[test]
fn does_not_suspect_a_primary_that_replicas_still_hear() {
    let mut case = healthy().primary_lost();
    case.view(2).link_up = true;
    let decision = case.plan();
    assert!(
        decision.actions.is_empty() && !decision.withdraw,
        "{decision:?}"
    );
    assert!(decision.missing[0].detail.contains("still hear"));
}

#[test]
fn does_not_suspect_a_primary_after_a_moment() {
    let mut case = healthy().primary_lost();
    case.seen(0).silent = Duration::from_millis(900);
    assert!(case.plan().actions.is_empty());
}

#[test]
fn does_nothing_when_only_the_controller_is_cut_off() {
    let mut case = healthy().primary_lost();
    for index in 1..3 {
        case.seen(index).view = None;
    }
    let decision = case.plan();
    assert!(decision.actions.is_empty() && !decision.withdraw);
}

#[test]
fn takes_the_route_away_and_asks_all_replicas_to_promise() {
    let decision = healthy().primary_lost().plan();
    assert!(decision.withdraw);
    assert_eq!(
        decision.actions,
        [Action::Promise {
            members: vec![name(1), name(2)],
            besides: vec![],
            epoch: 6
        }]
    );
}

#[test]
fn does_not_park_replicas_when_an_election_is_out_of_reach() {
    let mut case = healthy().primary_lost();
    case.seen(2).view = None;
    let decision = case.plan();
    assert_eq!(
        (decision.phase, decision.actions.len()),
        (Phase::Refused, 0)
    );
    assert!(
        decision
            .missing
            .iter()
            .any(|fact| fact.member == name(2) && fact.name == "MemberReachable"),
        "{decision:?}"
    );
}

#[test]
fn elects_the_replica_that_covers_the_other() {
    let mut case = healthy().primary_lost();
    case.fence(1, 6);
    case.fence(2, 6);
    case.view(2).offset = 120;
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!((change.primary.as_str(), change.epoch), ("r-2", 6));
    assert_eq!(
        change.ackers,
        [name(1)].into(),
        "the lost primary joins again when it is seen"
    );
    assert_eq!(change.elected.as_ref().unwrap().offset, 120);
}

#[test]
fn refuses_when_a_replica_was_restarted_and_the_primary_is_gone() {
    let mut case = healthy().primary_lost();
    case.fence(1, 6);
    case.fence(2, 6);
    case.view(1).standing = Standing::Interrupted;
    let decision = case.plan();
    assert_eq!(decision.phase, Phase::Refused);
    assert!(
        decision
            .missing
            .iter()
            .any(|fact| fact.name == "PositionKnown" && fact.member == name(1))
    );
    assert!(
        decision
            .missing
            .iter()
            .any(|fact| fact.name == "MemberReachable" && fact.member == name(0))
    );
}

#[test]
fn a_loss_is_taken_only_when_accepted_and_not_at_once() {
    let mut case = healthy().primary_lost();
    case.fence(1, 6);
    case.fence(2, 6);
    case.view(1).standing = Standing::Interrupted;
    case.group.bounded_loss = true;
    assert_eq!(case.plan().phase, Phase::Refused);
    case.memory.refused = Some(Duration::from_secs(21));
    assert_eq!(recorded(&case.plan()).primary, name(2));
}

#[test]
fn an_intact_restarted_primary_goes_on_when_replicas_cannot_vouch() {
    let mut case = healthy();
    for index in 0..3 {
        case.fence(index, 6);
        let view = case.view(index);
        (view.standing, view.replid) = (Standing::Interrupted, format!("random-{index}"));
    }
    assert_eq!(recorded(&case.plan()).primary, name(0));
    case.view(0).aof_intact = false;
    assert_eq!(case.plan().phase, Phase::Refused);
    case.view(0).aof_intact = true;
    case.view(0).host_restarted = true;
    assert_eq!(
        case.plan().phase,
        Phase::Refused,
        "others may have more than a machine that lost its last second"
    );
    case.view(1).host_restarted = true;
    case.view(2).host_restarted = true;
    assert_eq!(
        recorded(&case.plan()).primary,
        name(0),
        "all machines went down"
    );
}

#[test]
fn never_chooses_an_empty_primary_over_members_with_data() {
    let mut case = healthy();
    for index in 0..3 {
        case.fence(index, 6);
        case.view(index).standing = Standing::Interrupted;
    }
    case.view(0).keys = 0;
    let decision = case.plan();
    assert_eq!(decision.phase, Phase::Refused);
    assert!(
        decision
            .missing
            .iter()
            .any(|fact| fact.name == "PrimaryNotEmpty")
    );
}

#[test]
fn grants_an_elected_member_only_at_its_position() {
    let mut case = healthy();
    case.state.epoch = 6;
    case.state.primary = Some(name(1));
    case.state.ackers = [name(2)].into();
    let at = Position {
        replid: "h".to_owned(),
        offset: 100,
        keys: 10,
    };
    case.state.positions = BTreeMap::from([(name(1), at.clone())]);
    case.fence(1, 6);
    case.fence(2, 6);
    let expected = Action::Grant {
        member: name(1),
        epoch: 6,
        min_replicas: 1,
        at,
        member_id: id(1),
        admitted: [id(2)].into(),
        group: [id(1), id(2)].into(),
        record_version: 0,
    };
    assert_eq!(case.plan().actions, [expected]);
    case.view(1).replid = "random".to_owned();
    assert!(matches!(
        &case.plan().actions[..],
        [Action::Promise { epoch: 7, .. }]
    ));
}

#[test]
fn brings_a_deposed_primary_back_as_an_acker_before_it_follows() {
    let mut case = healthy();
    case.state.epoch = 6;
    case.state.primary = Some(name(1));
    case.state.ackers = [name(2)].into();
    *case.view(1) = View {
        replid: "n".to_owned(),
        replid2: "h".to_owned(),
        second_offset: 101,
        member_id: id(1),
        admitted: [id(0), id(2)].into(),
        group: (0..3).map(id).collect(),
        ..leader(6, 100)
    };
    let following = View {
        primary_replid: "n".to_owned(),
        replid: "n".to_owned(),
        follows: (host(1), 6379),
        member_id: id(2),
        ..replica(6, 100)
    };
    *case.view(2) = following;
    let decision = case.plan();
    assert_eq!(recorded(&decision).ackers, [name(0), name(2)].into());
    case.state.ackers.insert(name(0));
    let expected = Action::Follow {
        member: name(0),
        epoch: 6,
        host: host(1),
        port: 6379,
        replid: "n".to_owned(),
        offset: 100,
    };
    assert_eq!(case.plan().actions, [expected]);
}

#[test]
fn follows_the_primary_to_a_new_address() {
    let mut case = healthy();
    case.seen(0).host = "10.9.9.9".to_owned();
    let decision = case.plan();
    assert_eq!(decision.actions.len(), 2);
    assert!(matches!(&decision.actions[0], Action::Follow { host, .. } if host == "10.9.9.9"));
}

#[test]
fn a_switchover_pauses_awaits_fences_and_elects() {
    let mut case = healthy();
    case.group.request = Some(Request {
        id: "a".to_owned(),
        target: name(2),
        expected_epoch: Some(5),
    });
    assert_eq!(
        case.plan().actions,
        [Action::Pause {
            member: name(0),
            epoch: 5
        }]
    );
    case.view(0).paused = true;
    case.view(0).offset = 130;
    assert!(matches!(
        &case.plan().actions[..],
        [Action::Await { offset: 130, .. }]
    ));
    case.view(2).offset = 130;
    let fencing = case.plan();
    assert!(fencing.withdraw);
    assert_eq!(
        fencing.actions,
        [Action::Promise {
            members: vec![name(0)],
            besides: vec![],
            epoch: 6
        }]
    );
    case.fence(0, 6);
    case.view(0).paused = false;
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!((change.primary.as_str(), change.epoch), ("r-2", 6));
    assert!(change.outcome.as_ref().unwrap().succeeded);
    assert_eq!(change.ackers, [name(0), name(1)].into());
}

#[test]
fn refuses_a_switchover_with_a_stale_epoch_or_an_unfit_target() {
    let refused = |change: &dyn Fn(&mut Case)| {
        let mut case = healthy();
        case.group.request = Some(Request {
            id: "a".to_owned(),
            target: name(2),
            expected_epoch: Some(5),
        });
        change(&mut case);
        let decision = case.plan();
        let outcome = recorded(&decision).outcome.clone().unwrap();
        assert!(!outcome.succeeded);
        outcome.reason
    };
    assert_eq!(
        refused(&|case| case.group.request.as_mut().unwrap().expected_epoch = Some(4)),
        "StaleEpoch"
    );
    assert_eq!(
        refused(&|case| case.group.request.as_mut().unwrap().target = "x".to_owned()),
        "UnknownTarget"
    );
    assert_eq!(
        refused(&|case| case.seen(2).view = None),
        "TargetNotReachable"
    );
    assert_eq!(
        refused(&|case| case.view(2).link_up = false),
        "TargetNotSynchronized"
    );
    assert_eq!(
        refused(&|case| case.view(2).persistence_healthy = false),
        "TargetPersistence"
    );
    assert_eq!(refused(&|case| case.view(0).offset = 1 << 40), "TargetLag");
}

#[test]
fn answers_a_request_once() {
    let mut case = healthy();
    case.group.request = Some(Request {
        id: "a".to_owned(),
        target: name(2),
        expected_epoch: Some(5),
    });
    case.state.last = Some(Last {
        id: "a".to_owned(),
        succeeded: false,
        ago: Duration::from_hours(1),
    });
    assert!(case.plan().actions.is_empty());
}

#[test]
fn gives_up_a_target_that_does_not_catch_up_and_lets_writes_go_on() {
    let mut case = healthy();
    case.group.request = Some(Request {
        id: "a".to_owned(),
        target: name(2),
        expected_epoch: Some(5),
    });
    (case.view(0).paused, case.view(0).offset) = (true, 130);
    case.memory.paused = Some(Duration::from_secs(5));
    let decision = case.plan();
    let outcome = recorded(&decision).outcome.clone().unwrap();
    assert_eq!(
        (outcome.succeeded, outcome.reason.as_str()),
        (false, "TargetTooSlow")
    );
    case.state.last = Some(Last {
        id: outcome.id,
        ..Last::default()
    });
    assert_eq!(
        case.plan().actions,
        [Action::Resume {
            member: name(0),
            epoch: 5
        }]
    );
}

#[test]
fn undoes_a_pause_that_nobody_wants_any_more() {
    let mut case = healthy();
    case.view(0).paused = true;
    assert_eq!(
        case.plan().actions,
        [Action::Resume {
            member: name(0),
            epoch: 5
        }]
    );
}

#[test]
fn primary_that_asks_to_leave_hands_over_to_the_best_replica() {
    let mut case = healthy();
    case.seen(0).pod.leave = Some(Leave::default());
    assert_eq!(
        case.plan().actions,
        [Action::Pause {
            member: name(0),
            epoch: 5
        }]
    );
}

#[test]
fn an_edit_of_the_source_is_a_switchover_once() {
    let mut case = healthy();
    case.group.source = name(1);
    assert_eq!(
        case.plan().actions,
        [Action::Pause {
            member: name(0),
            epoch: 5
        }]
    );
    // after an election elsewhere the same spec, sent again, changes nothing
    case.state.source = Some(name(1));
    assert!(case.plan().actions.is_empty());
}

#[test]
fn goes_on_under_a_newer_epoch_after_an_election_that_did_not_happen() {
    let mut case = healthy();
    case.fence(1, 6);
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!((change.primary.as_str(), change.epoch), ("r-0", 6));
    case.state.epoch = 6;
    assert!(matches!(
        &case.plan().actions[..],
        [Action::Grant { epoch: 6, .. }]
    ));
}

#[test]
fn leaver_is_fenced_and_covered_before_it_is_forgotten() {
    let mut case = healthy();
    case.group.members.get_mut("r-2").unwrap().removed = true;
    let decision = case.plan();
    assert_eq!(recorded(&decision).excluded, [name(2)].into());
    (case.state.excluded, case.state.version) = ([name(2)].into(), 1);
    let decision = case.plan();
    assert!(decision.actions.contains(&Action::Promise {
        members: vec![],
        besides: vec![name(2)],
        epoch: 6
    }));
    case.fence(2, 6);
    case.view(0).min_replicas = 0;
    case.view(0).admitted = [id(1)].into();
    case.view(0).record_version = 1;
    case.view(0).offset = 150;
    let (group, state, world) = (case.group.clone(), case.state.clone(), case.world.clone());
    case.memory.note(&group, &state, &world, Duration::ZERO);
    assert!(
        case.plan().actions.is_empty(),
        "r-1 is behind what the primary had written"
    );
    case.view(1).offset = 150;
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!(
        (&change.ackers, change.excluded.len()),
        (&[name(1)].into(), 0)
    );
}

#[test]
fn the_first_primary_is_the_source_when_all_are_empty() {
    let mut case = healthy();
    case.state = State::default();
    for index in 0..3 {
        *case.view(index) = View {
            reachable: true,
            standing: Standing::Untold,
            replid: format!("own-{index}"),
            ..View::default()
        };
    }
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!((change.primary.as_str(), change.epoch), ("r-0", 1));
    case.seen(1).view = None;
    assert!(
        case.plan().actions.is_empty(),
        "data that is not seen may be the newest"
    );
}

#[test]
fn volumes_of_an_earlier_group_are_led_by_its_last_primary() {
    let mut case = healthy();
    case.state = State::default();
    for index in 0..3 {
        case.fence(index, 7);
        let view = case.view(index);
        (view.standing, view.grant_epoch) = (Standing::Interrupted, 7);
    }
    case.view(0).recorded = Some(Role::Replica);
    let group: BTreeSet<String> = (0..3).map(id).collect();
    let leads = case.view(2);
    leads.recorded = Some(Role::Primary);
    leads.group.clone_from(&group);
    let decision = case.plan();
    let change = recorded(&decision);
    // as the volumes tell; then it is an election like any other
    assert_eq!((change.primary.as_str(), change.epoch), ("r-2", 7));
    assert_eq!(change.ackers, [name(0), name(1)].into());
    change.enter(&mut case.state);
    for index in 0..3 {
        case.fence(index, 8);
        case.view(index).standing = Standing::Interrupted;
    }
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!((change.primary.as_str(), change.epoch), ("r-2", 8));
    assert_eq!(change.evidence, Some(Evidence::PrimaryIntact));
    case.view(2).aof_intact = false;
    assert_eq!(case.plan().phase, Phase::Refused);
}

/// Only the volume of `r-0` is here; it led in epoch 5, before it was away and others led.
fn stale_volume() -> Case {
    let mut case = healthy();
    case.state = State::default();
    for index in 1..3 {
        case.group.members.remove(&name(index));
        case.world.members.remove(&name(index));
    }
    case.fence(0, 5);
    let view = case.view(0);
    view.standing = Standing::Interrupted;
    view.recorded = Some(Role::Primary);
    view.group = (0..3).map(id).collect();
    case
}

#[test]
fn volume_of_a_group_alone_may_be_stale_and_is_refused() {
    let mut case = stale_volume();
    let decision = case.plan();
    assert_eq!(decision.phase, Phase::Refused, "{decision:?}");
    assert_eq!(
        facts(&decision),
        [("VolumePresent", ""), ("VolumePresent", "")]
    );
    // exactly this loss can be accepted
    let prospect = decision.prospect.unwrap();
    assert_eq!(prospect.candidate, name(0));
    case.group.acceptance = Some(Acceptance {
        expected_epoch: 0,
        loss_id: "000000000000".into(),
    });
    assert_eq!(case.plan().phase, Phase::Refused);
    case.group.acceptance = Some(Acceptance {
        expected_epoch: 0,
        loss_id: prospect.loss_id,
    });
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!((change.primary.as_str(), change.epoch), ("r-0", 6));
    assert_eq!(change.evidence, Some(Evidence::LossAccepted));
}

#[test]
fn volume_of_a_replica_alone_is_refused() {
    let mut case = stale_volume();
    let view = case.view(0);
    view.recorded = Some(Role::Replica);
    view.group.clear();
    let decision = case.plan();
    assert_eq!(decision.phase, Phase::Refused, "{decision:?}");
    assert_eq!(facts(&decision), [("LastPrimaryPresent", "")]);
    assert!(decision.prospect.is_some());
}

#[test]
fn volume_of_a_service_with_one_member_goes_on() {
    let mut case = stale_volume();
    case.view(0).group = [id(0)].into();
    assert_eq!(recorded(&case.plan()).primary, name(0));
}

/// `r-1` lags, `r-2` had more; the primary is lost, and `r-2` comes back with a new volume.
fn replaced_volume() -> Case {
    let mut case = healthy().primary_lost();
    case.view(1).offset = 90;
    case.fence(1, 6);
    *case.view(2) = View {
        reachable: true,
        live: Live::Parked,
        promised: 6,
        standing: Standing::Untold,
        replid: "random".to_owned(),
        member_id: id(7),
        ..View::default()
    };
    case
}

fn facts(decision: &Decision) -> Vec<(&str, &str)> {
    decision
        .missing
        .iter()
        .map(|fact| (fact.name, fact.member.as_str()))
        .collect()
}

#[test]
fn replaced_volume_of_an_acker_refuses_and_is_named() {
    let mut case = replaced_volume();
    let decision = case.plan();
    assert_eq!(decision.phase, Phase::Refused);
    assert!(
        facts(&decision).contains(&("SameVolume", "r-2")),
        "{decision:?}"
    );
    // what the record does not name may be any volume
    case.state.member_ids.clear();
    let decision = case.plan();
    assert_eq!(decision.phase, Phase::Refused);
    assert!(
        facts(&decision).contains(&("SameVolume", "r-2")),
        "{decision:?}"
    );
}

#[test]
fn volume_under_another_name_vouches_for_its_own_data() {
    let mut case = replaced_volume();
    // r-2's volume is in r-1's pod now, and the other way round
    *case.view(2) = case.view(1).clone();
    case.view(2).member_id = id(1);
    case.view(1).member_id = id(2);
    case.view(1).offset = 100;
    assert_eq!(recorded(&case.plan()).primary, name(1));
}

#[test]
fn new_volume_joins_and_the_old_one_is_missed_until_covered() {
    let mut case = healthy();
    case.group.members.remove("r-1");
    case.state.ackers = [name(2)].into();
    case.state.member_ids.remove("r-1");
    case.world.members.remove("r-1");
    case.view(0).min_replicas = 0;
    case.view(0).admitted = [id(2)].into();
    *case.view(2) = View {
        reachable: true,
        standing: Standing::Untold,
        member_id: id(7),
        ..View::default()
    };
    let decision = case.plan();
    let change = recorded(&decision).clone();
    let old = Departed {
        name: name(2),
        id: id(2),
    };
    assert_eq!(change.departed, [old.clone()].into());
    assert_eq!(change.member_ids["r-2"], id(7));
    case.state.departed = change.departed;
    case.state.member_ids = change.member_ids;
    // the new one is admitted in place of the old one before it follows
    assert!(
        matches!(&case.plan().actions[..], [Action::Grant { admitted, .. }] if *admitted == [id(7)].into()),
        "{:?}",
        case.plan()
    );
    case.view(0).admitted = [id(7)].into();
    case.view(0).group = case.state.group();
    let (group, state, world) = (case.group.clone(), case.state.clone(), case.world.clone());
    case.memory.note(&group, &state, &world, Duration::ZERO);
    assert!(matches!(&case.plan().actions[..], [Action::Follow { .. }]));
    // not covered: the primary's death is refused
    let mut lost = Case {
        group: case.group.clone(),
        state: case.state.clone(),
        world: case.world.clone(),
        memory: Memory::default(),
    };
    lost.seen(0).view = None;
    lost.seen(0).silent = Duration::from_secs(10);
    lost.fence(2, 6);
    let decision = lost.plan();
    assert_eq!(decision.phase, Phase::Refused);
    assert!(
        facts(&decision).contains(&("VolumePresent", "r-2")),
        "{decision:?}"
    );
    // covered: forgotten
    *case.view(2) = View {
        member_id: id(7),
        ..replica(5, 100)
    };
    assert_eq!(recorded(&case.plan()).departed, [].into());
    let mut again = case.state.clone();
    again.departed.clear();
    assert_eq!(again.ackers, [name(2)].into());
}

#[test]
fn silent_acker_is_cut_off_before_it_is_forgotten() {
    let mut case = healthy();
    // its pod object is gone, or pending, or terminating: none of it says that no process acknowledges
    case.seen(2).view = None;
    case.seen(2).pod.leaving = true;
    case.seen(2).silent = Duration::from_secs(29);
    assert!(case.plan().actions.is_empty());
    case.seen(2).silent = Duration::from_secs(31);
    let (group, state, world) = (case.group.clone(), case.state.clone(), case.world.clone());
    case.memory.note(&group, &state, &world, Duration::ZERO);
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!(change.excluded, [name(2)].into());
    assert!(change.ackers.contains("r-2"));
    (case.state.excluded, case.state.version) = (change.excluded.clone(), 1);
    let grant = |decision: &Decision| match &decision.actions[..] {
        [
            Action::Grant {
                admitted,
                record_version,
                ..
            },
        ] => (admitted.clone(), *record_version),
        other => panic!("{other:?}"),
    };
    assert_eq!(grant(&case.plan()), ([id(1)].into(), 1));
    case.view(0).admitted = [id(1)].into();
    // what was decided from an older record may still be on its way
    assert_eq!(grant(&case.plan()), ([id(1)].into(), 1));
    case.view(0).record_version = 1;
    case.view(0).offset = 130;
    let (state, world) = (case.state.clone(), case.world.clone());
    case.memory.note(&group, &state, &world, Duration::ZERO);
    assert!(
        case.plan().actions.is_empty(),
        "r-1 has not what it had acknowledged"
    );
    case.view(1).offset = 130;
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!(change.ackers, [name(1)].into());
    assert!(!change.member_ids.contains_key("r-2"));
}

#[test]
fn only_acker_is_not_cut_off_for_its_silence() {
    let mut case = healthy();
    case.seen(2).view = None;
    case.seen(2).silent = Duration::from_secs(60);
    case.view(1).link_up = false;
    assert!(case.plan().actions.is_empty(), "{:?}", case.plan());
}

#[test]
fn power_loss_of_all_elects_the_fullest_disk_and_says_so() {
    let mut case = healthy();
    for index in 0..3 {
        case.fence(index, 6);
        let view = case.view(index);
        (view.standing, view.host_restarted) = (Standing::Interrupted, true);
        view.replid = format!("random-{index}");
        view.recorded_position = ("h".to_owned(), 100 + [0, 20, 10][index]);
    }
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!(change.primary, name(1));
    assert!(change.why.contains("appendfsync=always"), "{}", change.why);
    assert!(change.evidence.unwrap().at_risk().is_some());
    // a server that synced every write does not count as interrupted by the power
    case.view(0).host_restarted = false;
    let decision = case.plan();
    assert_eq!(recorded(&decision).primary, name(0));
    assert!(recorded(&decision).evidence.unwrap().at_risk().is_none());
    // somebody is not back yet
    case.view(0).host_restarted = true;
    case.seen(2).view = None;
    assert_eq!(case.plan().phase, Phase::Refused);
}

#[test]
fn accepted_loss_is_taken_whoever_is_reachable() {
    for gone in [vec![0, 1], vec![0, 2], vec![0], vec![1, 2], vec![0, 1, 2]] {
        let mut case = healthy().primary_lost();
        case.group.bounded_loss = true;
        case.seen(0).view = Some(View {
            live: Live::Parked,
            aof_intact: false,
            member_id: id(0),
            ..leader(5, 100)
        });
        for index in 0..3 {
            case.view(index).standing = Standing::Interrupted;
        }
        for index in &gone {
            case.seen(*index).view = None;
        }
        let mut elected = None;
        for _ in 0..400 {
            let decision = case.plan();
            case.memory.decided(&decision, Duration::from_millis(300));
            for index in 0..3 {
                let seen = case.seen(index);
                if seen.view.is_none() {
                    seen.silent += Duration::from_millis(300);
                }
            }
            for action in decision.actions {
                match action {
                    Action::Promise {
                        members,
                        besides,
                        epoch,
                    } => {
                        for member in members.iter().chain(&besides) {
                            let index = member[2..].parse().unwrap();
                            case.fence(index, epoch);
                        }
                    }
                    Action::Record(change) => elected = Some(change),
                    other => panic!("{other:?}"),
                }
            }
            if elected.is_some() {
                break;
            }
        }
        if gone.len() == 3 {
            assert!(elected.is_none() && case.plan().phase == Phase::Refused);
        } else {
            let change = elected.unwrap_or_else(|| panic!("nobody is elected without {gone:?}"));
            assert!(change.why.contains("would lead"), "{}", change.why);
        }
    }
}

#[test]
fn loss_is_ranked_by_position_and_not_by_keys() {
    let mut case = healthy().primary_lost();
    case.fence(1, 6);
    case.fence(2, 6);
    for index in 1..3 {
        case.view(index).standing = Standing::Interrupted;
    }
    case.view(1).recorded_position = ("h".to_owned(), 99);
    case.view(2).recorded_position = ("h".to_owned(), 80);
    (case.view(1).keys, case.view(2).keys) = (5, 900);
    let decision = case.plan();
    assert_eq!(decision.phase, Phase::Refused);
    let prospect = decision.prospect.unwrap();
    assert_eq!(prospect.candidate, name(1));
    // accepting exactly this is enough, anything else is not
    case.group.acceptance = Some(Acceptance {
        expected_epoch: 5,
        loss_id: "another".to_owned(),
    });
    assert_eq!(case.plan().phase, Phase::Refused);
    case.group.acceptance = Some(Acceptance {
        expected_epoch: 4,
        loss_id: prospect.loss_id.clone(),
    });
    assert_eq!(case.plan().phase, Phase::Refused);
    case.group.acceptance = Some(Acceptance {
        expected_epoch: 5,
        loss_id: prospect.loss_id,
    });
    let decision = case.plan();
    assert_eq!(recorded(&decision).primary, name(1));
    assert_eq!(recorded(&decision).evidence, Some(Evidence::LossAccepted));
}

#[test]
fn winner_that_never_led_and_is_gone_does_not_block() {
    let mut case = healthy();
    case.group.request = Some(Request {
        id: "a".to_owned(),
        target: name(2),
        expected_epoch: Some(5),
    });
    case.view(0).paused = true;
    case.fence(0, 6);
    let decision = case.plan();
    let change = recorded(&decision).clone();
    assert_eq!(change.primary, name(2));
    // its node dies before the grant, for good
    case.state.epoch = change.epoch;
    case.state.primary = Some(change.primary);
    case.state.ackers = change.ackers;
    case.state.member_ids = change.member_ids;
    case.state.prior = change.prior;
    case.state.last = Some(Last {
        id: "a".to_owned(),
        succeeded: true,
        ago: Duration::ZERO,
    });
    case.seen(2).view = None;
    case.seen(2).silent = Duration::from_secs(10);
    case.view(1).link_up = false;
    assert!(matches!(
        &case.plan().actions[..],
        [Action::Promise { epoch: 7, .. }]
    ));
    case.fence(0, 7);
    case.fence(1, 7);
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!((change.primary.as_str(), change.epoch), ("r-0", 7));
    assert!(
        change.ackers.contains("r-2"),
        "it may still follow who led before"
    );
    assert_eq!(change.prior.as_ref().unwrap().epoch, 5);
    // one that was told to follow it may have acknowledged, and is asked then
    case.view(1).grant_epoch = 6;
    let decision = case.plan();
    assert_eq!(recorded(&decision).primary, name(1));
    assert_eq!(recorded(&decision).prior.as_ref().unwrap().epoch, 6);
}

#[test]
fn record_that_was_rolled_back_follows_the_living_leader() {
    let mut case = healthy();
    case.state.epoch = 3;
    case.state.primary = Some(name(2));
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!((change.primary.as_str(), change.epoch), ("r-0", 5));
    assert_eq!(change.ackers, [name(1), name(2)].into());
    // a volume of another group knows nothing of this one
    let mut case = healthy();
    case.view(2).grant_epoch = 40;
    case.view(2).member_id = id(9);
    case.view(2).live = Live::Parked;
    let decision = case.plan();
    assert_eq!(recorded(&decision).epoch, 5);
}

#[test]
fn members_without_their_data_are_never_served_empty() {
    let mut case = healthy();
    for index in 0..3 {
        *case.view(index) = View {
            reachable: true,
            standing: Standing::Untold,
            replid: format!("random-{index}"),
            promised: 6,
            member_id: id(index + 7),
            ..View::default()
        };
    }
    case.state.positions.insert(
        name(0),
        Position {
            replid: "h".to_owned(),
            offset: 100,
            keys: 10,
        },
    );
    let decision = case.plan();
    assert_eq!(decision.phase, Phase::Refused, "{decision:?}");
    assert!(
        facts(&decision).contains(&("SameVolume", "r-0")),
        "{decision:?}"
    );
    // not even when the whole record is gone with them
    case.state = State::default();
    case.group.has_served = true;
    let decision = case.plan();
    assert_eq!(facts(&decision), [("DataPresent", "")]);
    assert_eq!(decision.phase, Phase::Refused);
    assert!(
        decision.prospect.is_some(),
        "an empty beginning can be accepted"
    );
}

#[test]
fn first_acker_after_the_last_one_left_needs_what_it_had() {
    let mut case = healthy();
    // r-1 and r-2 are isolated; r-1 went first, and r-2 acknowledged up to 100
    for index in 1..3 {
        case.group.members.get_mut(&name(index)).unwrap().isolated = true;
    }
    case.state.ackers = [name(2)].into();
    case.state.excluded = [name(2)].into();
    case.state.member_ids.remove(&name(1));
    case.state.version = 1;
    case.fence(2, 6);
    case.view(1).offset = 50;
    case.fence(1, 6);
    let leads = case.view(0);
    (leads.admitted, leads.record_version, leads.min_replicas) = (BTreeSet::new(), 1, 0);
    let (group, state, world) = (case.group.clone(), case.state.clone(), case.world.clone());
    case.memory.note(&group, &state, &world, Duration::ZERO);
    let decision = case.plan();
    let left = recorded(&decision).clone();
    assert!(left.ackers.is_empty());
    assert_eq!(
        left.must_cover,
        Some(History {
            replid: "h".into(),
            offset: 100
        })
    );
    left.enter(&mut case.state);
    // r-1 takes part again, copies, and the primary is lost
    case.group.members.get_mut(&name(1)).unwrap().isolated = false;
    case.state.ackers.insert(name(1));
    case.state.member_ids.insert(name(1), id(1));
    *case.view(1) = View {
        member_id: id(1),
        ..replica(5, 60)
    };
    let mut lost = Case {
        group: case.group.clone(),
        state: case.state.clone(),
        world: case.world.clone(),
        memory: Memory::default(),
    }
    .primary_lost();
    lost.fence(1, 6);
    assert_eq!(lost.plan().phase, Phase::Refused, "it lacks 40 bytes");
    lost.view(1).offset = 100;
    assert_eq!(recorded(&lost.plan()).primary, name(1));
    // seen with everything, it is an acker like any other
    case.view(1).offset = 100;
    let leads = case.view(0);
    leads.admitted = [id(1)].into();
    let decision = case.plan();
    assert_eq!(recorded(&decision).must_cover, None);
}

#[test]
fn former_primary_that_copies_does_not_veto() {
    let mut case = healthy().primary_lost();
    // r-1 led before with a tail that nobody confirmed, and follows now; r-2 has everything of the history since
    *case.view(1) = View {
        replid: "o".to_owned(),
        offset: 140,
        standing: Standing::Unsynced,
        ..case.view(1).clone()
    };
    let member = case.view(2);
    (member.replid2, member.second_offset) = ("o".to_owned(), 101);
    case.fence(1, 6);
    case.fence(2, 6);
    assert_eq!(recorded(&case.plan()).primary, name(2));
}
