//! Reading the ledger: one object, pages, changes, inventory.

use std::collections::{BTreeSet, HashMap};

use diesel::prelude::*;
use prost::Message as _;
use upm_proto::{
    hub::v1::{self as pb, Outcome},
    ledger::key_text,
};
use upm_store::Connection;

use super::rows::{AgentRow, IntentRow, StatusRow};
use crate::{
    Error,
    schema::{intents, inventory, statuses},
};

/// Keys that a list is asked for; empty for all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Owner.
    pub owner: String,
    /// Only keys that are not settled.
    pub unsettled: bool,
}

/// A row with its status.
pub type Pair = (IntentRow, Option<StatusRow>);

/// One object.
pub fn get(conn: &mut Connection, agent: &str, key: &pb::Key) -> Result<(AgentRow, Pair), Error> {
    let row = AgentRow::read(conn, agent)?.ok_or_else(|| Error::AgentNotFound(agent.to_owned()))?;
    let text = key_text(key);
    let intent =
        IntentRow::read(conn, agent, &text)?.ok_or_else(|| Error::ObjectNotFound(text.clone()))?;
    let status = StatusRow::read(conn, agent, &text)?;
    Ok((row, (intent, status)))
}

/// A page of objects, by key.
pub fn list(
    conn: &mut Connection,
    agent: &str,
    filter: &Filter,
    after: Option<&str>,
    limit: i64,
) -> Result<(AgentRow, Vec<Pair>), Error> {
    let row = AgentRow::read(conn, agent)?.ok_or_else(|| Error::AgentNotFound(agent.to_owned()))?;
    let mut query = intents::table
        .filter(intents::agent.eq(agent))
        .filter(intents::key_text.gt(after.unwrap_or_default()))
        .into_boxed();
    if !filter.group.is_empty() {
        query = query.filter(intents::api_group.eq(&filter.group));
    }
    if !filter.kind.is_empty() {
        query = query.filter(intents::kind.eq(&filter.kind));
    }
    if !filter.namespace.is_empty() {
        query = query.filter(intents::namespace.eq(&filter.namespace));
    }
    if !filter.owner.is_empty() {
        query = query.filter(intents::owner.eq(&filter.owner));
    }
    if filter.unsettled {
        let settled = [
            Outcome::Applied,
            Outcome::Unchanged,
            Outcome::Deleted,
            Outcome::Absent,
        ]
        .map(i32::from);
        query = query.filter(
            intents::result_generation
                .ne(intents::generation)
                .or(intents::outcome.ne_all(settled)),
        );
    }
    let rows = query
        .order(intents::key_text)
        .limit(limit)
        .load::<IntentRow>(conn)?;
    let pairs = with_status(conn, agent, rows)?;
    Ok((row, pairs))
}

fn with_status(
    conn: &mut Connection,
    agent: &str,
    rows: Vec<IntentRow>,
) -> Result<Vec<Pair>, Error> {
    let mut found = HashMap::new();
    for chunk in rows.chunks(500) {
        let texts = chunk.iter().map(|r| &r.key_text).collect::<Vec<_>>();
        let statuses = statuses::table
            .filter(statuses::agent.eq(agent))
            .filter(statuses::key_text.eq_any(texts))
            .load::<StatusRow>(conn)?;
        found.extend(statuses.into_iter().map(|s| (s.key_text.clone(), s)));
    }
    Ok(rows
        .into_iter()
        .map(|row| {
            let status = found.remove(&row.key_text);
            (row, status)
        })
        .collect())
}

/// What changed after a point in the agent's count of changes.
#[derive(Debug)]
pub struct Changes {
    /// The agent.
    pub agent: AgentRow,
    /// Rows in key order.
    pub objects: Vec<Pair>,
    /// Up to where.
    pub upto: i64,
}

/// Changes after `after`; everything when `after` is `None` or rows were purged since.
pub fn changes(
    conn: &mut Connection,
    agent: &str,
    owner: &str,
    after: Option<i64>,
) -> Result<Changes, Error> {
    let row = AgentRow::read(conn, agent)?.ok_or_else(|| Error::AgentNotFound(agent.to_owned()))?;
    let after = after.filter(|after| row.purged_seq <= *after).unwrap_or(-1);
    let mut texts = intents::table
        .filter(intents::agent.eq(agent))
        .filter(intents::change_seq.gt(after))
        .select(intents::key_text)
        .load::<String>(conn)?
        .into_iter()
        .collect::<BTreeSet<_>>();
    if after >= 0 {
        texts.extend(
            statuses::table
                .filter(statuses::agent.eq(agent))
                .filter(statuses::change_seq.gt(after))
                .select(statuses::key_text)
                .load::<String>(conn)?,
        );
    }
    let texts = texts.into_iter().collect::<Vec<_>>();
    let mut objects = Vec::new();
    for chunk in texts.chunks(500) {
        let rows = intents::table
            .filter(intents::agent.eq(agent))
            .filter(intents::key_text.eq_any(chunk))
            .order(intents::key_text)
            .load::<IntentRow>(conn)?
            .into_iter()
            .filter(|row| owner.is_empty() || row.owner == owner)
            .collect();
        objects.extend(with_status(conn, agent, rows)?);
    }
    Ok(Changes {
        upto: row.change_seq,
        agent: row,
        objects,
    })
}

/// The inventory of an agent: key text and watch → key, object.
pub type Inventory = HashMap<(i32, String), (pb::Key, String)>;

/// The inventory of an agent.
pub fn inventory(conn: &mut Connection, agent: &str) -> Result<Inventory, Error> {
    AgentRow::read(conn, agent)?.ok_or_else(|| Error::AgentNotFound(agent.to_owned()))?;
    let rows = inventory::table
        .filter(inventory::agent.eq(agent))
        .select((
            inventory::watch,
            inventory::key_text,
            inventory::object_key,
            inventory::object,
        ))
        .load::<(i32, String, Vec<u8>, String)>(conn)?;
    rows.into_iter()
        .map(|(watch, text, key, object)| {
            let key =
                pb::Key::decode(key.as_slice()).map_err(|_| Error::Corrupt("inventory key"))?;
            Ok(((watch, text), (key, object)))
        })
        .collect()
}
