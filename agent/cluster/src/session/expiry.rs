//! Time to live: an intent that carries one goes when the hub was away for so long, and comes back with the hub.
//!
//! Silence counts from the last frame of a session, by the monotonic clock of the agent. It outlives the process: while it lasts it is
//! written beside the copy every few seconds. What lies between that note and the next process is added by whoever loads it
//! (see `durable::carried`), so a restarted agent does not begin anew. A contact that a crashed process could not write down is forgotten.

use upm_proto::mutation::Mutation;

use super::Session;

/// Milliseconds between two notes of a silence that goes on.
const NOTE_MS: u64 = 10_000;
/// A process that has just begun dials before it removes anything, in milliseconds.
const GRACE_MS: u64 = 30_000;

/// When the hub was heard last.
#[derive(Debug)]
pub(super) struct Contact {
    began: u64,
    /// Silence counts from here by the clock of this process …
    since: u64,
    /// … on top of what earlier processes have counted.
    carried: u64,
    /// What the durable copy says: `None` for a session, otherwise when the silence was noted.
    noted: Option<u64>,
}

impl Contact {
    pub(super) fn new(now: u64) -> Self {
        Self {
            began: now,
            since: now,
            carried: 0,
            noted: None,
        }
    }

    pub(super) fn load(&mut self, now: u64, silent_ms: Option<u64>) {
        self.began = now;
        self.since = now;
        self.carried = silent_ms.unwrap_or(0);
        self.noted = silent_ms.map(|_| now);
    }

    pub(super) fn heard(&mut self, now: u64) {
        self.since = now;
        if !Mutation::ContactForgotten.is_on() {
            self.carried = 0;
        }
    }
}

impl Session {
    /// Whether there is a session with the hub.
    pub(crate) fn has_session(&self) -> bool {
        self.link.is_live() && !self.link.lost
    }

    /// For how long there is none, in milliseconds.
    fn silence(&self) -> Option<u64> {
        let since = self.now.saturating_sub(self.contact.since);
        (!self.has_session()).then(|| self.contact.carried.saturating_add(since))
    }

    /// Removes what was to live for less than the silence.
    pub(super) fn tick_expiry(&mut self) {
        let Some(silence) = self.silence() else {
            return;
        };
        if self.now < self.contact.began + GRACE_MS {
            return;
        }
        while let Some((ttl, text)) = self.copy.first_to_expire()
            && ttl <= silence
        {
            let text = text.to_owned();
            if let Some(ttl_s) = self.copy.get(&text).map(|e| e.ttl_s) {
                self.copy.set_life(&text, ttl_s, true);
            }
            self.schedule.changed(&text, self.now, false, true);
        }
    }

    /// When [`Session::tick_expiry`] has something to do next.
    pub(super) fn expires_at(&self) -> u64 {
        let Some((ttl, _)) = self.copy.first_to_expire().filter(|_| !self.has_session()) else {
            return u64::MAX;
        };
        let left = ttl.saturating_sub(self.contact.carried);
        (self.contact.since + left).max(self.contact.began + GRACE_MS)
    }

    /// The hub is back and wants everything that the copy holds.
    pub(super) fn revive(&mut self) {
        if Mutation::ExpiredForGood.is_on() {
            return;
        }
        let back = self.copy.expired().cloned().collect::<Vec<_>>();
        self.live_on(back);
    }

    /// There was a session, without the hub's word on everything: the time to live of what is not removed yet begins anew.
    pub(super) fn count_anew(&mut self) {
        let there = self.schedule.not_removed(self.copy.expired());
        self.live_on(there);
    }

    fn live_on(&mut self, texts: Vec<String>) {
        for text in texts {
            if let Some(ttl_s) = self.copy.get(&text).map(|e| e.ttl_s) {
                self.copy.set_life(&text, ttl_s, false);
            }
            self.schedule.changed(&text, self.now, false, false);
        }
    }

    /// When the durable copy must hear of the silence, or of its end.
    pub(super) fn note_at(&self) -> u64 {
        match (self.silence(), self.contact.noted) {
            (None, None) => u64::MAX,
            (Some(_), _) if self.copy.first_to_expire().is_none() => u64::MAX,
            (None, Some(_)) | (Some(_), None) => 0,
            (Some(_), Some(at)) => at + NOTE_MS,
        }
    }

    /// What the durable copy hears of it.
    pub(super) fn note(&mut self) -> Option<u64> {
        let silence = self
            .silence()
            .filter(|_| self.copy.first_to_expire().is_some());
        self.contact.noted = silence.map(|_| self.now);
        silence
    }
}
