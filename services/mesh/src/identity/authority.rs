//! The built-in certificate authority: P-256, one root that signs, short leaves. After a rotation the roots before it are trusted for a
//! while longer; `rotation` says how.

use std::{
    fmt, fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer,
    pem::PemObject as _,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use x509_parser::prelude::FromDer as _;

use super::{Anchors, Error, SpiffeId, Tickets, anchors::living};

/// The root lives this long.
pub(super) const ROOT_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
/// Certificates begin this much before now, because clocks differ.
const BACKDATE: Duration = Duration::from_mins(5);

/// A certificate authority with its key. What it signs with may be replaced while it is in use.
pub struct Authority {
    state: ArcSwap<State>,
    tickets: Arc<ArcSwap<[u8; 32]>>,
    anchors: Anchors,
    /// Counts replacements.
    replaced: watch::Sender<u64>,
}

/// What an authority signs with, and what came before.
pub(super) struct State {
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// The root of the key that signs.
    pub(super) root: CertificateDer<'static>,
    /// From earlier rotations: this root's key signed by the key before it, and the root before it, whose end is that of the overlap.
    pub(super) former: Vec<CertificateDer<'static>>,
}

/// A key with its certificate chain.
pub struct Issued {
    /// Leaf first, then the root, then what leads from an earlier root to it: all of that travels along so that a peer that knows only a
    /// pin, or only an earlier root, can verify the chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS #8.
    pub key: PrivateKeyDer<'static>,
    /// End of the leaf.
    pub not_after: SystemTime,
}

impl Authority {
    /// A new authority that is stored nowhere.
    pub fn create() -> Result<Self, Error> {
        Ok(Self::of(State::create()?))
    }

    /// The authority of PEM certificates and the PEM key of the first one; the others are of earlier rotations.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, Error> {
        Ok(Self::of(State::from_pem(certificates, key)?))
    }

    pub(super) fn of(state: State) -> Self {
        let secret = state.ticket_secret();
        Self {
            anchors: Anchors::of(state.certificates()),
            state: ArcSwap::from_pointee(state),
            tickets: Arc::new(ArcSwap::from_pointee(secret)),
            replaced: watch::Sender::new(0),
        }
    }

    pub(super) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Signs with another key from now on. Tickets that were sealed before are good no more.
    pub(super) fn replace(&self, state: State) {
        self.tickets.store(Arc::new(state.ticket_secret()));
        self.anchors.replace(state.certificates());
        self.state.store(Arc::new(state));
        self.replaced.send_modify(|count| *count += 1);
    }

    /// Changes with each rotation that this process has seen.
    pub fn replaced(&self) -> watch::Receiver<u64> {
        self.replaced.subscribe()
    }

    /// Makes a key and a certificate for it.
    pub fn issue(
        &self,
        id: &SpiffeId,
        dns_names: &[&str],
        lifetime: Duration,
    ) -> Result<Issued, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let state = self.state();
        let (leaf, not_after) = state.sign(&key, id, dns_names, lifetime)?;
        Ok(Issued {
            chain: state.chain(leaf),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            not_after,
        })
    }

    /// Signs the key of a request (PKCS #10, DER). Only its key counts: subject, names and extensions are the authority's.
    /// Answers the chain as in [`Issued`]. Errors: the request is malformed, not signed by its key, or has another key than P-256.
    pub fn issue_csr(
        &self,
        csr: &[u8],
        id: &SpiffeId,
        lifetime: Duration,
    ) -> Result<Vec<CertificateDer<'static>>, Error> {
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))?;
        if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
            return Err(Error::Request("its key must be of P-256"));
        }
        let state = self.state();
        let (leaf, _) = state.sign(&request.public_key, id, &[], lifetime)?;
        Ok(state.chain(leaf))
    }

    /// Tickets of servers that have this authority: a ticket of one is good for all, also after restarts. Their secret is derived from the
    /// authority's key; who has that can make certificates anyway.
    pub fn tickets(&self) -> Tickets {
        Tickets::of(self.tickets.clone())
    }

    /// SHA-256 of the public key (SPKI) of the root that signs, hex: what a join command carries.
    pub fn pin(&self) -> String {
        let state = self.state();
        hex::encode(Sha256::digest(state.issuer.key().subject_public_key_info()))
    }

    /// The root certificates that are trusted now: the one that signs first, then those of an overlap that has not ended.
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.anchors.trusted(SystemTime::now())
    }

    /// The same as they change, for who verifies with them.
    pub fn anchors(&self) -> Anchors {
        self.anchors.clone()
    }

    /// The root certificates as PEM.
    pub fn certificates_pem(&self) -> String {
        pem(&self.certificates())
    }
}

impl State {
    pub(super) fn create() -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = root_params(&name_of(&key));
        set_lifetime(&mut params, ROOT_LIFETIME);
        let root = params.self_signed(&key)?.der().clone();
        Self::assemble(root, Vec::new(), key)
    }

    pub(super) fn from_pem(certificates: &str, key: &str) -> Result<Self, Error> {
        let mut all = CertificateDer::pem_slice_iter(certificates.as_bytes())
            .collect::<Result<Vec<_>, _>>()?;
        if all.is_empty() {
            return Err(Error::NoRoots);
        }
        let root = all.remove(0);
        let key = KeyPair::from_pem(key)?;
        if spki(&root)? != key.subject_public_key_info() {
            return Err(Error::Request("the key does not belong to the certificate"));
        }
        Self::assemble(root, all, key)
    }

    pub(super) fn assemble(
        root: CertificateDer<'static>,
        former: Vec<CertificateDer<'static>>,
        key: KeyPair,
    ) -> Result<Self, Error> {
        let issuer = Issuer::from_ca_cert_der(&root, key)?;
        Ok(Self {
            issuer,
            root,
            former,
        })
    }

    /// Everything, as it is stored: the root that signs first.
    fn certificates(&self) -> Vec<CertificateDer<'static>> {
        std::iter::once(&self.root)
            .chain(&self.former)
            .cloned()
            .collect()
    }

    pub(super) fn certificates_pem(&self) -> String {
        pem(&self.certificates())
    }

    pub(super) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    fn chain(&self, leaf: CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        let mut chain = vec![leaf, self.root.clone()];
        // What has ended proves nothing to anybody.
        chain.extend(living(&self.former, SystemTime::now()));
        chain
    }

    fn ticket_secret(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(b"upm tls tickets of the authority ");
        digest.update(self.issuer.key().serialize_der());
        digest.finalize().into()
    }

    fn sign(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        dns_names: &[&str],
        lifetime: Duration,
    ) -> Result<(CertificateDer<'static>, SystemTime), Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("UPM");
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
        for name in dns_names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into()?),
            });
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        let not_after = set_lifetime(&mut params, lifetime);
        let leaf = params.signed_by(key, &self.issuer)?;
        Ok((leaf.der().clone(), not_after))
    }
}

impl Issued {
    /// The chain as PEM.
    pub fn chain_pem(&self) -> String {
        pem(&self.chain)
    }

    /// The key as PEM. It is a secret.
    pub fn key_pem(&self) -> String {
        block("PRIVATE KEY", self.key.secret_der())
    }

    /// Writes `tls.crt`, `tls.key` (mode 0600) and `ca.crt` into a directory; each file is replaced at once, the key first.
    pub fn write(&self, directory: &Path, roots: &[CertificateDer<'_>]) -> Result<(), Error> {
        fs::create_dir_all(directory).map_err(Error::file(directory))?;
        write_private(&directory.join("tls.key"), self.key_pem().as_bytes())?;
        write_replacing(
            &directory.join("tls.crt"),
            self.chain_pem().as_bytes(),
            0o644,
        )?;
        write_replacing(&directory.join("ca.crt"), pem(roots).as_bytes(), 0o644)
    }
}

/// A name for the authority of a key: chains are found by names, so no two authorities share one.
pub(super) fn name_of(key: &KeyPair) -> String {
    let mark = Sha256::digest(key.subject_public_key_info());
    format!("UPM authority {}", hex::encode(&mark[..4]))
}

/// What all certificates of authorities have in common. Those of their successors are below them, so paths have no limit.
pub(super) fn root_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    params
}

/// SHA-256 of a certificate's public key (SPKI), hex. Errors: it cannot be parsed.
pub fn pin_of(certificate: &CertificateDer<'_>) -> Result<String, Error> {
    Ok(hex::encode(Sha256::digest(spki(certificate)?)))
}

pub(super) fn parsed<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<x509_parser::certificate::X509Certificate<'a>, Error> {
    x509_parser::certificate::X509Certificate::from_der(certificate)
        .map(|(_, parsed)| parsed)
        .map_err(|_| Error::Parse)
}

fn spki(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, Error> {
    Ok(parsed(certificate)?
        .tbs_certificate
        .subject_pki
        .raw
        .to_vec())
}

/// The serial number of a certificate (DER), lower-case hex. Errors: it cannot be parsed.
pub fn serial_of(certificate: &[u8]) -> Result<String, Error> {
    let certificate = CertificateDer::from(certificate);
    Ok(hex::encode(parsed(&certificate)?.raw_serial()))
}

/// Whether a certificate is its own issuer's.
pub(super) fn is_root(certificate: &CertificateDer<'_>) -> bool {
    parsed(certificate).is_ok_and(|parsed| parsed.subject().as_raw() == parsed.issuer().as_raw())
}

/// When a certificate (DER) ends. Errors: it cannot be parsed.
pub fn ends(certificate: &CertificateDer<'_>) -> Result<SystemTime, Error> {
    let end = parsed(certificate)?.validity().not_after.timestamp();
    Ok(UNIX_EPOCH + Duration::from_secs(end.max(0) as u64))
}

fn named(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// 16 random bytes, positive.
fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] &= 0x7f;
    bytes[0] |= 0x40;
    SerialNumber::from_slice(&bytes)
}

pub(super) fn set_lifetime(params: &mut CertificateParams, lifetime: Duration) -> SystemTime {
    let now = SystemTime::now();
    let since_epoch = |time: SystemTime| {
        // Whole seconds: certificates have no fractions.
        Duration::from_secs(
            time.duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs(),
        )
    };
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let end = since_epoch(now + lifetime);
    params.not_before = epoch + since_epoch(now - BACKDATE);
    params.not_after = epoch + end;
    UNIX_EPOCH + end
}

/// PEM of certificates.
pub(super) fn pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates
        .iter()
        .map(|certificate| block("CERTIFICATE", certificate))
        .collect()
}

fn block(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|byte| char::from(*byte)));
        out.push('\n');
    }
    out + &format!("-----END {label}-----\n")
}

pub(super) fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    write_replacing(path, content, 0o600)
}

/// Writes a file beside and renames it, so that no reader sees half of it.
pub(super) fn write_replacing(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:08x}", rand::random::<u32>()));
    let beside = path.with_file_name(name);
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&beside);
        Error::file(path)(error)
    })
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("pin", &self.pin())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}
