//! Mutual TLS: the unit's certificate, and who may call. Files are read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::extensions::GeneralName;

/// Callers are controllers of the same cluster.
const CALLERS: &str = "spiffe://upm/controller/";
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The files do not fit together.
    #[error("{0}")]
    Tls(String),
}

/// The files of an identity as they were read.
#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Vec<u8>,
}

impl Files {
    fn read(directory: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = directory.join(name);
            std::fs::read(&path).map_err(|error| Error::File {
                path,
                reason: error.to_string(),
            })
        };
        Ok(Self {
            certificate: read("tls.crt")?,
            key: read("tls.key")?,
            authority: read("ca.crt")?,
        })
    }

    fn config(&self) -> Result<ServerConfig, Error> {
        let tls = |error: &dyn std::fmt::Display| Error::Tls(error.to_string());
        let chain = |pem: &[u8]| {
            CertificateDer::pem_slice_iter(pem)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| tls(&error))
        };
        let mut roots = RootCertStore::empty();
        for certificate in chain(&self.authority)? {
            roots.add(certificate).map_err(|error| tls(&error))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let callers =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|error| tls(&error))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| tls(&error))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| tls(&error))?
            .with_client_cert_verifier(callers)
            .with_single_cert(chain(&self.certificate)?, key)
            .map_err(|error| tls(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// The unit's identity, always the one of the files.
pub struct Identity {
    directory: PathBuf,
    current: RwLock<(Files, Arc<ServerConfig>)>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads `tls.crt`, `tls.key`, `ca.crt`.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let files = Files::read(directory)?;
        let config = Arc::new(files.config()?);
        Ok(Self {
            directory: directory.to_owned(),
            current: RwLock::new((files, config)),
        })
    }

    fn config(&self) -> Arc<ServerConfig> {
        self.current
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .1
            .clone()
    }

    /// Reads the files again; returns whether they changed. Blocking.
    pub fn refresh(&self) -> Result<bool, Error> {
        let files = Files::read(&self.directory)?;
        let mut current = self
            .current
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if current.0 == files {
            return Ok(false);
        }
        let config = Arc::new(files.config()?);
        *current = (files, config);
        Ok(true)
    }

    /// Keeps the identity that of the files until dropped.
    pub async fn keep(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let identity = self.clone();
            match tokio::task::spawn_blocking(move || identity.refresh()).await {
                Ok(Ok(true)) => tracing::info!("the certificate was renewed"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the certificate cannot be read; the old one stays in use");
                }
                Err(error) => tracing::warn!(%error, "the certificate was not looked at"),
            }
        }
    }

    /// Accepts connections of controllers and passes them on, until the receiver is gone.
    pub async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        to: mpsc::Sender<TlsStream<TcpStream>>,
    ) {
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                () = to.closed() => return,
                Some(_) = handshakes.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => {
                        let (acceptor, to) = (TlsAcceptor::from(self.config()), to.clone());
                        handshakes.spawn(async move {
                            match tokio::time::timeout(HANDSHAKE, handshake(acceptor, stream)).await {
                                Ok(Ok(stream)) => { let _ = to.send(stream).await; }
                                Ok(Err(error)) => tracing::warn!(%from, error, "a caller was turned away"),
                                Err(_) => tracing::debug!(%from, "a caller did not finish its handshake"),
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no connection was accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, String> {
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let stream = acceptor
        .accept(stream)
        .await
        .map_err(|error| error.to_string())?;
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first);
    match certificate.map(|certificate| spiffe_ids(certificate)) {
        Some(ids) if ids.len() == 1 && ids[0].starts_with(CALLERS) => Ok(stream),
        Some(ids) => Err(format!("{ids:?} is not a controller")),
        None => Err("no certificate".to_owned()),
    }
}

/// The URIs of a certificate.
fn spiffe_ids(certificate: &[u8]) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return Vec::new();
    };
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
        .collect()
}
