use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(revision: &str, role: Option<Role>) -> PodFacts {
    PodFacts {
        revision: revision.to_owned(),
        ready_since: Some(at(0)),
        ends: None,
        created: at(0),
        role,
        leave: None,
    }
}

fn unit(ordinal: i32, role: Role) -> UnitFacts {
    UnitFacts {
        ordinal,
        next: "old".to_owned(),
        target: "new".to_owned(),
        gated: false,
        maintenance: false,
        drained: false,
        pod: Some(pod("old", Some(role))),
    }
}

/// Unit 0 is the primary of three.
fn three() -> Vec<UnitFacts> {
    vec![
        unit(0, Role::Primary),
        unit(1, Role::Replica),
        unit(2, Role::Replica),
    ]
}

fn bounds() -> Bounds {
    Bounds {
        partition: 0,
        max_unavailable: 1,
        progress_deadline: SignedDuration::from_mins(10),
        on_delete: false,
    }
}

fn restarted(unit: &mut UnitFacts, ready: Option<i64>, role: Option<Role>) {
    unit.next.clone_from(&unit.target);
    unit.pod = Some(PodFacts {
        ready_since: ready.map(at),
        created: at(100),
        ..pod("new", role)
    });
}

#[test]
fn begins_with_the_highest_replica_and_then_waits_for_it() {
    let mut units = three();
    assert_eq!(
        rollout(&units, &bounds(), at(100)).steps,
        [Step::Restart(2)]
    );
    restarted(&mut units[2], None, None);
    let decision = rollout(&units, &bounds(), at(110));
    assert_eq!(
        (decision.steps, decision.waiting),
        (vec![], Some(Waiting::Settling(vec![2])))
    );
}

#[test]
fn waits_for_the_role_but_not_for_ever() {
    let mut units = three();
    restarted(&mut units[2], Some(110), None);
    assert_eq!(rollout(&units, &bounds(), at(120)).steps, []);
    assert_eq!(rollout(&units, &bounds(), at(120)).again, Some(at(170)));
    assert_eq!(
        rollout(&units, &bounds(), at(170)).steps,
        [Step::Restart(1)]
    );
    restarted(&mut units[2], Some(110), Some(Role::Replica));
    assert_eq!(
        rollout(&units, &bounds(), at(111)).steps,
        [Step::Restart(1)]
    );
}

/// The same three, named by a topology.
fn gated() -> Vec<UnitFacts> {
    let mut units = three();
    for unit in &mut units {
        unit.gated = true;
    }
    units
}

fn asked(unit: &mut UnitFacts, since: i64, granted: bool) {
    unit.pod.as_mut().unwrap().leave = Some(Leave {
        since: at(since),
        granted,
    });
}

fn waits_for(ordinal: i32, since: Option<i64>, overdue: bool) -> Waiting {
    Waiting::Leave {
        units: vec![ordinal],
        since: since.map(at),
        overdue,
    }
}

#[test]
fn gated_replica_is_asked_for_and_restarted_when_granted() {
    let mut units = gated();
    let decision = rollout(&units, &bounds(), at(100));
    assert_eq!(decision.steps, [Step::Ask(2, Why::Update)]);
    assert_eq!(decision.waiting, Some(waits_for(2, None, false)));
    asked(&mut units[2], 100, false);
    let decision = rollout(&units, &bounds(), at(110));
    assert_eq!(decision.steps, [], "asked once");
    assert_eq!(decision.waiting, Some(waits_for(2, Some(100), false)));
    assert_eq!(decision.again, Some(at(160)));
    let late = rollout(&units, &bounds(), at(161));
    assert_eq!(late.steps, [], "it serves: it is not restarted before");
    assert_eq!(late.waiting, Some(waits_for(2, Some(100), true)));
    asked(&mut units[2], 100, true);
    assert_eq!(
        rollout(&units, &bounds(), at(170)).steps,
        [Step::Restart(2)]
    );
}

#[test]
fn gated_primary_is_asked_for_last_and_only_when_others_serve() {
    let mut units = gated();
    restarted(&mut units[1], Some(110), Some(Role::Replica));
    restarted(&mut units[2], None, None);
    assert_eq!(rollout(&units, &bounds(), at(120)).steps, []);
    restarted(&mut units[2], Some(110), Some(Role::Replica));
    let decision = rollout(&units, &bounds(), at(120));
    assert_eq!(decision.steps, [Step::Ask(0, Why::Update)]);

    asked(&mut units[0], 120, false);
    let late = rollout(&units, &bounds(), at(181));
    assert_eq!(late.steps, [], "never before its role moved");
    assert_eq!(late.waiting, Some(waits_for(0, Some(120), true)));

    units[0].pod.as_mut().unwrap().role = Some(Role::Replica);
    units[1].pod.as_mut().unwrap().role = Some(Role::Primary);
    assert_eq!(rollout(&units, &bounds(), at(182)).steps, [], "moved, held");
    asked(&mut units[0], 120, true);
    assert_eq!(
        rollout(&units, &bounds(), at(183)).steps,
        [Step::Restart(0)]
    );
}

#[test]
fn gated_unit_that_does_not_serve_is_exempt() {
    let mut units = gated();
    units[1].pod.as_mut().unwrap().ready_since = None;
    asked(&mut units[2], 90, true);
    assert_eq!(
        rollout(&units, &bounds(), at(100)).steps,
        [Step::Restart(1), Step::TakeBack(2)],
        "and nobody else goes meanwhile"
    );
}

#[test]
fn primary_that_does_not_serve_is_asked_for_while_others_do() {
    let mut units = gated();
    for replica in &mut units[1..] {
        restarted(replica, Some(10), Some(Role::Replica));
    }
    units[0].pod.as_mut().unwrap().ready_since = None;
    let steps = rollout(&units, &bounds(), at(200)).steps;
    assert_eq!(steps, [Step::Ask(0, Why::Update)]);
}

#[test]
fn single_gated_unit_is_asked_for_too() {
    let mut units = gated();
    units.truncate(1);
    let steps = rollout(&units, &bounds(), at(100)).steps;
    assert_eq!(steps, [Step::Ask(0, Why::Update)]);
    asked(&mut units[0], 100, true);
    assert_eq!(
        rollout(&units, &bounds(), at(101)).steps,
        [Step::Restart(0)]
    );
}

#[test]
fn takes_back_the_request_when_the_change_is_taken_back() {
    let mut units = gated();
    asked(&mut units[0], 120, true);
    for unit in &mut units {
        unit.target = "old".to_owned();
    }
    assert_eq!(
        rollout(&units, &bounds(), at(130)).steps,
        [Step::TakeBack(0)]
    );
}

#[test]
fn without_a_gatekeeper_the_primary_restarts_last_in_place() {
    let mut units = three();
    restarted(&mut units[1], Some(110), Some(Role::Replica));
    restarted(&mut units[2], Some(110), Some(Role::Replica));
    assert_eq!(
        rollout(&units, &bounds(), at(120)).steps,
        [Step::Restart(0)]
    );
}

#[test]
fn unit_in_maintenance_is_neither_restarted_nor_asked_for() {
    for mut units in [three(), gated()] {
        units[2].maintenance = true;
        let goes = rollout(&units, &bounds(), at(100)).steps;
        assert!(
            goes == [Step::Restart(1)] || goes == [Step::Ask(1, Why::Update)],
            "{goes:?}"
        );
        for done in 0..2 {
            let role = [Role::Primary, Role::Replica][done];
            restarted(&mut units[done], Some(110), Some(role));
        }
        let decision = rollout(&units, &bounds(), at(120));
        assert_eq!(
            (decision.steps, decision.waiting),
            (vec![], Some(Waiting::Maintenance(vec![2])))
        );
        asked(&mut units[2], 100, true);
        let steps = rollout(&units, &bounds(), at(120)).steps;
        assert_eq!(steps, [Step::TakeBack(2)]);
        units[2].pod = None;
        units[1].target = "newer".to_owned();
        assert_eq!(
            rollout(&units, &bounds(), at(120)).waiting,
            Some(Waiting::Unavailable(vec![2])),
            "and while it is away nobody else goes"
        );
    }
}

#[test]
fn drained_units_are_asked_for_one_by_one_the_primary_last() {
    let mut units = gated();
    for unit in &mut units {
        unit.target = "old".to_owned();
        unit.drained = true;
    }
    let decision = rollout(&units, &bounds(), at(100));
    assert_eq!(decision.steps, [Step::Ask(2, Why::Drain)]);
    asked(&mut units[2], 100, true);
    assert_eq!(rollout(&units, &bounds(), at(101)).steps, [Step::Move(2)]);
    units[2].pod = None;
    units[1].drained = false;
    let decision = rollout(&units, &bounds(), at(102));
    assert_eq!(decision.steps, [Step::Ask(0, Why::Drain)]);
    asked(&mut units[0], 102, false);
    units[0].drained = false;
    assert_eq!(
        rollout(&units, &bounds(), at(103)).steps,
        [Step::TakeBack(0)],
        "the node takes pods again"
    );
}

#[test]
fn drains_leave_alone_whom_nobody_keeps_or_a_person_holds() {
    let mut units = three();
    for unit in &mut units {
        unit.target = "old".to_owned();
        unit.drained = true;
    }
    assert_eq!(rollout(&units, &bounds(), at(100)).steps, []);
    let mut units = gated();
    units.truncate(1);
    units[0].target = "old".to_owned();
    (units[0].drained, units[0].maintenance) = (true, true);
    assert_eq!(rollout(&units, &bounds(), at(100)).steps, []);
}

#[test]
fn drain_of_a_set_that_users_update_keeps_the_template() {
    let mut units = gated();
    units[2].drained = true;
    asked(&mut units[2], 100, true);
    let by_user = Bounds {
        on_delete: true,
        ..bounds()
    };
    let steps = rollout(&units, &by_user, at(100)).steps;
    assert!(steps.contains(&Step::Move(2)), "{steps:?}");
    assert!(!steps.contains(&Step::Restart(2)), "{steps:?}");
}

#[test]
fn restarts_a_single_member_in_place() {
    let units = vec![unit(0, Role::Primary)];
    assert_eq!(
        rollout(&units, &bounds(), at(100)).steps,
        [Step::Restart(0)]
    );
}

#[test]
fn takes_nobody_down_while_another_is_not_ready_but_repairs_that_one() {
    let mut units = three();
    units[1].pod.as_mut().unwrap().ready_since = None;
    assert_eq!(
        rollout(&units, &bounds(), at(100)).steps,
        [Step::Restart(1)]
    );
    units[1].next = "new".to_owned();
    units[1].pod = None;
    let decision = rollout(&units, &bounds(), at(100));
    assert_eq!(
        (decision.steps, decision.waiting),
        (vec![], Some(Waiting::Settling(vec![1])))
    );
}

#[test]
fn stops_at_the_progress_deadline_and_goes_on_with_a_corrected_change() {
    let mut units = three();
    restarted(&mut units[2], None, None);
    let decision = rollout(&units, &bounds(), at(701));
    assert_eq!(
        (decision.steps, decision.waiting),
        (vec![], Some(Waiting::Stuck(vec![2])))
    );
    for unit in &mut units {
        unit.target = "better".to_owned();
    }
    assert_eq!(
        rollout(&units, &bounds(), at(702)).steps,
        [Step::Restart(2)]
    );
}

#[test]
fn honours_partition_max_unavailable_and_on_delete() {
    let units = three();
    let parted = Bounds {
        partition: 2,
        ..bounds()
    };
    assert_eq!(rollout(&units, &parted, at(100)).steps, [Step::Restart(2)]);
    let two = Bounds {
        max_unavailable: 2,
        ..bounds()
    };
    assert_eq!(
        rollout(&units, &two, at(100)).steps,
        [Step::Restart(2), Step::Restart(1)]
    );
    let by_user = Bounds {
        on_delete: true,
        ..bounds()
    };
    let decision = rollout(&units, &by_user, at(100));
    assert_eq!(
        decision.steps,
        [Step::Write(0), Step::Write(1), Step::Write(2)]
    );
    assert_eq!(decision.waiting, Some(Waiting::User(vec![0, 1, 2])));
}

#[test]
fn finishes_a_restart_that_a_crash_interrupted() {
    let mut units = three();
    units[2].next = "new".to_owned();
    let decision = rollout(&units, &bounds(), at(100));
    assert_eq!(decision.steps, [Step::Restart(2)]);
}

#[test]
fn keeps_to_its_bounds_when_the_user_no_longer_deletes_the_pods_himself() {
    let mut units = three();
    for unit in &mut units {
        unit.next.clone_from(&unit.target);
    }
    assert_eq!(
        rollout(&units, &bounds(), at(100)).steps,
        [Step::Restart(2)]
    );
}

#[test]
fn stops_the_replicas_before_the_primary() {
    let mut units = three();
    assert_eq!(power(&units, false, at(0)).on, [0]);
    units[1].pod = None;
    units[2].pod.as_mut().unwrap().ends = Some(at(60));
    assert_eq!(
        power(&units, false, at(70)),
        Power {
            on: vec![0],
            again: Some(at(360))
        }
    );
    assert_eq!(
        power(&units, false, at(360)).on,
        Vec::<i32>::new(),
        "a lost node does not keep the primary running"
    );
    units[2].pod = None;
    assert!(power(&units, false, at(70)).on.is_empty());
    assert_eq!(power(&units, true, at(70)).on, [0, 1, 2]);
}

/// A set as it may be found: anything old, new, missing, not ready or terminating; at most one primary; named by a topology or not.
fn any_set() -> impl Strategy<Value = (Vec<UnitFacts>, usize)> {
    let member = (any::<bool>(), 0..5_u8, any::<bool>(), any::<bool>());
    (
        prop::collection::vec(member, 1..7),
        any::<prop::sample::Index>(),
        any::<bool>(),
        1..4_usize,
    )
        .prop_map(|(members, primary, gated, max)| {
            let primary = primary.index(members.len());
            let units =
                members
                    .iter()
                    .enumerate()
                    .map(|(i, (written, state, labelled, drained))| {
                        let mut unit = unit(i as i32, Role::Replica);
                        (unit.gated, unit.drained) = (gated, *drained);
                        if *written {
                            unit.next = "new".to_owned();
                        }
                        let has_primary = gated && i == primary;
                        let role = if has_primary {
                            Some(Role::Primary)
                        } else {
                            (gated && *labelled).then_some(Role::Replica)
                        };
                        let revision = if *written && state % 2 == 0 {
                            "new"
                        } else {
                            "old"
                        };
                        let pod = pod(revision, role);
                        unit.pod = match state {
                            0 | 1 => Some(pod),
                            2 => Some(PodFacts {
                                ready_since: None,
                                ..pod
                            }),
                            3 => Some(PodFacts {
                                ends: Some(at(30)),
                                ..pod
                            }),
                            _ => None,
                        };
                        unit
                    });
            (units.collect(), max)
        })
}

/// The world's answer to the steps: pods end and start, servers get ready, roles move, requests are granted, one event per turn.
struct World {
    units: Vec<UnitFacts>,
    gated: bool,
}

impl World {
    fn apply(&mut self, step: &Step, now: Timestamp) {
        match step {
            Step::Restart(i) => {
                let unit = &mut self.units[*i as usize];
                unit.next.clone_from(&unit.target);
                if let Some(pod) = unit.pod.as_mut().filter(|pod| pod.revision != unit.target) {
                    pod.ends.get_or_insert(now);
                }
            }
            Step::Move(i) => {
                let unit = &mut self.units[*i as usize];
                unit.pod.as_mut().unwrap().ends.get_or_insert(now);
            }
            Step::Write(i) => {
                let unit = &mut self.units[*i as usize];
                unit.next.clone_from(&unit.target);
            }
            Step::Ask(i, _) => {
                let leave = Leave {
                    since: now,
                    granted: false,
                };
                self.units[*i as usize].pod.as_mut().unwrap().leave = Some(leave);
            }
            Step::TakeBack(i) => self.units[*i as usize].pod.as_mut().unwrap().leave = None,
        }
    }

    /// One thing happens; `false` when nothing is left to happen.
    fn turn(&mut self, now: Timestamp) -> bool {
        if let Some(unit) = self
            .units
            .iter_mut()
            .find(|u| u.pod.as_ref().is_some_and(PodFacts::terminating))
        {
            unit.pod = None;
            return true;
        }
        if let Some(unit) = self.units.iter_mut().find(|u| u.pod.is_none()) {
            // on another node
            unit.drained = false;
            unit.pod = Some(PodFacts {
                ready_since: None,
                created: now,
                ..pod(&unit.next, None)
            });
            return true;
        }
        if let Some(pod) = self
            .units
            .iter_mut()
            .filter_map(|u| u.pod.as_mut())
            .find(|p| p.ready_since.is_none())
        {
            pod.ready_since = Some(now);
            return true;
        }
        if !self.gated {
            // evicted
            let drained = self.units.iter_mut().find(|unit| unit.drained);
            return drained.is_some_and(|unit| {
                unit.pod.as_mut().unwrap().ends = Some(now);
                true
            });
        }
        let primary = self.units.iter().any(UnitFacts::is_primary);
        if let Some(pod) = self
            .units
            .iter_mut()
            .filter_map(|u| u.pod.as_mut())
            .find(|p| p.role.is_none())
        {
            pod.role = Some(if primary {
                Role::Replica
            } else {
                Role::Primary
            });
            return true;
        }
        self.gatekeeper()
    }

    /// Everybody has its part: one who asks is let go, a primary after its role moved.
    fn gatekeeper(&mut self) -> bool {
        let one = |leave: &Leave| !leave.granted;
        let Some(asked) = self
            .units
            .iter()
            .position(|u| u.leave().as_ref().is_some_and(one))
        else {
            return false;
        };
        if self
            .units
            .iter()
            .any(|u| u.leave().is_some_and(|leave| leave.granted))
        {
            return false;
        }
        let heir = (0..self.units.len()).find(|i| *i != asked);
        if let Some(heir) = heir.filter(|_| self.units[asked].is_primary()) {
            self.units[asked].pod.as_mut().unwrap().role = Some(Role::Replica);
            self.units[heir].pod.as_mut().unwrap().role = Some(Role::Primary);
        } else {
            let pod = self.units[asked].pod.as_mut().unwrap();
            pod.leave.as_mut().unwrap().granted = true;
        }
        true
    }
}

proptest! {
    #[test]
    fn ends_with_every_unit_updated_and_never_takes_down_too_many((units, max) in any_set()) {
        let bounds = Bounds { max_unavailable: max, ..bounds() };
        let gated = units[0].gated;
        let mut world = World { units, gated };
        let mut now = 1000;
        for turn in 0.. {
            prop_assert!(turn < 600, "does not end: {:#?}", world.units);
            now += 1;
            let decision = rollout(&world.units, &bounds, at(now));
            let down: BTreeSet<i32> = world.units.iter().filter(|u| !u.serves()).map(|u| u.ordinal).collect();
            let mut taken = down.clone();
            for step in &decision.steps {
                if let Step::Restart(i) | Step::Move(i) = step {
                    let unit = &world.units[*i as usize];
                    if unit.serves() && unit.gated {
                        prop_assert!(unit.leave().is_some_and(|leave| leave.granted), "not let go: {unit:?}");
                        prop_assert!(!unit.is_primary() || world.units.len() == 1);
                    }
                    taken.insert(*i);
                }
            }
            prop_assert!(
                taken.len() <= max.max(down.len()),
                "{} down, {} taken down, {max} allowed", down.len(), taken.len() - down.len()
            );
            for step in &decision.steps {
                world.apply(step, at(now));
            }
            let moved = world.turn(at(now));
            if decision.steps.is_empty() && !moved {
                break;
            }
        }
        for unit in &world.units {
            prop_assert!(unit.updated(), "{unit:?}");
            prop_assert!(!unit.drained, "{unit:?}");
            prop_assert!(unit.pod.as_ref().is_none_or(|pod| pod.leave.is_none()));
        }
    }

    #[test]
    fn deciding_twice_on_the_same_state_decides_the_same((units, max) in any_set()) {
        let bounds = Bounds { max_unavailable: max, ..bounds() };
        prop_assert_eq!(rollout(&units, &bounds, at(5)), rollout(&units, &bounds, at(5)));
    }

    #[test]
    fn a_primary_is_asked_for_only_when_all_others_are_done((units, max) in any_set()) {
        let bounds = Bounds { max_unavailable: max, ..bounds() };
        for step in rollout(&units, &bounds, at(5)).steps {
            if let Step::Ask(i, Why::Update) = step
                && units[i as usize].is_primary()
            {
                for other in units.iter().filter(|u| u.ordinal != i) {
                    prop_assert!(other.updated() && other.serves(), "{other:?}");
                }
            }
        }
    }
}
