//! What every process on the mesh has: one server stack, one client stack, identities, decisions, audit, telemetry, drain.
//!
//! A service of UPM is a set of tonic handlers and nothing else. [`Server`] puts them behind the stack that every call passes
//! (trace, panic isolation, load shedding, deadline, size limit, authentication, authorization by the method's policy, audit draft),
//! [`Stack::serve`] binds them to a socket with mutual TLS, [`Stack::in_memory`] to a [`Channel`] without one. A [`Channel`] has the
//! same shape whether the other side is in the process or on another machine. Handlers read [`Context`] and nothing of HTTP.
//!
//! Invariants: no method is served that has no policy; a decision is local and fails closed; a secret is in no span, log or record.

pub mod audit;
pub mod auth;
mod body;
pub mod client;
mod context;
pub mod deadline;
pub mod descriptors;
mod drain;
mod error;
pub mod identity;
mod module;
mod network;
pub mod server;
pub mod status;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod tunnel;
pub mod wire;

pub use self::auth::Verifier;
pub use self::client::{Channel, Peers, connect};
pub use self::context::{Caller, Context, FORWARDED_FOR, Principal, Scope};
pub use self::drain::Drain;
pub use self::error::{
    Chain, Classify, Details, FieldViolation, Kind, PreconditionViolation, QuotaViolation,
    describe, into_status,
};
pub use self::identity::{Authority, ClientAuth, Identity, Issued, Peer, SpiffeId};
pub use self::module::{Module, Tasks};
pub use self::server::{Limits, Server, Stack, Strangers};
pub use self::telemetry::{Telemetry, TelemetryConfig};
pub use tonic::Status;

/// Domain of the errors that the mesh itself answers.
pub const DOMAIN: &str = "mesh.upm";
