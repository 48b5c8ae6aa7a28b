//! `/docs`: the document of `/openapi.json` in the browser. The page is our own and loads nothing from elsewhere.

use http::{HeaderName, HeaderValue, Response, header};

use crate::{Body, refusal};

/// Scripts and styles only from here, requests only to here, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, content type and content.
const FILES: [(&str, &str, &str); 3] = [
    (
        "/docs",
        "text/html; charset=utf-8",
        include_str!("docs/page.html"),
    ),
    (
        "/docs/page.css",
        "text/css; charset=utf-8",
        include_str!("docs/page.css"),
    ),
    (
        "/docs/page.js",
        "text/javascript; charset=utf-8",
        include_str!("docs/page.js"),
    ),
];

/// The page or one of its parts.
pub(crate) fn answer(path: &str) -> Option<Response<Body>> {
    let (_, content_type, content) = FILES.iter().find(|(found, ..)| *found == path)?;
    let mut response = Response::new(refusal::full(*content));
    for (name, value) in [
        (header::CONTENT_TYPE, *content_type),
        (header::CACHE_CONTROL, "no-cache"),
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
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        for (path, _, content) in FILES {
            for foreign in [
                "http://", "https://", "//cdn", "@import", "<script>", "style=",
            ] {
                assert!(!content.contains(foreign), "{path} has {foreign}");
            }
        }
        let page = answer("/docs").unwrap();
        let policy = &page.headers()["content-security-policy"];
        assert!(!policy.to_str().unwrap().contains("unsafe"));
        assert!(answer("/docs/other").is_none());
    }
}
