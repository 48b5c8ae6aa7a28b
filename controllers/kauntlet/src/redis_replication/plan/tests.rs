use std::collections::BTreeMap;

use super::*;
use crate::redis_replication::election::Evidence;
use crate::redis_replication::model::{Acceptance, Leave, Node, Request, Role, Seen};

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
    // a change of the primary would begin the copy anew
    assert_eq!(refused(&|case| case.view(1).syncing = true), "CopyUnderWay");
}

#[test]
fn answers_a_request_once() {
    let mut case = healthy();
    case.group.request = Some(Request {
        id: "a".to_owned(),
        target: name(2),
        expected_epoch: Some(5),
    });
    case.state.answered = ["a".to_owned()].into();
    assert!(case.plan().actions.is_empty());
}

#[test]
fn move_for_a_leave_does_not_bring_an_answered_request_back() {
    let mut answered = BTreeSet::new();
    for id in ["a", "source/r-1/3", "leave/pod-1/Restart"] {
        answered = switchover::answer(&answered, id);
    }
    assert_eq!(answered, ["a".to_owned(), "source/r-1/3".to_owned()].into());
    answered = switchover::answer(&answered, "b");
    assert_eq!(answered, ["b".to_owned(), "source/r-1/3".to_owned()].into());
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
    recorded(&decision).enter(&mut case.state);
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

fn facts(decision: &Decision) -> Vec<(&str, &str)> {
    decision
        .missing
        .iter()
        .map(|fact| (fact.name, fact.member.as_str()))
        .collect()
}

mod losses;
mod volumes;
