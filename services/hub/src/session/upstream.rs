//! What comes up: results, status, inventory. Registers, not queues: the latest per key is committed, then acknowledged, then credit is
//! granted again, so that a slow store makes agents merge more instead of losing anything.

use std::collections::{HashMap, VecDeque};

use prost::{Message, bytes::Bytes};
use upm_proto::{
    hub::v1::{self as pb, hub_frame},
    ledger::{Window, key_text, limits},
};

use super::{
    interest,
    message::{Close, Command, Committed},
};
use crate::overload::Level;

/// Updates of one agent that are taken per millisecond: an agent that says more waits for its credit, merges meanwhile, and costs the
/// others no more than that. A first burst, of as much as it has credit for, is taken at once.
const UPDATES_PER_MS: u64 = 10;

/// Milliseconds that an ack waits for another one to go along with: an agent that acts on one change gets one frame for result and status.
const ACK_MS: u64 = 50;

/// What is committed and the agent does not know yet.
#[derive(Debug, Default)]
struct Acks {
    result: u64,
    results: u64,
    status: u64,
    resend: Vec<Bytes>,
    credit: (u32, u64),
    at: Option<u64>,
}

impl Acks {
    /// Whether the agent may be waiting for it: it must say something again, or has used up half of what it may send.
    fn is_urgent(&self) -> bool {
        !self.resend.is_empty()
            || self.results >= limits::RESULT_MESSAGES / 2
            || self.credit.0 >= limits::STATUS_MESSAGES / 2
            || self.credit.1 >= limits::STATUS_BYTES / 2
    }
}

/// State of the upward lanes.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    results: HashMap<String, pb::ApplyResult>,
    result_bytes: usize,
    result_seq: u64,
    result_acked: u64,
    committing_results: bool,
    updates: HashMap<String, pb::StatusUpdate>,
    status_seq: u64,
    status_credit: (u32, u64),
    status_window: Window,
    acks: Acks,
    committing_statuses: bool,
    /// Updates that came since the last commit, before they were merged.
    status_came: u64,
    /// Not before this while there is too much to do.
    status_at: u64,
    /// Not before this, because the agent has said too much.
    share_at: u64,
    inventory: VecDeque<(pb::WatchBatch, u64)>,
    bulk_window: Window,
    committing_inventory: bool,
    held: Option<pb::PruneHeld>,
    committing_held: bool,
    pub(super) certificate_pending: bool,
}

impl Upstream {
    /// The agent may send as much as Welcome says.
    pub(super) fn start(&mut self) {
        self.status_window = Window::new(limits::STATUS_MESSAGES, limits::STATUS_BYTES);
        self.bulk_window = Window::new(limits::BULK_MESSAGES, limits::BULK_BYTES);
    }

    pub(super) fn result(&mut self, result: pb::ApplyResult) -> Result<(), Close> {
        if result.seq != self.result_seq + 1 {
            return Err(Close::Protocol("a result out of sequence"));
        }
        self.result_seq = result.seq;
        if self.result_seq - self.result_acked > limits::RESULT_MESSAGES {
            return Err(Close::Overrun);
        }
        let result = bounded(result);
        self.result_bytes += result.encoded_len();
        if self.result_bytes > limits::RESULT_BYTES {
            return Err(Close::Overrun);
        }
        if let Some(key) = &result.key {
            self.results.insert(key_text(key), result);
        }
        Ok(())
    }

    pub(super) fn status(&mut self, batch: pb::StatusBatch) -> Result<(), Close> {
        let size = batch.encoded_len();
        self.status_window.take(size);
        if self.status_window.overrun(limits::JOINED_BYTES)
            || batch.updates.len() > limits::STATUS_BATCH
        {
            return Err(Close::Overrun);
        }
        self.status_credit.0 += 1;
        self.status_credit.1 += size as u64;
        self.status_came += batch.updates.len() as u64;
        for update in batch.updates {
            if update.seq <= self.status_seq {
                return Err(Close::Protocol("a status out of sequence"));
            }
            self.status_seq = update.seq;
            let Some(key) = &update.key else { continue };
            self.updates.insert(key_text(key), update);
        }
        Ok(())
    }

    /// Takes what the agent sees of the hub's interest, and nothing else of its cluster.
    pub(super) fn watch(&mut self, mut batch: pb::WatchBatch) -> Result<(), Close> {
        let size = batch.encoded_len();
        let Some(watched) = interest::inventory(batch.watch_id) else {
            return Err(Close::Protocol("a watch that nobody asked for"));
        };
        batch.events.retain(|event| {
            event
                .key
                .as_ref()
                .is_some_and(|key| interest::selects(watched, key))
        });
        self.bulk_window.take(size);
        if self.bulk_window.overrun(limits::JOINED_BYTES) {
            return Err(Close::Overrun);
        }
        self.inventory.push_back((batch, size as u64));
        Ok(())
    }

    /// Bytes of what waits to be committed.
    pub(super) fn held_bytes(&self) -> usize {
        let results = self.results.values().map(Message::encoded_len);
        let updates = self.updates.values().map(Message::encoded_len);
        let inventory = self.inventory.iter().map(|(_, bytes)| *bytes as usize);
        results.chain(updates).chain(inventory).sum()
    }

    /// What a guard of the agent keeps: the latest report counts.
    pub(super) fn prune_held(&mut self, held: pb::PruneHeld) {
        self.held = Some(held);
    }

    /// When [`Upstream::commands`] or [`Upstream::acks`] may have something to do although nothing came.
    pub(super) fn deadline(&self) -> u64 {
        let commit = if self.committing_statuses || self.status_credit.0 == 0 {
            u64::MAX
        } else {
            self.status_at.max(self.share_at)
        };
        commit.min(self.acks.at.unwrap_or(u64::MAX))
    }

    /// Acks and credit of what is committed, once they are due.
    pub(super) fn acks(&mut self, now: u64) -> Vec<hub_frame::Message> {
        if self.acks.at.is_none_or(|at| now < at) && !self.acks.is_urgent() {
            return Vec::new();
        }
        let acks = std::mem::take(&mut self.acks);
        let mut frames = vec![hub_frame::Message::StatusAck(pb::StatusAck {
            upto_seq: acks.status,
            resend_digest: acks.resend,
            upto_result_seq: acks.result,
        })];
        if acks.credit.0 > 0 {
            frames.push(credit(pb::Lane::Status, acks.credit.0, acks.credit.1));
        }
        frames
    }

    /// Commands that may run now: one of each sort at a time. With too much to do status is committed at a pace and inventory waits: credit
    /// comes back later, and agents merge.
    pub(super) fn commands(&mut self, now: u64, level: Level) -> Vec<Command> {
        let mut commands = Vec::new();
        if !self.committing_results
            && self.result_seq > self.result_acked
            && !self.results.is_empty()
        {
            self.committing_results = true;
            self.result_bytes = 0;
            let results = std::mem::take(&mut self.results);
            let mut results = results.into_values().collect::<Vec<_>>();
            results.sort_by_key(|r| r.seq);
            commands.push(Command::Results {
                results,
                upto: self.result_seq,
            });
        }
        let pause = level.status_pause_ms();
        let may = now >= self.share_at && (pause == 0 || now >= self.status_at);
        if may && !self.committing_statuses && self.status_credit.0 > 0 {
            self.committing_statuses = true;
            self.status_at = now + pause;
            self.share_at = now + std::mem::take(&mut self.status_came) / UPDATES_PER_MS;
            let updates = std::mem::take(&mut self.updates);
            let mut updates = updates.into_values().collect::<Vec<_>>();
            updates.sort_by_key(|u| u.seq);
            commands.push(Command::Statuses {
                updates,
                upto: self.status_seq,
                credit: std::mem::take(&mut self.status_credit),
            });
        }
        if !self.committing_inventory
            && level == Level::Green
            && let Some((batch, bytes)) = self.inventory.pop_front()
        {
            self.committing_inventory = true;
            commands.push(Command::Inventory { batch, bytes });
        }
        if !self.committing_held
            && let Some(held) = self.held.take()
        {
            self.committing_held = true;
            commands.push(Command::PruneHeld(held));
        }
        commands
    }

    /// Notes what was committed, for [`Upstream::acks`]; what is granted again of the bulk lane.
    pub(super) fn committed(
        &mut self,
        now: u64,
        committed: Committed,
    ) -> Option<hub_frame::Message> {
        match committed {
            Committed::Received => return None,
            Committed::PruneHeld => {
                self.committing_held = false;
                return None;
            }
            Committed::Inventory(bytes) => {
                self.committing_inventory = false;
                self.bulk_window.grant(1, bytes);
                return Some(credit(pb::Lane::Bulk, 1, bytes));
            }
            Committed::Results(upto) => {
                self.committing_results = false;
                self.acks.results += upto - self.result_acked;
                self.acks.result = upto;
                self.result_acked = upto;
            }
            Committed::Statuses {
                upto,
                resend,
                credit: (messages, bytes),
            } => {
                self.committing_statuses = false;
                self.status_window.grant(messages, bytes);
                self.acks.status = upto;
                self.acks.resend.extend(resend);
                self.acks.credit.0 += messages;
                self.acks.credit.1 += bytes;
            }
        }
        self.acks.at.get_or_insert(now + ACK_MS);
        None
    }
}

/// What is kept of a result: an agent cannot fill the hub with words.
fn bounded(mut result: pb::ApplyResult) -> pb::ApplyResult {
    result.conflicts.truncate(32);
    for conflict in &mut result.conflicts {
        cut(&mut conflict.field, 500);
        cut(&mut conflict.manager, 200);
    }
    if let Some(error) = &mut result.error {
        cut(&mut error.reason, 100);
        cut(&mut error.message, 4_000);
    }
    cut(&mut result.live_uid, 200);
    cut(&mut result.resource_version, 200);
    result
}

/// Cuts a text to at most so many bytes, between characters.
pub(crate) fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most).rev().find(|i| text.is_char_boundary(*i));
        text.truncate(end.unwrap_or(0));
    }
}

fn credit(lane: pb::Lane, messages: u32, bytes: u64) -> hub_frame::Message {
    hub_frame::Message::Credit(pb::Credit {
        lane: lane.into(),
        messages,
        bytes,
    })
}
