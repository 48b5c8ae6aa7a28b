//! What a step is: a name for people, and an action with all that it needs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    desired::{MAIN, PoolPatch, TopologyPatch},
    intent::Part,
    service::Life,
};

/// A step. It can be done twice, and finds out by itself what is left to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// As clients see it, for example `ApplyUnitSet`, or `ApplyUnitSet:px` for the pool `px`. Never in a plan twice.
    pub name: String,
    /// What it does.
    pub action: Action,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Records the service with so many units at its project: its id is unique across engines, and quota is kept. Undone by recording as
    /// many as before, or by ending the record when there was none.
    Reserve {
        /// Of all pools.
        units: u32,
        /// `None` for a new service.
        before: Option<u32>,
    },
    /// Ends the record at the project.
    Release,
    /// Writes what services share.
    ApplyShared {
        /// [`Part::Project`] or [`Part::Package`].
        part: Part,
    },
    /// Changes a pool and writes its UnitSet.
    Apply {
        /// Its id.
        pool: String,
        /// What shall be.
        patch: PoolPatch,
        /// How that is taken back.
        undo: Undo<PoolPatch>,
    },
    /// Changes the topology and writes its objects.
    ApplyTopology {
        /// What shall be.
        patch: TopologyPatch,
        /// How that is taken back. A switchover that the cluster has not done is withdrawn in any case.
        undo: Undo<TopologyPatch>,
    },
    /// Waits.
    Await {
        /// For what.
        check: Check,
    },
    /// Decides by what is observed, and acts.
    Call {
        /// On what.
        verb: Call,
    },
    /// Removes objects.
    Delete {
        /// Which.
        part: Part,
    },
    /// Waits until objects are gone.
    Gone {
        /// Which.
        part: Part,
    },
    /// Changes the service's row.
    Mark {
        /// How.
        effect: Effect,
    },
}

/// How a change is taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Undo<P> {
    /// It stays: it does no harm, or cannot be taken back.
    Nothing,
    /// By another change.
    Patch(P),
    /// By removing what it made.
    Remove,
}

/// What a step waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Check {
    /// All units of the pool exist, run what is wanted and are ready.
    UnitsReady {
        /// The pool's id.
        pool: String,
    },
    /// The pool has no more units than are wanted.
    UnitsRemoved {
        /// The pool's id.
        pool: String,
    },
    /// The cluster knows what is wanted of the pool.
    PoolApplied {
        /// The pool's id.
        pool: String,
    },
    /// The topology does what is wanted.
    TopologyReady,
    /// The service takes writes.
    Writable,
    /// The switchover of this operation was done.
    SwitchedOver,
    /// Something that only the engine knows.
    Engine {
        /// For the engine.
        name: String,
        /// For the engine.
        #[serde(default)]
        args: Value,
    },
}

/// What is decided by what is observed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Call {
    /// Asks for a primary among the first members, when the present one is none of them.
    KeepPrimaryBelow {
        /// How many stay.
        members: u32,
    },
}

/// What the end of a step changes in the service's row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Nothing.
    None,
    /// Where it is in its life.
    Life(Life),
    /// What the user wants from now on: the engine's spec.
    Spec(Value),
    /// It is gone; its volumes may not be.
    Depart,
}

impl Step {
    /// A step under a name of its own.
    pub fn new(name: &str, action: Action) -> Self {
        Self {
            name: name.to_owned(),
            action,
        }
    }

    /// A step about a pool: its name says which.
    pub fn of_pool(name: &str, pool: &str, action: Action) -> Self {
        let name = if pool == MAIN {
            name.to_owned()
        } else {
            format!("{name}:{pool}")
        };
        Self { name, action }
    }
}
