//! What can go wrong in the hub, and what the caller is told.

use upm_mesh::{Classify, Details, FieldViolation, Kind};
use upm_store as store;

use crate::accounts::Refusal;

/// Domain of the hub's errors.
pub const DOMAIN: &str = "hub.upm";

/// When who was refused for overload may come again, in milliseconds.
const RETRY_AFTER_MS: std::ops::Range<u64> = 1_000..8_000;

/// An error of the hub.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed, or refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A statement failed.
    #[error("run a statement")]
    Database(#[from] diesel::result::Error),
    /// A field of the request is wrong.
    #[error("{}: {}", .0.field, .0.description)]
    Field(FieldViolation),
    /// Nobody knows the agent.
    #[error("agent `{0}` does not exist")]
    AgentNotFound(String),
    /// No intent under the key.
    #[error("no intent under `{0}`")]
    ObjectNotFound(String),
    /// A newer lease of the operation writes.
    #[error("owner `{owner}` is written by lease epoch {current}, this is {given}")]
    StaleWriter {
        /// Who owns the intents.
        owner: String,
        /// The epoch that writes.
        current: u64,
        /// The epoch of the request.
        given: u64,
    },
    /// Another intent lives under the key.
    #[error("`{key}` has an intent of `{owner}`")]
    IntentExists {
        /// The key.
        key: String,
        /// Who owns it.
        owner: String,
    },
    /// The tombstone under the key is not settled.
    #[error("the deletion of `{0}` has not finished")]
    DeletePending(String),
    /// The intent was deleted; a new life needs a new identity.
    #[error("the intent of `{0}` was deleted; a new one needs a new intent_uid")]
    IntentUidReused(String),
    /// The stored generation is newer, or is the same with another content.
    #[error("`{key}` has generation {current}, this is {given}")]
    StaleGeneration {
        /// The key.
        key: String,
        /// The stored generation.
        current: u64,
        /// The generation of the request.
        given: u64,
    },
    /// Too many keys.
    #[error("the ledger of agent `{0}` has 200000 keys")]
    LedgerFull(String),
    /// Intents live.
    #[error("the ledger of agent `{0}` is not empty")]
    LedgerNotEmpty(String),
    /// A join token that does not exist, is old or was used.
    #[error("the join token is unknown, too old or used")]
    JoinTokenInvalid,
    /// Nobody has enrolled as this agent: there is nobody to approve.
    #[error("nobody has enrolled as agent `{0}` yet; approve it when it has")]
    NotEnrolled(String),
    /// A writer that is not of the module that calls.
    #[error("module `{module}` may not write what belongs to `{owner}`")]
    NotWriter {
        /// Who called.
        module: String,
        /// Whose it is.
        owner: String,
    },
    /// The agent waits for approval.
    #[error("agent `{0}` waits for approval")]
    NotApproved(String),
    /// The agent is revoked.
    #[error("agent `{0}` is revoked; a new join token lets it in again")]
    Revoked(String),
    /// The certificate is revoked; the agent is not.
    #[error("this certificate of agent `{0}` is revoked")]
    CertificateRevoked(String),
    /// No such certificate of the agent is remembered.
    #[error("the agent has no certificate with the serial number `{0}`")]
    CertificateNotFound(String),
    /// A service-account token that does not let in.
    #[error(transparent)]
    ServiceAccount(#[from] Refusal),
    /// The identity belongs to another cluster.
    #[error("agent `{0}` belongs to another cluster")]
    OtherCluster(String),
    /// The caller is not an agent.
    #[error("an agent's certificate is needed")]
    NoAgent,
    /// The agent has no session here.
    #[error("agent `{0}` is not connected")]
    NotConnected(String),
    /// Another replica was told that the session is here, and it is not.
    #[error("the session of agent `{agent}` is not on this replica; epoch {epoch}")]
    NotOwner {
        /// The agent.
        agent: String,
        /// Epoch of its newest session.
        epoch: u64,
    },
    /// The agent did not open the tunnel in time.
    #[error("agent `{0}` did not answer in time")]
    TunnelTimeout(String),
    /// Nothing passed through the tunnel for too long.
    #[error("nothing passed between agent `{0}` and its caller for too long")]
    TunnelIdle(String),
    /// The agent has as many tunnels as it may.
    #[error("agent `{0}` has too many tunnels at once")]
    TooManyTunnels(String),
    /// The tunnel's end said why.
    #[error("{message}")]
    Tunnel {
        /// Kind of the failure.
        kind: Kind,
        /// UPPER_SNAKE.
        reason: &'static str,
        /// In words.
        message: String,
    },
    /// The signing request is no good.
    #[error("the certificate request is refused: {0}")]
    CertificateRequest(String),
    /// A session ended.
    #[error("the session ended: {0}")]
    SessionEnded(&'static str),
    /// Too much at once.
    #[error("{0}")]
    Overloaded(&'static str),
    /// Too many come at once: this one's turn is after so long.
    #[error("this replica has too much to do; come again in {0:?}")]
    Slot(std::time::Duration),
    /// Stored bytes are not what was written.
    #[error("stored {0} cannot be read")]
    Corrupt(&'static str),
    /// The certificate authority failed.
    #[error("issue a certificate")]
    Authority(#[source] upm_mesh::identity::Error),
}

impl Error {
    /// A wrong field of the request.
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Field(FieldViolation {
            field: field.into(),
            description: description.into(),
        })
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Database(_) | Self::Corrupt(_) | Self::Authority(_) => Kind::Internal,
            Self::Field(_) | Self::CertificateRequest(_) => Kind::InvalidArgument,
            Self::AgentNotFound(_) | Self::ObjectNotFound(_) | Self::CertificateNotFound(_) => {
                Kind::NotFound
            }
            Self::IntentExists { .. } => Kind::AlreadyExists,
            Self::StaleGeneration { .. } | Self::NotOwner { .. } => Kind::Aborted,
            Self::StaleWriter { .. }
            | Self::DeletePending(_)
            | Self::IntentUidReused(_)
            | Self::LedgerNotEmpty(_)
            | Self::NotApproved(_)
            | Self::NotEnrolled(_)
            | Self::OtherCluster(_) => Kind::FailedPrecondition,
            Self::NotWriter { .. } => Kind::PermissionDenied,
            Self::LedgerFull(_) | Self::Overloaded(_) | Self::Slot(_) | Self::TooManyTunnels(_) => {
                Kind::ResourceExhausted
            }
            Self::JoinTokenInvalid
            | Self::Revoked(_)
            | Self::CertificateRevoked(_)
            | Self::ServiceAccount(_)
            | Self::NoAgent => Kind::Unauthenticated,
            Self::NotConnected(_) | Self::TunnelTimeout(_) | Self::TunnelIdle(_) => {
                Kind::Unavailable
            }
            Self::SessionEnded(reason) => match *reason {
                "VERSION_INCOMPATIBLE" | "CLUSTER_NOT_APPROVED" | "CLUSTER_UID_MISMATCH" => {
                    Kind::FailedPrecondition
                }
                "AGENT_NOT_FOUND" | "AGENT_REVOKED" => Kind::Unauthenticated,
                "PROTOCOL_ERROR" => Kind::InvalidArgument,
                "OVERRUN" => Kind::ResourceExhausted,
                "FENCED" => Kind::Aborted,
                _ => Kind::Unavailable,
            },
            Self::Tunnel { kind, .. } => *kind,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Store(error) => error.reason(),
            Self::Database(_) => "STORE_FAILED",
            Self::Field(_) => "INVALID_FIELD",
            Self::AgentNotFound(_) => "AGENT_NOT_FOUND",
            Self::ObjectNotFound(_) => "OBJECT_NOT_FOUND",
            Self::StaleWriter { .. } => "STALE_WRITER",
            Self::IntentExists { .. } => "INTENT_EXISTS",
            Self::DeletePending(_) => "DELETE_PENDING",
            Self::IntentUidReused(_) => "INTENT_UID_REUSED",
            Self::StaleGeneration { .. } => "STALE_GENERATION",
            Self::LedgerFull(_) => "LEDGER_FULL",
            Self::LedgerNotEmpty(_) => "LEDGER_NOT_EMPTY",
            Self::NotEnrolled(_) => "AGENT_NOT_ENROLLED",
            Self::NotWriter { .. } => "WRITER_NOT_ALLOWED",
            Self::JoinTokenInvalid => "JOIN_TOKEN_INVALID",
            Self::NotApproved(_) => "CLUSTER_NOT_APPROVED",
            Self::Revoked(_) => "AGENT_REVOKED",
            Self::CertificateRevoked(_) => "CERTIFICATE_REVOKED",
            Self::CertificateNotFound(_) => "CERTIFICATE_NOT_FOUND",
            Self::ServiceAccount(refusal) => refusal.reason(),
            Self::OtherCluster(_) => "CLUSTER_UID_MISMATCH",
            Self::NoAgent => "AGENT_CERTIFICATE_NEEDED",
            Self::NotConnected(_) => "AGENT_NOT_CONNECTED",
            Self::NotOwner { .. } => "NOT_OWNER",
            Self::TunnelTimeout(_) => "TUNNEL_TIMEOUT",
            Self::TunnelIdle(_) => "TUNNEL_IDLE",
            Self::TooManyTunnels(_) => "TOO_MANY_TUNNELS",
            Self::Tunnel { reason, .. } | Self::SessionEnded(reason) => reason,
            Self::CertificateRequest(_) => "CERTIFICATE_REQUEST_INVALID",
            Self::Overloaded(_) | Self::Slot(_) => "OVERLOADED",
            Self::Corrupt(_) => "STORED_DATA_CORRUPT",
            Self::Authority(_) => "AUTHORITY_FAILED",
        }
    }

    fn details(&self) -> Details {
        match self {
            Self::Store(error) => error.details(),
            Self::Field(violation) => Details {
                fields: vec![violation.clone()],
                ..Details::default()
            },
            Self::StaleWriter { owner, current, .. } => {
                Details::fact("owner", owner).with_fact("epoch", current.to_string())
            }
            Self::IntentExists { key, owner } => {
                Details::fact("key", key).with_fact("owner", owner)
            }
            Self::StaleGeneration { key, current, .. } => {
                Details::fact("key", key).with_fact("generation", current.to_string())
            }
            Self::NotOwner { agent, epoch } => {
                Details::fact("agent", agent).with_fact("epoch", epoch.to_string())
            }
            Self::DeletePending(key) | Self::IntentUidReused(key) => Details::fact("key", key),
            Self::Slot(after) => Details {
                retry_after: Some(*after),
                ..Details::default()
            },
            // A slot: whoever is refused together does not come back together.
            Self::Overloaded(_) => Details {
                retry_after: Some(std::time::Duration::from_millis(rand::random_range(
                    RETRY_AFTER_MS,
                ))),
                ..Details::default()
            },
            Self::Database(_)
            | Self::AgentNotFound(_)
            | Self::ObjectNotFound(_)
            | Self::LedgerFull(_)
            | Self::LedgerNotEmpty(_)
            | Self::JoinTokenInvalid
            | Self::NotEnrolled(_)
            | Self::NotWriter { .. }
            | Self::NotApproved(_)
            | Self::Revoked(_)
            | Self::CertificateRevoked(_)
            | Self::CertificateNotFound(_)
            | Self::ServiceAccount(_)
            | Self::OtherCluster(_)
            | Self::NoAgent
            | Self::NotConnected(_)
            | Self::TunnelTimeout(_)
            | Self::TunnelIdle(_)
            | Self::TooManyTunnels(_)
            | Self::Tunnel { .. }
            | Self::CertificateRequest(_)
            | Self::SessionEnded(_)
            | Self::Corrupt(_)
            | Self::Authority(_) => Details::default(),
        }
    }
}

upm_mesh::status_from!(Error, "hub.upm");
