//! gRPC status codes, their HTTP numbers, and errors in the JSON form of AIP-193.

pub mod detail;

use bytes::BytesMut;

pub use self::detail::{Detail, FieldViolation, PreconditionViolation, QuotaViolation};
use crate::{
    BindError, JsonOptions, Tables,
    wire::{self, Cursor},
};

/// A gRPC status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// Success.
    Ok = 0,
    /// The caller went away.
    Cancelled = 1,
    /// No better code is known.
    Unknown = 2,
    /// The request is wrong whatever the state of the system.
    InvalidArgument = 3,
    /// The time ran out.
    DeadlineExceeded = 4,
    /// The resource does not exist.
    NotFound = 5,
    /// The resource exists already.
    AlreadyExists = 6,
    /// The caller may not do this.
    PermissionDenied = 7,
    /// A quota or limit is used up.
    ResourceExhausted = 8,
    /// The state of the system does not allow this.
    FailedPrecondition = 9,
    /// A conflict with another change, such as a stale etag.
    Aborted = 10,
    /// Past the end of a valid range.
    OutOfRange = 11,
    /// The method is not there.
    Unimplemented = 12,
    /// A fault of the server.
    Internal = 13,
    /// The server cannot be reached now.
    Unavailable = 14,
    /// Data is lost or damaged.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

impl Code {
    /// All codes, by number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code with this number; `Unknown` for any other.
    pub fn from_number(number: i32) -> Self {
        usize::try_from(number)
            .ok()
            .and_then(|index| Self::ALL.get(index))
            .copied()
            .unwrap_or(Self::Unknown)
    }

    /// The number, as in `grpc-status`.
    pub fn number(self) -> i32 {
        i32::from(self as u8)
    }

    /// The name, as in `google.rpc.Code`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// The HTTP status with which a REST caller sees it.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::Cancelled => 499,
            Self::InvalidArgument | Self::FailedPrecondition | Self::OutOfRange => 400,
            Self::DeadlineExceeded => 504,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Aborted => 409,
            Self::PermissionDenied => 403,
            Self::ResourceExhausted => 429,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::Unauthenticated => 401,
            Self::Unknown | Self::Internal | Self::DataLoss => 500,
        }
    }

    /// The code that an HTTP status without `grpc-status` stands for, by the gRPC specification.
    pub fn from_http_status(status: u16) -> Self {
        match status {
            200 => Self::Ok,
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

/// An error that is made here: code, message for the caller, details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The code; never `Ok`.
    pub code: Code,
    /// What went wrong, for people.
    pub message: String,
    /// The same for programs. AIP-193 wants an [`Detail::ErrorInfo`] on every error.
    pub details: Vec<Detail>,
}

impl Status {
    /// An error with its `ErrorInfo`: a `reason` in upper snake case that is unique within `domain`.
    pub fn new(code: Code, message: impl Into<String>, reason: &str, domain: &str) -> Self {
        let info = Detail::ErrorInfo {
            reason: reason.to_owned(),
            domain: domain.to_owned(),
            metadata: Vec::new(),
        };
        Self {
            code,
            message: message.into(),
            details: vec![info],
        }
    }

    /// With one more detail.
    pub fn with(mut self, detail: Detail) -> Self {
        self.details.push(detail);
        self
    }

    /// INVALID_ARGUMENT with the field violation that a [`BindError`] is.
    pub fn invalid_request(error: &BindError, reason: &str, domain: &str) -> Self {
        let violation = FieldViolation {
            field: error.field.clone(),
            description: error.description.clone(),
        };
        let message = if error.field.is_empty() {
            error.description.clone()
        } else {
            error.to_string()
        };
        Self::new(Code::InvalidArgument, message, reason, domain).with(Detail::BadRequest {
            field_violations: vec![violation],
        })
    }

    /// The wire form of `google.rpc.Status`, as `grpc-status-details-bin` holds it in base64.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut out = BytesMut::new();
        wire::put_varint_field(&mut out, 1, self.code.number() as u64);
        wire::put_bytes_field(&mut out, 2, self.message.as_bytes());
        for detail in &self.details {
            let mut any = BytesMut::new();
            wire::put_bytes_field(
                &mut any,
                1,
                format!("type.googleapis.com/{}", detail.type_name()).as_bytes(),
            );
            wire::put_bytes_field(&mut any, 2, &detail.to_wire());
            wire::put_bytes_field(&mut out, 3, &any);
        }
        out.to_vec()
    }

    /// The JSON form of AIP-193.
    pub fn to_json(&self, tables: &Tables) -> Vec<u8> {
        error_json(tables, self.code, &self.message, Some(&self.to_wire()))
    }
}

/// The JSON form of AIP-193, `{"error": {"code": 404, "message": …, "status": "NOT_FOUND", "details": […]}}`, of a
/// gRPC error. `status_wire` is the `google.rpc.Status` of `grpc-status-details-bin`, decoded from base64; of it
/// only the details are used, and those of unknown types are reduced to their `@type`. What cannot be decoded is
/// left out: an error is never lost for its details.
pub fn error_json(
    tables: &Tables,
    code: Code,
    message: &str,
    status_wire: Option<&[u8]>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + message.len());
    out.extend_from_slice(b"{\"error\":{\"code\":");
    crate::json::number::push_unsigned(&mut out, u64::from(code.http_status()));
    out.extend_from_slice(b",\"message\":");
    serde_json::to_writer(&mut out, message).expect("a vector takes every string");
    out.extend_from_slice(b",\"status\":\"");
    out.extend_from_slice(code.name().as_bytes());
    out.extend_from_slice(b"\",\"details\":[");
    let options = JsonOptions {
        skip_unknown_any: true,
        ..tables.options().json
    };
    let any = tables.message("google.protobuf.Any");
    let mut first = true;
    for detail in status_wire.map(details).unwrap_or_default() {
        let start = out.len();
        if !first {
            out.push(b',');
        }
        match any.map(|any| tables.wire_to_json(any, detail, &mut out, &options)) {
            Some(Ok(())) => first = false,
            _ => out.truncate(start),
        }
    }
    out.extend_from_slice(b"]}}");
    out
}

/// Code and message of a `google.rpc.Status`. Nothing when it is malformed.
pub fn read_status(wire: &[u8]) -> Option<(Code, &str)> {
    let (mut code, mut message) = (Code::Ok, "");
    let mut cursor = Cursor::new(wire);
    while !cursor.is_empty() {
        match cursor.tag().ok()? {
            (1, wire::VARINT) => code = Code::from_number(cursor.varint().ok()? as i32),
            (2, wire::DELIMITED) => message = std::str::from_utf8(cursor.delimited().ok()?).ok()?,
            (number, wire_type) => cursor.skip(number, wire_type).ok()?,
        }
    }
    Some((code, message))
}

fn details(wire: &[u8]) -> Vec<&[u8]> {
    let mut details = Vec::new();
    let mut cursor = Cursor::new(wire);
    while !cursor.is_empty() {
        let Ok((number, wire_type)) = cursor.tag() else {
            break;
        };
        if number == 3 && wire_type == wire::DELIMITED {
            let Ok(detail) = cursor.delimited() else {
                break;
            };
            details.push(detail);
        } else if cursor.skip(number, wire_type).is_err() {
            break;
        }
    }
    details
}

#[cfg(test)]
mod tests;
