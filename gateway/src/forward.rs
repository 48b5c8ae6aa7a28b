//! Calls to an upstream: which headers go on, the deadline, and an answer that always has a status.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use tokio::time::Instant;
use upm_mesh::{FORWARDED_FOR, telemetry::TraceParent};

use crate::{Body, answer, catalog::Method, deadline, gateway::Gateway, refusal::Refusal};

/// Headers of the caller that an upstream never sees.
const NEVER_FORWARDED: &[&str] = &[
    "accept",
    "accept-encoding",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
    "host",
    "http2-settings",
    "keep-alive",
    "origin",
    "pragma",
    "proxy-authorization",
    "proxy-connection",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "x-forwarded-for",
    "x-grpc-web",
    "x-real-ip",
    "x-server-timeout",
    "x-user-agent",
];

/// A call on its way to its owner.
pub(crate) struct Call {
    pub(crate) method: Arc<Method>,
    pub(crate) owner: Arc<str>,
    /// The headers of the call, as the upstream sees them.
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
    pub(crate) deadline: Option<Instant>,
}

/// The gRPC frames of a request.
pub(crate) enum Payload {
    /// All of them; can be sent again.
    Whole(Bytes),
    /// As they come.
    Stream(Body),
}

/// The headers of a call and the time that it has.
pub(crate) fn head(
    caller: &HeaderMap,
    address: IpAddr,
    timeout: Option<Duration>,
) -> Result<(HeaderMap, Option<Instant>), Refusal> {
    let time = deadline::of(caller, timeout)?;
    let mut headers = HeaderMap::with_capacity(caller.len() + 4);
    // What `Connection` names is for this hop only.
    let hop: Vec<_> = caller
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for (name, value) in caller {
        if forwarded(name) && !hop.iter().any(|hop| hop == name.as_str()) {
            headers.append(name, value.clone());
        }
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    // With this header the gateway's own certificate gives the call no right: it must never be missing.
    let value = HeaderValue::from_str(&address.to_string())
        .map_err(|_| Refusal::malformed("the caller has no address"))?;
    headers.insert(HeaderName::from_static(FORWARDED_FOR), value);
    Ok((headers, time.map(|time| Instant::now() + time)))
}

/// Whether a header of the caller may go on.
fn forwarded(name: &HeaderName) -> bool {
    let name = name.as_str();
    NEVER_FORWARDED.binary_search(&name).is_err()
        && !name.starts_with("sec-")
        && !name.starts_with("access-control-")
}

/// Makes a call. The answer ends with trailers that have a status, or has the status in its headers and no body.
pub(crate) async fn call(gateway: &Gateway, mut call: Call) -> Result<Response<Body>, Refusal> {
    let at = call.deadline;
    // The span of this call is the parent of what the upstream does.
    if gateway.config().spans
        && let Some(current) = TraceParent::current()
        && let Ok(current) = HeaderValue::try_from(current.to_string())
    {
        call.headers.insert(TraceParent::HEADER, current);
    }
    if let Some(at) = at {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Refusal::deadline());
        }
        call.headers
            .insert(upm_mesh::deadline::HEADER, upm_mesh::deadline::write(left));
    }
    let sent = gateway.upstreams().send(call);
    let response = match at {
        None => sent.await?,
        Some(at) => tokio::time::timeout_at(at, sent)
            .await
            .map_err(|_| Refusal::deadline())??,
    };
    Ok(answer::guard(response, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_on_and_what_a_caller_must_not_say_does_not() {
        let mut caller = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("x-forwarded-for", "1.2.3.4"),
            ("cookie", "a=b"),
            ("traceparent", "00-a-b-01"),
            ("last-event-id", "7"),
            ("connection", "x-hop, close"),
            ("x-hop", "secret"),
        ] {
            caller.insert(name, HeaderValue::from_static(value));
        }
        let (headers, at) = head(&caller, "192.0.2.1".parse().unwrap(), None).unwrap();
        assert_eq!(headers["authorization"], "Bearer x");
        assert_eq!(headers["te"], "trailers", "without it some servers refuse");
        assert_eq!(headers["traceparent"], "00-a-b-01");
        assert_eq!(headers["last-event-id"], "7");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1");
        assert!(!headers.contains_key("cookie") && !headers.contains_key("x-hop"));
        assert_eq!(at, None);
    }

    #[test]
    fn the_headers_that_stay_behind_are_sorted() {
        assert!(NEVER_FORWARDED.is_sorted());
    }
}
