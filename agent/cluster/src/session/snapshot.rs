//! The desired lane: intents, tombstones, bookmarks, lists, repair. Absence never deletes without a verified list and a guard.

use std::collections::{BTreeSet, HashSet};

use prost::bytes::Bytes;
use upm_proto::{
    hub::v1::{self as pb, agent_frame},
    ledger::{Entry as Counted, Root, bucket, content_digest, key_text, limits, merged},
    mutation::Mutation,
};

use super::{
    Session,
    copy::{Entry, Stored},
    message::Lost,
};

/// Keys named in one report of held objects.
const HELD_NAMED: usize = 100;

/// A list that is being received.
#[derive(Debug)]
pub(super) struct Gathering {
    buckets: Bytes,
    entries: Vec<pb::SnapshotEntry>,
}

impl Gathering {
    fn covers(&self, key: &pb::Key) -> bool {
        self.buckets.is_empty() || self.buckets.contains(&bucket(key))
    }
}

impl Session {
    /// Checks the position of a frame in the desired lane.
    fn in_order(&mut self, dseq: u64) -> bool {
        let right = self.link.desired(self.now, dseq);
        if !right {
            self.lost(Lost::Protocol("the desired lane has a gap"));
        }
        right
    }

    pub(super) fn apply(&mut self, mut apply: pb::Apply, traceparent: String) {
        if !self.in_order(apply.dseq) {
            return;
        }
        let Some(key) = apply.key.clone() else {
            return self.lost(Lost::Protocol("an intent without a key"));
        };
        let text = key_text(&key);
        let body = match apply.body.take() {
            Some(pb::apply::Body::Patch(patch)) if self.link.patches => {
                self.patched(&text, &patch, &apply.digest)
            }
            body => match body.and_then(plain) {
                Some(body) if content_digest(&body)[..] == apply.digest[..] => Some(body),
                Some(_) => {
                    return self.lost(Lost::Protocol("a body that does not have its digest"));
                }
                None => return self.lost(Lost::Protocol("a body that cannot be read")),
            },
        };
        // Without its body an intent is like an entry of a list: the body is asked for, if the object does not carry the intent already.
        apply.body = body.map(pb::apply::Body::Json);
        if apply.traceparent.is_empty() {
            apply.traceparent = traceparent;
        }
        self.schedule.scoped(&text, &apply.wave_scope, apply.wave);
        if self.is_stale(&text, apply.rev) {
            return self.contradicted("an intent that is older than what was sent");
        }
        let urgent = apply.priority == pb::Priority::High as i32;
        let was_expired = self.copy.get(&text).is_some_and(|e| e.expired);
        let same = self.copy.get(&text).is_some_and(|e| {
            !e.tombstone && e.is(&apply.intent_uid, apply.generation) && e.digest == apply.digest
        });
        if same {
            self.copy.set_rev(&text, apply.rev);
            self.copy.set_life(&text, apply.ttl_seconds, false);
            if self.copy.refresh(&text, Box::new(apply)) {
                self.schedule.body_came(&text);
            }
            if was_expired {
                self.schedule.changed(&text, self.now, urgent, false);
            }
            return;
        }
        let entry = Entry {
            uid: apply.intent_uid.to_vec(),
            generation: apply.generation,
            digest: apply.digest.to_vec(),
            rev: apply.rev,
            tombstone: false,
            how: (0, false),
            confirmed: false,
            ttl_s: apply.ttl_seconds,
            expired: false,
            traceparent: apply.traceparent.clone(),
            last: None,
            key,
            apply: Some(Box::new(apply)),
        };
        self.held.remove(&text);
        self.copy.put(text.clone(), entry);
        self.registers.changed(self.now, &text);
        self.schedule.changed(&text, self.now, urgent, false);
    }

    /// What a patch makes of the body that the copy holds; `None` when that is not the one that the hub took for it.
    fn patched(&self, text: &str, patch: &pb::MergePatch, digest: &[u8]) -> Option<Bytes> {
        let entry = self.copy.get(text).filter(|e| !e.tombstone);
        if Mutation::PatchUnchecked.is_on() {
            let base = entry.and_then(|e| e.body()).map_or(&b"{}"[..], |b| b);
            return merged(base, &patch.patch).map(Bytes::from);
        }
        let base = entry.filter(|e| e.digest == patch.base_digest)?.body()?;
        let body = merged(base, &patch.patch)?;
        (content_digest(&body)[..] == digest[..]).then(|| body.into())
    }

    /// Whether the copy holds something newer of this key from the same ledger.
    fn is_stale(&self, text: &str, rev: u64) -> bool {
        self.copy.incarnation == self.link.incarnation
            && self.copy.get(text).is_some_and(|entry| entry.rev > rev)
    }

    /// The hub's ledger is not the one that the copy is from, though it has its name: a store was restored to a time in this very session.
    /// The next session asks for a list of everything; going on from the copy would end here again.
    pub(super) fn contradicted(&mut self, why: &'static str) {
        if !Mutation::RestoreUnnoticed.is_on() {
            self.copy.distrust();
        }
        self.lost(Lost::Protocol(why));
    }

    pub(super) fn delete(&mut self, delete: pb::Delete) {
        if !self.in_order(delete.dseq) {
            return;
        }
        let Some(key) = delete.key else {
            return self.lost(Lost::Protocol("a tombstone without a key"));
        };
        let text = key_text(&key);
        if self.is_stale(&text, delete.rev) {
            return self.contradicted("a tombstone that is older than what was sent");
        }
        let same = self
            .copy
            .get(&text)
            .is_some_and(|e| e.tombstone && e.is(&delete.intent_uid, delete.generation));
        if same {
            self.copy.set_rev(&text, delete.rev);
            self.schedule.ensure(&text, self.now, true);
            return;
        }
        let entry = Entry {
            uid: delete.intent_uid.to_vec(),
            generation: delete.generation,
            digest: Vec::new(),
            rev: delete.rev,
            tombstone: true,
            how: (delete.propagation, delete.orphan),
            confirmed: false,
            ttl_s: 0,
            expired: false,
            apply: None,
            traceparent: delete.traceparent,
            last: None,
            key,
        };
        self.held.remove(&text);
        self.copy.put(text.clone(), entry);
        self.schedule.changed(&text, self.now, false, true);
    }

    pub(super) fn bookmark(&mut self, bookmark: &pb::Bookmark) {
        if !self.in_order(bookmark.dseq) {
            return;
        }
        if self.copy.incarnation != self.link.incarnation {
            return;
        }
        self.copy.set_received(None, bookmark.rev);
        let differs = Root::from_bytes(&bookmark.expected_root)
            .is_some_and(|expected| expected != self.copy.root());
        if bookmark.complete && differs && !self.link.reported_buckets {
            self.report_buckets();
        }
        if !differs && (bookmark.complete || bookmark.rev >= self.link.head_rev) {
            self.revive();
        }
    }

    pub(super) fn report_buckets(&mut self) {
        self.link.reported_buckets = true;
        let mut roots = vec![Root::default(); limits::BUCKETS];
        for (_, entry) in self.copy.iter().filter(|(_, e)| !e.tombstone) {
            roots[usize::from(bucket(&entry.key))].add(Counted {
                key: &entry.key,
                intent_uid: &entry.uid,
                generation: entry.generation,
                digest: &entry.digest,
            });
        }
        let report = pb::BucketReport {
            at_rev: self.copy.received_rev,
            digests: roots
                .iter()
                .flat_map(|root| root.to_bytes())
                .collect::<Vec<_>>()
                .into(),
        };
        self.send(pb::Lane::Control, agent_frame::Message::Buckets(report));
    }

    pub(super) fn snapshot_begin(&mut self, begin: pb::SnapshotBegin) {
        if !self.in_order(begin.dseq) {
            return;
        }
        if begin.count > limits::KEYS {
            return self.lost(Lost::Protocol("a list that is too long"));
        }
        self.gathering = Some(Gathering {
            buckets: begin.buckets,
            entries: Vec::new(),
        });
    }

    pub(super) fn snapshot_entry(&mut self, entry: pb::SnapshotEntry) {
        if !self.in_order(entry.dseq) {
            return;
        }
        match &mut self.gathering {
            Some(list) if list.entries.len() < limits::KEYS as usize && entry.key.is_some() => {
                list.entries.push(entry);
            }
            _ => self.lost(Lost::Protocol("an entry outside of a list")),
        }
    }

    pub(super) fn snapshot_end(&mut self, end: &pb::SnapshotEnd) {
        if !self.in_order(end.dseq) {
            return;
        }
        self.link.reported_buckets = false;
        let Some(list) = self.gathering.take() else {
            return self.lost(Lost::Protocol("the end of no list"));
        };
        let same_ledger = self.copy.incarnation == self.link.incarnation;
        // A list that is older than what was sent beside it says nothing of that, and what it lacks is not absent.
        let newer = |e: &Entry| same_ledger && e.rev > end.at_rev && list.covers(&e.key);
        let overtaken = self.copy.iter().any(|(_, e)| newer(e));
        let owned = self.copy.iter().filter(|(_, e)| !e.tombstone).count();
        let mut listed = HashSet::with_capacity(list.entries.len());
        for entry in &list.entries {
            if let Some(key) = &entry.key {
                let text = key_text(key);
                if !self.copy.get(&text).is_some_and(newer) {
                    self.list_entry(&text, key, entry, same_ledger);
                }
                listed.insert(text);
            }
        }
        let absent = self
            .copy
            .iter()
            .filter(|_| !overtaken)
            .filter(|(text, e)| !e.tombstone && list.covers(&e.key) && !listed.contains(*text))
            .map(|(text, _)| text.clone())
            .collect::<BTreeSet<_>>();
        let entries = absent
            .iter()
            .filter_map(|text| Some((text.clone(), self.copy.take(text)?)))
            .collect::<Vec<_>>();
        // Without the absent ones the copy must be what the hub says it is.
        let verified = Root::from_bytes(&end.desired_root) == Some(self.copy.root());
        if list.buckets.is_empty() {
            self.copy
                .reset_received(self.link.incarnation.clone(), end.at_rev);
        }
        let most = (owned / 10).max(limits::PRUNE_FLOOR);
        if entries.is_empty() {
            return;
        }
        // What the hub has deleted has had a tombstone, and a forgotten tombstone is older than the compaction.
        let compacted_rev = self.link.compacted_rev;
        let explained = entries.iter().all(|(_, e)| e.rev < compacted_rev);
        let guarded = same_ledger && verified && explained && entries.len() <= most;
        if guarded || Mutation::PruneUnguarded.is_on() {
            for (text, entry) in entries {
                self.prune(text, entry);
            }
            return;
        }
        let reason = if !same_ledger {
            "the hub's ledger is another one than before"
        } else if !verified {
            "the list could not be verified"
        } else if !explained {
            "the hub has never deleted them"
        } else {
            "too many at once"
        };
        for (text, mut entry) in entries {
            self.schedule.forget(&text);
            if !same_ledger {
                entry.rev = 0;
            }
            self.held.insert(text, entry.stored());
        }
        self.report_held(end.at_rev, reason);
    }

    fn list_entry(
        &mut self,
        text: &str,
        key: &pb::Key,
        listed: &pb::SnapshotEntry,
        same_ledger: bool,
    ) {
        self.held.remove(text);
        let same = self.copy.get(text).is_some_and(|e| {
            !e.tombstone && e.is(&listed.intent_uid, listed.generation) && e.digest == listed.digest
        });
        if same {
            self.copy.set_rev(text, listed.rev);
            let expired = self.copy.get(text).is_some_and(|e| e.expired);
            self.copy.set_life(text, listed.ttl_seconds, expired);
            if !same_ledger {
                // This ledger may not have the result that an earlier one had.
                self.copy.unconfirm(text);
                match self.copy.last(text).cloned() {
                    Some(mut result) => {
                        result.rev = listed.rev;
                        self.results.put(result);
                    }
                    None => self.schedule.ensure(text, self.now, expired),
                }
            }
            return;
        }
        let entry = Entry::of(Stored {
            key: key.clone(),
            uid: listed.intent_uid.to_vec(),
            generation: listed.generation,
            digest: listed.digest.to_vec(),
            rev: listed.rev,
            tombstone: false,
            how: (0, false),
            confirmed: false,
            ttl_s: listed.ttl_seconds,
            expired: false,
        });
        self.copy.put(text.to_owned(), entry);
        self.registers.changed(self.now, text);
        self.schedule.changed(text, self.now, false, false);
    }

    /// A key that the verified list does not have any more becomes a tombstone of our own.
    fn prune(&mut self, text: String, mut entry: Entry) {
        entry.tombstone = true;
        entry.expired = false;
        entry.digest.clear();
        entry.apply = None;
        entry.confirmed = false;
        entry.last = None;
        entry.how = (pb::Propagation::Background.into(), false);
        entry.generation += 1;
        self.copy.put(text.clone(), entry);
        self.schedule.changed(&text, self.now, false, true);
    }

    pub(super) fn report_held(&mut self, at_rev: u64, reason: &str) {
        let mut keys = self
            .held
            .values()
            .map(|s| s.key.clone())
            .collect::<Vec<_>>();
        keys.sort_by_key(key_text);
        let count = keys.len() as u32;
        keys.truncate(HELD_NAMED);
        let held = pb::PruneHeld {
            at_rev,
            keys,
            count,
            reason: reason.into(),
        };
        self.send(pb::Lane::Bulk, agent_frame::Message::PruneHeld(held));
    }

    pub(super) fn confirm_prune(&mut self, confirm: &pb::ConfirmPrune) {
        for key in &confirm.keys {
            let text = key_text(key);
            if let Some(stored) = self.held.remove(&text) {
                self.prune(text, Entry::of(stored));
            }
        }
    }
}

/// The body as JSON; `None` when it cannot be read.
fn plain(body: pb::apply::Body) -> Option<Bytes> {
    match body {
        pb::apply::Body::Json(json) => Some(json),
        pb::apply::Body::JsonZstd(small) => zstd::bulk::decompress(&small, limits::JOINED_BYTES)
            .ok()
            .map(Bytes::from),
        // Neither was agreed on.
        pb::apply::Body::Ref(_) | pb::apply::Body::Patch(_) => None,
    }
}
