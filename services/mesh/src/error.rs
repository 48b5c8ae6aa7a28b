//! The one error model: a crate's typed error says its kind, its reason and its details; this is the only place that makes a
//! gRPC status of it.

use std::{collections::BTreeMap, time::Duration};

use tonic::Code;

use crate::status;

/// What kind of failure it is; decides the gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request can never succeed as it is.
    InvalidArgument,
    /// What the request names does not exist.
    NotFound,
    /// What the request creates exists.
    AlreadyExists,
    /// The caller is known and may not do it.
    PermissionDenied,
    /// The caller is not known.
    Unauthenticated,
    /// It can succeed once named facts change.
    FailedPrecondition,
    /// It lost against a concurrent change; read again and repeat.
    Aborted,
    /// A limit was hit.
    ResourceExhausted,
    /// Something that is needed is away for the moment.
    Unavailable,
    /// The time was over.
    DeadlineExceeded,
    /// The caller gave up.
    Cancelled,
    /// This server does not have the method.
    Unimplemented,
    /// Stored data is damaged.
    DataLoss,
    /// A fault of the program; its cause is logged and not shown.
    Internal,
}

impl Kind {
    /// The gRPC code of the kind.
    pub const fn code(self) -> Code {
        match self {
            Self::InvalidArgument => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::AlreadyExists => Code::AlreadyExists,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::FailedPrecondition => Code::FailedPrecondition,
            Self::Aborted => Code::Aborted,
            Self::ResourceExhausted => Code::ResourceExhausted,
            Self::Unavailable => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Cancelled => Code::Cancelled,
            Self::Unimplemented => Code::Unimplemented,
            Self::DataLoss => Code::DataLoss,
            Self::Internal => Code::Internal,
        }
    }

    /// The kind of a gRPC code; `None` for `OK`. `UNKNOWN` and `OUT_OF_RANGE`, which UPM never answers itself, become
    /// `Internal` and `InvalidArgument`.
    pub const fn of(code: Code) -> Option<Self> {
        Some(match code {
            Code::Ok => return None,
            Code::InvalidArgument | Code::OutOfRange => Self::InvalidArgument,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::FailedPrecondition => Self::FailedPrecondition,
            Code::Aborted => Self::Aborted,
            Code::ResourceExhausted => Self::ResourceExhausted,
            Code::Unavailable => Self::Unavailable,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::Cancelled => Self::Cancelled,
            Code::Unimplemented => Self::Unimplemented,
            Code::DataLoss => Self::DataLoss,
            Code::Internal | Code::Unknown => Self::Internal,
        })
    }
}

/// What a crate's error type says about itself.
pub trait Classify: std::error::Error + Send + Sync + 'static {
    /// Decides the gRPC code.
    fn kind(&self) -> Kind;

    /// UPPER_SNAKE, stable across versions; `ErrorInfo.reason`.
    fn reason(&self) -> &'static str;

    /// Typed details.
    fn details(&self) -> Details {
        Details::default()
    }
}

/// Typed details of an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Facts that belong to the reason; `ErrorInfo.metadata`.
    pub metadata: BTreeMap<String, String>,
    /// Wrong fields; `BadRequest`.
    pub fields: Vec<FieldViolation>,
    /// Unmet predicates; `PreconditionFailure`.
    pub preconditions: Vec<PreconditionViolation>,
    /// Limits that were hit; `QuotaFailure`.
    pub quota: Vec<QuotaViolation>,
    /// Earliest time to try again; `RetryInfo`.
    pub retry_after: Option<Duration>,
}

impl Details {
    /// Details with one fact.
    pub fn fact(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self::default().with_fact(name, value)
    }

    /// Adds a fact.
    #[must_use]
    pub fn with_fact(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Details with one wrong field.
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            fields: vec![FieldViolation {
                field: field.into(),
                description: description.into(),
            }],
            ..Self::default()
        }
    }
}

/// A wrong field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path from the request's root in proto names, for example `redis_service.spec.members`.
    pub field: String,
    /// What is wrong and what is allowed.
    pub description: String,
}

impl FieldViolation {
    /// A violation of the field at a path.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            description: description.into(),
        }
    }
}

/// Violations as one sentence each.
pub fn describe(fields: &[FieldViolation]) -> String {
    let each: Vec<String> = fields
        .iter()
        .map(|field| format!("{}: {}", field.field, field.description))
        .collect();
    each.join("; ")
}

/// An unmet predicate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreconditionViolation {
    /// The predicate, UPPER_SNAKE.
    pub kind: String,
    /// What it is about, a resource name.
    pub subject: String,
    /// Which fact would satisfy it.
    pub description: String,
}

/// A limit that was hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaViolation {
    /// Whose limit, for example `projects/demo`.
    pub subject: String,
    /// What the limit is and how it was exceeded.
    pub description: String,
}

/// Makes the status of an error. An `Internal` one is logged here, once, with its sources, and answered as `internal error`.
pub fn into_status<E: Classify>(error: E, domain: &'static str) -> tonic::Status {
    let (kind, reason) = (error.kind(), error.reason());
    if kind == Kind::Internal {
        tracing::error!(domain, reason, error = %Chain(&error), "internal error");
        return status::build(kind, domain, reason, "internal error", &Details::default());
    }
    status::build(kind, domain, reason, error.to_string(), &error.details())
}

/// Prints an error with its sources: for logs, never for callers.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Lets `?` turn a crate's error into a status: `mesh::status_from!(Error, "redis.upm");`.
#[macro_export]
macro_rules! status_from {
    ($error:ty, $domain:literal) => {
        impl From<$error> for $crate::Status {
            fn from(error: $error) -> Self {
                $crate::into_status(error, $domain)
            }
        }
    };
}

#[cfg(test)]
mod tests;
