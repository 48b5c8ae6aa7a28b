//! Who a process is on the mesh: SPIFFE ids, the built-in certificate authority, and identities that are replaced while in use.

mod anchors;
mod authority;
mod renewal;
mod rotation;
mod spiffe;
mod tickets;
mod tls;
mod verify;

pub use self::anchors::{Anchors, Signer, leads_to};
pub use self::authority::{Authority, Issued, ends, pin_of, serial_of};
pub use self::spiffe::SpiffeId;
pub use self::tickets::Tickets;
pub use self::tls::{ClientAuth, Identity, pinned_client_config, trusting_client_config};

use std::{path::PathBuf, sync::Arc};

use rustls_pki_types::CertificateDer;

/// Request extension: who is at the other end of the connection. Set by the server from the TLS session, or by the in-memory channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer(pub Option<SpiffeId>);

/// Request extension: the certificates of the other end, leaf first; absent without TLS or without a client certificate.
#[derive(Debug, Clone)]
pub struct PeerCertificates(pub Arc<Vec<CertificateDer<'static>>>);

/// What is wrong with an identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a SPIFFE id of this trust domain.
    #[error("`{0}` is no SPIFFE id of the trust domain upm")]
    SpiffeId(String),
    /// A certificate or request cannot be made or read.
    #[error("certificate")]
    Certificate(#[from] rcgen::Error),
    /// A certificate cannot be parsed.
    #[error("a certificate cannot be parsed")]
    Parse,
    /// A signing request that the authority refuses.
    #[error("the signing request is refused: {0}")]
    Request(&'static str),
    /// PEM without what it must hold.
    #[error("PEM")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// Key and certificate do not make a TLS identity.
    #[error("TLS")]
    Tls(#[from] rustls::Error),
    /// No root certificate.
    #[error("no usable root certificate")]
    NoRoots,
    /// The verifier of client certificates cannot be built.
    #[error("verifier of client certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// Files.
    #[error("{path}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// A rotation while the overlap of the last one runs.
    #[error("the overlap of the last rotation has not ended")]
    Overlap,
    /// A key file that others can read.
    #[error("{path} can be read by others; mode 0600 is needed", path = _0.display())]
    KeyExposed(PathBuf),
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

#[cfg(test)]
mod tests;
