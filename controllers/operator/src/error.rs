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

    /// What the API server, or an admission policy or webhook behind it, refused, in its words. `None` for what helps itself by trying
    /// again: conflicts, what is not there (yet), and a server that does not answer. The words about a Secret are not passed on.
    pub fn refusal(&self) -> Option<String> {
        let what = match self {
            Self::Kube { what, .. } => what,
            Self::Refused(why) => return Some(why.clone()),
            Self::Deadline { .. } | Self::Conflict { .. } | Self::Cancelled | Self::Other(_) => {
                return None;
            }
        };
        let status = self.status()?;
        let refused = (400..500).contains(&status.code) && !matches!(status.code, 404 | 409 | 429);
        refused.then(|| {
            if what.split(' ').any(|word| word == "Secret") {
                self.public()
            } else {
                format!("{what}: {}", status.message)
            }
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(what: &str, code: u16) -> Error {
        let status: kube::core::Status = serde_json::from_value(serde_json::json!({
            "kind": "Status", "status": "Failure", "code": code, "reason": "Forbidden",
            "message": "policy p denied: no pods for you",
        }))
        .unwrap();
        Error::kube(what, kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn refusals_are_passed_on_in_the_servers_words() {
        for code in [400, 403, 422] {
            assert_eq!(
                answered("create Pod demo-0", code).refusal().unwrap(),
                "create Pod demo-0: policy p denied: no pods for you"
            );
        }
        let private = answered("apply Secret demo", 403).refusal().unwrap();
        assert!(!private.contains("for you"), "{private}");
        assert_eq!(Error::Refused("no".into()).refusal().unwrap(), "no");
    }

    #[test]
    fn what_helps_itself_is_no_refusal() {
        for code in [404, 409, 429, 500, 503] {
            assert_eq!(
                answered("create Pod demo-0", code).refusal(),
                None,
                "{code}"
            );
        }
        assert_eq!(Error::Cancelled.refusal(), None);
    }
}
