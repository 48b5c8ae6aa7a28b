//! WebSockets, with a stock client.

use futures::{SinkExt as _, StreamExt as _};
use http::HeaderValue;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest as _,
        protocol::{Role, frame::coding::CloseCode},
    },
};

use crate::{
    refusal,
    testing::{Http, Running, Server},
};

async fn open(
    gateway: &Running,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = format!("ws://{}{path}", gateway.address).into_client_request()?;
    for (name, value) in headers {
        request
            .headers_mut()
            .insert(*name, HeaderValue::from_str(value).unwrap());
    }
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    Ok(tokio_tungstenite::client_async(request, stream).await?.0)
}

async fn next(socket: &mut WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>) -> Value {
    loop {
        match socket.next().await.expect("a message").unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn close(socket: &mut WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>) -> CloseCode {
    loop {
        match socket.next().await.expect("a close frame").unwrap() {
            Message::Close(frame) => return frame.expect("a reason").code,
            Message::Ping(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_talk_in_turns() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    for path in ["/v1/rooms/1:talk", "/demo.echo.Echo/Chat"] {
        let mut socket = open(&gateway, path, &[]).await.unwrap();
        for title in ["one", "two"] {
            socket
                .send(Message::text(json!({"title": title}).to_string()))
                .await
                .unwrap();
            assert_eq!(next(&mut socket).await["title"], format!("re: {title}"));
        }
        socket.send(Message::text("")).await.unwrap();
        assert_eq!(
            close(&mut socket).await,
            CloseCode::Normal,
            "an empty frame ends the client's side"
        );
    }
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_direction_work_too() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut watch = open(&gateway, "/v1/notes:watch?count=2", &[])
        .await
        .unwrap();
    assert_eq!(next(&mut watch).await["bookmark"], "1");
    assert_eq!(next(&mut watch).await["bookmark"], "2");
    assert_eq!(close(&mut watch).await, CloseCode::Normal);
    let mut collect = open(&gateway, "/v1/notes:collect", &[]).await.unwrap();
    collect.send(Message::text("{}")).await.unwrap();
    collect.send(Message::text("{}")).await.unwrap();
    collect.send(Message::text("")).await.unwrap();
    assert_eq!(next(&mut collect).await["count"], 2);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_a_frame_and_a_close_code() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut socket = open(&gateway, "/v1/notes:watch?fail=true", &[])
        .await
        .unwrap();
    assert_eq!(next(&mut socket).await["error"]["status"], "ABORTED");
    assert_eq!(close(&mut socket).await, CloseCode::Library(4010));
    let mut socket = open(&gateway, "/demo.echo.Echo/Chat", &[]).await.unwrap();
    socket.send(Message::text("{\"titel\": 1}")).await.unwrap();
    assert_eq!(
        next(&mut socket).await["error"]["status"],
        "INVALID_ARGUMENT"
    );
    assert_eq!(close(&mut socket).await, CloseCode::Library(4003));
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_and_unknown_paths_are_refused() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| {
        settings.config.allowed_origins = vec!["https://friend.example".to_owned()];
    })
    .await;
    let status = |result: Result<WebSocketStream<TcpStream>, Error>| match result {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{other:?}"),
    };
    let foreign = open(
        &gateway,
        "/demo.echo.Echo/Chat",
        &[("origin", "https://other.example")],
    )
    .await;
    assert_eq!(status(foreign), 403);
    assert_eq!(status(open(&gateway, "/v1/nothing", &[]).await), 404);
    let friend = [
        ("origin", "https://friend.example"),
        ("sec-websocket-protocol", "json, bearer.abc"),
    ];
    open(&gateway, "/demo.echo.Echo/Chat", &friend)
        .await
        .unwrap();
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_says_goodbye() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut socket = open(&gateway, "/demo.echo.Echo/Chat", &[]).await.unwrap();
    socket.send(Message::text("{}")).await.unwrap();
    next(&mut socket).await;
    let (code, ()) = tokio::join!(close(&mut socket), gateway.end());
    assert_eq!(code, CloseCode::Away);
}

/// Asks for a socket on a stream of HTTP/2 (RFC 8441).
async fn connect(
    http: &mut Http,
    path: &str,
    headers: &[(&str, &str)],
) -> http::Response<hyper::body::Incoming> {
    // The client knows from the server's settings that it may ask.
    assert_eq!(http.get("/healthz").await.status, 200);
    let mut request = http.request("CONNECT", path, headers, refusal::empty());
    let protocol = Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    http.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sockets_share_a_connection_of_http_2() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = Http::h2(gateway.address).await;
    let mut sockets = Vec::new();
    for path in ["/v1/rooms/1:talk", "/demo.echo.Echo/Chat"] {
        let headers = [
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "json"),
        ];
        let response = connect(&mut http, path, &headers).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "json");
        let upgraded = hyper::upgrade::on(response).await.unwrap();
        let io = TokioIo::new(upgraded);
        sockets.push(WebSocketStream::from_raw_socket(io, Role::Client, None).await);
    }
    for title in ["one", "two"] {
        for socket in &mut sockets {
            let message = json!({"title": title}).to_string();
            socket.send(Message::text(message)).await.unwrap();
            assert_eq!(next(socket).await["title"], format!("re: {title}"));
        }
    }
    for mut socket in sockets {
        socket.send(Message::text("")).await.unwrap();
        assert_eq!(close(&mut socket).await, CloseCode::Normal);
    }
    assert_eq!(http.get("/v1/notes/7").await.status, 200);
    drop(http);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_over_http_2_are_refused_like_the_others() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = Http::h2(gateway.address).await;
    let foreign = [("origin", "https://other.example")];
    let refused = connect(&mut http, "/demo.echo.Echo/Chat", &foreign).await;
    assert_eq!(refused.status(), 403);
    let own = format!("http://{}", gateway.address);
    let opened = connect(&mut http, "/demo.echo.Echo/Chat", &[("origin", &own)]).await;
    assert_eq!(opened.status(), 200);
    let unknown = connect(&mut http, "/v1/nothing", &[]).await;
    assert_eq!(unknown.status(), 404);
    let mut other = http.request("CONNECT", "/v1/notes:watch", &[], refusal::empty());
    let protocol = Protocol::from_static("connect-udp");
    other.extensions_mut().insert(protocol);
    let refused = http.send(other).await;
    assert!(refused.status().is_client_error(), "{}", refused.status());
    drop((http, opened));
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_says_nothing_is_closed() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| {
        settings.config.body_timeout = std::time::Duration::from_millis(200);
    })
    .await;
    let mut silent = open(&gateway, "/demo.echo.Echo/Chat", &[]).await.unwrap();
    let told = next(&mut silent).await;
    assert!(told.to_string().contains("BODY_TOO_SLOW"), "{told}");
    let code = close(&mut silent).await;
    assert_eq!(code, CloseCode::from(4004), "DEADLINE_EXCEEDED");
    gateway.end().await;
}
