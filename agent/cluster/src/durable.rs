//! The durable copy of the ledger: ConfigMaps, no bodies. Entries are written before the head that covers them, so the point of resume is
//! never ahead of what is known. What is lost can be rebuilt: the hub lists everything, and live objects carry their intents.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
};

use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use upm_crds::names::label;
use upm_operator::call;
use upm_proto::{
    hub::v1 as pb,
    ledger::{bucket, key_text},
};

use crate::session::{Persist, Stored};

/// Name of the head; parts are `<name>-0` … `<name>-f`.
const NAME: &str = "upm-agent-ledger";
const PARTS: u8 = 16;
const ENTRIES: &str = "entries.json";
/// What the wall clock may add to a silence for each restart, in milliseconds.
const AWAY_MS: u64 = 60_000;

/// Where a session keeps what it must not forget.
pub trait Durable: Send + Sync + 'static {
    /// What was kept.
    fn load(&self) -> BoxFuture<'_, anyhow::Result<Persist>>;
    /// Keeps a change.
    fn save<'a>(&'a self, persist: &'a Persist) -> BoxFuture<'a, anyhow::Result<()>>;
}

/// An entry as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    /// group, version, kind, namespace, name
    key: [String; 5],
    uid: String,
    generation: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    digest: String,
    rev: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tombstone: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    propagation: i32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    orphan: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    confirmed: bool,
    #[serde(default, skip_serializing_if = "is_never")]
    ttl_seconds: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    expired: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_never(ttl_seconds: &u32) -> bool {
    *ttl_seconds == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &i32) -> bool {
    *n == 0
}

impl From<&Stored> for Line {
    fn from(stored: &Stored) -> Self {
        let key = stored.key.clone();
        Self {
            key: [key.group, key.version, key.kind, key.namespace, key.name],
            uid: hex::encode(&stored.uid),
            generation: stored.generation,
            digest: hex::encode(&stored.digest),
            rev: stored.rev,
            tombstone: stored.tombstone,
            propagation: stored.how.0,
            orphan: stored.how.1,
            confirmed: stored.confirmed,
            ttl_seconds: stored.ttl_s,
            expired: stored.expired,
        }
    }
}

impl From<Line> for Stored {
    fn from(line: Line) -> Self {
        let [group, version, kind, namespace, name] = line.key;
        Self {
            key: pb::Key {
                group,
                version,
                kind,
                namespace,
                name,
            },
            uid: hex::decode(line.uid).unwrap_or_default(),
            generation: line.generation,
            digest: hex::decode(line.digest).unwrap_or_default(),
            rev: line.rev,
            tombstone: line.tombstone,
            how: (line.propagation, line.orphan),
            confirmed: line.confirmed,
            ttl_s: line.ttl_seconds,
            expired: line.expired,
        }
    }
}

/// How long there was no session when a process begins: what the last one had noted, and what has passed since by the wall clock, in
/// milliseconds. The wall clock may have been set meanwhile: it counts for nothing when it went back, and for at most a minute.
pub(crate) fn carried(silent_ms: u64, noted_at: u64, now: u64) -> u64 {
    silent_ms.saturating_add(now.saturating_sub(noted_at).min(AWAY_MS))
}

/// The wall clock in milliseconds since 1970.
fn wall() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// The copy in ConfigMaps of the agent's namespace. Only the leader writes.
#[derive(Debug)]
pub struct ConfigMaps {
    api: Api<ConfigMap>,
    parts: Mutex<Parts>,
}

/// The parts in memory.
#[derive(Debug, Default)]
struct Parts {
    lines: BTreeMap<u8, BTreeMap<String, Line>>,
    /// Parts whose ConfigMap is behind the memory, because a write failed or was not tried yet.
    stale: BTreeSet<u8>,
}

/// Which part a key lies in.
fn part_of(key: &pb::Key) -> u8 {
    bucket(key) / PARTS
}

impl ConfigMaps {
    /// The copy in a namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            parts: Mutex::default(),
        }
    }

    async fn read(&self) -> anyhow::Result<Persist> {
        let mut persist = Persist::default();
        if let Some(head) = call::get_opt(&self.api, NAME).await? {
            let data = head.data.unwrap_or_default();
            let number = |name: &str| data.get(name).and_then(|v| v.parse().ok()).unwrap_or(0);
            persist.received_rev = number("receivedRev");
            persist.epoch = number("sessionEpoch");
            if data.contains_key("silentMs") {
                let silence = carried(number("silentMs"), number("silentAt"), wall());
                persist.silent_ms = Some(silence);
            }
            persist.incarnation = data
                .get("hubIncarnation")
                .and_then(|v| hex::decode(v).ok())
                .unwrap_or_default();
        }
        let mut parts = self.parts.lock().await;
        *parts = Parts::default();
        for part in 0..PARTS {
            let name = format!("{NAME}-{part:x}");
            let Some(found) = call::get_opt(&self.api, &name).await? else {
                continue;
            };
            let data = found.data.unwrap_or_default();
            let lines = data.get(ENTRIES).map_or("[]", String::as_str);
            let lines: Vec<Line> = match serde_json::from_str(lines) {
                Ok(lines) => lines,
                Err(error) => {
                    // It can be rebuilt: without a head the hub lists everything.
                    tracing::warn!(part = name, %error, "A part of the durable ledger cannot be read; it is rebuilt");
                    persist = Persist::default();
                    continue;
                }
            };
            let entries = parts.lines.entry(part).or_default();
            for line in lines {
                let stored = Stored::from(line.clone());
                let text = key_text(&stored.key);
                entries.insert(text.clone(), line);
                persist.entries.push((text, Some(stored)));
            }
        }
        Ok(persist)
    }

    async fn write(&self, persist: &Persist) -> anyhow::Result<()> {
        let mut parts = self.parts.lock().await;
        let Parts { lines, stale } = &mut *parts;
        for (text, stored) in &persist.entries {
            let part = part_of_text(text);
            let entries = lines.entry(part).or_default();
            let line = stored.as_ref().map(Line::from);
            let before = match &line {
                Some(line) => entries.insert(text.clone(), line.clone()),
                None => entries.remove(text),
            };
            if before != line {
                stale.insert(part);
            }
        }
        while let Some(part) = stale.first().copied() {
            let lines = lines
                .get(&part)
                .into_iter()
                .flat_map(BTreeMap::values)
                .collect::<Vec<_>>();
            let data = [(ENTRIES.to_owned(), serde_json::to_string(&lines)?)].into();
            self.put(&format!("{NAME}-{part:x}"), data).await?;
            stale.remove(&part);
        }
        let mut head = BTreeMap::from([
            (
                "hubIncarnation".to_owned(),
                hex::encode(&persist.incarnation),
            ),
            ("receivedRev".to_owned(), persist.received_rev.to_string()),
            ("sessionEpoch".to_owned(), persist.epoch.to_string()),
        ]);
        if let Some(silent_ms) = persist.silent_ms {
            head.insert("silentMs".to_owned(), silent_ms.to_string());
            head.insert("silentAt".to_owned(), wall().to_string());
        }
        self.put(NAME, head).await
    }

    async fn put(&self, name: &str, data: BTreeMap<String, String>) -> anyhow::Result<()> {
        let wanted = ConfigMap {
            metadata: kube::core::ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some([(label::MANAGED_BY.to_owned(), label::AGENT.to_owned())].into()),
                ..kube::core::ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        };
        let params = PatchParams::apply(label::AGENT).force();
        deadline(self.api.patch(name, &params, &Patch::Apply(&wanted))).await
    }
}

async fn deadline<T>(work: impl Future<Output = kube::Result<T>>) -> anyhow::Result<()> {
    call::within("write the durable ledger", work).await?;
    Ok(())
}

/// The part of a key text; the text has all that the bucket needs.
fn part_of_text(text: &str) -> u8 {
    let mut parts = text.splitn(4, '/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    part_of(&pb::Key {
        group: next(),
        version: String::new(),
        kind: next(),
        namespace: next(),
        name: next(),
    })
}

impl Durable for ConfigMaps {
    fn load(&self) -> BoxFuture<'_, anyhow::Result<Persist>> {
        self.read().boxed()
    }

    fn save<'a>(&'a self, persist: &'a Persist) -> BoxFuture<'a, anyhow::Result<()>> {
        self.write(persist).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_being_written() {
        let stored = Stored {
            key: pb::Key {
                group: "g".into(),
                version: "v1".into(),
                kind: "K".into(),
                namespace: "n".into(),
                name: "x".into(),
            },
            uid: vec![1; 16],
            generation: 3,
            digest: vec![2; 32],
            rev: 9,
            tombstone: true,
            how: (2, true),
            confirmed: true,
            ttl_s: 90,
            expired: true,
        };
        let text = serde_json::to_string(&Line::from(&stored)).unwrap();
        let line: Line = serde_json::from_str(&text).unwrap();
        assert_eq!(Stored::from(line), stored);
        assert_eq!(part_of_text(&key_text(&stored.key)), part_of(&stored.key));
    }

    #[test]
    fn a_restart_goes_on_with_the_silence_and_trusts_the_wall_clock_for_a_minute() {
        assert_eq!(carried(50_000, 1_000, 6_000), 55_000);
        assert_eq!(carried(50_000, 6_000, 1_000), 50_000, "it was set back");
        assert_eq!(
            carried(50_000, 1_000, 3_600_000),
            110_000,
            "it was set forth, or the agent was away for an hour"
        );
    }
}
