//! Who has which role where.

use diesel::prelude::*;
use upm_store::{Backend, Connection, time};

use crate::permissions::ADMINISTRATOR;
use crate::schema::{blocked_users, forgotten_projects, role_bindings};

/// A binding. Its id is made of role, user and project, so the same one cannot exist twice.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = role_bindings)]
pub(crate) struct BindingRow {
    pub(crate) id: String,
    /// `roles/{role}`
    pub(crate) role: String,
    /// `users/{user}`
    pub(crate) user_name: String,
    /// `projects/{project}`, or empty for the platform.
    pub(crate) project: String,
    pub(crate) create_us: i64,
    /// Whom the name meant when the binding was made.
    pub(crate) user_uid: String,
    /// Which project the name meant when the binding was made; empty for the platform.
    pub(crate) project_uid: String,
}

pub(crate) fn find(conn: &mut Connection, id: &str) -> QueryResult<Option<BindingRow>> {
    role_bindings::table
        .find(id)
        .select(BindingRow::as_select())
        .first(conn)
        .optional()
}

pub(crate) fn all(conn: &mut Connection) -> QueryResult<Vec<BindingRow>> {
    role_bindings::table
        .order(role_bindings::id.asc())
        .select(BindingRow::as_select())
        .load(conn)
}

pub(crate) fn of_user(conn: &mut Connection, user: &str) -> QueryResult<Vec<BindingRow>> {
    role_bindings::table
        .filter(role_bindings::user_name.eq(user))
        .order(role_bindings::id.asc())
        .select(BindingRow::as_select())
        .load(conn)
}

/// A page by id; an empty `user` or `project` means any.
pub(crate) fn page(
    conn: &mut Connection,
    user: &str,
    project: &str,
    after: Option<&str>,
    limit: i64,
) -> QueryResult<Vec<BindingRow>> {
    let mut query = role_bindings::table.into_boxed::<Backend>();
    if !user.is_empty() {
        query = query.filter(role_bindings::user_name.eq(user));
    }
    if !project.is_empty() {
        query = query.filter(role_bindings::project.eq(project));
    }
    if let Some(after) = after {
        query = query.filter(role_bindings::id.gt(after));
    }
    query
        .order(role_bindings::id.asc())
        .limit(limit)
        .select(BindingRow::as_select())
        .load(conn)
}

pub(crate) fn insert(conn: &mut Connection, row: &BindingRow) -> QueryResult<()> {
    diesel::insert_into(role_bindings::table)
        .values(row)
        .execute(conn)
        .map(drop)
}

pub(crate) fn delete(conn: &mut Connection, id: &str) -> QueryResult<()> {
    diesel::delete(role_bindings::table.find(id))
        .execute(conn)
        .map(drop)
}

pub(crate) fn delete_of_user(conn: &mut Connection, user: &str) -> QueryResult<usize> {
    diesel::delete(role_bindings::table.filter(role_bindings::user_name.eq(user))).execute(conn)
}

/// Takes away what somebody else of the same name had, who is gone; how many bindings that were.
pub(crate) fn delete_of_predecessors(
    conn: &mut Connection,
    user: &str,
    uid: &str,
) -> QueryResult<usize> {
    let theirs = role_bindings::table
        .filter(role_bindings::user_name.eq(user))
        .filter(role_bindings::user_uid.ne_all(["", uid]));
    diesel::delete(theirs).execute(conn)
}

/// Takes all bindings in a project away and remembers that it is gone; how many they were.
pub(crate) fn forget_project(
    conn: &mut Connection,
    project: &str,
    uid: &str,
) -> QueryResult<usize> {
    if !is_forgotten(conn, uid)? {
        diesel::insert_into(forgotten_projects::table)
            .values((
                forgotten_projects::uid.eq(uid),
                forgotten_projects::forget_us.eq(time::now_us()),
            ))
            .execute(conn)?;
    }
    let bound = role_bindings::table
        .filter(role_bindings::project.eq(project))
        .filter(role_bindings::project_uid.eq_any(["", uid]));
    diesel::delete(bound).execute(conn)
}

/// Whether a project is gone.
pub(crate) fn is_forgotten(conn: &mut Connection, uid: &str) -> QueryResult<bool> {
    let found: i64 = forgotten_projects::table
        .find(uid)
        .count()
        .get_result(conn)?;
    Ok(found > 0)
}

/// The projects in which a role is bound; the empty name is the platform.
pub(crate) fn places_of_role(conn: &mut Connection, role: &str) -> QueryResult<Vec<String>> {
    role_bindings::table
        .filter(role_bindings::role.eq(role))
        .select(role_bindings::project)
        .distinct()
        .load(conn)
}

/// Administrators of the platform, disabled or not.
pub(crate) fn administrators(conn: &mut Connection) -> QueryResult<Vec<String>> {
    role_bindings::table
        .filter(
            role_bindings::role
                .eq(ADMINISTRATOR)
                .and(role_bindings::project.eq("")),
        )
        .select(role_bindings::user_name)
        .load(conn)
}

/// Administrators who may act.
pub(crate) fn acting_administrators(conn: &mut Connection) -> QueryResult<Vec<String>> {
    let blocked: Vec<String> = blocked_users::table
        .select(blocked_users::user_name)
        .load(conn)?;
    let mut users = administrators(conn)?;
    users.retain(|user| !blocked.contains(user));
    Ok(users)
}
