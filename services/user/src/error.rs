//! What can go wrong with users.

use std::time::Duration;

use tonic::Status;
use upm_mesh::{Classify, Details, FieldViolation, Kind, describe, into_status};
use upm_store as store;

/// An error of module `user`. Reasons: `USER_NOT_FOUND`, `USER_EXISTS`, `USER_ID_RECENTLY_DELETED`, `OWN_USER`, `NOT_OWN_USER`, `LAST_ADMINISTRATOR`,
/// `BAD_CREDENTIALS`, `PASSWORD_THROTTLED`, `USERS_EXIST`, `INVALID_FIELD`, `PASSWORDS_BUSY`, and those of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such user.
    #[error("users/{0} does not exist")]
    NotFound(String),
    /// The id is taken.
    #[error("users/{0} exists")]
    Exists(String),
    /// Tokens of the user who had this id may still live.
    #[error("users/{id} was deleted less than 24 hours ago; its id is free later")]
    RecentlyDeleted {
        /// The id.
        id: String,
        /// When it is free.
        wait: Duration,
    },
    /// Nobody deletes or disables themselves.
    #[error("nobody does this to their own user")]
    OwnUser,
    /// Without this user nobody could administer the platform.
    #[error("{0} is the last administrator who may act")]
    LastAdministrator(String),
    /// The mesh refused; passed on as it is.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    /// It can only be done to oneself.
    #[error("only for the caller's own user")]
    NotOwnUser,
    /// Wrong password, unknown user, disabled user: the caller cannot tell.
    #[error("user or password is wrong")]
    BadCredentials,
    /// The first user was made before.
    #[error("users exist")]
    UsersExist,
    /// Fields of the request are wrong.
    #[error("{}", describe(.0))]
    Fields(Vec<FieldViolation>),
    /// Too many wrong old passwords.
    #[error("too many wrong passwords; wait")]
    Throttled,
    /// Too many passwords are being checked.
    #[error("too many passwords are being checked")]
    PasswordsBusy,
    /// The hash function failed.
    #[error("hash a password: {0}")]
    Hash(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<upm_store::QueryError> for Error {
    fn from(error: upm_store::QueryError) -> Self {
        Self::Store(error.into())
    }
}

impl From<FieldViolation> for Error {
    fn from(violation: FieldViolation) -> Self {
        Self::Fields(vec![violation])
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) => Kind::NotFound,
            Self::Exists(_) => Kind::AlreadyExists,
            Self::RecentlyDeleted { .. }
            | Self::OwnUser
            | Self::UsersExist
            | Self::LastAdministrator(_) => Kind::FailedPrecondition,
            Self::Refused(status) => Kind::of(status.code()).unwrap_or(Kind::Internal),
            Self::NotOwnUser => Kind::PermissionDenied,
            Self::BadCredentials => Kind::Unauthenticated,
            Self::Fields(_) => Kind::InvalidArgument,
            Self::PasswordsBusy | Self::Throttled => Kind::ResourceExhausted,
            Self::Hash(_) => Kind::Internal,
            Self::Store(error) => error.kind(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "USER_NOT_FOUND",
            Self::Exists(_) => "USER_EXISTS",
            Self::RecentlyDeleted { .. } => "USER_ID_RECENTLY_DELETED",
            Self::OwnUser => "OWN_USER",
            Self::LastAdministrator(_) => "LAST_ADMINISTRATOR",
            Self::Refused(_) => "REFUSED",
            Self::NotOwnUser => "NOT_OWN_USER",
            Self::BadCredentials => "BAD_CREDENTIALS",
            Self::UsersExist => "USERS_EXIST",
            Self::Fields(_) => "INVALID_FIELD",
            Self::PasswordsBusy => "PASSWORDS_BUSY",
            Self::Throttled => "PASSWORD_THROTTLED",
            Self::Hash(_) => "PASSWORD_HASH_FAILED",
            Self::Store(error) => error.reason(),
        }
    }

    fn details(&self) -> Details {
        match self {
            Self::Fields(fields) => Details {
                fields: fields.clone(),
                ..Details::default()
            },
            Self::RecentlyDeleted { wait, .. } => Details {
                retry_after: Some(*wait),
                ..Details::default()
            },
            Self::Throttled => Details {
                retry_after: Some(crate::users::GUESS_WINDOW),
                ..Details::default()
            },
            Self::PasswordsBusy => Details {
                retry_after: Some(Duration::from_secs(1)),
                ..Details::default()
            },
            Self::Store(error) => error.details(),
            Self::NotFound(_)
            | Self::Exists(_)
            | Self::OwnUser
            | Self::LastAdministrator(_)
            | Self::Refused(_)
            | Self::NotOwnUser
            | Self::BadCredentials
            | Self::UsersExist
            | Self::Hash(_) => Details::default(),
        }
    }
}

impl From<Status> for Error {
    fn from(refused: Status) -> Self {
        Self::Refused(Box::new(refused))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        if let Error::Refused(status) = error {
            return *status;
        }
        into_status(error, "user.upm")
    }
}
