//! The store on SQLite and on a real MariaDB, the cache in the process and in a real Redis.

mod caches;
mod collations;
mod idempotence;
mod outbox;
mod pages;
mod transactions;

use diesel::prelude::*;
use diesel_migrations::embed_migrations;

use crate::{Connection, Error, Migrations};

/// A table as a module would have one.
pub(crate) const ITEMS: Migrations = Migrations {
    sqlite: embed_migrations!("src/tests/migrations"),
    mysql: embed_migrations!("src/tests/migrations"),
};

diesel::table! {
    items (id) {
        id -> Text,
        size -> BigInt,
    }
}

pub(crate) fn add(conn: &mut Connection, id: &str, size: i64) -> Result<(), Error> {
    diesel::insert_into(items::table)
        .values((items::id.eq(id), items::size.eq(size)))
        .execute(conn)?;
    Ok(())
}

pub(crate) fn size(conn: &mut Connection, id: &str) -> Result<Option<i64>, Error> {
    Ok(items::table
        .find(id)
        .select(items::size)
        .first(conn)
        .optional()?)
}
