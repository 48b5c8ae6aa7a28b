//! One agent's session as a pure state machine: frames, replies of the store and the clock go in; frames and store commands come out.
//!
//! Invariants: nothing is sent before it is committed (every body comes from a store reply); a bookmark travels behind what it covers, in
//! the same lane; status and results are acknowledged only after the store has them; whoever sends more than it was granted is cut.

mod desired;
mod dirty;
mod interest;
mod message;
mod patches;
mod resume;
mod upstream;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use upm_proto::{
    hub::v1::{self as pb, agent_frame, drain::Reason, hub_frame},
    ledger::{Joiner, Lanes, Next, limits},
    mutation::Mutation,
};

pub use message::{
    Body, Claim, Class, Close, Command, Committed, Fresh, IndexEntry, Refusal, Reply, Row, Settings,
};
#[cfg(test)]
pub(crate) use resume::decide;

use crate::overload::Level;
use desired::Desired;
use resume::IndexFor;
use upstream::Upstream;
pub(crate) use upstream::cut;

/// Where a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for Hello.
    Accepted,
    /// Waits for the epoch.
    Claiming,
    /// Welcomed; resumes, then stays live.
    Live,
    /// Told to go; waits for Goodbye.
    Draining,
    /// Over.
    Closed,
}

/// The state machine. Time is in milliseconds of any monotonic clock.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    phase: Phase,
    close: Option<Close>,
    epoch: u64,
    incarnation: Vec<u8>,
    now: u64,
    started: u64,
    last_heard: u64,
    drain_until: u64,
    zstd: bool,
    patches: bool,
    hello: Option<Box<pb::Hello>>,
    joiner: Joiner,
    lanes: Lanes<pb::HubFrame>,
    desired: Desired,
    upstream: Upstream,
    commands: VecDeque<Command>,
    health: pb::Heartbeat,
    index_for: Option<IndexFor>,
    repairs: u32,
    held: Vec<pb::Key>,
    level: Level,
}

impl Session {
    /// A session whose stream was just accepted.
    pub fn new(settings: Settings, now: u64) -> Self {
        Self {
            phase: Phase::Accepted,
            close: None,
            epoch: 0,
            incarnation: Vec::new(),
            now,
            started: now,
            last_heard: now,
            drain_until: u64::MAX,
            zstd: false,
            patches: false,
            hello: None,
            joiner: Joiner::default(),
            lanes: Lanes::default(),
            desired: Desired::new(now),
            upstream: Upstream::default(),
            commands: VecDeque::new(),
            health: pb::Heartbeat::default(),
            index_for: None,
            repairs: 0,
            held: Vec::new(),
            level: Level::default(),
            settings,
        }
    }

    /// A frame of the agent.
    pub fn frame(&mut self, now: u64, frame: pb::AgentFrame) {
        self.now = now;
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        self.last_heard = now;
        let Some(message) = frame.message else {
            if frame.critical {
                // The generated code drops unknown fields, so the number is not known here.
                self.control(hub_frame::Message::Unsupported(pb::Unsupported {
                    field: 0,
                    was_critical: true,
                }));
            }
            return;
        };
        match (self.phase, message) {
            (Phase::Accepted, agent_frame::Message::Hello(hello)) => self.hello(hello),
            (Phase::Accepted | Phase::Claiming, _) => {
                self.end(Close::Protocol("the first frame is not Hello"));
            }
            (_, agent_frame::Message::Hello(_)) => self.end(Close::Protocol("a second Hello")),
            (_, message) => self.live_frame(message),
        }
        if self.phase != Phase::Closed && self.lanes.control_frames() > limits::CONTROL_FRAMES {
            // It asks and does not read the answers.
            self.overrun();
        }
        self.pump();
    }

    /// An answer of the store to a command.
    pub fn reply(&mut self, now: u64, reply: Reply) {
        self.now = now;
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        match reply {
            Reply::Fenced => self.end(Close::Fenced),
            Reply::Refused(refusal) => self.end(Close::Refused(refusal)),
            Reply::Claimed(claim) => self.claimed(*claim),
            Reply::Scanned {
                upto,
                more,
                root,
                changed,
            } => self.desired.scanned(upto, more, root, changed),
            Reply::Fetched(rows) => self.fetched(rows),
            Reply::Indexed {
                at_rev,
                root,
                entries,
                tombstones,
            } => self.indexed(at_rev, root, entries, tombstones),
            Reply::Committed(committed) => {
                if committed == Committed::Received {
                    self.desired.received_stored();
                }
                if let Some(frame) = self.upstream.committed(self.now, committed) {
                    self.control(frame);
                }
            }
            Reply::Certificate(issued) => {
                self.upstream.certificate_pending = false;
                if let Some(issued) = issued {
                    self.control(hub_frame::Message::CertIssued(issued));
                }
            }
        }
        self.pump();
    }

    /// The ledger of this agent has changed, or may have.
    pub fn wake(&mut self, now: u64) {
        self.now = now;
        self.desired.want_scan();
        self.pump();
    }

    /// What was just committed for this agent. It may come late, twice or never: a scan finds what is missed.
    pub fn fresh(&mut self, now: u64, fresh: Fresh) {
        self.now = now;
        if self.phase == Phase::Live {
            self.take_fresh(fresh);
        } else {
            self.desired.want_scan();
        }
        self.pump();
    }

    /// How much the replica has to do.
    pub fn set_level(&mut self, level: Level) {
        self.level = level;
    }

    /// The deadline has come, or any time.
    pub fn tick(&mut self, now: u64) {
        self.now = now;
        match self.phase {
            Phase::Closed => return,
            Phase::Accepted | Phase::Claiming => {
                if now >= self.started + limits::HELLO_MS {
                    self.end(Close::HelloTimeout);
                }
            }
            Phase::Draining if now >= self.drain_until => self.end(Close::Drained),
            Phase::Live | Phase::Draining => {
                if now >= self.last_heard + limits::DEAD_MS {
                    self.end(Close::Dead);
                } else if self.desired.wedged(now) {
                    self.say_drain(Reason::Wedged, 0, 0);
                    self.end(Close::Wedged);
                } else if now >= self.settings.certificate_ends {
                    self.drain(now, Reason::Certificate, 0, 1_000);
                } else if now >= self.settings.max_age {
                    self.drain(now, Reason::SessionAge, 0, 5_000);
                }
            }
        }
        self.pump();
    }

    /// When [`Session::tick`] must be called next.
    pub fn deadline(&self) -> u64 {
        match self.phase {
            Phase::Closed => u64::MAX,
            Phase::Accepted | Phase::Claiming => self.started + limits::HELLO_MS,
            Phase::Draining => self.drain_until,
            Phase::Live => (self.last_heard + limits::DEAD_MS)
                .min(self.desired.deadline())
                .min(self.upstream.deadline())
                .min(self.settings.certificate_ends)
                .min(self.settings.max_age),
        }
    }

    /// What [`Session::next_frame`] would give.
    pub fn next_kind(&self) -> Next {
        self.lanes.next_kind()
    }

    /// The next frame for the wire.
    pub fn next_frame(&mut self) -> Option<pb::HubFrame> {
        let frame = self.lanes.pop();
        if frame.is_some() {
            self.pump();
        }
        frame
    }

    /// The next command for the store.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Why the session is over; the rest of [`Session::next_frame`] is still to be sent.
    pub fn closed(&self) -> Option<&Close> {
        self.close.as_ref()
    }

    /// The epoch, 0 before the claim.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the agent was welcomed and may be sent frames.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// The last revision that the agent has acknowledged, and the last one that was handed over.
    pub fn revisions(&self) -> (u64, u64) {
        (self.desired.received_rev(), self.desired.bookmarked_rev())
    }

    /// Everything up to here was looked at in the ledger.
    pub fn scanned_rev(&self) -> u64 {
        self.desired.scanned_rev()
    }

    /// What the agent said of itself last.
    pub fn health(&self) -> &pb::Heartbeat {
        &self.health
    }

    /// Bytes that the session holds of what the agent sent, and of what is to be sent.
    pub fn held_bytes(&self) -> usize {
        self.joiner.held_bytes()
            + self.lanes.bytes()
            + self.upstream.held_bytes()
            + self.desired.held_bytes()
            + self.desired.bases.held_bytes()
    }

    /// Objects that a guard of the agent keeps, as far as it has named them.
    pub fn held(&self) -> &[pb::Key] {
        &self.held
    }

    /// Over how long agents spread their return if this replica is lost now; the next Pong tells it.
    pub fn set_reconnect_spread(&mut self, ms: u32) {
        self.settings.reconnect_spread_ms = ms;
    }

    /// Asks the agent to open a tunnel.
    pub fn open_tunnel(&mut self, tunnel: pb::OpenTunnel) {
        self.control(hub_frame::Message::OpenTunnel(tunnel));
    }

    /// Lets the agent remove held objects.
    pub fn confirm_prune(&mut self, prune: pb::ConfirmPrune) {
        self.held.retain(|key| !prune.keys.contains(key));
        self.control(hub_frame::Message::ConfirmPrune(prune));
    }

    /// Asks the agent to come back later; the session ends at its Goodbye, or after five seconds.
    pub fn drain(&mut self, now: u64, reason: Reason, not_before_ms: u32, spread_ms: u32) {
        self.now = now;
        match self.phase {
            Phase::Live => {
                self.say_drain(reason, not_before_ms, spread_ms);
                self.phase = Phase::Draining;
                self.drain_until = now + 5_000;
            }
            Phase::Accepted | Phase::Claiming => self.end(Close::Drained),
            Phase::Draining | Phase::Closed => {}
        }
    }

    /// Cuts the session now: the agent was revoked, or somebody asked for it.
    pub fn cut(&mut self, reason: Reason) {
        if self.phase != Phase::Closed {
            self.say_drain(reason, 0, 0);
            self.end(match reason {
                Reason::Revoked => Close::Refused(Refusal::Revoked),
                Reason::Fenced => Close::Fenced,
                Reason::Unspecified
                | Reason::Shutdown
                | Reason::SessionAge
                | Reason::Rebalance
                | Reason::Certificate
                | Reason::Wedged
                | Reason::Overrun => Close::Drained,
            });
        }
    }

    fn pong(&mut self, nonce: u64) {
        let reconnect_spread_ms = self.settings.reconnect_spread_ms;
        self.control(hub_frame::Message::Pong(pb::Pong {
            nonce,
            reconnect_spread_ms,
        }));
    }

    fn say_drain(&mut self, reason: Reason, not_before_ms: u32, spread_ms: u32) {
        self.control(hub_frame::Message::Drain(pb::Drain {
            reason: reason.into(),
            not_before_ms,
            spread_ms,
            endpoints: Vec::new(),
        }));
    }

    fn live_frame(&mut self, message: agent_frame::Message) {
        use agent_frame::Message as M;
        match message {
            M::Hello(_) | M::Unsupported(_) | M::Pong(_) => {}
            M::Fragment(part) => match self.joiner.push(part) {
                Ok(None) => {}
                Ok(Some(encoded)) => match prost::Message::decode(encoded) {
                    Ok(pb::AgentFrame {
                        message: Some(M::Fragment(_) | M::Hello(_)),
                        ..
                    })
                    | Err(_) => self.end(Close::Protocol("a joined frame is not a frame")),
                    Ok(pb::AgentFrame {
                        message: Some(message),
                        ..
                    }) => self.live_frame(message),
                    Ok(_) => {}
                },
                Err(_) => self.overrun(),
            },
            M::DesiredAck(ack) => {
                if self.desired.ack(self.now, ack).is_err() {
                    self.end(Close::Protocol("an ack of what was not sent"));
                }
            }
            M::Result(result) if Mutation::AckBeforeCommit.is_on() => {
                let upto_result_seq = result.seq;
                if self.upstream.result(result).is_ok() {
                    self.control(hub_frame::Message::StatusAck(pb::StatusAck {
                        upto_result_seq,
                        ..pb::StatusAck::default()
                    }));
                }
            }
            M::Result(result) => match self.upstream.result(result) {
                Ok(()) => {}
                Err(close) => self.refuse(close),
            },
            M::Status(batch) => match self.upstream.status(batch) {
                Ok(()) => {}
                Err(close) => self.refuse(close),
            },
            M::Watch(batch) => match self.upstream.watch(batch) {
                Ok(()) => {}
                Err(close) => self.refuse(close),
            },
            M::Need(need) => self.desired.need(&need.rev),
            M::Buckets(report) => self.bucket_report(&report),
            M::Credit(credit) => {
                if credit.lane == pb::Lane::Desired as i32 {
                    self.desired.grant(credit.messages, credit.bytes);
                }
            }
            M::Heartbeat(beat) => {
                let nonce = beat.mono_ms;
                self.health = beat;
                self.pong(nonce);
            }
            M::Ping(ping) => self.pong(ping.nonce),
            M::Csr(request) => {
                if !self.upstream.certificate_pending {
                    self.upstream.certificate_pending = true;
                    self.commands.push_back(Command::Certificate(request));
                }
            }
            M::PruneHeld(held) => {
                self.held.clone_from(&held.keys);
                self.upstream.prune_held(held);
            }
            M::Goodbye(_) => self.end(Close::Goodbye),
        }
    }

    fn refuse(&mut self, close: Close) {
        if matches!(close, Close::Overrun) {
            self.overrun();
        } else {
            self.end(close);
        }
    }

    fn overrun(&mut self) {
        self.say_drain(Reason::Overrun, 0, 0);
        self.end(Close::Overrun);
    }

    fn end(&mut self, close: Close) {
        if self.phase == Phase::Closed {
            return;
        }
        if matches!(close, Close::Fenced) {
            self.say_drain(Reason::Fenced, 0, 0);
        }
        self.phase = Phase::Closed;
        self.close = Some(close);
        self.commands.clear();
    }

    fn control(&mut self, message: hub_frame::Message) {
        self.lanes.push(
            pb::Lane::Control,
            pb::HubFrame {
                message: Some(message),
                ..pb::HubFrame::default()
            },
        );
    }

    /// Moves whatever can move.
    fn pump(&mut self) {
        if !matches!(self.phase, Phase::Live) {
            return;
        }
        self.desired.bases.rest(self.now);
        self.pump_desired();
        for frame in self.upstream.acks(self.now) {
            self.control(frame);
        }
        let reports = self.upstream.commands(self.now, self.level);
        let writes = !reports.is_empty();
        self.commands.extend(reports);
        if let Some((received, durable)) = self.desired.take_received(self.now, writes) {
            self.commands
                .push_back(Command::Received { received, durable });
        }
    }
}
