//! The vocabulary of operations: every step can be done again after a crash and finds out by itself what is left to do.

mod action;
mod bench;
mod cluster;
mod forward;
mod undo;

use upm_proto::google::rpc;

pub use self::action::{Action, Call, Check, Effect, Step, Undo};
pub(crate) use self::bench::Bench;
pub(crate) use self::forward::run;
pub(crate) use self::undo::undo;
use crate::{Error, Predicate, ledger::Trouble};

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
