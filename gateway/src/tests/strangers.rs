//! Attacks with small loads: what a stranger takes, and that others are served meanwhile.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use upm_mesh::{Drain, Peers};

use crate::{
    Config, Gateway, Strangers,
    testing::{Http, Running, Server},
};

/// Sends text and reads the head of the answer.
async fn asked(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = async {
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            if stream.read_buf(&mut answer).await.unwrap() == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reading)
        .await
        .expect("an answer in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The head of a POST whose body does not come.
fn post(path: &str, length: usize, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: upm\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{more}\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_before_its_body_is_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Config {
        spans: false,
        strangers: Strangers {
            max_body_bytes: 1000,
            ..Strangers::default()
        },
        ..Config::default()
    };
    let drain = Drain::new();
    let gateway = Gateway::new(config, Peers::new()).unwrap();
    let serving = tokio::spawn(gateway.serve(listener, drain.clone()));
    let ask = async |text: String| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        asked(&mut stream, &text).await
    };
    let refused = ask(post("/v1/users", 1_000_000, "")).await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    // Whose token cannot be verified yet has no more than a stranger.
    let body = "x".repeat(2000);
    let large = post("/v1/auth:login", body.len(), "") + &body;
    let refused = ask(large).await;
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
    drain.begin();
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_takes_its_share_leaves_the_rest_to_others() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| {
        settings.config.max_in_flight_per_address = 3;
        settings.config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let mut dripping = Vec::new();
    for n in 0..3 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let from = format!("x-forwarded-for: 2001:db8::{n}\r\n");
        let head = post("/v1/notes", 1000, &from);
        stream.write_all(head.as_bytes()).await.unwrap();
        dripping.push(stream);
    }
    let get = async |from: &str| {
        let mut http = Http::h1(gateway.address).await;
        let headers = [("x-forwarded-for", from)];
        http.call("GET", "/v1/notes/7", &headers, "")
            .await
            .status
            .as_u16()
    };
    let full = async {
        while get("2001:db8::ffff").await != 429 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let full = tokio::time::timeout(Duration::from_secs(30), full);
    full.await
        .expect("the network of the attacker has its share");
    assert_eq!(get("2001:db8:0:1::1").await, 200, "others are served");
    assert_eq!(get("192.0.2.1").await, 200, "others are served");
    drop(dripping);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dripping_body_is_answered_at_its_deadline() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| {
        settings.config.body_deadline = Duration::from_millis(500);
    })
    .await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream
        .write_all(post("/v1/notes", 1000, "").as_bytes())
        .await
        .unwrap();
    let (mut from, mut to) = stream.into_split();
    let drip = tokio::spawn(async move {
        while to.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut answer = [0; 12];
    let reading = from.read_exact(&mut answer);
    tokio::time::timeout(Duration::from_secs(30), reading)
        .await
        .expect("in time")
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    drip.abort();
    let mut http = gateway.http().await;
    assert_eq!(
        http.get("/v1/notes/7").await.status,
        200,
        "others are served"
    );
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_call_is_answered_as_http() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    for content_type in ["application/grpc", "application/grpc-web+proto"] {
        let headers = [("content-type", content_type)];
        let answer = http
            .call("GET", "/demo.echo.Echo/GetNote", &headers, "")
            .await;
        assert_eq!(answer.status, 405, "{content_type}");
        assert_eq!(answer.header("allow"), "POST");
    }
    let headers = [("content-type", "application/grpcish")];
    let answer = http
        .call("POST", "/demo.echo.Echo/GetNote", &headers, "x")
        .await;
    assert_eq!(answer.status, 415);
    let answer = http
        .call("POST", "/demo.echo.Echo/Nothing", &headers, "x")
        .await;
    assert_eq!(answer.status, 404);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_exactly_the_limit_passes() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| {
        settings.config.max_body_bytes = 1000;
    })
    .await;
    let call = async |length: usize| {
        // Field 1 (the name) of a request for a note: two bytes of length.
        let name = format!("notes/{}", "x".repeat(length - 3 - "notes/".len()));
        let size = u32::try_from(length).unwrap();
        let varint = u8::try_from(name.len() & 0x7f | 0x80).unwrap();
        let head = [0x0a, varint, u8::try_from(name.len() >> 7).unwrap()];
        let body = [&[0][..], &size.to_be_bytes(), &head, name.as_bytes()].concat();
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let mut http = Http::h2(gateway.address).await;
        let answer = http
            .call("POST", "/demo.echo.Echo/GetNote", &headers, body)
            .await;
        answer.header("grpc-status").to_owned()
    };
    assert_ne!(call(1000).await, "8", "of exactly the limit");
    assert_eq!(call(1001).await, "8", "beyond it");
    gateway.end().await;
}
