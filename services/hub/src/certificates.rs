//! Certificates of agents: signed, renewed in sessions, and given up when the key that they go back to is trusted no more.

use std::time::{Duration, UNIX_EPOCH};

use upm_mesh::{
    self as mesh,
    identity::{PeerCertificates, Signer},
};
use upm_proto::hub::v1::{self as pb, drain::Reason};
use upm_store::time;

use crate::{
    Error, Hub,
    accounts::Shown,
    drive::Certificate,
    hub::Control,
    ledger::enrol::{self, Asked, Issued},
};

/// Between two tries of what the store failed.
const RETRY: Duration = Duration::from_secs(5);

/// What an agent is given.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) chain: Vec<bytes::Bytes>,
    pub(crate) roots: Vec<bytes::Bytes>,
}

/// Signs an agent's request in its session, which was opened `with` a certificate.
///
/// # Errors
/// When the request is no good, or the certificate or the agent is trusted no more.
pub(crate) async fn renew(
    hub: &Hub,
    agent: &str,
    with: &Certificate,
    request: pb::CertRequest,
) -> Result<Signed, Error> {
    let asked = Asked {
        fingerprint: with.fingerprint.clone(),
        anchor: anchor(hub, agent, &with.chain)?,
        shown: Shown::of(
            request.service_account_issuer,
            request.service_account_jwks,
            request.service_account_token,
        ),
        audiences: hub.inner.config.audiences.clone(),
    };
    let (signed, issued) = sign(hub, agent, &request.csr)?;
    let name = agent.to_owned();
    hub.inner
        .store
        .transact("remember a certificate", move |conn| {
            enrol::certified(conn, &name, &issued, Some(&asked))
        })
        .await?;
    Ok(signed)
}

/// The CA certificates that agents trust.
pub(crate) fn roots(hub: &Hub) -> Vec<bytes::Bytes> {
    let roots = hub.inner.authority.certificates();
    roots.iter().map(|c| c.to_vec().into()).collect()
}

/// Signs an agent's request. Nobody may be given the certificate before it is remembered.
pub(crate) fn sign(hub: &Hub, agent: &str, csr: &[u8]) -> Result<(Signed, Issued), Error> {
    let id = mesh::SpiffeId::agent(agent).map_err(Error::Authority)?;
    let life = Duration::from_secs(hub.inner.config.certificate_seconds.max(60));
    let chain = hub
        .inner
        .authority
        .issue_csr(csr, &id, life)
        .map_err(|error| match error {
            mesh::identity::Error::Request(why) => Error::CertificateRequest(why.to_owned()),
            mesh::identity::Error::Certificate(e) => Error::CertificateRequest(e.to_string()),
            other @ (mesh::identity::Error::SpiffeId(_)
            | mesh::identity::Error::Parse
            | mesh::identity::Error::Pem(_)
            | mesh::identity::Error::Tls(_)
            | mesh::identity::Error::NoRoots
            | mesh::identity::Error::Verifier(_)
            | mesh::identity::Error::File { .. }
            | mesh::identity::Error::Overlap
            | mesh::identity::Error::KeyExposed(_)) => Error::Authority(other),
        })?;
    let [leaf, root, ..] = chain.as_slice() else {
        return Err(Error::Corrupt("certificate chain"));
    };
    let issued = Issued {
        leaf: leaf.to_vec(),
        expire_us: time::now_us() + time::micros(life),
        signer: mesh::identity::pin_of(root).map_err(Error::Authority)?,
    };
    let signed = Signed {
        chain: chain.iter().map(|c| c.to_vec().into()).collect(),
        roots: roots(hub),
    };
    Ok((signed, issued))
}

/// The pin of the key that a certificate was signed with. Below another certificate it may be anybody who has a key that was trusted, so
/// then it is that of the key that has been trusted for the longest.
fn anchor(hub: &Hub, agent: &str, chain: &PeerCertificates) -> Result<String, Error> {
    let anchors = hub.inner.authority.anchors();
    match anchors.signer(&chain.0) {
        Signer::Root(pin) => Ok(pin),
        Signer::Below => Ok(anchors.oldest().unwrap_or_default()),
        Signer::Nobody => Err(Error::CertificateRevoked(agent.to_owned())),
    }
}

/// Whether the certificate of a connection, which was verified when the connection was opened, opens a session of an agent now.
///
/// # Errors
/// When it was revoked, or what has signed it is trusted no more.
pub(crate) async fn admit(
    hub: &Hub,
    agent: &str,
    chain: PeerCertificates,
) -> Result<Certificate, Error> {
    let leaf = chain.0.first().ok_or(Error::NoAgent)?.to_vec();
    let fingerprint = enrol::fingerprint(&leaf);
    let serial = mesh::identity::serial_of(&leaf).unwrap_or_default();
    if hub.inner.authority.has_changed() {
        anchor(hub, agent, &chain)?;
    }
    let (id, print) = (agent.to_owned(), fingerprint.clone());
    let known = hub
        .inner
        .store
        .read("admit an agent", move |conn| {
            enrol::admitted(conn, &id, &print)
        })
        .await?;
    let expire_us = match known {
        Some(expire) => expire,
        None => remember(hub, agent, &chain, leaf).await?,
    };
    Ok(Certificate {
        fingerprint,
        serial,
        expire_us,
        chain,
    })
}

/// Remembers a certificate of ours that the store does not know, because it was restored from an older state: it ends when it says, and can
/// be revoked like any other.
async fn remember(
    hub: &Hub,
    agent: &str,
    chain: &PeerCertificates,
    leaf: Vec<u8>,
) -> Result<i64, Error> {
    let end = mesh::identity::ends(&leaf.as_slice().into()).map_err(Error::Authority)?;
    let end = time::micros(end.duration_since(UNIX_EPOCH).unwrap_or_default());
    let issued = Issued {
        leaf,
        expire_us: end,
        signer: anchor(hub, agent, chain)?,
    };
    let name = agent.to_owned();
    hub.inner
        .store
        .transact("remember a certificate", move |conn| {
            enrol::recovered(conn, &name, &issued)
        })
        .await?;
    Ok(end)
}

impl Hub {
    /// Whenever the authority's key was replaced, or an overlap was ended: tells all sessions the CA certificates, cuts those whose certificate
    /// nobody who is trusted has signed, and gives up certificates that go back to a key in wrong hands.
    pub(crate) async fn follow_authority(self) {
        let mut replaced = self.inner.authority.replaced();
        self.give_up().await;
        loop {
            tokio::select! {
                () = self.inner.drain.signalled() => return,
                changed = replaced.changed() => if changed.is_err() { return },
            }
            for (_, session) in self.all_sessions() {
                // Who does not take it now hears of it with the next certificate, or in the next session.
                let _ = session
                    .control
                    .send_timeout(Control::Roots, Duration::from_secs(1))
                    .await;
            }
            self.cut_untrusted().await;
            self.give_up().await;
        }
    }

    async fn cut_untrusted(&self) {
        let (sessions, anchors) = (self.all_sessions(), self.inner.authority.anchors());
        // A signature each.
        let untrusted = tokio::task::spawn_blocking(move || {
            let untrusted = sessions.into_iter().filter(|(_, session)| {
                anchors.signer(&session.certificate.chain.0) == Signer::Nobody
            });
            untrusted.map(|(agent, _)| agent).collect::<Vec<_>>()
        });
        for agent in untrusted.await.unwrap_or_default() {
            tracing::warn!(
                agent,
                "The session is cut: what has signed its certificate is trusted no more"
            );
            self.cut(&agent, Reason::Revoked).await;
        }
    }

    /// When nothing leads here from an earlier key: certificates that go back to one are revoked, whoever has signed them, and all replicas cut
    /// what was opened with them.
    async fn give_up(&self) {
        while self.inner.authority.stands_alone() {
            let pin = self.inner.authority.pin();
            let given_up = self
                .inner
                .store
                .transact("give up certificates of an earlier key", move |conn| {
                    enrol::give_up(conn, &pin)
                })
                .await;
            match given_up {
                Ok(0) => return,
                Ok(count) => {
                    tracing::warn!(
                        count,
                        "Certificates that go back to an earlier key were revoked"
                    );
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "Certificates of an earlier key cannot be revoked; trying again");
                }
            }
            tokio::select! {
                () = self.inner.drain.signalled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
}

impl From<Signed> for pb::CertIssued {
    fn from(signed: Signed) -> Self {
        Self {
            certificate_chain: signed.chain,
            ca_certificates: signed.roots,
        }
    }
}
