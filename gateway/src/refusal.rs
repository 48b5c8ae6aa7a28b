//! What the gateway itself answers, in the caller's protocol.

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full};
use upm_transcode::{
    BindError, Tables,
    status::{Code, Detail, FieldViolation, Status},
};

use crate::Body;

const DOMAIN: &str = "gateway.upm";

/// A request that went no further.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    status: Status,
    /// When the HTTP status says more than the gRPC code.
    http: Option<StatusCode>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// When it is an upstream's own: its details are not ours to read.
    upstream: Option<Box<Upstream>>,
}

impl Refusal {
    pub(crate) fn new(code: Code, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: Status::new(code, message, reason, DOMAIN),
            http: None,
            headers: Vec::new(),
            upstream: None,
        }
    }

    fn with_header(mut self, name: HeaderName, value: impl Into<Option<HeaderValue>>) -> Self {
        self.headers.extend(value.into().map(|value| (name, value)));
        self
    }

    pub(crate) fn code(&self) -> Code {
        self.status.code
    }

    pub(crate) fn http_status(&self) -> StatusCode {
        self.http.unwrap_or_else(|| http_status(self.status.code))
    }

    fn with_http(mut self, status: StatusCode) -> Self {
        self.http = Some(status);
        self
    }

    pub(crate) fn unknown_method(path: &str) -> Self {
        Self::new(
            Code::Unimplemented,
            "METHOD_NOT_FOUND",
            format!("there is no method {path}"),
        )
    }

    pub(crate) fn unknown_path() -> Self {
        Self::new(Code::NotFound, "PATH_NOT_FOUND", "no method has this path")
    }

    pub(crate) fn method_not_allowed(allow: &[http::Method]) -> Self {
        let allow = allow
            .iter()
            .map(http::Method::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        Self::new(
            Code::Unimplemented,
            "METHOD_NOT_ALLOWED",
            format!("this path allows only {allow}"),
        )
        .with_http(StatusCode::METHOD_NOT_ALLOWED)
        .with_header(header::ALLOW, HeaderValue::from_str(&allow).ok())
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, "REQUEST_MALFORMED", message)
    }

    pub(crate) fn invalid_name(description: &str) -> Self {
        let mut refusal = Self::new(
            Code::InvalidArgument,
            "INVALID_FIELD",
            format!("name: {description}"),
        );
        refusal.status.details.push(Detail::BadRequest {
            field_violations: vec![FieldViolation {
                field: "name".to_owned(),
                description: description.to_owned(),
            }],
        });
        refusal
    }

    pub(crate) fn bind(error: &BindError) -> Self {
        Self {
            status: Status::invalid_request(error, "INVALID_FIELD", DOMAIN),
            http: None,
            headers: Vec::new(),
            upstream: None,
        }
    }

    /// Of a message of a stream, counted from 1.
    pub(crate) fn bind_at(error: &BindError, message: u64) -> Self {
        let mut refusal = Self::bind(error);
        refusal.status.message = format!("message {message}: {}", refusal.status.message);
        refusal
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(
            Code::ResourceExhausted,
            "BODY_TOO_LARGE",
            format!("a body has at most {limit} bytes"),
        )
        .with_http(StatusCode::PAYLOAD_TOO_LARGE)
    }

    pub(crate) fn message_too_large(limit: usize) -> Self {
        Self::new(
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
            format!("a message has at most {limit} bytes"),
        )
        .with_http(StatusCode::PAYLOAD_TOO_LARGE)
    }

    pub(crate) fn uri_too_long(limit: usize) -> Self {
        Self::new(
            Code::InvalidArgument,
            "URI_TOO_LONG",
            format!("a URL has at most {limit} bytes"),
        )
        .with_http(StatusCode::URI_TOO_LONG)
    }

    pub(crate) fn content_type() -> Self {
        Self::new(
            Code::InvalidArgument,
            "CONTENT_TYPE_UNSUPPORTED",
            "a REST body is application/json",
        )
        .with_http(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    }

    /// A body that is no gRPC, at the path of a gRPC method that has no other form there.
    pub(crate) fn no_grpc() -> Self {
        Self::new(
            Code::InvalidArgument,
            "CONTENT_TYPE_UNSUPPORTED",
            "this is the path of a gRPC method: application/grpc or application/grpc-web",
        )
        .with_http(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    }

    /// What the channel to a module said without asking the module.
    pub(crate) fn channel(module: &str, code: Code) -> Self {
        match code {
            Code::DeadlineExceeded => Self::deadline(),
            Code::ResourceExhausted => Self::overloaded(),
            _ => Self::unavailable(module),
        }
    }

    pub(crate) fn unavailable(module: &str) -> Self {
        Self::new(
            Code::Unavailable,
            "MODULE_UNAVAILABLE",
            format!("module {module} cannot be reached"),
        )
    }

    /// No server of an upstream takes calls now.
    pub(crate) fn no_endpoint() -> Self {
        Self::new(
            Code::Unavailable,
            "UPSTREAM_UNAVAILABLE",
            "the upstream cannot be reached",
        )
    }

    /// The call may or may not have been done.
    pub(crate) fn cut() -> Self {
        Self::new(
            Code::Unavailable,
            "ANSWER_CUT",
            "the connection broke before the answer was complete",
        )
    }

    /// An HTTP error where a gRPC answer was expected.
    pub(crate) fn foreign(code: Code) -> Self {
        Self::new(
            code,
            "ANSWER_FOREIGN",
            "the upstream did not answer as a gRPC server",
        )
    }

    pub(crate) fn deadline() -> Self {
        Self::new(
            Code::DeadlineExceeded,
            "DEADLINE_EXCEEDED",
            "the call took longer than its deadline",
        )
    }

    pub(crate) fn headers_too_large(limit: usize) -> Self {
        Self::new(
            Code::ResourceExhausted,
            "HEADERS_TOO_LARGE",
            format!("headers have at most {limit} bytes together"),
        )
        .with_http(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
    }

    pub(crate) fn slow_body() -> Self {
        Self::new(
            Code::DeadlineExceeded,
            "BODY_TOO_SLOW",
            "the body did not arrive in time",
        )
        .with_http(StatusCode::REQUEST_TIMEOUT)
    }

    pub(crate) fn content_encoding() -> Self {
        Self::new(
            Code::InvalidArgument,
            "CONTENT_ENCODING_UNSUPPORTED",
            "a body is compressed with gzip, zstd or br, or not at all",
        )
        .with_http(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    }

    pub(crate) fn overloaded() -> Self {
        Self::new(
            Code::Unavailable,
            "OVERLOADED",
            "the gateway has too much to do; try again later",
        )
        .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// `wait` in seconds, at least 1.
    pub(crate) fn too_many_requests(wait: u64) -> Self {
        Self::new(
            Code::ResourceExhausted,
            "RATE_LIMITED",
            "too many requests; try again later",
        )
        .with_header(header::RETRY_AFTER, HeaderValue::from(wait.max(1)))
    }

    pub(crate) fn unauthenticated(reason: &str, message: &str) -> Self {
        Self::new(Code::Unauthenticated, reason, message)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    pub(crate) fn foreign_origin() -> Self {
        Self::new(
            Code::PermissionDenied,
            "ORIGIN_REFUSED",
            "pages of this origin may not open WebSockets here",
        )
    }

    pub(crate) fn broken_answer() -> Self {
        Self::new(
            Code::Internal,
            "ANSWER_MALFORMED",
            "the module's answer cannot be read",
        )
    }

    /// As JSON with the HTTP status that belongs to it.
    pub(crate) fn into_rest(self, tables: &Tables) -> Response<Body> {
        if let Some(upstream) = self.upstream {
            return upstream.into_rest(tables);
        }
        let http = self.http_status();
        let mut body = self.status.to_json(tables);
        // AIP-193: the code in the body is the HTTP status of the answer.
        let usual = format!("{{\"error\":{{\"code\":{}", self.status.code.http_status());
        if body.starts_with(usual.as_bytes()) {
            let actual = format!("{{\"error\":{{\"code\":{}", http.as_u16());
            body.splice(..usual.len(), actual.into_bytes());
        }
        let mut response = json(http, body);
        response.headers_mut().extend(self.headers);
        response.extensions_mut().insert(self.status.code);
        response
    }

    /// As a trailers-only answer: a gRPC or gRPC-Web caller finds the status in the headers, and no body at all.
    pub(crate) fn into_grpc(self, content_type: HeaderValue) -> Response<Body> {
        let mut response = Response::new(empty());
        *response.headers_mut() = self.trailers();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
        headers.extend(self.headers);
        response
    }

    /// The status as gRPC trailers.
    pub(crate) fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(8);
        trailers.insert("grpc-status", HeaderValue::from(self.status.code.number()));
        if let Ok(message) = HeaderValue::from_str(&percent_encode(&self.status.message)) {
            trailers.insert("grpc-message", message);
        }
        let details =
            base64::engine::general_purpose::STANDARD_NO_PAD.encode(self.status.to_wire());
        if let Ok(details) = HeaderValue::from_str(&details) {
            trailers.insert("grpc-status-details-bin", details);
        }
        trailers
    }

    /// The same as an answer of an upstream: for what streams to a REST caller.
    pub(crate) fn to_json(&self, tables: &Tables) -> Vec<u8> {
        match &self.upstream {
            Some(upstream) => upstream.to_json(tables),
            None => self.status.to_json(tables),
        }
    }
}

/// A gRPC status that came from a module.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) code: Code,
    message: String,
    details: Option<Vec<u8>>,
}

impl Upstream {
    /// Reads the status out of headers or trailers; `None` when there is none.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let code: i32 = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
        let text = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
        let message = text("grpc-message").map(percent_decode).unwrap_or_default();
        // Padded and unpadded base64 are both legal.
        let details = text("grpc-status-details-bin").and_then(|bytes| {
            let bytes = bytes
                .strip_suffix(b"==")
                .or_else(|| bytes.strip_suffix(b"="))
                .unwrap_or(bytes);
            base64::engine::general_purpose::STANDARD_NO_PAD
                .decode(bytes)
                .ok()
        });
        Some(Self {
            code: Code::from_number(code),
            message,
            details,
        })
    }

    pub(crate) fn into_refusal(self) -> Refusal {
        Refusal {
            status: Status {
                code: self.code,
                message: self.message.clone(),
                details: Vec::new(),
            },
            http: None,
            headers: Vec::new(),
            upstream: Some(Box::new(self)),
        }
    }

    /// As JSON of AIP-193.
    pub(crate) fn to_json(&self, tables: &Tables) -> Vec<u8> {
        upm_transcode::status::error_json(tables, self.code, &self.message, self.details.as_deref())
    }

    pub(crate) fn into_rest(self, tables: &Tables) -> Response<Body> {
        let mut response = json(http_status(self.code), self.to_json(tables));
        response.extensions_mut().insert(self.code);
        response
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Headers that are the envelope's own and never shown to a REST caller.
pub(crate) fn is_envelope(name: &HeaderName) -> bool {
    name == header::CONTENT_TYPE
        || name == header::CONTENT_LENGTH
        || name == header::TE
        || name == header::TRAILER
        || name.as_str().starts_with("grpc-")
}

fn http_status(code: Code) -> StatusCode {
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn percent_decode(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let decoded = (byte == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(decoded) = decoded {
            out.push(decoded);
            rest = &tail[2..];
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_header() {
        for message in ["plain", "50 % of ünïcode\n", "%41"] {
            assert_eq!(percent_decode(percent_encode(message).as_bytes()), message);
        }
        assert_eq!(percent_decode(b"100%"), "100%");
    }

    #[tokio::test]
    async fn the_code_in_a_rest_body_is_the_http_status() {
        let tables = Tables::from_descriptor_set(upm_proto::DESCRIPTOR_SET).unwrap();
        let answer = Refusal::method_not_allowed(&[http::Method::GET]).into_rest(&tables);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["code"], 405);
    }

    #[test]
    fn a_grpc_refusal_has_no_body() {
        let answer =
            Refusal::unknown_path().into_grpc(HeaderValue::from_static("application/grpc"));
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["grpc-status"], "5");
        let read = Upstream::read(answer.headers()).unwrap();
        assert_eq!(read.code, Code::NotFound);
        assert_eq!(read.message, "no method has this path");
    }
}
