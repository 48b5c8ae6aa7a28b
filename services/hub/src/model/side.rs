//! What each side does with a frame.

use super::{
    Agent, Down, Entry, Flaw, KEYS, Ledger, Object, Resume, Row, Session, Stage, Up, Work, resume,
};

impl Ledger {
    pub(super) fn write(&mut self, key: usize) {
        self.head += 1;
        let (uid, generation) = match self.rows[key] {
            Some(row) if !row.tombstone => (row.uid, row.generation + 1),
            _ => {
                self.lives[key] += 1;
                (self.lives[key], 1)
            }
        };
        self.rows[key] = Some(Row {
            uid,
            generation,
            rev: self.head,
            tombstone: false,
            settled: false,
        });
    }

    pub(super) fn erase(&mut self, key: usize) {
        self.head += 1;
        if let Some(row) = &mut self.rows[key] {
            row.rev = self.head;
            row.tombstone = true;
            row.settled = false;
        }
    }

    fn purge(&mut self, flaw: Flaw) {
        for row in &mut self.rows {
            let Some(found) = *row else { continue };
            let settled = found.settled || flaw == Flaw::PurgedUnsettled;
            let durable = found.rev <= self.durable || flaw == Flaw::PurgedUndurable;
            if found.tombstone && settled && durable {
                self.compacted = self.compacted.max(found.rev);
                *row = None;
            }
        }
    }
}

impl Session {
    pub(super) fn new(replica: u8, hello: Up) -> Self {
        Self {
            replica,
            epoch: 0,
            scanned: 0,
            bookmarked: 0,
            dirty: [0; KEYS],
            down: Vec::new(),
            up: vec![hello],
            open: true,
        }
    }

    /// Sends a row as it is now.
    pub(super) fn hand_over(&mut self, key: usize, row: Row) {
        // whether it is settled is the ledger's own business
        let row = Row {
            settled: false,
            ..row
        };
        self.down.push(Down::Row(key as u8, row));
    }

    /// The key that waits longest.
    pub(super) fn next(&self) -> Option<usize> {
        let waiting = (0..KEYS).filter(|key| self.dirty[*key] > 0);
        waiting.min_by_key(|key| self.dirty[*key])
    }

    /// The revision that a bookmark may name.
    pub(super) fn covered(&self, flaw: Flaw) -> u8 {
        let lowest = self.dirty.iter().filter(|rev| **rev > 0).min();
        match lowest {
            Some(rev) if flaw != Flaw::BookmarkEarly => self.scanned.min(rev - 1),
            _ => self.scanned,
        }
    }

    /// Takes the next frame of the agent. False when a newer session has the agent.
    pub(super) fn take(&mut self, ledger: &mut Ledger, flaw: Flaw) -> Result<bool, &'static str> {
        let frame = self.up.remove(0);
        if let Up::Hello(received, durable, theirs) = frame {
            return self.claim(ledger, (received, durable, theirs), flaw);
        }
        if self.epoch != ledger.epoch {
            if flaw != Flaw::EpochUnchecked {
                return Ok(false);
            }
            return Err("an older session has written");
        }
        match frame {
            Up::Hello(..) => {}
            Up::Durable(rev) => {
                ledger.durable = ledger.durable.max(rev);
                ledger.purge(flaw);
            }
            Up::Need(rev) => {
                let wanted = |row: &Row| row.rev == rev;
                let found = ledger
                    .rows
                    .iter()
                    .position(|row| row.as_ref().is_some_and(wanted));
                if let Some((key, row)) = found.and_then(|key| Some((key, ledger.rows[key]?))) {
                    self.hand_over(key, row);
                }
            }
            Up::Result(key, work) => {
                if let Some(row) = &mut ledger.rows[usize::from(key)]
                    && (row.uid, row.generation, row.tombstone)
                        == (work.uid, work.generation, work.tombstone)
                {
                    row.settled = true;
                }
                ledger.purge(flaw);
                self.down.push(Down::Acknowledged(key, work));
            }
        }
        Ok(true)
    }

    fn claim(
        &mut self,
        ledger: &mut Ledger,
        (received, durable, theirs): (u8, u8, [Object; KEYS]),
        flaw: Flaw,
    ) -> Result<bool, &'static str> {
        ledger.epoch += 1;
        self.epoch = ledger.epoch;
        ledger.durable = durable.min(received);
        ledger.purge(flaw);
        self.down.push(Down::Welcome);
        match resume(ledger, received, &theirs) {
            Resume::Snapshot | Resume::Unspecified => {
                self.scanned = ledger.head;
                self.bookmarked = ledger.head;
                self.down.push(Down::List(ledger.head, ledger.rows));
            }
            Resume::Delta if received == ledger.head => {
                return Err("the same revision says something else");
            }
            Resume::Delta if flaw == Flaw::DeltaFromHead => self.scanned = ledger.head,
            Resume::Delta | Resume::Nothing => self.scanned = received,
        }
        self.bookmarked = self.bookmarked.max(received);
        for (key, row) in ledger.rows.iter().enumerate() {
            if let Some(row) = row
                && row.tombstone
                && !row.settled
                && row.rev <= received
            {
                self.dirty[key] = row.rev;
            }
        }
        Ok(true)
    }
}

impl Agent {
    pub(super) fn hello(&self) -> Up {
        let live = self.copy.map(|entry| {
            entry
                .filter(|entry| !entry.tombstone)
                .map(|entry| (entry.uid, entry.generation))
        });
        Up::Hello(self.received, self.durable, live)
    }

    /// Takes a frame; what it has to say goes up.
    pub(super) fn hear(&mut self, frame: Down, up: &mut Vec<Up>, flaw: Flaw) {
        match frame {
            Down::Welcome => {
                self.welcomed = true;
                // what the hub has not confirmed is reported again
                for key in 0..KEYS {
                    self.report(key, up, flaw);
                    self.ask(key, up);
                }
            }
            Down::Row(key, row) => self.told(usize::from(key), row, true),
            Down::Bookmark(rev) => {
                self.received = self.received.max(rev);
                if flaw == Flaw::MemoryCalledDurable {
                    self.durable = self.received;
                    up.push(Up::Durable(self.durable));
                }
            }
            Down::List(at, rows) => {
                for (key, row) in rows.into_iter().enumerate() {
                    match (row, self.copy[key]) {
                        (Some(row), _) => self.told(key, row, false),
                        (None, Some(entry))
                            if !entry.tombstone && flaw != Flaw::PurgedUndurable =>
                        {
                            // held against the guards of a list: verified, of this ledger, few
                            self.remove(key, entry.uid);
                            self.copy[key] = None;
                        }
                        (None, _) => {}
                    }
                }
                self.received = at;
            }
            Down::Acknowledged(key, work) => {
                let key = usize::from(key);
                let Some(entry) = &mut self.copy[key] else {
                    return;
                };
                if (entry.uid, entry.generation, entry.tombstone)
                    == (work.uid, work.generation, work.tombstone)
                {
                    entry.stage = Stage::Confirmed;
                    if entry.tombstone {
                        self.copy[key] = None;
                    }
                }
            }
        }
    }

    fn told(&mut self, key: usize, row: Row, body: bool) {
        if let Some(entry) = &mut self.copy[key]
            && entry.rev >= row.rev
        {
            if body && entry.rev == row.rev {
                entry.body = true;
                if entry.stage == Stage::Asked {
                    entry.stage = Stage::Told;
                }
            }
            return;
        }
        let same = self.copy[key].filter(|entry| {
            (entry.uid, entry.generation, entry.tombstone)
                == (row.uid, row.generation, row.tombstone)
        });
        self.copy[key] = Some(Entry {
            uid: row.uid,
            generation: row.generation,
            rev: row.rev,
            tombstone: row.tombstone,
            body: body || same.is_some_and(|entry| entry.body),
            stage: same.map_or(Stage::Told, |entry| entry.stage),
        });
    }

    /// Brings a key into the cluster, or takes it out.
    pub(super) fn work(&mut self, key: usize) -> Result<(), &'static str> {
        let Some(mut entry) = self.copy[key] else {
            return Ok(());
        };
        let (uid, generation) = (entry.uid, entry.generation);
        if entry.tombstone {
            self.remove(key, uid);
        } else if !entry.body && self.cluster[key] != Some((uid, generation)) {
            entry.stage = Stage::Asked;
            self.copy[key] = Some(entry);
            return Ok(());
        } else {
            match self.cluster[key] {
                Some((other, _)) if other != uid => {
                    return Err("an object of another life is in the way");
                }
                Some((_, newer)) if newer > generation => {
                    return Err("the cluster has a newer generation than the copy");
                }
                _ if self.newest[key] > (uid, generation) => {
                    return Err("something deleted or replaced came back");
                }
                _ => {
                    self.cluster[key] = Some((uid, generation));
                    self.newest[key] = (uid, generation);
                }
            }
        }
        entry.stage = Stage::Done;
        self.copy[key] = Some(entry);
        Ok(())
    }

    fn remove(&mut self, key: usize, uid: u8) {
        if self.cluster[key].is_some_and(|(found, _)| found == uid) {
            self.cluster[key] = None;
        }
        self.newest[key] = self.newest[key].max((uid, u8::MAX));
    }

    /// Asks for a body.
    pub(super) fn ask(&self, key: usize, up: &mut Vec<Up>) {
        if let Some(entry) = self.copy[key].filter(|entry| entry.stage == Stage::Asked) {
            up.push(Up::Need(entry.rev));
        }
    }

    /// Reports what was done.
    pub(super) fn report(&mut self, key: usize, up: &mut Vec<Up>, flaw: Flaw) {
        let Some(entry) = self.copy[key].filter(|entry| entry.stage == Stage::Done) else {
            return;
        };
        up.push(Up::Result(
            key as u8,
            Work {
                uid: entry.uid,
                generation: entry.generation,
                tombstone: entry.tombstone,
            },
        ));
        if flaw == Flaw::SentCalledCommitted {
            self.copy[key] = (!entry.tombstone).then_some(Entry {
                stage: Stage::Confirmed,
                ..entry
            });
        }
    }

    pub(super) fn crash(&mut self) {
        self.copy = self.saved;
        self.received = self.durable;
        self.welcomed = false;
        for entry in self.copy.iter_mut().flatten() {
            // results and bodies are in memory only
            entry.body = false;
            if entry.stage != Stage::Confirmed {
                entry.stage = Stage::Told;
            }
        }
    }

    /// The durable copy is lost, and made anew from what the objects carry.
    pub(super) fn forget(&mut self) {
        self.copy = self.cluster.map(|object| {
            object.map(|(uid, generation)| Entry {
                uid,
                generation,
                rev: 0,
                tombstone: false,
                body: false,
                stage: Stage::Told,
            })
        });
        self.saved = self.copy;
        self.received = 0;
        self.durable = 0;
        self.welcomed = false;
    }
}
