//! gRPC and gRPC-Web.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::testing::{Http, Running, Server, framed, frames, grpc};

#[tokio::test(flavor = "multi_thread")]
async fn all_four_kinds_of_calls_pass() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let at = gateway.address;
    let note = grpc(at, "GetNote", vec![json!({"name": "notes/1"})], None)
        .await
        .unwrap();
    assert_eq!(note[0]["title"], "a title");
    let watched = grpc(at, "WatchNotes", vec![json!({"count": 3})], None)
        .await
        .unwrap();
    assert_eq!(watched.len(), 3);
    let notes: Vec<_> = (0..100)
        .map(|index| json!({"title": index.to_string()}))
        .collect();
    let collected = grpc(at, "CollectNotes", notes.clone(), None).await.unwrap();
    assert_eq!(collected[0]["count"], 100);
    let talked = grpc(at, "Chat", notes, None).await.unwrap();
    assert_eq!(talked[99]["title"], "re: 99");
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_deadlines_pass() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let at = gateway.address;
    let lost = grpc(at, "GetNote", vec![json!({"name": "notes/none"})], None)
        .await
        .unwrap_err();
    assert_eq!(
        (lost.code(), lost.message()),
        (tonic::Code::NotFound, "there is no such note")
    );
    let late = Some(Duration::from_millis(200));
    let late = grpc(at, "Change", vec![json!({"sleepMs": 60_000})], late)
        .await
        .unwrap_err();
    assert!(
        matches!(
            late.code(),
            tonic::Code::DeadlineExceeded | tonic::Code::Cancelled
        ),
        "{late:?}"
    );
    let early = grpc(
        at,
        "WatchNotes",
        vec![json!({"count": 2, "fail": true})],
        None,
    )
    .await
    .unwrap_err();
    assert_eq!(early.code(), tonic::Code::Aborted);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_answered_in_every_protocol() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let call = framed("demo.echo.BehaveRequest", &json!({"sleepMs": 60_000}));
    let path = "/demo.echo.Echo/Change";
    let headers = [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "100m"),
    ];
    let plain = Http::h2(gateway.address)
        .await
        .call("POST", path, &headers, call.clone())
        .await;
    assert_eq!(
        (plain.status.as_u16(), plain.header("grpc-status")),
        (200, "4")
    );
    let headers = [
        ("content-type", "application/grpc-web+proto"),
        ("grpc-timeout", "100m"),
    ];
    let web = gateway
        .http()
        .await
        .call("POST", path, &headers, call)
        .await;
    assert_eq!(
        (
            web.status.as_u16(),
            web.header("grpc-status"),
            web.body.len()
        ),
        (200, "4", 0)
    );
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_web_has_both_forms_on_both_versions_of_http() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let request = framed("demo.echo.WatchNotesRequest", &json!({"count": 2}));
    let path = "/demo.echo.Echo/WatchNotes";
    for mut http in [
        Http::h1(gateway.address).await,
        Http::h2(gateway.address).await,
    ] {
        let binary = [("content-type", "application/grpc-web+proto; charset=utf-8")];
        let answer = http.call("POST", path, &binary, request.clone()).await;
        assert_eq!(answer.header("content-type"), "application/grpc-web+proto");
        let found = frames(&answer.body);
        assert_eq!(
            found.iter().map(|(flags, _)| *flags).collect::<Vec<_>>(),
            [0, 0, 0x80]
        );
        assert!(
            found[2].1.starts_with(b"grpc-status: 0\r\n")
                || found[2].1.windows(14).any(|w| w == b"grpc-status: 0")
        );

        let text = [("content-type", "application/grpc-web-text")];
        let answer = http
            .call("POST", path, &text, STANDARD.encode(&request))
            .await;
        assert_eq!(
            answer.header("content-type"),
            "application/grpc-web-text+proto"
        );
        // Each part may be padded by itself.
        let mut decoded = Vec::new();
        for group in answer.body.chunks(4) {
            decoded.extend(STANDARD.decode(group).unwrap());
        }
        assert_eq!(frames(&decoded), found);
    }
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_web_error_has_no_body_at_all() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let request = framed("demo.echo.GetNoteRequest", &json!({"name": "notes/none"}));
    let headers = [("content-type", "application/grpc-web+proto")];
    let mut http = gateway.http().await;
    let answer = http
        .call("POST", "/demo.echo.Echo/GetNote", &headers, request)
        .await;
    assert_eq!((answer.header("grpc-status"), answer.body.len()), ("5", 0));
    let unknown = http
        .call("POST", "/demo.echo.Echo/Nothing", &headers, "")
        .await;
    assert_eq!(
        (unknown.header("grpc-status"), unknown.body.len()),
        ("12", 0)
    );
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_reflects_what_it_offers() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let url = format!("http://{}", gateway.address);
    let channel = tonic::transport::Endpoint::from_shared(url)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let ask = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(futures::stream::iter([ask]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}");
    };
    assert!(
        list.service
            .iter()
            .any(|service| service.name == "demo.echo.Echo")
    );
    gateway.end().await;
}
