//! Who is let in and who is trusted: verifiers of both sides of a handshake.

use std::{fmt, sync::Arc};

use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Identity, SpiffeId, authority::pin_of, tls::store};

/// Verifies clients with the identity's current roots.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) identity: Identity,
    pub(super) mandatory: bool,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .identity
            .clients()
            .verify_client_cert(leaf, chain, now)?;
        // A certificate of ours that names nobody is no identity.
        match SpiffeId::of_certificate(leaf) {
            Ok(Some(_)) => Ok(verified),
            _ => Err(rustls::Error::General(
                "the client's certificate holds no SPIFFE id".into(),
            )),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.identity
            .clients()
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.identity
            .clients()
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.identity.clients().supported_verify_schemes()
    }
}

/// Where a client's trust comes from.
pub(super) enum Trust {
    Identity(Identity),
    Roots(Arc<RootCertStore>),
    /// SHA-256 of the root's SPKI, hex.
    Pin(String),
}

/// Verifies servers: the chain to a root, then the SPIFFE id instead of a DNS name.
pub(super) struct Servers {
    pub(super) trust: Trust,
    /// `None`: any module.
    pub(super) expected: Option<SpiffeId>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl Servers {
    fn roots(&self, chain: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, rustls::Error> {
        match &self.trust {
            Trust::Identity(identity) => Ok(identity.roots()),
            Trust::Roots(roots) => Ok(roots.clone()),
            Trust::Pin(pin) => {
                let pinned = chain
                    .iter()
                    .find(|certificate| pin_of(certificate).is_ok_and(|found| found == *pin))
                    .ok_or_else(|| {
                        rustls::Error::General(
                            "no certificate of the server has the pinned key".into(),
                        )
                    })?;
                store(std::slice::from_ref(pinned))
                    .map(Arc::new)
                    .map_err(|error| rustls::Error::General(error.to_string()))
            }
        }
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &*self.roots(chain)?,
            chain,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let id = SpiffeId::of_certificate(leaf).ok().flatten();
        let fits = match (&self.expected, &id) {
            (Some(expected), Some(id)) => expected == id,
            (None, Some(id)) => id.module_name().is_some(),
            (_, None) => false,
        };
        if fits {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(format!(
            "the server is {}, expected was {}",
            id.as_ref().map_or("nobody", SpiffeId::as_str),
            self.expected.as_ref().map_or("a module", SpiffeId::as_str),
        )))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}
