//! Status on its way to the hub: a register per key. The first change goes at once, then at most one per interval; what is equal is not
//! sent; what went bad does not wait.

use std::collections::{BTreeSet, HashMap, VecDeque};

use prost::{Message as _, bytes::Bytes};
use upm_proto::{
    hub::v1::{self as pb, status_update},
    ledger::{Entry as Counted, Root, content_digest, limits, merge_patch},
    mutation::Mutation,
};

use super::{
    copy::{Copy, Entry},
    message::Observation,
};

/// Milliseconds between two updates of a key, unless the hub says otherwise.
const INTERVAL_MS: u64 = 1_000;
/// Milliseconds to gather a batch.
const LINGER_MS: u64 = 20;
/// Urgent updates of a key in a row.
const BURST: u32 = 5;

/// What identifies a report.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    uid: Vec<u8>,
    generation: u64,
    /// Empty when gone.
    digest: Vec<u8>,
}

#[derive(Debug)]
struct Sent {
    seq: u64,
    mark: Mark,
    edges: usize,
    /// Empty when gone.
    body: Bytes,
}

#[derive(Debug)]
struct Register {
    key: pb::Key,
    mark: Mark,
    observed_generation: i64,
    resource_version: String,
    body: Bytes,
    gone: bool,
    edges: Vec<pb::Transition>,
    edges_dropped: u32,
    coalesced: u32,
    acked: Option<Mark>,
    /// The body of `acked`, when it was acknowledged in this session.
    base: Option<Bytes>,
    sent: VecDeque<Sent>,
    last_sent: Option<u64>,
    burst: u32,
    due: Option<u64>,
}

impl Register {
    /// What the hub has, or will have when what is on its way arrives.
    fn reported(&self) -> Option<&Mark> {
        self.sent.back().map(|s| &s.mark).or(self.acked.as_ref())
    }

    fn is_dirty(&self) -> bool {
        let unsent = self.sent.iter().map(|s| s.edges).sum::<usize>() < self.edges.len();
        self.reported() != Some(&self.mark) || unsent
    }
}

/// The registers.
#[derive(Debug, Default)]
pub(super) struct Registers {
    keys: HashMap<String, Register>,
    due: BTreeSet<(u64, String)>,
    order: VecDeque<(u64, String)>,
    /// What was on its way when the connection broke, in order.
    broken: Vec<(String, Mark)>,
    seq: u64,
    intervals: HashMap<(String, String), u64>,
}

impl Registers {
    pub(super) fn interval(&mut self, watch: &pb::Watch) {
        let ms = match u64::from(watch.min_interval_ms) {
            0 => INTERVAL_MS,
            ms => ms.max(100),
        };
        self.intervals
            .insert((watch.group.clone(), watch.kind.clone()), ms);
    }

    pub(super) fn observed(
        &mut self,
        now: u64,
        key: pb::Key,
        text: &str,
        seen: Observation,
        entry: Option<&Entry>,
    ) {
        let before = self.keys.get(text);
        let mark = if seen.gone {
            // Whose object it was, one knows only from before.
            let Some(before) = before else { return };
            Mark {
                uid: before.mark.uid.clone(),
                generation: before.mark.generation,
                digest: Vec::new(),
            }
        } else {
            Mark {
                uid: seen.intent_uid,
                generation: seen.intent_generation,
                digest: content_digest(&seen.body).to_vec(),
            }
        };
        let register = self.keys.entry(text.to_owned()).or_insert(Register {
            key: key.clone(),
            mark: mark.clone(),
            observed_generation: 0,
            resource_version: String::new(),
            body: Bytes::new(),
            gone: false,
            edges: Vec::new(),
            edges_dropped: 0,
            coalesced: 0,
            acked: None,
            base: None,
            sent: VecDeque::new(),
            last_sent: None,
            burst: 0,
            due: None,
        });
        if register.due.is_some() {
            register.coalesced += 1;
        }
        register.key = entry.map_or(key, |entry| entry.key.clone());
        register.mark = mark;
        register.observed_generation = seen.observed_generation;
        register.resource_version = seen.resource_version;
        register.body = seen.body;
        register.gone = seen.gone;
        register.edges.extend(seen.edges);
        while register.edges.len() > limits::EDGES {
            register.edges.remove(0);
            register.edges_dropped += 1;
            if let Some(first) = register.sent.iter_mut().find(|s| s.edges > 0) {
                first.edges -= 1;
            }
        }
        self.plan(now, text, seen.urgent);
    }

    /// Decides when a key is sent.
    fn plan(&mut self, now: u64, text: &str, urgent: bool) {
        let Some(register) = self.keys.get_mut(text) else {
            return;
        };
        let old = register.due;
        let new = if register.is_dirty() {
            let kind = (register.key.group.clone(), register.key.kind.clone());
            let interval = self.intervals.get(&kind).copied().unwrap_or(INTERVAL_MS);
            let calm = register
                .last_sent
                .map_or(now + LINGER_MS, |at| (at + interval).max(now + LINGER_MS));
            if register.last_sent.is_none_or(|at| now >= at + 5 * interval) {
                register.burst = 0;
            }
            if urgent && register.burst < BURST {
                register.burst += 1;
                Some(now)
            } else {
                Some(old.unwrap_or(calm).min(calm))
            }
        } else {
            None
        };
        register.due = new;
        if old != new {
            if let Some(old) = old {
                self.due.remove(&(old, text.to_owned()));
            }
            if let Some(new) = new {
                self.due.insert((new, text.to_owned()));
            }
        }
    }

    /// The key's intent has changed: what waited for it may go.
    pub(super) fn changed(&mut self, now: u64, text: &str) {
        self.plan(now, text, false);
    }

    pub(super) fn forget(&mut self, text: &str) {
        if let Some(register) = self.keys.remove(text)
            && let Some(due) = register.due
        {
            self.due.remove(&(due, text.to_owned()));
        }
    }

    /// The next batch that is due; what lingers goes `along` with something else.
    pub(super) fn next(
        &mut self,
        now: u64,
        along: bool,
        copy: &Copy,
        patches: bool,
    ) -> Option<pb::StatusBatch> {
        let mut batch = pb::StatusBatch::default();
        let mut bytes = 0;
        while batch.updates.len() < limits::STATUS_BATCH && bytes < limits::FRAME_BYTES / 2 {
            let Some((due, text)) = self.due.first().cloned() else {
                break;
            };
            let lingers = along || !batch.updates.is_empty();
            if due > now + if lingers { LINGER_MS } else { 0 } {
                break;
            }
            self.due.remove(&(due, text.clone()));
            let Some(register) = self.keys.get_mut(&text) else {
                continue;
            };
            register.due = None;
            let ours = copy
                .get(&text)
                .is_some_and(|e| !e.tombstone && e.uid == register.mark.uid);
            if !ours {
                // The hub would not know whose it is. A change of the intent brings it back.
                continue;
            }
            self.seq += 1;
            let update = update(register, self.seq, patches);
            bytes += update.encoded_len();
            let unsent = register.edges.len()
                - register
                    .sent
                    .iter()
                    .map(|s| s.edges)
                    .sum::<usize>()
                    .min(register.edges.len());
            register.sent.push_back(Sent {
                seq: self.seq,
                mark: register.mark.clone(),
                edges: unsent,
                body: register.body.clone(),
            });
            register.last_sent = Some(now);
            register.coalesced = 0;
            self.order.push_back((self.seq, text));
            batch.updates.push(update);
        }
        (!batch.updates.is_empty()).then_some(batch)
    }

    /// The hub has everything up to here.
    pub(super) fn acked(&mut self, upto: u64, resend: &[Bytes]) {
        let mut again = Vec::new();
        while self.order.front().is_some_and(|(seq, _)| *seq <= upto)
            && let Some((seq, text)) = self.order.pop_front()
        {
            let Some(register) = self.keys.get_mut(&text) else {
                continue;
            };
            while register.sent.front().is_some_and(|s| s.seq <= seq)
                && let Some(sent) = register.sent.pop_front()
            {
                if resend
                    .iter()
                    .any(|digest| digest[..] == sent.mark.digest[..])
                {
                    // Nothing of it was kept: neither the body nor the edges.
                    register.acked = None;
                    register.base = None;
                    again.push(text.clone());
                    continue;
                }
                let edges = sent.edges.min(register.edges.len());
                register.edges.drain(..edges);
                register.edges_dropped = 0;
                register.acked = Some(sent.mark);
                register.base = Some(sent.body);
            }
        }
        for text in again {
            self.plan(0, &text, false);
        }
    }

    /// What was on its way may have arrived or not.
    pub(super) fn disconnected(&mut self) {
        for register in self.keys.values_mut() {
            register.base = None;
        }
        let order = std::mem::take(&mut self.order);
        if order.is_empty() && self.broken.is_empty() {
            self.seq = 0;
            return;
        }
        for (seq, text) in order {
            if let Some(register) = self.keys.get(&text)
                && let Some(sent) = register.sent.iter().find(|s| s.seq == seq)
            {
                self.broken.push((text, sent.mark.clone()));
            }
        }
        self.seq = 0;
        let texts = self
            .broken
            .iter()
            .map(|(t, _)| t.clone())
            .collect::<Vec<_>>();
        for text in texts {
            if let Some(register) = self.keys.get_mut(&text) {
                register.sent.clear();
            }
            self.plan(0, &text, false);
        }
    }

    /// The hub says what it has: either what is known here to be acknowledged, or that and some of what was on its way, or else
    /// everything is sent again.
    pub(super) fn welcomed(&mut self, theirs: &[u8], copy: &Copy) {
        let broken = std::mem::take(&mut self.broken);
        let Some(theirs) = Root::from_bytes(theirs) else {
            return;
        };
        if Mutation::StatusForgotten.is_on() {
            for (text, mark) in broken {
                if let Some(register) = self.keys.get_mut(&text) {
                    register.acked = Some(mark);
                }
            }
            return self.replan();
        }
        if self.acked_root(copy) == theirs {
            return;
        }
        for (text, mark) in broken {
            if let Some(register) = self.keys.get_mut(&text) {
                register.acked = Some(mark);
            }
            if self.acked_root(copy) == theirs {
                self.replan();
                return;
            }
        }
        for register in self.keys.values_mut() {
            register.acked = None;
        }
        self.replan();
    }

    fn replan(&mut self) {
        let texts = self.keys.keys().cloned().collect::<Vec<_>>();
        for text in texts {
            self.plan(0, &text, false);
        }
    }

    /// Digest of what the hub has acknowledged of the live intents.
    pub(super) fn acked_root(&self, copy: &Copy) -> Root {
        let mut root = Root::default();
        for (text, register) in &self.keys {
            if let Some(mark) = &register.acked
                && let Some(entry) = copy.get(text)
                && !entry.tombstone
                && entry.uid == mark.uid
            {
                root.add(Counted {
                    key: &entry.key,
                    intent_uid: &mark.uid,
                    generation: mark.generation,
                    digest: &mark.digest,
                });
            }
        }
        root
    }

    pub(super) fn deadline(&self) -> u64 {
        self.due.first().map_or(u64::MAX, |(due, _)| *due)
    }

    pub(super) fn dirty(&self) -> usize {
        self.due.len()
    }
}

/// The change of a body that the hub holds for certain: nothing else of the key is on its way.
fn patch(register: &Register) -> Option<pb::MergePatch> {
    let (acked, base) = (register.acked.as_ref()?, register.base.as_ref()?);
    let fits = register.sent.is_empty()
        && !acked.digest.is_empty()
        && acked.uid == register.mark.uid
        && register.body.len() >= limits::PATCH_BYTES;
    if !fits {
        return None;
    }
    Some(pb::MergePatch {
        base_digest: acked.digest.clone().into(),
        patch: merge_patch(base, &register.body)?.into(),
    })
}

fn update(register: &Register, seq: u64, patches: bool) -> pb::StatusUpdate {
    let patch = Some(register)
        .filter(|register| patches && !register.gone)
        .and_then(patch);
    pb::StatusUpdate {
        seq,
        key: Some(register.key.clone()),
        intent_uid: register.mark.uid.clone().into(),
        intent_generation: register.mark.generation,
        observed_generation: register.observed_generation,
        resource_version: register.resource_version.clone(),
        digest: register.mark.digest.clone().into(),
        body: Some(if register.gone {
            status_update::Body::Gone(true)
        } else if let Some(patch) = patch {
            status_update::Body::Patch(patch)
        } else {
            status_update::Body::Full(register.body.clone())
        }),
        edges: register.edges.clone(),
        edges_dropped: register.edges_dropped,
        coalesced: register.coalesced,
    }
}
