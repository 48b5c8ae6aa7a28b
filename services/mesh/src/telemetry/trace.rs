//! W3C trace context, with and without a tracer.

use std::fmt;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// `00-<trace id>-<span id>-<flags>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent {
    trace: String,
    span: String,
    flags: u8,
}

impl TraceParent {
    /// The header.
    pub const HEADER: &'static str = "traceparent";

    /// Reads the header. Versions after 00 are read as 00, as the standard asks.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |part: &str, length: usize| {
            part.len() == length
                && part
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
        let fine = is_hex(version, 2)
            && version != "ff"
            && (version != "00" || parts.next().is_none())
            && is_hex(trace, 32)
            && !is_zero(trace)
            && is_hex(span, 16)
            && !is_zero(span)
            && is_hex(flags, 2);
        fine.then(|| Self {
            trace: trace.to_owned(),
            span: span.to_owned(),
            flags: u8::from_str_radix(flags, 16).unwrap_or(0),
        })
    }

    /// A new trace, sampled.
    pub fn random() -> Self {
        Self {
            trace: format!("{:032x}", rand::random::<u128>().max(1)),
            span: format!("{:016x}", rand::random::<u64>().max(1)),
            flags: 1,
        }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span: Self::random().span,
            ..self.clone()
        }
    }

    /// That of the current span; `None` without a tracer.
    pub fn current() -> Option<Self> {
        let context = Span::current().context();
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| Self {
            trace: span.trace_id().to_string(),
            span: span.span_id().to_string(),
            flags: span.trace_flags().to_u8(),
        })
    }

    /// 32 hex digits.
    pub fn trace_id(&self) -> &str {
        &self.trace
    }

    fn context(&self) -> Option<opentelemetry::Context> {
        let remote = SpanContext::new(
            TraceId::from_hex(&self.trace).ok()?,
            SpanId::from_hex(&self.span).ok()?,
            TraceFlags::new(self.flags),
            true,
            TraceState::default(),
        );
        Some(opentelemetry::Context::new().with_remote_span_context(remote))
    }

    /// Makes it the parent of a span that has not been entered.
    pub(crate) fn adopt(&self, span: &Span) {
        if let Some(context) = self.context()
            && let Err(error) = span.set_parent(context)
        {
            tracing::trace!(%error, "the span has no parent");
        }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// The trace context of the current span, or of a new trace when there is none.
pub fn current_traceparent() -> String {
    TraceParent::current()
        .unwrap_or_else(TraceParent::random)
        .to_string()
}

/// Puts a span into a trace that was recorded or received. A malformed text is ignored. The span must not have been entered.
#[must_use]
pub fn with_traceparent(span: Span, traceparent: &str) -> Span {
    if let Some(parent) = TraceParent::parse(traceparent) {
        parent.adopt(&span);
    }
    span
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_reads_back_and_a_child_stays_in_its_trace() {
        let parent = TraceParent::random();
        assert_eq!(
            TraceParent::parse(&parent.to_string()),
            Some(parent.clone())
        );
        assert_eq!(parent.child().trace_id(), parent.trace_id());
        assert_ne!(parent.child(), parent);
    }

    #[test]
    fn zeros_upper_case_and_unknown_lengths_are_refused() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for text in [
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
        ] {
            assert_eq!(TraceParent::parse(&text), None, "{text}");
        }
        assert!(TraceParent::parse(&format!("01-{trace}-00f067aa0ba902b7-01-more")).is_some());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            let _ = TraceParent::parse(&text);
        }
    }
}
