//! The records that the mesh writes itself: failures of changes, reads that matter, refusals.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tonic::Code;
use upm_proto::{
    operatorlog::v1::Entry,
    policy::{Audit, Method},
};

use super::{Inner, anonymous::Counts, authorize};
use crate::{
    audit::{Draft, request_json},
    body,
    context::{Caller, Principal},
    telemetry::TraceParent,
};

/// A longer request of nobody is left out of the record of its failure, in bytes.
const ANONYMOUS_REQUEST: usize = 1024;
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
}

/// Writes the record of an outcome, if it is to be recorded. The write goes on when the caller gives up.
pub(super) async fn record(inner: &Arc<Inner>, outcome: Outcome<'_>) {
    if !is_recorded(outcome.method.audit, outcome.code) {
        return;
    }
    let nobody = outcome.caller.principal == Principal::Anonymous && outcome.code != Code::Ok;
    if nobody {
        let address = &outcome.caller.source_address;
        let admitted = inner.anonymous.admit(outcome.method.path, address);
        write_counts(inner, inner.anonymous.due(false)).await;
        if !admitted {
            tracing::debug!(
                method = outcome.method.path,
                source_address = address,
                "too many failures of unknown callers: this one is only counted"
            );
            return;
        }
    }
    // What nobody has sent is not kept for good at its full length.
    let request = if nobody && outcome.request.len() > ANONYMOUS_REQUEST {
        &[]
    } else {
        &outcome.request[..]
    };
    let entry = draft(
        inner,
        outcome.method,
        outcome.caller,
        outcome.trace,
        request,
    )
    .failed(outcome.code, outcome.reason);
    write(inner, outcome.method.path, entry).await;
}

/// Records what was counted instead of recorded and is not yet due: the process ends.
pub(super) async fn flush(inner: &Arc<Inner>) {
    write_counts(inner, inner.anonymous.due(true)).await;
}

async fn write_counts(inner: &Arc<Inner>, counts: Counts) {
    for (method, count) in counts {
        let caller = Caller {
            principal: Principal::Anonymous,
            source_address: String::new(),
            peer: None,
            expires: None,
        };
        let trace = TraceParent::random().to_string();
        let entry = Draft::new(inner.module, method, &caller, &trace, String::new())
            .diff(serde_json::json!({
                "failuresNotRecordedEach": count.failures,
                "addresses": count.addresses,
            }))
            .failed(Code::ResourceExhausted, Some("AGGREGATED".to_owned()));
        write(inner, method, entry).await;
    }
}

async fn write(inner: &Arc<Inner>, method: &'static str, entry: Entry) {
    let sink = inner.sink.clone();
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
