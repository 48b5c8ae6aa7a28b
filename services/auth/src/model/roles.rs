//! Custom roles.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use upm_store::{Connection, lock};

use crate::schema::roles;

/// A custom role; `permissions` is a JSON array.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = roles)]
pub(crate) struct RoleRow {
    pub(crate) id: String,
    pub(crate) uid: String,
    pub(crate) version: i64,
    pub(crate) description: String,
    pub(crate) permissions: String,
    pub(crate) scope: i32,
}

pub(crate) fn find(conn: &mut Connection, id: &str) -> QueryResult<Option<RoleRow>> {
    roles::table
        .find(id)
        .select(RoleRow::as_select())
        .first(conn)
        .optional()
}

/// As [`find`], and nobody else changes the role until the transaction ends.
pub(crate) fn find_locked(conn: &mut Connection, id: &str) -> QueryResult<Option<RoleRow>> {
    lock::row(conn, "roles", "id", id)?;
    find(conn, id)
}

pub(crate) fn all(conn: &mut Connection) -> QueryResult<Vec<RoleRow>> {
    roles::table
        .order(roles::id.asc())
        .select(RoleRow::as_select())
        .load(conn)
}

pub(crate) fn page(conn: &mut Connection, after: &str, limit: i64) -> QueryResult<Vec<RoleRow>> {
    roles::table
        .filter(roles::id.gt(after))
        .order(roles::id.asc())
        .limit(limit)
        .select(RoleRow::as_select())
        .load(conn)
}

/// Adds a role; false when the id is taken.
pub(crate) fn insert(conn: &mut Connection, row: &RoleRow) -> QueryResult<bool> {
    match diesel::insert_into(roles::table).values(row).execute(conn) {
        Ok(_) => Ok(true),
        Err(QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn update(conn: &mut Connection, row: &RoleRow) -> QueryResult<()> {
    diesel::update(roles::table.find(&row.id))
        .set((
            roles::version.eq(row.version),
            roles::description.eq(&row.description),
            roles::permissions.eq(&row.permissions),
            roles::scope.eq(row.scope),
        ))
        .execute(conn)
        .map(drop)
}

pub(crate) fn delete(conn: &mut Connection, id: &str) -> QueryResult<()> {
    diesel::delete(roles::table.find(id))
        .execute(conn)
        .map(drop)
}
