//! What can go wrong.

use std::time::Duration;

use tonic::Status;
use upm_mesh::{
    Classify, Details, FieldViolation, Kind, PreconditionViolation, describe, into_status,
};
use upm_store as store;

/// An error of module `auth`. Reasons: `SETUP_TOKEN_INVALID`, `ALREADY_SET_UP`, `BAD_CREDENTIALS`, `LOGIN_THROTTLED`,
/// `REFRESH_TOKEN_INVALID`, `USERS_ONLY`, `ROLE_NOT_FOUND`, `ROLE_EXISTS`, `ROLE_BUILT_IN`, `ROLE_BOUND`, `ROLE_BINDING_NOT_FOUND`,
/// `PERMISSION_NOT_HELD`, `LAST_ADMINISTRATOR`, `INVALID_FIELD`, those of the store, and what module `user` answers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the token that was printed.
    #[error("the set-up token is wrong")]
    SetupTokenInvalid,
    /// There is an administrator.
    #[error("there is an administrator")]
    AlreadySetUp,
    /// Wrong password, unknown or disabled user.
    #[error("user or password is wrong")]
    BadCredentials,
    /// Too many wrong passwords.
    #[error("too many wrong passwords; wait {} s", wait.as_secs().max(1))]
    LoginThrottled {
        /// How long.
        wait: Duration,
    },
    /// Unknown, used, or ended.
    #[error("the refresh token is not valid; log in")]
    RefreshTokenInvalid,
    /// The method is for users.
    #[error("only users have this")]
    UsersOnly,
    /// No such role.
    #[error("{0} does not exist")]
    NoRole(String),
    /// The id is taken.
    #[error("{0} exists")]
    RoleExists(String),
    /// Built-in roles never change.
    #[error("{0} is built in")]
    RoleBuiltIn(String),
    /// Somebody has the role.
    #[error("{role} is bound: {reason}")]
    RoleBound {
        /// `roles/{role}`.
        role: String,
        /// What that prevents.
        reason: &'static str,
    },
    /// No such binding.
    #[error("{0} does not exist")]
    NoBinding(String),
    /// Nobody gives what they do not have.
    #[error("the caller does not have {permission} and cannot give it")]
    PermissionNotHeld {
        /// The first such permission.
        permission: String,
    },
    /// Without this binding nobody could administer the platform.
    #[error("this is the last administrator who may act")]
    LastAdministrator {
        /// `users/{user}`.
        user: String,
    },
    /// Fields of the request are wrong.
    #[error("{}", describe(.0))]
    Fields(Vec<FieldViolation>),
    /// Signing keys cannot be made, read or used.
    #[error("signing keys: {0}")]
    Keys(String),
    /// What another module answered; passed on as it is.
    #[error("another module: {}", .0.message())]
    Peer(Box<Status>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<store::QueryError> for Error {
    fn from(error: store::QueryError) -> Self {
        Self::Store(error.into())
    }
}

impl From<FieldViolation> for Error {
    fn from(violation: FieldViolation) -> Self {
        Self::Fields(vec![violation])
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Peer(Box::new(status))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        if let Error::Peer(status) = error {
            return *status;
        }
        into_status(error, "auth.upm")
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::SetupTokenInvalid | Self::BadCredentials | Self::RefreshTokenInvalid => {
                Kind::Unauthenticated
            }
            Self::AlreadySetUp
            | Self::RoleBuiltIn(_)
            | Self::RoleBound { .. }
            | Self::LastAdministrator { .. } => Kind::FailedPrecondition,
            Self::LoginThrottled { .. } => Kind::ResourceExhausted,
            Self::UsersOnly | Self::PermissionNotHeld { .. } => Kind::PermissionDenied,
            Self::NoRole(_) | Self::NoBinding(_) => Kind::NotFound,
            Self::RoleExists(_) => Kind::AlreadyExists,
            Self::Fields(_) => Kind::InvalidArgument,
            Self::Keys(_) => Kind::Internal,
            Self::Peer(status) => Kind::of(status.code()).unwrap_or(Kind::Internal),
            Self::Store(error) => error.kind(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::SetupTokenInvalid => "SETUP_TOKEN_INVALID",
            Self::AlreadySetUp => "ALREADY_SET_UP",
            Self::BadCredentials => "BAD_CREDENTIALS",
            Self::LoginThrottled { .. } => "LOGIN_THROTTLED",
            Self::RefreshTokenInvalid => "REFRESH_TOKEN_INVALID",
            Self::UsersOnly => "USERS_ONLY",
            Self::NoRole(_) => "ROLE_NOT_FOUND",
            Self::RoleExists(_) => "ROLE_EXISTS",
            Self::RoleBuiltIn(_) => "ROLE_BUILT_IN",
            Self::RoleBound { .. } => "ROLE_BOUND",
            Self::NoBinding(_) => "ROLE_BINDING_NOT_FOUND",
            Self::PermissionNotHeld { .. } => "PERMISSION_NOT_HELD",
            Self::LastAdministrator { .. } => "LAST_ADMINISTRATOR",
            Self::Fields(_) => "INVALID_FIELD",
            Self::Keys(_) => "KEYS_FAILED",
            Self::Peer(_) => "MODULE_USER",
            Self::Store(error) => error.reason(),
        }
    }

    fn details(&self) -> Details {
        let predicate = |subject: &str| Details {
            preconditions: vec![PreconditionViolation {
                kind: self.reason().to_owned(),
                subject: subject.to_owned(),
                description: self.to_string(),
            }],
            ..Details::default()
        };
        match self {
            Self::LoginThrottled { wait } => Details {
                retry_after: Some(*wait),
                ..Details::default()
            },
            Self::RoleBuiltIn(role) | Self::RoleBound { role, .. } => predicate(role),
            Self::LastAdministrator { user } => predicate(user),
            Self::AlreadySetUp => predicate("roles/platform-admin"),
            Self::PermissionNotHeld { permission } => Details::fact("permission", permission),
            Self::Fields(fields) => Details {
                fields: fields.clone(),
                ..Details::default()
            },
            Self::Store(error) => error.details(),
            Self::SetupTokenInvalid
            | Self::BadCredentials
            | Self::RefreshTokenInvalid
            | Self::UsersOnly
            | Self::NoRole(_)
            | Self::RoleExists(_)
            | Self::NoBinding(_)
            | Self::Keys(_)
            | Self::Peer(_) => Details::default(),
        }
    }
}
