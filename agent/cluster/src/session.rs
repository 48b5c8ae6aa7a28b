//! The agent's side of the ledger stream as a pure state machine: frames, results of work, observations and the clock go in; frames,
//! work, things to persist and actions come out. It outlives connections: while the hub is away, work and observation go on.
//!
//! Invariants: only a tombstone, a guarded prune or a confirmed prune makes a delete; only a bookmark moves the point of resume; what is
//! said to be durable was persisted before; results and status are kept until the hub has acknowledged them.

mod copy;
mod expiry;
mod inventory;
mod link;
mod message;
mod results;
mod schedule;
mod snapshot;
mod status;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use rand::{SeedableRng as _, rngs::StdRng};
use upm_proto::{
    hub::v1::{self as pb, agent_frame, hub_frame},
    ledger::{Lanes, Next, key_text, limits},
    mutation::Mutation,
};

pub use copy::Stored;
pub use message::{Action, Done, Facts, Lost, Observation, Persist, Verdict, Work};

use copy::Copy;
use expiry::Contact;
use inventory::Inventories;
use link::Link;
use results::Results;
use schedule::Schedule;
use snapshot::Gathering;
use status::Registers;

/// Milliseconds between two writes of the durable copy.
const PERSIST_MS: u64 = 500;

/// The state machine. Time is in milliseconds of any monotonic clock.
#[derive(Debug)]
pub struct Session {
    facts: Facts,
    now: u64,
    rng: StdRng,
    copy: Copy,
    /// Objects that a guard kept: not in the root, not touched.
    held: HashMap<String, Stored>,
    schedule: Schedule,
    results: Results,
    registers: Registers,
    inventories: Inventories,
    link: Link,
    contact: Contact,
    lanes: Lanes<pb::AgentFrame>,
    gathering: Option<Gathering>,
    actions: VecDeque<Action>,
    persisting: bool,
    persist_at: u64,
    reconnect_spread_ms: u64,
    health: pb::Health,
}

impl Session {
    /// A session of an agent that knows nothing yet.
    pub fn new(facts: Facts, seed: u64, now: u64) -> Self {
        Self {
            facts,
            now,
            rng: StdRng::seed_from_u64(seed),
            copy: Copy::default(),
            held: HashMap::new(),
            schedule: Schedule::default(),
            results: Results::default(),
            registers: Registers::default(),
            inventories: Inventories::default(),
            link: Link::default(),
            contact: Contact::new(now),
            lanes: Lanes::default(),
            gathering: None,
            actions: VecDeque::new(),
            persisting: false,
            persist_at: 0,
            reconnect_spread_ms: limits::RECONNECT_SPREAD_MS.0,
            health: pb::Health::default(),
        }
    }

    /// Takes over the durable copy of an earlier life. Keys whose result the hub has not acknowledged are looked at again.
    pub fn load(&mut self, head: Persist) {
        self.contact.load(self.now, head.silent_ms);
        self.copy.load(head);
        let mut unconfirmed = self
            .copy
            .iter()
            .filter(|(_, entry)| !entry.confirmed)
            .map(|(text, entry)| (text, entry.is_unwanted()))
            .collect::<Vec<_>>();
        unconfirmed.sort();
        for (text, unwanted) in unconfirmed {
            self.schedule.ensure(text, 0, unwanted);
        }
    }

    /// A connection is up: says Hello.
    pub fn connect(&mut self, now: u64) {
        self.now = now;
        self.lanes = Lanes::default();
        self.gathering = None;
        self.results.disconnected();
        self.registers.disconnected();
        self.inventories.disconnected();
        self.schedule.reconnected();
        self.link = Link::dialled(now);
        let hello = self.hello();
        self.send(pb::Lane::Control, agent_frame::Message::Hello(hello));
    }

    /// The connection is gone. Work goes on.
    pub fn disconnect(&mut self, now: u64) {
        self.now = now;
        if self.link.is_live() {
            self.count_anew();
        }
        self.link = Link::default();
        self.lanes = Lanes::default();
        self.gathering = None;
        self.results.disconnected();
        self.registers.disconnected();
        self.inventories.disconnected();
    }

    /// A frame of the hub.
    pub fn frame(&mut self, now: u64, frame: pb::HubFrame) {
        self.now = now;
        if self.link.is_idle() || self.link.lost {
            return;
        }
        self.link.heard = now;
        match frame.message {
            Some(message) => self.message(message, frame.traceparent),
            None if frame.critical => {
                // The generated code drops unknown fields, so the number is not known here.
                self.send(
                    pb::Lane::Control,
                    agent_frame::Message::Unsupported(pb::Unsupported {
                        field: 0,
                        was_critical: true,
                    }),
                );
            }
            None => {}
        }
        if self.has_session() {
            self.contact.heard(now);
        }
        self.pump();
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64) {
        self.now = now;
        self.tick_link();
        self.tick_expiry();
        self.schedule.due(now);
        self.pump();
    }

    /// When [`Session::tick`] must be called next.
    pub fn deadline(&self) -> u64 {
        let mut deadline = self.schedule.deadline().min(self.link.deadline());
        if self.link.is_live() {
            // Without credit nothing becomes due: a grant comes with a frame.
            if self.link.status.open() {
                deadline = deadline.min(self.registers.deadline());
            }
            if self.link.bulk.open() {
                deadline = deadline.min(self.inventories.deadline());
            }
        }
        if !self.persisting {
            let at = if self.copy.wants_persist() {
                0
            } else {
                self.note_at()
            };
            deadline = deadline.min(at.max(self.persist_at));
        }
        deadline.min(self.expires_at())
    }

    /// What [`Session::next_frame`] would give.
    pub fn next_kind(&self) -> Next {
        self.lanes.next_kind()
    }

    /// The next frame for the wire.
    pub fn next_frame(&mut self) -> Option<pb::AgentFrame> {
        let frame = self.lanes.pop();
        if frame.is_some() {
            self.pump();
        }
        frame
    }

    /// Whether [`Session::next_action`] has one.
    pub fn has_action(&self) -> bool {
        !self.actions.is_empty()
    }

    /// The next thing to do outside of the cluster's objects.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next piece of work, if a worker is free. Its end comes back by [`Session::done`].
    pub fn next_work(&mut self, now: u64) -> Option<Work> {
        self.now = now;
        let work = self.take_work();
        // What waits for an earlier wave is reported.
        self.pump();
        work
    }

    /// Work has ended.
    pub fn done(&mut self, now: u64, done: Done) {
        self.now = now;
        self.finish_work(done);
        self.pump();
    }

    /// What the durable copy shall become, unless an earlier write still runs. Its end comes back by [`Session::persisted`].
    pub fn next_persist(&mut self, now: u64) -> Option<Persist> {
        self.now = now;
        if self.note_at() <= now {
            self.copy.touch_head();
        }
        if self.persisting || !self.copy.wants_persist() || now < self.persist_at {
            return None;
        }
        self.persisting = true;
        let silent_ms = self.note();
        Some(Persist {
            silent_ms,
            ..self.copy.take_persist()
        })
    }

    /// A write of the durable copy has succeeded.
    pub fn persisted(&mut self, now: u64, persist: &Persist) {
        self.now = now;
        self.persisting = false;
        self.persist_at = now + PERSIST_MS;
        if self.copy.persisted(persist) && self.link.is_live() {
            self.link.want_ack(now);
        }
        self.pump();
    }

    /// An object of an intent was seen, or is gone.
    pub fn observed(&mut self, now: u64, key: pb::Key, seen: Observation) {
        self.now = now;
        let text = key_text(&key);
        let entry = self.copy.get(&text);
        let drifted = seen.gone
            && entry.is_some_and(|e| !e.is_unwanted() || !e.confirmed)
            && !self.schedule.is_busy(&text);
        // The revert shows as an edit, too: what was read then is as wanted, and that ends it.
        let edited = entry.is_some_and(|e| {
            !seen.gone && !e.is_unwanted() && e.is(&seen.intent_uid, seen.intent_generation)
        }) && (seen.edited || self.copy.is_newer(&text, seen.observed_generation));
        self.registers.observed(now, key, &text, seen, entry);
        if edited {
            let body = entry.is_some_and(|entry| entry.body().is_some());
            self.schedule.look_again(&text, body, now);
        }
        if drifted && entry.is_some_and(copy::Entry::attempted) {
            // A deleted object is made again; a tombstone's object that is gone is settled.
            let unwanted = entry.is_some_and(copy::Entry::is_unwanted);
            self.copy.unconfirm(&text);
            self.schedule.retry_now(&text, unwanted);
        }
        self.pump();
    }

    /// Everything of a kind (and namespace; empty for all) was listed: what should exist and does not is made again.
    pub fn listed(
        &mut self,
        now: u64,
        group: &str,
        kind: &str,
        namespace: &str,
        seen: &HashSet<String>,
    ) {
        self.now = now;
        let missing = self
            .copy
            .iter()
            .filter(|(text, e)| {
                e.key.group == group
                    && e.key.kind == kind
                    && (namespace.is_empty() || e.key.namespace == namespace)
                    && !e.is_unwanted()
                    && e.attempted()
                    && !self.schedule.is_latched(text)
                    && !self.schedule.is_busy(text)
                    && !seen.contains(*text)
            })
            .map(|(text, _)| text.clone())
            .collect::<BTreeSet<_>>();
        for text in missing {
            self.copy.unconfirm(&text);
            self.schedule.retry_now(&text, false);
        }
        self.pump();
    }

    /// An inventory watch was listed anew (`complete`), or has changed.
    pub fn inventory(
        &mut self,
        now: u64,
        watch_id: u32,
        events: Vec<pb::WatchEvent>,
        complete: bool,
    ) {
        self.now = now;
        self.inventories.seen(now, watch_id, events, complete);
        self.pump();
    }

    /// What the agent says of itself with the next heartbeat.
    pub fn set_health(&mut self, health: pb::Health) {
        self.health = health;
    }

    /// The kinds that the API server knows, for the next Hello.
    pub fn set_kinds(&mut self, kinds: Vec<pb::KindSupport>) {
        self.facts.kinds = kinds;
    }

    /// Asks for a new certificate.
    pub fn request_certificate(&mut self, request: pb::CertRequest) {
        if self.link.is_live() {
            self.send(pb::Lane::Control, agent_frame::Message::Csr(request));
        }
    }

    /// Says goodbye; the rest of [`Session::next_frame`] is still to be sent.
    pub fn goodbye(&mut self, reason: &str) {
        if !self.link.is_idle() {
            self.send(
                pb::Lane::Control,
                agent_frame::Message::Goodbye(pb::Goodbye {
                    reason: reason.into(),
                }),
            );
        }
    }

    /// Whether the hub has welcomed this connection, and since when.
    pub fn live_since(&self) -> Option<u64> {
        self.link.is_live().then_some(self.link.since)
    }

    /// Over how long agents shall spread their return when the hub is lost, as it said last, in milliseconds.
    pub fn reconnect_spread_ms(&self) -> u64 {
        self.reconnect_spread_ms
    }

    /// Keys that are not settled, and keys latched.
    pub fn pending(&self) -> (usize, usize) {
        self.schedule.pending()
    }

    /// The live part of the copy, for tests and for what an operator asks: key text, identity, generation, digest.
    pub fn desired(&self) -> impl Iterator<Item = (&String, &[u8], u64, &[u8])> {
        self.copy
            .iter()
            .filter(|(_, e)| !e.tombstone)
            .map(|(text, e)| (text, &e.uid[..], e.generation, &e.digest[..]))
    }

    /// The last bookmark.
    pub fn received_rev(&self) -> u64 {
        self.copy.received_rev
    }

    /// The revision of every key of the copy, tombstones too.
    pub fn revisions(&self) -> HashMap<String, u64> {
        self.copy
            .iter()
            .map(|(text, e)| (text.clone(), e.rev))
            .collect()
    }

    /// Loses the body of a key.
    #[cfg(test)]
    pub(crate) fn forget_body(&mut self, text: &str) {
        self.copy.forget_body(text);
    }

    /// Bytes of parts of frames that are not whole yet.
    #[cfg(test)]
    pub(crate) fn joining_bytes(&self) -> usize {
        self.link.joiner.held_bytes()
    }

    /// Key texts of the intents whose time to live has run out.
    pub fn expired(&self) -> impl Iterator<Item = &String> {
        self.copy.expired()
    }

    /// How many keys a guard keeps.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn durable_rev(&self) -> u64 {
        if Mutation::DurableEarly.is_on() {
            self.copy.received_rev
        } else {
            self.copy.durable_rev
        }
    }

    fn hello(&self) -> pb::Hello {
        let facts = &self.facts;
        pb::Hello {
            proto_min: upm_proto::ledger::PROTOCOL,
            proto_max: upm_proto::ledger::PROTOCOL,
            capabilities: vec![
                pb::Capability::Zstd.into(),
                pb::Capability::Patch.into(),
                pb::Capability::Tunnel.into(),
            ],
            build: facts.build.clone(),
            instance_id: facts.instance_id.clone().into(),
            cluster_uid: facts.cluster_uid.clone(),
            k8s_version: facts.k8s_version.clone(),
            kinds: facts.kinds.clone(),
            hub_incarnation: self.copy.incarnation.clone().into(),
            received_rev: self.copy.received_rev,
            durable_rev: self.durable_rev(),
            desired_root: self.copy.root().to_bytes().to_vec().into(),
            status_root: self
                .registers
                .acked_root(&self.copy)
                .to_bytes()
                .to_vec()
                .into(),
            last_session_epoch: self.copy.epoch,
            windows: Some(pb::Windows {
                desired_messages: limits::DESIRED_MESSAGES,
                desired_bytes: limits::DESIRED_BYTES,
                ..pb::Windows::default()
            }),
            region: facts.region.clone(),
        }
    }

    fn send(&mut self, lane: pb::Lane, message: agent_frame::Message) -> usize {
        self.lanes.push(
            lane,
            pb::AgentFrame {
                message: Some(message),
                critical: lane != pb::Lane::Control,
                traceparent: String::new(),
            },
        )
    }

    fn lost(&mut self, why: Lost) {
        if !self.link.is_idle() && !self.link.lost {
            self.link.lost = true;
            self.actions.push_back(Action::Reconnect(why));
        }
    }

    /// Moves whatever can move.
    fn pump(&mut self) {
        if !self.link.is_live() || self.link.lost {
            return;
        }
        let mut along = false;
        while let Some(result) = self.results.next() {
            along = true;
            self.send(pb::Lane::Result, agent_frame::Message::Result(result));
        }
        while self.link.status.open()
            && let Some(batch) = self
                .registers
                .next(self.now, along, &self.copy, self.link.patches)
        {
            let size = prost::Message::encoded_len(&batch);
            self.link.status.take(size);
            along = true;
            self.send(pb::Lane::Status, agent_frame::Message::Status(batch));
        }
        while self.link.bulk.open()
            && let Some(batch) = self.inventories.next(self.now)
        {
            let size = prost::Message::encoded_len(&batch);
            self.link.bulk.take(size);
            self.send(pb::Lane::Bulk, agent_frame::Message::Watch(batch));
        }
        let needs = self.schedule.take_needs(&self.copy);
        if !needs.is_empty() {
            self.send(
                pb::Lane::Control,
                agent_frame::Message::Need(pb::Need { rev: needs }),
            );
        }
        if self.link.ack_due(self.now, along) {
            let ack = pb::DesiredAck {
                dseq: self.link.received_dseq,
                // A revision of another ledger says nothing in this one.
                durable_rev: if self.copy.incarnation == self.link.incarnation {
                    self.durable_rev()
                } else {
                    0
                },
            };
            self.link.acked(ack.dseq);
            self.send(pb::Lane::Control, agent_frame::Message::DesiredAck(ack));
        }
    }

    fn message(&mut self, message: hub_frame::Message, traceparent: String) {
        use hub_frame::Message as M;
        match message {
            M::Welcome(welcome) => self.welcome(&welcome),
            M::Drain(drain) => self.drained(&drain),
            M::Fragment(part) => match self.link.joiner.push(part) {
                Ok(None) => {}
                Ok(Some(encoded)) => match <pb::HubFrame as prost::Message>::decode(encoded) {
                    Ok(pb::HubFrame {
                        message: Some(M::Fragment(_) | M::Welcome(_)),
                        ..
                    })
                    | Err(_) => self.lost(Lost::Protocol("a joined frame is not a frame")),
                    Ok(frame) => {
                        if let Some(message) = frame.message {
                            self.message(message, frame.traceparent);
                        }
                    }
                },
                Err(_) => self.lost(Lost::Protocol("fragments do not make a frame")),
            },
            _ if !self.link.is_live() => {
                self.lost(Lost::Protocol("the first frame is not Welcome"));
            }
            M::Apply(apply) => self.apply(apply, traceparent),
            M::Delete(delete) => self.delete(delete),
            M::Bookmark(bookmark) => self.bookmark(&bookmark),
            M::SnapshotBegin(begin) => self.snapshot_begin(begin),
            M::SnapshotEntry(entry) => self.snapshot_entry(entry),
            M::SnapshotEnd(end) => self.snapshot_end(&end),
            M::BucketQuery(_) => self.report_buckets(),
            M::StatusAck(ack) => self.status_ack(&ack),
            M::Credit(credit) => self.link.credit(&credit),
            M::Interest(interest) => self.interest(interest),
            M::OpenTunnel(tunnel) => self.actions.push_back(Action::OpenTunnel(tunnel)),
            M::Ping(ping) => {
                self.send(
                    pb::Lane::Control,
                    agent_frame::Message::Pong(pb::Pong {
                        nonce: ping.nonce,
                        ..pb::Pong::default()
                    }),
                );
            }
            M::CertIssued(issued) => self.actions.push_back(Action::Certificate(issued)),
            M::ConfirmPrune(confirm) => self.confirm_prune(&confirm),
            M::Pong(pong) => self.spread(pong.reconnect_spread_ms),
            M::Unsupported(_) => {}
        }
    }

    fn interest(&mut self, interest: pb::Interest) {
        for watch in &interest.add {
            if watch.inventory {
                self.inventories.wanted(watch);
            } else {
                self.registers.interval(watch);
            }
        }
        self.actions.push_back(Action::Interest(interest));
    }

    fn status_ack(&mut self, ack: &pb::StatusAck) {
        if ack.upto_result_seq > 0 {
            for acked in self.results.acked(ack.upto_result_seq) {
                // The key is worked on again, so another result follows, and that one counts.
                if self.schedule.is_open(&acked.text) {
                    continue;
                }
                if self.copy.confirm(&acked) {
                    self.registers.forget(&acked.text);
                    self.schedule.forget(&acked.text);
                }
            }
        }
        if ack.upto_seq > 0 {
            self.registers.acked(ack.upto_seq, &ack.resend_digest);
        }
    }
}
