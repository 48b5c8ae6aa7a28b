//! Sessions (one per login) and their refresh tokens: a family.

use diesel::prelude::*;
use upm_store::{Connection, lock};

use crate::schema::{refresh_tokens, sessions};

/// One login.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = sessions)]
pub(crate) struct SessionRow {
    pub(crate) id: String,
    pub(crate) user_name: String,
    /// When the password was set that the login used; 0 for none.
    pub(crate) password_us: i64,
    pub(crate) create_us: i64,
    pub(crate) expire_us: i64,
    /// What the next refresh token is made from, beside the last; empty for sessions from before it was kept.
    pub(crate) secret: String,
}

/// One refresh token.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = refresh_tokens)]
pub(crate) struct RefreshRow {
    pub(crate) token_hash: String,
    pub(crate) session_id: String,
    pub(crate) expire_us: i64,
    pub(crate) used_us: Option<i64>,
    /// Who used it: a digest of the caller's address.
    pub(crate) used_by: String,
}

pub(crate) fn insert(conn: &mut Connection, session: &SessionRow) -> QueryResult<()> {
    diesel::insert_into(sessions::table)
        .values(session)
        .execute(conn)
        .map(drop)
}

pub(crate) fn insert_token(conn: &mut Connection, token: &RefreshRow) -> QueryResult<()> {
    diesel::insert_into(refresh_tokens::table)
        .values(token)
        .execute(conn)
        .map(drop)
}

/// A token with its session.
pub(crate) fn find(
    conn: &mut Connection,
    token_hash: &str,
) -> QueryResult<Option<(RefreshRow, SessionRow)>> {
    let Some(token) = refresh_tokens::table
        .find(token_hash)
        .select(RefreshRow::as_select())
        .first(conn)
        .optional()?
    else {
        return Ok(None);
    };
    let session = sessions::table
        .find(&token.session_id)
        .select(SessionRow::as_select())
        .first(conn)
        .optional()?;
    Ok(session.map(|session| (token, session)))
}

/// As [`find`], and no other refresh of the family runs until the transaction ends.
pub(crate) fn find_locked(
    conn: &mut Connection,
    token_hash: &str,
) -> QueryResult<Option<(RefreshRow, SessionRow)>> {
    let Some((_, session)) = find(conn, token_hash)? else {
        return Ok(None);
    };
    lock::row(conn, "sessions", "id", &session.id)?;
    find(conn, token_hash)
}

pub(crate) fn mark_used(
    conn: &mut Connection,
    token_hash: &str,
    now_us: i64,
    by: &str,
) -> QueryResult<()> {
    diesel::update(refresh_tokens::table.find(token_hash))
        .set((
            refresh_tokens::used_us.eq(Some(now_us)),
            refresh_tokens::used_by.eq(by),
        ))
        .execute(conn)
        .map(drop)
}

/// Ends a login with all its tokens.
pub(crate) fn end(conn: &mut Connection, session_id: &str) -> QueryResult<()> {
    diesel::delete(sessions::table.find(session_id))
        .execute(conn)
        .map(drop)
}

/// Ends all logins of a user.
pub(crate) fn end_of_user(conn: &mut Connection, user_name: &str) -> QueryResult<usize> {
    diesel::delete(sessions::table.filter(sessions::user_name.eq(user_name))).execute(conn)
}

/// Forgets what has ended by itself.
pub(crate) fn forget_ended(conn: &mut Connection, now_us: i64) -> QueryResult<usize> {
    let tokens = diesel::delete(refresh_tokens::table.filter(refresh_tokens::expire_us.lt(now_us)))
        .execute(conn)?;
    let logins =
        diesel::delete(sessions::table.filter(sessions::expire_us.lt(now_us))).execute(conn)?;
    Ok(tokens + logins)
}
