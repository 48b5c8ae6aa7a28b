//! Writing intents and tombstones: all or none, fenced by owner, lease epoch, identity and generation.

use diesel::prelude::*;
use prost::Message as _;
use upm_proto::{
    hub::v1::{self as pb},
    ledger::{canonical_json, content_digest, key_text, limits},
};
use upm_store::Connection;

use super::{
    counters::Counters,
    rows::{IntentRow, StatusRow},
};
use crate::{
    Error,
    schema::{intents, statuses, writers},
    session::Fresh,
};

/// Intents or keys in one request.
const BATCH: usize = 100;
const UID_BYTES: usize = 16;
/// Seconds that a time to live may have: longer than it takes to notice that a session is gone and to dial again, at most 30 days.
const TTL_S: std::ops::RangeInclusive<u32> = 60..=2_592_000;

/// Who writes, checked.
#[derive(Debug, Clone)]
pub struct Writer {
    owner: String,
    epoch: i64,
    traceparent: String,
}

impl Writer {
    /// Who owns what it writes.
    pub fn owner(&self) -> &str {
        &self.owner
    }
}

/// An intent, checked and canonical.
#[derive(Debug, Clone)]
pub struct Prepared {
    key: pb::Key,
    text: String,
    uid: String,
    generation: i64,
    body: String,
    digest: String,
    options: Vec<u8>,
    priority: i32,
}

/// Checks a writer. Pure.
pub fn writer(writer: Option<pb::Writer>, traceparent: &str) -> Result<Writer, Error> {
    let writer = writer.unwrap_or_default();
    if writer.owner.is_empty() || writer.owner.len() > 300 || !writer.owner.is_ascii() {
        return Err(Error::field(
            "writer.owner",
            "must be 1 to 300 ASCII characters",
        ));
    }
    Ok(Writer {
        epoch: i64::try_from(writer.epoch)
            .map_err(|_| Error::field("writer.epoch", "is too large"))?,
        owner: writer.owner,
        traceparent: traceparent.chars().take(300).collect(),
    })
}

/// Checks a key. Pure.
pub fn check_key(field: &str, key: Option<pb::Key>) -> Result<pb::Key, Error> {
    let key = key.ok_or_else(|| Error::field(field, "is required"))?;
    let sane = |text: &str, most: usize| {
        text.len() <= most
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b))
    };
    let parts = [
        ("group", &key.group, 253, true),
        ("version", &key.version, 63, false),
        ("kind", &key.kind, 63, false),
        ("namespace", &key.namespace, 63, true),
        ("name", &key.name, 253, false),
    ];
    for (name, text, most, may_be_empty) in parts {
        if !sane(text, most) || (text.is_empty() && !may_be_empty) {
            return Err(Error::field(
                format!("{field}.{name}"),
                format!("must be 1 to {most} characters of [A-Za-z0-9._:-]"),
            ));
        }
    }
    for (name, text) in [("namespace", &key.namespace), ("name", &key.name)] {
        if !text.is_empty() && !is_name(text) {
            return Err(Error::field(format!("{field}.{name}"), "is no name"));
        }
    }
    Ok(key)
}

/// Whether a text can be the name of an object, and nothing else in the address of a request: no `/`, no `?`, no `..`.
pub(crate) fn is_name(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_:".contains(&b);
    let part = |part: &str| !part.is_empty() && part.bytes().all(fine);
    text.len() <= 253 && text.split('.').all(part)
}

/// Checks intents and makes their bodies canonical. Pure.
pub fn prepare(wanted: Vec<pb::Intent>, owner: &str) -> Result<Vec<Prepared>, Error> {
    if wanted.is_empty() || wanted.len() > BATCH {
        return Err(Error::field("intents", "must be 1 to 100"));
    }
    let mut prepared = Vec::<Prepared>::with_capacity(wanted.len());
    for (i, intent) in wanted.into_iter().enumerate() {
        let at = |field: &str| format!("intents[{i}].{field}");
        let key = check_key(&at("key"), intent.key)?;
        if intent.intent_uid.len() != UID_BYTES {
            return Err(Error::field(at("intent_uid"), "must be 16 bytes"));
        }
        let generation = i64::try_from(intent.generation)
            .ok()
            .filter(|g| *g > 0)
            .ok_or_else(|| Error::field(at("generation"), "must be 1 or more"))?;
        if intent.json.len() > limits::BODY_BYTES {
            return Err(Error::field(at("json"), "must be at most 1 MiB"));
        }
        if intent.ttl_seconds != 0 && !TTL_S.contains(&intent.ttl_seconds) {
            return Err(Error::field(
                at("ttl_seconds"),
                "must be 60 to 2592000, or 0 for never",
            ));
        }
        let canonical =
            canonical_json(&intent.json).map_err(|e| Error::field(at("json"), e.to_string()))?;
        let body =
            String::from_utf8(canonical).map_err(|_| Error::field(at("json"), "must be UTF-8"))?;
        check_body(&key, &body).map_err(|what| Error::field(at("json"), what))?;
        let text = key_text(&key);
        if prepared.iter().any(|p| p.text == text) {
            return Err(Error::field(at("key"), "comes twice"));
        }
        let options = pb::Apply {
            force: intent.force,
            preconditions: intent.preconditions,
            wave: intent.wave,
            wave_scope: owner.to_owned(),
            priority: intent.priority,
            ttl_seconds: intent.ttl_seconds,
            ..pb::Apply::default()
        };
        prepared.push(Prepared {
            digest: hex::encode(content_digest(body.as_bytes())),
            uid: hex::encode(&intent.intent_uid),
            options: options.encode_to_vec(),
            priority: intent.priority,
            generation,
            text,
            body,
            key,
        });
    }
    Ok(prepared)
}

/// The body must be the object that the key names.
fn check_body(key: &pb::Key, body: &str) -> Result<(), String> {
    let object: serde_json::Value = serde_json::from_str(body).map_err(|e| e.to_string())?;
    let api_version = if key.group.is_empty() {
        key.version.clone()
    } else {
        format!("{}/{}", key.group, key.version)
    };
    let namespace = (!key.namespace.is_empty()).then_some(key.namespace.as_str());
    for (pointer, expected) in [
        ("/apiVersion", Some(api_version.as_str())),
        ("/kind", Some(key.kind.as_str())),
        ("/metadata/name", Some(key.name.as_str())),
        ("/metadata/namespace", namespace),
    ] {
        let found = object.pointer(pointer).and_then(serde_json::Value::as_str);
        if found != expected {
            let wanted = expected.map_or("absent".to_owned(), |text| format!("`{text}`"));
            return Err(format!("{pointer} must be {wanted} as the key says"));
        }
    }
    Ok(())
}

/// Refuses a writer that another one has replaced; the epoch that is known of its owner.
fn fence(conn: &mut Connection, agent: &str, writer: &Writer) -> Result<Option<i64>, Error> {
    let current = writers::table
        .find((agent, &writer.owner))
        .select(writers::epoch)
        .get_result::<i64>(conn)
        .optional()?;
    match current {
        Some(current) if current > writer.epoch => Err(Error::StaleWriter {
            owner: writer.owner.clone(),
            current: current as u64,
            given: writer.epoch as u64,
        }),
        known => Ok(known),
    }
}

/// Remembers the writer's epoch: the last thing of a request, so that one which is refused leaves nothing behind.
fn raise(
    conn: &mut Connection,
    agent: &str,
    writer: &Writer,
    known: Option<i64>,
) -> Result<(), Error> {
    match known {
        Some(known) if known == writer.epoch => {}
        Some(_) => {
            diesel::update(writers::table.find((agent, &writer.owner)))
                .set(writers::epoch.eq(writer.epoch))
                .execute(conn)?;
        }
        None => {
            diesel::insert_into(writers::table)
                .values((
                    writers::agent.eq(agent),
                    writers::owner.eq(&writer.owner),
                    writers::epoch.eq(writer.epoch),
                ))
                .execute(conn)?;
        }
    }
    Ok(())
}

/// What a request wrote, and what the agent's session shall hear of it; `None` when nothing changed.
pub type Outcome = (Vec<pb::Written>, Option<Fresh>);

/// Writes intents, all or none.
pub fn apply_objects(
    conn: &mut Connection,
    agent: &str,
    writer: &Writer,
    wanted: &[Prepared],
) -> Result<Outcome, Error> {
    let mut row =
        Counters::lock(conn, agent)?.ok_or_else(|| Error::AgentNotFound(agent.to_owned()))?;
    let known = fence(conn, agent, writer)?;
    let mut written = Vec::with_capacity(wanted.len());
    let (after, mut rows) = (row.head_rev, Vec::new());
    for intent in wanted {
        let before = IntentRow::read(conn, agent, &intent.text)?;
        if let Some(before) = &before
            && is_same(before, writer, intent)?
        {
            written.push(pb::Written {
                key: Some(intent.key.clone()),
                rev: before.rev as u64,
                generation: before.generation as u64,
                changed: false,
            });
            continue;
        }
        let intent_row = write_intent(conn, &mut row, writer, intent, before)?;
        written.push(pb::Written {
            key: Some(intent.key.clone()),
            rev: intent_row.rev as u64,
            generation: intent.generation as u64,
            changed: true,
        });
        rows.push(intent_row);
    }
    raise(conn, agent, writer, known)?;
    if rows.is_empty() {
        return Ok((written, None));
    }
    row.save(conn)?;
    let fresh = super::session::fresh(&row, after, rows)?;
    Ok((written, Some(fresh)))
}

/// Whether the stored row says the same; an error when it forbids the write.
fn is_same(before: &IntentRow, writer: &Writer, intent: &Prepared) -> Result<bool, Error> {
    let text = || intent.text.clone();
    if before.tombstone {
        return if before.intent_uid == intent.uid {
            Err(Error::IntentUidReused(text()))
        } else if before.is_settled() {
            Ok(false)
        } else {
            Err(Error::DeletePending(text()))
        };
    }
    if before.intent_uid != intent.uid || before.owner != writer.owner {
        return Err(Error::IntentExists {
            key: text(),
            owner: before.owner.clone(),
        });
    }
    let same = before.digest == intent.digest
        && before.options == intent.options
        && before.version == intent.key.version;
    if before.generation == intent.generation && same {
        return Ok(true);
    }
    if before.generation >= intent.generation {
        return Err(Error::StaleGeneration {
            key: text(),
            current: before.generation as u64,
            given: intent.generation as u64,
        });
    }
    Ok(false)
}

fn write_intent(
    conn: &mut Connection,
    agent: &mut Counters,
    writer: &Writer,
    intent: &Prepared,
    before: Option<IntentRow>,
) -> Result<IntentRow, Error> {
    let mut root = agent.root();
    let replaces = before.is_some();
    if let Some(before) = &before {
        if before.tombstone {
            forget_status(conn, agent, &before.key_text)?;
        } else {
            before.count(&mut root, false);
            if before.version != intent.key.version
                && let Some(status) = StatusRow::read(conn, &agent.id, &before.key_text)?
            {
                // The version is part of the key that the status is counted with.
                let mut status_root = agent.status_root();
                status.count(&before.key(), &mut status_root, false);
                status.count(&intent.key, &mut status_root, true);
                agent.set_status_root(status_root);
            }
        }
    } else {
        if agent.key_count >= i64::from(limits::KEYS) {
            return Err(Error::LedgerFull(agent.id.clone()));
        }
        agent.key_count += 1;
    }
    // A result stays visible until the next one: it says which generation it belongs to. A new life begins without one.
    let kept = before.filter(|before| !before.tombstone);
    let row = IntentRow {
        agent: agent.id.clone(),
        key_text: intent.text.clone(),
        api_group: intent.key.group.clone(),
        version: intent.key.version.clone(),
        kind: intent.key.kind.clone(),
        namespace: intent.key.namespace.clone(),
        name: intent.key.name.clone(),
        owner: writer.owner.clone(),
        writer_epoch: writer.epoch,
        intent_uid: intent.uid.clone(),
        generation: intent.generation,
        digest: intent.digest.clone(),
        body: intent.body.clone(),
        options: intent.options.clone(),
        priority: intent.priority,
        rev: agent.next_rev(),
        tombstone: false,
        traceparent: writer.traceparent.clone(),
        outcome: kept.as_ref().map_or(0, |k| k.outcome),
        result_generation: kept.as_ref().map_or(0, |k| k.result_generation),
        result_us: kept.as_ref().map_or(0, |k| k.result_us),
        result: kept.map(|k| k.result).unwrap_or_default(),
        change_seq: agent.next_change(),
    };
    row.count(&mut root, true);
    agent.set_root(root);
    row.save(conn, replaces)?;
    Ok(row)
}

/// How objects are deleted.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// `Propagation`.
    pub propagation: i32,
    /// Forget instead of delete.
    pub orphan: bool,
}

/// Writes tombstones, all or none. Keys without an intent are left out; a tombstone that exists stays as it is.
pub fn delete_objects(
    conn: &mut Connection,
    agent: &str,
    writer: &Writer,
    keys: &[pb::Key],
    how: How,
) -> Result<Outcome, Error> {
    let mut row =
        Counters::lock(conn, agent)?.ok_or_else(|| Error::AgentNotFound(agent.to_owned()))?;
    let known = fence(conn, agent, writer)?;
    let mut written = Vec::with_capacity(keys.len());
    let (after, mut rows) = (row.head_rev, Vec::new());
    for key in keys {
        let text = key_text(key);
        let Some(mut intent) = IntentRow::read(conn, agent, &text)? else {
            continue;
        };
        if intent.owner != writer.owner {
            return Err(Error::IntentExists {
                key: text,
                owner: intent.owner,
            });
        }
        let changed = !intent.tombstone;
        if changed {
            let (mut root, mut status_root) = (row.root(), row.status_root());
            intent.count(&mut root, false);
            if let Some(status) = StatusRow::read(conn, agent, &text)? {
                status.count(&intent.key(), &mut status_root, false);
            }
            row.set_root(root);
            row.set_status_root(status_root);
            intent.tombstone = true;
            intent.generation += 1;
            intent.writer_epoch = writer.epoch;
            intent.traceparent.clone_from(&writer.traceparent);
            intent.digest.clear();
            intent.body.clear();
            intent.options = pb::Delete {
                propagation: how.propagation,
                orphan: how.orphan,
                ..pb::Delete::default()
            }
            .encode_to_vec();
            intent.rev = row.next_rev();
            intent.change_seq = row.next_change();
            intent.save(conn, true)?;
        }
        written.push(pb::Written {
            key: Some(intent.key()),
            rev: intent.rev as u64,
            generation: intent.generation as u64,
            changed,
        });
        if changed {
            rows.push(intent);
        }
    }
    raise(conn, agent, writer, known)?;
    if rows.is_empty() {
        return Ok((written, None));
    }
    row.save(conn)?;
    let fresh = super::session::fresh(&row, after, rows)?;
    Ok((written, Some(fresh)))
}

/// Checks keys of a request. Pure.
pub fn check_keys(keys: Vec<pb::Key>) -> Result<Vec<pb::Key>, Error> {
    if keys.is_empty() || keys.len() > BATCH {
        return Err(Error::field("keys", "must be 1 to 100"));
    }
    keys.into_iter()
        .enumerate()
        .map(|(i, key)| check_key(&format!("keys[{i}]"), Some(key)))
        .collect()
}

/// Removes a settled tombstone with its status.
pub(super) fn purge(
    conn: &mut Connection,
    agent: &mut Counters,
    row: &IntentRow,
) -> Result<(), Error> {
    diesel::delete(intents::table.find((&row.agent, &row.key_text))).execute(conn)?;
    forget_status(conn, agent, &row.key_text)?;
    agent.compacted_rev = agent.compacted_rev.max(row.rev);
    agent.key_count -= 1;
    agent.purged_seq = agent.next_change();
    Ok(())
}

/// The status of a tombstone is not counted in the root any more.
fn forget_status(conn: &mut Connection, agent: &Counters, text: &str) -> Result<(), Error> {
    diesel::delete(statuses::table.find((&agent.id, text))).execute(conn)?;
    Ok(())
}
