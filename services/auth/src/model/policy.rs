//! The revision of the policy. Whoever changes the policy takes it first, so changes follow one another.

use diesel::prelude::*;
use upm_store::{Connection, lock, time};

use crate::schema::policy_state;

const ID: &str = "policy";

pub(crate) fn revision(conn: &mut Connection) -> QueryResult<i64> {
    policy_state::table
        .find(ID)
        .select(policy_state::revision)
        .first(conn)
}

/// Keeps other changes of the policy out until the transaction ends.
pub(crate) fn lock(conn: &mut Connection) -> QueryResult<()> {
    lock::row(conn, "policy_state", "id", ID).map(drop)
}

/// Counts the revision up. It is never behind the clock, so that a store that was restored from a backup does not offer revisions
/// that modules have seen with other contents.
pub(crate) fn bump(conn: &mut Connection) -> QueryResult<()> {
    let next = (revision(conn)? + 1).max(time::now_us());
    diesel::update(policy_state::table.find(ID))
        .set(policy_state::revision.eq(next))
        .execute(conn)
        .map(drop)
}
