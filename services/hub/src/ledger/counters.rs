//! The counters of an agent's ledger: what every commit reads, and writes back.

use diesel::prelude::*;
use upm_proto::ledger::Root;
use upm_store::Connection;

use super::{
    rows::{lock_agent, read_root},
    statements::SaveCounters,
};
use crate::{Error, schema::agents};

/// The part of an agent's row that commits change.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = agents)]
pub(crate) struct Counters {
    /// Whose.
    pub(crate) id: String,
    /// Epoch of its newest session.
    pub(crate) epoch: i64,
    /// Newest revision.
    pub(crate) head_rev: i64,
    /// What the agent has received.
    pub(crate) received_rev: i64,
    /// What it holds durably.
    pub(crate) durable_rev: i64,
    /// Tombstones up to here are gone.
    pub(crate) compacted_rev: i64,
    /// Counts every change of a row, for watchers.
    pub(crate) change_seq: i64,
    /// The change at which a row was last purged.
    pub(crate) purged_seq: i64,
    /// Root of the live intents, hex.
    root: String,
    /// Root of the status of live intents, hex.
    status_root: String,
    /// Rows in the ledger.
    pub(crate) key_count: i64,
    /// When something was last committed for the agent.
    pub(crate) seen_us: i64,
}

impl Counters {
    /// Reads and locks the agent's row until the transaction ends.
    pub(crate) fn lock(conn: &mut Connection, id: &str) -> Result<Option<Self>, Error> {
        if lock_agent(conn, id)? {
            Self::read(conn, id)
        } else {
            Ok(None)
        }
    }

    /// Reads them.
    pub(crate) fn read(conn: &mut Connection, id: &str) -> Result<Option<Self>, Error> {
        Ok(agents::table
            .find(id)
            .select(Self::as_select())
            .get_result(conn)
            .optional()?)
    }

    /// Writes them back.
    pub(crate) fn save(&self, conn: &mut Connection) -> Result<(), Error> {
        SaveCounters {
            head_rev: self.head_rev,
            received_rev: self.received_rev,
            durable_rev: self.durable_rev,
            compacted_rev: self.compacted_rev,
            change_seq: self.change_seq,
            purged_seq: self.purged_seq,
            root: &self.root,
            status_root: &self.status_root,
            key_count: self.key_count,
            seen_us: self.seen_us,
            id: &self.id,
        }
        .execute(conn)?;
        Ok(())
    }

    /// Root of the live intents.
    pub(crate) fn root(&self) -> Root {
        read_root(&self.root)
    }

    /// Root of the status of live intents.
    pub(crate) fn status_root(&self) -> Root {
        read_root(&self.status_root)
    }

    pub(super) fn set_root(&mut self, root: Root) {
        self.root = hex::encode(root.to_bytes());
    }

    pub(super) fn set_status_root(&mut self, root: Root) {
        self.status_root = hex::encode(root.to_bytes());
    }

    pub(super) fn next_rev(&mut self) -> i64 {
        self.head_rev += 1;
        self.head_rev
    }

    pub(super) fn next_change(&mut self) -> i64 {
        self.change_seq += 1;
        self.change_seq
    }
}
