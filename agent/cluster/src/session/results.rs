//! Results on their way to the hub: a register per key, kept until the hub has acknowledged it.

use std::collections::{HashMap, VecDeque};

use prost::Message as _;
use upm_proto::{
    hub::v1::{self as pb, Outcome},
    ledger::{key_text, limits},
    mutation::Mutation,
};

/// Results that may be without acknowledgement when the hub does not say more, and their bytes; below what the hub cuts at.
const UNACKED: (u64, usize) = (512, limits::RESULT_BYTES / 2);

/// A result that the hub has.
#[derive(Debug, Clone)]
pub(super) struct Acked {
    pub(super) text: String,
    pub(super) uid: Vec<u8>,
    pub(super) generation: u64,
    pub(super) is_final: bool,
}

/// The registers.
#[derive(Debug)]
pub(super) struct Results {
    waiting: HashMap<String, pb::ApplyResult>,
    order: VecDeque<String>,
    sent: VecDeque<pb::ApplyResult>,
    sent_bytes: usize,
    seq: u64,
    most: u64,
}

impl Default for Results {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            order: VecDeque::new(),
            sent: VecDeque::new(),
            sent_bytes: 0,
            seq: 0,
            most: UNACKED.0,
        }
    }
}

/// Whether no further work follows by itself.
pub(super) fn is_final(result: &pb::ApplyResult) -> bool {
    result.retry_in_ms == 0
        && !matches!(
            result.outcome(),
            Outcome::Unspecified
                | Outcome::Transient
                | Outcome::BlockedOnDependency
                | Outcome::Deleting
                | Outcome::Superseded
        )
}

impl Results {
    /// The hub says how many may be without acknowledgement; 0 when it does not.
    pub(super) fn set_most(&mut self, most: u32) {
        self.most = match u64::from(most) {
            0 => UNACKED.0,
            most => (most / 2).clamp(1, limits::RESULT_MESSAGES / 2),
        };
    }

    pub(super) fn put(&mut self, result: pb::ApplyResult) {
        let Some(key) = &result.key else { return };
        let text = key_text(key);
        if self.waiting.insert(text.clone(), result).is_none() {
            self.order.push_back(text);
        }
    }

    /// The next result to send, within the window.
    pub(super) fn next(&mut self) -> Option<pb::ApplyResult> {
        if self.sent.len() as u64 >= self.most || self.sent_bytes >= UNACKED.1 {
            return None;
        }
        let text = self.order.pop_front()?;
        let mut result = self.waiting.remove(&text)?;
        self.seq += 1;
        result.seq = self.seq;
        self.sent_bytes += result.encoded_len();
        self.sent.push_back(result.clone());
        Some(result)
    }

    /// The hub has everything up to here.
    pub(super) fn acked(&mut self, upto: u64) -> Vec<Acked> {
        let mut acked = Vec::new();
        while self.sent.front().is_some_and(|r| r.seq <= upto)
            && let Some(result) = self.sent.pop_front()
        {
            self.sent_bytes -= result.encoded_len();
            if let Some(key) = &result.key {
                acked.push(Acked {
                    text: key_text(key),
                    is_final: is_final(&result),
                    uid: result.intent_uid.to_vec(),
                    generation: result.generation,
                });
            }
        }
        acked
    }

    /// What was not acknowledged is sent again, unless something newer waits.
    pub(super) fn disconnected(&mut self) {
        self.seq = 0;
        self.sent_bytes = 0;
        self.most = UNACKED.0;
        let sent = std::mem::take(&mut self.sent);
        if Mutation::ResultForgotten.is_on() {
            return;
        }
        for result in sent.into_iter().rev() {
            let Some(key) = &result.key else { continue };
            let text = key_text(key);
            if let std::collections::hash_map::Entry::Vacant(place) =
                self.waiting.entry(text.clone())
            {
                place.insert(result);
                self.order.push_front(text);
            }
        }
    }
}
