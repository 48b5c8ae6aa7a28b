//! What a session asks of the ledger.

use diesel::prelude::*;
use prost::Message as _;
use upm_proto::{
    hub::v1::{self as pb, status_update},
    ledger::{content_digest, key_text, limits, merged},
    mutation::Mutation,
};
use upm_store::{Connection, time};

use super::{
    counters::Counters,
    rows::{AgentRow, IntentRow, StatusRow, unhex},
    statements::SaveResult,
    write::purge,
};
use crate::{
    Error,
    schema::{agents, intents, interests, inventory},
    session::{
        Body, Claim, Class, Command, Committed, Fresh, IndexEntry, Refusal, Reply, Row, cut,
    },
};

/// Keys of one scan.
const SCAN: i64 = 5_000;
/// How far an agent's word may move its epoch: a store that was restored is behind, but not by this much.
const EPOCH_LEAP: i64 = 1 << 32;

/// Takes the next epoch for an agent's session.
pub fn claim(
    conn: &mut Connection,
    agent: &str,
    hello: &pb::Hello,
    replica: &str,
) -> Result<Reply, Error> {
    let Some(mut row) = AgentRow::lock(conn, agent)? else {
        return Ok(Reply::Refused(Refusal::Unknown));
    };
    if row.revoked {
        return Ok(Reply::Refused(Refusal::Revoked));
    }
    if !row.approved {
        return Ok(Reply::Refused(Refusal::NotApproved));
    }
    if !row.cluster_uid.is_empty() && row.cluster_uid != hello.cluster_uid {
        return Ok(Reply::Refused(Refusal::OtherCluster));
    }
    let seen_epoch = i64::try_from(hello.last_session_epoch)
        .unwrap_or(i64::MAX)
        .min(row.epoch.saturating_add(EPOCH_LEAP));
    let same = hello.hub_incarnation == unhex(&row.incarnation);
    // The agent has seen more than this store ever said: the store was restored from an older state.
    if same
        && !Mutation::RestoreUnnoticed.is_on()
        && (hello.received_rev > row.head_rev as u64 || seen_epoch > row.epoch)
    {
        tracing::warn!(
            agent,
            "The store is older than what the agent has seen; beginning a new incarnation"
        );
        row.incarnation = super::agents::incarnation();
    }
    let same = hello.hub_incarnation == unhex(&row.incarnation);
    row.epoch = row.epoch.max(seen_epoch) + 1;
    replica.clone_into(&mut row.replica);
    row.connected_us = time::now_us();
    row.seen_us = row.connected_us;
    row.build = hello.build.chars().take(200).collect();
    row.k8s_version = hello.k8s_version.chars().take(200).collect();
    row.cluster_uid = hello.cluster_uid.chars().take(200).collect();
    let durable_before = row.durable_rev;
    row.received_rev = if same { hello.received_rev as i64 } else { 0 };
    row.durable_rev = if same {
        (hello.durable_rev as i64).clamp(0, row.received_rev)
    } else {
        0
    };
    row.message.clear();
    row.save(conn)?;
    if row.durable_rev > durable_before
        && let Some(mut counters) = Counters::read(conn, agent)?
    {
        purge_durable(conn, &mut counters, durable_before)?;
        counters.save(conn)?;
        row.compacted_rev = counters.compacted_rev;
    }
    let resume = interests::table
        .filter(interests::agent.eq(agent))
        .select((interests::watch, interests::bookmark))
        .load::<(i32, String)>(conn)?;
    let tombstones = intents::table
        .filter(intents::agent.eq(agent))
        .filter(intents::tombstone.eq(true))
        .filter(intents::rev.le(row.received_rev))
        .order(intents::rev)
        .limit(SCAN)
        .load::<IntentRow>(conn)?
        .into_iter()
        .filter(|tombstone| !tombstone.is_settled())
        .map(|tombstone| (tombstone.key_text, tombstone.rev as u64))
        .collect();
    Ok(Reply::Claimed(Box::new(Claim {
        tombstones,
        epoch: row.epoch as u64,
        incarnation: unhex(&row.incarnation),
        head_rev: row.head_rev as u64,
        compacted_rev: row.compacted_rev as u64,
        root: row.root(),
        status_root: row.status_root(),
        inventory: resume
            .into_iter()
            .map(|(watch, bookmark)| (watch as u32, bookmark))
            .collect(),
    })))
}

/// Does a command that only reads.
pub fn read(
    conn: &mut Connection,
    agent: &str,
    epoch: u64,
    command: &Command,
) -> Result<Reply, Error> {
    let Some(row) = Counters::read(conn, agent)?.filter(|row| row.epoch as u64 == epoch) else {
        return Ok(Reply::Fenced);
    };
    match command {
        Command::Scan { after } => scan(conn, &row, *after),
        Command::Fetch { keys, bytes } => fetch(conn, agent, keys, *bytes).map(Reply::Fetched),
        Command::FetchRevisions { revs, bytes } => {
            let wanted = revs.iter().map(|rev| *rev as i64).collect::<Vec<_>>();
            let keys = intents::table
                .filter(intents::agent.eq(agent))
                .filter(intents::rev.eq_any(wanted))
                .order(intents::rev)
                .select(intents::key_text)
                .load::<String>(conn)?;
            fetch(conn, agent, &keys, *bytes).map(Reply::Fetched)
        }
        Command::Index => index(conn, &row),
        Command::Claim(_)
        | Command::Results { .. }
        | Command::Statuses { .. }
        | Command::Inventory { .. }
        | Command::Received { .. }
        | Command::PruneHeld(_)
        | Command::Certificate(_) => Err(Error::Corrupt("command")),
    }
}

fn scan(conn: &mut Connection, agent: &Counters, after: u64) -> Result<Reply, Error> {
    let mut rows = intents::table
        .filter(intents::agent.eq(&agent.id))
        .filter(intents::rev.gt(after as i64))
        .order(intents::rev)
        .limit(SCAN + 1)
        .select((
            intents::key_text,
            intents::rev,
            intents::tombstone,
            intents::priority,
        ))
        .load::<(String, i64, bool, i32)>(conn)?;
    let more = rows.len() > SCAN as usize;
    rows.truncate(SCAN as usize);
    let upto = match rows.last() {
        Some((_, rev, ..)) if more => *rev,
        _ => agent.head_rev,
    };
    let changed = rows
        .into_iter()
        .filter(|(_, _, tombstone, _)| !(*tombstone && Mutation::TombstoneDropped.is_on()))
        .map(|(text, rev, tombstone, priority)| (text, rev as u64, class(tombstone, priority)))
        .collect();
    Ok(Reply::Scanned {
        upto: upto as u64,
        more,
        root: agent.root(),
        changed,
    })
}

/// How urgent a row is.
fn class(tombstone: bool, priority: i32) -> Class {
    match pb::Priority::try_from(priority) {
        Ok(pb::Priority::High) => Class::High,
        Ok(pb::Priority::Low) => Class::Low,
        // What a later version wrote is not urgent.
        Ok(pb::Priority::Unspecified | pb::Priority::Normal) | Err(_) if tombstone => Class::Delete,
        Ok(pb::Priority::Unspecified | pb::Priority::Normal) | Err(_) => Class::Normal,
    }
}

/// What a session would find if it looked at these rows, which were just written, from the head `after` on.
pub(super) fn fresh(agent: &Counters, after: i64, rows: Vec<IntentRow>) -> Result<Fresh, Error> {
    let rows = rows
        .into_iter()
        .filter(|row| !(row.tombstone && Mutation::TombstoneDropped.is_on()))
        .map(|row| Ok((class(row.tombstone, row.priority), to_send(row)?)))
        .collect::<Result<_, Error>>()?;
    Ok(Fresh {
        epoch: agent.epoch as u64,
        after: after as u64,
        head: agent.head_rev as u64,
        root: agent.root(),
        rows,
    })
}

fn fetch(
    conn: &mut Connection,
    agent: &str,
    keys: &[String],
    bytes: u64,
) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    let mut total = 0;
    for text in keys {
        let Some(row) = IntentRow::read(conn, agent, text)? else {
            continue;
        };
        total += row.body.len() as u64;
        rows.push(to_send(row)?);
        if total >= bytes {
            break;
        }
    }
    Ok(rows)
}

fn to_send(row: IntentRow) -> Result<Row, Error> {
    let key = Some(row.key());
    let uid = unhex(&row.intent_uid).into();
    let (rev, generation) = (row.rev as u64, row.generation as u64);
    let body = if row.tombstone {
        let how = pb::Delete::decode(row.options.as_slice())
            .map_err(|_| Error::Corrupt("delete options"))?;
        Body::Delete(Box::new(pb::Delete {
            rev,
            key,
            intent_uid: uid,
            generation,
            traceparent: row.traceparent,
            ..how
        }))
    } else {
        let how = pb::Apply::decode(row.options.as_slice())
            .map_err(|_| Error::Corrupt("apply options"))?;
        Body::Apply(Box::new(pb::Apply {
            rev,
            key,
            intent_uid: uid,
            generation,
            digest: unhex(&row.digest).into(),
            body: Some(pb::apply::Body::Json(row.body.into())),
            field_manager: "upm".into(),
            traceparent: row.traceparent,
            ..how
        }))
    };
    Ok(Row {
        text: row.key_text,
        rev,
        body,
    })
}

type IndexColumns = (
    i64,
    String,
    String,
    String,
    String,
    String,
    String,
    i64,
    String,
    Vec<u8>,
);

fn index(conn: &mut Connection, agent: &Counters) -> Result<Reply, Error> {
    let entries = intents::table
        .filter(intents::agent.eq(&agent.id))
        .filter(intents::tombstone.eq(false))
        .order(intents::rev)
        .select((
            intents::rev,
            intents::api_group,
            intents::version,
            intents::kind,
            intents::namespace,
            intents::name,
            intents::intent_uid,
            intents::generation,
            intents::digest,
            intents::options,
        ))
        .load::<IndexColumns>(conn)?
        .into_iter()
        .map(
            |(rev, group, version, kind, namespace, name, uid, generation, digest, how)| {
                IndexEntry {
                    ttl_seconds: pb::Apply::decode(how.as_slice()).map_or(0, |how| how.ttl_seconds),
                    rev: rev as u64,
                    key: pb::Key {
                        group,
                        version,
                        kind,
                        namespace,
                        name,
                    },
                    intent_uid: unhex(&uid),
                    generation: generation as u64,
                    digest: unhex(&digest),
                }
            },
        )
        .collect();
    let rows = intents::table
        .filter(intents::agent.eq(&agent.id))
        .filter(intents::tombstone.eq(true))
        .order(intents::rev)
        .load::<IntentRow>(conn)?;
    let mut tombstones = Vec::with_capacity(rows.len());
    for row in rows {
        if let Body::Delete(delete) = to_send(row)?.body {
            tombstones.push(*delete);
        }
    }
    Ok(Reply::Indexed {
        at_rev: agent.head_rev as u64,
        root: agent.root(),
        entries,
        tombstones,
    })
}

/// Does the writing commands of one agent's session under its epoch.
pub fn commit(
    conn: &mut Connection,
    agent: &str,
    epoch: u64,
    commands: &[&Command],
) -> Result<Vec<Reply>, Error> {
    let row = Counters::lock(conn, agent)?
        .filter(|row| row.epoch as u64 == epoch || Mutation::EpochUnchecked.is_on());
    let Some(mut row) = row else {
        return Ok(commands.iter().map(|_| Reply::Fenced).collect());
    };
    row.seen_us = time::now_us();
    let mut replies = Vec::with_capacity(commands.len());
    for command in commands {
        let committed = match command {
            Command::Results { results, upto } => {
                for result in results {
                    commit_result(conn, &mut row, result)?;
                }
                Committed::Results(*upto)
            }
            Command::Statuses {
                updates,
                upto,
                credit,
            } => {
                let mut resend = Vec::new();
                for update in updates {
                    if !commit_status(conn, &mut row, update)? {
                        resend.push(update.digest.clone());
                    }
                }
                Committed::Statuses {
                    upto: *upto,
                    resend,
                    credit: *credit,
                }
            }
            Command::Inventory { batch, bytes } => {
                commit_inventory(conn, &row.id, batch)?;
                Committed::Inventory(*bytes)
            }
            Command::Received { received, durable } => {
                let before = row.durable_rev;
                row.received_rev = *received as i64;
                row.durable_rev = *durable as i64;
                purge_durable(conn, &mut row, before)?;
                Committed::Received
            }
            Command::PruneHeld(held) => {
                let reason = held.reason.chars().take(500).collect::<String>();
                let count = held.count;
                diesel::update(agents::table.find(agent))
                    .set(agents::message.eq(format!(
                        "{count} objects are not in the ledger and were kept: {reason}"
                    )))
                    .execute(conn)?;
                Committed::PruneHeld
            }
            Command::Claim(_)
            | Command::Scan { .. }
            | Command::Fetch { .. }
            | Command::FetchRevisions { .. }
            | Command::Index
            | Command::Certificate(_) => return Err(Error::Corrupt("command")),
        };
        replies.push(Reply::Committed(committed));
    }
    row.save(conn)?;
    Ok(replies)
}

/// Tombstones that are settled and that the agent holds durably are forgotten.
fn purge_durable(conn: &mut Connection, agent: &mut Counters, before: i64) -> Result<(), Error> {
    if agent.durable_rev <= before {
        return Ok(());
    }
    let rows = intents::table
        .filter(intents::agent.eq(&agent.id))
        .filter(intents::rev.gt(before))
        .filter(intents::rev.le(agent.durable_rev))
        .filter(intents::tombstone.eq(true))
        .load::<IntentRow>(conn)?;
    for row in rows.iter().filter(|row| row.is_settled()) {
        purge(conn, agent, row)?;
    }
    Ok(())
}

fn commit_result(
    conn: &mut Connection,
    agent: &mut Counters,
    result: &pb::ApplyResult,
) -> Result<(), Error> {
    let Some(key) = &result.key else {
        return Ok(());
    };
    let (text, uid) = (key_text(key), hex::encode(&result.intent_uid));
    let (encoded, now) = (result.encode_to_vec(), time::now_us());
    let mut save = SaveResult {
        outcome: result.outcome,
        result_generation: result.generation as i64,
        result: &encoded,
        result_us: now,
        change_seq: agent.change_seq + 1,
        agent: &agent.id,
        key_text: &text,
        intent_uid: &uid,
        generation: result.generation as i64,
        tombstone: false,
    };
    if save.execute(conn)? == 1 {
        agent.next_change();
        return Ok(());
    }
    // Not of a live intent: of a tombstone, or of what is over.
    let Some(mut row) = IntentRow::read(conn, &agent.id, &text)? else {
        return Ok(());
    };
    if !row.tombstone || row.intent_uid != uid || row.generation as u64 != result.generation {
        return Ok(());
    }
    row.outcome = result.outcome;
    row.result_generation = row.generation;
    if row.is_settled() && row.rev <= agent.durable_rev {
        return purge(conn, agent, &row);
    }
    save.tombstone = true;
    save.execute(conn)?;
    agent.next_change();
    Ok(())
}

/// Keeps an update; false when it is a patch of something that is not here, so that it must be sent in full.
fn commit_status(
    conn: &mut Connection,
    agent: &mut Counters,
    update: &pb::StatusUpdate,
) -> Result<bool, Error> {
    let Some(key) = &update.key else {
        return Ok(true);
    };
    let text = key_text(key);
    let Some(intent) = IntentRow::read(conn, &agent.id, &text)? else {
        return Ok(true);
    };
    let uid = hex::encode(&update.intent_uid);
    if intent.tombstone || intent.intent_uid != uid {
        return Ok(true);
    }
    let before = StatusRow::read(conn, &agent.id, &text)?;
    let place = (agent.epoch, update.seq as i64);
    if before
        .as_ref()
        .is_some_and(|b| b.intent_uid == uid && (b.epoch, b.seq) >= place)
    {
        return Ok(true);
    }
    let (body, gone) = match &update.body {
        Some(status_update::Body::Full(json)) => {
            (String::from_utf8_lossy(json).into_owned(), false)
        }
        Some(status_update::Body::Patch(patch)) => {
            match patched(before.as_ref(), &uid, patch, &update.digest) {
                Some(json) => (json, false),
                None => return Ok(false),
            }
        }
        Some(status_update::Body::Gone(true)) => (String::new(), true),
        Some(status_update::Body::Gone(false)) | None => return Ok(true),
    };
    if body.len() > limits::BODY_BYTES
        || serde_json::from_str::<serde::de::IgnoredAny>(&body).is_err() && !gone
    {
        return Ok(true);
    }
    let mut resource_version = update.resource_version.clone();
    cut(&mut resource_version, 200);
    let mut digest = hex::encode(&update.digest);
    cut(&mut digest, 64);
    let row = StatusRow {
        agent: agent.id.clone(),
        key_text: text,
        intent_uid: uid,
        intent_generation: update.intent_generation as i64,
        observed_generation: update.observed_generation,
        resource_version,
        digest,
        body,
        gone,
        edges: edges(before.as_ref(), update).encode_to_vec(),
        epoch: place.0,
        seq: place.1,
        change_seq: agent.next_change(),
        update_us: time::now_us(),
    };
    let mut root = agent.status_root();
    let known = intent.key();
    if let Some(before) = &before {
        before.count(&known, &mut root, false);
    }
    row.save(conn, before.is_some())?;
    row.count(&known, &mut root, true);
    agent.set_status_root(root);
    Ok(true)
}

/// What a patch makes of the stored status; `None` when that is not its base.
fn patched(
    before: Option<&StatusRow>,
    uid: &str,
    patch: &pb::MergePatch,
    digest: &[u8],
) -> Option<String> {
    if Mutation::StatusPatchUnchecked.is_on() {
        let base = before.map_or("{}", |before| before.body.as_str());
        return String::from_utf8(merged(base.as_bytes(), &patch.patch)?).ok();
    }
    let before = before.filter(|b| b.intent_uid == uid && !b.gone)?;
    if unhex(&before.digest) != patch.base_digest {
        return None;
    }
    let made = merged(before.body.as_bytes(), &patch.patch)?;
    if content_digest(&made)[..] != *digest {
        return None;
    }
    String::from_utf8(made).ok()
}

/// The ring of edges: what comes twice after a lost ack is kept once; the oldest fall out.
fn edges(before: Option<&StatusRow>, update: &pb::StatusUpdate) -> pb::StatusUpdate {
    let mut ring = before
        .and_then(|b| pb::StatusUpdate::decode(b.edges.as_slice()).ok())
        .unwrap_or_default();
    ring.edges_dropped = ring.edges_dropped.saturating_add(update.edges_dropped);
    for edge in &update.edges {
        let mut edge = edge.clone();
        cut(&mut edge.message, 1_024);
        if !ring.edges.contains(&edge) {
            ring.edges.push(edge);
        }
    }
    while ring.edges.len() > limits::EDGES {
        ring.edges.remove(0);
        ring.edges_dropped = ring.edges_dropped.saturating_add(1);
    }
    ring
}

fn commit_inventory(
    conn: &mut Connection,
    agent: &str,
    batch: &pb::WatchBatch,
) -> Result<(), Error> {
    let watch = batch.watch_id as i32;
    if batch.resync {
        diesel::delete(
            inventory::table
                .filter(inventory::agent.eq(agent))
                .filter(inventory::watch.eq(watch)),
        )
        .execute(conn)?;
    }
    for event in &batch.events {
        let Some(key) = &event.key else { continue };
        let text = key_text(key);
        let row = inventory::table.find((agent, watch, &text));
        diesel::delete(row).execute(conn)?;
        if !event.gone && event.object.len() <= limits::BODY_BYTES {
            diesel::insert_into(inventory::table)
                .values((
                    inventory::agent.eq(agent),
                    inventory::watch.eq(watch),
                    inventory::key_text.eq(&text),
                    inventory::object_key.eq(key.encode_to_vec()),
                    inventory::object.eq(String::from_utf8_lossy(&event.object).into_owned()),
                    inventory::update_us.eq(time::now_us()),
                ))
                .execute(conn)?;
        }
    }
    if !batch.bookmark_rv.is_empty() {
        let bookmark = batch.bookmark_rv.chars().take(200).collect::<String>();
        let row = interests::table.find((agent, watch));
        let updated = diesel::update(row)
            .set(interests::bookmark.eq(&bookmark))
            .execute(conn)?;
        if updated == 0 {
            diesel::insert_into(interests::table)
                .values((
                    interests::agent.eq(agent),
                    interests::watch.eq(watch),
                    interests::bookmark.eq(&bookmark),
                ))
                .execute(conn)?;
        }
    }
    Ok(())
}
