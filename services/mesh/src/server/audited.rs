//! The records that the mesh writes itself: failures of changes, reads that matter, refusals.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tonic::Code;
use upm_proto::policy::{Audit, Method};

use super::{Inner, authorize};
use crate::{
    audit::{Draft, request_json},
    body,
    context::{Caller, Principal},
    telemetry::TraceParent,
};

/// A sink has this long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the outcome of a call is recorded by the mesh.
pub(super) fn is_recorded(audit: Audit, code: Code) -> bool {
    match audit {
        Audit::Never => false,
        Audit::Read => true,
        Audit::Write => code != Code::Ok,
        Audit::Refusals => matches!(code, Code::PermissionDenied | Code::Unauthenticated),
    }
}

/// The draft of a call; `body` is the request as it came, empty when it was not read.
pub(super) fn draft(
    inner: &Inner,
    method: &Method,
    caller: &Caller,
    trace: &TraceParent,
    body: &[u8],
) -> Draft {
    let message = body::message(body).unwrap_or_default();
    let resource = authorize::resource(method, message).unwrap_or_default();
    let request = if body.is_empty() {
        String::new()
    } else {
        request_json(method.input, message)
    };
    Draft::new(
        inner.module,
        method.path,
        caller,
        &trace.to_string(),
        request,
    )
    .resource(resource.chars().take(512).collect::<String>())
}

/// What a record is about.
pub(super) struct Outcome<'a> {
    pub(super) method: &'a Method,
    pub(super) caller: &'a Caller,
    pub(super) trace: &'a TraceParent,
    pub(super) request: Bytes,
    pub(super) code: Code,
    pub(super) reason: Option<String>,
    /// Whether the mesh refused before anybody was known.
    pub(super) unknown_caller: bool,
}

/// Writes the record of an outcome, if it is to be recorded. The write goes on when the caller gives up.
pub(super) async fn record(inner: &Arc<Inner>, outcome: Outcome<'_>) {
    if !is_recorded(outcome.method.audit, outcome.code) {
        return;
    }
    let nobody = outcome.unknown_caller && outcome.caller.principal == Principal::Anonymous;
    if nobody && !inner.anonymous_refusals.take() {
        tracing::debug!(
            method = outcome.method.path,
            source_address = outcome.caller.source_address,
            "too many refusals of unknown callers: this one is only logged"
        );
        return;
    }
    let entry = draft(
        inner,
        outcome.method,
        outcome.caller,
        outcome.trace,
        &outcome.request,
    )
    .failed(outcome.code, outcome.reason);
    let sink = inner.sink.clone();
    let method = outcome.method.path;
    let written = inner.records.spawn(async move {
        if tokio::time::timeout(WRITE_TIMEOUT, sink.write(entry))
            .await
            .is_err()
        {
            tracing::error!(method, "a record was not written in time");
        }
    });
    if let Err(error) = written.await {
        tracing::error!(%error, method, "a record was not written");
    }
}
