//! The cluster's own CA: identities of unit agents and of the controllers that call them.
//!
//! The Secret `upm-cluster-ca` holds the CA that signs (`tls.crt`, `tls.key`) and all that are trusted (`ca.crt`). [`rotation`] says how one
//! CA follows another.

pub mod rotation;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Api, Client};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use upm_crds::names;

use crate::{Error, call};

/// Keys of a Secret with a certificate.
pub const CERTIFICATE: &str = "tls.crt";
/// Key of the private key.
pub const PRIVATE_KEY: &str = "tls.key";
/// Key of the CA's certificate.
pub const CA_CERTIFICATE: &str = "ca.crt";

const CA_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
/// Certificates begin so far in the past, for clocks that are behind: a clock that nobody sets is off by minutes.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

/// The CA of one cluster. Cheap to clone; all clones change together.
#[derive(Clone)]
pub struct ClusterAuthority {
    current: Arc<RwLock<Current>>,
}

/// What the Secret says.
#[derive(Clone)]
struct Current {
    issuer: Arc<Issuer<'static, KeyPair>>,
    trusted_pem: Arc<str>,
}

impl fmt::Debug for ClusterAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterAuthority")
    }
}

/// A certificate with its key. The key is not in `Debug`.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key (PKCS #8).
    pub key_pem: String,
    /// Certificates of the CAs that are trusted.
    pub ca_pem: String,
    /// Begin of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Issued {
    /// The data of a Secret: `tls.crt`, `tls.key`, `ca.crt`.
    pub fn secret_data(&self) -> BTreeMap<String, ByteString> {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        BTreeMap::from([
            (CERTIFICATE.to_owned(), bytes(&self.certificate_pem)),
            (PRIVATE_KEY.to_owned(), bytes(&self.key_pem)),
            (CA_CERTIFICATE.to_owned(), bytes(&self.ca_pem)),
        ])
    }
}

impl ClusterAuthority {
    /// Reads the CA of the cluster; makes it when there is none. One that cannot be used is never replaced.
    ///
    /// # Errors
    /// [`Error::Refused`] when the Secret is there but unusable.
    pub async fn open(client: Client, system_namespace: &str) -> Result<Self, Error> {
        let api: Api<Secret> = Api::namespaced(client, system_namespace);
        if let Some(found) = call::get_opt(&api, names::CLUSTER_CA).await? {
            return Self::read(&found);
        }
        let (_, secret) = Self::generate(Timestamp::now(), system_namespace)?;
        match call::create(&api, &secret).await? {
            Some(made) => Self::read(&made),
            // another process was faster
            None => Self::read(&call::get(&api, names::CLUSTER_CA).await?),
        }
    }

    /// A new CA, and the Secret that keeps it.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate(now: Timestamp, namespace: &str) -> Result<(Self, Secret), Error> {
        let (certificate, key) = new_authority(now)?;
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(names::CLUSTER_CA.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(BTreeMap::from([(
                    "app.kubernetes.io/part-of".to_owned(),
                    "upm".to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(BTreeMap::from([
                (CERTIFICATE.to_owned(), bytes(&certificate)),
                (CA_CERTIFICATE.to_owned(), bytes(&certificate)),
                (PRIVATE_KEY.to_owned(), bytes(&key)),
            ])),
            ..Secret::default()
        };
        Ok((Self::read(&secret)?, secret))
    }

    /// The CA that a Secret keeps.
    ///
    /// # Errors
    /// [`Error::Refused`] when the Secret holds no usable CA.
    pub fn read(secret: &Secret) -> Result<Self, Error> {
        Ok(Self {
            current: Arc::new(RwLock::new(Current::read(secret)?)),
        })
    }

    /// Certificates of the CAs that are trusted, PEM: the one that signs, the one before it, and the one that will be next.
    pub fn trusted_pem(&self) -> Arc<str> {
        self.current().trusted_pem
    }

    fn current(&self) -> Current {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads the Secret again; what is there is used from now on.
    ///
    /// # Errors
    /// When it cannot be read or used; then the one before stays in use.
    pub async fn refresh(&self, client: &Client, system_namespace: &str) -> Result<Secret, Error> {
        let api: Api<Secret> = Api::namespaced(client.clone(), system_namespace);
        let secret = call::get(&api, names::CLUSTER_CA).await?;
        let read = Current::read(&secret)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(secret)
    }

    /// A certificate for a SPIFFE id and DNS names, for both ends of TLS.
    ///
    /// # Errors
    /// When a name is not one, or the system has no randomness.
    pub fn issue(&self, spiffe: &str, dns: &[String], lifetime: Duration) -> Result<Issued, Error> {
        self.issue_at(spiffe, dns, lifetime, Timestamp::now())
    }

    fn issue_at(
        &self,
        spiffe: &str,
        dns: &[String],
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Issued, Error> {
        let current = self.current();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(anyhow::Error::from)?;
        let name = |text: &str| {
            Ia5String::try_from(text)
                .map_err(|_| Error::Refused(format!("{text} cannot be put into a certificate")))
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(name(spiffe)?)];
        for host in dns {
            params.subject_alt_names.push(SanType::DnsName(name(host)?));
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.serial_number = Some(SerialNumber::from(rand::random::<[u8; 16]>().to_vec()));
        let not_before = now - SKEW;
        let not_after = now + SignedDuration::try_from(lifetime).map_err(anyhow::Error::from)?;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + since_epoch(not_before)?;
        params.not_after = epoch + since_epoch(not_after)?;
        let certificate = params
            .signed_by(&key, current.issuer.as_ref())
            .map_err(anyhow::Error::from)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            ca_pem: current.trusted_pem.to_string(),
            not_before,
            not_after,
        })
    }
}

impl Current {
    fn read(secret: &Secret) -> Result<Self, Error> {
        let certificate_pem = text(secret, CERTIFICATE)?;
        let key = KeyPair::from_pem(&text(secret, PRIVATE_KEY)?)
            .map_err(|_| refused("the private key cannot be read"))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)
            .map_err(|_| refused("the certificate cannot be read"))?;
        // the one that signs must be trusted, whatever somebody wrote
        let trusted = text(secret, CA_CERTIFICATE).unwrap_or_default();
        let trusted = if trusted.contains(certificate_pem.trim()) {
            trusted
        } else {
            certificate_pem
        };
        Ok(Self {
            issuer: Arc::new(issuer),
            trusted_pem: trusted.into(),
        })
    }
}

fn refused(what: &str) -> Error {
    Error::Refused(format!(
        "Secret {} holds no usable CA: {what}",
        names::CLUSTER_CA
    ))
}

fn text(secret: &Secret, key: &str) -> Result<String, Error> {
    let bytes = secret
        .data
        .as_ref()
        .and_then(|data| data.get(key))
        .ok_or_else(|| refused("a key is missing"))?;
    String::from_utf8(bytes.0.clone()).map_err(|_| refused("it is not PEM"))
}

/// Certificate and key of a new CA, PEM.
fn new_authority(now: Timestamp) -> Result<(String, String), Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(anyhow::Error::from)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "UPM cluster CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(now - SKEW)?;
    params.not_after = epoch + since_epoch(now)? + CA_LIFETIME;
    let certificate = params.self_signed(&key).map_err(anyhow::Error::from)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Seconds since 1970, for `rcgen`'s own type of time.
fn since_epoch(moment: Timestamp) -> Result<Duration, Error> {
    Ok(Duration::from_secs(
        u64::try_from(moment.as_second()).map_err(anyhow::Error::from)?,
    ))
}

#[cfg(test)]
mod tests;
