//! Enrolment: a join token, or a known cluster's service account, for a certificate.

use diesel::prelude::*;
use sha2::{Digest as _, Sha256};
use upm_mesh as mesh;
use upm_proto::hub::v1 as pb;
use upm_store::{Connection, time};

use super::{
    agents::{hash, revoked_now},
    rows::AgentRow,
};
use crate::{
    Error,
    accounts::{Pin, Refusal, Shown},
    schema::{agents, certificates, join_tokens},
};

/// Uses up a token, pins what the agent shows of its cluster, and ends the enrolment before: its certificates are revoked, its approval
/// is forgotten. The same request (token, key, cluster) may come again while the token lives, because an answer can be lost;
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
        // Each enrolment is approved by itself: an approval of the one before says nothing of who comes now, and what was issued to
        // that one opens no session next to this one's.
        row.approved = auto_approve;
        row.epoch += 1;
        diesel::update(certificates::table.filter(certificates::agent.eq(&row.id)))
            .set(revoked_now())
            .execute(conn)?;
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
pub fn reclaim(
    conn: &mut Connection,
    request: &pb::EnrollRequest,
    audiences: &[String],
) -> Result<AgentRow, Error> {
    // Whoever holds no token of a pinned issuer is answered alike: only such a token tells who is here.
    let refuse = |refusal: Refusal| {
        let reason = refusal.reason();
        tracing::info!(
            agent = request.agent_id,
            reason,
            "A service account does not let in"
        );
        refusal.told()
    };
    let row = AgentRow::lock(conn, &request.agent_id)?.filter(|row| row.enrolled);
    let mut row = row.ok_or_else(|| refuse(Refusal::NotPinned))?;
    let pin = row.pinned().ok_or_else(|| refuse(Refusal::NotPinned))?;
    pin.verify(&request.service_account_token, audiences)
        .map_err(refuse)?;
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

/// A certificate that was signed just now.
#[derive(Debug, Clone)]
pub struct Issued {
    /// DER.
    pub leaf: Vec<u8>,
    /// When it ends.
    pub expire_us: i64,
    /// Pin of the key that has signed it.
    pub signer: String,
}

/// The session in which a certificate is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Of the certificate that it was opened with.
    pub fingerprint: String,
    /// Pin of the key that has signed that one.
    pub anchor: String,
    /// What the agent shows of its cluster.
    pub shown: Option<Shown>,
    /// For which audiences the token in it may be.
    pub audiences: Vec<String>,
}

/// Remembers a certificate; in a session also what its owner shows of its cluster, if it proves that it may ([`Pin::changed`]).
///
/// # Errors
/// When the agent is revoked, or the certificate of the session is, at whatever replica: both are looked at under the agent's lock.
pub fn certified(
    conn: &mut Connection,
    agent: &str,
    issued: &Issued,
    asked: Option<&Asked>,
) -> Result<(), Error> {
    let mut row =
        AgentRow::lock(conn, agent)?.ok_or_else(|| Error::AgentNotFound(agent.to_owned()))?;
    if row.revoked {
        return Err(Error::Revoked(agent.to_owned()));
    }
    let mut origin = Origin {
        anchor: issued.signer.clone(),
        parent: String::new(),
    };
    if let Some(asked) = asked {
        let former = good(conn, agent, &asked.fingerprint)?;
        if let Some(shown) = &asked.shown {
            pin_shown(&mut row, shown, former.parent.is_empty(), &asked.audiences);
        }
        origin = former.inherited(issued, asked);
    }
    row.certificate_us = issued.expire_us;
    row.save(conn)?;
    // Not at once: by the clock of another replica one that is revoked may not have ended yet, and what nobody remembers is good.
    let long_over = certificates::expire_us.lt(time::now_us() - time::DAY_US);
    diesel::delete(certificates::table.filter(long_over)).execute(conn)?;
    insert(conn, agent, issued, &origin)
}

/// Where the trust in a certificate comes from.
struct Origin {
    /// Pin of the key that it goes back to.
    anchor: String,
    /// Fingerprint of the certificate in whose session it was asked for; empty when its owner has enrolled.
    parent: String,
}

impl Origin {
    /// That of a certificate which was asked for with this one. Who could make this one because of a stolen key must not keep what it got
    /// with it when that key is given up, so the key stays remembered.
    fn inherited(self, issued: &Issued, asked: &Asked) -> Self {
        let same = asked.anchor == issued.signer && !self.anchor.is_empty();
        Self {
            anchor: if same {
                self.anchor
            } else {
                asked.anchor.clone()
            },
            parent: asked.fingerprint.clone(),
        }
    }
}

/// The origin of an agent's certificate that is not revoked.
fn good(conn: &mut Connection, agent: &str, fingerprint: &str) -> Result<Origin, Error> {
    let found = certificates::table
        .find(fingerprint)
        .select((
            certificates::agent,
            certificates::revoked,
            certificates::anchor,
            certificates::parent,
        ))
        .get_result::<(String, bool, String, String)>(conn)
        .optional()?;
    match found {
        Some((owner, false, anchor, parent)) if owner == agent => Ok(Origin { anchor, parent }),
        _ => Err(Error::CertificateRevoked(agent.to_owned())),
    }
}

/// Whatever is wrong with what is shown hinders nothing else: the agent is known by its certificate.
fn pin_shown(row: &mut AgentRow, shown: &Shown, enrolled: bool, audiences: &[String]) {
    match Pin::changed(row.pinned().as_ref(), shown, enrolled, audiences) {
        Ok(None) => {}
        Ok(Some(pin)) => {
            tracing::info!(agent = row.id, "The agent's service account is pinned anew");
            row.pin(&pin);
        }
        Err(refusal) => {
            let reason = Refusal::reason(refusal);
            tracing::warn!(
                agent = row.id,
                reason,
                "What the agent shows of its service account is not pinned"
            );
        }
    }
}

/// Remembers a certificate that was signed before the store was set back. Nobody knows how its owner came by it.
pub fn recovered(conn: &mut Connection, agent: &str, issued: &Issued) -> Result<(), Error> {
    let print = fingerprint(&issued.leaf);
    let known = certificates::table
        .find(&print)
        .count()
        .get_result::<i64>(conn)?;
    if known > 0 {
        return Ok(());
    }
    let origin = Origin {
        anchor: issued.signer.clone(),
        parent: print,
    };
    insert(conn, agent, issued, &origin)
}

fn insert(
    conn: &mut Connection,
    agent: &str,
    issued: &Issued,
    origin: &Origin,
) -> Result<(), Error> {
    diesel::insert_into(certificates::table)
        .values((
            certificates::fingerprint.eq(fingerprint(&issued.leaf)),
            certificates::agent.eq(agent),
            certificates::expire_us.eq(issued.expire_us),
            certificates::revoked.eq(false),
            certificates::created_us.eq(time::now_us()),
            certificates::serial.eq(mesh::identity::serial_of(&issued.leaf).unwrap_or_default()),
            certificates::revoked_us.eq(0),
            certificates::anchor.eq(&origin.anchor),
            certificates::parent.eq(&origin.parent),
        ))
        .execute(conn)?;
    Ok(())
}

/// Revokes certificates that go back to another key than this one; answers how many.
pub fn give_up(conn: &mut Connection, pin: &str) -> Result<usize, Error> {
    // Those without an origin are older than the record of it, and end within a day.
    let others = certificates::table
        .filter(certificates::revoked.eq(false))
        .filter(certificates::anchor.ne_all(["", pin]));
    Ok(diesel::update(others).set(revoked_now()).execute(conn)?)
}

/// When a certificate ends, if it is remembered; an error when it was revoked. A certificate of ours that nobody remembers (the store was
/// restored from an older state) is good: its signature and its life were checked with the connection.
pub fn admitted(
    conn: &mut Connection,
    agent: &str,
    fingerprint: &str,
) -> Result<Option<i64>, Error> {
    let found = certificates::table
        .find(fingerprint)
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
