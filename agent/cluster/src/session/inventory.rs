//! Inventory on its way to the hub: nodes, storage classes. The hub says which state it has by a token; an equal one is not sent again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use prost::{Message as _, bytes::Bytes};
use upm_proto::{
    hub::v1 as pb,
    ledger::{Entry as Counted, Root, content_digest, key_text, limits},
};

/// Milliseconds between two reports of one watch.
const INTERVAL_MS: u64 = 5_000;

#[derive(Debug)]
struct Item {
    key: pb::Key,
    object: Bytes,
    digest: [u8; 32],
    resource_version: String,
}

#[derive(Debug, Default)]
struct Inventory {
    items: BTreeMap<String, Item>,
    listed: bool,
    /// What the hub said it has; set while it wants the watch.
    theirs: Option<String>,
    /// Whether the hub has what the last report made it have.
    in_step: bool,
    changed: BTreeSet<String>,
    queue: VecDeque<pb::WatchBatch>,
    due: Option<u64>,
}

/// All inventory watches.
#[derive(Debug, Default)]
pub(super) struct Inventories(HashMap<u32, Inventory>);

impl Inventory {
    fn token(&self) -> String {
        let mut root = Root::default();
        for item in self.items.values() {
            root.add(Counted {
                key: &item.key,
                intent_uid: b"",
                generation: 0,
                digest: &item.digest,
            });
        }
        root.to_bytes().iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Turns what has changed into batches of about a frame.
    fn report(&mut self, watch_id: u32) {
        let resync = !self.in_step;
        let texts = if resync {
            self.items.keys().cloned().collect::<Vec<_>>()
        } else {
            self.changed.iter().cloned().collect()
        };
        self.changed.clear();
        let mut batch = pb::WatchBatch {
            watch_id,
            resync,
            ..pb::WatchBatch::default()
        };
        let mut bytes = 0;
        for text in texts {
            let event = event(&text, self.items.get(&text));
            bytes += event.encoded_len();
            batch.events.push(event);
            if bytes > limits::FRAME_BYTES / 2 {
                self.queue.push_back(std::mem::take(&mut batch));
                batch.watch_id = watch_id;
                bytes = 0;
            }
        }
        batch.bookmark_rv = self.token();
        self.queue.push_back(batch);
        self.in_step = true;
    }
}

fn event(text: &str, item: Option<&Item>) -> pb::WatchEvent {
    if let Some(item) = item {
        return pb::WatchEvent {
            key: Some(item.key.clone()),
            object: item.object.clone(),
            gone: false,
            resource_version: item.resource_version.clone(),
        };
    }
    let mut parts = text.splitn(4, '/').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    pb::WatchEvent {
        key: Some(pb::Key {
            group: part(),
            kind: part(),
            namespace: part(),
            name: part(),
            version: String::new(),
        }),
        object: Bytes::new(),
        gone: true,
        resource_version: String::new(),
    }
}

impl Inventories {
    /// The hub wants a watch and says what it has of it.
    pub(super) fn wanted(&mut self, watch: &pb::Watch) {
        let inventory = self.0.entry(watch.watch_id).or_default();
        inventory.theirs = Some(watch.resume_rv.clone());
        inventory.in_step = inventory.listed && inventory.token() == watch.resume_rv;
        inventory.changed.clear();
        if inventory.listed && !inventory.in_step {
            inventory.due = Some(0);
        }
    }

    /// The watch was listed anew, or has changed.
    pub(super) fn seen(
        &mut self,
        now: u64,
        watch_id: u32,
        events: Vec<pb::WatchEvent>,
        complete: bool,
    ) {
        let inventory = self.0.entry(watch_id).or_default();
        let mut missing = if complete {
            inventory.items.keys().cloned().collect::<BTreeSet<_>>()
        } else {
            BTreeSet::new()
        };
        for event in events {
            let Some(key) = event.key else { continue };
            let text = key_text(&key);
            missing.remove(&text);
            if event.gone {
                if inventory.items.remove(&text).is_some() {
                    inventory.changed.insert(text);
                }
                continue;
            }
            let digest = content_digest(&event.object);
            if inventory
                .items
                .get(&text)
                .is_some_and(|i| i.digest == digest)
            {
                continue;
            }
            let item = Item {
                key,
                digest,
                object: event.object,
                resource_version: event.resource_version,
            };
            inventory.items.insert(text.clone(), item);
            inventory.changed.insert(text);
        }
        for text in missing {
            inventory.items.remove(&text);
            inventory.changed.insert(text);
        }
        if complete && !inventory.listed {
            inventory.listed = true;
            if let Some(theirs) = &inventory.theirs {
                inventory.in_step = inventory.token() == *theirs;
                if inventory.in_step {
                    inventory.changed.clear();
                } else {
                    inventory.due = Some(now);
                }
            }
        }
        if inventory.theirs.is_some() && inventory.listed && !inventory.changed.is_empty() {
            inventory.due = inventory.due.or(Some(now + INTERVAL_MS));
        }
    }

    pub(super) fn disconnected(&mut self) {
        for inventory in self.0.values_mut() {
            inventory.theirs = None;
            inventory.in_step = false;
            inventory.queue.clear();
            inventory.due = None;
        }
    }

    /// The next batch that is due.
    pub(super) fn next(&mut self, now: u64) -> Option<pb::WatchBatch> {
        for (watch_id, inventory) in &mut self.0 {
            if let Some(batch) = inventory.queue.pop_front() {
                return Some(batch);
            }
            if inventory.theirs.is_some() && inventory.due.is_some_and(|due| due <= now) {
                inventory.due = None;
                inventory.report(*watch_id);
                return inventory.queue.pop_front();
            }
        }
        None
    }

    pub(super) fn deadline(&self) -> u64 {
        self.0
            .values()
            .map(|inventory| {
                if inventory.queue.is_empty() {
                    inventory.due.unwrap_or(u64::MAX)
                } else {
                    0
                }
            })
            .min()
            .unwrap_or(u64::MAX)
    }
}
