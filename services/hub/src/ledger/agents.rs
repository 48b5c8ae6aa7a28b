//! Agents as administrators see them: join tokens, approval, revocation, the end.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use diesel::{dsl, prelude::*};
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};
use upm_store::{Connection, time};

use super::rows::AgentRow;
use crate::{
    Error,
    schema::{agents, certificates, intents, interests, inventory, join_tokens, statuses, writers},
};

/// Where a token begins, so that scanners of leaked secrets know it.
const TOKEN_PREFIX: &str = "upmjoin_";

/// A fresh incarnation, 32 hex digits.
pub(super) fn incarnation() -> String {
    let mut bytes = [0; 16];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes)
}

/// A fresh join token: 32 random bytes.
pub fn random_token() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// What is stored of a token.
pub(super) fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// Stores a token; makes the agent when nobody knows it.
pub fn invite(
    conn: &mut Connection,
    agent: &str,
    token: &str,
    auto_approve: bool,
    ttl_us: i64,
) -> Result<i64, Error> {
    let now = time::now_us();
    if AgentRow::lock(conn, agent)?.is_none() {
        diesel::insert_into(agents::table)
            .values(AgentRow {
                id: agent.to_owned(),
                incarnation: incarnation(),
                approved: false,
                enrolled: false,
                revoked: false,
                epoch: 0,
                replica: String::new(),
                connected_us: 0,
                seen_us: 0,
                build: String::new(),
                cluster_uid: String::new(),
                k8s_version: String::new(),
                head_rev: 0,
                received_rev: 0,
                durable_rev: 0,
                compacted_rev: 0,
                change_seq: 0,
                purged_seq: 0,
                root: hex::encode([0; 16]),
                status_root: hex::encode([0; 16]),
                key_count: 0,
                certificate_us: 0,
                message: String::new(),
                issuer: String::new(),
                jwks: String::new(),
                created_us: now,
                subject: String::new(),
            })
            .execute(conn)?;
    }
    diesel::delete(join_tokens::table.filter(join_tokens::expire_us.lt(now - time::DAY_US)))
        .execute(conn)?;
    let expire = now + ttl_us;
    diesel::insert_into(join_tokens::table)
        .values((
            join_tokens::hash.eq(hash(token)),
            join_tokens::agent.eq(agent),
            join_tokens::auto_approve.eq(auto_approve),
            join_tokens::expire_us.eq(expire),
            join_tokens::used_us.eq(0),
            join_tokens::request.eq(""),
            join_tokens::created_us.eq(now),
        ))
        .execute(conn)?;
    Ok(expire)
}

fn existing(conn: &mut Connection, agent: &str) -> Result<AgentRow, Error> {
    AgentRow::lock(conn, agent)?.ok_or_else(|| Error::AgentNotFound(agent.to_owned()))
}

/// Refuses an agent that nobody has enrolled as: what is approved is somebody who has come.
///
/// # Errors
/// [`Error::NotEnrolled`].
pub fn require_enrolled(conn: &mut Connection, agent: &str) -> Result<(), Error> {
    if existing(conn, agent)?.enrolled {
        return Ok(());
    }
    Err(Error::NotEnrolled(agent.to_owned()))
}

/// Lets an agent have sessions, until it enrols with another token. Again is no error.
pub fn approve(conn: &mut Connection, agent: &str) -> Result<(), Error> {
    let mut row = existing(conn, agent)?;
    row.approved = true;
    row.save(conn)
}

/// Revokes an agent, its approval and its certificates; unused tokens end too.
pub fn revoke(conn: &mut Connection, agent: &str) -> Result<(), Error> {
    let mut row = existing(conn, agent)?;
    row.revoked = true;
    row.approved = false;
    // A live session's writes fail from now on, on whatever replica it is.
    row.epoch += 1;
    row.save(conn)?;
    diesel::update(certificates::table.filter(certificates::agent.eq(agent)))
        .set(revoked_now())
        .execute(conn)?;
    diesel::delete(
        join_tokens::table
            .filter(join_tokens::agent.eq(agent))
            .filter(join_tokens::used_us.eq(0)),
    )
    .execute(conn)?;
    Ok(())
}

/// What makes a certificate a revoked one.
pub(super) fn revoked_now() -> (
    dsl::Eq<certificates::revoked, bool>,
    dsl::Eq<certificates::revoked_us, i64>,
) {
    (
        certificates::revoked.eq(true),
        certificates::revoked_us.eq(time::now_us()),
    )
}

/// Revokes one certificate of an agent, and those that were asked for in sessions of it. Again is no error.
pub fn revoke_certificate(conn: &mut Connection, agent: &str, serial: &str) -> Result<(), Error> {
    existing(conn, agent)?;
    let mut next = certificates::table
        .filter(certificates::agent.eq(agent))
        .filter(certificates::serial.eq(serial))
        .select(certificates::fingerprint)
        .load::<String>(conn)?;
    if next.is_empty() {
        return Err(Error::CertificateNotFound(serial.to_owned()));
    }
    let mut all = Vec::new();
    while !next.is_empty() {
        let found = certificates::table
            .filter(certificates::agent.eq(agent))
            .filter(certificates::parent.eq_any(&next))
            .select(certificates::fingerprint)
            .load::<String>(conn)?;
        all.append(&mut next);
        next = found;
        next.retain(|print| !all.contains(print));
    }
    diesel::update(certificates::table.filter(certificates::fingerprint.eq_any(&all)))
        .set(revoked_now())
        .execute(conn)?;
    Ok(())
}

/// Fingerprints of certificates that were revoked after a moment.
pub fn revoked_since(conn: &mut Connection, since_us: i64) -> Result<Vec<String>, Error> {
    Ok(certificates::table
        .filter(certificates::revoked_us.gt(since_us))
        .select(certificates::fingerprint)
        .load(conn)?)
}

/// Forgets an agent. Intents that live forbid it, unless `force`.
pub fn delete(conn: &mut Connection, agent: &str, force: bool) -> Result<(), Error> {
    existing(conn, agent)?;
    let lives = intents::table
        .filter(intents::agent.eq(agent))
        .filter(intents::tombstone.eq(false))
        .count()
        .get_result::<i64>(conn)?;
    if lives > 0 && !force {
        return Err(Error::LedgerNotEmpty(agent.to_owned()));
    }
    diesel::delete(intents::table.filter(intents::agent.eq(agent))).execute(conn)?;
    diesel::delete(statuses::table.filter(statuses::agent.eq(agent))).execute(conn)?;
    diesel::delete(writers::table.filter(writers::agent.eq(agent))).execute(conn)?;
    diesel::delete(inventory::table.filter(inventory::agent.eq(agent))).execute(conn)?;
    diesel::delete(interests::table.filter(interests::agent.eq(agent))).execute(conn)?;
    diesel::delete(join_tokens::table.filter(join_tokens::agent.eq(agent))).execute(conn)?;
    // Its certificates are remembered until they end: another agent may get the id, and they must not open its sessions.
    // Other replicas cut what was opened with them.
    diesel::update(certificates::table.filter(certificates::agent.eq(agent)))
        .set(revoked_now())
        .execute(conn)?;
    diesel::delete(agents::table.find(agent)).execute(conn)?;
    Ok(())
}

/// A session ended on this replica; a newer one is left alone.
pub fn disconnected(conn: &mut Connection, agent: &str, epoch: u64) -> Result<(), Error> {
    diesel::update(
        agents::table
            .find(agent)
            .filter(agents::epoch.eq(epoch as i64)),
    )
    .set((agents::replica.eq(""), agents::seen_us.eq(time::now_us())))
    .execute(conn)?;
    Ok(())
}

/// No session survives the process that held it.
pub fn replica_started(conn: &mut Connection, replica: &str) -> Result<(), Error> {
    diesel::update(agents::table.filter(agents::replica.eq(replica)))
        .set(agents::replica.eq(""))
        .execute(conn)?;
    Ok(())
}

/// A page of agents, by id.
pub fn list(
    conn: &mut Connection,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<AgentRow>, Error> {
    Ok(agents::table
        .filter(agents::id.gt(after.unwrap_or_default().to_owned()))
        .order(agents::id)
        .limit(limit)
        .load(conn)?)
}

/// Keys not settled, and keys latched.
pub fn pending(conn: &mut Connection, agent: &str) -> Result<(u32, u32), Error> {
    let rows = intents::table
        .filter(intents::agent.eq(agent))
        .select((
            intents::outcome,
            intents::result_generation,
            intents::generation,
        ))
        .load::<(i32, i64, i64)>(conn)?;
    let mut count = (0, 0);
    for (outcome, of, generation) in rows {
        let outcome = upm_proto::hub::v1::Outcome::try_from(outcome).unwrap_or_default();
        if of != generation || !super::rows::is_settled(outcome) {
            count.0 += 1;
        }
        if of == generation && super::object::is_latched(outcome) {
            count.1 += 1;
        }
    }
    Ok(count)
}

/// Where an agent is, for replicas that missed a hint.
#[derive(Debug, Clone, Queryable)]
pub struct Head {
    /// The agent.
    pub agent: String,
    /// Newest revision.
    pub rev: i64,
    /// Count of changes.
    pub change: i64,
    /// Epoch of its newest session.
    pub epoch: i64,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// Heads of all agents.
pub fn heads(conn: &mut Connection) -> Result<Vec<Head>, Error> {
    Ok(agents::table
        .select((
            agents::id,
            agents::head_rev,
            agents::change_seq,
            agents::epoch,
            agents::revoked,
        ))
        .load(conn)?)
}
