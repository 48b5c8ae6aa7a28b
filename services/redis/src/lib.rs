//! Module `redis`: Redis replication services. What is Redis about them is here, pure: the spec, the plans' words, the objects in the
//! cluster, how their status reads. Rows, operations and the work itself are in `upm-engine`.
//!
//! **Invariant:** nothing is stored, and nothing asked of a cluster, before the whole request was found right.

extern crate upm_crds as crds;
extern crate upm_engine as engine;
extern crate upm_mesh as mesh;
extern crate upm_store as store;

mod create;
mod description;
mod fit;
mod grpc;
mod intents;
mod memory;
mod module;
mod pb;
mod plan;
mod redis;
mod spec;
mod status;
mod verbs;

#[cfg(test)]
mod tests;

pub use self::module::{Config, MIGRATIONS, module};
