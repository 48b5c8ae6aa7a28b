//! Rows and queries of the operation log.

use std::collections::HashSet;

use diesel::prelude::*;
use upm_proto::operatorlog::v1::Entry;
use upm_store::filter::Op;
use upm_store::{Connection, lock, time};

use crate::{
    Error,
    chain::{self, Head},
    schema::{chain_head, entries},
    seal::Seal,
};

/// A stored entry.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = entries)]
pub(crate) struct EntryRow {
    pub(crate) sequence: i64,
    id: String,
    event_us: i64,
    principal: String,
    source_address: String,
    module: String,
    method: String,
    resource: String,
    code: i32,
    reason: String,
    request: String,
    diff: String,
    trace_id: String,
    hash: String,
    previous_hash: String,
}

/// One condition of a filter, parsed.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    Principal(String),
    Method(String),
    Resource(String),
    Module(String),
    Code(i32),
    /// Microseconds since 1970.
    EventTime(Op, i64),
}

/// Appends entries whose ids are new and returns the head. A head that the key does not know stays without a signature, so that it shows.
pub(crate) fn append(
    conn: &mut Connection,
    new: &[Entry],
    seal: Option<&Seal>,
) -> Result<Head, Error> {
    lock::name(conn, "operatorlog.chain")?;
    let ids: Vec<&str> = new.iter().map(id).collect();
    let mut known: HashSet<String> = entries::table
        .filter(entries::id.eq_any(&ids))
        .select(entries::id)
        .load(conn)?
        .into_iter()
        .collect();
    let (before, signed) = end(conn)?;
    let mut after = before.clone();
    for entry in new {
        if !known.insert(id(entry).to_owned()) {
            continue;
        }
        let (linked, next) = chain::link(&after, entry.clone());
        diesel::insert_into(entries::table)
            .values(EntryRow::from(linked))
            .execute(conn)?;
        after = next;
    }
    if before == after {
        return Ok(after);
    }
    let signature = seal
        .filter(|seal| seal.continues(&before, &signed))
        .map(|seal| seal.sign(&after));
    set_end(conn, &before, &after, &signature.unwrap_or_default())?;
    Ok(after)
}

/// Moves the end of the chain.
pub(crate) fn set_end(
    conn: &mut Connection,
    before: &Head,
    after: &Head,
    signature: &str,
) -> Result<(), Error> {
    // Only one writer can move the head from where it was read; the other one's transaction is rolled back.
    let moved = diesel::update(
        chain_head::table
            .filter(chain_head::sequence.eq(before.sequence))
            .filter(chain_head::hash.eq(&before.hash)),
    )
    .set((
        chain_head::sequence.eq(after.sequence),
        chain_head::hash.eq(&after.hash),
        chain_head::signature.eq(signature),
    ))
    .execute(conn)?;
    if moved == 0 {
        return Err(Error::HeadMoved);
    }
    Ok(())
}

/// The end of the chain.
pub(crate) fn head(conn: &mut Connection) -> Result<Head, Error> {
    end(conn).map(|(head, _)| head)
}

/// The end of the chain and its signature; that is empty when nobody signed it.
pub(crate) fn end(conn: &mut Connection) -> Result<(Head, String), Error> {
    let (sequence, hash, signature) = chain_head::table
        .select((
            chain_head::sequence,
            chain_head::hash,
            chain_head::signature,
        ))
        .first(conn)?;
    Ok((Head { sequence, hash }, signature))
}

/// Finds an entry by id.
pub(crate) fn find(conn: &mut Connection, id: &str) -> QueryResult<Option<EntryRow>> {
    entries::table
        .filter(entries::id.eq(id))
        .select(EntryRow::as_select())
        .first(conn)
        .optional()
}

/// Entries before a sequence number, newest first.
pub(crate) fn before(
    conn: &mut Connection,
    sequence: i64,
    conditions: &[Condition],
    limit: i64,
) -> QueryResult<Vec<EntryRow>> {
    let mut query = entries::table
        .select(EntryRow::as_select())
        .filter(entries::sequence.lt(sequence))
        .order(entries::sequence.desc())
        .limit(limit)
        .into_boxed();
    for condition in conditions {
        query = match condition {
            Condition::Principal(value) => query.filter(entries::principal.eq(value)),
            Condition::Method(value) => query.filter(entries::method.eq(value)),
            Condition::Resource(value) => query.filter(entries::resource.eq(value)),
            Condition::Module(value) => query.filter(entries::module.eq(value)),
            Condition::Code(value) => query.filter(entries::code.eq(*value)),
            Condition::EventTime(op, at) => match op {
                Op::Eq | Op::Has => query.filter(entries::event_us.eq(*at)),
                Op::Ne => query.filter(entries::event_us.ne(*at)),
                Op::Lt => query.filter(entries::event_us.lt(*at)),
                Op::Le => query.filter(entries::event_us.le(*at)),
                Op::Gt => query.filter(entries::event_us.gt(*at)),
                Op::Ge => query.filter(entries::event_us.ge(*at)),
            },
        };
    }
    query.load(conn)
}

/// Entries after a sequence number, oldest first.
pub(crate) fn after(
    conn: &mut Connection,
    sequence: i64,
    limit: i64,
) -> QueryResult<Vec<EntryRow>> {
    entries::table
        .select(EntryRow::as_select())
        .filter(entries::sequence.gt(sequence))
        .order(entries::sequence.asc())
        .limit(limit)
        .load(conn)
}

impl Condition {
    /// Whether an entry meets it.
    pub(crate) fn holds(&self, entry: &EntryRow) -> bool {
        match self {
            Self::Principal(value) => entry.principal == *value,
            Self::Method(value) => entry.method == *value,
            Self::Resource(value) => entry.resource == *value,
            Self::Module(value) => entry.module == *value,
            Self::Code(value) => entry.code == *value,
            Self::EventTime(op, at) => match op {
                Op::Eq | Op::Has => entry.event_us == *at,
                Op::Ne => entry.event_us != *at,
                Op::Lt => entry.event_us < *at,
                Op::Le => entry.event_us <= *at,
                Op::Gt => entry.event_us > *at,
                Op::Ge => entry.event_us >= *at,
            },
        }
    }
}

fn id(entry: &Entry) -> &str {
    entry.name.rsplit('/').next().unwrap_or_default()
}

impl From<Entry> for EntryRow {
    fn from(entry: Entry) -> Self {
        Self {
            sequence: entry.sequence,
            id: id(&entry).to_owned(),
            event_us: entry.event_time.as_ref().map_or(0, time::from_timestamp),
            principal: entry.principal,
            source_address: entry.source_address,
            module: entry.module,
            method: entry.method,
            resource: entry.resource,
            code: entry.code,
            reason: entry.reason,
            request: entry.request,
            diff: entry.diff,
            trace_id: entry.trace_id,
            hash: entry.hash,
            previous_hash: entry.previous_hash,
        }
    }
}

impl From<EntryRow> for Entry {
    fn from(row: EntryRow) -> Self {
        Self {
            name: format!("operatorLog/entries/{}", row.id),
            sequence: row.sequence,
            event_time: Some(time::timestamp(row.event_us)),
            principal: row.principal,
            source_address: row.source_address,
            module: row.module,
            method: row.method,
            resource: row.resource,
            code: row.code,
            reason: row.reason,
            request: row.request,
            diff: row.diff,
            trace_id: row.trace_id,
            hash: row.hash,
            previous_hash: row.previous_hash,
        }
    }
}
