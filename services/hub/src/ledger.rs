//! The desired-state ledger: per agent, key → intent, result, status. All functions run inside a transaction of the store.
//!
//! Invariants: a revision is allotted in the transaction that changes the key, with the agent's row locked, so revisions are dense in
//! time; `root` and `status_root` are kept with every change; a session's writes happen only under its epoch.

pub mod agents;
#[cfg(feature = "testing")]
pub mod backup;
mod counters;
pub mod enrol;
mod object;
pub mod read;
pub mod replicas;
mod rows;
pub mod session;
mod statements;
pub mod write;

#[cfg(test)]
mod tests;

pub use agents::random_token;
pub use object::{Link, object};
pub use rows::{AgentRow, IntentRow, StatusRow};
