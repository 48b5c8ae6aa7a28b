//! The list of users: one page, by id.

use diesel::prelude::*;
use upm_store::filter::{Op, Term};
use upm_store::{Backend, Connection, Error as StoreError};

use crate::Error;
use crate::model::UserRow;
use crate::schema::{user_labels, users};

/// What `ListUsersRequest.filter` may name.
pub(crate) const FILTERS: [&str; 2] = ["disabled", "labels.*"];

type Selected<'a> = users::BoxedQuery<'a, Backend>;

/// At most `limit` users after `after` that match all terms.
pub(crate) fn page(
    conn: &mut Connection,
    terms: &[Term],
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<UserRow>, Error> {
    let mut query = users::table.into_boxed::<Backend>();
    if let Some(after) = after {
        query = query.filter(users::id.gt(after));
    }
    for term in terms {
        query = restrict(query, term)?;
    }
    Ok(query
        .order(users::id.asc())
        .limit(limit)
        .select(UserRow::as_select())
        .load(conn)?)
}

fn restrict<'a>(query: Selected<'a>, term: &'a Term) -> Result<Selected<'a>, StoreError> {
    let Some(key) = term.key_of("labels") else {
        let wanted = term.bool()? == term.equality()?;
        return Ok(query.filter(users::disabled.eq(wanted)));
    };
    let with_key = user_labels::table.filter(user_labels::label_key.eq(key));
    if term.op == Op::Has && term.value == "*" {
        return Ok(query.filter(users::id.eq_any(with_key.select(user_labels::user_id))));
    }
    let matching = with_key
        .filter(user_labels::label_value.eq(&term.value))
        .select(user_labels::user_id);
    Ok(if term.equality()? {
        query.filter(users::id.eq_any(matching))
    } else {
        query.filter(users::id.ne_all(matching))
    })
}
