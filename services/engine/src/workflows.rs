//! The plans that all engines share: which steps, in which order. Engines add their words and their pace. Pure.

use std::time::Duration;

use crate::{
    names::ServiceName,
    plan::{OnFailure, Plan},
    shape::{RetainedVolumes, Volumes},
    steps::Step,
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

/// Makes a service.
pub fn create(
    pace: &Pace,
    name: &ServiceName,
    cluster: &str,
    members: u32,
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
    Plan::new("create", 30 * MINUTE, OnFailure::Keep)
        .then(
            Step::ReserveService,
            WRITE,
            format!(
                "record {service} at project {} and count its quota",
                name.project
            ),
        )
        .then(
            Step::ApplyProject,
            WRITE,
            format!("write namespace {} to cluster {cluster}", name.project),
        )
        .then(
            Step::ApplyPackage,
            WRITE,
            "write the software package to the cluster",
        )
        .then(
            Step::ApplyUnitSet,
            WRITE,
            format!("write {members} units with {volumes}"),
        )
        .then(
            Step::AwaitUnitsReady,
            pace.unit_ready,
            format!("wait until {members} {} servers answer", pace.title),
        )
        .then(
            Step::ClaimVolumes,
            WRITE,
            "note that the volumes are this service's",
        )
        .then(
            Step::ApplyReplication,
            WRITE,
            "write who is the primary and who follows",
        )
        .then(
            Step::AwaitReplicationReady,
            pace.link,
            "wait until there is a primary and every replica follows it",
        )
        .then(
            Step::VerifyWrites,
            WRITE,
            "check that the service takes writes",
        )
        .then(
            Step::ForbidEmptyBeginning,
            WRITE,
            "write that members without their data are never served empty",
        )
        .then(Step::MarkReady, WRITE, "open the service")
        .point_of_no_return()
}

/// Deletes a service.
pub fn delete(pace: &Pace, name: &ServiceName, members: u32, volumes: Volumes) -> Plan {
    let fate = match volumes {
        Volumes::Retain => "stay",
        Volumes::Delete => "are removed with the units",
    };
    Plan::new("delete", 30 * MINUTE, OnFailure::Keep)
        .then(
            Step::ApplyVolumePolicy,
            WRITE,
            format!("write that the volumes {fate}"),
        )
        .then(
            Step::AwaitVolumePolicy,
            WRITE,
            "wait until the cluster knows that",
        )
        .then(
            Step::DeleteReplication,
            WRITE,
            "remove the replication and the routes of clients",
        )
        .point_of_no_return()
        .then(
            Step::AwaitReplicationGone,
            pace.removal / 2,
            "wait until they are gone",
        )
        .then(
            Step::DeleteUnitSet,
            WRITE,
            format!("stop and remove {members} units"),
        )
        .then(
            Step::AwaitUnitSetGone,
            pace.removal,
            "wait until they are gone",
        )
        .then(
            Step::ReleaseService,
            WRITE,
            format!("end the record at project {}", name.project),
        )
        .then(
            Step::ForgetService,
            WRITE,
            match volumes {
                Volumes::Retain => "keep in mind that volumes are left",
                Volumes::Delete => "forget the service",
            },
        )
}

/// Restarts all members, one after the other. A cancel leaves those as they are that were not restarted yet.
pub fn restart(pace: &Pace, members: u32) -> Plan {
    Plan::new("restart", 60 * MINUTE, OnFailure::Keep)
        .then(
            Step::ApplyRestart,
            WRITE,
            "ask for a rolling restart: replicas first, the primary last after a switchover",
        )
        .then(
            Step::AwaitUnitsRestarted,
            pace.unit_restart * members,
            format!("wait until {members} units were restarted"),
        )
        .then(
            Step::AwaitReplicationReady,
            pace.link,
            "wait until every replica follows",
        )
        .point_of_no_return()
        .then(
            Step::VerifyWrites,
            WRITE,
            "check that the service takes writes",
        )
}

/// Makes a member the primary although writes are lost with it. What was accepted cannot be taken back once the member leads. Members that
/// are lost are not waited for.
pub fn failover(pace: &Pace, target: &str, loss: &str) -> Plan {
    Plan::new("failover", 5 * MINUTE, OnFailure::RollBack)
        .then(Step::ApplySwitchover, WRITE, format!("accept that {loss}"))
        .then(
            Step::AwaitSwitchover,
            pace.switchover,
            format!("wait until {target} leads"),
        )
        .point_of_no_return()
}

/// Makes another member the primary.
pub fn switchover(pace: &Pace, from: &str, target: &str) -> Plan {
    Plan::new("switchover", 5 * MINUTE, OnFailure::RollBack)
        .then(
            Step::ApplySwitchover,
            WRITE,
            format!("ask for {target} as the primary in place of {from}"),
        )
        .then(
            Step::AwaitSwitchover,
            pace.switchover,
            format!("wait until {target} has every write and takes new ones"),
        )
        .then(
            Step::AwaitReplicationReady,
            pace.link,
            "wait until every replica follows the new primary",
        )
        .then(
            Step::VerifyWrites,
            WRITE,
            "check that the service takes writes",
        )
        .point_of_no_return()
}

/// Changes the number of members.
pub fn scale(pace: &Pace, from: u32, to: u32) -> Plan {
    let plan = Plan::new("scale", 60 * MINUTE, OnFailure::RollBack);
    if from < to {
        return plan
            .then(
                Step::ReserveUnits,
                WRITE,
                format!("count {to} units against the project's quota"),
            )
            .then(
                Step::ApplyUnitSet,
                WRITE,
                format!("write {to} units instead of {from}"),
            )
            .then(
                Step::AwaitUnitsReady,
                pace.unit_ready,
                format!("wait until {to} {} servers answer", pace.title),
            )
            .then(
                Step::ApplyReplication,
                WRITE,
                format!("let {to} members take part in the replication"),
            )
            .then(
                Step::AwaitReplicationReady,
                pace.link,
                "wait until every replica follows",
            )
            .then(Step::MarkScaled, WRITE, "note the new number of members")
            .point_of_no_return();
    }
    plan.then(
        Step::MovePrimary,
        WRITE,
        "ask for a primary that stays, when the present one goes",
    )
    .then(
        Step::AwaitSwitchover,
        pace.switchover,
        "wait until a member that stays is the primary",
    )
    .then(
        Step::ShrinkReplication,
        WRITE,
        format!("take {} members out of the replication", from - to),
    )
    .then(
        Step::AwaitReplicationReady,
        pace.link,
        "wait until only members that stay take part",
    )
    .then(
        Step::ShrinkUnitSet,
        WRITE,
        format!("stop and remove {} units; their volumes stay", from - to),
    )
    .point_of_no_return()
    .then(
        Step::AwaitUnitsRemoved,
        pace.removal,
        "wait until they are gone",
    )
    .then(
        Step::ReserveUnits,
        WRITE,
        format!("count {to} units against the project's quota"),
    )
    .then(Step::MarkScaled, WRITE, "note the new number of members")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace {
        title: "Redis",
        unit_ready: Duration::from_secs(30),
        unit_restart: Duration::from_secs(20),
        link: Duration::from_secs(5),
        switchover: Duration::from_secs(1),
        removal: Duration::from_secs(20),
    };

    fn position(plan: &Plan, step: Step) -> usize {
        plan.steps
            .iter()
            .position(|planned| planned.step == step)
            .unwrap()
    }

    proptest! {
        #[test]
        fn a_plan_names_each_step_once(from in 1_u32..9, to in 1_u32..9) {
            prop_assume!(from != to);
            let name = ServiceName::new("p", "redisServices", "demo");
            for plan in [
                create(&PACE, &name, "c", from, RetainedVolumes::Refuse),
                delete(&PACE, &name, from, Volumes::Delete),
                restart(&PACE, from),
                switchover(&PACE, "demo-0", "demo-1"),
                scale(&PACE, from, to),
            ] {
                for planned in &plan.steps {
                    prop_assert_eq!(plan.steps.iter().filter(|other| other.step == planned.step).count(), 1);
                    prop_assert!(!planned.description.is_empty());
                }
            }
        }

        #[test]
        fn scaling_in_moves_the_primary_before_it_shrinks_and_units_go_last(from in 2_u32..9, to in 1_u32..8) {
            prop_assume!(to < from);
            let plan = scale(&PACE, from, to);
            prop_assert!(position(&plan, Step::AwaitSwitchover) < position(&plan, Step::ShrinkReplication));
            prop_assert!(position(&plan, Step::AwaitReplicationReady) < position(&plan, Step::ShrinkUnitSet));
        }
    }

    #[test]
    fn a_deletion_says_what_becomes_of_volumes_before_anything_is_removed() {
        let name = ServiceName::new("p", "redisServices", "demo");
        let plan = delete(&PACE, &name, 3, Volumes::Delete);
        assert!(
            position(&plan, Step::AwaitVolumePolicy) < position(&plan, Step::DeleteReplication)
        );
        assert!(plan.steps[position(&plan, Step::DeleteReplication)].point_of_no_return);
    }
}
