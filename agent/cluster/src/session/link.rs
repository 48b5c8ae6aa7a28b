//! One connection: phases, liveness, windows, acks, drain.

use upm_proto::{
    hub::v1::{self as pb, agent_frame},
    ledger::{Joiner, Window, limits},
    mutation::Mutation,
};

use super::{Session, message::Lost};

/// Frames of the desired lane after which an ack goes out.
const ACK_FRAMES: u64 = 32;
/// Milliseconds after which an ack goes out, unless it goes along with something else before.
const ACK_MS: u64 = 50;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Idle,
    HelloSent,
    Live,
}

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Link {
    phase: Phase,
    pub(super) since: u64,
    pub(super) heard: u64,
    pub(super) lost: bool,
    pub(super) joiner: Joiner,
    pub(super) received_dseq: u64,
    acked_dseq: u64,
    /// When an ack must go out; `None` when the hub knows everything.
    ack_at: Option<u64>,
    pub(super) status: Window,
    pub(super) bulk: Window,
    heartbeat_at: u64,
    heartbeat_ms: u64,
    dead_ms: u64,
    /// The incarnation that Welcome named; the copy takes it over with the end of a list.
    pub(super) incarnation: Vec<u8>,
    pub(super) reported_buckets: bool,
    /// Whether both sides understand merge patches.
    pub(super) patches: bool,
    /// Where the hub's ledger ended when the connection was welcomed.
    pub(super) head_rev: u64,
    /// Tombstones up to here are forgotten by the hub: only what is older can be absent because it was deleted.
    pub(super) compacted_rev: u64,
}

impl Link {
    pub(super) fn dialled(now: u64) -> Self {
        Self {
            phase: Phase::HelloSent,
            since: now,
            heard: now,
            ..Self::default()
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    pub(super) fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    pub(super) fn deadline(&self) -> u64 {
        if self.lost {
            return u64::MAX;
        }
        match self.phase {
            Phase::Idle => u64::MAX,
            Phase::HelloSent => self.since + limits::HELLO_MS,
            Phase::Live => (self.heard + self.dead_ms)
                .min(self.heartbeat_at)
                .min(self.ack_at.unwrap_or(u64::MAX)),
        }
    }

    /// A frame of the desired lane came: its position must be the next one.
    pub(super) fn desired(&mut self, now: u64, dseq: u64) -> bool {
        if dseq != self.received_dseq + 1 {
            return false;
        }
        self.received_dseq = dseq;
        self.want_ack(now);
        true
    }

    /// There is something to acknowledge. It may wait for company: nothing at the hub waits for it but credit and tombstones.
    pub(super) fn want_ack(&mut self, now: u64) {
        self.ack_at.get_or_insert(now + ACK_MS);
    }

    /// Whether an ack goes out now; it does `along` with anything else.
    pub(super) fn ack_due(&self, now: u64, along: bool) -> bool {
        let behind = self.received_dseq - self.acked_dseq;
        behind >= ACK_FRAMES || self.ack_at.is_some_and(|at| along || now >= at)
    }

    pub(super) fn acked(&mut self, dseq: u64) {
        self.acked_dseq = dseq;
        self.ack_at = None;
    }

    pub(super) fn credit(&mut self, credit: &pb::Credit) {
        match credit.lane() {
            pb::Lane::Status => self.status.grant(credit.messages, credit.bytes),
            pb::Lane::Bulk => self.bulk.grant(credit.messages, credit.bytes),
            _ => {}
        }
    }
}

impl Session {
    pub(super) fn welcome(&mut self, welcome: &pb::Welcome) {
        if self.link.phase != Phase::HelloSent {
            self.lost(Lost::Protocol("a second Welcome"));
            return;
        }
        if welcome.proto != upm_proto::ledger::PROTOCOL {
            self.lost(Lost::Protocol("a version that was not offered"));
            return;
        }
        self.link.phase = Phase::Live;
        self.link.since = self.now;
        self.link.incarnation = welcome.hub_incarnation.to_vec();
        self.link.compacted_rev = welcome.compacted_rev;
        self.link.head_rev = welcome.head_rev;
        self.link.patches = welcome.capabilities.contains(&pb::Capability::Patch.into());
        if self.link.incarnation != self.copy.incarnation {
            self.copy.forget_revs_of_tombstones();
        }
        let windows = welcome.windows.unwrap_or_default();
        self.link.status = Window::new(windows.status_messages, windows.status_bytes);
        self.link.bulk = Window::new(windows.bulk_messages, windows.bulk_bytes);
        let timers = welcome.timers.unwrap_or_default();
        let or = |given: u32, default: u64, cap: u64| match u64::from(given) {
            0 => default,
            n => n.clamp(100, cap),
        };
        self.link.heartbeat_ms = or(timers.heartbeat_ms, limits::HEARTBEAT_MS, 60_000);
        self.link.dead_ms = or(timers.dead_ms, limits::DEAD_MS, 180_000);
        self.link.heartbeat_at = self.now + self.link.heartbeat_ms;
        self.spread(timers.reconnect_spread_ms);
        self.copy.epoch = self.copy.epoch.max(welcome.session_epoch);
        if let Some(limits) = welcome.limits {
            self.schedule.set_most(limits.apply_workers);
            self.results.set_most(limits.result_messages);
        }
        self.registers.welcomed(&welcome.status_root, &self.copy);
        match welcome.resume() {
            pb::welcome::Resume::Nothing | pb::welcome::Resume::Delta
                if welcome.hub_incarnation != self.copy.incarnation =>
            {
                self.lost(Lost::Protocol("a resume of another incarnation"));
            }
            _ if welcome.hub_incarnation == self.copy.incarnation
                && !Mutation::RestoreUnnoticed.is_on()
                && self.copy.iter().any(|(_, e)| e.rev > welcome.head_rev) =>
            {
                self.contradicted("a ledger that ends before what it sent");
            }
            _ => {}
        }
        if !self.held.is_empty() {
            self.report_held(welcome.head_rev, "kept by an earlier connection");
        }
    }

    /// The hub says over how long its agents shall spread their return.
    pub(super) fn spread(&mut self, ms: u32) {
        if ms > 0 {
            self.reconnect_spread_ms = u64::from(ms).min(limits::RECONNECT_SPREAD_MS.1);
        }
    }

    pub(super) fn tick_link(&mut self) {
        let now = self.now;
        if self.link.lost {
            return;
        }
        match self.link.phase {
            Phase::Idle => {}
            Phase::HelloSent => {
                if now >= self.link.since + limits::HELLO_MS {
                    self.lost(Lost::HelloTimeout);
                }
            }
            Phase::Live => {
                if now >= self.link.heard + self.link.dead_ms {
                    self.lost(Lost::Dead);
                } else if now >= self.link.heartbeat_at {
                    self.link.heartbeat_at = now + self.link.heartbeat_ms;
                    let (waiting, oldest) = self.schedule.backlog(now);
                    let beat = pb::Heartbeat {
                        mono_ms: now,
                        apply_queue: waiting,
                        status_dirty: self.registers.dirty() as u32,
                        oldest_unapplied_ms: oldest,
                        health: Some(self.health.clone()),
                    };
                    self.send(pb::Lane::Control, agent_frame::Message::Heartbeat(beat));
                }
            }
        }
    }

    pub(super) fn drained(&mut self, drain: &pb::Drain) {
        self.goodbye("drained");
        self.lost(Lost::Drained(
            drain.reason(),
            drain.not_before_ms,
            drain.spread_ms,
        ));
    }
}
