//! What a session exchanges with the store and its driver.

use upm_proto::{
    hub::v1 as pb,
    ledger::{Root, limits},
};

/// What a session is configured with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of this replica.
    pub replica: String,
    /// When the agent's certificate ends, in the session's clock.
    pub certificate_ends: u64,
    /// When the session is old enough to be drained, in the session's clock.
    pub max_age: u64,
    /// Microseconds since 1970 when the session began, for `Welcome.hub_time`.
    pub wall_us: i64,
    /// Over how long agents spread their return after this replica is lost, in milliseconds.
    pub reconnect_spread_ms: u32,
}

impl Settings {
    /// The timers that `Welcome` announces.
    pub(super) fn timers(&self) -> pb::Timers {
        pb::Timers {
            heartbeat_ms: limits::HEARTBEAT_MS as u32,
            dead_ms: limits::DEAD_MS as u32,
            ack_stall_ms: limits::WEDGED_MS as u32,
            status_interval_ms: 1_000,
            anti_entropy_ms: limits::ANTI_ENTROPY_MS as u32,
            session_age_ms: limits::SESSION_AGE_MS as u32,
            reconnect_spread_ms: self.reconnect_spread_ms,
        }
    }
}

/// What the store shall do. Each command is idempotent and, except the first, is done only while the session's epoch is the current one.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Take the next epoch.
    Claim(Box<pb::Hello>),
    /// Keys changed after a revision.
    Scan {
        /// The revision.
        after: u64,
    },
    /// Rows with bodies, by key text, in this order, until about `bytes` of bodies are found.
    Fetch {
        /// Key texts.
        keys: Vec<String>,
        /// About how many bytes.
        bytes: u64,
    },
    /// Rows with bodies, by revision.
    FetchRevisions {
        /// Revisions; those that are no more are left out.
        revs: Vec<u64>,
        /// About how many bytes.
        bytes: u64,
    },
    /// All live entries without bodies, and the tombstones.
    Index,
    /// Commit results.
    Results {
        /// In order of `seq`; the latest per key.
        results: Vec<pb::ApplyResult>,
        /// The highest `seq` covered.
        upto: u64,
    },
    /// Commit status.
    Statuses {
        /// The latest per key.
        updates: Vec<pb::StatusUpdate>,
        /// The highest `seq` covered.
        upto: u64,
        /// Frames and bytes to grant afterwards.
        credit: (u32, u64),
    },
    /// Commit inventory.
    Inventory {
        /// What was seen.
        batch: pb::WatchBatch,
        /// Bytes to grant afterwards.
        bytes: u64,
    },
    /// Remember what the agent holds.
    Received {
        /// In memory.
        received: u64,
        /// Durably.
        durable: u64,
    },
    /// Remember what a guard kept.
    PruneHeld(pb::PruneHeld),
    /// Issue a certificate.
    Certificate(pb::CertRequest),
}

/// What a writer has just committed: what a scan and a fetch at that moment would have found.
#[derive(Debug, Clone, PartialEq)]
pub struct Fresh {
    /// Epoch of the agent's newest session.
    pub epoch: u64,
    /// The head before.
    pub after: u64,
    /// The head since.
    pub head: u64,
    /// The root at the head.
    pub root: Root,
    /// All rows between the two, by revision.
    pub rows: Vec<(Class, Row)>,
}

/// What the store did.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// A newer session has the agent.
    Fenced,
    /// The agent may not have a session.
    Refused(Refusal),
    /// The epoch is taken.
    Claimed(Box<Claim>),
    /// Changes after the asked revision, by revision.
    Scanned {
        /// All changes up to here are in the answer.
        upto: u64,
        /// Whether there are more.
        more: bool,
        /// The ledger's root at `upto`; meaningless when there is more.
        root: Root,
        /// Key text, revision, class.
        changed: Vec<(String, u64, Class)>,
    },
    /// Rows.
    Fetched(Vec<Row>),
    /// All entries.
    Indexed {
        /// The head revision.
        at_rev: u64,
        /// The root.
        root: Root,
        /// Live entries by revision.
        entries: Vec<IndexEntry>,
        /// Tombstones by revision.
        tombstones: Vec<pb::Delete>,
    },
    /// Something is committed.
    Committed(Committed),
    /// A certificate; `None` when the request was no good.
    Certificate(Option<pb::CertIssued>),
}

/// How urgent a dirty key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Before everything else.
    High,
    /// In order.
    Normal,
    /// A tombstone: alternates with `Normal`, so that neither starves the other.
    Delete,
    /// After everything else.
    Low,
}

/// What is committed.
#[derive(Debug, Clone, PartialEq)]
pub enum Committed {
    /// Results up to a sequence number.
    Results(u64),
    /// Status up to a sequence number.
    Statuses {
        /// The sequence number.
        upto: u64,
        /// Digests whose patch base is missing.
        resend: Vec<bytes::Bytes>,
        /// Frames and bytes to grant.
        credit: (u32, u64),
    },
    /// An inventory batch of so many bytes.
    Inventory(u64),
    /// What the agent holds.
    Received,
    /// What a guard kept.
    PruneHeld,
}

/// What a claim brings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Claim {
    /// The new epoch.
    pub epoch: u64,
    /// The ledger's incarnation; a new one when the agent has seen more than the store knows.
    pub incarnation: Vec<u8>,
    /// Newest revision.
    pub head_rev: u64,
    /// Tombstones up to here are gone.
    pub compacted_rev: u64,
    /// Root at the head.
    pub root: Root,
    /// Root of the status that the store holds.
    pub status_root: Root,
    /// Tombstones that the agent was sent and that are not settled, with their revisions: they are sent again, because no root counts them.
    pub tombstones: Vec<(String, u64)>,
    /// Where inventory watches resume, by watch id.
    pub inventory: Vec<(u32, String)>,
}

/// Why an agent may not have a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody knows it.
    Unknown,
    /// It waits for approval.
    NotApproved,
    /// It is revoked.
    Revoked,
    /// Its certificate is used in another cluster.
    OtherCluster,
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Close {
    /// No Hello in time.
    HelloTimeout,
    /// No version in common.
    VersionIncompatible,
    /// The agent may not have a session.
    Refused(Refusal),
    /// A newer session has the agent.
    Fenced,
    /// Nothing heard in time.
    Dead,
    /// No progress of acks.
    Wedged,
    /// More than was granted.
    Overrun,
    /// Asked to go, and gone.
    Drained,
    /// The agent said goodbye.
    Goodbye,
    /// The peer does not speak the protocol.
    Protocol(&'static str),
}

impl Close {
    /// UPPER_SNAKE, for status details, logs and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::HelloTimeout => "HELLO_TIMEOUT",
            Self::VersionIncompatible => "VERSION_INCOMPATIBLE",
            Self::Refused(Refusal::Unknown) => "AGENT_NOT_FOUND",
            Self::Refused(Refusal::NotApproved) => "CLUSTER_NOT_APPROVED",
            Self::Refused(Refusal::Revoked) => "AGENT_REVOKED",
            Self::Refused(Refusal::OtherCluster) => "CLUSTER_UID_MISMATCH",
            Self::Fenced => "FENCED",
            Self::Dead => "DEAD",
            Self::Wedged => "WEDGED",
            Self::Overrun => "OVERRUN",
            Self::Drained => "DRAINED",
            Self::Goodbye => "GOODBYE",
            Self::Protocol(_) => "PROTOCOL_ERROR",
        }
    }
}

/// A ledger row as it is handed over.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Key text.
    pub text: String,
    /// Revision.
    pub rev: u64,
    /// What to send, without `dseq`.
    pub body: Body,
}

impl Row {
    /// Bytes of its body.
    pub(super) fn body_bytes(&self) -> u64 {
        match &self.body {
            Body::Apply(apply) => match &apply.body {
                Some(pb::apply::Body::Json(json)) => json.len() as u64,
                Some(
                    pb::apply::Body::JsonZstd(_)
                    | pb::apply::Body::Ref(_)
                    | pb::apply::Body::Patch(_),
                )
                | None => 0,
            },
            Body::Delete(_) => 0,
        }
    }
}

/// What a row says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// An intent.
    Apply(Box<pb::Apply>),
    /// A tombstone.
    Delete(Box<pb::Delete>),
}

/// A live entry without its body.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexEntry {
    /// Revision.
    pub rev: u64,
    /// The object.
    pub key: pb::Key,
    /// Identity of the intent.
    pub intent_uid: Vec<u8>,
    /// Its generation.
    pub generation: u64,
    /// SHA-256 of its body.
    pub digest: Vec<u8>,
    /// Seconds without a session after which the object goes; 0 for never.
    pub ttl_seconds: u32,
}
