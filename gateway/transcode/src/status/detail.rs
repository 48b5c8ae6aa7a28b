//! The error details of `google.rpc` that errors made here carry.

use std::time::Duration;

use bytes::BytesMut;

use crate::wire::{put_bytes_field, put_varint_field};

/// One detail of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// Why, for programs.
    ErrorInfo {
        /// Upper snake case, unique within the domain, such as `ROUTE_NOT_FOUND`.
        reason: String,
        /// Whose reason it is, such as the name of the service.
        domain: String,
        /// More to know, by name.
        metadata: Vec<(String, String)>,
    },
    /// Fields of the request that are wrong.
    BadRequest {
        /// Each of them.
        field_violations: Vec<FieldViolation>,
    },
    /// Conditions that are not met.
    PreconditionFailure {
        /// Each of them.
        violations: Vec<PreconditionViolation>,
    },
    /// Quotas or limits that are used up.
    QuotaFailure {
        /// Each of them.
        violations: Vec<QuotaViolation>,
    },
    /// When to try again.
    RetryInfo {
        /// Not before this time has passed.
        retry_delay: Duration,
    },
}

/// A field of the request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Its JSON path in the request.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// A condition that is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreconditionViolation {
    /// The kind of condition, upper snake case.
    pub r#type: String,
    /// What it is about, such as a resource name.
    pub subject: String,
    /// How it fails.
    pub description: String,
}

/// A quota that is used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaViolation {
    /// Whose quota it is.
    pub subject: String,
    /// Which quota it is.
    pub description: String,
}

impl Detail {
    /// The full name of the message.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::ErrorInfo { .. } => "google.rpc.ErrorInfo",
            Self::BadRequest { .. } => "google.rpc.BadRequest",
            Self::PreconditionFailure { .. } => "google.rpc.PreconditionFailure",
            Self::QuotaFailure { .. } => "google.rpc.QuotaFailure",
            Self::RetryInfo { .. } => "google.rpc.RetryInfo",
        }
    }

    /// The wire form of the message.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut out = BytesMut::new();
        match self {
            Self::ErrorInfo {
                reason,
                domain,
                metadata,
            } => {
                put_bytes_field(&mut out, 1, reason.as_bytes());
                put_bytes_field(&mut out, 2, domain.as_bytes());
                for (key, value) in metadata {
                    put_bytes_field(&mut out, 3, &strings(&[key, value]));
                }
            }
            Self::BadRequest { field_violations } => {
                for violation in field_violations {
                    put_bytes_field(
                        &mut out,
                        1,
                        &strings(&[&violation.field, &violation.description]),
                    );
                }
            }
            Self::PreconditionFailure { violations } => {
                for violation in violations {
                    put_bytes_field(
                        &mut out,
                        1,
                        &strings(&[
                            &violation.r#type,
                            &violation.subject,
                            &violation.description,
                        ]),
                    );
                }
            }
            Self::QuotaFailure { violations } => {
                for violation in violations {
                    put_bytes_field(
                        &mut out,
                        1,
                        &strings(&[&violation.subject, &violation.description]),
                    );
                }
            }
            Self::RetryInfo { retry_delay } => {
                let mut delay = BytesMut::new();
                put_varint_field(&mut delay, 1, retry_delay.as_secs());
                put_varint_field(&mut delay, 2, u64::from(retry_delay.subsec_nanos()));
                put_bytes_field(&mut out, 1, &delay);
            }
        }
        out.to_vec()
    }
}

/// A message whose fields 1, 2, 3 … are these strings.
fn strings(values: &[&str]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for (number, value) in (1..).zip(values) {
        put_bytes_field(&mut out, number, value.as_bytes());
    }
    out.to_vec()
}
