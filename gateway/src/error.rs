//! Why the gateway does not start or stops.

use std::path::PathBuf;

/// Errors of the gateway itself; what a request meets is a [`crate::refusal::Refusal`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The descriptors do not make tables.
    #[error("compile the descriptors")]
    Descriptors(#[from] upm_transcode::LoadError),
    /// No descriptor has this service.
    #[error("the descriptors have no service {0}")]
    UnknownService(String),
    /// A file cannot be read or written.
    #[error("use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Certificate or key cannot be used.
    #[error("read {path}: {problem}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The keys for tokens cannot be used.
    #[error("keys for tokens: {0}")]
    Keys(String),
    /// An upstream is not written as `package.Service=http://host:port`.
    #[error("upstream {text:?}: {problem}")]
    Upstream {
        /// As it was given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The reflection service cannot be built, or an upstream's cannot be used.
    #[error("reflection: {0}")]
    Reflection(String),
    /// The listener failed.
    #[error("accept connections")]
    Accept(#[from] std::io::Error),
    /// A worker ended before its time.
    #[error("a worker failed: {0}")]
    Worker(String),
}
