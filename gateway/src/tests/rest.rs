//! REST: one request, one answer.

use std::process::Command;

use serde_json::json;

use crate::testing::{Running, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_bound_called_and_answered_as_json() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    let got = http.get("/v1/notes/7").await;
    assert_eq!(got.status, 200);
    assert_eq!(
        got.json(),
        json!({"name": "notes/7", "title": "a title", "size": "9007199254740993"})
    );
    assert_eq!(
        got.header("x-served-by"),
        "a",
        "metadata of the server is shown"
    );
    assert_eq!(got.header("content-type"), "application/json");
    assert!(got.header("grpc-status").is_empty() && got.header("grpc-accept-encoding").is_empty());

    let made = http.post("/v1/notes?noteId=9", r#"{"title": "new"}"#).await;
    assert_eq!(
        (made.status.as_u16(), made.json()),
        (200, json!({"name": "notes/9", "title": "new"}))
    );

    let lost = http.get("/v1/notes/none").await;
    assert_eq!(
        (
            lost.status.as_u16(),
            lost.json()["error"]["message"].as_str()
        ),
        (404, Some("there is no such note"))
    );
    let wrong = http.post("/v1/notes", r#"{"title": 7}"#).await;
    assert_eq!(
        (wrong.status.as_u16(), wrong.reason().as_str()),
        (400, "INVALID_FIELD")
    );
    assert!(
        wrong.text().contains("note.title"),
        "the error names the field: {}",
        wrong.text()
    );
    let verb = http.call("DELETE", "/v1/notes/7", &[], "").await;
    assert_eq!(
        (verb.status.as_u16(), verb.header("allow")),
        (405, "GET, HEAD")
    );
    assert_eq!(http.get("/v1/nothing").await.reason(), "PATH_NOT_FOUND");
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_the_headers_of_get_and_no_body() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    let got = http.get("/v1/notes/7").await;
    let head = http.call("HEAD", "/v1/notes/7", &[], "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), got.body.len().to_string());
    assert_eq!(
        http.get("/v1/notes/8").await.status,
        200,
        "the connection goes on"
    );
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_protobuf_gets_the_message_as_it_came() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let accept = [("accept", "application/x-protobuf")];
    let got = gateway
        .http()
        .await
        .call("GET", "/v1/notes/7", &accept, "")
        .await;
    assert_eq!(got.header("content-type"), "application/x-protobuf");
    let note = crate::testing::pool()
        .get_message_by_name("demo.echo.Note")
        .unwrap();
    let note = prost_reflect::DynamicMessage::decode(note, got.body).unwrap();
    assert_eq!(
        note.get_field_by_name("name").unwrap().as_str(),
        Some("notes/7")
    );
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_any_kind_go_up_and_down_as_they_are() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    let got = http.get("/v1/files/a").await;
    assert_eq!(
        (got.header("content-type"), got.text()),
        ("text/x-notes", "part 0 of files/a\n")
    );
    let picture = [("content-type", "image/png")];
    let put = http
        .call("PUT", "/v1/files/a", &picture, vec![0_u8; 1000])
        .await
        .json();
    assert_eq!(put["bytes"], "1000");
    assert_eq!(
        (&put["contentType"], &put["name"]),
        (&json!("image/png"), &json!("files/a"))
    );
    // What the query says of the bytes is not put among them.
    let path = "/v1/files/a?file.data=YWJj&file.contentType=text/x";
    let put = http.call("PUT", path, &picture, "ab").await.json();
    assert_eq!(
        (&put["bytes"], &put["contentType"]),
        (&json!("2"), &json!("image/png"))
    );
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_at_the_deadline_that_the_caller_sets() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    for header in [("x-server-timeout", "0.2"), ("grpc-timeout", "200m")] {
        let late = http
            .call("GET", "/v1/behave?sleepMs=60000", &[header], "")
            .await;
        assert_eq!(
            (
                late.status.as_u16(),
                late.json()["error"]["status"].as_str()
            ),
            (504, Some("DEADLINE_EXCEEDED"))
        );
    }
    let seen = http
        .call("GET", "/v1/behave", &[("x-server-timeout", "30")], "")
        .await
        .json();
    assert!(
        seen["metadata"]["grpc-timeout"].is_string(),
        "the server knows the time that is left: {seen}"
    );
    let wrong = http
        .call("GET", "/v1/behave", &[("x-server-timeout", "soon")], "")
        .await;
    assert_eq!(wrong.status, 400);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_never_reaches_a_server() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let wrong = http.call("POST", "/v1/notes", &form, "title=a").await;
    assert_eq!(
        (wrong.status.as_u16(), wrong.reason().as_str()),
        (415, "CONTENT_TYPE_UNSUPPORTED")
    );
    for (method, path, status) in [
        ("POST", "/v1/nothing", 404),
        ("POST", "/v1/notes/7", 405),
        ("POST", "/v1/notes?color=red", 400),
        ("GET", "/v1/notes?pageSize=1&pageSize=2", 400),
    ] {
        let wrong = http.call(method, path, &[], "").await;
        assert_eq!(wrong.status, status, "{method} {path}: {}", wrong.text());
        assert!(!wrong.reason().is_empty(), "every error says why");
    }
    let calls = server.state.calls.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(calls, 0);
    assert_eq!(
        http.get("/v1/notes/7").await.status,
        200,
        "the connection goes on"
    );
    drop(http);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_of_rest_does_not_speak_for_the_frames_of_the_gateway() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let headers = [
        ("grpc-accept-encoding", "gzip"),
        ("grpc-encoding", "gzip"),
        ("grpc-timeout", "30S"),
        ("x-note", "a value"),
    ];
    let seen = gateway
        .http()
        .await
        .call("GET", "/v1/behave", &headers, "")
        .await
        .json();
    let seen = seen["metadata"].as_object().unwrap();
    assert!(!seen.contains_key("grpc-accept-encoding") && !seen.contains_key("grpc-encoding"));
    assert!(seen.contains_key("grpc-timeout") && seen["x-note"] == "a value");
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_without_a_mask_names_the_fields_of_its_body() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    let json = [("content-type", "application/merge-patch+json")];
    let note = r#"{"title": "new", "genre": "POETRY"}"#;
    let mirrored = http.call("PATCH", "/v1/mirror", &json, note).await.json();
    assert_eq!(mirrored["updateMask"], "title,genre");
    let said = http
        .call("PATCH", "/v1/mirror?updateMask=size", &json, note)
        .await;
    assert_eq!(said.json()["updateMask"], "size");
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reads_compressed_answers_and_sends_compressed_bodies() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let long = "x".repeat(5000);
    let body = gateway.folder.path().join("note.json");
    std::fs::write(&body, json!({"title": long}).to_string()).unwrap();
    let zipped = gateway.folder.path().join("note.json.gz");
    let packed = Command::new("gzip")
        .arg("-c")
        .arg(&body)
        .output()
        .expect("run gzip");
    std::fs::write(&zipped, packed.stdout).unwrap();
    let url = format!("http://{}/v1/notes?noteId=1", gateway.address);
    let output = tokio::task::spawn_blocking(move || {
        Command::new("curl")
            .args([
                "-sS",
                "--compressed",
                "-w",
                "\n%{size_download}",
                "-H",
                "content-type: application/json",
            ])
            .args(["-H", "content-encoding: gzip", "--data-binary"])
            .arg(format!("@{}", zipped.display()))
            .arg(url)
            .output()
            .expect("run curl")
    })
    .await
    .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (answer, size) = text.rsplit_once('\n').unwrap();
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
    assert_eq!(answer["title"].as_str(), Some(long.as_str()));
    assert!(
        size.parse::<usize>().unwrap() < 1000,
        "{size} bytes came over the wire"
    );
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_describes_itself() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    let document = http.get("/openapi.json").await.json();
    assert!(
        document["paths"]["/v1/notes"]["post"].is_object(),
        "{document}"
    );
    assert_eq!(http.get("/healthz").await.text(), "ok\n");
    gateway.end().await;
}
