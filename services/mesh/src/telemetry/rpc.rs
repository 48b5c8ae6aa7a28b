//! One span and one measurement for each call, on both sides.

use std::time::Instant;

use http::HeaderMap;
use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram},
};
use tonic::Code;
use tracing::Span;

use super::TraceParent;

/// Which side of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

/// Rate, errors and durations of calls. Made after telemetry is set up, once for each stack and channel.
#[derive(Clone)]
pub(crate) struct Instruments {
    side: Side,
    duration: Histogram<f64>,
    calls: Counter<u64>,
    retries: Counter<u64>,
}

impl Instruments {
    pub(crate) fn new(side: Side) -> Self {
        let meter = global::meter("upm-mesh");
        let name = match side {
            Side::Server => "server",
            Side::Client => "client",
        };
        Self {
            side,
            duration: meter
                .f64_histogram(format!("upm.rpc.{name}.duration"))
                .with_unit("s")
                .with_description("Duration of calls, streams to their end")
                .with_boundaries(vec![
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
                    30.0, 60.0,
                ])
                .build(),
            calls: meter
                .u64_counter(format!("upm.rpc.{name}.calls"))
                .with_description("Calls by code")
                .build(),
            retries: meter
                .u64_counter(format!("upm.rpc.{name}.retries"))
                .with_description("Attempts after the first")
                .build(),
        }
    }

    /// Begins a call to a method that the policy knows; other paths share one label, so that callers cannot make labels.
    pub(crate) fn begin(&self, method: &'static str, headers: &HeaderMap) -> Call {
        let parent = headers
            .get(TraceParent::HEADER)
            .and_then(|value| value.to_str().ok())
            .and_then(TraceParent::parse);
        let kind = match self.side {
            Side::Server => "server",
            Side::Client => "client",
        };
        let span = tracing::info_span!(
            "rpc",
            otel.name = method.trim_start_matches('/'),
            otel.kind = kind,
            rpc.system = "grpc",
            rpc.method = method,
            rpc.grpc.status_code = tracing::field::Empty,
            otel.status_code = tracing::field::Empty,
            principal = tracing::field::Empty,
        );
        if let Some(parent) = &parent {
            parent.adopt(&span);
        }
        let trace = span
            .in_scope(TraceParent::current)
            .or_else(|| parent.as_ref().map(TraceParent::child))
            .unwrap_or_else(TraceParent::random);
        Call {
            instruments: self.clone(),
            method,
            begun: Instant::now(),
            span,
            trace,
            code: None,
        }
    }

    pub(crate) fn retried(&self, method: &'static str) {
        self.retries.add(1, &[KeyValue::new("rpc.method", method)]);
    }
}

/// A running call; its end is recorded when it is dropped, as CANCELLED unless a code was set.
pub(crate) struct Call {
    instruments: Instruments,
    method: &'static str,
    begun: Instant,
    span: Span,
    trace: TraceParent,
    code: Option<Code>,
}

impl Call {
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn trace(&self) -> &TraceParent {
        &self.trace
    }

    pub(crate) fn ended(&mut self, code: Code) {
        self.code = Some(code);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        let labels = [
            KeyValue::new("rpc.method", self.method),
            KeyValue::new("rpc.grpc.status_code", i64::from(i32::from(code))),
        ];
        self.span.record("rpc.grpc.status_code", i32::from(code));
        if matches!(
            code,
            Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable
        ) {
            self.span.record("otel.status_code", "ERROR");
        }
        self.span.in_scope(|| {
            tracing::debug!(code = ?code, elapsed = ?self.begun.elapsed(), "call ended");
        });
        self.instruments
            .duration
            .record(self.begun.elapsed().as_secs_f64(), &labels[..1]);
        self.instruments.calls.add(1, &labels);
    }
}
