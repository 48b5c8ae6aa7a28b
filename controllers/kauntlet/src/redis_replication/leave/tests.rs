use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::redis_replication::model::{Node, Pod, Role, Seen, Standing};
use crate::redis_replication::plan::{Action, Inputs, Memory, plan};

fn name(index: usize) -> String {
    format!("r-{index}")
}

fn host(index: usize) -> String {
    format!("10.0.0.{index}")
}

/// The id of a member's volume.
fn id(index: usize) -> String {
    format!("volume-{index}")
}

/// A group whose members do at once what they are told.
struct Replication {
    group: Group,
    state: State,
    world: World,
    memory: Memory,
    histories: usize,
}

impl Replication {
    /// `r-0` leads in epoch 5, everybody follows in sync.
    fn of(members: usize) -> Self {
        let mut replication = Self {
            group: Group {
                source: name(0),
                generation: 1,
                ..Group::default()
            },
            state: State {
                epoch: 5,
                primary: Some(name(0)),
                ackers: (1..members).map(name).collect(),
                member_ids: (0..members).map(|index| (name(index), id(index))).collect(),
                source: Some(name(0)),
                ..State::default()
            },
            world: World::default(),
            memory: Memory::default(),
            histories: 0,
        };
        for index in 0..members {
            let node = Node {
                host: host(index),
                port: 6379,
                ..Node::default()
            };
            replication.group.members.insert(name(index), node);
            let leads = index == 0;
            let view = View {
                reachable: true,
                live: if leads { Live::Primary } else { Live::Replica },
                recorded: Some(if leads { Role::Primary } else { Role::Replica }),
                grant_epoch: 5,
                promised: 5,
                standing: if leads {
                    Standing::Continuous
                } else {
                    Standing::Synced
                },
                replid: "h".to_owned(),
                primary_replid: if leads { String::new() } else { "h".to_owned() },
                second_offset: -1,
                offset: 100,
                follows: (if leads { String::new() } else { host(0) }, 6379),
                link_up: !leads,
                online: if leads { members - 1 } else { 0 },
                min_replicas: if leads { i32::from(members >= 3) } else { 1000 },
                aof_intact: true,
                persistence_healthy: true,
                keys: 10,
                member_id: id(index),
                admitted: if leads {
                    (1..members).map(id).collect()
                } else {
                    BTreeSet::new()
                },
                group: if leads {
                    (0..members).map(id).collect()
                } else {
                    BTreeSet::new()
                },
                ..View::default()
            };
            let seen = Seen {
                view: Some(view),
                host: host(index),
                port: 6379,
                pod: Pod {
                    uid: format!("pod-{index}"),
                    ..Pod::default()
                },
                ..Seen::default()
            };
            replication.world.members.insert(name(index), seen);
        }
        replication
    }

    fn seen(&mut self, member: &str) -> &mut Seen {
        self.world.members.get_mut(member).unwrap()
    }

    fn view(&mut self, member: &str) -> &mut View {
        self.seen(member).view.as_mut().unwrap()
    }

    fn ask(&mut self, member: &str) {
        self.seen(member).pod.leave = Some(Leave {
            reason: "RollingUpdate".to_owned(),
            granted: false,
        });
    }

    fn answer(&self, member: &str) -> Option<Answer> {
        answer(&self.group, &self.state, &self.world, member)
    }

    fn refused(&self, member: &str) -> Vec<(&'static str, String)> {
        match self.answer(member) {
            Some(Answer::Refused(missing)) => missing
                .into_iter()
                .map(|fact| (fact.name, fact.member))
                .collect(),
            other => panic!("{member}: {other:?}"),
        }
    }

    fn granted(&self) -> Vec<String> {
        let members = self.world.members.keys();
        let granted = members.filter(|name| self.answer(name) == Some(Answer::Granted));
        granted.cloned().collect()
    }

    fn primary(&self) -> String {
        self.state.primary.clone().unwrap()
    }

    /// One look, one decision, everything of it done; `false` when there was nothing to do.
    fn step(&mut self) -> bool {
        let (group, state, world) = (self.group.clone(), self.state.clone(), self.world.clone());
        self.memory
            .note(&group, &state, &world, Duration::from_millis(100));
        let decision = plan(Inputs {
            group: &group,
            state: &state,
            world: &world,
            memory: &self.memory,
        });
        self.memory.decided(&decision, Duration::from_millis(100));
        let acts = !decision.actions.is_empty();
        for action in decision.actions {
            self.act(action);
        }
        let mut annotated = false;
        for member in world.members.keys() {
            let granted = self.answer(member) == Some(Answer::Granted);
            if let Some(leave) = &mut self.seen(member).pod.leave {
                annotated |= leave.granted != granted;
                leave.granted = granted;
            }
        }
        let leader = self.primary();
        self.view(&leader).online = self
            .world
            .members
            .values()
            .filter(|seen| seen.view.as_ref().is_some_and(|view| view.link_up))
            .count();
        acts || annotated
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Record(change) => change.enter(&mut self.state),
            Action::Promise {
                members,
                besides,
                epoch,
            } => {
                for member in members.iter().chain(&besides) {
                    if let Some(view) = &mut self.seen(member).view {
                        view.promised = view.promised.max(epoch);
                        (view.live, view.link_up, view.paused) = (Live::Parked, false, false);
                    }
                }
            }
            Action::Grant {
                member,
                epoch,
                min_replicas,
                admitted,
                group,
                record_version,
                ..
            } => {
                self.histories += 1;
                let history = format!("h{}", self.histories);
                let view = self.view(&member);
                if view.live != Live::Primary {
                    view.replid2 = std::mem::replace(&mut view.replid, history);
                    view.second_offset = view.offset + 1;
                }
                view.live = Live::Primary;
                view.recorded = Some(Role::Primary);
                view.standing = Standing::Continuous;
                view.min_replicas = min_replicas;
                (view.admitted, view.record_version) = (admitted, record_version);
                view.group = group;
                (view.grant_epoch, view.promised) = (epoch, view.promised.max(epoch));
                (view.link_up, view.paused) = (false, false);
                view.follows = (String::new(), 0);
            }
            Action::Follow {
                member,
                epoch,
                host,
                port,
                replid,
                ..
            } => {
                let leader = self.primary();
                let offset = self.view(&leader).offset;
                let view = self.view(&member);
                view.live = Live::Replica;
                view.recorded = Some(Role::Replica);
                view.standing = Standing::Synced;
                (view.grant_epoch, view.promised) = (epoch, view.promised.max(epoch));
                view.follows = (host, port);
                view.replid.clone_from(&replid);
                view.primary_replid = replid;
                view.offset = offset;
                view.link_up = true;
                view.min_replicas = 1000;
            }
            Action::Pause { member, .. } => self.view(&member).paused = true,
            Action::Resume { member, .. } => self.view(&member).paused = false,
            Action::Await { member, offset, .. } => self.view(&member).offset = offset,
        }
    }

    fn settle(&mut self) {
        for _ in 0..60 {
            if !self.step() {
                return;
            }
        }
        panic!("does not come to rest: {:#?}", self.world);
    }

    /// The pod of a member that was granted goes, and the next one of its name boots: parked, interrupted, with what it promised.
    fn end(&mut self, member: &str) {
        self.seen(member).view = None;
        self.seen(member).pod = Pod {
            present: false,
            ..Pod::default()
        };
    }

    fn boot(&mut self, member: &str, before: View) {
        self.seen(member).pod = Pod {
            uid: format!("{member}-again"),
            ..Pod::default()
        };
        self.seen(member).view = Some(View {
            live: Live::Parked,
            standing: Standing::Interrupted,
            replid: format!("random-{member}"),
            replid2: String::new(),
            link_up: false,
            online: 0,
            paused: false,
            ..before
        });
    }

    /// What must hold at every moment.
    fn check(&self) {
        let granted = self.granted();
        assert!(granted.len() <= 1, "one at a time: {granted:?}");
        let Some(name) = granted.first() else { return };
        if self.group.voters().count() > 1 {
            assert_ne!(*name, self.primary(), "a primary never leaves");
        }
        let vouches = self.group.voters().count() > 2;
        assert!(
            !vouches || !self.state.ackers.contains(name),
            "{name} is an acker that others could stand in for"
        );
        for other in self.group.voters().filter(|other| *other != name) {
            let view = self.world.server(other).expect("everybody else answers");
            if *other == self.primary() {
                assert!(view.leads(self.state.epoch) && !view.paused);
            } else {
                assert!(self.state.ackers.contains(other), "{other} has rejoined");
                assert!(view.live == Live::Replica && view.link_up && !view.syncing);
                assert!(!view.loading);
            }
        }
    }
}

#[test]
fn replica_is_parked_and_shed_before_it_is_granted() {
    let mut replication = Replication::of(3);
    replication.ask("r-2");
    assert_eq!(
        replication.refused("r-2"),
        [("AckerShed", "r-2".to_owned())]
    );
    // off the admitted first, then parked
    replication.step();
    assert_eq!(replication.state.excluded, ["r-2".to_owned()].into());
    replication.step();
    assert_eq!(replication.view("r-2").live, Live::Parked);
    assert!(replication.state.ackers.contains("r-2"));
    replication.settle();
    assert_eq!(replication.state.ackers, ["r-1".to_owned()].into());
    assert_eq!(replication.granted(), ["r-2"]);
    assert_eq!(replication.state.epoch, 5, "the primary was left alone");
}

#[test]
fn acker_is_not_shed_before_another_holds_its_writes() {
    let mut replication = Replication::of(3);
    replication.ask("r-2");
    replication.view("r-0").offset = 150;
    for _ in 0..5 {
        replication.step();
    }
    assert!(replication.state.ackers.contains("r-2"), "r-1 is behind");
    assert_eq!(
        replication.refused("r-2"),
        [("AckerShed", "r-2".to_owned())]
    );
    replication.view("r-1").offset = 150;
    replication.settle();
    assert_eq!(replication.granted(), ["r-2"]);
}

#[test]
fn primary_is_granted_only_after_its_role_moved() {
    let mut replication = Replication::of(3);
    replication.ask("r-0");
    assert_eq!(
        replication.refused("r-0"),
        [("PrimaryMoved", "r-0".to_owned())]
    );
    for _ in 0..60 {
        replication.check();
        if !replication.step() {
            break;
        }
    }
    assert_ne!(replication.primary(), "r-0");
    assert_eq!(replication.granted(), ["r-0"]);
    assert!(!replication.state.ackers.contains("r-0"));
}

#[test]
fn next_one_waits_until_the_one_before_has_rejoined() {
    let mut replication = Replication::of(3);
    replication.ask("r-2");
    replication.settle();
    let before = replication.view("r-2").clone();
    replication.end("r-2");
    replication.ask("r-1");
    assert_eq!(
        replication.refused("r-1"),
        [("MemberReachable", "r-2".to_owned())]
    );
    replication.boot("r-2", before);
    replication.view("r-2").loading = true;
    replication.settle();
    assert_eq!(replication.refused("r-1")[0].0, "MemberInSync", "it loads");
    replication.view("r-2").loading = false;
    replication.step();
    replication.view("r-2").syncing = true;
    replication.view("r-2").link_up = false;
    replication.step();
    assert_eq!(replication.refused("r-1")[0].0, "MemberInSync", "it copies");
    assert!(replication.state.ackers.contains("r-1"));
    replication.view("r-2").syncing = false;
    replication.view("r-2").link_up = true;
    replication.settle();
    assert_eq!(replication.granted(), ["r-1"]);
    assert_eq!(replication.state.ackers, ["r-2".to_owned()].into());
}

#[test]
fn two_members_keep_their_only_acker_on_record() {
    let mut replication = Replication::of(2);
    replication.ask("r-1");
    replication.settle();
    assert_eq!(replication.granted(), ["r-1"]);
    assert_eq!(replication.state.ackers, ["r-1".to_owned()].into());
    assert_eq!(replication.view("r-1").live, Live::Replica, "not parked");
}

#[test]
fn single_member_may_always_leave() {
    let mut replication = Replication::of(1);
    replication.ask("r-0");
    replication.settle();
    assert_eq!(replication.granted(), ["r-0"]);
}

#[test]
fn request_that_is_taken_back_brings_the_member_back() {
    let mut replication = Replication::of(3);
    replication.ask("r-2");
    replication.settle();
    replication.seen("r-2").pod.leave = None;
    replication.settle();
    assert_eq!(replication.state.ackers.len(), 2);
    assert_eq!(replication.view("r-2").live, Live::Replica);
    assert_eq!(replication.primary(), "r-0", "the primary goes on");
}

#[test]
fn grant_is_revoked_when_another_member_fails() {
    let mut replication = Replication::of(3);
    replication.ask("r-2");
    replication.settle();
    assert_eq!(replication.granted(), ["r-2"]);
    replication.view("r-1").link_up = false;
    replication.step();
    assert_eq!(replication.granted(), [] as [&str; 0]);
    replication.view("r-1").link_up = true;
    replication.settle();
    assert_eq!(replication.granted(), ["r-2"]);
}

#[test]
fn refusals_name_what_is_missing() {
    let facts = |change: &dyn Fn(&mut Replication)| {
        let mut replication = Replication::of(3);
        replication.ask("r-2");
        change(&mut replication);
        replication.refused("r-2")
    };
    let about = |name: &'static str, member: usize| vec![(name, self::name(member))];
    assert_eq!(facts(&|r| r.group.skip = true), about("TopologyManaged", 2));
    assert_eq!(
        facts(&|r| r.view("r-0").paused = true),
        about("PrimaryLeads", 0)
    );
    assert_eq!(
        facts(&|r| r.view("r-0").reachable = false),
        about("PrimaryLeads", 0)
    );
    assert_eq!(
        facts(&|r| r.seen("r-1").view = None),
        about("MemberReachable", 1)
    );
    assert_eq!(
        facts(&|r| r.view("r-1").link_up = false),
        about("MemberInSync", 1)
    );
    assert_eq!(
        facts(&|r| r.view("r-0").offset = 1 << 40),
        about("MemberInSync", 1)
    );
    assert_eq!(
        facts(&|r| r.view("r-1").persistence_healthy = false),
        about("MemberInSync", 1)
    );
    assert_eq!(
        facts(&|r| r.seen("r-1").pod.leaving = true),
        about("MemberStays", 1)
    );
    assert_eq!(
        facts(&|r| r.seen("r-0").pod.leaving = true),
        about("MemberStays", 0)
    );
    let not_recorded = facts(&|r| {
        r.state.ackers.remove("r-1");
    });
    assert_eq!(not_recorded, about("MemberIsAcker", 1));
    let unset = facts(&|r| r.state.primary = None);
    assert_eq!(unset, [("PrimaryLeads", String::new())]);
}

#[test]
fn condition_says_who_waits_for_what() {
    let mut replication = Replication::of(3);
    let conditions = |replication: &Replication| {
        let mut conditions = Vec::new();
        condition(
            &mut conditions,
            &replication.group,
            &replication.state,
            &replication.world,
            Timestamp::UNIX_EPOCH,
        );
        conditions
    };
    assert!(conditions(&replication).is_empty());
    replication.ask("r-2");
    replication.view("r-1").syncing = true;
    let said = conditions(&replication).remove(0);
    assert_eq!(
        (said.status.as_str(), said.reason.as_str()),
        ("False", "MemberInSync")
    );
    assert!(
        said.message.contains("r-2 may not leave yet"),
        "{}",
        said.message
    );
    replication.view("r-1").syncing = false;
    replication.settle();
    let said = conditions(&replication).remove(0);
    assert_eq!(
        (said.status.as_str(), said.reason.as_str()),
        ("True", "Granted")
    );
}

#[test]
fn removed_member_off_the_record_may_leave() {
    let mut replication = Replication::of(4);
    replication.group.members.get_mut("r-3").unwrap().removed = true;
    replication.ask("r-3");
    replication.view("r-1").link_up = false;
    assert!(replication.granted().is_empty(), "it may have acknowledged");
    replication.view("r-1").link_up = true;
    replication.settle();
    assert!(!replication.state.ackers.contains("r-3"));
    replication.view("r-1").link_up = false;
    assert_eq!(replication.granted(), ["r-3"], "the group would not notice");
}

/// What may happen to a member between two looks.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Asks,
    TakesBack,
    GoesWhenGranted,
    LosesItsLink,
    FindsItsLink,
    Nothing,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => Just(Happens::Asks),
        1 => Just(Happens::TakesBack),
        3 => Just(Happens::GoesWhenGranted),
        1 => Just(Happens::LosesItsLink),
        2 => Just(Happens::FindsItsLink),
        4 => Just(Happens::Nothing),
    ]
}

proptest! {
    #[test]
    fn at_most_one_leaves_and_everybody_else_is_in_place(
        members in 2..6_usize,
        script in prop::collection::vec((happens(), 0..6_usize), 1..60),
    ) {
        let mut replication = Replication::of(members);
        let mut gone: BTreeMap<String, View> = BTreeMap::new();
        for (what, whom) in script {
            let member = name(whom % members);
            let there = !gone.contains_key(&member);
            match what {
                Happens::Asks if there && replication.seen(&member).pod.leave.is_none() => {
                    replication.ask(&member);
                }
                Happens::TakesBack if there => replication.seen(&member).pod.leave = None,
                Happens::GoesWhenGranted if there && replication.granted().contains(&member) => {
                    let before = replication.view(&member).clone();
                    replication.end(&member);
                    gone.insert(member, before);
                }
                Happens::GoesWhenGranted if !there => {
                    let before = gone.remove(&member).unwrap();
                    replication.boot(&member, before);
                }
                Happens::LosesItsLink if there && member != replication.primary() => {
                    replication.view(&member).link_up = false;
                }
                Happens::FindsItsLink if there => {
                    let view = replication.view(&member);
                    view.link_up = view.live == Live::Replica;
                }
                Happens::Asks
                | Happens::TakesBack
                | Happens::GoesWhenGranted
                | Happens::LosesItsLink
                | Happens::FindsItsLink
                | Happens::Nothing => {}
            }
            replication.check();
            replication.step();
            replication.check();
            prop_assert!(gone.len() <= 1, "nobody goes before the one before is back: {gone:?}");
        }
    }

    #[test]
    fn everybody_who_asks_leaves_and_comes_back(members in 1..6_usize, asking in any::<u8>()) {
        let mut replication = Replication::of(members);
        let mut left: BTreeSet<String> =
            (0..members).filter(|index| asking >> index & 1 == 1).map(name).collect();
        for member in left.clone() {
            replication.ask(&member);
        }
        for _ in 0..200 {
            replication.check();
            let moved = replication.step();
            if let [member] = &replication.granted()[..] {
                let member = member.clone();
                let before = replication.view(&member).clone();
                left.remove(&member);
                if members == 1 {
                    break;
                }
                replication.end(&member);
                replication.step();
                replication.boot(&member, before);
            } else if !moved {
                break;
            }
        }
        prop_assert!(left.is_empty(), "never granted: {left:?}");
        if members > 1 {
            prop_assert_eq!(replication.state.ackers.len(), members - 1, "all rejoined");
        }
    }

    #[test]
    fn same_view_and_requests_give_the_same_answers(members in 1..6_usize, asking in any::<u8>()) {
        let mut replication = Replication::of(members);
        for index in (0..members).filter(|index| asking >> index & 1 == 1) {
            replication.ask(&name(index));
        }
        for index in 0..members {
            let member = name(index);
            prop_assert_eq!(replication.answer(&member), replication.answer(&member));
            let asked = asking >> index & 1 == 1;
            prop_assert_eq!(replication.answer(&member).is_some(), asked);
        }
    }
}
