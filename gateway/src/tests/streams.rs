//! REST: streams of both directions.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::json;

use crate::{
    BodyError,
    testing::{Http, Running, Server, parts},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_stream_has_the_form_that_accept_names() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    let lines = http.get("/v1/notes:watch?count=3").await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    assert_eq!(lines.lines().len(), 3);
    let path = "/v1/notes:watch?count=2";
    let array = http
        .call("GET", path, &[("accept", "application/json")], "")
        .await;
    assert_eq!(array.json().as_array().unwrap().len(), 2);
    let none = http
        .call(
            "GET",
            "/v1/notes:watch",
            &[("accept", "application/json")],
            "",
        )
        .await;
    assert_eq!(none.json(), json!([]));
    let events = http
        .call("GET", path, &[("accept", "text/event-stream")], "")
        .await;
    assert_eq!(
        events.text(),
        "id: 1\ndata: {\"note\":{\"name\":\"notes/0\"},\"bookmark\":\"1\"}\n\nid: 2\ndata: {\"note\":{\"name\":\"notes/1\"},\"bookmark\":\"2\"}\n\n"
    );
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_comes_back_goes_on_where_it_was() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let headers = [("accept", "text/event-stream"), ("last-event-id", "3")];
    let events = gateway
        .http()
        .await
        .call("GET", "/v1/notes:watch?count=4", &headers, "")
        .await;
    assert_eq!(
        events.text(),
        "id: 4\ndata: {\"note\":{\"name\":\"notes/3\"},\"bookmark\":\"4\"}\n\n"
    );
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_stream_is_its_last_element() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    let path = "/v1/notes:watch?count=1&fail=true";
    let lines = http.get(path).await.lines();
    assert_eq!(lines[1]["error"]["status"], "ABORTED");
    let array = http
        .call("GET", path, &[("accept", "application/json")], "")
        .await
        .json();
    assert_eq!(array[1]["error"]["message"], "the end came early");
    let events = http
        .call("GET", path, &[("accept", "text/event-stream")], "")
        .await;
    assert!(
        events
            .text()
            .contains("\n\nevent: error\ndata: {\"error\":"),
        "{}",
        events.text()
    );
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_comes_when_it_is_sent_and_idle_events_are_kept_alive() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| {
        settings.config.keep_alive = std::time::Duration::from_millis(100);
    })
    .await;
    let headers = [
        ("accept", "text/event-stream"),
        ("accept-encoding", "gzip;q=0"),
    ];
    let watch = async |query: &str| {
        let mut http = gateway.http().await;
        let path = format!("/v1/notes:watch?{query}");
        let request = http.request("GET", &path, &headers, crate::refusal::empty());
        let body = http.send(request).await.into_body();
        (http, body)
    };
    let next = async |(_, body): &mut (Http, hyper::body::Incoming)| {
        body.frame().await.unwrap().unwrap().into_data().unwrap()
    };
    // Nothing else comes for an hour.
    let mut idle = watch("count=1&pauseMs=3600000").await;
    for _ in 0..2 {
        assert_eq!(next(&mut idle).await, ":\n\n");
    }
    // The whole would take an hour.
    let mut slow = watch("count=18000&pauseMs=200").await;
    let first = loop {
        let data = next(&mut slow).await;
        if data != ":\n\n" {
            break data;
        }
    };
    assert!(first.starts_with(b"id: 1\n"), "{first:?}");
    drop((idle, slow));
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_and_arrays_become_a_request_stream() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let texts = [
        "{\"title\":\"a\"}\n{\"title\":\"b\"}\n",
        "[{\"title\":\"a\"},{\"title\":\"b\"}]",
    ];
    for text in texts {
        // A chunked request is the last of its connection.
        let mut http = gateway.http().await;
        let body = parts(
            text.as_bytes()
                .chunks(5)
                .map(Bytes::copy_from_slice)
                .collect(),
        );
        let request = http.request(
            "POST",
            "/v1/notes:collect",
            &[("content-type", "application/x-ndjson")],
            body,
        );
        let answer = http
            .send(request)
            .await
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["titles"], json!(["a", "b"]), "{text}");
    }
    let mut http = gateway.http().await;
    assert_eq!(http.post("/v1/notes:collect", "").await.json(), json!({}));
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_line_ends_the_call_with_its_number() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let wrong = gateway
        .http()
        .await
        .post(
            "/v1/notes:collect",
            "{\"title\":\"a\"}\n{\"titel\":\"b\"}\n",
        )
        .await;
    assert_eq!(wrong.status, 400);
    let message = wrong.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(message.starts_with("message 2: titel"), "{message}");
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_may_talk_in_turns_over_one_request() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = Http::h2(gateway.address).await;
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes, BodyError>::new(1);
    let request = http.request("POST", "/v1/rooms/1:talk", &[], body.boxed_unsync());
    sender
        .send_data(Bytes::from("{\"title\":\"one\"}\n"))
        .await
        .unwrap();
    let mut answers = http.send(request).await.into_body();
    let first = answers.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(
        first, "{\"title\":\"re: one\",\"parent\":\"rooms/1\"}\n",
        "the path is in the first message"
    );
    sender
        .send_data(Bytes::from("{\"title\":\"two\"}\n"))
        .await
        .unwrap();
    let second = answers.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(second, "{\"title\":\"re: two\"}\n");
    drop(sender);
    assert!(answers.collect().await.unwrap().to_bytes().is_empty());
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_stream_up_and_down_in_parts() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    let down = http.get("/v1/files/a:parts").await;
    assert_eq!(down.header("content-type"), "text/x-notes");
    assert_eq!(
        down.text(),
        "part 0 of files/a\npart 1 of files/a\npart 2 of files/a\n"
    );
    // More than a message may hold, but each part is one.
    let size = 6 * 1024 * 1024;
    let body = parts(vec![Bytes::from(vec![7_u8; size / 6]); 6]);
    let request = http.request(
        "POST",
        "/v1/files/b:upload",
        &[("content-type", "video/mp4")],
        body,
    );
    let up = http
        .send(request)
        .await
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let up: serde_json::Value = serde_json::from_slice(&up).unwrap();
    assert_eq!(up["bytes"], size.to_string());
    assert_eq!(
        (&up["name"], &up["contentType"]),
        (&json!("files/b"), &json!("video/mp4"))
    );
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_a_talk_is_its_last_line() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let texts = "{\"title\":\"one\"}\n{\"title\":\"fail\"}\n";
    let talk = gateway
        .http()
        .await
        .post("/v1/rooms/1:talk", texts)
        .await
        .lines();
    assert_eq!(talk[0]["title"], "re: one");
    assert_eq!(talk[1]["error"]["status"], "ABORTED");
    assert_eq!(talk[1]["error"]["message"], "the talk is over");
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_trailers_gets_those_of_a_stream() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let path = "/v1/notes:watch?count=2&fail=true";
    // HTTP/1.1 wants their names in front, and nobody knows them there.
    let mut http = Http::h2(gateway.address).await;
    let takes = http.call("GET", path, &[("te", "trailers")], "").await;
    assert_eq!(takes.trailers["x-notes-sent"], "2");
    assert!(!takes.trailers.contains_key("grpc-status"));
    assert_eq!(takes.lines().len(), 3);
    let other = http.get(path).await;
    assert!(other.trailers.is_empty());
    drop(http);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_may_be_far_larger_than_any_buffer() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    for id in 0..4 {
        let note = json!({"title": "x".repeat(3_000_000)}).to_string();
        let made = http.post(&format!("/v1/notes?noteId={id}"), &note).await;
        assert_eq!(made.status, 200);
    }
    let notes = http.get("/v1/notes").await.json();
    let length = |note: &serde_json::Value| note["title"].as_str().unwrap().len();
    let lengths: Vec<_> = notes["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(length)
        .collect();
    assert_eq!(lengths, [3_000_000; 4]);
    let call = crate::testing::framed("demo.echo.ListNotesRequest", &json!({}));
    let web = [("content-type", "application/grpc-web+proto")];
    let path = "/demo.echo.Echo/ListNotes";
    let answer = http.call("POST", path, &web, call.clone()).await;
    let found = crate::testing::frames(&answer.body);
    assert!(found[0].1.len() > 12_000_000 && found[1].0 == 0x80);
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let mut two = Http::h2(gateway.address).await;
    let answer = two.call("POST", path, &grpc, call).await;
    assert_eq!(answer.body.len(), found[0].1.len() + 5);
    assert_eq!(answer.trailers["grpc-status"], "0");
    drop((http, two));
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_the_stream_of_the_server() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    let request = http.request(
        "GET",
        "/v1/notes:watch?count=1000000&pauseMs=5",
        &[],
        crate::refusal::empty(),
    );
    let mut body = http.send(request).await.into_body();
    body.frame().await.unwrap().unwrap();
    let streams = || {
        server
            .state
            .streams
            .load(std::sync::atomic::Ordering::SeqCst)
    };
    assert_eq!(streams(), 1);
    drop((body, http));
    while streams() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    gateway.end().await;
}
