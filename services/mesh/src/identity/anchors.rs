//! The roots that peers are verified with, as they change: those of an authority, or of its certificate file.

use std::{fmt, fs, path::Path, sync::Arc, time::SystemTime};

use arc_swap::ArcSwap;
use rustls::{RootCertStore, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};

use super::{
    Error,
    authority::{ends, is_root, pin_of},
    tls::{provider, store},
};

/// Certificates of an authority: the root that signs, then what is of earlier rotations. Clones share them.
#[derive(Clone)]
pub struct Anchors(Arc<ArcSwap<Vec<CertificateDer<'static>>>>);

/// Who has signed a certificate, as far as its signature shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// The key of a root that is trusted now; its pin.
    Root(String),
    /// Somebody that a trusted root leads to.
    Below,
    /// Nobody who is trusted now.
    Nobody,
}

impl Anchors {
    pub(super) fn of(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(certificates)))
    }

    pub(super) fn replace(&self, certificates: Vec<CertificateDer<'static>>) {
        self.0.store(Arc::new(certificates));
    }

    /// The certificates of a PEM file, for example `ca.crt` of the authority's folder. Errors: it cannot be read, or has no root.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        Ok(Self::of(read(path)?))
    }

    /// Reads the file again. Errors: as above, and what was read before stays.
    pub fn reload(&self, path: &Path) -> Result<(), Error> {
        self.replace(read(path)?);
        Ok(())
    }

    /// The roots that are trusted at a moment: the first one, and those of an overlap that has not ended.
    pub fn trusted(&self, now: SystemTime) -> Vec<CertificateDer<'static>> {
        let all = self.0.load();
        let Some((root, former)) = all.split_first() else {
            return Vec::new();
        };
        std::iter::once(root.clone())
            .chain(living(former, now).filter(is_root))
            .collect()
    }

    /// Who has signed the first certificate of a chain. What names say is not believed: who has a former key can make certificates below
    /// it with any name.
    pub fn signer(&self, chain: &[CertificateDer<'_>]) -> Signer {
        let Some(leaf) = chain.first() else {
            return Signer::Nobody;
        };
        let trusted = self.trusted(SystemTime::now());
        let alone = std::slice::from_ref(leaf);
        let signs = |root: &&CertificateDer<'static>| leads_to(alone, std::slice::from_ref(*root));
        match trusted.iter().find(signs).map(pin_of) {
            Some(Ok(pin)) => Signer::Root(pin),
            _ if leads_to(chain, &trusted) => Signer::Below,
            _ => Signer::Nobody,
        }
    }

    /// The pin of the root that has been trusted for the longest.
    pub fn oldest(&self) -> Option<String> {
        pin_of(self.trusted(SystemTime::now()).last()?).ok()
    }
}

/// Whether a chain (leaf first) leads to one of these roots, and its leaf is good for a client now.
pub fn leads_to(chain: &[CertificateDer<'_>], roots: &[CertificateDer<'_>]) -> bool {
    let (Some((leaf, rest)), Ok(roots)) = (chain.split_first(), store(roots)) else {
        return false;
    };
    verifies(leaf, rest, roots)
}

fn verifies(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], roots: RootCertStore) -> bool {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .is_ok_and(|verifier| {
            verifier
                .verify_client_cert(leaf, rest, UnixTime::now())
                .is_ok()
        })
}

/// Those that have not ended.
pub(super) fn living(
    certificates: &[CertificateDer<'static>],
    now: SystemTime,
) -> impl Iterator<Item = CertificateDer<'static>> {
    certificates
        .iter()
        .filter(move |certificate| ends(certificate).is_ok_and(|end| now < end))
        .cloned()
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = fs::read(path).map_err(Error::file(path))?;
    let read = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>()?;
    // What cannot be a root shall not be noticed at the first handshake.
    store(&read)?;
    Ok(read)
}

impl fmt::Debug for Anchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Anchors")
            .field(&self.0.load().len())
            .finish()
    }
}
