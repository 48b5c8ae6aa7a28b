//! The desired lane: dirty keys, late materialisation within credit, bookmarks behind what they cover.

use std::collections::{BTreeSet, HashMap, VecDeque};

use upm_proto::{
    hub::v1::{self as pb, hub_frame},
    ledger::{Root, Window, limits},
    mutation::Mutation,
};

use super::{
    Session,
    dirty::{DirtySet, Taken},
    message::{Body, Class, Command, Fresh, IndexEntry, Row},
    patches::Bases,
};

/// Bytes that may lie in the send queue before more is read from the store.
const QUEUED: usize = 256 * 1024;
/// Keys read at once.
const FETCH: usize = limits::DESIRED_MESSAGES as usize;
/// Bodies read at once, in bytes.
const FETCH_BYTES: u64 = 1024 * 1024;
/// The store learns this many milliseconds late what the agent holds, unless something else is written anyway: nothing waits for it.
const RECEIVED_MS: u64 = 2_000;
/// Bodies smaller than this are not worth compressing.
const COMPRESS: usize = 1024;

/// A list that is being handed over.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) at_rev: u64,
    pub(super) root: Root,
    pub(super) entries: VecDeque<IndexEntry>,
    /// A list does not name what shall not exist, so tombstones go along, before its end.
    pub(super) tombstones: VecDeque<pb::Delete>,
}

/// What is being read.
#[derive(Debug)]
enum Fetching {
    Keys(Vec<Taken>),
    Revisions(Vec<u64>),
}

/// State of the lane.
#[derive(Debug)]
pub(super) struct Desired {
    pub(super) dirty: DirtySet,
    pub(super) window: Window,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) resuming: bool,
    pub(super) bases: Bases,
    dseq: u64,
    acknowledged: u64,
    in_flight: VecDeque<(u64, usize)>,
    progress: u64,
    scanned: u64,
    scanned_root: Option<Root>,
    scan_wanted: bool,
    index_wanted: bool,
    scanning: bool,
    fetching: Option<Fetching>,
    needed: BTreeSet<u64>,
    /// Keys that were sent at a revision that no scan has seen yet.
    ahead: HashMap<String, u64>,
    /// The newest revision that was handed over; a list that is older would take it back.
    handed: u64,
    bookmarks: VecDeque<(u64, u64)>,
    bookmarked: u64,
    complete: Option<(u64, Root)>,
    frames: u32,
    bookmark_at: u64,
    pub(super) entropy_at: u64,
    received: u64,
    durable: u64,
    stored: (u64, u64),
    storing: bool,
    store_at: Option<u64>,
    /// Rows of a commit that is being taken in; empty otherwise.
    at_hand: HashMap<String, Row>,
}

impl Desired {
    pub(super) fn new(now: u64) -> Self {
        Self {
            dirty: DirtySet::default(),
            window: Window::default(),
            snapshot: None,
            resuming: true,
            bases: Bases::default(),
            dseq: 0,
            acknowledged: 0,
            in_flight: VecDeque::new(),
            progress: now,
            scanned: 0,
            scanned_root: None,
            scan_wanted: false,
            index_wanted: false,
            scanning: false,
            fetching: None,
            needed: BTreeSet::new(),
            ahead: HashMap::new(),
            handed: 0,
            bookmarks: VecDeque::new(),
            bookmarked: 0,
            complete: None,
            frames: 0,
            bookmark_at: now,
            entropy_at: u64::MAX,
            received: 0,
            durable: 0,
            stored: (0, 0),
            storing: false,
            store_at: None,
            at_hand: HashMap::new(),
        }
    }

    /// Starts after a claim: the agent holds everything up to `received`; with `root` the store's state at that revision is known.
    pub(super) fn start(&mut self, received: u64, durable: u64, root: Option<Root>) {
        self.scanned = received;
        self.scanned_root = root;
        self.received = received;
        self.durable = durable.min(received);
        self.scan_wanted |= root.is_none();
        self.resuming = false;
    }

    /// A list of everything at `at_rev` follows.
    pub(super) fn list(&mut self, snapshot: Snapshot) {
        // A repair does not move the scan: changes go on from where they were.
        if self.resuming {
            self.scanned = snapshot.at_rev;
            self.scanned_root = Some(snapshot.root);
            self.resuming = false;
        }
        self.complete = None;
        self.snapshot = Some(snapshot);
    }

    pub(super) fn want_scan(&mut self) {
        self.scan_wanted = true;
    }

    /// A list is to be read as soon as no bodies are.
    pub(super) fn want_index(&mut self) {
        self.index_wanted = true;
    }

    pub(super) fn scanned(
        &mut self,
        upto: u64,
        more: bool,
        root: Root,
        changed: Vec<(String, u64, Class)>,
    ) {
        self.scanning = false;
        self.scanned = self.scanned.max(upto);
        self.scanned_root = (!more).then_some(root);
        self.scan_wanted |= more;
        for (text, rev, class) in changed {
            if self.ahead.get(&text).is_none_or(|sent| *sent < rev) {
                self.dirty.mark(text, rev, class);
            }
        }
        let scanned = self.scanned;
        self.ahead.retain(|_, rev| *rev > scanned);
    }

    pub(super) fn need(&mut self, revs: &[u64]) {
        self.bases.missing(revs);
        for rev in revs {
            if self.needed.len() < limits::KEYS as usize {
                self.needed.insert(*rev);
            }
        }
    }

    pub(super) fn grant(&mut self, messages: u32, bytes: u64) {
        self.window.grant(messages, bytes);
        self.window
            .cap(limits::DESIRED_CAP.0, limits::DESIRED_CAP.1);
    }

    /// Bytes of what the agent has asked for and of what is not acknowledged.
    pub(super) fn held_bytes(&self) -> usize {
        self.needed.len() * size_of::<u64>() + self.in_flight.len() * size_of::<(u64, usize)>()
    }

    /// Whether a list at this revision is as new as everything that was handed over.
    pub(super) fn is_current(&self, at_rev: u64) -> bool {
        at_rev >= self.handed
    }

    /// Takes an ack; an error when it is of something that was not sent.
    pub(super) fn ack(&mut self, now: u64, ack: pb::DesiredAck) -> Result<(), ()> {
        if ack.dseq > self.dseq || ack.durable_rev > self.bookmarked.max(self.received) {
            return Err(());
        }
        self.acknowledged = self.acknowledged.max(ack.dseq);
        while let Some((dseq, size)) = self.in_flight.front().copied()
            && dseq <= ack.dseq
        {
            self.in_flight.pop_front();
            self.window.grant(1, size as u64);
            self.progress = now;
        }
        if self.in_flight.is_empty() {
            self.in_flight.shrink_to(8);
        }
        while let Some((dseq, rev)) = self.bookmarks.front().copied()
            && dseq <= ack.dseq
        {
            self.bookmarks.pop_front();
            self.received = self.received.max(rev);
        }
        self.durable = self.durable.max(ack.durable_rev);
        Ok(())
    }

    /// What the store shall remember of the acks, if it has changed, no earlier command runs, and it is time, or the store is written
    /// `anyway`.
    pub(super) fn take_received(&mut self, now: u64, anyway: bool) -> Option<(u64, u64)> {
        let place = (self.received, self.durable);
        if self.storing || place == self.stored || self.resuming {
            return None;
        }
        let due = *self.store_at.get_or_insert(now + RECEIVED_MS);
        if !anyway && now < due {
            return None;
        }
        self.store_at = None;
        self.storing = true;
        self.stored = place;
        Some(place)
    }

    pub(super) fn received_stored(&mut self) {
        self.storing = false;
    }

    pub(super) fn received_rev(&self) -> u64 {
        self.received
    }

    pub(super) fn bookmarked_rev(&self) -> u64 {
        self.bookmarked
    }

    pub(super) fn wedged(&self, now: u64) -> bool {
        !self.in_flight.is_empty() && now >= self.progress + limits::WEDGED_MS
    }

    pub(super) fn deadline(&self) -> u64 {
        let mut deadline = self.entropy_at;
        if !self.in_flight.is_empty() {
            deadline = deadline.min(self.progress + limits::WEDGED_MS);
        }
        if self.frames > 0 {
            deadline = deadline.min(self.bookmark_at + limits::BOOKMARK_MS);
        }
        if let Some(at) = self.store_at.filter(|_| !self.storing) {
            deadline = deadline.min(at);
        }
        deadline
    }

    /// Everything up to here was looked at.
    pub(super) fn scanned_rev(&self) -> u64 {
        self.scanned
    }

    /// The rows of these keys if all are at hand, as many as fit.
    fn rows_at_hand(&self, taken: &[Taken], bytes: u64) -> Option<Vec<Row>> {
        let all = taken.iter().all(|key| self.at_hand.contains_key(&key.text));
        if taken.is_empty() || !all {
            return None;
        }
        let mut total = 0;
        let mut rows = Vec::with_capacity(taken.len());
        for key in taken {
            let row = self.at_hand.get(&key.text)?.clone();
            total += row.body_bytes();
            rows.push(row);
            if total >= bytes {
                break;
            }
        }
        Some(rows)
    }

    /// The revision that a bookmark may name now.
    fn covered(&self) -> u64 {
        if Mutation::BookmarkEarly.is_on() {
            return self.scanned;
        }
        match self.dirty.lowest() {
            Some(lowest) => self.scanned.min(lowest - 1),
            None => self.scanned,
        }
    }

    /// The root, when everything that the store had at the last scan, and nothing newer, was handed over.
    fn settled_root(&self) -> Option<Root> {
        let quiet = self.dirty.is_settled()
            && self.fetching.is_none()
            && self.needed.is_empty()
            && self.ahead.is_empty()
            && self.snapshot.is_none()
            && !self.scanning
            && !self.scan_wanted;
        quiet.then_some(self.scanned_root).flatten()
    }

    fn next_dseq(&mut self, now: u64) -> u64 {
        if self.in_flight.is_empty() {
            self.progress = now;
        }
        self.dseq += 1;
        self.dseq
    }
}

impl Session {
    /// Takes in what was just committed, if it goes on from where the last scan ended; otherwise a scan finds it.
    pub(super) fn take_fresh(&mut self, fresh: Fresh) {
        let desired = &mut self.desired;
        let fits = !desired.resuming
            && !desired.scanning
            && fresh.after == desired.scanned
            && fresh.epoch == self.epoch;
        if !fits {
            desired.scan_wanted |= fresh.head > desired.scanned;
            return;
        }
        let changed = fresh
            .rows
            .iter()
            .map(|(class, row)| (row.text.clone(), row.rev, *class))
            .collect();
        desired.at_hand = fresh
            .rows
            .into_iter()
            .map(|(_, row)| (row.text.clone(), row))
            .collect();
        desired.scanned(fresh.head, false, fresh.root, changed);
        self.pump_desired();
        self.desired.at_hand = HashMap::new();
    }

    /// Rows that were asked for.
    pub(super) fn fetched(&mut self, rows: Vec<Row>) {
        let mut by_text = HashMap::new();
        let mut last = 0;
        match self.desired.fetching.take() {
            None => {}
            Some(Fetching::Revisions(revs)) => {
                for row in rows {
                    last = last.max(row.rev);
                    self.hand_over(row, false);
                }
                // The store stops early when the bodies are many; it answers in the order of the revisions.
                let rest = revs.into_iter().filter(|rev| *rev > last && last > 0);
                self.desired.needed.extend(rest);
            }
            Some(Fetching::Keys(taken)) => {
                let answered = rows.len();
                for row in rows {
                    by_text.insert(row.text.clone(), row);
                }
                let mut seen = 0;
                for key in taken {
                    if let Some(row) = by_text.remove(&key.text) {
                        seen += 1;
                        self.desired.dirty.done(&key, row.rev);
                        self.hand_over(row, self.patches);
                    } else if seen < answered || answered == 0 {
                        // Purged: there is nothing to send any more.
                        self.desired.dirty.gone(&key);
                    } else {
                        self.desired.dirty.restore(key);
                    }
                }
            }
        }
    }

    /// Sends a row; an intent as a patch if it `may` be one.
    fn hand_over(&mut self, row: Row, may: bool) {
        let dseq = self.desired.next_dseq(self.now);
        self.desired.handed = self.desired.handed.max(row.rev);
        let text = row.text;
        let (message, traceparent) = match row.body {
            Body::Apply(mut apply) => {
                apply.dseq = dseq;
                let patch = self.shrink(&text, &apply, may);
                // A patch that is a small part of the body is smaller than whatever compression makes of it.
                let is_small = |p: &pb::MergePatch| p.patch.len() * 4 < body_bytes(&apply);
                if self.zstd && !patch.as_ref().is_some_and(is_small) {
                    compress(&mut apply);
                }
                if let Some(patch) = patch.filter(|p| p.patch.len() < body_bytes(&apply)) {
                    apply.body = Some(pb::apply::Body::Patch(patch));
                }
                let trace = apply.traceparent.clone();
                (hub_frame::Message::Apply(*apply), trace)
            }
            Body::Delete(mut delete) => {
                delete.dseq = dseq;
                self.desired.bases.forget(&text);
                let trace = delete.traceparent.clone();
                (hub_frame::Message::Delete(*delete), trace)
            }
        };
        if row.rev > self.desired.scanned {
            self.desired.ahead.insert(text, row.rev);
            self.desired.scan_wanted = true;
        }
        self.push_desired(dseq, message, traceparent);
        self.desired.complete = None;
    }

    /// The patch that may go instead of an intent's body, and what the agent holds from now on.
    fn shrink(&mut self, text: &str, apply: &pb::Apply, may: bool) -> Option<pb::MergePatch> {
        if !self.patches {
            return None;
        }
        let Some(pb::apply::Body::Json(body)) = &apply.body else {
            return None;
        };
        let desired = &mut self.desired;
        let patch = Some(desired.acknowledged)
            .filter(|_| may)
            .and_then(|acknowledged| desired.bases.patch(text, body, acknowledged));
        desired
            .bases
            .sent(self.now, apply.dseq, text, apply, body.clone());
        patch
    }

    fn push_desired(&mut self, dseq: u64, message: hub_frame::Message, traceparent: String) {
        let size = self.lanes.push(
            pb::Lane::Desired,
            pb::HubFrame {
                message: Some(message),
                critical: true,
                traceparent,
            },
        );
        self.desired.window.take(size);
        self.desired.in_flight.push_back((dseq, size));
        if self.desired.frames == 0 {
            self.desired.bookmark_at = self.now;
        }
        self.desired.frames += 1;
    }

    pub(super) fn pump_desired(&mut self) {
        if self.desired.resuming {
            return;
        }
        self.pump_snapshot();
        let room = (self.desired.window.open() || Mutation::CreditIgnored.is_on())
            && self.lanes.bytes() < QUEUED;
        // While a list is read nothing is: it would be newer than the list.
        let room = room && self.index_for.is_none();
        if room && self.desired.snapshot.is_none() && self.desired.fetching.is_none() {
            self.fetch();
        }
        if self.desired.index_wanted && self.desired.fetching.is_none() {
            self.desired.index_wanted = false;
            self.commands.push_back(Command::Index);
        }
        self.bookmark();
        if self.desired.scan_wanted && !self.desired.scanning {
            self.desired.scan_wanted = false;
            self.desired.scanning = true;
            self.commands.push_back(Command::Scan {
                after: self.desired.scanned,
            });
        }
    }

    fn fetch(&mut self) {
        // No more than may be sent; a single body may overdraw the bytes.
        let (messages, bytes) = match self.desired.window.left() {
            _ if Mutation::CreditIgnored.is_on() => (FETCH, FETCH_BYTES),
            (messages, bytes) => (messages.min(FETCH), bytes.min(FETCH_BYTES)),
        };
        if !self.desired.needed.is_empty() {
            let mut revs = Vec::new();
            while revs.len() < messages
                && let Some(rev) = self.desired.needed.pop_first()
            {
                revs.push(rev);
            }
            self.commands.push_back(Command::FetchRevisions {
                revs: revs.clone(),
                bytes,
            });
            self.desired.fetching = Some(Fetching::Revisions(revs));
            return;
        }
        let mut taken = Vec::new();
        while taken.len() < messages
            && let Some(key) = self.desired.dirty.take()
        {
            taken.push(key);
        }
        if let Some(rows) = self.desired.rows_at_hand(&taken, bytes) {
            self.desired.fetching = Some(Fetching::Keys(taken));
            self.fetched(rows);
        } else if !taken.is_empty() {
            self.commands.push_back(Command::Fetch {
                keys: taken.iter().map(|key| key.text.clone()).collect(),
                bytes,
            });
            self.desired.fetching = Some(Fetching::Keys(taken));
        }
    }

    fn pump_snapshot(&mut self) {
        while self.desired.window.open() && self.lanes.bytes() < QUEUED {
            let Some(snapshot) = &mut self.desired.snapshot else {
                return;
            };
            let (at_rev, root) = (snapshot.at_rev, snapshot.root);
            let entry = snapshot.entries.pop_front();
            let tombstone = match entry {
                Some(_) => None,
                None => snapshot.tombstones.pop_front(),
            };
            let dseq = self.desired.next_dseq(self.now);
            let message = if let Some(entry) = entry {
                hub_frame::Message::SnapshotEntry(pb::SnapshotEntry {
                    rev: entry.rev,
                    key: Some(entry.key),
                    intent_uid: entry.intent_uid.into(),
                    generation: entry.generation,
                    digest: entry.digest.into(),
                    ttl_seconds: entry.ttl_seconds,
                    dseq,
                })
            } else if let Some(delete) = tombstone {
                hub_frame::Message::Delete(pb::Delete { dseq, ..delete })
            } else {
                self.desired.snapshot = None;
                hub_frame::Message::SnapshotEnd(pb::SnapshotEnd {
                    at_rev,
                    desired_root: root.to_bytes().to_vec().into(),
                    dseq,
                })
            };
            self.push_desired(dseq, message, String::new());
        }
    }

    /// The head of a list goes out at once: credit is only asked of its entries.
    pub(super) fn begin_snapshot(&mut self, snapshot: Snapshot, buckets: Vec<u8>) {
        let dseq = self.desired.next_dseq(self.now);
        let begin = pb::SnapshotBegin {
            at_rev: snapshot.at_rev,
            count: snapshot.entries.len() as u32,
            dseq,
            buckets: buckets.into(),
        };
        // What the agent makes of the list decides which bodies it keeps.
        self.desired.bases = Bases::default();
        self.desired.list(snapshot);
        self.push_desired(
            dseq,
            hub_frame::Message::SnapshotBegin(begin),
            String::new(),
        );
    }

    fn bookmark(&mut self) {
        if self.desired.snapshot.is_some() || !self.desired.window.open() {
            return;
        }
        let desired = &self.desired;
        let rev = desired.covered();
        let root = desired.settled_root();
        let is_new = rev > desired.bookmarked;
        let completes = root.is_some_and(|root| desired.complete != Some((rev, root)));
        let late = desired.frames > 0 && self.now >= desired.bookmark_at + limits::BOOKMARK_MS;
        let many = desired.frames >= limits::BOOKMARK_FRAMES;
        let entropy = root.is_some() && self.now >= desired.entropy_at;
        if !(completes || entropy || (is_new && (late || many))) {
            if late || many {
                // Nothing new to say; ask again after the next interval.
                self.desired.bookmark_at = self.now;
            }
            return;
        }
        let dseq = self.desired.next_dseq(self.now);
        let bookmark = pb::Bookmark {
            dseq,
            rev,
            expected_root: root
                .map(|root| root.to_bytes().to_vec())
                .unwrap_or_default()
                .into(),
            complete: root.is_some(),
        };
        self.push_desired(dseq, hub_frame::Message::Bookmark(bookmark), String::new());
        self.desired.bookmarks.push_back((dseq, rev));
        self.desired.bookmarked = self.desired.bookmarked.max(rev);
        self.desired.complete = root.map(|root| (rev, root));
        self.desired.frames = 0;
        if self.now >= self.desired.entropy_at {
            self.desired.entropy_at = self.now + limits::ANTI_ENTROPY_MS;
        }
    }
}

/// Bytes of a body as it is sent.
fn body_bytes(apply: &pb::Apply) -> usize {
    match &apply.body {
        Some(pb::apply::Body::Json(body) | pb::apply::Body::JsonZstd(body)) => body.len(),
        Some(pb::apply::Body::Ref(_) | pb::apply::Body::Patch(_)) | None => 0,
    }
}

fn compress(apply: &mut pb::Apply) {
    let Some(pb::apply::Body::Json(json)) = &apply.body else {
        return;
    };
    if json.len() < COMPRESS {
        return;
    }
    // A body that does not compress goes as it is.
    if let Ok(small) = zstd::bulk::compress(json, 3)
        && small.len() < json.len()
    {
        apply.body = Some(pb::apply::Body::JsonZstd(small.into()));
    }
}
