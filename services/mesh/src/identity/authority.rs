//! The built-in certificate authority: P-256, one root, short leaves.

use std::{
    fmt, fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

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
use x509_parser::prelude::FromDer as _;

use super::{Error, SpiffeId, Tickets};

/// The root lives this long.
const ROOT_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
/// Certificates begin this much before now, because clocks differ.
const BACKDATE: Duration = Duration::from_mins(5);

const CERTIFICATE_FILE: &str = "ca.crt";
const KEY_FILE: &str = "ca.key";

/// A certificate authority with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A key with its certificate chain.
pub struct Issued {
    /// Leaf first, root last: the root travels along so that a peer that knows only its pin can verify the chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS #8.
    pub key: PrivateKeyDer<'static>,
    /// End of the leaf.
    pub not_after: SystemTime,
}

impl Authority {
    /// Opens the authority in a directory, or makes one there. The key's file has mode 0600. Errors: files, or a key that others can read.
    pub fn open_or_create(directory: &Path) -> Result<Self, Error> {
        let (certificate, key) = (directory.join(CERTIFICATE_FILE), directory.join(KEY_FILE));
        if !key.exists() {
            fs::create_dir_all(directory).map_err(Error::file(directory))?;
            let made = Self::create()?;
            write_private(&key, made.issuer.key().serialize_pem().as_bytes())?;
            write_replacing(
                &certificate,
                pem(std::slice::from_ref(&made.certificate)).as_bytes(),
                0o644,
            )?;
            return Ok(made);
        }
        let mode = fs::metadata(&key)
            .map_err(Error::file(&key))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            return Err(Error::KeyExposed(key));
        }
        let certificate_pem =
            fs::read_to_string(&certificate).map_err(Error::file(&certificate))?;
        let key_pem = fs::read_to_string(&key).map_err(Error::file(&key))?;
        Self::from_pem(&certificate_pem, &key_pem)
    }

    /// A new authority that is stored nowhere.
    pub fn create() -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("UPM authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial());
        set_lifetime(&mut params, ROOT_LIFETIME);
        let certificate = params.self_signed(&key)?.der().clone();
        Self::assemble(certificate, key)
    }

    /// The authority of a PEM certificate and its PEM key.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())?;
        let key = KeyPair::from_pem(key)?;
        if spki(&certificate)? != key.subject_public_key_info() {
            return Err(Error::Request("the key does not belong to the certificate"));
        }
        Self::assemble(certificate, key)
    }

    fn assemble(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, Error> {
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self {
            issuer,
            certificate,
        })
    }

    /// Makes a key and a certificate for it.
    pub fn issue(
        &self,
        id: &SpiffeId,
        dns_names: &[&str],
        lifetime: Duration,
    ) -> Result<Issued, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let (leaf, not_after) = self.sign(&key, id, dns_names, lifetime)?;
        Ok(Issued {
            chain: vec![leaf, self.certificate.clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            not_after,
        })
    }

    /// Signs the key of a request (PKCS #10, DER). Only its key counts: subject, names and extensions are the authority's.
    /// Answers leaf and root. Errors: the request is malformed, not signed by its key, or has another key than P-256.
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
        let (leaf, _) = self.sign(&request.public_key, id, &[], lifetime)?;
        Ok(vec![leaf, self.certificate.clone()])
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

    /// Tickets of servers that have this authority: a ticket of one is good for all, also after restarts. Their secret is derived from the
    /// authority's key; who has that can make certificates anyway.
    pub fn tickets(&self) -> Tickets {
        let mut digest = Sha256::new();
        digest.update(b"upm tls tickets of the authority ");
        digest.update(self.issuer.key().serialize_der());
        Tickets::of(digest.finalize().into())
    }

    /// SHA-256 of the root's public key (SPKI), hex: what a join command carries.
    pub fn pin(&self) -> String {
        hex::encode(Sha256::digest(self.issuer.key().subject_public_key_info()))
    }

    /// The root certificates.
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    /// The root certificates as PEM.
    pub fn certificates_pem(&self) -> String {
        pem(&self.certificates())
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

/// SHA-256 of a certificate's public key (SPKI), hex.
pub(super) fn pin_of(certificate: &CertificateDer<'_>) -> Result<String, Error> {
    Ok(hex::encode(Sha256::digest(spki(certificate)?)))
}

fn spki(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, Error> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
        .map_err(|_| Error::Parse)?;
    Ok(parsed.tbs_certificate.subject_pki.raw.to_vec())
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

fn set_lifetime(params: &mut CertificateParams, lifetime: Duration) -> SystemTime {
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

fn write_private(path: &Path, content: &[u8]) -> Result<(), Error> {
    write_replacing(path, content, 0o600)
}

/// Writes a file beside and renames it, so that no reader sees half of it.
fn write_replacing(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
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
