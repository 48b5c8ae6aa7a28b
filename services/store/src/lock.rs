//! Keeping other transactions out, on both databases.
//!
//! SQLite has one writer, so inside `Store::transact` nothing else writes and these functions only check. MySQL runs writers side
//! by side at READ COMMITTED: what a transaction reads in order to decide on it (a count, "is there another administrator?") must
//! be locked first, or be guarded by a `WHERE version = ?` in the update.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{BigInt, Text};

use crate::Connection;
use crate::schema::upm_lock;

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    found: i64,
}

/// Whether anything else can write inside a transaction, so that what is decided on must be locked.
pub fn is_needed(conn: &Connection) -> bool {
    conn.has_row_locks()
}

/// Locks the row of `table` whose `column` (a text key) is `key` until the transaction ends; whether it exists.
///
/// `table` and `column` are names in the source, never input.
pub fn row(
    conn: &mut Connection,
    table: &'static str,
    column: &'static str,
    key: &str,
) -> QueryResult<bool> {
    let clause = if conn.has_row_locks() {
        " FOR UPDATE"
    } else {
        ""
    };
    let found: Option<Found> = diesel::sql_query(format!(
        "SELECT 1 AS found FROM {table} WHERE {column} = ?{clause}"
    ))
    .bind::<Text, _>(key)
    .get_result(conn)
    .optional()?;
    Ok(found.is_some_and(|found| found.found == 1))
}

/// Locks a name (at most 190 characters) until the transaction ends: for decisions over many rows.
pub fn name(conn: &mut Connection, name: &str) -> QueryResult<()> {
    if !conn.has_row_locks() || row(conn, "upm_lock", "name", name)? {
        return Ok(());
    }
    match diesel::insert_into(upm_lock::table)
        .values(upm_lock::name.eq(name))
        .execute(conn)
    {
        Ok(_) => Ok(()),
        // Another transaction made it first, and has ended.
        Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
            row(conn, "upm_lock", "name", name).map(drop)
        }
        Err(error) => Err(error),
    }
}
