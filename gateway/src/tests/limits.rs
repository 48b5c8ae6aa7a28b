//! What callers may not do, said in their own protocol.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    AccessLog, Authentication, BodyError, Rate, auth,
    testing::{Http, Running, Server, framed},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_in_the_callers_protocol() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| {
        settings.config.max_body_bytes = 1000;
        settings.config.max_uri_bytes = 500;
        settings.config.max_header_bytes = 2000;
    })
    .await;
    let mut http = gateway.http().await;
    let large = json!({"title": "x".repeat(2000)}).to_string();
    let body = http.post("/v1/notes", &large).await;
    assert_eq!(
        (body.status.as_u16(), body.reason().as_str()),
        (413, "BODY_TOO_LARGE")
    );
    let mut http = gateway.http().await;
    let url = http.get(&format!("/v1/notes/{}", "x".repeat(600))).await;
    assert_eq!(
        (url.status.as_u16(), url.reason().as_str()),
        (414, "URI_TOO_LONG")
    );
    let long = "x".repeat(3000);
    let headers = http
        .call("GET", "/v1/notes/1", &[("x-long", &long)], "")
        .await;
    assert_eq!(
        (headers.status.as_u16(), headers.reason().as_str()),
        (431, "HEADERS_TOO_LARGE")
    );
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    assert_eq!(http.post("/v1/notes", &deep).await.status, 400);

    let call = framed(
        "demo.echo.CreateNoteRequest",
        &json!({"note": {"title": "x".repeat(2000)}}),
    );
    for content_type in ["application/grpc", "application/grpc-web+proto"] {
        let headers = [("content-type", content_type), ("te", "trailers")];
        let mut http = Http::h2(gateway.address).await;
        let refused = http
            .call("POST", "/demo.echo.Echo/CreateNote", &headers, call.clone())
            .await;
        assert_eq!(
            (refused.status.as_u16(), refused.header("grpc-status")),
            (200, "8"),
            "{content_type}"
        );
        let headers = [("content-type", content_type), ("x-long", &long)];
        let refused = http
            .call("POST", "/demo.echo.Echo/CreateNote", &headers, "")
            .await;
        assert_eq!(
            (refused.status.as_u16(), refused.header("grpc-status")),
            (200, "8"),
            "{content_type}"
        );
    }
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_read_on_so_that_its_sender_sees_the_answer() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| {
        settings.config.max_body_bytes = 1000;
    })
    .await;
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = http::Request::post(format!("http://{}/v1/notes", gateway.address))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    let mut left = 2 * 1024 * 1024;
    while left > 0 {
        body.reserve_capacity(left);
        let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
        let part = room.unwrap().expect("the stream is not reset").min(left);
        left -= part;
        body.send_data(vec![b' '; part].into(), left == 0).unwrap();
    }
    let (head, mut answer) = response.await.unwrap().into_parts();
    assert_eq!(head.status, 413);
    let mut text = Vec::new();
    while let Some(data) = answer.data().await {
        text.extend(data.unwrap());
    }
    assert!(String::from_utf8_lossy(&text).contains("BODY_TOO_LARGE"));
    drop((client, body, answer));
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_asks_too_often_is_told_to_wait() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| {
        settings.config.rate_per_address = Some(Rate {
            per_second: 0.01,
            burst: 3,
        });
    })
    .await;
    let mut http = gateway.http().await;
    for _ in 0..3 {
        assert_eq!(http.get("/v1/notes/7").await.status, 200);
    }
    let refused = http.get("/v1/notes/7").await;
    assert_eq!(
        (refused.status.as_u16(), refused.reason().as_str()),
        (429, "RATE_LIMITED")
    );
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 1);
    let headers = [("content-type", "application/grpc-web")];
    let refused = http
        .call("POST", "/demo.echo.Echo/GetNote", &headers, "")
        .await;
    assert_eq!(refused.header("grpc-status"), "8");
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_valid_tokens_pass_and_each_principal_has_its_own_rate() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| {
        let keys = match &settings.descriptors {
            crate::Descriptors::File(path) => path.with_file_name("jwks.json"),
            crate::Descriptors::Reflection => unreachable!("tests use a file"),
        };
        std::fs::write(&keys, auth::tests::jwks()).unwrap();
        settings.authentication = Authentication::Tokens {
            keys,
            issuer: None,
            audience: None,
        };
        settings.config.rate_per_principal = Some(Rate {
            per_second: 0.01,
            burst: 2,
        });
    })
    .await;
    let mut http = gateway.http().await;
    assert_eq!(http.get("/v1/notes/7").await.reason(), "TOKEN_MISSING");
    let bearer = |name: &str| {
        let claims = json!({"sub": name, "exp": 4_000_000_000_u64});
        format!("Bearer {}", auth::tests::token(&claims))
    };
    let (first, second) = (bearer("a"), bearer("b"));
    for _ in 0..2 {
        let got = http
            .call("GET", "/v1/notes/7", &[("authorization", &first)], "")
            .await;
        assert_eq!(got.status, 200, "{}", got.text());
    }
    // Another token of the same principal.
    let refused = http
        .call("GET", "/v1/notes/7", &[("authorization", &bearer("a"))], "")
        .await;
    assert_eq!(refused.status, 429);
    let got = http
        .call("GET", "/v1/notes/7", &[("authorization", &second)], "")
        .await;
    assert_eq!(got.status, 200);
    let bad = http
        .call(
            "GET",
            "/v1/notes/7",
            &[("authorization", "Bearer x.y.z")],
            "",
        )
        .await;
    assert_eq!(
        (bad.reason().as_str(), bad.header("www-authenticate")),
        ("TOKEN_INVALID", "Bearer")
    );
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_work_than_there_is_room_for_is_shed() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| settings.config.max_in_flight = 1).await;
    let mut first = gateway.http().await;
    // It runs until we say so, and not for a time.
    let (mut lines, body) = http_body_util::channel::Channel::<Bytes, BodyError>::new(1);
    let headers = [("content-type", "application/x-ndjson")];
    let body = body.boxed_unsync();
    let request = first.request("POST", "/v1/notes:collect", &headers, body);
    let slow = tokio::spawn(async move { first.send(request).await.status() });
    let line = Bytes::from("{\"title\":\"a\"}\n");
    lines.send_data(line).await.unwrap();
    while server.state.calls.load(std::sync::atomic::Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let shed = gateway.http().await.get("/v1/notes/7").await;
    assert_eq!(
        (shed.status.as_u16(), shed.header("retry-after")),
        (503, "1")
    );
    drop(lines);
    assert_eq!(slow.await.unwrap(), 200);
    assert_eq!(gateway.http().await.get("/v1/notes/7").await.status, 200);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_cut() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| {
        settings.config.header_timeout = Duration::from_millis(200);
        settings.config.body_timeout = Duration::from_millis(200);
    })
    .await;
    let mut slow = TcpStream::connect(gateway.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).await.unwrap();
    let mut slow = TcpStream::connect(gateway.address).await.unwrap();
    let head = "POST /v1/notes HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).await.unwrap();
    assert!(
        answer.starts_with(b"HTTP/1.1 408 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(gateway.http().await.get("/v1/notes/7").await.status, 200);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_method_and_written_to_the_log() {
    let server = Server::start("a");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let gateway = Running::with(&[&server], |settings| {
        settings.admin = Some("127.0.0.1:0".parse().unwrap());
        settings.config.access_log = Some(AccessLog::File(log.clone()));
    })
    .await;
    let mut http = gateway.http().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    http.call(
        "GET",
        "/v1/notes/7?alt=secret",
        &[("traceparent", trace)],
        "",
    )
    .await;
    http.get("/v1/notes/none").await;
    // Names that callers make up become no labels.
    http.get("/v1/made/up").await;
    let seen = http
        .call("GET", "/v1/behave", &[("traceparent", trace)], "")
        .await
        .json();
    let forwarded = seen["metadata"]["traceparent"].as_str().unwrap();
    assert!(
        forwarded.starts_with(&trace[..36]) && forwarded != trace,
        "{forwarded}"
    );
    let mut operator = Http::h1(gateway.admin.unwrap()).await;
    let metrics = operator.get("/metrics").await;
    for line in [
        "upm_gateway_calls_total{method=\"/demo.echo.Echo/GetNote\",code=\"OK\"} 1",
        "upm_gateway_calls_total{method=\"/demo.echo.Echo/GetNote\",code=\"NOT_FOUND\"} 1",
        "upm_gateway_duration_seconds_count{method=\"/demo.echo.Echo/GetNote\"} 2",
    ] {
        assert!(
            metrics.text().lines().any(|found| found == line),
            "{}",
            metrics.text()
        );
    }
    assert!(!metrics.text().contains("/v1/"), "{}", metrics.text());
    assert_eq!(operator.get("/readyz").await.status, 200);
    drop((http, operator));
    gateway.end().await;
    let text = std::fs::read_to_string(log).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(
        (&lines[0]["path"], &lines[0]["trace"]),
        (
            &json!("/v1/notes/7"),
            &json!("0af7651916cd43dd8448eb211c80319c")
        )
    );
    assert_eq!(
        (&lines[1]["status"], &lines[1]["code"]),
        (&json!(404), &json!("NOT_FOUND"))
    );
    assert!(!text.contains("secret"));
}
