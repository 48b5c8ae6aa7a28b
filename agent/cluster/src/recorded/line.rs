//! One line of a recorded session.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message;
use serde::{Deserialize, Serialize};
use upm_proto::hub::v1::{self as pb, agent_frame, hub_frame};

/// What happened, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Line {
    /// Milliseconds since the beginning.
    pub(super) at: u64,
    #[serde(flatten)]
    pub(super) step: Step,
}

/// What happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "camelCase")]
pub(super) enum Step {
    /// A connection begins.
    Connect,
    /// It breaks; both sides see it.
    Break,
    /// The agent's process ends and another begins: with its durable copy but for one key, or, without a key, with none.
    Restart {
        /// Key text.
        without: Option<String>,
    },
    /// Somebody writes intents; base64 of `ApplyObjectsRequest`.
    Write {
        /// The request.
        request: String,
    },
    /// Somebody deletes intents; base64 of `DeleteObjectsRequest`.
    Erase {
        /// The request.
        request: String,
    },
    /// The hub sent a frame; base64 of `HubFrame`.
    Hub {
        /// The frame.
        frame: String,
    },
    /// The agent sent a frame; base64 of `AgentFrame`.
    Agent {
        /// The frame.
        frame: String,
    },
    /// The end.
    End {
        /// The ledger, by name.
        ledger: BTreeMap<String, End>,
        /// Generations of the objects in the cluster, by key text.
        cluster: BTreeMap<String, u64>,
    },
}

/// How a key ended in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) generation: u64,
    pub(super) outcome: i32,
    pub(super) status: String,
}

pub(super) fn encode(message: &impl Message) -> String {
    STANDARD.encode(message.encode_to_vec())
}

pub(super) fn decode<T: Message + Default>(text: &str) -> T {
    T::decode(STANDARD.decode(text).unwrap().as_slice()).unwrap()
}

/// Whether a message says the same after it was read: nothing of it is unknown.
pub(super) fn reread<T: Message + Default>(text: &str) -> bool {
    encode(&decode::<T>(text)) == text
}

impl Line {
    /// `hub:Apply`, for frames.
    pub(super) fn kind(&self) -> Option<String> {
        let (from, shown) = match &self.step {
            Step::Hub { frame } => {
                let frame: pb::HubFrame = decode(frame);
                ("hub", format!("{:?}", frame.message?))
            }
            Step::Agent { frame } => {
                let frame: pb::AgentFrame = decode(frame);
                ("agent", format!("{:?}", frame.message?))
            }
            _ => return None,
        };
        Some(format!("{from}:{}", shown.split('(').next()?))
    }
}

/// Whether an intent and a status went as a patch.
pub(super) fn patches(lines: &[Line]) -> bool {
    let intent = lines.iter().any(|line| match &line.step {
        Step::Hub { frame } => matches!(
            decode::<pb::HubFrame>(frame).message,
            Some(hub_frame::Message::Apply(pb::Apply {
                body: Some(pb::apply::Body::Patch(_)),
                ..
            }))
        ),
        _ => false,
    });
    let status = lines.iter().any(|line| match &line.step {
        Step::Agent { frame } => match decode::<pb::AgentFrame>(frame).message {
            Some(agent_frame::Message::Status(batch)) => batch
                .updates
                .iter()
                .any(|u| matches!(u.body, Some(pb::status_update::Body::Patch(_)))),
            _ => false,
        },
        _ => false,
    });
    intent && status
}

/// Whether an intent has expired and was applied again.
pub(super) fn expires(lines: &[Line]) -> bool {
    let outcomes = lines.iter().filter_map(|line| match &line.step {
        Step::Agent { frame } => match decode::<pb::AgentFrame>(frame).message {
            Some(agent_frame::Message::Result(result)) => Some(result.outcome()),
            _ => None,
        },
        _ => None,
    });
    outcomes
        .skip_while(|outcome| *outcome != pb::Outcome::Expired)
        .any(|outcome| outcome == pb::Outcome::Applied)
}
