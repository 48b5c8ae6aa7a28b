//! What the agents are told: the same intents for each, so that both sides can make them from a number.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context as _;
use upm_agent::session::{Persist, Stored};
use upm_proto::{
    hub::v1 as pb,
    ledger::{canonical_json, content_digest, key_text},
};

/// Who owns the intents.
pub(crate) const OWNER: &str = "projects/bench/redisServices/s";

/// Id of an agent.
pub(crate) fn agent(n: usize) -> String {
    format!("a{n:06}")
}

/// Agents that only the probes use.
pub(crate) const PROBES: usize = 40;
/// The agent with many keys.
pub(crate) const BIG: &str = "big";

/// The agent that is the real program.
pub(crate) const REAL: &str = "real";

/// Id of a probe.
pub(crate) fn probe(n: usize) -> String {
    format!("probe{n:03}")
}

/// The key of an intent.
pub(crate) fn key(n: usize) -> pb::Key {
    pb::Key {
        group: "upm.syntropycloud.io".into(),
        version: "v1alpha2".into(),
        kind: "UnitSet".into(),
        namespace: "bench".into(),
        name: format!("service-{n:05}"),
    }
}

/// The identity of an intent.
pub(crate) fn uid(n: usize) -> Vec<u8> {
    let mut uid = vec![7; 16];
    uid[..8].copy_from_slice(&(n as u64).to_be_bytes());
    uid
}

/// The object: about 700 bytes.
fn body(n: usize, generation: u64) -> Vec<u8> {
    let key = key(n);
    let parameters: BTreeMap<_, _> = (0..12)
        .map(|i| {
            (
                format!("parameter-{i:02}"),
                format!("value-{i}-{generation}"),
            )
        })
        .collect();
    serde_json::json!({
        "apiVersion": format!("{}/{}", key.group, key.version),
        "kind": key.kind,
        "metadata": {"name": key.name, "namespace": key.namespace, "labels": {"app.kubernetes.io/managed-by": "upm"}},
        "spec": {"units": 3, "parameters": parameters, "resources": {"cpu": "500m", "memory": "1Gi", "storage": "10Gi"}},
    })
    .to_string()
    .into_bytes()
}

/// An intent.
pub(crate) fn intent(n: usize, generation: u64) -> pb::Intent {
    pb::Intent {
        key: Some(key(n)),
        intent_uid: uid(n).into(),
        generation,
        json: body(n, generation).into(),
        ..pb::Intent::default()
    }
}

/// An intent that needs no controller.
pub(crate) fn config_map(n: usize, generation: u64) -> pb::Intent {
    let (namespace, name) = ("upm-system", format!("bench-{n:05}"));
    let text = "x".repeat(500);
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace}, "data": {"template": text},
    });
    pb::Intent {
        key: Some(pb::Key {
            group: String::new(),
            version: "v1".into(),
            kind: "ConfigMap".into(),
            namespace: namespace.into(),
            name,
        }),
        intent_uid: uid(n).into(),
        generation,
        json: object.to_string().into_bytes().into(),
        ..pb::Intent::default()
    }
}

/// What an agent holds durably once so many intents have settled.
pub(crate) fn settled(count: usize, incarnation: &str) -> anyhow::Result<Persist> {
    let mut entries = Vec::with_capacity(count);
    for n in 0..count {
        let canonical = canonical_json(&body(n, 1)).context("canonical JSON")?;
        let stored = Stored {
            key: key(n),
            uid: uid(n),
            generation: 1,
            digest: content_digest(&canonical).to_vec(),
            rev: n as u64 + 1,
            tombstone: false,
            how: (0, false),
            confirmed: true,
            ttl_s: 0,
            expired: false,
        };
        entries.push((key_text(&stored.key), Some(stored)));
    }
    Ok(Persist {
        incarnation: decode(incarnation),
        received_rev: count as u64,
        epoch: 0,
        silent_ms: None,
        entries,
    })
}

fn decode(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap_or_default()
}

/// The incarnation of each agent's ledger, as the seed wrote them.
pub(crate) fn incarnations(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(folder.join("agents"))?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(id, incarnation)| (id.to_owned(), incarnation.to_owned()))
        .collect())
}
