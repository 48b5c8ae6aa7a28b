//! Which key is worked on when: one piece of work per key, up to 32 keys at a time, fewer when the API server asks for it; waves;
//! backoff with full jitter; latches.

use std::collections::{BTreeSet, HashMap, VecDeque};

use rand::Rng as _;
use upm_proto::{
    hub::v1::{self as pb, Outcome},
    ledger::limits,
    mutation::Mutation,
};

use super::{
    Session,
    copy::Copy,
    message::{Done, Verdict, Work},
    results::is_final,
};

/// Backoff of a failing key, in milliseconds.
const BACKOFF: (u64, u64) = (500, 300_000);
/// Between two looks at an object whose finalizers have not finished, at most.
const DELETING_MS: u64 = 10_000;
/// From an edit of an object by somebody else to the look at it.
const EDITED_MS: u64 = 1_000;
/// Between two looks at what a key waits for, at most.
const BLOCKED_MS: u64 = 15_000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Ready,
    Blocked,
    Running,
    Backoff(u64),
    NeedBody { asked: bool },
    Settled,
    Latched,
}

#[derive(Debug, Clone)]
struct Slot {
    state: State,
    attempt: u32,
    since: u64,
    /// Whether the object shall go: removals and the rest take turns.
    removes: bool,
    /// Whether what runs, or ran last, removes the object because its time to live had run out.
    expires: bool,
}

/// What waits for a worker. A backlog of removals does not hold up what shall exist, nor the other way round.
#[derive(Debug, Default)]
struct Turns {
    wanted: VecDeque<String>,
    unwanted: VecDeque<String>,
    unwanted_next: bool,
}

impl Turns {
    fn push(&mut self, text: &str, removes: bool, front: bool) {
        let queue = if removes {
            &mut self.unwanted
        } else {
            &mut self.wanted
        };
        if front {
            queue.push_front(text.to_owned());
        } else {
            queue.push_back(text.to_owned());
        }
    }

    fn pop(&mut self) -> Option<String> {
        let (first, second) = if self.unwanted_next {
            (&mut self.unwanted, &mut self.wanted)
        } else {
            (&mut self.wanted, &mut self.unwanted)
        };
        let text = first.pop_front().or_else(|| second.pop_front())?;
        self.unwanted_next = !self.unwanted_next;
        Some(text)
    }
}

/// The schedule.
#[derive(Debug)]
pub(super) struct Schedule {
    slots: HashMap<String, Slot>,
    queue: Turns,
    due: BTreeSet<(u64, String)>,
    needs: BTreeSet<String>,
    scopes: HashMap<String, BTreeSet<String>>,
    waves: HashMap<String, (String, u32)>,
    blocked: usize,
    running: usize,
    most: f64,
    workers: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        let most = f64::from(limits::APPLY_WORKERS);
        Self {
            slots: HashMap::new(),
            queue: Turns::default(),
            due: BTreeSet::new(),
            needs: BTreeSet::new(),
            scopes: HashMap::new(),
            waves: HashMap::new(),
            blocked: 0,
            running: 0,
            most,
            workers: most,
        }
    }
}

impl Schedule {
    pub(super) fn set_most(&mut self, most: u32) {
        if (1..=256).contains(&most) {
            self.most = f64::from(most);
            self.workers = self.workers.min(self.most);
        }
    }

    /// A key is to be worked on.
    pub(super) fn ready(&mut self, text: &str, now: u64) {
        self.set(text, State::Ready, now, false);
    }

    /// Says whether the object of a key shall go.
    fn removes(&mut self, text: &str, removes: bool, now: u64) {
        let slot = self.slots.entry(text.to_owned()).or_insert(Slot {
            state: State::Settled,
            attempt: 0,
            since: now,
            removes,
            expires: false,
        });
        slot.removes = removes;
    }

    fn set(&mut self, text: &str, state: State, now: u64, front: bool) {
        let slot = self.slots.entry(text.to_owned()).or_insert(Slot {
            state: State::Settled,
            attempt: 0,
            since: now,
            removes: false,
            expires: false,
        });
        if let State::Backoff(until) = slot.state {
            self.due.remove(&(until, text.to_owned()));
        }
        if matches!(slot.state, State::NeedBody { .. }) {
            self.needs.remove(text);
        }
        if matches!(slot.state, State::Settled | State::Latched) {
            slot.since = now;
        }
        match &state {
            State::Ready if slot.state != State::Ready => {
                self.queue.push(text, slot.removes, front);
            }
            State::Backoff(until) => {
                self.due.insert((*until, text.to_owned()));
            }
            State::NeedBody { .. } => {
                self.needs.insert(text.to_owned());
            }
            _ => {}
        }
        self.blocked += usize::from(state == State::Blocked);
        self.blocked -= usize::from(slot.state == State::Blocked);
        slot.state = state;
    }

    /// Something else is wanted of a key than before: that its object goes, or what it shall be. A running piece of work ends first.
    pub(super) fn changed(&mut self, text: &str, now: u64, urgent: bool, removes: bool) {
        self.removes(text, removes, now);
        if let Some(slot) = self.slots.get_mut(text) {
            slot.attempt = 0;
            if slot.state == State::Running {
                return;
            }
        }
        self.set(text, State::Ready, now, urgent);
    }

    /// A key that nobody works on and that is not done with gets its turn.
    pub(super) fn ensure(&mut self, text: &str, now: u64, removes: bool) {
        self.removes(text, removes, now);
        match self.slots.get(text).map(|slot| &slot.state) {
            None | Some(State::Settled | State::Latched) => self.ready(text, now),
            Some(_) => {}
        }
    }

    /// The body that a key waited for is here.
    pub(super) fn body_came(&mut self, text: &str) {
        if let Some(Slot {
            state: State::NeedBody { .. },
            since,
            ..
        }) = self.slots.get(text)
        {
            let since = *since;
            self.ready(text, since);
        }
    }

    /// Something outside has changed: a key does not wait any longer.
    pub(super) fn retry_now(&mut self, text: &str, urgent: bool) {
        let now = match self.slots.get(text) {
            Some(slot) if matches!(slot.state, State::Running | State::Ready) => return,
            Some(slot) => slot.since,
            None => 0,
        };
        self.set(text, State::Ready, now, urgent);
    }

    /// The object of a settled key was edited: it is compared with its intent in a moment, so that a fight with somebody who edits it
    /// again and again is no hot loop. Without the intent's body the hub is asked for it.
    pub(super) fn look_again(&mut self, text: &str, body: bool, now: u64) {
        let settled = self
            .slots
            .get(text)
            .is_some_and(|slot| slot.state == State::Settled);
        if settled {
            let next = if body {
                State::Backoff(now + EDITED_MS)
            } else {
                State::NeedBody { asked: false }
            };
            self.set(text, next, now, false);
        }
    }

    pub(super) fn forget(&mut self, text: &str) {
        match self.slots.get(text).map(|slot| slot.state.clone()) {
            // Its end is still to come.
            Some(State::Running) | None => {}
            Some(_) => {
                self.set(text, State::Settled, 0, false);
                self.slots.remove(text);
            }
        }
        if let Some((scope, _)) = self.waves.remove(text)
            && let Some(keys) = self.scopes.get_mut(&scope)
        {
            keys.remove(text);
            if keys.is_empty() {
                self.scopes.remove(&scope);
            }
        }
    }

    /// Which of these have not begun to be removed, or not succeeded.
    pub(super) fn not_removed<'a>(&self, expired: impl Iterator<Item = &'a String>) -> Vec<String> {
        expired
            .filter(|text| {
                let state = self.slots.get(*text).map(|slot| &slot.state);
                matches!(
                    state,
                    Some(State::Ready | State::Blocked | State::Backoff(_))
                )
            })
            .cloned()
            .collect()
    }

    /// A connection begins: bodies are asked for again.
    pub(super) fn reconnected(&mut self) {
        for text in &self.needs {
            if let Some(slot) = self.slots.get_mut(text) {
                slot.state = State::NeedBody { asked: false };
            }
        }
    }

    /// Revisions whose bodies are to be asked for.
    pub(super) fn take_needs(&mut self, copy: &Copy) -> Vec<u64> {
        let mut revs = Vec::new();
        for text in &self.needs {
            if let Some(slot) = self.slots.get_mut(text)
                && slot.state == (State::NeedBody { asked: false })
                && let Some(entry) = copy.get(text)
            {
                slot.state = State::NeedBody { asked: true };
                revs.push(entry.rev);
            }
        }
        revs
    }

    pub(super) fn scoped(&mut self, text: &str, scope: &str, wave: u32) {
        self.waves.insert(text.to_owned(), (scope.to_owned(), wave));
        self.scopes
            .entry(scope.to_owned())
            .or_default()
            .insert(text.to_owned());
    }

    /// Whether a key of a lower wave of the same scope is not settled.
    fn waits(&self, text: &str) -> bool {
        let Some((scope, wave)) = self.waves.get(text).filter(|(_, wave)| *wave > 0) else {
            return false;
        };
        let Some(keys) = self.scopes.get(scope) else {
            return false;
        };
        keys.iter().any(|other| {
            other != text
                && self.waves.get(other).is_some_and(|(_, w)| w < wave)
                && self
                    .slots
                    .get(other)
                    .is_some_and(|slot| slot.state != State::Settled)
        })
    }

    /// A key of the scope has settled: others may go.
    fn unblock(&mut self, text: &str, now: u64) {
        let Some((scope, _)) = self.waves.get(text).filter(|_| self.blocked > 0) else {
            return;
        };
        let blocked = self
            .scopes
            .get(scope)
            .into_iter()
            .flatten()
            .filter(|other| {
                self.slots
                    .get(*other)
                    .is_some_and(|slot| slot.state == State::Blocked)
            })
            .cloned()
            .collect::<Vec<_>>();
        for other in blocked {
            self.set(&other, State::Ready, now, false);
        }
    }

    /// Moves keys whose pause is over.
    pub(super) fn due(&mut self, now: u64) {
        while let Some((until, text)) = self.due.first().cloned()
            && until <= now
        {
            self.set(&text, State::Ready, now, false);
        }
    }

    pub(super) fn deadline(&self) -> u64 {
        self.due.first().map_or(u64::MAX, |(until, _)| *until)
    }

    pub(super) fn is_latched(&self, text: &str) -> bool {
        self.slots
            .get(text)
            .is_some_and(|slot| slot.state == State::Latched)
    }

    /// Whether another result of the key will come by itself.
    pub(super) fn is_open(&self, text: &str) -> bool {
        self.slots
            .get(text)
            .is_some_and(|slot| !matches!(slot.state, State::Settled | State::Latched))
    }

    pub(super) fn is_busy(&self, text: &str) -> bool {
        self.slots
            .get(text)
            .is_some_and(|slot| matches!(slot.state, State::Running | State::Ready))
    }

    /// Keys that wait, and the age of the oldest.
    pub(super) fn backlog(&self, now: u64) -> (u32, u64) {
        let waiting = self
            .slots
            .values()
            .filter(|slot| !matches!(slot.state, State::Settled | State::Latched));
        waiting.fold((0, 0), |(count, oldest), slot| {
            (count + 1, oldest.max(now.saturating_sub(slot.since)))
        })
    }

    pub(super) fn pending(&self) -> (usize, usize) {
        let count = |state: fn(&State) -> bool| {
            self.slots
                .values()
                .filter(|slot| state(&slot.state))
                .count()
        };
        (
            count(|s| !matches!(s, State::Settled | State::Latched)),
            count(|s| *s == State::Latched),
        )
    }

    fn throttle(&mut self, throttled: bool) {
        self.workers = if throttled {
            (self.workers / 2.0).max(1.0)
        } else {
            (self.workers + 1.0 / self.workers).min(self.most)
        };
    }
}

impl Session {
    pub(super) fn take_work(&mut self) -> Option<Work> {
        while self.schedule.running < self.schedule.workers as usize {
            let text = self.schedule.queue.pop()?;
            if self
                .schedule
                .slots
                .get(&text)
                .is_none_or(|slot| slot.state != State::Ready)
            {
                continue;
            }
            let Some(entry) = self.copy.get(&text) else {
                self.schedule.slots.remove(&text);
                continue;
            };
            if entry.expired && self.has_session() {
                // The hub is about to say whether it wants it again.
                self.schedule.set(&text, State::Blocked, self.now, false);
                continue;
            }
            if !entry.is_unwanted() && self.schedule.waits(&text) {
                let blocked = self.blank(&text, Outcome::BlockedOnDependency, BLOCKED_MS as u32);
                self.schedule.set(&text, State::Blocked, self.now, false);
                if let Some(mut blocked) = blocked {
                    blocked.error = Some(pb::Error {
                        reason: "EARLIER_WAVE".into(),
                        message: "waits for an intent of an earlier wave".into(),
                        http_status: 0,
                    });
                    self.results.put(blocked);
                }
                continue;
            }
            let attempt = self.schedule.slots.get(&text).map_or(0, |s| s.attempt);
            let expires = entry.expired;
            let work = if entry.is_unwanted() {
                Work::Delete {
                    expired: expires,
                    delete: Box::new(pb::Delete {
                        rev: entry.rev,
                        key: Some(entry.key.clone()),
                        intent_uid: entry.uid.clone().into(),
                        generation: entry.generation,
                        propagation: entry.how.0,
                        orphan: entry.how.1,
                        traceparent: entry.traceparent.clone(),
                        ..pb::Delete::default()
                    }),
                    attempt,
                    text: text.clone(),
                }
            } else if let (Some(_), Some(apply)) = (entry.body(), &entry.apply) {
                Work::Apply {
                    apply: apply.clone(),
                    attempt,
                    text: text.clone(),
                }
            } else {
                Work::Verify {
                    key: entry.key.clone(),
                    intent_uid: entry.uid.clone(),
                    generation: entry.generation,
                    digest: entry.digest.clone(),
                    text: text.clone(),
                }
            };
            self.schedule.running += 1;
            self.schedule.set(&text, State::Running, self.now, false);
            if let Some(slot) = self.schedule.slots.get_mut(&text) {
                slot.expires = expires;
            }
            return Some(work);
        }
        None
    }

    /// A result of the key's present generation.
    fn blank(&self, text: &str, outcome: Outcome, retry_in_ms: u32) -> Option<pb::ApplyResult> {
        let entry = self.copy.get(text)?;
        Some(pb::ApplyResult {
            rev: entry.rev,
            key: Some(entry.key.clone()),
            intent_uid: entry.uid.clone().into(),
            generation: entry.generation,
            outcome: outcome.into(),
            retry_in_ms,
            ..pb::ApplyResult::default()
        })
    }

    pub(super) fn finish_work(&mut self, done: Done) {
        let text = done.text;
        let running = self
            .schedule
            .slots
            .get(&text)
            .filter(|slot| slot.state == State::Running);
        let Some(expires) = running.map(|slot| slot.expires) else {
            return;
        };
        self.schedule.running = self.schedule.running.saturating_sub(1);
        self.schedule.throttle(done.throttled);
        let Some(entry) = self.copy.get(&text) else {
            self.schedule.set(&text, State::Settled, self.now, false);
            self.schedule.slots.remove(&text);
            return;
        };
        if !entry.is(&done.intent_uid, done.generation) {
            self.results.put(pb::ApplyResult {
                rev: entry.rev,
                key: Some(entry.key.clone()),
                intent_uid: done.intent_uid.into(),
                generation: done.generation,
                outcome: Outcome::Superseded.into(),
                ..pb::ApplyResult::default()
            });
            self.schedule.set(&text, State::Ready, self.now, false);
            return;
        }
        if entry.expired != expires {
            // The hub went, or came back, meanwhile: what was done is not what is wanted now.
            self.schedule.set(&text, State::Ready, self.now, false);
            return;
        }
        match done.verdict {
            Verdict::BodyNeeded if entry.body().is_some() => {
                self.schedule.set(&text, State::Ready, self.now, false);
            }
            Verdict::BodyNeeded => {
                self.schedule
                    .set(&text, State::NeedBody { asked: false }, self.now, false);
            }
            Verdict::Outcome(result) => self.conclude(&text, *result),
        }
    }

    fn conclude(&mut self, text: &str, mut result: pb::ApplyResult) {
        let expired = self.copy.get(text).is_some_and(|e| e.expired);
        let outcome = match result.outcome() {
            Outcome::Deleted | Outcome::Absent if expired => Outcome::Expired,
            outcome => outcome,
        };
        result.outcome = outcome.into();
        let Some(blank) = self.blank(text, outcome, 0) else {
            return;
        };
        let attempt = self.schedule.slots.get(text).map_or(0, |s| s.attempt);
        result.rev = blank.rev;
        result.key = blank.key;
        result.intent_uid = blank.intent_uid;
        result.generation = blank.generation;
        result.attempt = attempt + 1;
        result.retry_in_ms = match outcome {
            Outcome::Transient | Outcome::Unspecified | Outcome::Superseded => {
                self.pause(attempt, BACKOFF.1)
            }
            Outcome::UnsupportedKind => self.pause(attempt.max(5), BACKOFF.1),
            Outcome::BlockedOnDependency => self.pause(attempt, BLOCKED_MS),
            Outcome::Deleting => self.pause(attempt, DELETING_MS),
            Outcome::Rejected if Mutation::RejectedRetried.is_on() => {
                self.pause(attempt, BACKOFF.1)
            }
            _ => 0,
        };
        if is_final(&result) {
            let settled = matches!(
                outcome,
                Outcome::Applied | Outcome::Unchanged | Outcome::Deleted | Outcome::Absent
            );
            let state = if settled {
                State::Settled
            } else {
                State::Latched
            };
            self.schedule.set(text, state, self.now, false);
            self.copy.set_last(text, &result);
            if settled {
                self.schedule.unblock(text, self.now);
            }
        } else {
            if let Some(slot) = self.schedule.slots.get_mut(text) {
                slot.attempt = slot.attempt.saturating_add(1);
            }
            let until = self.now + u64::from(result.retry_in_ms);
            self.schedule
                .set(text, State::Backoff(until), self.now, false);
        }
        self.results.put(result);
    }

    /// Full jitter between half a second and the cap.
    fn pause(&mut self, attempt: u32, cap: u64) -> u32 {
        let most = (BACKOFF.0 << attempt.min(16)).min(cap).max(BACKOFF.0 + 1);
        self.rng.random_range(BACKOFF.0..=most) as u32
    }
}
