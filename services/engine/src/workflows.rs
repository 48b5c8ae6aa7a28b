//! The plans that all engines share: which steps, in which order. Engines add their words and their pace. Pure.

use std::time::Duration;

use crate::{
    desired::{MAIN, PoolPatch, RetainedVolumes, Switchover, TopologyPatch, Units, Volumes},
    intent::Part,
    names::ServiceName,
    plan::{OnFailure, Plan},
    service::Life,
    steps::{Action, Call, Check, Effect, Step, Undo},
};

/// How long things take with an engine, and what it is called.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For people, for example `Redis`.
    pub title: &'static str,
    /// From nothing to a server that answers.
    pub unit_ready: Duration,
    /// A restart of one unit, until it follows again.
    pub unit_restart: Duration,
    /// From a running server to a member that follows.
    pub link: Duration,
    /// A planned change of the primary.
    pub switchover: Duration,
    /// From asking to gone.
    pub removal: Duration,
}

const WRITE: Duration = Duration::from_millis(300);
const MINUTE: Duration = Duration::from_mins(1);

/// Makes a service with these units.
pub fn create(
    pace: &Pace,
    name: &ServiceName,
    cluster: &str,
    units: &Units,
    retained: RetainedVolumes,
) -> Plan {
    let service = &name.service;
    let volumes = match retained {
        RetainedVolumes::Refuse => "new volumes",
        RetainedVolumes::Adopt => "the volumes that an earlier service left",
        RetainedVolumes::Discard => {
            "new volumes in place of those that an earlier service left, which are removed"
        }
    };
    let mut plan = Plan::new("create", 30 * MINUTE, OnFailure::Keep)
        .then(
            Step::new(
                "ReserveService",
                Action::Reserve {
                    units: units.values().sum(),
                    before: None,
                },
            ),
            WRITE,
            format!(
                "record {service} at project {} and count its quota",
                name.project
            ),
        )
        .then(
            Step::new(
                "ApplyProject",
                Action::ApplyShared {
                    part: Part::Project,
                },
            ),
            WRITE,
            format!("write namespace {} to cluster {cluster}", name.project),
        )
        .then(
            Step::new(
                "ApplyPackage",
                Action::ApplyShared {
                    part: Part::Package,
                },
            ),
            WRITE,
            "write the software package to the cluster",
        );
    for (pool, units) in units {
        let patch = PoolPatch {
            retained: Some(retained),
            ..PoolPatch::units(*units)
        };
        plan = plan.then(
            apply("ApplyUnitSet", pool, patch, Undo::Remove),
            WRITE,
            format!("write {units} units{} with {volumes}", of(pool)),
        );
    }
    for (pool, units) in units {
        plan = plan.then(
            units_ready("AwaitUnitsReady", pool),
            pace.unit_ready,
            format!(
                "wait until {units} {} servers{} answer",
                pace.title,
                of(pool)
            ),
        );
    }
    for pool in units.keys() {
        let patch = PoolPatch {
            retained: Some(RetainedVolumes::Adopt),
            ..PoolPatch::default()
        };
        plan = plan.then(
            apply("ClaimVolumes", pool, patch, Undo::Nothing),
            WRITE,
            format!("note that the volumes{} are this service's", of(pool)),
        );
    }
    let topology = TopologyPatch {
        served: true,
        // volumes that were kept have data: all empty would mean that they are gone
        begun: retained == RetainedVolumes::Adopt,
        ..TopologyPatch::members(units.clone())
    };
    let begun = TopologyPatch {
        begun: true,
        ..TopologyPatch::default()
    };
    plan.then(
        apply_topology("ApplyReplication", topology, Undo::Remove),
        WRITE,
        "write who is the primary and who follows",
    )
    .then(
        wait("AwaitReplicationReady", Check::TopologyReady),
        pace.link,
        "wait until there is a primary and every replica follows it",
    )
    .then(
        wait("VerifyWrites", Check::Writable),
        WRITE,
        "check that the service takes writes",
    )
    .then(
        apply_topology("ForbidEmptyBeginning", begun, Undo::Nothing),
        WRITE,
        "write that members without their data are never served empty",
    )
    .then(
        mark("MarkReady", Effect::Life(Life::Active)),
        WRITE,
        "open the service",
    )
    .point_of_no_return()
}

/// Deletes a service with these units.
pub fn delete(pace: &Pace, name: &ServiceName, units: &Units, volumes: Volumes) -> Plan {
    let fate = match volumes {
        Volumes::Retain => "stay",
        Volumes::Delete => "are removed with the units",
    };
    let mut plan = Plan::new("delete", 30 * MINUTE, OnFailure::Keep);
    for pool in units.keys() {
        let back = Undo::Patch(PoolPatch::volumes(Volumes::Retain));
        plan = plan.then(
            apply("ApplyVolumePolicy", pool, PoolPatch::volumes(volumes), back),
            WRITE,
            format!("write that the volumes{} {fate}", of(pool)),
        );
    }
    for pool in units.keys() {
        let check = Check::PoolApplied { pool: pool.clone() };
        plan = plan.then(
            Step::of_pool("AwaitVolumePolicy", pool, Action::Await { check }),
            WRITE,
            "wait until the cluster knows that",
        );
    }
    plan = plan
        .then(
            Step::new(
                "DeleteReplication",
                Action::Delete {
                    part: Part::Topology,
                },
            ),
            WRITE,
            "remove the replication and the routes of clients",
        )
        .point_of_no_return()
        .then(
            Step::new(
                "AwaitReplicationGone",
                Action::Gone {
                    part: Part::Topology,
                },
            ),
            pace.removal / 2,
            "wait until they are gone",
        );
    for (pool, units) in units {
        let part = Part::Pool(pool.clone());
        plan = plan
            .then(
                Step::of_pool("DeleteUnitSet", pool, Action::Delete { part: part.clone() }),
                WRITE,
                format!("stop and remove {units} units{}", of(pool)),
            )
            .then(
                Step::of_pool("AwaitUnitSetGone", pool, Action::Gone { part }),
                pace.removal,
                "wait until they are gone",
            );
    }
    plan.then(
        Step::new("ReleaseService", Action::Release),
        WRITE,
        format!("end the record at project {}", name.project),
    )
    .then(
        mark("ForgetService", Effect::Depart),
        WRITE,
        match volumes {
            Volumes::Retain => "keep in mind that volumes are left",
            Volumes::Delete => "forget the service",
        },
    )
}

/// Restarts all units, one after the other. `at` is RFC 3339, and different from that of every earlier restart. A cancel leaves those as
/// they are that were not restarted yet.
pub fn restart(pace: &Pace, units: &Units, at: &str) -> Plan {
    let mark = |at: &str| PoolPatch {
        restarted_at: Some(at.to_owned()),
        ..PoolPatch::default()
    };
    let mut plan = Plan::new("restart", 60 * MINUTE, OnFailure::Keep);
    for (pool, units) in units {
        plan = plan
            .then(
                // without a mark the cluster leaves every unit as it is; the one that is being restarted gets ready again
                apply("ApplyRestart", pool, mark(at), Undo::Patch(mark(""))),
                WRITE,
                format!(
                    "ask for a rolling restart{}: replicas first, the primary last after a switchover",
                    of(pool)
                ),
            )
            .then(
                units_ready("AwaitUnitsRestarted", pool),
                pace.unit_restart * *units,
                format!("wait until {units} units were restarted"),
            );
    }
    plan.then(
        wait("AwaitReplicationReady", Check::TopologyReady),
        pace.link,
        "wait until every replica follows",
    )
    .point_of_no_return()
    .then(
        wait("VerifyWrites", Check::Writable),
        WRITE,
        "check that the service takes writes",
    )
}

/// Makes a member the primary although writes are lost with it. What was accepted cannot be taken back once the member leads. Members that
/// are lost are not waited for.
pub fn failover(pace: &Pace, to: Switchover, loss: &str) -> Plan {
    let leads = format!("wait until {} leads", to.target);
    Plan::new("failover", 5 * MINUTE, OnFailure::RollBack)
        .then(apply_switchover(to), WRITE, format!("accept that {loss}"))
        .then(
            wait("AwaitSwitchover", Check::SwitchedOver),
            pace.switchover,
            leads,
        )
        .point_of_no_return()
}

/// Makes another member the primary.
pub fn switchover(pace: &Pace, from: &str, to: Switchover) -> Plan {
    let target = to.target.clone();
    let plan = Plan::new("switchover", 5 * MINUTE, OnFailure::RollBack)
        .then(
            apply_switchover(to),
            WRITE,
            format!("ask for {target} as the primary in place of {from}"),
        )
        .then(
            wait("AwaitSwitchover", Check::SwitchedOver),
            pace.switchover,
            format!("wait until {target} has every write and takes new ones"),
        );
    followed(
        plan,
        pace,
        "wait until every replica follows the new primary",
    )
    .point_of_no_return()
}

/// Another number of units of one pool.
#[derive(Clone, Debug)]
pub struct Scaling {
    /// Of all pools, before.
    pub units: Units,
    /// Who takes part, before.
    pub members: Units,
    /// Which pool.
    pub pool: String,
    /// How many it shall have.
    pub to: u32,
    /// Whether its members take part in the topology by name.
    pub takes_part: bool,
    /// What the user wants when it is done.
    pub spec: serde_json::Value,
}

/// Changes the number of units of a pool: units before members when there are more, members before units when there are fewer.
pub fn scale(pace: &Pace, scaling: &Scaling) -> Plan {
    let (pool, to) = (&scaling.pool, scaling.to);
    let from = scaling.units.get(pool).copied().unwrap_or_default();
    let before: u32 = scaling.units.values().sum();
    let reserve = Step::new(
        "ReserveUnits",
        Action::Reserve {
            units: before - from + to,
            before: Some(before),
        },
    );
    let units = |name: &str| {
        let back = Undo::Patch(PoolPatch::units(from));
        apply(name, pool, PoolPatch::units(to), back)
    };
    let members = |name: &str| {
        let mut after = scaling.members.clone();
        after.insert(pool.clone(), to);
        let patch = TopologyPatch {
            served: true,
            ..TopologyPatch::members(after)
        };
        let back = TopologyPatch::members(scaling.members.clone());
        apply_topology(name, patch, Undo::Patch(back))
    };
    let scaled = mark("MarkScaled", Effect::Spec(scaling.spec.clone()));
    let mut plan = Plan::new("scale", 60 * MINUTE, OnFailure::RollBack);
    if from < to {
        plan = plan
            .then(
                reserve,
                WRITE,
                format!("count {to} units against the project's quota"),
            )
            .then(
                units("ApplyUnitSet"),
                WRITE,
                format!("write {to} units{} instead of {from}", of(pool)),
            )
            .then(
                units_ready("AwaitUnitsReady", pool),
                pace.unit_ready,
                format!("wait until {to} {} servers answer", pace.title),
            );
        if scaling.takes_part {
            plan = plan
                .then(
                    members("ApplyReplication"),
                    WRITE,
                    format!("let {to} members take part in the replication"),
                )
                .then(
                    wait("AwaitReplicationReady", Check::TopologyReady),
                    pace.link,
                    "wait until every replica follows",
                );
        }
        return plan
            .then(scaled, WRITE, "note the new number of members")
            .point_of_no_return();
    }
    if scaling.takes_part {
        plan = plan
            .then(
                Step::new(
                    "MovePrimary",
                    Action::Call {
                        verb: Call::KeepPrimaryBelow { members: to },
                    },
                ),
                WRITE,
                "ask for a primary that stays, when the present one goes",
            )
            .then(
                wait("AwaitSwitchover", Check::SwitchedOver),
                pace.switchover,
                "wait until a member that stays is the primary",
            )
            .then(
                members("ShrinkReplication"),
                WRITE,
                format!("take {} members out of the replication", from - to),
            )
            .then(
                wait("AwaitReplicationReady", Check::TopologyReady),
                pace.link,
                "wait until only members that stay take part",
            );
    }
    plan.then(
        units("ShrinkUnitSet"),
        WRITE,
        format!("stop and remove {} units; their volumes stay", from - to),
    )
    .point_of_no_return()
    .then(
        Step::of_pool(
            "AwaitUnitsRemoved",
            pool,
            Action::Await {
                check: Check::UnitsRemoved { pool: pool.clone() },
            },
        ),
        pace.removal,
        "wait until they are gone",
    )
    .then(
        reserve,
        WRITE,
        format!("count {to} units against the project's quota"),
    )
    .then(scaled, WRITE, "note the new number of members")
}

/// The end of what moves members: everybody follows, and writes are taken.
fn followed(plan: Plan, pace: &Pace, follows: &str) -> Plan {
    plan.then(
        wait("AwaitReplicationReady", Check::TopologyReady),
        pace.link,
        follows,
    )
    .then(
        wait("VerifyWrites", Check::Writable),
        WRITE,
        "check that the service takes writes",
    )
}

/// ` of the pool px`; nothing for the main one.
fn of(pool: &str) -> String {
    if pool == MAIN {
        String::new()
    } else {
        format!(" of the pool {pool}")
    }
}

fn apply(name: &str, pool: &str, patch: PoolPatch, undo: Undo<PoolPatch>) -> Step {
    let action = Action::Apply {
        pool: pool.to_owned(),
        patch,
        undo,
    };
    Step::of_pool(name, pool, action)
}

fn apply_topology(name: &str, patch: TopologyPatch, undo: Undo<TopologyPatch>) -> Step {
    Step::new(name, Action::ApplyTopology { patch, undo })
}

fn apply_switchover(to: Switchover) -> Step {
    let patch = TopologyPatch {
        switchover: Some(to),
        ..TopologyPatch::default()
    };
    apply_topology("ApplySwitchover", patch, Undo::Nothing)
}

fn units_ready(name: &str, pool: &str) -> Step {
    let check = Check::UnitsReady {
        pool: pool.to_owned(),
    };
    Step::of_pool(name, pool, Action::Await { check })
}

fn wait(name: &str, check: Check) -> Step {
    Step::new(name, Action::Await { check })
}

fn mark(name: &str, effect: Effect) -> Step {
    Step::new(name, Action::Mark { effect })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace {
        title: "Toy",
        unit_ready: Duration::from_secs(30),
        unit_restart: Duration::from_secs(20),
        link: Duration::from_secs(5),
        switchover: Duration::from_secs(1),
        removal: Duration::from_secs(20),
    };

    fn position(plan: &Plan, step: &str) -> usize {
        let found = plan
            .steps
            .iter()
            .position(|planned| planned.step.name == step);
        found.unwrap_or_else(|| panic!("{step}"))
    }

    fn to(target: &str) -> Switchover {
        Switchover {
            target: target.into(),
            expected_epoch: 1,
            accept_loss: None,
        }
    }

    fn pools(main: u32, other: u32) -> Units {
        [(MAIN.to_owned(), main), ("px".to_owned(), other)].into()
    }

    fn scaling(from: u32, to: u32, pool: &str) -> Scaling {
        Scaling {
            units: pools(from, from),
            members: pools(from, from),
            pool: pool.into(),
            to,
            takes_part: pool == MAIN,
            spec: serde_json::json!({ "units": to }),
        }
    }

    proptest! {
        #[test]
        fn a_plan_names_each_step_once(from in 1_u32..9, other in 1_u32..9) {
            prop_assume!(from != other);
            let name = ServiceName::new("p", "toyServices", "demo");
            for plan in [
                create(&PACE, &name, "c", &pools(from, other), RetainedVolumes::Refuse),
                delete(&PACE, &name, &pools(from, other), Volumes::Delete),
                restart(&PACE, &pools(from, other), "now"),
                switchover(&PACE, "demo-0", to("demo-1")),
                scale(&PACE, &scaling(from, other, MAIN)),
                scale(&PACE, &scaling(from, other, "px")),
            ] {
                for planned in &plan.steps {
                    let same = plan.steps.iter().filter(|other| other.step.name == planned.step.name);
                    prop_assert_eq!(same.count(), 1);
                    prop_assert!(!planned.description.is_empty());
                }
                let kept = serde_json::to_value(&plan.steps[0].step).unwrap();
                prop_assert_eq!(&serde_json::from_value::<Step>(kept).unwrap(), &plan.steps[0].step);
            }
        }

        #[test]
        fn scaling_in_moves_the_primary_before_it_shrinks_and_units_go_last(from in 2_u32..9, to in 1_u32..8) {
            prop_assume!(to < from);
            let plan = scale(&PACE, &scaling(from, to, MAIN));
            prop_assert!(position(&plan, "AwaitSwitchover") < position(&plan, "ShrinkReplication"));
            prop_assert!(position(&plan, "AwaitReplicationReady") < position(&plan, "ShrinkUnitSet"));
        }

        #[test]
        fn scaling_one_pool_counts_the_units_of_all(from in 1_u32..9, to in 1_u32..9) {
            prop_assume!(from != to);
            let plan = scale(&PACE, &scaling(from, to, "px"));
            let reserve = &plan.steps[position(&plan, "ReserveUnits")].step.action;
            prop_assert_eq!(reserve, &Action::Reserve { units: from + to, before: Some(2 * from) });
        }
    }

    #[test]
    fn a_deletion_says_what_becomes_of_volumes_before_anything_is_removed() {
        let name = ServiceName::new("p", "toyServices", "demo");
        let plan = delete(&PACE, &name, &pools(3, 2), Volumes::Delete);
        let removes = position(&plan, "DeleteReplication");
        assert!(position(&plan, "AwaitVolumePolicy") < removes);
        assert!(position(&plan, "AwaitVolumePolicy:px") < removes);
        assert!(plan.steps[removes].point_of_no_return);
    }
}
