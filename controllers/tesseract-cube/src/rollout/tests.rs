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
        step_down: None,
    }
}

fn unit(ordinal: i32, role: Role) -> UnitFacts {
    UnitFacts {
        ordinal,
        next: "old".to_owned(),
        target: "new".to_owned(),
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

#[test]
fn asks_the_primary_to_hand_over_when_all_others_are_done() {
    let mut units = three();
    restarted(&mut units[1], Some(110), Some(Role::Replica));
    restarted(&mut units[2], Some(110), Some(Role::Replica));
    let decision = rollout(&units, &bounds(), at(120));
    assert_eq!(decision.steps, [Step::HandOver(0)]);

    units[0].pod.as_mut().unwrap().step_down = Some(at(120));
    let decision = rollout(&units, &bounds(), at(130));
    assert_eq!(decision.steps, []);
    assert_eq!(
        decision.waiting,
        Some(Waiting::Handover {
            primary: 0,
            since: Some(at(120)),
            overdue: false
        })
    );
    assert_eq!(decision.again, Some(at(180)));
    let late = rollout(&units, &bounds(), at(181));
    assert_eq!(
        late.steps,
        [],
        "a healthy primary is never restarted before it handed over"
    );
    assert!(matches!(
        late.waiting,
        Some(Waiting::Handover { overdue: true, .. })
    ));

    units[0].pod.as_mut().unwrap().role = Some(Role::Replica);
    units[1].pod.as_mut().unwrap().role = Some(Role::Primary);
    assert_eq!(
        rollout(&units, &bounds(), at(182)).steps,
        [Step::Restart(0)]
    );
}

#[test]
fn takes_back_the_request_when_the_change_is_taken_back() {
    let mut units = three();
    units[0].pod.as_mut().unwrap().step_down = Some(at(120));
    for unit in &mut units {
        unit.target = "old".to_owned();
    }
    assert_eq!(
        rollout(&units, &bounds(), at(130)).steps,
        [Step::KeepRole(0)]
    );
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

/// A set as it may be found: anything old, new, missing, not ready or terminating; at most one primary.
fn any_set() -> impl Strategy<Value = (Vec<UnitFacts>, usize)> {
    let member = (any::<bool>(), 0..5_u8, any::<bool>());
    (
        prop::collection::vec(member, 1..7),
        any::<prop::sample::Index>(),
        any::<bool>(),
        1..4_usize,
    )
        .prop_map(|(members, primary, managed, max)| {
            let primary = primary.index(members.len());
            let units = members
                .iter()
                .enumerate()
                .map(|(i, (written, state, labelled))| {
                    let mut unit = unit(i as i32, Role::Replica);
                    if *written {
                        unit.next = "new".to_owned();
                    }
                    let has_primary = managed && i == primary;
                    let role = if has_primary {
                        Some(Role::Primary)
                    } else {
                        (managed && *labelled).then_some(Role::Replica)
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

/// The world's answer to the steps: pods end and start, servers get ready, roles move, one event per turn.
struct World {
    units: Vec<UnitFacts>,
    managed: bool,
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
            Step::Write(i) => {
                let unit = &mut self.units[*i as usize];
                unit.next.clone_from(&unit.target);
            }
            Step::HandOver(i) => {
                self.units[*i as usize].pod.as_mut().unwrap().step_down = Some(now);
            }
            Step::KeepRole(i) => self.units[*i as usize].pod.as_mut().unwrap().step_down = None,
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
        if !self.managed {
            return false;
        }
        let asked = self
            .units
            .iter()
            .position(|u| u.pod.as_ref().is_some_and(|p| p.step_down.is_some()));
        if let Some(asked) = asked {
            let heir = (0..self.units.len()).find(|i| *i != asked);
            if let Some(heir) = heir {
                self.units[asked].pod.as_mut().unwrap().role = Some(Role::Replica);
                self.units[asked].pod.as_mut().unwrap().step_down = None;
                self.units[heir].pod.as_mut().unwrap().role = Some(Role::Primary);
                return true;
            }
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
        false
    }
}

proptest! {
    #[test]
    fn ends_with_every_unit_updated_and_never_takes_down_too_many((units, max) in any_set()) {
        let bounds = Bounds { max_unavailable: max, ..bounds() };
        let managed = units.iter().any(|u| u.pod.as_ref().is_some_and(|p| p.role.is_some()));
        let mut world = World { units, managed };
        let mut now = 1000;
        for turn in 0.. {
            prop_assert!(turn < 400, "does not end: {:#?}", world.units);
            now += 1;
            let decision = rollout(&world.units, &bounds, at(now));
            let down: BTreeSet<i32> = world.units.iter().filter(|u| !u.serves()).map(|u| u.ordinal).collect();
            let mut taken = down.clone();
            for step in &decision.steps {
                if let Step::Restart(i) = step {
                    let unit = &world.units[*i as usize];
                    if unit.serves() && unit.is_primary() && world.units.len() > 1 {
                        prop_assert!(false, "restarts a primary that serves");
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
            prop_assert!(unit.pod.as_ref().is_none_or(|pod| pod.step_down.is_none()));
        }
    }

    #[test]
    fn deciding_twice_on_the_same_state_decides_the_same((units, max) in any_set()) {
        let bounds = Bounds { max_unavailable: max, ..bounds() };
        prop_assert_eq!(rollout(&units, &bounds, at(5)), rollout(&units, &bounds, at(5)));
    }

    #[test]
    fn a_primary_goes_only_when_all_others_are_done((units, max) in any_set()) {
        let bounds = Bounds { max_unavailable: max, ..bounds() };
        for step in rollout(&units, &bounds, at(5)).steps {
            if let Step::HandOver(i) = step {
                for other in units.iter().filter(|u| u.ordinal != i) {
                    prop_assert!(other.updated() && other.serves(), "{other:?}");
                }
            }
        }
    }
}
