//! The agent's copy of the ledger: the latest of each key, its root, and what of it is durable.

use std::collections::{BTreeSet, HashMap, HashSet};

use prost::bytes::Bytes;
use upm_proto::{
    hub::v1 as pb,
    ledger::{Entry as Counted, Root},
};

use super::{message::Persist, results::Acked};

/// What is kept durably of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The object.
    pub key: pb::Key,
    /// Identity of the intent.
    pub uid: Vec<u8>,
    /// Its generation.
    pub generation: u64,
    /// SHA-256 of its body; empty for a tombstone.
    pub digest: Vec<u8>,
    /// Its revision.
    pub rev: u64,
    /// Whether the object shall not exist.
    pub tombstone: bool,
    /// How a tombstone deletes: `Propagation`, and whether it only forgets.
    pub how: (i32, bool),
    /// Whether the hub has acknowledged the final result.
    pub confirmed: bool,
    /// Seconds without a session after which the object goes; 0 for never.
    pub ttl_s: u32,
    /// Whether they have passed: the object is gone or goes, until the hub is back and still wants it.
    pub expired: bool,
}

/// A key of the copy.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: pb::Key,
    pub(super) uid: Vec<u8>,
    pub(super) generation: u64,
    pub(super) digest: Vec<u8>,
    pub(super) rev: u64,
    pub(super) tombstone: bool,
    pub(super) how: (i32, bool),
    pub(super) confirmed: bool,
    pub(super) ttl_s: u32,
    pub(super) expired: bool,
    /// The intent as it came, with its body; not durable.
    pub(super) apply: Option<Box<pb::Apply>>,
    pub(super) traceparent: String,
    /// The last final result, to report again when the hub has lost it.
    pub(super) last: Option<Box<pb::ApplyResult>>,
}

impl Entry {
    fn counted(&self) -> Counted<'_> {
        Counted {
            key: &self.key,
            intent_uid: &self.uid,
            generation: self.generation,
            digest: &self.digest,
        }
    }

    pub(super) fn stored(&self) -> Stored {
        Stored {
            key: self.key.clone(),
            uid: self.uid.clone(),
            generation: self.generation,
            digest: self.digest.clone(),
            rev: self.rev,
            tombstone: self.tombstone,
            how: self.how,
            confirmed: self.confirmed,
            ttl_s: self.ttl_s,
            expired: self.expired,
        }
    }

    /// From a stored one.
    pub(super) fn of(stored: Stored) -> Self {
        Self {
            key: stored.key,
            uid: stored.uid,
            generation: stored.generation,
            digest: stored.digest,
            rev: stored.rev,
            tombstone: stored.tombstone,
            how: stored.how,
            confirmed: stored.confirmed,
            ttl_s: stored.ttl_s,
            expired: stored.expired,
            apply: None,
            traceparent: String::new(),
            last: None,
        }
    }

    /// Whether this generation was brought into the cluster before (in this life or an earlier one).
    pub(super) fn attempted(&self) -> bool {
        self.confirmed || self.last.is_some() || self.tombstone
    }

    /// Whether the object shall not be there, for now or for good.
    pub(super) fn is_unwanted(&self) -> bool {
        self.tombstone || self.expired
    }

    /// Its time to live in milliseconds, while it runs.
    fn runs_out(&self) -> Option<u64> {
        (self.ttl_s > 0 && !self.is_unwanted()).then_some(u64::from(self.ttl_s) * 1_000)
    }

    /// Whether it is the same generation of the same intent.
    pub(super) fn is(&self, uid: &[u8], generation: u64) -> bool {
        self.uid == uid && self.generation == generation
    }

    /// The intent's body.
    pub(super) fn body(&self) -> Option<&Bytes> {
        match self.apply.as_ref()?.body.as_ref()? {
            pb::apply::Body::Json(json) => Some(json),
            _ => None,
        }
    }
}

/// The copy.
#[derive(Debug, Default)]
pub(super) struct Copy {
    entries: HashMap<String, Entry>,
    root: Root,
    /// Live keys with a time to live, in milliseconds, the shortest first.
    mortal: BTreeSet<(u64, String)>,
    /// Keys whose time to live has run out.
    expired: BTreeSet<String>,
    changed: HashSet<String>,
    head_changed: bool,
    pub(super) incarnation: Vec<u8>,
    pub(super) received_rev: u64,
    pub(super) durable_rev: u64,
    pub(super) epoch: u64,
}

impl Copy {
    pub(super) fn load(&mut self, head: Persist) {
        self.incarnation = head.incarnation;
        self.received_rev = head.received_rev;
        self.durable_rev = head.received_rev;
        self.epoch = head.epoch;
        for (text, stored) in head.entries {
            if let Some(mut stored) = stored {
                // Whether its removal was finished is not known, nor whether a session wanted it again since.
                stored.expired &= stored.confirmed;
                self.put(text, Entry::of(stored));
            }
        }
        self.changed.clear();
    }

    pub(super) fn get(&self, text: &str) -> Option<&Entry> {
        self.entries.get(text)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter()
    }

    pub(super) fn root(&self) -> Root {
        self.root
    }

    /// Puts an entry in the place of an older one.
    pub(super) fn put(&mut self, text: String, entry: Entry) {
        if !entry.tombstone {
            self.root.add(entry.counted());
        }
        self.changed.insert(text.clone());
        let (runs_out, expired) = (entry.runs_out(), entry.expired);
        if let Some(before) = self.entries.insert(text.clone(), entry) {
            if !before.tombstone {
                self.root.remove(before.counted());
            }
            self.forget_life(&text, &before);
        }
        if let Some(ms) = runs_out {
            self.mortal.insert((ms, text));
        } else if expired {
            self.expired.insert(text);
        }
    }

    fn forget_life(&mut self, text: &str, before: &Entry) {
        if let Some(ms) = before.runs_out() {
            self.mortal.remove(&(ms, text.to_owned()));
        }
        if before.expired {
            self.expired.remove(text);
        }
    }

    /// Changes what is said of a key's life: its time to live, whether it has run out.
    pub(super) fn set_life(&mut self, text: &str, ttl_s: u32, expired: bool) {
        let Some(entry) = self.entries.get_mut(text) else {
            return;
        };
        if (entry.ttl_s, entry.expired) == (ttl_s, expired) {
            return;
        }
        let before = (entry.runs_out(), entry.expired);
        entry.ttl_s = ttl_s;
        if entry.expired != expired {
            entry.expired = expired;
            // Whichever way it went, there is something to report.
            entry.confirmed = false;
        }
        let after = (entry.runs_out(), entry.expired);
        if let Some(ms) = before.0 {
            self.mortal.remove(&(ms, text.to_owned()));
        }
        if let Some(ms) = after.0 {
            self.mortal.insert((ms, text.to_owned()));
        }
        if after.1 {
            self.expired.insert(text.to_owned());
        } else {
            self.expired.remove(text);
        }
        self.changed.insert(text.to_owned());
    }

    /// The shortest time to live that still runs, in milliseconds, and its key.
    pub(super) fn first_to_expire(&self) -> Option<(u64, &str)> {
        let (ms, text) = self.mortal.first()?;
        Some((*ms, text))
    }

    /// Keys whose time to live has run out, in order.
    pub(super) fn expired(&self) -> impl Iterator<Item = &String> {
        self.expired.iter()
    }

    /// Forgets a key.
    pub(super) fn take(&mut self, text: &str) -> Option<Entry> {
        let entry = self.entries.remove(text)?;
        if !entry.tombstone {
            self.root.remove(entry.counted());
        }
        self.forget_life(text, &entry);
        self.changed.insert(text.to_owned());
        Some(entry)
    }

    /// Only what is not durable: the body, the revision. A body that is here stays when none came. Whether there is one now.
    pub(super) fn refresh(&mut self, text: &str, mut apply: Box<pb::Apply>) -> bool {
        let Some(entry) = self.entries.get_mut(text) else {
            return false;
        };
        if apply.body.is_none() {
            apply.body = entry.apply.take().and_then(|before| before.body);
        }
        entry.rev = entry.rev.max(apply.rev);
        entry.traceparent.clone_from(&apply.traceparent);
        entry.apply = Some(apply);
        entry.body().is_some()
    }

    /// Loses the body of a key, as a process that runs out of memory might.
    #[cfg(test)]
    pub(super) fn forget_body(&mut self, text: &str) {
        if let Some(entry) = self.entries.get_mut(text) {
            entry.apply = None;
        }
    }

    pub(super) fn set_rev(&mut self, text: &str, rev: u64) {
        if let Some(entry) = self.entries.get_mut(text)
            && entry.rev != rev
        {
            entry.rev = rev;
            self.changed.insert(text.to_owned());
        }
    }

    /// Revisions of another ledger say nothing in this one: it may well send a lower one for the same key. What a list names has been given
    /// its new revision by now; tombstones are in no list.
    pub(super) fn forget_revs_of_tombstones(&mut self) {
        for (text, entry) in self
            .entries
            .iter_mut()
            .filter(|(_, e)| e.tombstone && e.rev > 0)
        {
            entry.rev = 0;
            self.changed.insert(text.clone());
        }
    }

    pub(super) fn set_last(&mut self, text: &str, result: &pb::ApplyResult) {
        if let Some(entry) = self.entries.get_mut(text) {
            entry.last = Some(Box::new(result.clone()));
        }
    }

    /// Whether this `metadata.generation` is a later one than that which the key was settled with.
    pub(super) fn is_newer(&self, text: &str, generation: i64) -> bool {
        self.last(text)
            .is_some_and(|last| (1..generation).contains(&last.observed_generation))
    }

    pub(super) fn last(&self, text: &str) -> Option<&pb::ApplyResult> {
        self.entries.get(text)?.last.as_deref()
    }

    /// The final result must be reported (again).
    pub(super) fn unconfirm(&mut self, text: &str) {
        if let Some(entry) = self.entries.get_mut(text)
            && entry.confirmed
        {
            entry.confirmed = false;
            self.changed.insert(text.to_owned());
        }
    }

    /// The hub has a result. Returns true when the key was a tombstone and is forgotten now.
    pub(super) fn confirm(&mut self, acked: &Acked) -> bool {
        let Some(entry) = self.entries.get_mut(&acked.text) else {
            return false;
        };
        if !acked.is_final || !entry.is(&acked.uid, acked.generation) {
            return false;
        }
        if entry.tombstone {
            self.take(&acked.text);
            return true;
        }
        if !entry.confirmed {
            entry.confirmed = true;
            self.changed.insert(acked.text.clone());
        }
        false
    }

    /// The point of resume.
    pub(super) fn set_received(&mut self, incarnation: Option<Vec<u8>>, rev: u64) {
        if let Some(incarnation) = incarnation
            && incarnation != self.incarnation
        {
            self.incarnation = incarnation;
            self.received_rev = 0;
            self.durable_rev = 0;
            self.head_changed = true;
        }
        if rev > self.received_rev {
            self.received_rev = rev;
            self.head_changed = true;
        }
    }

    /// After a list of everything: the point of resume is where the list is, also when that is lower than before.
    pub(super) fn reset_received(&mut self, incarnation: Vec<u8>, rev: u64) {
        if self.incarnation != incarnation || self.received_rev != rev {
            self.head_changed = true;
            self.durable_rev = 0;
        }
        self.incarnation = incarnation;
        self.received_rev = rev;
    }

    /// From now on the copy is of no ledger that the hub could go on from.
    pub(super) fn distrust(&mut self) {
        self.incarnation.clear();
        self.received_rev = 0;
        self.durable_rev = 0;
        self.head_changed = true;
    }

    pub(super) fn wants_persist(&self) -> bool {
        self.head_changed || !self.changed.is_empty()
    }

    /// The head is to be written although nothing else has changed.
    pub(super) fn touch_head(&mut self) {
        self.head_changed = true;
    }

    pub(super) fn take_persist(&mut self) -> Persist {
        self.head_changed = false;
        let mut changed = std::mem::take(&mut self.changed)
            .into_iter()
            .collect::<Vec<_>>();
        changed.sort_unstable();
        Persist {
            incarnation: self.incarnation.clone(),
            received_rev: self.received_rev,
            epoch: self.epoch,
            silent_ms: None,
            entries: changed
                .into_iter()
                .map(|text| {
                    let stored = self.entries.get(&text).map(Entry::stored);
                    (text, stored)
                })
                .collect(),
        }
    }

    /// A write has succeeded; true when the durable revision moved.
    pub(super) fn persisted(&mut self, persist: &Persist) -> bool {
        let moved = persist.incarnation == self.incarnation
            && persist.received_rev > self.durable_rev
            && persist.received_rev <= self.received_rev;
        if moved {
            self.durable_rev = persist.received_rev;
        }
        moved
    }
}
