//! REST: bind, encode, call, decode.

mod stream;
mod upload;
mod values;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use upm_transcode::{BodyKind, RouteError, RouteMatch, status::Code};

use self::values::Splitter;
use crate::{
    Body,
    compression::{self, Coding},
    dispatch::Exchange,
    forward::{self, Call, Payload},
    frame,
    inbound::{self, Bounds, Fault},
    measure::Matched,
    refusal::{self, Refusal, Upstream},
    view::View,
};

/// Largest answer that is put together, in bytes.
const LARGEST_ANSWER: usize = frame::LARGEST;

/// Answers a REST request.
pub(crate) async fn serve(exchange: &Exchange<'_>, request: Request<Body>) -> Response<Body> {
    let head = request.method() == Method::HEAD;
    let coding = Coding::accepted(request.headers());
    let view = &exchange.view;
    let response = match call(exchange, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_rest(&view.tables),
    };
    if !head {
        return compression::compress(response, coding);
    }
    let (mut parts, body) = response.into_parts();
    if let Some(size) = body.size_hint().exact() {
        parts.headers.insert(header::CONTENT_LENGTH, size.into());
    }
    Response::from_parts(parts, refusal::empty())
}

pub(crate) fn route<'v>(
    view: &'v View,
    method: &Method,
    path: &str,
) -> Result<RouteMatch<'v>, Refusal> {
    view.tables
        .route(method, path)
        .map_err(|error| match error {
            RouteError::NotFound => Refusal::unknown_path(),
            RouteError::MethodNotAllowed { allow } => Refusal::method_not_allowed(&allow),
            RouteError::InvalidPath {
                variable,
                description,
            } => Refusal::malformed(format!("{variable}: {description}")),
        })
}

async fn call(exchange: &Exchange<'_>, request: Request<Body>) -> Result<Response<Body>, Refusal> {
    let (parts, body) = request.into_parts();
    let view = &exchange.view;
    let matched = route(view, &parts.method, parts.uri.path()).map_err(|refusal| {
        let is_grpc = parts.method == Method::POST && view.catalog.contains(parts.uri.path());
        if is_grpc { Refusal::no_grpc() } else { refusal }
    })?;
    // A method that is not offered has no path either.
    let method = view
        .catalog
        .find(matched.method().path())
        .map_err(|_| Refusal::unknown_path())?
        .clone();
    let admitted = exchange.admit(&parts.headers, &method)?;
    let result = async {
        let fault = Fault::default();
        let body = incoming(
            exchange,
            &parts.headers,
            body,
            (method.client_streaming, admitted.max_body),
            &fault,
        )?;
        let (payload, owner) = if method.client_streaming {
            let payload = upload::stream(exchange, &matched, &parts, body, &fault).await?;
            (payload, method.owner(&[])?)
        } else {
            let message = unary_request(&matched, &parts, body, &fault).await?;
            let owner = method.owner(&message[frame::PREFIX..])?;
            (Payload::Whole(message), owner)
        };
        let (headers, deadline) = forward::head(&parts.headers, exchange.address, method.timeout)?;
        let call = Call {
            method: method.clone(),
            owner,
            headers,
            payload,
            deadline,
        };
        let response = fault.or(forward::call(exchange.gateway, call).await)?;
        answer(exchange, &matched, &parts.headers, response, &fault).await
    }
    .await;
    let mut response = result.unwrap_or_else(|refusal| refusal.into_rest(&view.tables));
    response.extensions_mut().insert(Matched(method));
    Ok(response)
}

/// The body of a request, decompressed and bounded.
fn incoming(
    exchange: &Exchange<'_>,
    headers: &HeaderMap,
    body: Body,
    (streaming, limit): (bool, usize),
    fault: &Fault,
) -> Result<Body, Refusal> {
    let config = exchange.gateway.config();
    let bounds = Bounds {
        bytes: (!streaming).then_some(limit),
        pause: (!streaming).then_some(config.body_timeout),
        total: (!streaming).then_some(config.body_deadline),
    };
    let Some(coding) = Coding::of_request(headers)? else {
        return Ok(inbound::bounded(body, bounds, fault));
    };
    // What comes in is bounded as well as what comes out.
    let body = inbound::bounded(body, bounds, fault);
    let body = compression::decompress(body, coding, limit, fault)?;
    let bounds = Bounds {
        pause: None,
        total: None,
        ..bounds
    };
    Ok(inbound::bounded(body, bounds, fault))
}

/// The one message of a request, in its frame.
async fn unary_request(
    matched: &RouteMatch<'_>,
    parts: &http::request::Parts,
    body: Body,
    fault: &Fault,
) -> Result<Bytes, Refusal> {
    let body = inbound::collect(body, fault).await?;
    let mut message = frame::open(body.len() + 64);
    let query = parts.uri.query();
    match matched.body_kind() {
        BodyKind::HttpBody => {
            let content_type = content_type(&parts.headers);
            matched.encode_http_body(query, content_type, &body, &mut message)
        }
        BodyKind::Json | BodyKind::None => {
            if !body.is_empty() && !is_json(&parts.headers) {
                return Err(Refusal::content_type());
            }
            matched.encode_request(query, &body, &mut message)
        }
    }
    .map_err(|error| Refusal::bind(&error))?;
    resume(matched, &parts.headers, &mut message);
    Ok(frame::seal(message))
}

/// Tells a stream where its client was before, as browsers do when they connect again.
fn resume(matched: &RouteMatch<'_>, headers: &HeaderMap, message: &mut bytes::BytesMut) {
    let method = matched.method();
    let id = headers
        .get("last-event-id")
        .filter(|_| method.server_streaming())
        .and_then(|value| value.to_str().ok())
        .filter(|id| !id.is_empty());
    let field = || {
        matched
            .tables()
            .string_field(method.input(), "resume_token")
    };
    if let Some(id) = id
        && let Some(field) = field()
    {
        // Of two values of a field the later wins.
        prost::encoding::string::encode(field, &id.to_owned(), message);
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Whether a body is JSON; one without a type is.
fn is_json(headers: &HeaderMap) -> bool {
    let value = content_type(headers)
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    value.is_empty()
        || [
            "application/json",
            "application/x-ndjson",
            "application/merge-patch+json",
        ]
        .iter()
        .any(|json| value.eq_ignore_ascii_case(json))
}

/// The answer in the form that the caller asked for.
async fn answer(
    exchange: &Exchange<'_>,
    matched: &RouteMatch<'_>,
    caller: &HeaderMap,
    response: Response<Body>,
    fault: &Fault,
) -> Result<Response<Body>, Refusal> {
    let view = &exchange.view;
    if let Some(upstream) = Upstream::read(response.headers()) {
        let headers = response.headers();
        return Ok(decorate(upstream.into_rest(&view.tables), headers));
    }
    let raw = view.tables.responds_with_http_body(matched.binding());
    if matched.method().server_streaming() {
        let settings = stream::Settings {
            view: view.clone(),
            route: matched.id(),
            keep_alive: exchange.gateway.config().keep_alive,
            trailers: takes_trailers(caller),
            fault: fault.clone(),
        };
        let headers = response.headers().clone();
        let answer = if raw {
            stream::raw(settings, response).await?
        } else {
            stream::serve(settings, response, stream::Form::of(caller))
        };
        return Ok(decorate(answer, &headers));
    }
    let answer = unary(view, matched, caller, response, raw).await;
    fault.or(answer)
}

fn takes_trailers(caller: &HeaderMap) -> bool {
    caller
        .get_all(header::TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case("trailers"))
}

async fn unary(
    view: &View,
    matched: &RouteMatch<'_>,
    caller: &HeaderMap,
    response: Response<Body>,
    raw: bool,
) -> Result<Response<Body>, Refusal> {
    let (parts, body) = response.into_parts();
    let collected = http_body_util::Limited::new(body, LARGEST_ANSWER + frame::PREFIX)
        .collect()
        .await
        .map_err(|error| {
            tracing::warn!(%error, method = matched.method().path(), "An answer is too large");
            Refusal::broken_answer()
        })?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let status = Upstream::read(&trailers).ok_or_else(Refusal::broken_answer)?;
    let answer = if status.code == Code::Ok {
        let message = frame::only(collected.to_bytes()).ok_or_else(Refusal::broken_answer)?;
        message_answer(view, matched, caller, message, raw)?
    } else {
        status.into_rest(&view.tables)
    };
    Ok(decorate(decorate(answer, &parts.headers), &trailers))
}

fn message_answer(
    view: &View,
    matched: &RouteMatch<'_>,
    caller: &HeaderMap,
    message: Bytes,
    raw: bool,
) -> Result<Response<Body>, Refusal> {
    if raw {
        let found = view
            .tables
            .response_http_body(matched.binding(), &message)
            .ok_or_else(Refusal::broken_answer)?;
        let mut response = Response::new(refusal::full(message.slice_ref(found.data)));
        put_content_type(&mut response, found.content_type);
        return Ok(response);
    }
    if wants_protobuf(caller) {
        let mut response = Response::new(refusal::full(message));
        put_content_type(&mut response, PROTOBUF);
        return Ok(response);
    }
    let mut json = Vec::with_capacity(message.len() * 2);
    matched.decode_response(&message, &mut json).map_err(|error| {
        tracing::error!(%error, method = matched.method().path(), "Could not transcode an answer");
        Refusal::broken_answer()
    })?;
    Ok(refusal::json(StatusCode::OK, json))
}

const PROTOBUF: &str = "application/x-protobuf";

/// Whether the caller names protobuf before JSON.
fn wants_protobuf(caller: &HeaderMap) -> bool {
    let Some(accept) = caller
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    accept
        .split(',')
        .map(|part| part.split(';').next().unwrap_or_default().trim())
        .find_map(|part| match part.to_ascii_lowercase().as_str() {
            PROTOBUF | "application/protobuf" => Some(true),
            "application/json" | "*/*" => Some(false),
            _ => None,
        })
        .unwrap_or(false)
}

fn put_content_type(response: &mut Response<Body>, content_type: &str) {
    let value = HeaderValue::from_str(content_type)
        .ok()
        .filter(|value| !value.is_empty())
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(header::CONTENT_TYPE, value);
}

/// Passes an upstream's own metadata on, and makes what clients of HTTP expect of some of it.
fn decorate(mut response: Response<Body>, upstream: &HeaderMap) -> Response<Body> {
    for (name, value) in upstream {
        if shown(name) {
            response.headers_mut().append(name, value.clone());
        }
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response.headers_mut().insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// Whether a REST caller sees this header of an upstream. Binary metadata and what belongs to a connection stay behind.
fn shown(name: &HeaderName) -> bool {
    !refusal::is_envelope(name)
        && !name.as_str().ends_with("-bin")
        && ![
            header::DATE,
            header::CONNECTION,
            header::TRANSFER_ENCODING,
            header::UPGRADE,
            header::CONTENT_ENCODING,
            header::SERVER,
            header::ACCEPT_ENCODING,
        ]
        .contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_is_sent_to_who_names_it_first() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(value));
            wants_protobuf(&headers)
        };
        assert!(of("application/x-protobuf"));
        assert!(of("application/protobuf, application/json"));
        assert!(!of("application/json, application/x-protobuf"));
        assert!(!of("*/*"));
        assert!(!wants_protobuf(&HeaderMap::new()));
    }
}
