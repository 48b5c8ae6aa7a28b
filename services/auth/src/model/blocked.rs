//! Users who must not act, as module `user` said last.

use std::collections::BTreeMap;

use diesel::prelude::*;
use upm_store::Connection;

use crate::schema::blocked_users;

/// All, by name; the value says whether the user was deleted.
pub(crate) fn all(conn: &mut Connection) -> QueryResult<BTreeMap<String, bool>> {
    let rows: Vec<(String, bool)> = blocked_users::table
        .order(blocked_users::user_name.asc())
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// Replaces all.
pub(crate) fn put(conn: &mut Connection, users: &BTreeMap<String, bool>) -> QueryResult<()> {
    diesel::delete(blocked_users::table).execute(conn)?;
    for (name, deleted) in users {
        diesel::insert_into(blocked_users::table)
            .values((
                blocked_users::user_name.eq(name),
                blocked_users::deleted.eq(deleted),
            ))
            .execute(conn)?;
    }
    Ok(())
}
