//! What an answer of the API server means. Pure.

use kube::core::Status;
use upm_proto::hub::v1::{self as pb, Outcome};

/// What came of a call that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The outcome.
    pub outcome: Outcome,
    /// Why.
    pub error: pb::Error,
    /// Fields that others own.
    pub conflicts: Vec<pb::FieldConflict>,
    /// Whether the API server asked to be left alone.
    pub throttled: bool,
    /// Whether the kind itself is gone.
    pub kind_gone: bool,
}

impl Failure {
    /// Whether the API server may have refused because the object is not any more what was read.
    pub fn may_be_race(&self) -> bool {
        self.conflicts.is_empty() && (400..500).contains(&self.error.http_status) && !self.throttled
    }

    /// Whether the API server refused because the caller has no right to it; admission and quotas refuse in other words.
    pub fn is_for_want_of_rights(&self) -> bool {
        self.error.http_status == 403
            && self.outcome == Outcome::Rejected
            && self.error.message.contains("User \"")
            && self.error.message.contains("\" cannot ")
    }

    /// A failure without an answer of the API server.
    pub fn local(outcome: Outcome, reason: &str, message: impl Into<String>) -> Self {
        Self {
            outcome,
            error: pb::Error {
                reason: reason.into(),
                message: message.into(),
                http_status: 0,
            },
            conflicts: Vec::new(),
            throttled: false,
            kind_gone: false,
        }
    }
}

/// What an error of a call means.
pub fn of_error(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => of_status(status),
        other => Failure::local(Outcome::Transient, "API_SERVER_AWAY", other.to_string()),
    }
}

/// What an answer means.
pub fn of_status(status: &Status) -> Failure {
    let mut failure = Failure::local(Outcome::Rejected, "", status.message.clone());
    failure.error.http_status = i32::from(status.code);
    failure.error.reason = match status.reason.as_str() {
        "" => format!("HTTP_{}", status.code),
        reason => upper_snake(reason),
    };
    let terminating = status.message.contains("being terminated");
    match status.code {
        404 if status
            .message
            .contains("the server could not find the requested resource") =>
        {
            failure.outcome = Outcome::UnsupportedKind;
            failure.kind_gone = true;
        }
        404 => {
            failure.outcome = Outcome::BlockedOnDependency;
            failure.error.reason = "NAMESPACE_MISSING".into();
        }
        409 => {
            failure.conflicts = conflicts(status);
            failure.outcome = if failure.conflicts.is_empty() {
                Outcome::Transient
            } else {
                Outcome::Conflict
            };
        }
        429 => {
            failure.outcome = Outcome::Transient;
            failure.throttled = true;
        }
        401 | 408 | 500.. => failure.outcome = Outcome::Transient,
        403 if terminating => failure.outcome = Outcome::Transient,
        _ => {}
    }
    failure
}

/// The fields of a conflict of server-side apply, and who owns them.
fn conflicts(status: &Status) -> Vec<pb::FieldConflict> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| pb::FieldConflict {
            field: cause.field.clone(),
            // `conflict with "kubectl" using v1` and the like
            manager: cause
                .message
                .split('"')
                .nth(1)
                .unwrap_or(&cause.message)
                .to_owned(),
        })
        .collect()
}

/// `AlreadyExists` → `ALREADY_EXISTS`.
fn upper_snake(reason: &str) -> String {
    let mut out = String::with_capacity(reason.len() + 4);
    for (i, c) in reason.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use kube::core::response::{StatusCause, StatusDetails};

    use super::*;

    fn status(code: u16, reason: &str, message: &str) -> Status {
        Status::failure(message, reason).with_code(code)
    }

    #[test]
    fn latches_what_the_api_server_refuses_and_retries_what_it_cannot_do_now() {
        for (code, reason, outcome) in [
            (400, "BadRequest", Outcome::Rejected),
            (403, "Forbidden", Outcome::Rejected),
            (413, "RequestEntityTooLarge", Outcome::Rejected),
            (422, "Invalid", Outcome::Rejected),
            (409, "AlreadyExists", Outcome::Transient),
            (429, "TooManyRequests", Outcome::Transient),
            (500, "InternalError", Outcome::Transient),
            (503, "ServiceUnavailable", Outcome::Transient),
        ] {
            assert_eq!(
                of_status(&status(code, reason, "x")).outcome,
                outcome,
                "{code}"
            );
        }
        assert!(of_status(&status(429, "TooManyRequests", "x")).throttled);
    }

    #[test]
    fn tells_a_missing_namespace_from_a_missing_kind() {
        let namespace = of_status(&status(404, "NotFound", "namespaces \"p1\" not found"));
        assert_eq!(namespace.outcome, Outcome::BlockedOnDependency);
        let kind = of_status(&status(
            404,
            "NotFound",
            "the server could not find the requested resource",
        ));
        assert_eq!(kind.outcome, Outcome::UnsupportedKind);
        assert!(kind.kind_gone);
        let terminating = status(403, "Forbidden", "namespace p1 is being terminated");
        assert_eq!(of_status(&terminating).outcome, Outcome::Transient);
    }

    #[test]
    fn tells_missing_rights_from_what_admission_refuses() {
        let rights = status(
            403,
            "Forbidden",
            "unitsets.upm.syntropycloud.io \"k0\" is forbidden: User \"system:serviceaccount:a:b\" cannot get resource",
        );
        assert!(of_status(&rights).is_for_want_of_rights());
        let quota = status(
            403,
            "Forbidden",
            "unitsets \"k0\" is forbidden: exceeded quota",
        );
        assert!(!of_status(&quota).is_for_want_of_rights());
    }

    #[test]
    fn names_the_fields_of_a_conflict_and_their_managers() {
        let mut answer = status(409, "Conflict", "Apply failed with 1 conflict");
        let mut details: StatusDetails = serde_json::from_str("{}").unwrap();
        details.causes = vec![StatusCause {
            reason: "FieldManagerConflict".into(),
            message: "conflict with \"kubectl\" using upm.syntropycloud.io/v1alpha2".into(),
            field: ".spec.units".into(),
        }];
        answer.details = Some(details);
        let failure = of_status(&answer);
        assert_eq!(failure.outcome, Outcome::Conflict);
        assert_eq!(failure.conflicts[0].field, ".spec.units");
        assert_eq!(failure.conflicts[0].manager, "kubectl");
        assert_eq!(failure.error.reason, "CONFLICT");
    }
}
