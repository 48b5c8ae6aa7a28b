//! What can go wrong in the operation log.

use upm_mesh::{Classify, Details, Kind};
use upm_store as store;

/// Errors of this module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No entry has this id.
    #[error("operation log entry {0} does not exist")]
    NoEntry(String),
    /// A module appends what another one did.
    #[error("module {module} appends no entries of module {of}")]
    NotOwn {
        /// Who called.
        module: String,
        /// Whose entry it is.
        of: String,
    },
    /// A field of the request is wrong.
    #[error("{field}: {description}")]
    Invalid {
        /// Path of the field.
        field: &'static str,
        /// What is allowed.
        description: String,
    },
    /// The file with the key that signs heads cannot be used.
    #[error("key of the operation log: {0}")]
    Key(String),
    /// Another writer extended the chain at the same moment.
    #[error("extend the chain")]
    HeadMoved,
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A query failed.
    #[error("query the operation log")]
    Query(#[from] diesel::result::Error),
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NoEntry(_) => Kind::NotFound,
            Self::NotOwn { .. } => Kind::PermissionDenied,
            Self::Invalid { .. } => Kind::InvalidArgument,
            Self::HeadMoved => Kind::Unavailable,
            Self::Store(error) => error.kind(),
            Self::Key(_) | Self::Query(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NoEntry(_) => "ENTRY_NOT_FOUND",
            Self::NotOwn { .. } => "ENTRY_OF_OTHER_MODULE",
            Self::Invalid { .. } => "INVALID_FIELD",
            Self::HeadMoved => "CHAIN_CONTENDED",
            Self::Key(_) => "KEY_FILE",
            Self::Store(error) => error.reason(),
            Self::Query(_) => "QUERY_FAILED",
        }
    }

    fn details(&self) -> Details {
        match self {
            Self::Invalid { field, description } => Details::field(*field, description.clone()),
            Self::Store(error) => error.details(),
            Self::NoEntry(_)
            | Self::NotOwn { .. }
            | Self::HeadMoved
            | Self::Key(_)
            | Self::Query(_) => Details::default(),
        }
    }
}

upm_mesh::status_from!(Error, "operatorlog.upm");
