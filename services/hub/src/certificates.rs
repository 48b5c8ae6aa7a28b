//! Certificates of agents.

use std::time::Duration;

use upm_mesh as mesh;
use upm_proto::hub::v1 as pb;
use upm_store::time;

use crate::{
    Error, Hub,
    accounts::{Pin, Refusal},
    ledger,
};

/// A certificate and when it ends, in microseconds since 1970.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) chain: Vec<bytes::Bytes>,
    pub(crate) roots: Vec<bytes::Bytes>,
}

/// What an agent shows of its cluster's service accounts. Whatever is wrong with that hinders nothing else: the agent is known by its join
/// token, or by its certificate.
pub(crate) fn shown(agent: &str, issuer: &str, jwks: &str, token: &str) -> Option<Pin> {
    if issuer.is_empty() || token.is_empty() {
        return None;
    }
    match Pin::shown(issuer, jwks, token) {
        Ok(pin) => Some(pin),
        Err(refusal) => {
            let reason = Refusal::reason(refusal);
            tracing::warn!(agent, reason, "The agent's service account is not pinned");
            None
        }
    }
}

/// Signs an agent's request in its session.
pub(crate) async fn renew(
    hub: &Hub,
    agent: &str,
    request: &pb::CertRequest,
) -> Result<Signed, Error> {
    let pin = shown(
        agent,
        &request.service_account_issuer,
        &request.service_account_jwks,
        &request.service_account_token,
    );
    sign(hub, agent, &request.csr, pin).await
}

/// The CA certificates that agents trust.
pub(crate) fn roots(hub: &Hub) -> Vec<bytes::Bytes> {
    let roots = hub.inner.authority.certificates();
    roots.iter().map(|c| c.to_vec().into()).collect()
}

/// Signs an agent's request and remembers the certificate.
pub(crate) async fn sign(
    hub: &Hub,
    agent: &str,
    csr: &[u8],
    pin: Option<Pin>,
) -> Result<Signed, Error> {
    let id = mesh::SpiffeId::agent(agent).map_err(Error::Authority)?;
    let life = Duration::from_secs(hub.inner.config.certificate_seconds.max(60));
    let chain = hub
        .inner
        .authority
        .issue_csr(csr, &id, life)
        .map_err(|error| match error {
            mesh::identity::Error::Request(why) => Error::CertificateRequest(why.to_owned()),
            mesh::identity::Error::Certificate(e) => Error::CertificateRequest(e.to_string()),
            other => Error::Authority(other),
        })?;
    let leaf = chain
        .first()
        .map(|leaf| leaf.to_vec())
        .ok_or(Error::Corrupt("certificate chain"))?;
    let expire = time::now_us() + time::micros(life);
    let name = agent.to_owned();
    hub.inner
        .store
        .transact("remember a certificate", move |conn| {
            ledger::enrol::certified(conn, &name, &leaf, expire, pin.as_ref())
        })
        .await?;
    Ok(Signed {
        chain: chain.iter().map(|c| c.to_vec().into()).collect(),
        roots: roots(hub),
    })
}

impl From<Signed> for pb::CertIssued {
    fn from(signed: Signed) -> Self {
        Self {
            certificate_chain: signed.chain,
            ca_certificates: signed.roots,
        }
    }
}
