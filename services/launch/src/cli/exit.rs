//! Exit codes that scripts can use, and errors that people can read.

use std::{path::PathBuf, process::ExitCode};

use upm_mesh::status;

/// How a command ended. The numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something else went wrong.
    Error = 1,
    /// The command line is wrong (also what clap uses).
    Usage = 2,
    /// What was asked for does not exist.
    NotFound = 3,
    /// No login, or no permission.
    Denied = 4,
    /// It exists already, is stale, or a precondition is not met.
    Refused = 5,
    /// The platform cannot be reached in time.
    Unavailable = 6,
    /// The operation was accepted and ended without success.
    OperationFailed = 7,
    /// A field of the request is wrong.
    Invalid = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An operation that ended without success.
#[derive(Debug, thiserror::Error)]
#[error("operation {name} ended {state}: {message}")]
pub(crate) struct OperationFailed {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) message: String,
}

/// Nobody has logged in.
#[derive(Debug, thiserror::Error)]
#[error("no login in {}; run `upm login`", path.display())]
pub(crate) struct NoLogin {
    pub(crate) path: PathBuf,
    pub(crate) source: std::io::Error,
}

/// Finds the exit code of an error.
pub(crate) fn of(error: &anyhow::Error) -> Exit {
    use tonic::Code;
    if error.downcast_ref::<OperationFailed>().is_some() {
        return Exit::OperationFailed;
    }
    if error.downcast_ref::<NoLogin>().is_some() {
        return Exit::Denied;
    }
    let Some(refusal) = refusal(error) else {
        return if error
            .chain()
            .any(<dyn std::error::Error>::is::<tonic::transport::Error>)
        {
            Exit::Unavailable
        } else {
            Exit::Error
        };
    };
    match refusal.code() {
        Code::NotFound => Exit::NotFound,
        Code::Unauthenticated | Code::PermissionDenied => Exit::Denied,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Exit::Refused,
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled => {
            Exit::Unavailable
        }
        Code::InvalidArgument | Code::OutOfRange => Exit::Invalid,
        Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
            Exit::Error
        }
    }
}

/// Renders an error: what failed, the reason, and every field or predicate that it names.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let Some(refusal) = refusal(error) else {
        return format!("{error:#}");
    };
    let mut text = refusal.message().to_owned();
    if let Some(reason) = status::reason(refusal) {
        text = format!("{text} ({reason})");
    }
    let details = status::details(refusal);
    for field in details.fields {
        // The message may have said so already.
        if text.contains(&format!("{}: {}", field.field, field.description)) {
            continue;
        }
        text += &format!("\n  {}: {}", field.field, field.description);
    }
    for predicate in details.preconditions {
        if text.contains(&predicate.description) {
            continue;
        }
        text += &format!("\n  {}: {}", predicate.kind, predicate.description);
    }
    if let Some(operation) = in_progress(refusal) {
        text += &format!(
            "\n  wait for it:  upm operation watch {operation}\n  or cancel it: upm operation cancel {operation}"
        );
    }
    if let Some(wait) = details.retry_after {
        text += &format!("\n  try again in {} s", wait.as_secs().max(1));
    }
    text
}

/// The operation that is in the way, when a call was refused because of one.
pub(crate) fn in_progress(refusal: &tonic::Status) -> Option<String> {
    if status::reason(refusal).as_deref() != Some("OPERATION_IN_PROGRESS") {
        return None;
    }
    status::details(refusal).metadata.remove("operation")
}

fn refusal(error: &anyhow::Error) -> Option<&tonic::Status> {
    error
        .chain()
        .find_map(<dyn std::error::Error>::downcast_ref::<tonic::Status>)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: &str, message: &str, details: &upm_mesh::Details) -> String {
        let kind = upm_mesh::Kind::FailedPrecondition;
        describe(&status::build(kind, "test.upm", reason, message, details).into())
    }

    #[test]
    fn a_violation_is_said_once() {
        let details = upm_mesh::Details::field("user.email", "must be an address");
        let text = refused("INVALID_FIELD", "user.email: must be an address", &details);
        assert_eq!(text.matches("must be an address").count(), 1, "{text}");
    }

    #[test]
    fn an_operation_in_the_way_is_named_with_its_commands() {
        let details = upm_mesh::Details::fact("operation", "operations/redis/o1");
        let text = refused("OPERATION_IN_PROGRESS", "busy", &details);
        assert!(
            text.contains("upm operation cancel operations/redis/o1"),
            "{text}"
        );
    }

    #[test]
    fn each_kind_of_refusal_has_an_exit_code_of_its_own() {
        let code = |status: tonic::Status| of(&anyhow::Error::new(status).context("while asking"));
        assert_eq!(code(tonic::Status::not_found("x")), Exit::NotFound);
        assert_eq!(code(tonic::Status::permission_denied("x")), Exit::Denied);
        assert_eq!(code(tonic::Status::already_exists("x")), Exit::Refused);
        assert_eq!(code(tonic::Status::invalid_argument("x")), Exit::Invalid);
        assert_eq!(code(tonic::Status::unavailable("x")), Exit::Unavailable);
        assert_eq!(of(&anyhow::anyhow!("x")), Exit::Error);
    }
}
