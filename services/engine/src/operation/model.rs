//! Rows and queries of operations. Every write is a compare-and-swap on the revision.

use std::time::Duration;

use diesel::prelude::*;
use prost::Message;
use store::{Connection, time};
use upm_proto::google::rpc;

use crate::{
    Error,
    operation::{Direction, Operation, State},
    plan::OnFailure,
    schema::{epochs, operations},
    service::model::{from_json, from_word, json, word},
};

/// A stored operation.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = operations, primary_key(name), treat_none_as_null = true)]
struct Row {
    name: String,
    engine: String,
    verb: String,
    target: String,
    project: String,
    principal: String,
    traceparent: String,
    input: String,
    journal: String,
    risk: String,
    on_failure: String,
    direction: String,
    state: String,
    error: Option<Vec<u8>>,
    response: Option<Vec<u8>>,
    lease_owner: String,
    lease_epoch: i64,
    lease_until_us: i64,
    revision: i64,
    cancel_requested: bool,
    expected_ms: i64,
    deadline_us: i64,
    undo_deadline_us: i64,
    create_us: i64,
    start_us: i64,
    end_us: i64,
}

/// Which operations a list has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) target: Option<String>,
    pub(crate) states: Vec<String>,
    pub(crate) verb: Option<String>,
}

/// Finds an operation.
pub(crate) fn find(conn: &mut Connection, name: &str) -> Result<Option<Operation>, Error> {
    operations::table
        .find(name)
        .select(Row::as_select())
        .first(conn)
        .optional()?
        .map(Operation::try_from)
        .transpose()
}

/// Its revision, for those who only want to know whether something changed.
pub(crate) fn revision(conn: &mut Connection, name: &str) -> Result<Option<i64>, Error> {
    Ok(operations::table
        .find(name)
        .select(operations::revision)
        .first(conn)
        .optional()?)
}

/// Adds an operation.
pub(crate) fn insert(conn: &mut Connection, operation: &Operation) -> Result<(), Error> {
    diesel::insert_into(operations::table)
        .values(Row::try_from(operation)?)
        .execute(conn)?;
    Ok(())
}

/// Writes an operation that nobody has changed since it was read; `false` when somebody has. Counts the revision up.
pub(crate) fn swap(conn: &mut Connection, operation: &mut Operation) -> Result<bool, Error> {
    let seen = operation.revision;
    let mut row = Row::try_from(&*operation)?;
    row.revision = seen + 1;
    // A renewal that came after the read is no change, and must not be taken back.
    store::lock::row(conn, "operations", "name", &row.name)?;
    let lease_until_us: Option<i64> = operations::table
        .find(&row.name)
        .select(operations::lease_until_us)
        .first(conn)
        .optional()?;
    row.lease_until_us = row.lease_until_us.max(lease_until_us.unwrap_or_default());
    let target = operations::table
        .filter(operations::name.eq(row.name.clone()))
        .filter(operations::revision.eq(seen));
    let swapped = diesel::update(target).set(row).execute(conn)? == 1;
    if swapped {
        operation.revision = seen + 1;
    }
    Ok(swapped)
}

/// Takes the lease of an operation that nobody holds; `None` when somebody does or it has ended.
pub(crate) fn acquire(
    conn: &mut Connection,
    name: &str,
    owner: &str,
    lease: Duration,
) -> Result<Option<Operation>, Error> {
    let Some(mut operation) = find(conn, name)? else {
        return Ok(None);
    };
    let now = time::now_us();
    let free = operation.lease_until_us <= now || operation.lease_owner.is_empty();
    if operation.state.ended() || !free {
        return Ok(None);
    }
    owner.clone_into(&mut operation.lease_owner);
    operation.lease_epoch = next_epoch(conn, operation.lease_epoch, now)?;
    operation.lease_until_us = now + time::micros(lease);
    Ok(swap(conn, &mut operation)?.then_some(operation))
}

/// Extends a lease; `false` when it was lost. Does not count as a change.
pub(crate) fn renew(
    conn: &mut Connection,
    name: &str,
    owner: &str,
    epoch: i64,
    lease: Duration,
) -> Result<bool, Error> {
    let mine = operations::table
        .filter(operations::name.eq(name))
        .filter(operations::lease_owner.eq(owner))
        .filter(operations::lease_epoch.eq(epoch))
        .filter(operations::end_us.eq(0));
    let renewed = diesel::update(mine)
        .set(operations::lease_until_us.eq(time::now_us() + time::micros(lease)))
        .execute(conn)?;
    Ok(renewed == 1)
}

/// Whether a lease is still held; the row is locked until the transaction ends.
pub(crate) fn holds(
    conn: &mut Connection,
    name: &str,
    owner: &str,
    epoch: i64,
) -> Result<bool, Error> {
    store::lock::row(conn, "operations", "name", name)?;
    let held: Option<(String, i64)> = operations::table
        .find(name)
        .select((operations::lease_owner, operations::lease_epoch))
        .first(conn)
        .optional()?;
    Ok(held.is_some_and(|(holder, held)| holder == owner && held == epoch))
}

/// Gives a lease back, so that another replica need not wait for its end.
pub(crate) fn release(
    conn: &mut Connection,
    name: &str,
    owner: &str,
    epoch: i64,
) -> Result<(), Error> {
    let mine = operations::table
        .filter(operations::name.eq(name))
        .filter(operations::lease_owner.eq(owner))
        .filter(operations::lease_epoch.eq(epoch));
    diesel::update(mine)
        .set((
            operations::lease_owner.eq(""),
            operations::lease_until_us.eq(0),
        ))
        .execute(conn)?;
    Ok(())
}

/// Names of operations that have not ended and that nobody works on, oldest first.
pub(crate) fn abandoned(
    conn: &mut Connection,
    engine: &str,
    limit: i64,
) -> Result<Vec<String>, Error> {
    Ok(operations::table
        .filter(operations::engine.eq(engine))
        .filter(operations::end_us.eq(0))
        .filter(operations::lease_until_us.le(time::now_us()))
        .select(operations::name)
        .order(operations::name.asc())
        .limit(limit)
        .load(conn)?)
}

/// A page of operations, newest first, before a name.
pub(crate) fn page(
    conn: &mut Connection,
    engine: &str,
    wanted: &Wanted,
    before: Option<&str>,
    limit: i64,
) -> Result<Vec<Operation>, Error> {
    let mut query = operations::table
        .select(Row::as_select())
        .filter(operations::engine.eq(engine.to_owned()))
        .order(operations::name.desc())
        .limit(limit)
        .into_boxed();
    if let Some(target) = &wanted.target {
        query = query.filter(operations::target.eq(target.clone()));
    }
    if let Some(verb) = &wanted.verb {
        query = query.filter(operations::verb.eq(verb.clone()));
    }
    if !wanted.states.is_empty() {
        query = query.filter(operations::state.eq_any(wanted.states.clone()));
    }
    if let Some(before) = before {
        query = query.filter(operations::name.lt(before.to_owned()));
    }
    query
        .load(conn)?
        .into_iter()
        .map(Operation::try_from)
        .collect()
}

/// The next writer epoch. It never falls: not when the service is made anew under the same name (the counter is the module's), and
/// not when the database is restored from a backup (it is also a time).
fn next_epoch(conn: &mut Connection, seen: i64, now: i64) -> Result<i64, Error> {
    store::lock::row(conn, "epochs", "name", "lease")?;
    let last: i64 = epochs::table
        .find("lease")
        .select(epochs::value)
        .first(conn)?;
    let next = now.max(last + 1).max(seen + 1);
    diesel::update(epochs::table.find("lease"))
        .set(epochs::value.eq(next))
        .execute(conn)?;
    Ok(next)
}

impl TryFrom<Row> for Operation {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let name = &row.name;
        Ok(Self {
            input: from_json("input", name, &row.input)?,
            journal: from_json("journal", name, &row.journal)?,
            on_failure: from_word::<OnFailure>("way after a failure", name, row.on_failure)?,
            direction: from_word::<Direction>("direction", name, row.direction)?,
            state: from_word::<State>("state", name, row.state)?,
            error: row.error.map(|bytes| decode(&bytes, "error")).transpose()?,
            response: row
                .response
                .map(|bytes| decode(&bytes, "response"))
                .transpose()?,
            name: row.name,
            engine: row.engine,
            verb: row.verb,
            target: row.target,
            project: row.project,
            principal: row.principal,
            traceparent: row.traceparent,
            risk: row.risk,
            lease_owner: row.lease_owner,
            lease_epoch: row.lease_epoch,
            lease_until_us: row.lease_until_us,
            revision: row.revision,
            cancel_requested: row.cancel_requested,
            expected_ms: row.expected_ms,
            deadline_us: row.deadline_us,
            undo_deadline_us: row.undo_deadline_us,
            create_us: row.create_us,
            start_us: row.start_us,
            end_us: row.end_us,
        })
    }
}

impl TryFrom<&Operation> for Row {
    type Error = Error;

    fn try_from(operation: &Operation) -> Result<Self, Error> {
        Ok(Self {
            name: operation.name.clone(),
            engine: operation.engine.clone(),
            verb: operation.verb.clone(),
            target: operation.target.clone(),
            project: operation.project.clone(),
            principal: operation.principal.clone(),
            traceparent: operation.traceparent.clone(),
            input: json("input", &operation.input)?,
            journal: json("journal", &operation.journal)?,
            risk: operation.risk.clone(),
            on_failure: word(&operation.on_failure)?,
            direction: word(&operation.direction)?,
            state: word(&operation.state)?,
            error: operation.error.as_ref().map(rpc::Status::encode_to_vec),
            response: operation
                .response
                .as_ref()
                .map(prost_types::Any::encode_to_vec),
            lease_owner: operation.lease_owner.clone(),
            lease_epoch: operation.lease_epoch,
            lease_until_us: operation.lease_until_us,
            revision: operation.revision,
            cancel_requested: operation.cancel_requested,
            expected_ms: operation.expected_ms,
            deadline_us: operation.deadline_us,
            undo_deadline_us: operation.undo_deadline_us,
            create_us: operation.create_us,
            start_us: operation.start_us,
            end_us: operation.end_us,
        })
    }
}

fn decode<M: Message + Default>(bytes: &[u8], what: &'static str) -> Result<M, Error> {
    M::decode(bytes).map_err(|_| Error::Store(store::Error::Corrupt { what }))
}
