//! The agent of one cluster: it dials out to the hub over one long-lived stream, keeps the cluster as the hub's ledger says, streams
//! status back, and hosts the controllers.
//!
//! * [`session`] — the agent's side of the ledger stream as a pure state machine.
//! * [`drive`] — its rim: connections, work, durable writes, time.
//! * [`hub`] — enrolment, dialling, certificates.
//! * [`applier`], [`policy`] — intents into the cluster, within the cluster's own policy.
//! * [`collector`] — watches of what the hub is interested in.
//! * [`durable`] — what the agent must not forget.
//! * [`tunnel`] — on-demand channels.
//!
//! Invariants: only the leader acts; absence of the hub changes nothing in the cluster; only a tombstone, a guarded prune or a confirmed
//! prune deletes; the process never ends because the hub is away, and always says why it is not connected.

pub mod applier;
pub mod collector;
mod controllers;
pub mod drive;
pub mod durable;
pub mod hub;
mod metrics;
pub mod options;
pub mod policy;
pub mod report;
mod run;
pub mod session;
pub mod tunnel;

#[cfg(test)]
mod over_tcp;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod simulation;

pub use run::run;
