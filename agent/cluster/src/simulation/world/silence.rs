//! The hub is away for minutes, the wall clock is wrong, bodies are lost: what time to live and patches have to stand.

use std::collections::HashMap;

use rand::Rng as _;

use super::World;
use crate::durable;

/// What is known of the last contact between agent and hub, beside what the agent says.
#[derive(Debug, Default)]
pub(in super::super) struct Silence {
    /// Time to live in seconds, by intent and generation.
    pub(in super::super) lives: HashMap<(Vec<u8>, u64), u32>,
    /// When the agent asked for the removal of an object whose time to live had run out, by key and intent.
    pub(in super::super) expired: HashMap<(String, Vec<u8>), u64>,
    /// Processes of the agent that have begun since the hub went.
    pub(in super::super) restarts: u64,
    /// Deletions that were judged.
    pub(in super::super) judged: usize,
    /// Nothing may go before its time has passed since then …
    pub(in super::super) contact: u64,
    /// … and nothing may stay after its time has passed since then.
    pub(in super::super) counted: u64,
    /// The last contact when the write of the durable copy that is under way was taken, and when the last one that ended was.
    taken: u64,
    written: u64,
    /// The wall clock beside the clock of the world, now and when the durable copy was written last.
    wall: i64,
    noted_wall: u64,
    noted_ahead: i64,
}

impl Silence {
    pub(super) fn since(now: u64) -> Self {
        Self {
            contact: now,
            counted: now,
            taken: now,
            written: now,
            ..Self::default()
        }
    }

    pub(super) fn heard(&mut self, now: u64) {
        self.contact = now;
        self.counted = now;
    }

    pub(super) fn taken(&mut self) {
        self.taken = self.contact;
    }

    pub(super) fn written(&mut self, now: u64) {
        self.written = self.taken;
        self.noted_wall = self.wall(now);
        self.noted_ahead = self.wall;
    }

    fn wall(&self, now: u64) -> u64 {
        // The world begins at zero, the wall clock does not.
        (now as i64 + 1_000_000_000 + self.wall) as u64
    }
}

impl World {
    /// What a new process is told of the silence that an earlier one has noted.
    pub(super) fn silent_until_now(&mut self, noted: Option<u64>) -> Option<u64> {
        if self.rng.random_bool(0.1) {
            self.silence.wall += self.rng.random_range(-3_600_000..3_600_000);
        }
        let Some(noted) = noted else {
            // The last process had a session when it was heard of last.
            self.silence.heard(self.now);
            return None;
        };
        let wall = self.silence.wall(self.now);
        let carried = durable::carried(noted, self.silence.noted_wall, wall);
        // A clock that was set forth costs at most a minute.
        let ahead = (self.silence.wall - self.silence.noted_ahead).clamp(0, 60_000) as u64;
        self.silence.contact = self.silence.written.saturating_sub(ahead);
        self.silence.counted = self.now.saturating_sub(carried);
        Some(carried)
    }

    /// The hub cannot be reached for a while, the agent works on and may be restarted; `by` is in milliseconds.
    pub(in super::super) async fn silence(&mut self, by: u64) {
        self.cut();
        self.silence.restarts = 0;
        let until = self.now + by;
        while self.now < until {
            self.redial_at = until;
            let by = self.rng.random_range(500..5_000).min(until - self.now);
            self.tick(by);
            self.after();
            for _ in 0..self.rng.random_range(0..6) {
                self.work();
                self.persist();
                self.watch();
                self.after();
            }
            if self.rng.random_bool(0.02) {
                self.restart_agent();
            }
            if self.rng.random_bool(0.02) {
                self.write().await;
            }
        }
        self.redial_at = self.now;
    }

    /// The hub is away for longer than some intents may live.
    pub(super) async fn away(&mut self) {
        let by = self.rng.random_range(20_000..150_000);
        self.silence(by).await;
    }

    /// The agent loses the body of a key.
    pub(super) fn forget_body(&mut self) {
        let mut texts = self.wanted.keys().cloned().collect::<Vec<_>>();
        texts.sort();
        if !texts.is_empty() {
            let at = self.rng.random_range(0..texts.len());
            self.agent.forget_body(&texts[at]);
        }
    }

    /// Lets the agent end everything that it can end alone.
    pub(in super::super) fn settle_alone(&mut self) {
        for _ in 0..50 {
            self.redial_at = u64::MAX;
            self.cluster.finalize();
            self.tick(10);
            self.after();
            while !self.running.is_empty() {
                self.work();
                self.after();
            }
            while self.has_unseen() {
                self.watch();
            }
            self.persist();
        }
        self.redial_at = self.now;
    }
}
