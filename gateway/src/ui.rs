//! The browser UI: files that `ui/` builds and `build.rs` puts into the program. Only the platform's gateway serves it.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use upm_transcode::{RouteError, Tables};

use crate::{
    Body,
    auth::Auth,
    compression::{self, Coding},
    dispatch::Exchange,
    refusal,
};

/// Path and content.
type File = (&'static str, &'static [u8]);

/// Empty when the UI was not built.
const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/ui.rs"));

const INDEX: &str = "index.html";
/// Files with a digest of their content in their name.
const HASHED: &str = "assets/";
const API: &str = "/v1/";
/// What a page says that is not there.
const MISSING: &str = "The browser UI is not part of this program. Build it with `make ui`, then build upm again. \
                       The API is described at docs.\n";

/// Scripts, styles, pictures and requests only from and to here; in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'self'; form-action 'none'; frame-ancestors 'none'";
/// A proxy that serves the gateway under a path, and cuts that path off, says so in it.
const PREFIX: &str = "x-forwarded-prefix";

/// A file of the UI, or its page for a path that only the page knows. `None` for everything that is the API's.
pub(crate) fn answer(
    exchange: &Exchange<'_>,
    path: &str,
    headers: &HeaderMap,
) -> Option<Response<Body>> {
    matches!(exchange.gateway.shared().auth, Auth::Platform(_))
        .then(|| serve(FILES, &exchange.view.tables, path, headers))?
}

fn serve(
    files: &[File],
    tables: &Tables,
    path: &str,
    headers: &HeaderMap,
) -> Option<Response<Body>> {
    let asked = path.strip_prefix('/')?;
    let find = |name: &str| files.iter().find(|(found, _)| *found == name);
    if let Some((name, content)) = find(asked).filter(|(name, _)| *name != INDEX) {
        let age = if name.starts_with(HASHED) {
            "public, max-age=31536000, immutable"
        } else {
            "no-cache"
        };
        let response = respond(
            StatusCode::OK,
            media_type(name),
            age,
            refusal::full(*content),
        );
        // Fonts and pictures are compressed already.
        let coding = Coding::accepted(headers).filter(|_| media_type(name).starts_with("text/"));
        return Some(compression::compress(response, coding));
    }
    if !is_page(tables, path, headers) {
        return None;
    }
    let Some((_, index)) = find(INDEX) else {
        return (asked.is_empty()).then(|| {
            respond(
                StatusCode::NOT_FOUND,
                "text/plain; charset=utf-8",
                "no-cache",
                refusal::full(MISSING),
            )
        });
    };
    let page = based(&String::from_utf8_lossy(index), prefix(headers));
    let mut response = respond(
        StatusCode::OK,
        "text/html; charset=utf-8",
        "no-cache",
        refusal::full(page),
    );
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static(PREFIX));
    Some(response)
}

/// Whether a browser asks for a page that is none of the API's: an unknown path of the API stays the API's, and so does a lost file.
fn is_page(tables: &Tables, path: &str, headers: &HeaderMap) -> bool {
    let html = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/html"));
    let known = !matches!(tables.route(&Method::GET, path), Err(RouteError::NotFound));
    let asset = path
        .strip_prefix('/')
        .is_some_and(|path| path.starts_with(HASHED));
    (html || path == "/") && !known && !asset && !path.starts_with(API)
}

/// The path that a proxy has cut off, without a slash at its end; empty for anything that is no plain path.
fn prefix(headers: &HeaderMap) -> &str {
    let given = headers
        .get(PREFIX)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .trim_end_matches('/');
    // It becomes a part of the page: nothing in it may end an attribute, and "//host" would be another origin.
    let plain = given
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte));
    if plain && given.starts_with('/') && !given.contains("//") {
        given
    } else {
        ""
    }
}

/// The page for a path: everything in it is relative to its base.
fn based(index: &str, prefix: &str) -> String {
    index.replacen("<base href=\"/\"", &format!("<base href=\"{prefix}/\""), 1)
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some(_) | None => "application/octet-stream",
    }
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    age: &'static str,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, age),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::view::View;

    const BUILT: &[File] = &[
        ("assets/index-abc123.js", b"import './x.js'"),
        (
            "index.html",
            b"<html><head><base href=\"/\" /><script src=\"./assets/index-abc123.js\"></script>",
        ),
    ];

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn ask(
        files: &[File],
        path: &str,
        pairs: &[(&'static str, &'static str)],
    ) -> Option<Response<Body>> {
        serve(
            files,
            &View::platform().unwrap().tables,
            path,
            &headers(pairs),
        )
    }

    const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");

    async fn body(response: Response<Body>) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn hashed_files_are_kept_for_ever_and_the_page_is_not() {
        let script = ask(BUILT, "/assets/index-abc123.js", &[]).unwrap();
        assert_eq!(
            script.headers()["cache-control"],
            "public, max-age=31536000, immutable"
        );
        assert_eq!(
            script.headers()["content-type"],
            "text/javascript; charset=utf-8"
        );
        let page = ask(BUILT, "/", &[HTML]).unwrap();
        assert_eq!(page.headers()["cache-control"], "no-cache");
    }

    #[test]
    fn every_answer_forbids_what_a_page_does_not_need() {
        for path in ["/", "/assets/index-abc123.js", "/services/p/c/s"] {
            let response = ask(BUILT, path, &[HTML]).unwrap();
            let policy = response.headers()["content-security-policy"]
                .to_str()
                .unwrap();
            assert!(policy.starts_with("default-src 'none'"), "{path}");
            assert!(policy.contains("frame-ancestors 'none'"), "{path}");
            assert!(!policy.contains("unsafe") && !policy.contains("http"));
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        }
    }

    #[tokio::test]
    async fn a_path_that_only_the_page_knows_gets_the_page() {
        let page = ask(BUILT, "/services/demo/redisServices/demo", &[HTML]).unwrap();
        assert_eq!(page.status(), StatusCode::OK);
        assert!(body(page).await.contains("<base href=\"/\""));
    }

    #[test]
    fn paths_of_the_api_are_left_alone() {
        assert!(ask(BUILT, "/v1/projects", &[HTML]).is_none());
        assert!(ask(BUILT, "/v1/unknown", &[HTML]).is_none());
        assert!(ask(BUILT, "/unknown", &[("accept", "application/json")]).is_none());
        assert!(ask(BUILT, "/assets/lost.js", &[HTML]).is_none());
    }

    #[tokio::test]
    async fn the_page_is_based_on_the_proxy_s_path() {
        for (given, base) in [
            ("/upm", "/upm/"),
            ("/a/b/", "/a/b/"),
            ("//evil.example", "/"),
            ("/\"><script>", "/"),
            ("https://evil.example", "/"),
        ] {
            let page = ask(BUILT, "/clusters", &[HTML, (PREFIX, given)]).unwrap();
            assert_eq!(page.headers()["vary"], PREFIX);
            let page = body(page).await;
            assert!(page.contains(&format!("<base href=\"{base}\"")), "{given}");
        }
    }

    #[tokio::test]
    async fn without_the_ui_the_root_says_how_to_build_it() {
        let answer = ask(&[], "/", &[HTML]).unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert!(body(answer).await.contains("make ui"));
        assert!(ask(&[], "/services", &[HTML]).is_none());
    }
}
