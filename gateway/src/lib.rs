//! The gateway: gRPC, gRPC-Web, REST and WebSockets on one port, in front of the platform's modules or of any gRPC servers.
//!
//! It learns methods, routes, limits and owners from descriptors; there is no code for any service in it. Requests are told apart once, by
//! content type; gRPC passes frame by frame without decoding, gRPC-Web changes its envelope, REST is transcoded in one pass
//! ([`upm_transcode`]). In front of the platform it forwards the caller's token; the modules verify it and decide. Alone
//! ([`Standalone`]) it verifies tokens itself and calls its upstreams over connections of its own.
//!
//! Invariants: a method for modules or agents only ([`Access::Internal`], [`Access::Agent`]) cannot be called through it; an answer without
//! a status is never a success; memory for a request is bounded whatever caller and upstream send.
//!
//! [`Access::Internal`]: upm_proto::policy::Access::Internal
//! [`Access::Agent`]: upm_proto::policy::Access::Agent

mod answer;
mod auth;
mod catalog;
mod compression;
mod config;
mod cors;
mod deadline;
mod dispatch;
mod docs;
mod error;
mod forward;
mod frame;
mod gateway;
mod inbound;
mod measure;
mod messages;
mod passthrough;
mod places;
mod protect;
mod proxies;
mod refusal;
mod rest;
mod serve;
mod standalone;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod ui;
mod upstream;
mod view;
mod web;
mod websocket;

use upm_transcode::status::Code;

pub use crate::{
    config::{AccessLog, Config, Rate, Strangers},
    error::Error,
    gateway::Gateway,
    proxies::{Cidr, NoCidr},
    standalone::{Authentication, Descriptors, Standalone},
    upstream::Target,
};

/// A body on its way through: data frames, perhaps trailers.
type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BodyError>;

/// Why a body was cut. A type of its own, because a boxed error inside of a boxed body confuses the borrow checker.
#[derive(Debug, thiserror::Error)]
#[error("the body was cut: {text}")]
struct BodyError {
    code: Code,
    text: String,
}

impl BodyError {
    fn cut(error: &dyn std::fmt::Display) -> Self {
        Self {
            code: Code::Unavailable,
            text: error.to_string(),
        }
    }

    fn of(status: &tonic::Status) -> Self {
        Self {
            code: Code::from_number(status.code() as i32),
            text: status.message().to_owned(),
        }
    }
}
