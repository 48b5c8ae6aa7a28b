//! Certificates of agents.

use std::time::Duration;

use upm_mesh as mesh;
use upm_proto::hub::v1 as pb;
use upm_store::time;

use crate::{Error, Hub, ledger};

/// A certificate and when it ends, in microseconds since 1970.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) chain: Vec<bytes::Bytes>,
    pub(crate) roots: Vec<bytes::Bytes>,
}

/// Signs an agent's request and remembers the certificate.
pub(crate) async fn sign(hub: &Hub, agent: &str, csr: &[u8]) -> Result<Signed, Error> {
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
            ledger::enrol::certified(conn, &name, &leaf, expire)
        })
        .await?;
    Ok(Signed {
        chain: chain.iter().map(|c| c.to_vec().into()).collect(),
        roots: hub
            .inner
            .authority
            .certificates()
            .iter()
            .map(|c| c.to_vec().into())
            .collect(),
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
