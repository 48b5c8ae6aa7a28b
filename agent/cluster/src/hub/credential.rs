//! What proves to the hub who the agent is: key, certificate, roots. The key never leaves the cluster.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt as _, future::BoxFuture};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use upm_crds::names::label;
use upm_mesh as mesh;
use upm_operator::call;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Name of the Secret.
const NAME: &str = "upm-agent-identity";

/// A key that has no certificate yet, with its request.
#[derive(Clone, PartialEq, Eq)]
pub struct Pending {
    /// PKCS #8, DER.
    pub key: Vec<u8>,
    /// Certificate signing request, DER.
    pub csr: Vec<u8>,
}

/// A key with its certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// PKCS #8, DER.
    pub key: Vec<u8>,
    /// Certificates, DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// Roots, DER.
    pub roots: Vec<Vec<u8>>,
    /// Where the hub is, as the hub says.
    pub endpoints: Vec<String>,
}

/// Everything that is kept.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// What has worked.
    pub proven: Option<Credential>,
    /// What was issued and has not been used yet.
    pub candidate: Option<Credential>,
    /// What was asked for; a lost answer is asked for again with the same request.
    pub pending: Option<Pending>,
    /// Digest of what the hub was last shown of the cluster's service accounts.
    pub pinned: Option<Vec<u8>>,
    /// The pin of the join command by which the agent has joined: what it trusts since then is newer.
    pub joined: Option<String>,
}

// Keys are secrets: nothing here may print them.
impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("agent", &self.agent_id())
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("proven", &self.proven.is_some())
            .field("candidate", &self.candidate.is_some())
            .field("pending", &self.pending.is_some())
            .finish_non_exhaustive()
    }
}

/// Where credentials are kept.
pub trait Vault: Send + Sync + 'static {
    /// What is kept.
    fn load(&self) -> BoxFuture<'_, anyhow::Result<Kept>>;
    /// Keeps it.
    fn save<'a>(&'a self, kept: &'a Kept) -> BoxFuture<'a, anyhow::Result<()>>;
}

/// A fresh key with a request for a certificate. The hub decides every name in it.
pub fn fresh() -> anyhow::Result<Pending> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let request = CertificateParams::default().serialize_request(&key)?;
    Ok(Pending {
        key: key.serialize_der(),
        csr: request.der().to_vec(),
    })
}

fn der(list: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    list.iter().cloned().map(CertificateDer::from).collect()
}

impl Credential {
    /// As an identity of the mesh.
    pub fn identity(&self) -> anyhow::Result<mesh::Identity> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        Ok(mesh::Identity::new(
            der(&self.chain),
            key,
            &der(&self.roots),
        )?)
    }

    /// The roots.
    pub(super) fn trusting(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        anyhow::ensure!(!self.roots.is_empty(), "no root is kept");
        Ok(der(&self.roots))
    }

    /// Whether the hub, which has said what to trust, trusts this itself: it does not when the key that has signed it was given up.
    pub fn leads_to_roots(&self) -> bool {
        mesh::identity::leads_to(&der(&self.chain), &der(&self.roots))
    }

    /// When the certificate begins and ends.
    pub fn life(&self) -> Option<(SystemTime, SystemTime)> {
        let (_, leaf) = X509Certificate::from_der(self.chain.first()?).ok()?;
        let at = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds.max(0) as u64);
        let validity = leaf.validity();
        Some((
            at(validity.not_before.timestamp()),
            at(validity.not_after.timestamp()),
        ))
    }

    /// Whether the certificate has ended.
    pub fn has_ended(&self, now: SystemTime) -> bool {
        self.life().is_none_or(|(_, end)| now >= end)
    }

    /// The agent's id in the certificate.
    pub fn agent_id(&self) -> Option<String> {
        let id = mesh::SpiffeId::of_certificate(self.chain.first()?).ok()??;
        id.agent_id().map(str::to_owned)
    }
}

/// The Secret in the agent's namespace.
#[derive(Debug)]
pub struct SecretVault {
    api: Api<Secret>,
}

impl SecretVault {
    /// The Secret in a namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
        }
    }
}

type Data = BTreeMap<String, ByteString>;

fn put(data: &mut Data, prefix: &str, credential: &Credential) {
    let list = |of: &[Vec<u8>]| {
        let texts = of.iter().map(hex::encode).collect::<Vec<_>>();
        ByteString(texts.join("\n").into_bytes())
    };
    data.insert(format!("{prefix}.key"), ByteString(credential.key.clone()));
    data.insert(format!("{prefix}.chain"), list(&credential.chain));
    data.insert(format!("{prefix}.roots"), list(&credential.roots));
    data.insert(
        format!("{prefix}.endpoints"),
        ByteString(credential.endpoints.join("\n").into_bytes()),
    );
}

fn get(data: &Data, prefix: &str) -> Option<Credential> {
    let bytes = |name: &str| data.get(&format!("{prefix}.{name}")).map(|b| b.0.clone());
    let lines = |name: &str| {
        let text = String::from_utf8(bytes(name)?).ok()?;
        Some(text.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let list = |name: &str| {
        lines(name)?
            .iter()
            .map(|line| hex::decode(line).ok())
            .collect::<Option<Vec<_>>>()
    };
    Some(Credential {
        key: bytes("key")?,
        chain: list("chain").filter(|c| !c.is_empty())?,
        roots: list("roots").filter(|c| !c.is_empty())?,
        endpoints: lines("endpoints").unwrap_or_default(),
    })
}

fn to_data(kept: &Kept) -> Data {
    let mut data = Data::new();
    if let Some(proven) = &kept.proven {
        put(&mut data, "proven", proven);
    }
    if let Some(candidate) = &kept.candidate {
        put(&mut data, "candidate", candidate);
    }
    if let Some(pending) = &kept.pending {
        data.insert("pending.key".into(), ByteString(pending.key.clone()));
        data.insert("pending.csr".into(), ByteString(pending.csr.clone()));
    }
    if let Some(pinned) = &kept.pinned {
        data.insert("pinned".into(), ByteString(pinned.clone()));
    }
    if let Some(joined) = &kept.joined {
        data.insert("joined".into(), ByteString(joined.clone().into_bytes()));
    }
    data
}

fn from_data(data: &Data) -> Kept {
    let bytes = |name: &str| data.get(name).map(|b| b.0.clone());
    Kept {
        proven: get(data, "proven"),
        candidate: get(data, "candidate"),
        pending: bytes("pending.key")
            .zip(bytes("pending.csr"))
            .map(|(key, csr)| Pending { key, csr }),
        pinned: bytes("pinned"),
        joined: bytes("joined").and_then(|joined| String::from_utf8(joined).ok()),
    }
}

impl Vault for SecretVault {
    fn load(&self) -> BoxFuture<'_, anyhow::Result<Kept>> {
        async {
            let found = call::get_opt(&self.api, NAME).await?;
            Ok(found
                .and_then(|secret| secret.data)
                .map(|data| from_data(&data))
                .unwrap_or_default())
        }
        .boxed()
    }

    fn save<'a>(&'a self, kept: &'a Kept) -> BoxFuture<'a, anyhow::Result<()>> {
        async {
            let wanted = Secret {
                metadata: kube::core::ObjectMeta {
                    name: Some(NAME.to_owned()),
                    labels: Some([(label::MANAGED_BY.to_owned(), label::AGENT.to_owned())].into()),
                    ..kube::core::ObjectMeta::default()
                },
                data: Some(to_data(kept)),
                type_: Some("upm.syntropycloud.io/agent-identity".into()),
                ..Secret::default()
            };
            // What an apply does not name any more is removed: a used candidate goes.
            let params = PatchParams::apply(label::AGENT).force();
            call::within(
                "keep the agent's identity",
                self.api.patch(NAME, &params, &Patch::Apply(&wanted)),
            )
            .await?;
            Ok(())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_survives_the_secret() {
        let authority = mesh::Authority::create().unwrap();
        let pending = fresh().unwrap();
        let id = mesh::SpiffeId::agent("c1").unwrap();
        let chain = authority
            .issue_csr(&pending.csr, &id, Duration::from_secs(600))
            .unwrap();
        let credential = Credential {
            key: pending.key.clone(),
            chain: chain.iter().map(|c| c.to_vec()).collect(),
            roots: authority
                .certificates()
                .iter()
                .map(|c| c.to_vec())
                .collect(),
            endpoints: vec!["hub:1".into()],
        };
        assert_eq!(credential.agent_id().as_deref(), Some("c1"));
        assert!(!credential.has_ended(SystemTime::now()));
        assert!(credential.has_ended(SystemTime::now() + Duration::from_secs(700)));
        credential.identity().unwrap();
        let kept = Kept {
            candidate: Some(credential.clone()),
            proven: Some(credential),
            pending: Some(pending),
            pinned: Some(vec![1, 2]),
            joined: Some("00".into()),
        };
        assert!(from_data(&to_data(&kept)) == kept);
        assert!(!format!("{kept:?}").contains("key"));
    }
}
