//! Connections: frames, breaks that both sides see, breaks that nobody sees, processes that stand still.

use std::hash::Hash as _;

use prost::Message as _;
use rand::Rng as _;
use upm_hub::session::{Session as Hub, Settings};
use upm_proto::{
    hub::v1::{self as pb, agent_frame, hub_frame, status_update},
    ledger::key_text,
};

use super::{super::oracle, Line, Side, WINDOW, World};
use crate::session::Action;

impl World {
    pub(super) fn connect(&mut self) {
        if self.line.is_some() || self.now < self.redial_at || self.agent_stands_still() {
            return;
        }
        self.lines += 1;
        let settings = Settings {
            replica: "replica".into(),
            certificate_ends: u64::MAX,
            max_age: u64::MAX,
            wall_us: 0,
            reconnect_spread_ms: 200,
        };
        let side = Side {
            core: Hub::new(settings, 0),
            began: self.now,
            frozen: 0,
            sent: 0,
            acked: 0,
        };
        self.sides.insert(self.lines, side);
        self.line = Some(Line {
            id: self.lines,
            is_half_open: false,
            is_slow: false,
        });
        self.agent.connect(self.agent_now());
        self.after();
    }

    /// The connection breaks for the agent. Its replica sees it, or does not before the session counts as dead, and what it had given to
    /// the store may still be done; or the replica has crashed, and of that some was done and some was not.
    pub(in super::super) fn cut(&mut self) {
        let Some(line) = self.line.take() else {
            return;
        };
        self.down.clear();
        self.up.clear();
        match self.rng.random_range(0..10) {
            _ if self.calm => drop(self.sides.remove(&line.id)),
            0..4 => {}
            4..7 => drop(self.sides.remove(&line.id)),
            _ => {
                self.sides.remove(&line.id);
                let rng = &mut self.rng;
                self.commands
                    .retain(|(of, ..)| *of != line.id || rng.random_bool(0.3));
            }
        }
        self.agent.disconnect(self.agent_now());
        self.redial_at = self.now + 200;
    }

    pub(super) fn half_open(&mut self) {
        if let Some(line) = &mut self.line {
            line.is_half_open = true;
            self.down.clear();
            self.up.clear();
        }
    }

    pub(super) fn slow(&mut self) {
        if let Some(line) = &mut self.line {
            line.is_slow = !line.is_slow;
        }
    }

    /// A replica stands still (SIGSTOP) and goes on later as if nothing had been.
    pub(super) fn freeze_replica(&mut self) {
        let until = self.now + self.pause();
        let count = self.sides.len();
        if count > 0 {
            let at = self.rng.random_range(0..count);
            if let Some(side) = self.sides.values_mut().nth(at) {
                side.frozen = until;
            }
        }
    }

    pub(super) fn freeze_agent(&mut self) {
        self.agent_frozen = self.now + self.pause();
    }

    pub(super) fn wake(&mut self) {
        let now = self.now;
        for side in self.sides.values_mut().filter(|side| now >= side.frozen) {
            side.core.wake(now - side.began);
        }
    }

    /// Whether the only frames on their way say that both sides live.
    pub(super) fn only_beats(&self) -> bool {
        let up = |f: &pb::AgentFrame| matches!(f.message, Some(agent_frame::Message::Heartbeat(_)));
        let down = |f: &pb::HubFrame| matches!(f.message, Some(hub_frame::Message::Pong(_)));
        self.up.iter().all(up) && self.down.iter().all(down)
    }

    pub(super) fn deliver_down(&mut self) {
        if self.agent_stands_still() {
            return;
        }
        let Some(frame) = self.down.pop_front() else {
            return;
        };
        self.frames.1 += 1;
        (1, frame.encoded_len()).hash(&mut self.trace);
        match &frame.message {
            Some(hub_frame::Message::Welcome(welcome)) => {
                assert!(welcome.session_epoch > self.epoch, "I6: an epoch twice");
                self.epoch = welcome.session_epoch;
                self.needed.clear();
            }
            Some(hub_frame::Message::Apply(apply)) => {
                let text = key_text(apply.key.as_ref().unwrap());
                let again = !self.sent.insert((self.epoch, text.clone(), apply.rev));
                assert!(
                    !again || self.needed.contains(&apply.rev),
                    "I7: {text} at {} was sent twice in epoch {}",
                    apply.rev,
                    self.epoch
                );
            }
            _ => {}
        }
        if let Some(hub_frame::Message::StatusAck(ack)) = &frame.message {
            let line = self.line.as_ref().map_or(0, |line| line.id);
            let committed = self.committed.get(&line).copied().unwrap_or_default();
            oracle::acknowledged_is_committed(ack, committed);
        }
        let bookmark = match &frame.message {
            Some(hub_frame::Message::Bookmark(bookmark)) => Some(bookmark.rev),
            _ => None,
        };
        self.agent.frame(self.agent_now(), frame);
        if self.agent.has_session() {
            self.silence.heard(self.now);
        }
        if let Some(rev) = bookmark {
            oracle::bookmark_is_not_early(self, rev);
        }
    }

    pub(super) fn deliver_up(&mut self) {
        let Some(line) = &self.line else { return };
        let Some(side) = self.sides.get_mut(&line.id) else {
            // The replica has given the connection up, and the agent does not know it yet.
            self.up.clear();
            return;
        };
        if self.now < side.frozen {
            return;
        }
        let Some(mut frame) = self.up.pop_front() else {
            return;
        };
        self.frames.0 += 1;
        (0, frame.encoded_len()).hash(&mut self.trace);
        match &mut frame.message {
            Some(agent_frame::Message::Need(need)) => self.needed.extend(&need.rev),
            Some(agent_frame::Message::DesiredAck(ack)) => side.acked = side.acked.max(ack.dseq),
            Some(agent_frame::Message::Hello(hello)) => {
                hello.windows = Some(pb::Windows {
                    desired_messages: WINDOW,
                    desired_bytes: 64 * 1024,
                    ..pb::Windows::default()
                });
            }
            // Most status comes when everything settles, so there too.
            Some(agent_frame::Message::Status(batch)) => {
                for update in &mut batch.updates {
                    if let Some(status_update::Body::Patch(patch)) = &mut update.body
                        && self.rng.random_bool(0.2)
                    {
                        // As an agent would make it that takes another body for the hub's.
                        patch.base_digest = update.digest.clone();
                        patch.patch = "{}".into();
                    }
                }
            }
            _ => {}
        }
        if let Some(agent_frame::Message::DesiredAck(ack)) = &frame.message {
            oracle::durable_is_durable(self, ack.durable_rev);
        }
        let now = self.now;
        if let Some(side) = self.line.as_ref().and_then(|l| self.sides.get_mut(&l.id)) {
            side.core.frame(now - side.began, frame);
        }
    }

    /// Takes what has become ready on either side.
    pub(in super::super) fn after(&mut self) {
        let present = self.line.as_ref().map(|line| {
            let room = if line.is_slow { 1 } else { usize::MAX };
            (line.id, line.is_half_open, room)
        });
        let now = self.now;
        let mut over = Vec::new();
        for (id, side) in &mut self.sides {
            if now < side.frozen {
                continue;
            }
            let is_ours = present.is_some_and(|(ours, half_open, _)| ours == *id && !half_open);
            let room = present.map_or(usize::MAX, |(_, _, room)| room);
            let epoch = side.core.epoch();
            let commands = &mut self.commands;
            let mut take = |core: &mut Hub| {
                while let Some(command) = core.next_command() {
                    commands.push((*id, epoch, command));
                }
            };
            take(&mut side.core);
            while (!is_ours || self.down.len() < room)
                && let Some(frame) = side.core.next_frame()
            {
                if is_desired(&frame) {
                    side.sent += 1;
                    oracle::credit_is_kept(side.sent - side.acked);
                }
                if is_ours {
                    self.down.push_back(frame);
                }
                take(&mut side.core);
            }
            let is_flushed = !is_ours || self.down.is_empty();
            if is_flushed && side.core.closed().is_some() {
                over.push((*id, is_ours));
            }
        }
        for (id, is_ours) in over {
            if is_ours {
                self.cut();
            }
            self.sides.remove(&id);
        }
        if !self.agent_stands_still() {
            self.after_agent();
        }
    }

    fn after_agent(&mut self) {
        let mut lost = false;
        while let Some(action) = self.agent.next_action() {
            lost |= matches!(action, Action::Reconnect(_));
        }
        let (room, passes) = match &self.line {
            Some(line) => (
                if line.is_slow { 1 } else { usize::MAX },
                !line.is_half_open,
            ),
            None => (usize::MAX, false),
        };
        while self.up.len() < room
            && let Some(frame) = self.agent.next_frame()
        {
            if passes {
                self.up.push_back(frame);
            }
        }
        if lost {
            self.cut();
        }
        self.take_work();
    }
}

/// Whether a frame is of the lane that credit limits; parts of a frame count once.
fn is_desired(frame: &pb::HubFrame) -> bool {
    use hub_frame::Message as M;
    matches!(
        frame.message,
        Some(
            M::Apply(_)
                | M::Delete(_)
                | M::Bookmark(_)
                | M::SnapshotBegin(_)
                | M::SnapshotEntry(_)
                | M::SnapshotEnd(_)
        )
    )
}
