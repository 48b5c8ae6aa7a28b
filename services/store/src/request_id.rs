//! Doing a request once although it is sent twice, for 24 hours.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::Connection;
use crate::schema::upm_request;
use crate::{Error, time};

/// How long an answer is kept.
pub const KEPT_US: i64 = time::DAY_US;

/// Which request it is.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// Who asks: ids of different callers never meet.
    pub principal: &'a str,
    /// Full name of the method.
    pub method: &'a str,
    /// A UUID; empty for a request that may be done twice.
    pub request_id: &'a str,
}

/// What a fingerprint is made of: the request without its secrets, as JSON (its maps are sorted, protobuf's are not).
pub fn fingerprint(request: &serde_json::Value) -> String {
    hex::encode(Sha256::digest(request.to_string()))
}

/// Does `work` once: a repeated request gets the first answer.
///
/// # Errors
/// [`Error::RequestIdReused`] when the id came with another fingerprint; a field violation when it is not a UUID; those of `work`.
pub fn once<M, E, F>(
    conn: &mut Connection,
    key: Key<'_>,
    fingerprint: &str,
    work: F,
) -> Result<M, E>
where
    M: Message + Default,
    E: From<Error> + From<QueryError>,
    F: FnOnce(&mut Connection) -> Result<M, E>,
{
    if let Some(answer) = lookup(conn, key, fingerprint)? {
        let answer = M::decode(&answer[..]).map_err(|_| Error::Corrupt { what: "answer" })?;
        return Ok(answer);
    }
    let answer = work(conn)?;
    record(conn, key, &answer.encode_to_vec())?;
    Ok(answer)
}

/// The answer that was given to this request. `None` also claims the id until the transaction ends: a concurrent repetition
/// waits. Call [`record`] before the commit.
pub fn lookup(
    conn: &mut Connection,
    key: Key<'_>,
    fingerprint: &str,
) -> Result<Option<Vec<u8>>, Error> {
    if key.request_id.is_empty() {
        return Ok(None);
    }
    uuid::Uuid::try_parse(key.request_id)
        .map_err(|_| Error::field("request_id", "must be a UUID"))?;
    let now = time::now_us();
    diesel::delete(upm_request::table.filter(upm_request::create_us.lt(now - KEPT_US)))
        .execute(conn)?;
    if let Some(known) = known(conn, key, fingerprint)? {
        return Ok(Some(known));
    }
    let claim = diesel::insert_into(upm_request::table)
        .values((
            upm_request::principal.eq(key.principal),
            upm_request::method.eq(key.method),
            upm_request::request_id.eq(key.request_id.to_ascii_lowercase()),
            upm_request::fingerprint.eq(fingerprint),
            upm_request::create_us.eq(now),
        ))
        .execute(conn);
    match claim {
        Ok(_) => Ok(None),
        // The other one has committed while this insert waited for it.
        Err(QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => {
            known(conn, key, fingerprint)
        }
        Err(error) => Err(error.into()),
    }
}

/// Keeps the answer of a request whose id [`lookup`] has claimed.
pub fn record(conn: &mut Connection, key: Key<'_>, response: &[u8]) -> Result<(), Error> {
    if key.request_id.is_empty() {
        return Ok(());
    }
    diesel::update(upm_request::table.find(primary(key)))
        .set(upm_request::response.eq(response))
        .execute(conn)?;
    Ok(())
}

fn known(conn: &mut Connection, key: Key<'_>, fingerprint: &str) -> Result<Option<Vec<u8>>, Error> {
    let row: Option<(String, Option<Vec<u8>>)> = upm_request::table
        .find(primary(key))
        .select((upm_request::fingerprint, upm_request::response))
        .first(conn)
        .optional()?;
    match row {
        None => Ok(None),
        Some((stored, _)) if stored != fingerprint => Err(Error::RequestIdReused),
        Some((_, Some(response))) => Ok(Some(response)),
        Some((_, None)) => Err(Error::Corrupt { what: "answer" }),
    }
}

fn primary(key: Key<'_>) -> (&str, &str, String) {
    (
        key.principal,
        key.method,
        key.request_id.to_ascii_lowercase(),
    )
}
