//! Rows and queries.

use std::collections::BTreeMap;

use diesel::prelude::*;
use upm_store::{Connection, QueryError, lock, time};

use crate::schema::{deleted_users, user_labels, users};

/// How long a deleted user's tokens may live, and its id is not given to another user.
pub(crate) const DELETED_KEPT_US: i64 = time::DAY_US;

/// A user without labels.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = users)]
pub(crate) struct UserRow {
    pub(crate) id: String,
    pub(crate) uid: String,
    pub(crate) version: i64,
    pub(crate) display_name: String,
    pub(crate) email: String,
    pub(crate) password_hash: Option<String>,
    pub(crate) password_us: Option<i64>,
    pub(crate) disabled: bool,
    pub(crate) create_us: i64,
    pub(crate) update_us: i64,
}

/// Labels of one user.
pub(crate) type Labels = BTreeMap<String, String>;

pub(crate) fn find(conn: &mut Connection, id: &str) -> QueryResult<Option<UserRow>> {
    users::table
        .find(id)
        .select(UserRow::as_select())
        .first(conn)
        .optional()
}

/// As [`find`], and nobody else changes the user until the transaction ends.
pub(crate) fn find_locked(conn: &mut Connection, id: &str) -> QueryResult<Option<UserRow>> {
    lock::row(conn, "users", "id", id)?;
    find(conn, id)
}

/// The first two users: enough to see whether there is one, and only one.
pub(crate) fn first_two(conn: &mut Connection) -> QueryResult<Vec<UserRow>> {
    users::table
        .order(users::id.asc())
        .limit(2)
        .select(UserRow::as_select())
        .load(conn)
}

/// Adds a user; false when the id is taken.
pub(crate) fn insert(conn: &mut Connection, row: &UserRow, labels: &Labels) -> QueryResult<bool> {
    match diesel::insert_into(users::table).values(row).execute(conn) {
        Ok(_) => {}
        Err(QueryError::DatabaseError(diesel::result::DatabaseErrorKind::UniqueViolation, _)) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    put_labels(conn, &row.id, labels)?;
    Ok(true)
}

/// Writes a user that [`find_locked`] has read.
pub(crate) fn update(conn: &mut Connection, row: &UserRow) -> QueryResult<()> {
    diesel::update(users::table.find(&row.id))
        .set((
            users::version.eq(row.version),
            users::display_name.eq(&row.display_name),
            users::email.eq(&row.email),
            users::password_hash.eq(&row.password_hash),
            users::password_us.eq(row.password_us),
            users::disabled.eq(row.disabled),
            users::update_us.eq(row.update_us),
        ))
        .execute(conn)
        .map(drop)
}

/// Removes a user and remembers that it was there.
pub(crate) fn delete(conn: &mut Connection, row: &UserRow) -> QueryResult<()> {
    diesel::delete(users::table.find(&row.id)).execute(conn)?;
    diesel::insert_into(deleted_users::table)
        .values((
            deleted_users::uid.eq(&row.uid),
            deleted_users::id.eq(&row.id),
            deleted_users::delete_us.eq(time::now_us()),
        ))
        .execute(conn)
        .map(drop)
}

/// Ids that were deleted in the last 24 hours, with the time.
pub(crate) fn recently_deleted(conn: &mut Connection) -> QueryResult<Vec<(String, i64)>> {
    deleted_users::table
        .filter(deleted_users::delete_us.gt(time::now_us() - DELETED_KEPT_US))
        .order(deleted_users::id.asc())
        .select((deleted_users::id, deleted_users::delete_us))
        .load(conn)
}

pub(crate) fn disabled(conn: &mut Connection) -> QueryResult<Vec<String>> {
    users::table
        .filter(users::disabled.eq(true))
        .order(users::id.asc())
        .select(users::id)
        .load(conn)
}

pub(crate) fn labels(conn: &mut Connection, id: &str) -> QueryResult<Labels> {
    let rows: Vec<(String, String)> = user_labels::table
        .filter(user_labels::user_id.eq(id))
        .select((user_labels::label_key, user_labels::label_value))
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// The labels of several users, by id.
pub(crate) fn labels_of(
    conn: &mut Connection,
    ids: &[String],
) -> QueryResult<BTreeMap<String, Labels>> {
    let rows: Vec<(String, String, String)> = user_labels::table
        .filter(user_labels::user_id.eq_any(ids))
        .load(conn)?;
    let mut by_id: BTreeMap<String, Labels> = BTreeMap::new();
    for (id, key, value) in rows {
        by_id.entry(id).or_default().insert(key, value);
    }
    Ok(by_id)
}

/// Replaces all labels of a user.
pub(crate) fn put_labels(conn: &mut Connection, id: &str, labels: &Labels) -> QueryResult<()> {
    diesel::delete(user_labels::table.filter(user_labels::user_id.eq(id))).execute(conn)?;
    for (key, value) in labels {
        diesel::insert_into(user_labels::table)
            .values((
                user_labels::user_id.eq(id),
                user_labels::label_key.eq(key),
                user_labels::label_value.eq(value),
            ))
            .execute(conn)?;
    }
    Ok(())
}
