//! Input that no well-meaning client sends.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::upstreams::Healthy;
use crate::testing::{Http, Running, Server};

#[tokio::test(flavor = "multi_thread")]
async fn malformed_input_of_any_kind_leaves_the_gateway_well() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| {
        settings.config.header_timeout = Duration::from_millis(500);
    })
    .await;
    let heads = [
        "GET /v1/notes/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        "GET /v1/notes/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /v1/notes HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        "POST /v1/notes HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST /v1/notes HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/notes HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/notes HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n{}",
        "POST /v1/notes HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 3\r\n\r\n{}",
        "GET /v1/notes/%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\x00 HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense",
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03",
        "GET /v1/notes/1 HTTP/9.9\r\n\r\n",
    ];
    for head in heads.iter().cycle().take(400) {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        socket.write_all(head.as_bytes()).await.ok();
        socket.shutdown().await.ok();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.ok();
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 2"), "{head:?}: {answer}");
    }
    let mut http = Http::h2(gateway.address).await;
    for garbage in 0..200_u8 {
        let headers = [("content-type", "application/grpc")];
        let body = vec![garbage; usize::from(garbage)];
        let refused = http
            .call("POST", "/demo.echo.Echo/GetNote", &headers, body)
            .await;
        assert_eq!(refused.status, 200);
        let status = refused
            .headers
            .get("grpc-status")
            .or(refused.trailers.get("grpc-status"));
        assert!(status.is_some(), "{refused:?}");
    }
    assert_eq!(gateway.http().await.get("/v1/notes/7").await.status, 200);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_two_lengths_smuggles_no_other_in() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let lengths = ["Content-Length: 7", "Transfer-Encoding: chunked"];
    // A proxy before us may have taken one length for the body, and what follows for somebody else's request.
    for (index, (one, two)) in [(0, 1), (1, 0)].into_iter().enumerate() {
        let (one, two) = (lengths[one], lengths[two]);
        let request = format!(
            "POST /v1/notes?noteId=1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{one}\r\n{two}\r\n\r\n\
             2\r\n{{}}\r\n0\r\n\r\nGET /v1/notes/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.ok();
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(
            answer.to_lowercase().contains("connection: close"),
            "{answer}"
        );
        assert!(!answer.contains("smuggled"), "{answer}");
        assert_eq!(server.state.calls.load(Ordering::SeqCst), index + 1);
    }
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_slow_clients_disturbs_nobody() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut crowd = Vec::new();
    for index in 0..200 {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        let begun: &[u8] = match index % 3 {
            0 => b"GET /v1/notes/1 HTTP/1.1\r\nHost: a\r\nX-Slow: ",
            1 => b"POST /v1/notes HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{",
            _ => b"PRI * HTTP/2.0\r\n",
        };
        socket.write_all(begun).await.unwrap();
        crowd.push(socket);
    }
    let mut http = gateway.http().await;
    for round in 0..20 {
        for socket in &mut crowd {
            socket.write_all(b" ").await.ok();
        }
        assert_eq!(http.get("/v1/notes/7").await.status, 200, "round {round}");
    }
    drop((crowd, http));
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_resets_streams_as_fast_as_it_can_is_cut_off_and_nobody_else() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let healthy = [Healthy::before(&gateway), Healthy::writing(&gateway)];
    let request = [
        (":path", "/v1/behave?sleepMs=9000"),
        (":authority", "a"),
        ("content-type", "application/json"),
    ];
    let mut attack = PREFACE.to_vec();
    for stream in (1..120_u8).step_by(2) {
        attack.extend(headers(stream, true, &request));
        attack.extend([0, 0, 4, RST_STREAM, 0, 0, 0, 0, stream, 0, 0, 0, CANCEL]);
    }
    for _ in 0..20 {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        socket.write_all(&attack).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        // Type 7 is GOAWAY: the last stream, and why.
        let mut rest = &answer[..];
        let mut reason = None;
        while let [a, b, c, kind, _, _, _, _, _, more @ ..] = rest {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if *kind == 7 {
                reason = Some(more[7]);
            }
            rest = &more[length..];
        }
        assert_eq!(reason, Some(ENHANCE_YOUR_CALM));
    }
    for client in healthy {
        client.goes_on(10).await;
        client.end().await;
    }
    let connections = server.state.connections.load(Ordering::SeqCst);
    assert!(
        connections <= 3,
        "the server ended none for what others did: {connections}"
    );
    gateway.end().await;
}

/// What a client of HTTP/2 begins with: the preface and empty SETTINGS.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const RST_STREAM: u8 = 3;
const CANCEL: u8 = 8;
const ENHANCE_YOUR_CALM: u8 = 11;

/// HEADERS of a POST, all of them literals without an index.
fn headers(stream: u8, last: bool, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in pairs {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    let flags = 4 | u8::from(last);
    let mut frame = vec![0, 0, block.len() as u8, 1, flags, 0, 0, 0, stream];
    frame.extend(block);
    frame
}

/// Counts the panics of all gateways of this process: a runtime catches those of its tasks.
fn panics_of_workers() -> &'static AtomicUsize {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        if thread
            .name()
            .is_some_and(|name| name.starts_with("worker-"))
        {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        usual(info);
    }));
    &PANICS
}

/// Requests that are right, to be made wrong.
fn seeds() -> Vec<Vec<u8>> {
    let rest = b"POST /v1/notes?noteId=9 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"title\":\"ab\"}";
    let stream = b"POST /v1/notes:collect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[{},{\r\n2\r\n}]\r\n0\r\n\r\n";
    let web = b"POST /demo.echo.Echo/GetNote HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web-text\r\nContent-Length: 16\r\n\r\nAAAAAAcKBW5vdGVz";
    let socket = b"GET /demo.echo.Echo/Chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x81\x82\x00\x00\x00\x00{}\x88\x80\x00\x00\x00\x00";
    // A gRPC call, and DATA with the end.
    let call = [
        (":path", "/demo.echo.Echo/GetNote"),
        (":authority", "a"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut two = [PREFACE, &headers(1, false, &call)].concat();
    two.extend(*b"\x00\x00\x05\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00");
    vec![
        rest.to_vec(),
        stream.to_vec(),
        web.to_vec(),
        socket.to_vec(),
        two,
    ]
}

fn damaged(seed: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..4) {
            0 => bytes[at] = random.random(),
            1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => bytes.truncate(at.max(1)),
            _ => {
                let to = random.random_range(at..bytes.len().min(at + 20));
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_requests_of_every_protocol_leave_the_gateway_well() {
    let server = Server::start("a");
    let gateway = Running::with(&[&server], |settings| {
        settings.config.header_timeout = Duration::from_millis(500);
        settings.config.body_timeout = Duration::from_millis(500);
    })
    .await;
    let panics = panics_of_workers();
    let cases = std::env::var("PROPTEST_CASES");
    let count = cases.as_ref().map_or(500, |text| text.parse().unwrap());
    // Buffers and caches have their size after the first half.
    storm(gateway.address, 0, count / 2).await;
    let before = resident();
    storm(gateway.address, 1, count / 2).await;
    let mut http = gateway.http().await;
    assert_eq!(http.get("/v1/notes/7").await.status, 200);
    drop(http);
    gateway.end().await;
    assert_eq!(panics.load(Ordering::SeqCst), 0);
    // With few requests the other tests of the process need more memory than what these could leave behind.
    if cases.is_ok() {
        let grown = resident().saturating_sub(before);
        assert!(grown < 32 * 1024, "{grown} KiB more than before");
    }
}

/// So many damaged requests, the same ones for the same seed.
async fn storm(address: std::net::SocketAddr, seed: u64, count: usize) {
    let tasks = (0..8_u64).map(|task| {
        tokio::spawn(async move {
            let (seeds, mut random) = (seeds(), StdRng::seed_from_u64(seed * 8 + task));
            for index in 0..count / 8 {
                let bytes = damaged(&seeds[index % seeds.len()], &mut random);
                let mut socket = TcpStream::connect(address).await.unwrap();
                socket.write_all(&bytes).await.ok();
                socket.shutdown().await.ok();
                let mut answer = Vec::new();
                // A server that answers nothing closes in the end; who waits for it is not what is tested.
                let read = socket.read_to_end(&mut answer);
                tokio::time::timeout(Duration::from_secs(2), read)
                    .await
                    .ok();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}
