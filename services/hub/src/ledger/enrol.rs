//! Enrolment: a join token, or a known cluster's service account, for a certificate.

use diesel::prelude::*;
use sha2::{Digest as _, Sha256};
use upm_mesh as mesh;
use upm_proto::hub::v1 as pb;
use upm_store::{Connection, time};

use super::{agents::hash, rows::AgentRow};
use crate::{
    Error,
    accounts::{Pin, Refusal},
    schema::{agents, certificates, join_tokens},
};

/// Uses up a token, and pins what the agent shows of its cluster. The same request (token, key, cluster) may come again while the token lives, because an answer can be lost;
/// anything else finds the token used.
pub fn redeem(
    conn: &mut Connection,
    request: &pb::EnrollRequest,
    pin: Option<&Pin>,
) -> Result<AgentRow, Error> {
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
        row.unpin();
        if let Some(pin) = pin {
            row.pin(pin);
        }
        row.approved |= auto_approve;
    }
    row.enrolled = true;
    row.build = request.build.chars().take(200).collect();
    row.save(conn)?;
    Ok(row)
}

/// Lets an agent that was here before ask for a certificate with a token of its service account.
///
/// # Errors
/// When nothing is pinned for this agent, the token is not of the pinned account, the agent is revoked, or it is in another cluster.
pub fn reclaim(conn: &mut Connection, request: &pb::EnrollRequest) -> Result<AgentRow, Error> {
    // Who nobody knows and who has shown nothing are answered alike: only a token tells who is here.
    let row = AgentRow::lock(conn, &request.agent_id)?.filter(|row| row.enrolled);
    let mut row = row.ok_or(Refusal::NotPinned)?;
    let pin = row.pinned().ok_or(Refusal::NotPinned)?;
    pin.verify(&request.service_account_token)?;
    if row.revoked {
        return Err(Error::Revoked(row.id));
    }
    if row.cluster_uid != request.cluster_uid {
        return Err(Error::OtherCluster(row.id));
    }
    row.build = request.build.chars().take(200).collect();
    row.save(conn)?;
    Ok(row)
}

/// Remembers a certificate, and what its owner has shown of its cluster.
pub fn certified(
    conn: &mut Connection,
    agent: &str,
    leaf: &[u8],
    expire_us: i64,
    pin: Option<&Pin>,
) -> Result<(), Error> {
    let mut row =
        AgentRow::lock(conn, agent)?.ok_or_else(|| Error::AgentNotFound(agent.to_owned()))?;
    if row.revoked {
        return Err(Error::Revoked(agent.to_owned()));
    }
    row.certificate_us = expire_us;
    if let Some(pin) = pin {
        row.pin(pin);
    }
    row.save(conn)?;
    let now = time::now_us();
    // Not at once: by the clock of another replica one that is revoked may not have ended yet, and what nobody remembers is good.
    let long_over = certificates::expire_us.lt(now - time::DAY_US);
    diesel::delete(certificates::table.filter(long_over)).execute(conn)?;
    diesel::insert_into(certificates::table)
        .values((
            certificates::fingerprint.eq(fingerprint(leaf)),
            certificates::agent.eq(agent),
            certificates::expire_us.eq(expire_us),
            certificates::revoked.eq(false),
            certificates::created_us.eq(now),
            certificates::serial.eq(mesh::identity::serial_of(leaf).unwrap_or_default()),
            certificates::revoked_us.eq(0),
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
        Some((owner, ..)) if owner == agent => {
            let stays = agents::table
                .find(agent)
                .select(agents::revoked)
                .get_result::<bool>(conn)
                .optional()?;
            Err(match stays {
                Some(false) => Error::CertificateRevoked(agent.to_owned()),
                _ => Error::Revoked(agent.to_owned()),
            })
        }
        Some(_) => Err(Error::Revoked(agent.to_owned())),
    }
}

/// SHA-256 of a certificate, hex.
pub(crate) fn fingerprint(leaf: &[u8]) -> String {
    hex::encode(Sha256::digest(leaf))
}
