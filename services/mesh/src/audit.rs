//! Records for the operation log: the draft that travels with a request, and the sink for what the mesh writes itself.

use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use upm_proto::operatorlog::v1::Entry;
use uuid::Uuid;

use crate::context::{Caller, Context};

mod redact;

pub(crate) use self::redact::request_id_field;
pub use self::redact::request_json;

/// Longest `Entry.request` and `Entry.diff`, in bytes.
pub const MAX_JSON: usize = 8 * 1024;

/// A record that is complete but for its outcome. The mesh attaches one to each request of a method with audit WRITE; the handler's
/// transaction writes it together with the change.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The record: name, time, principal, address, module, method, request and trace are set.
    pub entry: Entry,
}

/// Where records go that no transaction writes: refusals, failures, reads.
pub trait Sink: Send + Sync {
    /// Stores the entry so that it is not lost. Failures are the sink's to log.
    fn write(&self, entry: Entry) -> BoxFuture<'_, ()>;
}

/// A sink for processes without a store: one line in the log for each record.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogSink;

// === impl Draft ===

impl Draft {
    /// A draft of now. `request` is redacted JSON, see [`request_json`].
    pub fn new(
        module: &str,
        method: &str,
        caller: &Caller,
        traceparent: &str,
        request: String,
    ) -> Self {
        let trace_id = traceparent.split('-').nth(1).unwrap_or_default();
        Self {
            entry: Entry {
                name: fresh_name(),
                event_time: Some(now()),
                principal: caller.principal.to_string(),
                source_address: caller.source_address.clone(),
                module: module.to_owned(),
                method: method.to_owned(),
                request,
                trace_id: trace_id.to_owned(),
                ..Entry::default()
            },
        }
    }

    /// A draft for work that no request started, for example a step of a workflow. `action` stands where a method's path stands.
    pub fn background(ctx: &Context, module: &str, action: &str) -> Self {
        Self::new(module, action, &ctx.caller, &ctx.traceparent, String::new())
    }

    /// Names the resource that it is about.
    #[must_use]
    pub fn resource(mut self, name: impl Into<String>) -> Self {
        self.entry.resource = name.into();
        self
    }

    /// Says what changed. More than [`MAX_JSON`] bytes are cut, and the record says so.
    #[must_use]
    pub fn diff(mut self, json: serde_json::Value) -> Self {
        self.entry.diff = bounded(json.to_string());
        self
    }

    /// The record of a failure: an entry of its own, so that a change that was committed before keeps its record.
    pub(crate) fn failed(mut self, code: tonic::Code, reason: Option<String>) -> Entry {
        self.entry.name = fresh_name();
        self.entry.code = code.into();
        self.entry.reason = reason.unwrap_or_default();
        self.entry
    }
}

/// JSON of at most [`MAX_JSON`] bytes: longer text becomes an object with its beginning and its length.
pub(crate) fn bounded(json: String) -> String {
    if json.len() <= MAX_JSON {
        return json;
    }
    // Escaping at most doubles the length of JSON text that holds no control characters.
    let mut end = MAX_JSON / 2 - 64;
    while !json.is_char_boundary(end) {
        end -= 1;
    }
    serde_json::json!({"truncated": true, "bytes": json.len(), "beginning": &json[..end]})
        .to_string()
}

fn fresh_name() -> String {
    format!("operatorLog/entries/{}", Uuid::now_v7())
}

fn now() -> prost_types::Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    prost_types::Timestamp {
        seconds: since.as_secs() as i64,
        nanos: since.subsec_nanos() as i32,
    }
}

// === impl LogSink ===

impl Sink for LogSink {
    fn write(&self, entry: Entry) -> BoxFuture<'_, ()> {
        tracing::info!(
            target: "audit",
            principal = entry.principal,
            source_address = entry.source_address,
            method = entry.method,
            resource = entry.resource,
            code = entry.code,
            reason = entry.reason,
            trace_id = entry.trace_id,
            "audit record"
        );
        Box::pin(std::future::ready(()))
    }
}
