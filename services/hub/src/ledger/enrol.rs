//! Enrolment: a join token, or a known cluster's service account, for a certificate.

use diesel::prelude::*;
use sha2::{Digest as _, Sha256};
use upm_proto::hub::v1 as pb;
use upm_store::{Connection, time};

use super::{agents::hash, rows::AgentRow};
use crate::{
    Error,
    schema::{certificates, join_tokens},
};

/// Uses up a token. The same request (token, key, cluster) may come again while the token lives, because an answer can be lost;
/// anything else finds the token used.
pub fn redeem(conn: &mut Connection, request: &pb::EnrollRequest) -> Result<AgentRow, Error> {
    let now = time::now_us();
    let hash = hash(&request.join_token);
    let fingerprint = {
        let mut digest = Sha256::new();
        digest.update(&request.csr);
        digest.update(request.cluster_uid.as_bytes());
        hex::encode(digest.finalize())
    };
    let token = join_tokens::table
        .find(&hash)
        .select((
            join_tokens::agent,
            join_tokens::auto_approve,
            join_tokens::expire_us,
            join_tokens::used_us,
            join_tokens::request,
        ))
        .get_result::<(String, bool, i64, i64, String)>(conn)
        .optional()?;
    let Some((agent, auto_approve, expire, used, used_by)) = token else {
        return Err(Error::JoinTokenInvalid);
    };
    if now >= expire || (used != 0 && used_by != fingerprint) {
        return Err(Error::JoinTokenInvalid);
    }
    let mut row = AgentRow::lock(conn, &agent)?.ok_or(Error::JoinTokenInvalid)?;
    // Between the read and the lock another enrolment may have used the token.
    let taken = diesel::update(
        join_tokens::table
            .find(&hash)
            .filter(join_tokens::used_us.eq(used)),
    )
    .set((
        join_tokens::used_us.eq(now),
        join_tokens::request.eq(&fingerprint),
    ))
    .execute(conn)?;
    if taken == 0 {
        return Err(Error::JoinTokenInvalid);
    }
    if used == 0 {
        // A new token is a new trust: what was pinned before is forgotten.
        row.revoked = false;
        row.cluster_uid.clone_from(&request.cluster_uid);
        row.issuer.clone_from(&request.service_account_issuer);
        row.jwks.clone_from(&request.service_account_jwks);
        row.approved |= auto_approve;
    }
    row.enrolled = true;
    row.build.clone_from(&request.build);
    row.save(conn)?;
    Ok(row)
}

/// Remembers a certificate.
pub fn certified(
    conn: &mut Connection,
    agent: &str,
    leaf: &[u8],
    expire_us: i64,
) -> Result<(), Error> {
    let mut row =
        AgentRow::lock(conn, agent)?.ok_or_else(|| Error::AgentNotFound(agent.to_owned()))?;
    if row.revoked {
        return Err(Error::Revoked(agent.to_owned()));
    }
    row.certificate_us = expire_us;
    row.save(conn)?;
    let now = time::now_us();
    diesel::delete(certificates::table.filter(certificates::expire_us.lt(now))).execute(conn)?;
    diesel::insert_into(certificates::table)
        .values((
            certificates::fingerprint.eq(fingerprint(leaf)),
            certificates::agent.eq(agent),
            certificates::expire_us.eq(expire_us),
            certificates::revoked.eq(false),
            certificates::created_us.eq(now),
        ))
        .execute(conn)?;
    Ok(())
}

/// When a certificate ends, if it is remembered; an error when it was revoked. A certificate of ours that nobody remembers (the store was
/// restored from an older state) is good: its signature and its life were checked with the connection.
pub fn admitted(conn: &mut Connection, agent: &str, leaf: &[u8]) -> Result<Option<i64>, Error> {
    let found = certificates::table
        .find(fingerprint(leaf))
        .select((
            certificates::agent,
            certificates::expire_us,
            certificates::revoked,
        ))
        .get_result::<(String, i64, bool)>(conn)
        .optional()?;
    match found {
        None => Ok(None),
        Some((owner, expire, false)) if owner == agent => Ok(Some(expire)),
        Some(_) => Err(Error::Revoked(agent.to_owned())),
    }
}

/// SHA-256 of a certificate, hex.
fn fingerprint(leaf: &[u8]) -> String {
    hex::encode(Sha256::digest(leaf))
}
