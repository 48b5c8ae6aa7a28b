//! Statuses with typed details: building, reading, and the form that is stored in operations and frames.

use std::{collections::HashMap, time::Duration};

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use upm_proto::google::rpc;

use crate::{
    DOMAIN,
    error::{Details, FieldViolation, Kind, PreconditionViolation, QuotaViolation},
};

/// At most this many violations of one sort go into a status: it travels in headers, which are bounded.
const MAX_VIOLATIONS: usize = 64;

/// A status with an `ErrorInfo` and whatever else the details hold.
pub fn build(
    kind: Kind,
    domain: &str,
    reason: &str,
    message: impl Into<String>,
    details: &Details,
) -> Status {
    let metadata: HashMap<String, String> = details.metadata.clone().into_iter().collect();
    let mut typed = ErrorDetails::with_error_info(reason, domain, metadata);
    for field in details.fields.iter().take(MAX_VIOLATIONS) {
        typed.add_bad_request_violation(&field.field, &field.description);
    }
    for unmet in details.preconditions.iter().take(MAX_VIOLATIONS) {
        typed.add_precondition_failure_violation(&unmet.kind, &unmet.subject, &unmet.description);
    }
    for limit in details.quota.iter().take(MAX_VIOLATIONS) {
        typed.add_quota_failure_violation(&limit.subject, &limit.description);
    }
    if let Some(delay) = details.retry_after {
        typed.set_retry_info(Some(delay));
    }
    Status::with_error_details(kind.code(), message, typed)
}

/// A status of the mesh itself.
pub(crate) fn own(kind: Kind, reason: &str, message: impl Into<String>) -> Status {
    build(kind, DOMAIN, reason, message, &Details::default())
}

/// A status of the mesh itself with details.
pub(crate) fn own_with(
    kind: Kind,
    reason: &str,
    message: impl Into<String>,
    details: &Details,
) -> Status {
    build(kind, DOMAIN, reason, message, details)
}

/// A status of the mesh itself that says when to come back.
pub(crate) fn own_later(
    kind: Kind,
    reason: &str,
    message: impl Into<String>,
    retry_after: Duration,
) -> Status {
    let details = Details {
        retry_after: Some(retry_after),
        ..Details::default()
    };
    build(kind, DOMAIN, reason, message, &details)
}

/// `ErrorInfo.reason`.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// `ErrorInfo.domain`.
pub fn domain(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.domain)
}

/// All typed details; what cannot be read is left out.
pub fn details(status: &Status) -> Details {
    let typed = status.get_error_details();
    Details {
        metadata: typed
            .error_info()
            .map(|info| info.metadata.clone().into_iter().collect())
            .unwrap_or_default(),
        fields: typed
            .bad_request()
            .map(|bad| {
                bad.field_violations
                    .iter()
                    .map(|violation| FieldViolation {
                        field: violation.field.clone(),
                        description: violation.description.clone(),
                    })
                    .collect()
            })
            .unwrap_or_default(),
        preconditions: typed
            .precondition_failure()
            .map(|failure| {
                failure
                    .violations
                    .iter()
                    .map(|violation| PreconditionViolation {
                        kind: violation.r#type.clone(),
                        subject: violation.subject.clone(),
                        description: violation.description.clone(),
                    })
                    .collect()
            })
            .unwrap_or_default(),
        quota: typed
            .quota_failure()
            .map(|failure| {
                failure
                    .violations
                    .iter()
                    .map(|violation| QuotaViolation {
                        subject: violation.subject.clone(),
                        description: violation.description.clone(),
                    })
                    .collect()
            })
            .unwrap_or_default(),
        retry_after: typed.retry_info().and_then(|info| info.retry_delay),
    }
}

/// The form that is stored in operations and sent in frames; keeps all details.
pub fn to_rpc(status: &Status) -> rpc::Status {
    let details = rpc::Status::decode(status.details())
        .map(|stored| stored.details)
        .unwrap_or_default();
    rpc::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details,
    }
}

/// The status of a stored form.
pub fn from_rpc(stored: &rpc::Status) -> Status {
    Status::with_details(
        Code::from_i32(stored.code),
        stored.message.clone(),
        stored.encode_to_vec().into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_details_survive_the_stored_form() {
        let details = Details {
            metadata: [("service".to_owned(), "demo".to_owned())].into(),
            fields: vec![FieldViolation {
                field: "spec.members".into(),
                description: "at least 1".into(),
            }],
            preconditions: vec![PreconditionViolation {
                kind: "PRIMARY_WRITABLE".into(),
                subject: "projects/p/redisServices/demo".into(),
                description: "elect a primary".into(),
            }],
            quota: vec![QuotaViolation {
                subject: "projects/p".into(),
                description: "64 GiB".into(),
            }],
            retry_after: Some(Duration::from_millis(1500)),
        };
        let status = build(
            Kind::FailedPrecondition,
            "redis.upm",
            "NOT_NOW",
            "wait",
            &details,
        );
        let again = from_rpc(&to_rpc(&status));
        assert_eq!(again.code(), Code::FailedPrecondition);
        assert_eq!(again.message(), "wait");
        assert_eq!(reason(&again).as_deref(), Some("NOT_NOW"));
        assert_eq!(self::details(&again), details);
    }

    #[test]
    fn a_status_without_details_has_no_reason() {
        let status = Status::not_found("nothing");
        assert_eq!(reason(&status), None);
        assert_eq!(to_rpc(&status).details, vec![]);
        assert_eq!(details(&status), Details::default());
    }
}
