//! Tells requests apart, once, and stands before all of them: limits, trace, CORS, measurement.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Instant,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use tracing::Instrument as _;
use upm_mesh::telemetry::{self, TraceParent};

use crate::{
    Body, catalog, cors, docs,
    gateway::Gateway,
    measure::{self, Arrival},
    passthrough,
    protect::Stranger,
    proxies,
    refusal::{self, Refusal},
    rest, ui,
    view::View,
    web::{self, Form},
    websocket,
};

const TRACEPARENT: &str = TraceParent::HEADER;

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grpc,
    Web(Form),
    Socket,
    Rest,
}

/// A request with what belongs to it.
pub(crate) struct Exchange<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) view: Arc<View>,
    pub(crate) address: IpAddr,
}

impl Exchange<'_> {
    /// Whether the caller may make a call at all, before its body is read: who it is, how often it calls, and how much of what strangers
    /// have together is left.
    pub(crate) fn admit(
        &self,
        headers: &HeaderMap,
        method: &catalog::Method,
    ) -> Result<Admitted, Refusal> {
        let shared = self.gateway.shared();
        let standing = shared.auth.standing(headers, method.public)?;
        if shared.protection.limits_principals()
            && let Some(principal) = &standing.principal
        {
            shared.protection.principal(principal.key())?;
        }
        let config = &shared.config;
        if !standing.stranger {
            return Ok(Admitted {
                max_body: config.max_body_bytes,
                _stranger: None,
            });
        }
        Ok(Admitted {
            max_body: config.max_body_bytes.min(config.strangers.max_body_bytes),
            _stranger: Some(shared.protection.stranger(self.address)?),
        })
    }
}

/// A call that may be made; keep it for as long as it is worked on.
pub(crate) struct Admitted {
    /// Largest body, or largest message of a stream, in bytes.
    pub(crate) max_body: usize,
    _stranger: Option<Stranger>,
}

/// Answers a request. Never fails: what goes wrong is an answer in the caller's protocol.
pub(crate) fn answer(
    gateway: Gateway,
    request: Request<Body>,
    address: SocketAddr,
) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> {
    Box::pin(async move {
        let mut request = request;
        let shared = gateway.shared().clone();
        let trusted = &shared.config.trusted_proxies;
        let address = proxies::client(trusted, address.ip(), request.headers());
        // With spans the call's own span goes on, and its parent is the caller's.
        if !shared.config.spans {
            continue_trace(&mut request);
        }
        let arrival = Arrival {
            at: Instant::now(),
            address,
            method: request.method().clone(),
            path: match &shared.log {
                Some(_) => request.uri().path().to_owned(),
                None => String::new(),
            },
            trace: match &shared.log {
                Some(_) => trace_id(request.headers()),
                None => String::new(),
            },
            version: request.version(),
        };
        let ends = ends_the_connection(&request);
        let mut response = guarded(&gateway, request, address).await;
        if ends && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        measure::response(response, arrival, shared)
    })
}

/// Whether nothing after this request is read. `Transfer-Encoding` overrides `Content-Length`, and when a request had both, what a proxy before
/// us took for its body may hold what we would take for the next request (RFC 9112, section 6.1). Which of them came is not seen any more.
fn ends_the_connection<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && request.headers().contains_key(header::TRANSFER_ENCODING)
}

/// Makes sure that there is trace context to go on: the caller's trace with a span of our own, or a new trace.
fn continue_trace(request: &mut Request<Body>) {
    let given = request
        .headers()
        .get(TRACEPARENT)
        .and_then(|value| value.to_str().ok())
        .map(str::trim)
        .filter(|value| TraceParent::parse(value).is_some());
    let mut value = *b"00-00000000000000000000000000000000-0000000000000000-01";
    if let Some(given) = given {
        let length = value.len();
        value[2..].copy_from_slice(&given.as_bytes()[2..length]);
    } else {
        hex(&mut value[3..35], rand::random::<u128>().max(1));
    }
    hex(&mut value[36..52], u128::from(rand::random::<u64>().max(1)));
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        request.headers_mut().insert(TRACEPARENT, value);
    }
}

fn hex(into: &mut [u8], mut number: u128) {
    for digit in into.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

/// The id of the trace of a request whose trace context was continued.
fn trace_id(headers: &HeaderMap) -> String {
    headers
        .get(TRACEPARENT)
        .and_then(|value| value.to_str().ok()?.get(3..35))
        .unwrap_or_default()
        .to_owned()
}

/// The limits that hold for every request.
async fn guarded(gateway: &Gateway, request: Request<Body>, address: IpAddr) -> Response<Body> {
    let exchange = Exchange {
        gateway,
        view: gateway.view(),
        address,
    };
    let kind = kind(&request);
    let origin = cors::origin(gateway.config(), request.headers());
    if let Some(mut response) = cors::preflight(&request, origin.as_ref()) {
        cors::decorate(&mut response, origin);
        return response;
    }
    if matches!(kind, Kind::Grpc | Kind::Web(_)) && request.method() != Method::POST {
        // It is no call, so its answer is none of gRPC.
        let mut response =
            Refusal::method_not_allowed(&[Method::POST]).into_rest(&exchange.view.tables);
        cors::decorate(&mut response, origin);
        return response;
    }
    let entered =
        within_limits(gateway, &request).and_then(|()| gateway.shared().protection.enter(address));
    let mut response = match entered {
        Ok(_permit) => {
            if gateway.config().spans {
                let span = span(&request);
                told_apart(&exchange, request, kind).instrument(span).await
            } else {
                told_apart(&exchange, request, kind).await
            }
        }
        Err(refusal) => match kind {
            Kind::Grpc => refusal.into_grpc(HeaderValue::from_static("application/grpc")),
            Kind::Web(form) => refusal.into_grpc(form.content_type()),
            Kind::Socket | Kind::Rest => refusal.into_rest(&exchange.view.tables),
        },
    };
    cors::decorate(&mut response, origin);
    response
}

fn within_limits(gateway: &Gateway, request: &Request<Body>) -> Result<(), Refusal> {
    let config = gateway.config();
    let length = request
        .uri()
        .path_and_query()
        .map_or(0, |path| path.as_str().len());
    if length > config.max_uri_bytes {
        return Err(Refusal::uri_too_long(config.max_uri_bytes));
    }
    let headers: usize = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if headers > config.max_header_bytes {
        return Err(Refusal::headers_too_large(config.max_header_bytes));
    }
    Ok(())
}

fn span(request: &Request<Body>) -> tracing::Span {
    let span = tracing::info_span!(
        "gateway",
        otel.kind = "server",
        otel.name = %format_args!("{} {}", request.method(), request.uri().path()),
        http.request.method = %request.method(),
        url.path = request.uri().path(),
    );
    let parent = request
        .headers()
        .get(TRACEPARENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    telemetry::with_traceparent(span, parent)
}

async fn told_apart(exchange: &Exchange<'_>, request: Request<Body>, kind: Kind) -> Response<Body> {
    match kind {
        Kind::Grpc => passthrough::serve(exchange, request).await,
        Kind::Web(form) => web::serve(exchange, request, form).await,
        Kind::Socket => websocket::serve(exchange, request)
            .unwrap_or_else(|refusal| refusal.into_rest(&exchange.view.tables)),
        Kind::Rest => plain(exchange, request).await,
    }
}

fn kind(request: &Request<Body>) -> Kind {
    let headers = request.headers();
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| {
            let value = value.split(';').next().unwrap_or(value);
            value.trim().to_ascii_lowercase()
        })
        .unwrap_or_default();
    if let Some(form) = Form::of(&content_type) {
        return Kind::Web(form);
    }
    if content_type == "application/grpc" || content_type.starts_with("application/grpc+") {
        return Kind::Grpc;
    }
    if websocket::is_asked_for(request) {
        return Kind::Socket;
    }
    Kind::Rest
}

/// REST, and the few paths that are the gateway's own.
async fn plain(exchange: &Exchange<'_>, request: Request<Body>) -> Response<Body> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        match request.uri().path() {
            "/healthz" => {
                let mut response = Response::new(refusal::full("ok\n"));
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                return response;
            }
            "/openapi.json" => {
                let mut response = refusal::json(StatusCode::OK, Vec::new());
                *response.body_mut() = refusal::full(exchange.view.openapi.clone());
                return response;
            }
            path => {
                if let Some(response) =
                    docs::answer(path).or_else(|| ui::answer(exchange, path, request.headers()))
                {
                    return response;
                }
            }
        }
    }
    rest::serve(exchange, request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_content_type() {
        let of = |value: &'static str| {
            let mut request = Request::new(refusal::empty());
            request
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            kind(&request)
        };
        assert_eq!(of("application/grpc"), Kind::Grpc);
        assert_eq!(of("application/grpc+proto"), Kind::Grpc);
        assert_eq!(
            of("Application/gRPC-Web+proto; charset=utf-8"),
            Kind::Web(Form::Binary)
        );
        assert_eq!(of("application/grpc-web-text"), Kind::Web(Form::Text));
        assert_eq!(of("application/json"), Kind::Rest);
        assert_eq!(of("application/grpcish"), Kind::Rest);
        assert_eq!(kind(&Request::new(refusal::empty())), Kind::Rest);
    }

    #[test]
    fn trace_context_is_continued_or_begun() {
        let mut request = Request::new(refusal::empty());
        continue_trace(&mut request);
        let begun = trace_id(request.headers());
        let first = request.headers()["traceparent"].clone();
        assert!(TraceParent::parse(first.to_str().unwrap()).is_some() && begun.len() == 32);
        continue_trace(&mut request);
        assert_eq!(trace_id(request.headers()), begun);
        assert_ne!(
            request.headers()["traceparent"],
            first,
            "the span is another"
        );
    }
}
