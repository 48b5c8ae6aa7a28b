//! What can go wrong in the store, and what the caller is told.

use std::time::Duration;

use upm_mesh::{Classify, Details, FieldViolation, Kind};

/// An error of the store. Reasons: `STORE_FAILED`, `STORE_UNAVAILABLE`, `STORE_BUSY`, `STORE_CONTENDED`, `INVALID_FIELD`, `PAGE_TOKEN_INVALID`,
/// `FILTER_INVALID`, `STALE_ETAG`, `REQUEST_ID_REUSED`, `CACHE_UNAVAILABLE`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database refused a statement.
    #[error("run a statement")]
    Database(#[from] diesel::result::Error),
    /// The server cannot be reached or ended the connection.
    #[error("reach the database of module {module}: {cause}")]
    Unavailable {
        /// Module that owns the database.
        module: &'static str,
        /// What the driver said, without the address.
        cause: String,
    },
    /// No connection became free, or the work took too long.
    #[error("{op} waited longer than {} s for the database", limit.as_secs())]
    Busy {
        /// Name of the work.
        op: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// Other transactions were in the way each time the work was tried; nothing was committed.
    #[error("{op} lost against other transactions each time")]
    Contended {
        /// Name of the work.
        op: &'static str,
    },
    /// The work panicked; nothing was committed.
    #[error("{op} panicked")]
    Panicked {
        /// Name of the work.
        op: &'static str,
    },
    /// The address is neither `sqlite:<path>` nor `mysql://…`.
    #[error("store address: {0}")]
    Address(String),
    /// A migration did not run.
    #[error("migrate the database of module {module}: {cause}")]
    Migrate {
        /// Module that owns the database.
        module: &'static str,
        /// What went wrong.
        cause: String,
    },
    /// Stored bytes are not what was written.
    #[error("read stored {what}")]
    Corrupt {
        /// What was read.
        what: &'static str,
    },
    /// A field of the request is wrong.
    #[error("{}: {}", .0.field, .0.description)]
    Field(FieldViolation),
    /// The page token was changed, or belongs to another query.
    #[error("page_token is not of this query")]
    PageToken,
    /// The filter cannot be read.
    #[error("filter: {0}")]
    Filter(String),
    /// The resource was changed since the caller read it.
    #[error("the resource was changed since it was read; read it again")]
    StaleEtag,
    /// The same `request_id` came with another request.
    #[error("request_id was used for another request")]
    RequestIdReused,
    /// The cache cannot be reached.
    #[error("reach the cache: {0}")]
    Cache(String),
}

impl Error {
    /// A violation of one request field; `field` is the proto path from the request's root.
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Field(FieldViolation {
            field: field.into(),
            description: description.into(),
        })
    }
}

impl From<FieldViolation> for Error {
    fn from(violation: FieldViolation) -> Self {
        Self::Field(violation)
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Database(_)
            | Self::Panicked { .. }
            | Self::Address(_)
            | Self::Migrate { .. }
            | Self::Corrupt { .. } => Kind::Internal,
            Self::Unavailable { .. } | Self::Busy { .. } | Self::Cache(_) => Kind::Unavailable,
            Self::Field(_) | Self::PageToken | Self::Filter(_) | Self::RequestIdReused => {
                Kind::InvalidArgument
            }
            Self::StaleEtag | Self::Contended { .. } => Kind::Aborted,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Database(_)
            | Self::Panicked { .. }
            | Self::Address(_)
            | Self::Migrate { .. }
            | Self::Corrupt { .. } => "STORE_FAILED",
            Self::Unavailable { .. } => "STORE_UNAVAILABLE",
            Self::Busy { .. } => "STORE_BUSY",
            Self::Contended { .. } => "STORE_CONTENDED",
            Self::Field(_) => "INVALID_FIELD",
            Self::PageToken => "PAGE_TOKEN_INVALID",
            Self::Filter(_) => "FILTER_INVALID",
            Self::StaleEtag => "STALE_ETAG",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::Cache(_) => "CACHE_UNAVAILABLE",
        }
    }

    fn details(&self) -> Details {
        let violation = |field: &str, description: String| FieldViolation {
            field: field.to_owned(),
            description,
        };
        let fields = match self {
            Self::Field(field) => vec![violation(&field.field, field.description.clone())],
            Self::PageToken => vec![violation("page_token", self.to_string())],
            Self::Filter(problem) => vec![violation("filter", problem.clone())],
            Self::RequestIdReused => vec![violation("request_id", self.to_string())],
            Self::Database(_)
            | Self::Unavailable { .. }
            | Self::Busy { .. }
            | Self::Contended { .. }
            | Self::Panicked { .. }
            | Self::Address(_)
            | Self::Migrate { .. }
            | Self::Corrupt { .. }
            | Self::StaleEtag
            | Self::Cache(_) => Vec::new(),
        };
        Details {
            fields,
            ..Details::default()
        }
    }
}
