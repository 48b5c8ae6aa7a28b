//! What is asked, and what must come back.

use std::{error::Error, net::SocketAddr, sync::OnceLock};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use super::{api, upstream::STREAM};

/// A request, and what must come back.
pub(super) struct Case {
    pub(super) http2: bool,
    method: Method,
    path: &'static str,
    headers: HeaderMap,
    body: Bytes,
    expected: Expected,
    /// A body that was found right: what equals it is right, too.
    right: OnceLock<Bytes>,
}

enum Expected {
    Json(Value),
    /// So many lines with this prefix, and one of them.
    Lines(usize, &'static str, Value),
    /// This frame first, and status 0 in trailers of HTTP/2 or in a last frame.
    Grpc(Vec<u8>, bool),
}

/// The case with this name; with a token, its caller is verified.
pub(super) fn case(name: &str, token: Option<&str>) -> Option<Case> {
    let grpc = |path, body: Vec<u8>, answer: Vec<u8>, web: bool| {
        let kind = if web {
            "application/grpc-web+proto"
        } else {
            "application/grpc"
        };
        (
            Method::POST,
            path,
            Some(kind),
            body,
            Expected::Grpc(answer, web),
        )
    };
    let get = api::frame("GetBookRequest", &json!({"name": "shelves/1/books/1"}));
    let watch = Expected::Lines(STREAM, "", api::small());
    let events = Expected::Lines(STREAM, "data: ", api::small());
    let small = "/v1/shelves/1/books/1";
    let (method, path, kind, body, expected) = match name {
        "get" => (
            Method::GET,
            small,
            None,
            vec![],
            Expected::Json(api::small()),
        ),
        "post" => {
            let body = api::book(1).to_string().into_bytes();
            (
                Method::POST,
                "/v1/shelves/1/books",
                Some("application/json"),
                body,
                Expected::Json(api::book(1)),
            )
        }
        "list" => (
            Method::GET,
            "/v1/shelves/1/books",
            None,
            vec![],
            Expected::Json(api::list()),
        ),
        "web" => grpc(
            "/demo.bench.Books/GetBook",
            get,
            api::frame("Book", &api::small()),
            true,
        ),
        "grpc" => grpc(
            "/demo.bench.Books/GetBook",
            get,
            api::frame("Book", &api::small()),
            false,
        ),
        "grpc-list" => grpc(
            "/demo.bench.Books/ListBooks",
            vec![0; 5],
            api::frame("ListBooksResponse", &api::list()),
            false,
        ),
        "ndjson" => (Method::GET, "/v1/shelves/1:watch", None, vec![], watch),
        "sse" => (Method::GET, "/v1/shelves/1:watch", None, vec![], events),
        _ => return None,
    };
    let mut headers = HeaderMap::new();
    if let Some(kind) = kind {
        headers.insert(header::CONTENT_TYPE, kind.parse().ok()?);
    }
    if name == "sse" {
        headers.insert(header::ACCEPT, "text/event-stream".parse().ok()?);
    }
    let http2 = matches!(expected, Expected::Grpc(_, false));
    if http2 {
        headers.insert(header::TE, "trailers".parse().ok()?);
    }
    if let Some(token) = token {
        headers.insert(
            header::AUTHORIZATION,
            format!("Bearer {token}").parse().ok()?,
        );
    }
    Some(Case {
        http2,
        method,
        path,
        headers,
        body: Bytes::from(body),
        expected,
        right: OnceLock::new(),
    })
}

impl Case {
    pub(super) fn request(&self, address: SocketAddr) -> http::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(format!("http://{address}{}", self.path))
            .body(Full::new(self.body.clone()))?;
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }

    pub(super) async fn check(
        &self,
        response: http::Response<hyper::body::Incoming>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let status = response.status();
        let collected = response.into_body().collect().await?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let body = collected.to_bytes();
        let ended = match &self.expected {
            Expected::Grpc(_, false) => trailers
                .get("grpc-status")
                .is_some_and(|status| status == "0"),
            _ => true,
        };
        let known = self.right.get().is_some_and(|right| *right == body);
        if status == 200 && ended && (known || self.fits(&body)) {
            self.right.set(body).ok();
            return Ok(());
        }
        Err(format!(
            "a wrong answer: {status} {trailers:?} {}",
            String::from_utf8_lossy(&body[..body.len().min(500)])
        )
        .into())
    }

    fn fits(&self, body: &[u8]) -> bool {
        match &self.expected {
            Expected::Json(json) => {
                serde_json::from_slice::<Value>(body).is_ok_and(|found| found == *json)
            }
            Expected::Lines(count, prefix, json) => lines(body, *count, prefix, json),
            Expected::Grpc(frame, web) => {
                let ended = |status: &[u8]| body.windows(status.len()).any(|part| part == status);
                body.starts_with(frame)
                    && (!web || ended(b"grpc-status:0") || ended(b"grpc-status: 0"))
            }
        }
    }
}

/// So many lines that are not empty, all with the prefix, of which the first is looked at.
fn lines(body: &[u8], count: usize, prefix: &str, json: &Value) -> bool {
    let Ok(text) = std::str::from_utf8(body) else {
        return false;
    };
    let mut found = text.lines().filter(|line| !line.is_empty());
    let first = found.next().and_then(|line| line.strip_prefix(prefix));
    first.is_some_and(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line == *json))
        && found.count() + 1 == count
}
