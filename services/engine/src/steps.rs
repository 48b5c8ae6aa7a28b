//! The vocabulary of operations: every step can be done again after a crash and finds out by itself what is left to do.

mod bench;
mod cluster;
mod forward;
mod undo;

use serde::{Deserialize, Serialize};
use upm_proto::google::rpc;

pub(crate) use self::bench::Bench;
pub(crate) use self::forward::run;
pub(crate) use self::undo::undo;
use crate::{Error, Predicate, ledger::Trouble, service::Life};

/// A step. The names are part of the API and of stored journals: never rename one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Records the service at its project: its id is unique across engines, and quota is kept.
    ReserveService,
    /// Records another number of units at the project.
    ReserveUnits,
    /// Writes the project's namespace.
    ApplyProject,
    /// Writes the software package.
    ApplyPackage,
    /// Writes the UnitSet.
    ApplyUnitSet,
    /// Waits until all units are ready.
    AwaitUnitsReady,
    /// From now on the volumes are this service's.
    ClaimVolumes,
    /// Writes the replication resource.
    ApplyReplication,
    /// Waits until replication is as it shall be.
    AwaitReplicationReady,
    /// Checks that the service takes writes.
    VerifyWrites,
    /// From now on the members never begin empty again.
    ForbidEmptyBeginning,
    /// Opens the service.
    MarkReady,
    /// Asks for a rolling restart.
    ApplyRestart,
    /// Waits until all units were restarted.
    AwaitUnitsRestarted,
    /// Asks for another primary.
    ApplySwitchover,
    /// Asks for a primary that stays, when the present one goes.
    MovePrimary,
    /// Waits until the primary has changed.
    AwaitSwitchover,
    /// Takes members out of the replication.
    ShrinkReplication,
    /// Removes units.
    ShrinkUnitSet,
    /// Waits until the units are gone.
    AwaitUnitsRemoved,
    /// Notes the new number of members.
    MarkScaled,
    /// Says what removing the units does to the volumes.
    ApplyVolumePolicy,
    /// Waits until the cluster knows that.
    AwaitVolumePolicy,
    /// Removes the replication resource.
    DeleteReplication,
    /// Waits until it is gone.
    AwaitReplicationGone,
    /// Removes the UnitSet.
    DeleteUnitSet,
    /// Waits until it is gone, with its units.
    AwaitUnitSetGone,
    /// Ends the reservation at the project.
    ReleaseService,
    /// Forgets the service, or keeps in mind what it left.
    ForgetService,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::ReserveService,
        Self::ReserveUnits,
        Self::ApplyProject,
        Self::ApplyPackage,
        Self::ApplyUnitSet,
        Self::AwaitUnitsReady,
        Self::ClaimVolumes,
        Self::ApplyReplication,
        Self::AwaitReplicationReady,
        Self::VerifyWrites,
        Self::ForbidEmptyBeginning,
        Self::MarkReady,
        Self::ApplyRestart,
        Self::AwaitUnitsRestarted,
        Self::ApplySwitchover,
        Self::MovePrimary,
        Self::AwaitSwitchover,
        Self::ShrinkReplication,
        Self::ShrinkUnitSet,
        Self::AwaitUnitsRemoved,
        Self::MarkScaled,
        Self::ApplyVolumePolicy,
        Self::AwaitVolumePolicy,
        Self::DeleteReplication,
        Self::AwaitReplicationGone,
        Self::DeleteUnitSet,
        Self::AwaitUnitSetGone,
        Self::ReleaseService,
        Self::ForgetService,
    ];

    /// As clients see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReserveService => "ReserveService",
            Self::ReserveUnits => "ReserveUnits",
            Self::ApplyProject => "ApplyProject",
            Self::ApplyPackage => "ApplyPackage",
            Self::ApplyUnitSet => "ApplyUnitSet",
            Self::AwaitUnitsReady => "AwaitUnitsReady",
            Self::ClaimVolumes => "ClaimVolumes",
            Self::ApplyReplication => "ApplyReplication",
            Self::AwaitReplicationReady => "AwaitReplicationReady",
            Self::VerifyWrites => "VerifyWrites",
            Self::ForbidEmptyBeginning => "ForbidEmptyBeginning",
            Self::MarkReady => "MarkReady",
            Self::ApplyRestart => "ApplyRestart",
            Self::AwaitUnitsRestarted => "AwaitUnitsRestarted",
            Self::ApplySwitchover => "ApplySwitchover",
            Self::MovePrimary => "MovePrimary",
            Self::AwaitSwitchover => "AwaitSwitchover",
            Self::ShrinkReplication => "ShrinkReplication",
            Self::ShrinkUnitSet => "ShrinkUnitSet",
            Self::AwaitUnitsRemoved => "AwaitUnitsRemoved",
            Self::MarkScaled => "MarkScaled",
            Self::ApplyVolumePolicy => "ApplyVolumePolicy",
            Self::AwaitVolumePolicy => "AwaitVolumePolicy",
            Self::DeleteReplication => "DeleteReplication",
            Self::AwaitReplicationGone => "AwaitReplicationGone",
            Self::DeleteUnitSet => "DeleteUnitSet",
            Self::AwaitUnitSetGone => "AwaitUnitSetGone",
            Self::ReleaseService => "ReleaseService",
            Self::ForgetService => "ForgetService",
        }
    }
}

/// How far a step is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Done; the effect on the service's row is committed with the journal.
    Done(Effect),
    /// Not needed; why.
    Skipped(Predicate),
    /// Waits; what for.
    Waiting(Vec<Predicate>),
}

/// What the end of a step changes in the service's row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// Where it is in its life.
    Life(Life),
    /// The number of members in its spec.
    Members(u32),
    /// It is gone; its volumes may not be.
    Depart,
}

/// Why a step cannot go on.
#[derive(Debug)]
pub(crate) enum Fault {
    /// For the moment: something that is needed is away.
    Transient(Predicate),
    /// For good.
    Permanent {
        /// What the operation's error will be.
        status: rpc::Status,
        /// Whether nothing of what was done is worth keeping, whatever the plan says.
        roll_back: bool,
    },
    /// Another replica works on the operation.
    Fenced,
}

impl Fault {
    /// What a failed call to another module means; `predicate` names that module's presence.
    pub(crate) fn of(trouble: Trouble, predicate: &str) -> Self {
        match trouble {
            Trouble::Transient(status) => {
                Self::Transient(Predicate::unmet(predicate, status.message()))
            }
            Trouble::Fenced => Self::Fenced,
            Trouble::Permanent(status) => Self::Permanent {
                status: mesh::status::to_rpc(&status),
                roll_back: false,
            },
        }
    }

    /// The same, and what was done is not worth keeping.
    pub(crate) fn rolling_back(self) -> Self {
        match self {
            Self::Permanent { status, .. } => Self::Permanent {
                status,
                roll_back: true,
            },
            other => other,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Fenced(_) => Self::Fenced,
            Error::Store(error) => {
                tracing::warn!(%error, "An operation waits for its database");
                Self::Transient(Predicate::unmet(
                    "STORE_AVAILABLE",
                    "the module's database does not answer",
                ))
            }
            Error::Peer(status) => Self::of(Trouble::of(*status), "PLATFORM_AVAILABLE"),
            other => Self::Permanent {
                status: mesh::status::to_rpc(&tonic::Status::from(other)),
                roll_back: false,
            },
        }
    }
}

/// The predicate of a step that was not needed.
pub(crate) fn not_needed(why: impl Into<String>) -> Outcome {
    Outcome::Skipped(Predicate::met("NOT_NEEDED", why))
}

/// Done without an effect on the service's row.
pub(crate) const DONE: Outcome = Outcome::Done(Effect::None);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_stored_under_the_name_that_clients_see() {
        for step in Step::ALL {
            assert_eq!(serde_json::to_value(step).unwrap(), step.name());
        }
    }
}
