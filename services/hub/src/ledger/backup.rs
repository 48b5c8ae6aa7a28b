//! One agent's part of the ledger as it was at a moment, and putting it back: what a restored backup does to an agent, for simulations.

use diesel::prelude::*;
use upm_store::Connection;

use super::rows::{AgentRow, IntentRow, StatusRow};
use crate::{
    Error,
    schema::{agents, intents, statuses},
};

/// The rows of one agent.
#[derive(Debug, Clone)]
pub struct Backup {
    agent: AgentRow,
    intents: Vec<IntentRow>,
    statuses: Vec<StatusRow>,
}

/// Takes a backup.
pub fn take(conn: &mut Connection, agent: &str) -> Result<Backup, Error> {
    Ok(Backup {
        agent: AgentRow::read(conn, agent)?
            .ok_or_else(|| Error::AgentNotFound(agent.to_owned()))?,
        intents: intents::table.filter(intents::agent.eq(agent)).load(conn)?,
        statuses: statuses::table
            .filter(statuses::agent.eq(agent))
            .load(conn)?,
    })
}

/// Puts a backup back in the place of what is there.
pub fn restore(conn: &mut Connection, backup: &Backup) -> Result<(), Error> {
    let agent = &backup.agent.id;
    diesel::delete(intents::table.filter(intents::agent.eq(agent))).execute(conn)?;
    diesel::delete(statuses::table.filter(statuses::agent.eq(agent))).execute(conn)?;
    for row in &backup.intents {
        diesel::insert_into(intents::table)
            .values(row)
            .execute(conn)?;
    }
    for row in &backup.statuses {
        diesel::insert_into(statuses::table)
            .values(row)
            .execute(conn)?;
    }
    diesel::update(agents::table.find(agent))
        .set(&backup.agent)
        .execute(conn)?;
    Ok(())
}
