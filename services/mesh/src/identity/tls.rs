//! TLS 1.3 configurations of an identity. They read the identity at each handshake, so replacing it needs no restart, and a root whose
//! time is over is trusted no more.

use std::{
    fmt, fs,
    path::Path,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption, WantsClientCert},
    crypto::{CryptoProvider, aws_lc_rs},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _};

use super::{
    Anchors, Error, Issued, SpiffeId, Tickets,
    anchors::living,
    authority::{ends, is_root, pin_of},
    verify::{Clients, Servers, Trust},
};

/// What a server asks of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// A certificate of the authority.
    Required,
    /// A certificate of the authority, or none: who has none has no identity.
    Optional,
    /// Nothing.
    None,
}

/// Key, certificate chain and roots of a process. Clones share them; [`Identity::replace`] acts on all.
#[derive(Clone)]
pub struct Identity(Arc<Shared>);

struct Shared {
    material: ArcSwap<Material>,
    /// Whose roots count, instead of those that came with the key.
    anchors: OnceLock<Anchors>,
}

struct Material {
    certified: Arc<CertifiedKey>,
    id: Option<SpiffeId>,
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    trust: Vec<CertificateDer<'static>>,
    /// When the first of several roots ends.
    until: Option<SystemTime>,
}

impl Identity {
    /// An identity of a key, its chain (leaf first) and the roots that peers are verified with. Errors: they do not fit together.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: &[CertificateDer<'static>],
    ) -> Result<Self, Error> {
        Ok(Self::of(Material::new(chain, key, roots)?))
    }

    fn of(material: Material) -> Self {
        Self(Arc::new(Shared {
            material: ArcSwap::from_pointee(material),
            anchors: OnceLock::new(),
        }))
    }

    /// An identity that an authority issued.
    pub fn issued(issued: Issued, roots: &[CertificateDer<'static>]) -> Result<Self, Error> {
        Self::new(issued.chain, issued.key, roots)
    }

    /// An identity of PEM texts.
    pub fn from_pem(chain: &str, key: &str, roots: &str) -> Result<Self, Error> {
        Ok(Self::of(Material::from_pem(
            chain.as_bytes(),
            key.as_bytes(),
            roots.as_bytes(),
        )?))
    }

    /// An identity of `tls.crt`, `tls.key` and `ca.crt` in a directory.
    pub fn from_directory(directory: &Path) -> Result<Self, Error> {
        Ok(Self::of(Material::from_directory(directory)?))
    }

    /// From now on peers are verified with these roots, whatever comes with the identity's files. The first call counts.
    pub fn trust(&self, anchors: Anchors) {
        self.0.anchors.get_or_init(|| anchors);
    }

    /// Reads the directory again. On errors the old identity stays.
    pub fn reload(&self, directory: &Path) -> Result<(), Error> {
        let material = Arc::new(Material::from_directory(directory)?);
        self.0.material.store(material);
        Ok(())
    }

    /// Replaces key, chain and roots; new handshakes use them. On errors the old ones stay.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: &[CertificateDer<'static>],
    ) -> Result<(), Error> {
        let material = Arc::new(Material::new(chain, key, roots)?);
        self.0.material.store(material);
        Ok(())
    }

    /// What holds now. TLS libraries take roots as they are given, whatever their ends: the root of an overlap is left out here.
    fn current(&self) -> Arc<Material> {
        let material = self.0.material.load_full();
        let now = SystemTime::now();
        let trust = match self.0.anchors.get() {
            Some(anchors) => anchors.trusted(now),
            None if material.until.is_none_or(|until| now < until) => return material,
            None => living(&material.trust, now).collect(),
        };
        if trust == material.trust {
            return material;
        }
        let changed = Material::trusting(material.certified.clone(), material.id.clone(), trust);
        let Ok(changed) = changed.map(Arc::new) else {
            return material;
        };
        // Who has replaced it meanwhile knows better.
        self.0.material.compare_and_swap(&material, changed.clone());
        changed
    }

    pub(super) fn clients(&self) -> Arc<dyn ClientCertVerifier> {
        self.current().clients.clone()
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        self.current().roots.clone()
    }

    /// How many roots are trusted now.
    pub fn trusts(&self) -> usize {
        self.current().trust.len()
    }

    /// SHA-256 of the public key (SPKI) of the root that signed this identity, hex; `None` when the chain does not hold its root.
    pub fn pin(&self) -> Option<String> {
        let material = self.0.material.load();
        let root = material
            .certified
            .cert
            .iter()
            .skip(1)
            .find(|c| is_root(c))?;
        pin_of(root).ok()
    }

    /// The leaf certificate, for example to see when it ends.
    pub fn leaf(&self) -> Option<CertificateDer<'static>> {
        self.0.material.load().certified.cert.first().cloned()
    }

    /// The SPIFFE id in the leaf.
    pub fn spiffe_id(&self) -> Option<SpiffeId> {
        self.0.material.load().id.clone()
    }

    /// For servers: TLS 1.3, HTTP/2, no resumption (a resumed session would not see a replaced or revoked certificate).
    pub fn server_config(&self, clients: ClientAuth) -> Arc<ServerConfig> {
        self.server_config_with(clients, None)
    }

    /// The same, with resumption if there are tickets: then who serves must call [`Identity::verify_resumed`].
    pub(crate) fn server_config_with(
        &self,
        clients: ClientAuth,
        tickets: Option<Arc<Tickets>>,
    ) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has the suites of TLS 1.3");
        let builder = match clients {
            ClientAuth::None => builder.with_no_client_auth(),
            ClientAuth::Required | ClientAuth::Optional => {
                builder.with_client_cert_verifier(Arc::new(Clients {
                    identity: self.clone(),
                    mandatory: clients == ClientAuth::Required,
                }))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(Resolver(self.clone())));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        if let Some(tickets) = tickets {
            config.ticketer = tickets;
            // A dial that fails half-way uses one up.
            config.send_tls13_tickets = 2;
        }
        Arc::new(config)
    }

    /// Verifies the certificates of a client that has resumed, as a full handshake does. Errors: they are not, or no more, good.
    pub(crate) fn verify_resumed(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let Some((leaf, rest)) = chain.split_first() else {
            return Ok(());
        };
        let clients = Clients {
            identity: self.clone(),
            mandatory: true,
        };
        clients.verify_client_cert(leaf, rest, now).map(|_| ())
    }

    /// For clients that talk to one peer again and again: a lost connection is resumed with a ticket. Each call has tickets of its own.
    pub fn resuming_client_config_for(&self, expected: SpiffeId) -> Arc<ClientConfig> {
        let builder = verifying(Trust::Identity(self.clone()), Some(expected));
        let mut config = builder.with_client_cert_resolver(Arc::new(Resolver(self.clone())));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::in_memory_sessions(2)
            .tls12_resumption(rustls::client::Tls12Resumption::Disabled);
        Arc::new(config)
    }

    /// For clients that talk to any module of the platform.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.client(None)
    }

    /// For clients that talk to one peer: its certificate must hold this id.
    pub fn client_config_for(&self, expected: SpiffeId) -> Arc<ClientConfig> {
        self.client(Some(expected))
    }

    fn client(&self, expected: Option<SpiffeId>) -> Arc<ClientConfig> {
        let builder = verifying(Trust::Identity(self.clone()), expected);
        finished(builder.with_client_cert_resolver(Arc::new(Resolver(self.clone()))))
    }
}

/// For a client that has no identity yet (an agent that enrols): it trusts the authority whose public key has this SHA-256 (hex), sends
/// no certificate, and expects the id.
pub fn pinned_client_config(pin: &str, expected: SpiffeId) -> Arc<ClientConfig> {
    let trust = Trust::Pin(pin.to_ascii_lowercase());
    finished(verifying(trust, Some(expected)).with_no_client_auth())
}

/// For a client whose certificate has ended: it trusts roots that it was told of earlier, sends no certificate, and expects the id.
///
/// # Errors
/// When no root can be used.
pub fn trusting_client_config(
    roots: &[CertificateDer<'static>],
    expected: SpiffeId,
) -> Result<Arc<ClientConfig>, Error> {
    let now = SystemTime::now();
    let left = living(roots, now).collect::<Vec<_>>();
    let trust = Trust::Roots(Arc::new(store(&left)?));
    Ok(finished(
        verifying(trust, Some(expected)).with_no_client_auth(),
    ))
}

fn verifying(
    trust: Trust,
    expected: Option<SpiffeId>,
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let verifier = Servers {
        trust,
        expected,
        provider: provider(),
    };
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has the suites of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The one provider of cryptography; nothing depends on a process-wide default.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

// === impl Material ===

impl Material {
    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: &[CertificateDer<'static>],
    ) -> Result<Self, Error> {
        let id = match chain.first() {
            Some(leaf) => SpiffeId::of_certificate(leaf)?,
            None => None,
        };
        let certified = Arc::new(CertifiedKey::from_der(chain, key, &provider())?);
        Self::trusting(certified, id, roots.to_vec())
    }

    fn trusting(
        certified: Arc<CertifiedKey>,
        id: Option<SpiffeId>,
        trust: Vec<CertificateDer<'static>>,
    ) -> Result<Self, Error> {
        let roots = Arc::new(store(&trust)?);
        let clients =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider()).build()?;
        // The only root there is stays: without it nobody could be told anything.
        let until = (trust.len() > 1)
            .then(|| trust.iter().filter_map(|root| ends(root).ok()).min())
            .flatten();
        Ok(Self {
            certified,
            id,
            roots,
            clients,
            trust,
            until,
        })
    }

    fn from_pem(chain: &[u8], key: &[u8], roots: &[u8]) -> Result<Self, Error> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>()?;
        let roots = CertificateDer::pem_slice_iter(roots).collect::<Result<Vec<_>, _>>()?;
        Self::new(chain, PrivateKeyDer::from_pem_slice(key)?, &roots)
    }

    fn from_directory(directory: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read(&path).map_err(Error::file(path))
        };
        Self::from_pem(&read("tls.crt")?, &read("tls.key")?, &read("ca.crt")?)
    }
}

pub(super) fn store(roots: &[CertificateDer<'_>]) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone().into_owned())?;
    }
    if store.is_empty() {
        return Err(Error::NoRoots);
    }
    Ok(store)
}

/// Gives the identity's certificate to handshakes on both sides.
#[derive(Debug)]
struct Resolver(Identity);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.0.material.load().certified.clone())
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.0.material.load().certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.spiffe_id()).finish()
    }
}
