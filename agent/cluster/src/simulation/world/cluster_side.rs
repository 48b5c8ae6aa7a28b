//! The agent's process and its cluster: work, watches, the durable copy, restarts.

use rand::Rng as _;

use super::{super::oracle, Begun, World, facts, key};
use crate::session::{Persist, Session};

/// A new process leads only after the lease of the old one has ended.
const LEASE_MS: u64 = 15_000;

impl World {
    pub(super) fn take_work(&mut self) {
        let now = self.agent_now();
        while let Some(work) = self.agent.next_work(now) {
            oracle::expires_in_time(self, &work);
            let asked = self.now;
            self.running.push(Begun {
                work,
                asked,
                read: None,
            });
        }
        if self.persisting.is_none() {
            self.persisting = self.agent.next_persist(now);
            self.silence.taken();
        }
    }

    /// One piece of work begins, or ends.
    pub(super) fn work(&mut self) {
        if self.running.is_empty() || self.agent_stands_still() {
            return;
        }
        let at = self.rng.random_range(0..self.running.len());
        let live = self.cluster.live(self.running[at].work.text());
        if self.running[at].read.is_none() {
            self.running[at].read = Some((live, self.now));
            if !self.calm && self.rng.random_bool(0.5) {
                return;
            }
        }
        let begun = self.running.remove(at);
        let fails = !self.calm && self.rng.random_bool(0.15);
        let age = begun.age(self.now);
        let (before, _) = begun.read.unwrap_or_default();
        let done = self.cluster.work_on(&begun.work, before, age, fails);
        oracle::deletes_have_tombstones(self);
        self.agent.done(self.agent_now(), done);
    }

    /// A process that stood still goes on with what it had begun, after another has taken its place.
    pub(super) fn late_work(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.late.len());
        let begun = self.late.remove(at);
        let age = begun.age(self.now);
        if let Some((before, _)) = begun.read {
            self.cluster.work_on(&begun.work, before, age, false);
            oracle::deletes_have_tombstones(self);
        }
    }

    pub(super) fn watch(&mut self) {
        if self.agent_stands_still() {
            return;
        }
        let now = self.agent_now();
        let Some(text) = self.cluster.unseen.pop_first() else {
            if let Some(seen) = self.listing.take() {
                let of = key(0);
                self.agent.listed(now, &of.group, &of.kind, "", &seen);
            }
            return;
        };
        let name = text.rsplit('/').next().unwrap();
        let key = key(name[1..].parse().unwrap());
        let seen = self.cluster.observe(&text);
        self.agent.observed(now, key, seen);
    }

    /// Whether the watch has something to say.
    pub(super) fn has_unseen(&self) -> bool {
        !self.cluster.unseen.is_empty() || self.listing.is_some()
    }

    pub(super) fn persist(&mut self) {
        if let Some(persist) = self.persisting.take() {
            for (text, stored) in persist.entries.clone() {
                match stored {
                    Some(stored) => self.durable.insert(text, stored),
                    None => self.durable.remove(&text),
                };
            }
            self.head = Persist {
                entries: Vec::new(),
                ..persist.clone()
            };
            let now = self.agent_now();
            self.silence.written(self.now);
            self.agent.persisted(now, &persist);
        }
    }

    /// The process ends and another begins: after a crash, or because the old one stands still.
    pub(super) fn restart_agent(&mut self) {
        self.cut();
        self.silence.restarts += 1;
        if self.rng.random_bool(0.3) {
            self.late
                .extend(std::mem::take(&mut self.running).into_iter().filter(|b| {
                    // What was not looked at yet is looked at when the process goes on, and then sees what is.
                    b.read.is_some()
                }));
            self.tick(LEASE_MS);
        }
        // Calls that were on their way may have been done, or not.
        for begun in std::mem::take(&mut self.running) {
            let age = begun.age(self.now);
            if let Some((before, _)) = begun.read
                && self.rng.random_bool(0.5)
            {
                self.cluster.work_on(&begun.work, before, age, false);
                oracle::deletes_have_tombstones(self);
            }
        }
        if self.rng.random_bool(0.5) {
            self.persist();
        }
        self.persisting = None;
        if !self.calm && self.rng.random_bool(0.2) {
            self.damage();
        }
        // The clock of a process begins with it.
        self.agent_began = self.now;
        self.agent_frozen = 0;
        self.agent = Session::new(facts(), self.seed, 0);
        let mut head = self.head.clone();
        head.entries = self
            .durable
            .iter()
            .map(|(text, stored)| (text.clone(), Some(stored.clone())))
            .collect();
        head.entries.sort_by(|a, b| a.0.cmp(&b.0));
        head.silent_ms = self.silent_until_now(head.silent_ms);
        self.agent.load(head);
        self.redial_at = self.now;
        // The new life lists everything, and so finds out what went while nobody could write that down.
        let there = self.cluster.objects.keys().cloned();
        self.cluster.unseen.extend(there.clone());
        self.listing = Some(there.collect());
    }

    /// Somebody takes an entry out of the durable copy.
    fn damage(&mut self) {
        let mut texts = self.durable.keys().cloned().collect::<Vec<_>>();
        texts.sort();
        if !texts.is_empty() {
            let at = self.rng.random_range(0..texts.len());
            self.durable.remove(&texts[at]);
            self.damaged.insert(texts.swap_remove(at));
        }
    }
}
