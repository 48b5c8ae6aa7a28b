//! What the gateway can be told.

use std::{path::PathBuf, time::Duration};

use crate::proxies::Cidr;

/// Settings of the gateway.
#[derive(Debug, Clone)]
pub struct Config {
    /// Certificate chain and key, PEM; plain text when left out.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Largest REST body, largest message of a stream, and largest body of a unary gRPC call, in bytes; more is answered with 413.
    pub max_body_bytes: usize,
    /// Longest URL, in bytes; longer ones are answered with 414.
    pub max_uri_bytes: usize,
    /// Longest headers together, in bytes; more is answered with 431. At most 60 KiB.
    pub max_header_bytes: usize,
    /// A connection that has not sent the headers of its next request after this time is closed.
    pub header_timeout: Duration,
    /// A request body that stands still for so long is answered with 408; streams of messages may be idle.
    pub body_timeout: Duration,
    /// A request body that is not complete after so long is answered with 408, however steadily it comes; streams of messages have no end.
    /// The first message of a WebSocket has as long.
    pub body_deadline: Duration,
    /// A client that takes nothing of an answer for so long is cut.
    pub write_timeout: Duration,
    /// Connections that are open at the same time; further ones wait.
    pub max_connections: usize,
    /// Connections of one address (IPv6: one /64 network) at the same time; further ones are closed.
    pub max_connections_per_address: usize,
    /// Requests that are worked on at the same time; further ones are answered with 503 at once.
    pub max_in_flight: usize,
    /// Requests and WebSockets of one address (IPv6: one /64 network) at the same time; further ones are answered with 429.
    pub max_in_flight_per_address: usize,
    /// What callers may do who have shown no valid token.
    pub strangers: Strangers,
    /// Proxies in front of the gateway: behind one of them the caller is who `X-Forwarded-For` says.
    pub trusted_proxies: Vec<Cidr>,
    /// Requests of one address (IPv6: one /64 network).
    pub rate_per_address: Option<Rate>,
    /// Requests of one principal, or of one bearer token where the gateway does not verify tokens.
    pub rate_per_principal: Option<Rate>,
    /// Time for a call whose method and caller set none; streams have none.
    pub default_timeout: Option<Duration>,
    /// How long a call waits for a server of its upstream to become ready.
    pub patience: Duration,
    /// How often an idle stream of server-sent events gets a comment, and an idle WebSocket a ping.
    pub keep_alive: Duration,
    /// Origins whose pages may call the API, for example `https://upm.example.com`; `*` for every origin.
    pub allowed_origins: Vec<String>,
    /// How long running requests may take after the drain began.
    pub grace: Duration,
    /// Write a line for each request.
    pub access_log: Option<AccessLog>,
    /// Make a tracing span for each request. Without it trace context is passed on all the same.
    pub spans: bool,
}

/// Bounds for requests without a valid token: logging in is one. They hold where the gateway knows the tokens' keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strangers {
    /// Requests at the same time.
    pub in_flight: usize,
    /// Requests of one address (IPv6: one /64 network) at the same time.
    pub in_flight_per_address: usize,
    /// Largest body, in bytes.
    pub max_body_bytes: usize,
}

impl Default for Strangers {
    fn default() -> Self {
        Self {
            in_flight: 1024,
            in_flight_per_address: 64,
            max_body_bytes: 64 * 1024,
        }
    }
}

/// So many requests in a second on average, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Requests per second, above 0.
    pub per_second: f64,
    /// Requests at once, at least 1.
    pub burst: u32,
}

/// Where lines go, one JSON object for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tls: None,
            max_body_bytes: 4 * 1024 * 1024,
            max_uri_bytes: 16 * 1024,
            max_header_bytes: 32 * 1024,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            body_deadline: Duration::from_mins(2),
            write_timeout: Duration::from_secs(60),
            max_connections: 10_000,
            max_connections_per_address: 4_096,
            max_in_flight: 8_192,
            max_in_flight_per_address: 2_048,
            strangers: Strangers::default(),
            trusted_proxies: Vec::new(),
            rate_per_address: None,
            rate_per_principal: None,
            default_timeout: Some(Duration::from_secs(60)),
            patience: Duration::from_secs(5),
            keep_alive: Duration::from_secs(15),
            allowed_origins: Vec::new(),
            grace: Duration::from_secs(20),
            access_log: None,
            spans: true,
        }
    }
}
