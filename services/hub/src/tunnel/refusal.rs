//! What an agent says of a failure, as the caller is told it.

use upm_mesh::Kind;
use upm_proto::hub::v1 as pb;

use crate::Error;

/// Reasons that callers may rely on. An agent's other reasons become `TUNNEL_FAILED`.
const KNOWN: &[(&str, Kind)] = &[
    ("API_SERVER_AWAY", Kind::Unavailable),
    ("COMMAND_NOT_STARTED", Kind::FailedPrecondition),
    ("CONTAINER_NOT_FOUND", Kind::NotFound),
    ("DENIED_LOCAL_POLICY", Kind::PermissionDenied),
    ("FILES_UNSUPPORTED", Kind::FailedPrecondition),
    ("FILE_BUSY", Kind::Aborted),
    ("FILE_CHANGED", Kind::Aborted),
    ("FILE_CHECKSUM_MISMATCH", Kind::Aborted),
    ("FILE_INCOMPLETE", Kind::Aborted),
    ("FILE_IO", Kind::Unavailable),
    ("FILE_NOT_FOUND", Kind::NotFound),
    ("FILE_NOT_REGULAR", Kind::FailedPrecondition),
    ("FILE_PATH_INVALID", Kind::InvalidArgument),
    ("FILE_PERMISSION_DENIED", Kind::PermissionDenied),
    ("HALF_CLOSE_UNSUPPORTED", Kind::FailedPrecondition),
    ("NO_SPACE", Kind::ResourceExhausted),
    ("POD_NOT_FOUND", Kind::NotFound),
    ("SECRET_NOT_FOUND", Kind::NotFound),
    ("UNSUPPORTED_TUNNEL", Kind::FailedPrecondition),
];

/// The error that an agent's word becomes.
pub(super) fn told(error: pb::Error) -> Error {
    let known = KNOWN.iter().find(|(reason, _)| *reason == error.reason);
    let (reason, kind) = *known.unwrap_or(&("TUNNEL_FAILED", Kind::Unavailable));
    Error::Tunnel {
        kind,
        reason,
        message: error.message,
    }
}

#[cfg(test)]
mod tests {
    use upm_mesh::Classify as _;

    use super::*;

    #[test]
    fn known_reasons_keep_their_name_and_others_do_not_pass() {
        let told = |reason: &str| {
            let error = told(pb::Error {
                reason: reason.into(),
                message: "words".into(),
                http_status: 0,
            });
            (error.reason(), error.kind(), error.to_string())
        };
        let words = || "words".to_owned();
        assert_eq!(
            told("NO_SPACE"),
            ("NO_SPACE", Kind::ResourceExhausted, words())
        );
        assert_eq!(
            told("WHATEVER"),
            ("TUNNEL_FAILED", Kind::Unavailable, words())
        );
        assert!(KNOWN.is_sorted_by_key(|(reason, _)| *reason));
    }
}
