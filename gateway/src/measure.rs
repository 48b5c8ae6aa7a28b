//! What is told about requests: counts and durations by method (never by URL), and the access log.

mod log;

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Response, Version};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use opentelemetry::{KeyValue, global};
use upm_transcode::status::Code;

pub(crate) use self::log::Log;
use crate::{Body, BodyError, catalog::Method, gateway::Shared, refusal::Upstream};

/// Upper ends of the classes of durations, in seconds; one more class is for what takes longer.
pub(crate) const CLASSES: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

/// Counts of one method. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By gRPC code.
    calls: [AtomicU64; Code::ALL.len()],
    /// By [`CLASSES`].
    durations: [AtomicU64; CLASSES.len() + 1],
    microseconds: AtomicU64,
}

impl Counters {
    fn record(&self, code: Code, took: Duration) {
        let seconds = took.as_secs_f64();
        let class = CLASSES.partition_point(|end| *end < seconds);
        self.0.calls[code.number() as usize].fetch_add(1, Ordering::Relaxed);
        self.0.durations[class].fetch_add(1, Ordering::Relaxed);
        self.0
            .microseconds
            .fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// Calls by code, without those that never came.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (Code, u64)> {
        Code::ALL
            .into_iter()
            .zip(&self.0.calls)
            .map(|(code, count)| (code, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }

    /// Calls by class of duration.
    pub(crate) fn durations(&self) -> impl Iterator<Item = u64> {
        self.0
            .durations
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
    }

    /// All durations together.
    pub(crate) fn seconds(&self) -> f64 {
        self.0.microseconds.load(Ordering::Relaxed) as f64 / 1e6
    }
}

/// The method of a request, as an extension of its response.
#[derive(Clone)]
pub(crate) struct Matched(pub(crate) Arc<Method>);

/// What is known of a request when it arrives.
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) address: IpAddr,
    pub(crate) method: http::Method,
    /// Without the query, which may hold what is nobody's business. Empty when nobody logs.
    pub(crate) path: String,
    pub(crate) version: Version,
    /// The id of the trace, if there is one.
    pub(crate) trace: String,
}

/// Measures a response to its end.
pub(crate) fn response(
    mut response: Response<Body>,
    arrival: Arrival,
    shared: Arc<Shared>,
) -> Response<Body> {
    let matched = response.extensions_mut().remove::<Matched>();
    let code = response.extensions_mut().remove::<Code>();
    if matched.is_none() && shared.log.is_none() {
        return response;
    }
    let code = code.or_else(|| Upstream::read(response.headers()).map(|status| status.code));
    let mut record = Record {
        arrival,
        shared,
        method: matched.map(|matched| matched.0),
        status: response.status().as_u16(),
        code,
        bytes: 0,
        complete: false,
    };
    if http_body::Body::is_end_stream(response.body()) {
        record.complete = true;
        drop(record);
        return response;
    }
    response.map(|inner| Measured { inner, record }.boxed_unsync())
}

/// Told when it is dropped.
struct Record {
    arrival: Arrival,
    shared: Arc<Shared>,
    method: Option<Arc<Method>>,
    status: u16,
    code: Option<Code>,
    bytes: u64,
    /// Whether the answer was sent to its end.
    complete: bool,
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.arrival.at.elapsed();
        let code = match self.code {
            Some(code) => code,
            None if self.complete => Code::Ok,
            None => Code::Cancelled,
        };
        if let Some(method) = &self.method {
            method.counters.record(code, took);
        }
        if let Some(log) = &self.shared.log {
            log.write(&log::Line {
                arrival: &self.arrival,
                method: self.method.as_ref().map_or("", |method| method.path.path()),
                status: self.status,
                code,
                bytes: self.bytes,
                took,
                complete: self.complete,
            });
        }
    }
}

struct Measured {
    inner: Body,
    record: Record,
}

impl http_body::Body for Measured {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &polled {
            None => self.record.complete = true,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.record.bytes += data.len() as u64;
                } else if let Some(status) = frame.trailers_ref().and_then(Upstream::read) {
                    self.record.code = Some(status.code);
                }
                // Nobody asks again after the last frame.
                self.record.complete = self.inner.is_end_stream() || frame.is_trailers();
            }
            Some(Err(_)) => {}
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Shows the counts to the process's telemetry, which reads them when it exports.
pub(crate) fn observe(shared: &Arc<Shared>) {
    let meter = global::meter("upm-gateway");
    let weak = Arc::downgrade(shared);
    meter
        .u64_observable_counter("upm.gateway.calls")
        .with_description("Calls by method and gRPC code")
        .with_callback(move |observer| {
            each(&weak, |method| {
                for (code, count) in method.counters.calls() {
                    let labels = [label(method), KeyValue::new("rpc.code", code.name())];
                    observer.observe(count, &labels);
                }
            });
        })
        .build();
    let weak = Arc::downgrade(shared);
    meter
        .f64_observable_counter("upm.gateway.time")
        .with_unit("s")
        .with_description("Durations of calls together, by method; streams to their end")
        .with_callback(move |observer| {
            each(&weak, |method| {
                observer.observe(method.counters.seconds(), &[label(method)]);
            });
        })
        .build();
}

fn label(method: &Method) -> KeyValue {
    KeyValue::new("rpc.method", method.path.path().to_owned())
}

fn each(shared: &Weak<Shared>, mut of: impl FnMut(&Method)) {
    if let Some(shared) = shared.upgrade() {
        shared
            .view
            .load()
            .catalog
            .methods()
            .for_each(|method| of(method));
    }
}

/// The counts in the text format of Prometheus.
pub(crate) fn prometheus(shared: &Shared) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("# TYPE upm_gateway_calls_total counter\n");
    let view = shared.view.load();
    for method in view.catalog.methods() {
        for (code, count) in method.counters.calls() {
            let (path, code) = (method.path.path(), code.name());
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "upm_gateway_calls_total{{method=\"{path}\",code=\"{code}\"}} {count}"
            );
        }
    }
    text.push_str("# TYPE upm_gateway_duration_seconds histogram\n");
    for method in view.catalog.methods() {
        let (path, mut below) = (method.path.path(), 0);
        let counts: Vec<_> = method.counters.durations().collect();
        if counts.iter().all(|count| *count == 0) {
            continue;
        }
        let ends = CLASSES
            .iter()
            .map(f64::to_string)
            .chain(["+Inf".to_owned()]);
        for (end, count) in ends.zip(&counts) {
            below += count;
            let _ = writeln!(
                text,
                "upm_gateway_duration_seconds_bucket{{method=\"{path}\",le=\"{end}\"}} {below}"
            );
        }
        let seconds = method.counters.seconds();
        let _ = writeln!(
            text,
            "upm_gateway_duration_seconds_sum{{method=\"{path}\"}} {seconds}"
        );
        let _ = writeln!(
            text,
            "upm_gateway_duration_seconds_count{{method=\"{path}\"}} {below}"
        );
    }
    let reordered = view.tables.reordered();
    let _ = writeln!(
        text,
        "# TYPE upm_gateway_messages_reordered_total counter\nupm_gateway_messages_reordered_total {reordered}"
    );
    text
}
