//! The hub: it keeps what every cluster shall be and is, and holds one long-lived session with the agent of each.
//!
//! * [`ledger`] — the desired-state ledger and what came back, in the store; revisions, roots, fencing.
//! * [`session`] — one agent's session as a pure state machine.
//! * [`hub`] — the live sessions of this replica, the group commit, the change feed.
//! * `grpc` — `AgentService` on the agent port, `LedgerService` and `AgentAdminService` on the mesh.
//!
//! Invariants: the ledger is committed before anything is sent; an effect of a session is written only under its epoch; acknowledged
//! means committed; only a tombstone deletes; secrets pass through tunnels and are neither stored nor logged.

// A variant that is added later must be looked at wherever variants are told apart.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod accounts;
mod certificates;
mod commit;
mod drive;
mod error;
mod grpc;
pub mod hub;
pub mod ledger;
mod metrics;
#[cfg(test)]
mod model;
mod overload;
mod port;
mod replicas;
mod schema;
pub mod session;
mod tunnel;

use std::sync::Arc;

use diesel_migrations::embed_migrations;
use serde::Deserialize;
use upm_mesh as mesh;
use upm_store as store;

pub use accounts::{Pin, Refusal, Shown};
pub use error::{DOMAIN, Error};
pub use hub::Hub;
pub use port::AgentPort;

/// Target of the trace of the link, at level TRACE: each result that came and that was committed, and how many bodies a session was handed.
pub const TRACE_TARGET: &str = "upm_hub::link";

/// The tables of the hub.
pub const MIGRATIONS: store::Migrations = store::Migrations {
    sqlite: embed_migrations!("migrations/sqlite"),
    mysql: embed_migrations!("migrations/mysql"),
};

/// How the hub is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of this replica; the host's name when empty.
    pub replica: String,
    /// Where agents reach the agent port, `host:port`; told to agents and printed in join commands.
    pub endpoints: Vec<String>,
    /// Audiences of the service-account tokens by which agents come back. With a name of its own, a hub refuses what was shown to another.
    pub audiences: Vec<String>,
    /// Life of an agent's certificate, in seconds.
    pub certificate_seconds: u64,
    /// Where other replicas reach this one's services, `host:port`; empty when it is alone, or they cannot.
    pub advertise: String,
    /// How often other replicas' changes are looked for, in milliseconds.
    pub poll_ms: u64,
    /// Enrolments per second that are accepted.
    pub enrolments_per_second: u32,
    /// Sessions that this replica holds at most.
    pub sessions: usize,
    /// Sessions that may begin per second, and TLS handshakes; 0 for 700 per core.
    pub sessions_per_second: u32,
    /// Memory that this replica may use, in MiB; 0 for what its control group says.
    pub memory_mib: u64,
}

impl Config {
    /// Sessions that may begin per second: seven tenths of what a core can do.
    pub(crate) fn entrance(&self) -> u32 {
        if self.sessions_per_second > 0 {
            return self.sessions_per_second;
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        700 * cores as u32
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            replica: String::new(),
            endpoints: Vec::new(),
            advertise: String::new(),
            audiences: vec![accounts::AUDIENCE.to_owned()],
            certificate_seconds: 24 * 3600,
            poll_ms: 500,
            enrolments_per_second: 50,
            sessions: 12_000,
            sessions_per_second: 0,
            memory_mib: 0,
        }
    }
}

/// The hub as a module, and its agent port.
///
/// `authority` signs agents' certificates; `identity` is the hub's own (`spiffe://upm/module/hub`) and serves the agent port.
///
/// # Errors
/// When the store cannot be read.
pub async fn module(
    ctx: store::ModuleContext,
    config: Config,
    authority: Arc<mesh::Authority>,
    identity: mesh::Identity,
) -> Result<(mesh::Module, AgentPort), Error> {
    let mut tasks = mesh::Tasks::new();
    let hub = Hub::start(
        ctx.store.clone(),
        config,
        authority,
        identity.clone(),
        ctx.drain.clone(),
        &mut tasks,
    )
    .await?;
    let module = mesh::Module {
        name: "hub",
        routes: grpc::mesh_routes(&hub),
        tasks,
    };
    let sink = Arc::new(store::outbox::Sink(ctx.store));
    Ok((module, AgentPort::new(hub, identity, sink)))
}
