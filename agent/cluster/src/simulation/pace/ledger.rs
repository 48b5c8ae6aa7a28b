//! One agent's ledger in memory.

use std::collections::{BTreeMap, HashMap};

use prost::bytes::Bytes;
use upm_hub::session::{Body, Claim, Class, Command, Committed, Fresh, IndexEntry, Reply, Row};
use upm_proto::{
    hub::v1::{self as pb, status_update},
    ledger::{Entry, Root, content_digest, key_text},
};

use super::key;

/// Keys of one scan.
const SCAN: usize = 5_000;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    rows: HashMap<String, Row>,
    revs: BTreeMap<u64, String>,
    head: u64,
    root: Root,
    /// When each key was written last.
    pub(super) written: HashMap<String, u64>,
    /// When each revision was made.
    pub(super) made: Vec<u64>,
    /// Results that were committed, and the longest that one took from its write on.
    pub(super) results: u64,
    pub(super) slowest: u64,
    pub(super) statuses: HashMap<String, Bytes>,
}

fn class(row: &Row) -> Class {
    match row.body {
        Body::Apply(_) => Class::Normal,
        Body::Delete(_) => Class::Delete,
    }
}

impl Ledger {
    fn put(&mut self, now: u64, row: Row) {
        if let Some(before) = self.rows.get(&row.text) {
            self.revs.remove(&before.rev);
            if let Body::Apply(apply) = &before.body {
                self.root.remove(entry(apply));
            }
        }
        if let Body::Apply(apply) = &row.body {
            self.root.add(entry(apply));
        }
        self.head = row.rev;
        self.made.push(now);
        self.written.insert(row.text.clone(), now);
        self.revs.insert(row.rev, row.text.clone());
        self.rows.insert(row.text.clone(), row);
    }

    /// The next generation of each.
    pub(super) fn write(&mut self, now: u64, names: &[String]) -> Fresh {
        let after = self.head;
        let mut rows = Vec::with_capacity(names.len());
        for name in names {
            let key = key(name);
            let text = key_text(&key);
            let generation = match self.rows.get(&text).map(|row| &row.body) {
                Some(Body::Apply(apply)) => apply.generation + 1,
                _ => 1,
            };
            let body = format!("{{\"generation\":{generation}}}");
            let rev = self.head + 1;
            let row = Row {
                text,
                rev,
                body: Body::Apply(Box::new(pb::Apply {
                    rev,
                    key: Some(key),
                    intent_uid: name.clone().into_bytes().into(),
                    generation,
                    wave_scope: name.clone(),
                    digest: content_digest(body.as_bytes()).to_vec().into(),
                    body: Some(pb::apply::Body::Json(body.into())),
                    ..pb::Apply::default()
                })),
            };
            self.put(now, row.clone());
            rows.push((Class::Normal, row));
        }
        Fresh {
            epoch: 1,
            after,
            head: self.head,
            root: self.root,
            rows,
        }
    }

    /// A tombstone of an object that is gone already.
    pub(super) fn bury(&mut self, now: u64, name: &str) {
        let key = key(name);
        let rev = self.head + 1;
        let row = Row {
            text: key_text(&key),
            rev,
            body: Body::Delete(Box::new(pb::Delete {
                rev,
                key: Some(key),
                intent_uid: name.to_owned().into_bytes().into(),
                generation: 2,
                ..pb::Delete::default()
            })),
        };
        self.put(now, row);
    }

    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Does a command of the session.
    pub(super) fn does(&mut self, now: u64, command: Command) -> Reply {
        match command {
            Command::Claim(_) => Reply::Claimed(Box::new(Claim {
                epoch: 1,
                incarnation: vec![1; 16],
                head_rev: self.head,
                root: self.root,
                ..Claim::default()
            })),
            Command::Scan { after } => self.scan(after),
            Command::Fetch { keys, .. } => {
                Reply::Fetched(keys.iter().map(|text| self.rows[text].clone()).collect())
            }
            Command::FetchRevisions { revs, .. } => {
                let rows = revs.iter().filter_map(|rev| self.revs.get(rev));
                Reply::Fetched(rows.map(|text| self.rows[text].clone()).collect())
            }
            Command::Index => Reply::Indexed {
                at_rev: self.head,
                root: self.root,
                entries: self
                    .revs
                    .values()
                    .filter_map(|text| self.listed(text))
                    .collect(),
                tombstones: Vec::new(),
            },
            Command::Results { results, upto } => {
                for result in results {
                    let text = key_text(result.key.as_ref().unwrap());
                    self.results += 1;
                    if self.rows[&text].rev == result.rev {
                        self.slowest = self.slowest.max(now - self.written[&text]);
                    }
                }
                Reply::Committed(Committed::Results(upto))
            }
            Command::Statuses {
                updates,
                upto,
                credit,
            } => {
                for update in updates {
                    if let Some(status_update::Body::Full(body)) = update.body {
                        self.statuses.insert(key_text(&update.key.unwrap()), body);
                    }
                }
                Reply::Committed(Committed::Statuses {
                    upto,
                    resend: Vec::new(),
                    credit,
                })
            }
            Command::Inventory { bytes, .. } => Reply::Committed(Committed::Inventory(bytes)),
            Command::Received { .. } => Reply::Committed(Committed::Received),
            Command::PruneHeld(_) => Reply::Committed(Committed::PruneHeld),
            Command::Certificate(_) => Reply::Certificate(None),
        }
    }

    fn scan(&self, after: u64) -> Reply {
        let mut changed = self
            .revs
            .range(after + 1..)
            .take(SCAN + 1)
            .map(|(rev, text)| (text.clone(), *rev, class(&self.rows[text])))
            .collect::<Vec<_>>();
        let more = changed.len() > SCAN;
        changed.truncate(SCAN);
        Reply::Scanned {
            upto: match changed.last() {
                Some((_, rev, _)) if more => *rev,
                _ => self.head,
            },
            more,
            root: self.root,
            changed,
        }
    }

    fn listed(&self, text: &str) -> Option<IndexEntry> {
        let Body::Apply(apply) = &self.rows[text].body else {
            return None;
        };
        Some(IndexEntry {
            rev: apply.rev,
            key: apply.key.clone()?,
            intent_uid: apply.intent_uid.to_vec(),
            generation: apply.generation,
            digest: apply.digest.to_vec(),
            ttl_seconds: apply.ttl_seconds,
        })
    }
}

fn entry(apply: &pb::Apply) -> Entry<'_> {
    Entry {
        key: apply.key.as_ref().unwrap(),
        intent_uid: &apply.intent_uid,
        generation: apply.generation,
        digest: &apply.digest,
    }
}
