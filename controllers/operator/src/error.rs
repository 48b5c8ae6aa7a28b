//! What can go wrong in a reconcile.

use std::time::Duration;

/// Why a reconcile, or a call inside it, did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be asked.
    #[error("{what}: {source}")]
    Kube {
        /// What was tried, e.g. `apply Service p1/demo-svc`.
        what: String,
        /// The API server's answer.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("{what}: no answer within {within:?}")]
    Deadline {
        /// What was tried.
        what: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// The object changed since it was read. Reading again helps.
    #[error("{what}: the object changed meanwhile")]
    Conflict {
        /// What was tried.
        what: String,
    },
    /// Something is not as it must be; a person, or another change, has to help.
    #[error("{0}")]
    Refused(String),
    /// The controller is stopping.
    #[error("the controller is stopping")]
    Cancelled,
    /// Anything else that a controller met.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Error {
    pub(crate) fn kube(what: &str, error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.is_conflict() => Self::Conflict {
                what: what.to_owned(),
            },
            _ => Self::Kube {
                what: what.to_owned(),
                source: Box::new(error),
            },
        }
    }

    /// Whether the API server says that the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_not_found)
    }

    /// Whether the API server says that the object is there already.
    pub fn is_already_exists(&self) -> bool {
        self.status()
            .is_some_and(kube::core::Status::is_already_exists)
    }

    /// Whether the object changed since it was read.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Kube { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::Deadline { .. }
            | Self::Conflict { .. }
            | Self::Refused(_)
            | Self::Cancelled
            | Self::Other(_) => None,
        }
    }

    /// What may be shown in events: what was tried and the kind of answer, never the server's text, which may quote values.
    pub fn public(&self) -> String {
        match self {
            Self::Kube { what, .. } => match self.status() {
                Some(status) => format!("{what}: {} ({})", status.reason, status.code),
                None => format!("{what}: the API server could not be asked"),
            },
            Self::Deadline { .. } | Self::Conflict { .. } | Self::Refused(_) | Self::Cancelled => {
                self.to_string()
            }
            Self::Other(_) => "an internal error; the log has the details".to_owned(),
        }
    }
}
