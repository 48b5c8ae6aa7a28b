//! The way of one call through the client stack.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, request::Parts};
use http_body_util::{BodyExt as _, Full};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tracing::Instrument as _;
use upm_proto::policy::{self, Idempotency, Method};

use super::{Inner, Transport};
use crate::{
    audit::request_id_field,
    auth::Pause,
    body::{self, Ends, Prefixed, code_of, deadline_exceeded, guard},
    deadline, status,
    telemetry::TraceParent,
    wire,
};

/// A call is attempted at most so often.
const ATTEMPTS: u32 = 4;
/// Pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(80);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A longer `RetryInfo` is the caller's to wait for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(2);

pub(super) async fn handle<T: Transport>(
    inner: &Inner<T>,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let method = policy::find(request.uri().path());
    let label = method.map_or("other", |method| method.path);
    let mut call = inner.instruments.begin(label, request.headers());
    if let Ok(trace) = HeaderValue::try_from(call.trace().to_string()) {
        request.headers_mut().insert(TraceParent::HEADER, trace);
    }
    let time = match (
        deadline::read(request.headers()),
        method.and_then(|method| method.timeout),
    ) {
        (Some(given), Some(policy)) => Some(given.min(policy)),
        (given, policy) => given.or(policy),
    };
    if let Some(time) = time {
        request
            .headers_mut()
            .insert(deadline::HEADER, deadline::write(time));
    }
    let at = time.map(|time| Instant::now() + time);
    let span = call.span().clone();
    let work = attempts(inner, method, request, at).instrument(span);
    let result = match at {
        None => work.await,
        Some(at) => tokio::time::timeout_at(at, work)
            .await
            .unwrap_or_else(|_| Err(deadline_exceeded())),
    };
    match result {
        Ok(response) => {
            let ends = Ends {
                deadline: at,
                ..Ends::default()
            };
            Ok(guard(response, call, ends, Box::new(())))
        }
        Err(status) => {
            call.ended(status.code());
            Err(status)
        }
    }
}

async fn attempts<T: Transport>(
    inner: &Inner<T>,
    method: Option<&'static Method>,
    request: Request<Body>,
    at: Option<Instant>,
) -> Result<Response<Body>, Status> {
    inner.budget.earn();
    let Some(method) = method.filter(|method| !method.client_streaming && !method.server_streaming)
    else {
        return inner.transport.send(request).await;
    };
    let (parts, body) = request.into_parts();
    let body = body::collect(body, u32::MAX as usize).await?;
    let repeatable = is_repeatable(method, &body);
    let mut pause = Pause::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut attempt = 1;
    loop {
        let result = attempt_once(inner, &parts, &body, at).await;
        let Some(unavailable) = unavailability(&result) else {
            return result;
        };
        let asked = status::details(&unavailable)
            .retry_after
            .unwrap_or_default();
        let wait = pause.next().max(asked);
        let in_time = at.is_none_or(|at| Instant::now() + wait < at);
        if !repeatable
            || attempt >= ATTEMPTS
            || asked > LONGEST_RETRY_AFTER
            || !in_time
            || !inner.budget.spend()
        {
            return result;
        }
        inner.instruments.retried(method.path);
        tracing::debug!(
            attempt,
            ?wait,
            message = unavailable.message(),
            "unavailable; trying again"
        );
        tokio::time::sleep(wait).await;
        attempt += 1;
    }
}

async fn attempt_once<T: Transport>(
    inner: &Inner<T>,
    parts: &Parts,
    body: &Bytes,
    at: Option<Instant>,
) -> Result<Response<Body>, Status> {
    let mut request = Request::from_parts(parts.clone(), Body::new(Full::new(body.clone())));
    if let Some(at) = at {
        let left = at.saturating_duration_since(Instant::now());
        request
            .headers_mut()
            .insert(deadline::HEADER, deadline::write(left));
    }
    peeked(inner.transport.send(request).await?).await
}

/// Waits for the first frame, because an error may lie in the trailers.
async fn peeked(response: Response<Body>) -> Result<Response<Body>, Status> {
    if code_of(response.headers()).is_some() {
        return Ok(response);
    }
    let (parts, mut rest) = response.into_parts();
    let Some(first) = rest.frame().await else {
        return Ok(Response::from_parts(parts, Body::empty()));
    };
    let first = first?;
    if let Some(trailers) = first.trailers_ref()
        && code_of(trailers) == Some(Code::Unavailable)
        && let Some(status) = Status::from_header_map(trailers)
    {
        return Err(status);
    }
    let body = Body::new(Prefixed {
        first: Some(first),
        rest,
    });
    Ok(Response::from_parts(parts, body))
}

/// The status of an attempt that ended UNAVAILABLE.
fn unavailability(result: &Result<Response<Body>, Status>) -> Option<Status> {
    match result {
        Err(status) if status.code() == Code::Unavailable => Some(status.clone()),
        Ok(response) if code_of(response.headers()) == Some(Code::Unavailable) => {
            Status::from_header_map(response.headers())
        }
        _ => None,
    }
}

/// Whether repeating the call does no harm.
fn is_repeatable(method: &Method, body: &[u8]) -> bool {
    match method.idempotency {
        Idempotency::Never => false,
        Idempotency::NoSideEffects | Idempotency::Idempotent => true,
        // Without an id it would be done twice.
        Idempotency::RequestId => {
            let Some(field) = request_id_field(method.input) else {
                return false;
            };
            body::message(body)
                .ok()
                .and_then(|message| wire::string_field(message, &[field]).ok().flatten())
                .is_some_and(|id| !id.is_empty())
        }
    }
}
