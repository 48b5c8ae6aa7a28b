//! The life of a data service, written once for all engines.
//!
//! A module of an engine says what its objects in a cluster are and how their status reads ([`Engine`]); everything else is here:
//! the rows of services and operations, accepting a request in one transaction, plans, the journal of steps, the runner that brings
//! an operation to its end on any replica, the writer of intents, `OperationService`.
//!
//! **Invariants:** an operation is resumed from its journal and from observation, never from memory; a step can be done twice; only
//! the holder of the lease writes, and the hub checks that too; volumes go only when somebody asked for it, or when nobody can have
//! written to them; planning and reading status do no I/O.

extern crate upm_crds as crds;
extern crate upm_mesh as mesh;
extern crate upm_store as store;

pub mod accept;
mod catalogue;
pub mod choose;
mod config;
pub mod desired;
mod ending;
mod engine;
mod error;
mod failpoint;
mod host;
pub mod intent;
mod journal;
mod ledger;
mod manifest;
pub mod names;
mod observed;
mod operation;
mod operations;
mod package;
pub mod parameters;
mod plan;
pub mod pool;
mod predicate;
mod runner;
mod schema;
mod service;
mod services;
mod steps;
#[cfg(test)]
mod tests;
mod units;
mod watch;
pub mod workflows;
#[cfg(test)]
mod world;

use diesel_migrations::embed_migrations;

pub use self::catalogue::Catalogue;
pub use self::config::Config;
pub use self::engine::{Elections, Engine, Primary, Switchover, spec_of, spec_to_json, units};
pub use self::error::{DOMAIN, Error, rfc3339};
pub use self::failpoint::{Failpoints, VARIABLE as FAILPOINT_VARIABLE};
pub use self::journal::{Journal, Record, State as StepState};
pub use self::ledger::Ledger;
pub use self::manifest::{Access, Manifest, StorageNeed};
pub use self::observed::Observed;
pub use self::operation::{Operation, State as OperationState};
pub use self::operations::Operations;
pub use self::package::Package;
pub use self::plan::{OnFailure, Plan, Planned};
pub use self::predicate::{Predicate, all_hold, unmet_in_words};
pub use self::service::{DeletionPolicy, Life, Service};
pub use self::services::{ListQuery, Seen, Services};
pub use self::steps::{Action, Call, Check, Effect, Step, Undo};
pub use self::units::KIND as UNIT_SET_KIND;
pub use self::watch::Told;

/// The tables of a module with data services.
pub const MIGRATIONS: store::Migrations = store::Migrations {
    sqlite: embed_migrations!("migrations/sqlite"),
    mysql: embed_migrations!("migrations/mysql"),
};
