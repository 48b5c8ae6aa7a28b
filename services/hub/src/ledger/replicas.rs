//! Rows of the replicas that share the store.

use diesel::prelude::*;
use upm_store::Connection;

use crate::{
    Error,
    schema::{agents, replicas},
};

/// A replica as it described itself.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = replicas)]
pub struct ReplicaRow {
    /// Its name; agents' rows name the replica of their session.
    pub name: String,
    /// Made anew with each start, so that two processes with one name are noticed.
    pub instance: String,
    /// Where other replicas reach it, `host:port`; empty when they cannot.
    pub endpoint: String,
    /// Grows with each renewal.
    pub beats: i64,
    /// Sessions that it holds.
    pub sessions: i64,
}

/// Moves the row of a replica on; returns all rows, and whether the row was another process's.
pub fn renew(conn: &mut Connection, own: &ReplicaRow) -> Result<(Vec<ReplicaRow>, bool), Error> {
    let before = replicas::table
        .find(&own.name)
        .first::<ReplicaRow>(conn)
        .optional()?;
    let mut row = own.clone();
    if let Some(before) = &before {
        row.beats = before.beats + 1;
        diesel::update(replicas::table.find(&own.name))
            .set(&row)
            .execute(conn)?;
    } else {
        diesel::insert_into(replicas::table)
            .values(&row)
            .execute(conn)?;
    }
    let taken = before.is_some_and(|before| before.instance != own.instance);
    Ok((replicas::table.order(replicas::name).load(conn)?, taken))
}

/// Forgets a replica that has not moved since `beats`, or that ends (`instance`); its agents are nowhere.
pub fn forget(conn: &mut Connection, row: &ReplicaRow) -> Result<(), Error> {
    let found = replicas::table
        .find(&row.name)
        .filter(replicas::instance.eq(&row.instance))
        .filter(replicas::beats.eq(row.beats));
    if diesel::delete(found).execute(conn)? > 0 {
        diesel::update(agents::table.filter(agents::replica.eq(&row.name)))
            .set(agents::replica.eq(""))
            .execute(conn)?;
    }
    Ok(())
}

/// A replica ends: nobody waits for its lease to run out. Sessions that it still named are over.
pub fn end(conn: &mut Connection, name: &str, instance: &str) -> Result<(), Error> {
    let own = replicas::table
        .find(name)
        .filter(replicas::instance.eq(instance));
    if let Some(row) = own.first::<ReplicaRow>(conn).optional()? {
        forget(conn, &row)?;
    }
    Ok(())
}
