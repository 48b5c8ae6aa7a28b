//! The certificate of the port: read at the start, and again when its files have changed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::Error;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(10);

/// A certificate chain and its key, in files that somebody may replace.
pub(super) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    now: RwLock<Read>,
}

struct Read {
    acceptor: TlsAcceptor,
    /// What the files held: chain, key.
    bytes: (Vec<u8>, Vec<u8>),
}

impl Certificate {
    /// Reads both files (PEM).
    ///
    /// # Errors
    /// When they cannot be read, or do not belong together.
    pub(super) fn open(chain: &Path, key: &Path) -> Result<Self, Error> {
        let bytes = (bytes_of(chain)?, bytes_of(key)?);
        Ok(Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
            now: RwLock::new(Read {
                acceptor: acceptor(chain, key, &bytes)?,
                bytes,
            }),
        })
    }

    /// What the next connection is accepted with.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        now.acceptor.clone()
    }

    /// Looks at the files; `true` when they have another certificate, which is used from now on.
    ///
    /// # Errors
    /// When what they hold cannot be used (they may be in the middle of a change): the certificate of before stays.
    pub(super) fn look(&self) -> Result<bool, Error> {
        let bytes = (bytes_of(&self.chain)?, bytes_of(&self.key)?);
        let is_same = {
            let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
            now.bytes == bytes
        };
        if is_same {
            return Ok(false);
        }
        let acceptor = acceptor(&self.chain, &self.key, &bytes)?;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Read { acceptor, bytes };
        Ok(true)
    }

    /// Looks again and again; it ends when it is dropped.
    pub(super) async fn follow(&self) {
        let mut said = String::new();
        loop {
            tokio::time::sleep(LOOK).await;
            match self.look() {
                Ok(true) => {
                    said.clear();
                    tracing::info!("The certificate of the port was read again");
                }
                Ok(false) => said.clear(),
                Err(error) => {
                    // Once for each problem: it is looked at every few seconds.
                    let problem = error.to_string();
                    if problem != said {
                        tracing::warn!(%error, "The certificate of before stays in use");
                        said = problem;
                    }
                }
            }
        }
    }
}

fn failed(path: &Path, problem: impl ToString) -> Error {
    Error::Tls {
        path: path.to_owned(),
        problem: problem.to_string(),
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| failed(path, error))
}

fn acceptor(chain: &Path, key: &Path, bytes: &(Vec<u8>, Vec<u8>)) -> Result<TlsAcceptor, Error> {
    let certificates = CertificateDer::pem_slice_iter(&bytes.0)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed(chain, error))?;
    let private = PrivateKeyDer::from_pem_slice(&bytes.1).map_err(|error| failed(key, error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(certificates, private)
        })
        .map_err(|error| failed(chain, error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use tokio_rustls::{
        TlsConnector,
        rustls::{ClientConfig, RootCertStore, pki_types::ServerName},
    };

    use super::*;

    type Made = rcgen::CertifiedKey<rcgen::KeyPair>;

    fn made() -> Made {
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap()
    }

    /// What a client sees that trusts only this certificate.
    async fn is_shown(certificate: &Certificate, to: &Made) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(to.cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let (answer, _) = tokio::join!(
            connector.connect(name, theirs),
            certificate.acceptor().accept(ours)
        );
        answer.is_ok()
    }

    #[tokio::test]
    async fn a_replaced_certificate_is_shown_to_who_comes_next() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let (old, new) = (made(), made());
        fs::write(&chain, old.cert.pem()).unwrap();
        fs::write(&key, old.signing_key.serialize_pem()).unwrap();
        let certificate = Certificate::open(&chain, &key).unwrap();
        assert!(is_shown(&certificate, &old).await);
        assert!(!certificate.look().unwrap());

        // Half of a change: the key is not yet the certificate's.
        fs::write(&chain, new.cert.pem()).unwrap();
        assert!(certificate.look().is_err());
        assert!(is_shown(&certificate, &old).await);

        fs::write(&key, new.signing_key.serialize_pem()).unwrap();
        assert!(certificate.look().unwrap());
        assert!(is_shown(&certificate, &new).await);
        assert!(!is_shown(&certificate, &old).await);

        // Files that are gone leave what is there.
        fs::remove_file(&chain).unwrap();
        assert!(certificate.look().is_err());
        assert!(is_shown(&certificate, &new).await);
    }
}
