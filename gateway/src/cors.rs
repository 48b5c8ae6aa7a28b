//! Which pages of other origins may call the API.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};

use crate::{Body, Config, refusal};

const EXPOSED: &str =
    "grpc-status, grpc-message, grpc-status-details-bin, traceparent, retry-after";
const ALLOWED_HEADERS: &str = "authorization, content-type, x-grpc-web, x-user-agent, grpc-timeout, x-server-timeout, traceparent, if-match, last-event-id";
const MAX_AGE_SECONDS: &str = "7200";
/// Headers that a page can always read, or never can.
const KNOWN: [HeaderName; 7] = [
    header::CACHE_CONTROL,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::SET_COOKIE,
];

/// The origin of the request when it may call.
pub(crate) fn origin(config: &Config, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    config
        .allowed_origins
        .iter()
        .any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes())
        .then(|| origin.clone())
}

/// Answers the question that a browser asks first.
pub(crate) fn preflight<B>(
    request: &Request<B>,
    origin: Option<&HeaderValue>,
) -> Option<Response<Body>> {
    let asks = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !asks {
        return None;
    }
    let mut response = Response::new(refusal::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if origin.is_some() {
        let headers = response.headers_mut();
        let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
        set(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, POST, PUT, PATCH, DELETE",
        );
        set(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
        // Metadata of the caller's own has any name; a page that may call may send it.
        let asked = request
            .headers()
            .get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            asked
                .cloned()
                .unwrap_or(HeaderValue::from_static(ALLOWED_HEADERS)),
        );
        headers.append(
            header::VARY,
            HeaderValue::from_static("access-control-request-headers"),
        );
    }
    Some(response)
}

/// What a page may read: what it must, and the upstream's own metadata.
fn exposed(headers: &HeaderMap) -> HeaderValue {
    let mut names = EXPOSED.to_owned();
    for name in headers.keys() {
        let own =
            name.as_str().starts_with("grpc-") || name.as_str().starts_with("access-control-");
        if !own && !KNOWN.contains(name) && !EXPOSED.split(", ").any(|known| known == name.as_str())
        {
            names.push_str(", ");
            names.push_str(name.as_str());
        }
    }
    HeaderValue::from_str(&names).unwrap_or(HeaderValue::from_static(EXPOSED))
}

/// Lets the page read the answer.
pub(crate) fn decorate(response: &mut Response<Body>, origin: Option<HeaderValue>) {
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = exposed(headers);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
}
