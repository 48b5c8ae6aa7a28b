//! RedisReplication: one writable Redis server and its replicas.
//!
//! The invariants, as the simulation checks them:
//!
//! * A member leads only with a grant of the recorded epoch; the record changes by compare-and-swap, before the grant.
//! * An epoch begins only when nobody can confirm a write of the one before any more, and its primary has every confirmed write.
//! * Whoever may acknowledge is on record (`ackers`) before it follows, and leaves the record after it cannot acknowledge any more.
//! * Nothing is decided from memory: a controller that dies at any step leaves the old primary serving or the group fenced.

pub mod agents;
pub mod apply;
pub mod election;
pub mod leave;
pub mod model;
pub mod plan;
pub mod read;
pub mod routes;
mod run;
pub mod services;
pub mod status;

pub use run::run;

#[cfg(test)]
mod rig_tests;
#[cfg(test)]
mod simulation;
