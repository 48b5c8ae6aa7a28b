//! The one-time set-up token.

use diesel::prelude::*;
use upm_store::Connection;

use crate::schema::setup_tokens;

const ID: &str = "setup";

/// Replaces the token's hash.
pub(crate) fn put(conn: &mut Connection, hash: &str) -> QueryResult<()> {
    delete(conn)?;
    diesel::insert_into(setup_tokens::table)
        .values((setup_tokens::id.eq(ID), setup_tokens::token_hash.eq(hash)))
        .execute(conn)
        .map(drop)
}

pub(crate) fn matches(conn: &mut Connection, hash: &str) -> QueryResult<bool> {
    let stored: Option<String> = setup_tokens::table
        .find(ID)
        .select(setup_tokens::token_hash)
        .first(conn)
        .optional()?;
    Ok(stored.is_some_and(|stored| stored == hash))
}

pub(crate) fn delete(conn: &mut Connection) -> QueryResult<()> {
    diesel::delete(setup_tokens::table.find(ID))
        .execute(conn)
        .map(drop)
}
