//! What a session exchanges with its driver.

use prost::bytes::Bytes;
use upm_proto::hub::v1 as pb;

use super::copy::Stored;

/// What the agent says of itself in Hello.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Version of the agent.
    pub build: String,
    /// Pod UID and a nonce of this start.
    pub instance_id: Vec<u8>,
    /// UID of `kube-system`.
    pub cluster_uid: String,
    /// Version of the API server.
    pub k8s_version: String,
    /// Kinds that can be applied.
    pub kinds: Vec<pb::KindSupport>,
    /// Where it runs.
    pub region: String,
}

/// Work on one object. There is at most one piece of work per key at a time.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Make the object so.
    Apply {
        /// Key text.
        text: String,
        /// The intent, with its body as JSON.
        apply: Box<pb::Apply>,
        /// How often it was tried before.
        attempt: u32,
    },
    /// Make the object go.
    Delete {
        /// Key text.
        text: String,
        /// The tombstone.
        delete: Box<pb::Delete>,
        /// How often it was tried before.
        attempt: u32,
        /// Whether no tombstone wants it, but the intent's time to live, which has run out: it is not to be done late, because a session may
        /// have brought the intent back by then.
        expired: bool,
    },
    /// See whether the object carries this intent already; its body is not here.
    Verify {
        /// Key text.
        text: String,
        /// The object.
        key: pb::Key,
        /// Identity of the intent.
        intent_uid: Vec<u8>,
        /// Its generation.
        generation: u64,
        /// SHA-256 of its body.
        digest: Vec<u8>,
    },
}

impl Work {
    /// The key of the work.
    pub fn text(&self) -> &str {
        match self {
            Self::Apply { text, .. } | Self::Delete { text, .. } | Self::Verify { text, .. } => {
                text
            }
        }
    }

    /// Identity and generation of the intent.
    pub fn intent(&self) -> (&[u8], u64) {
        match self {
            Self::Apply { apply, .. } => (&apply.intent_uid, apply.generation),
            Self::Delete { delete, .. } => (&delete.intent_uid, delete.generation),
            Self::Verify {
                intent_uid,
                generation,
                ..
            } => (intent_uid, *generation),
        }
    }
}

/// What came of a piece of work.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// Key text.
    pub text: String,
    /// Identity of the intent.
    pub intent_uid: Vec<u8>,
    /// Its generation.
    pub generation: u64,
    /// What came of it.
    pub verdict: Verdict,
    /// Whether the API server asked to be left alone.
    pub throttled: bool,
}

/// What came of a piece of work.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// An outcome to report; `rev`, `key` and `seq` are filled in by the session.
    Outcome(Box<pb::ApplyResult>),
    /// The live object does not carry the intent: its body is needed.
    BodyNeeded,
}

/// What the collector saw of an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// From the annotation; empty when gone.
    pub intent_uid: Vec<u8>,
    /// From the annotation.
    pub intent_generation: u64,
    /// `metadata.generation`.
    pub observed_generation: i64,
    /// Resource version.
    pub resource_version: String,
    /// The object under the field mask, canonical JSON.
    pub body: Bytes,
    /// Whether what the intent says, or more of it, was changed since it was seen last, by whomever.
    pub edited: bool,
    /// Whether the object does not exist.
    pub gone: bool,
    /// Condition changes since the last observation.
    pub edges: Vec<pb::Transition>,
    /// Whether it shall not wait: Ready went false, a phase is terminal.
    pub urgent: bool,
}

/// A change of the durable copy: the heads, and the entries that changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Persist {
    /// Incarnation of the hub's ledger.
    pub incarnation: Vec<u8>,
    /// The last bookmark.
    pub received_rev: u64,
    /// Epoch of the last session.
    pub epoch: u64,
    /// For how many milliseconds there was no session when this was taken, or is none when it is loaded; `None` during a session, or when
    /// nothing has a time to live.
    pub silent_ms: Option<u64>,
    /// Key text, and what it became; `None` removes it.
    pub entries: Vec<(String, Option<Stored>)>,
}

/// Something to do that is not work on an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Watch these.
    Interest(pb::Interest),
    /// Open a tunnel.
    OpenTunnel(pb::OpenTunnel),
    /// A new certificate.
    Certificate(pb::CertIssued),
    /// End the connection and dial again.
    Reconnect(Lost),
}

/// Why a connection must end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// The hub asks for it: reason, wait at least so many ms, spread over so many more.
    Drained(pb::drain::Reason, u32, u32),
    /// No Welcome in time.
    HelloTimeout,
    /// Nothing heard in time.
    Dead,
    /// The hub does not speak the protocol.
    Protocol(&'static str),
}
