//! Transcodes between REST with JSON and gRPC with protobuf, driven by descriptors.
//!
//! A [`Tables`] is compiled once from an encoded `FileDescriptorSet` and is immutable afterwards: share it
//! behind an `Arc` and replace it as a whole to reload. It holds
//!
//! * flat message tables, with which JSON becomes wire bytes and wire bytes become JSON in one pass and
//!   without a message tree ([`Tables::json_to_wire`], [`Tables::wire_to_json`]);
//! * the routes of every `google.api.http` rule ([`Tables::route`]), with path variables, query parameters
//!   and body bound straight into wire bytes ([`RouteMatch::encode_request`]);
//! * what an OpenAPI 3.1 document needs ([`openapi`]) and the AIP-193 form of errors ([`status`]).
//!
//! Wire input in an unusual order (a repeated field in several pieces, a singular field twice) is legal but
//! rare; it takes a slow path through [`prost_reflect::DynamicMessage`], message by message.
//!
//! ```no_run
//! use bytes::BytesMut;
//! use http::Method;
//! use upm_transcode::Tables;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tables = Tables::from_descriptor_set(&std::fs::read("api.pb")?)?;
//! let matched = tables.route(&Method::GET, "/v1/shelves/7")?;
//! let mut request = BytesMut::new();
//! matched.encode_request(Some("pageSize=10"), b"", &mut request)?;
//! // … send `request` to `matched.method().path()`, receive `response` …
//! # let response = b"";
//! let mut json = Vec::new();
//! matched.decode_response(response, &mut json)?;
//! # Ok(())
//! # }
//! ```

pub mod bind;
pub mod error;
pub mod http_rule;
pub mod json;
pub mod lint;
pub mod openapi;
pub mod route;
pub mod status;
pub mod tables;
pub mod template;

mod wire;

#[cfg(test)]
mod fixture;

pub use bind::{BodyKind, HttpBody, Options};
pub use error::{BindError, DecodeError, JsonError, LoadError, Location, RouteError};
pub use http_rule::{HttpRule, Pattern};
pub use json::JsonOptions;
pub use lint::Lint;
pub use route::{Binding, RouteId, RouteMatch};
pub use tables::{LoadOptions, MessageId, MethodTable, Tables};

/// The deepest nesting of messages, `Struct` objects and `ListValue` arrays that is read or written.
pub const MAX_DEPTH: u16 = 100;
