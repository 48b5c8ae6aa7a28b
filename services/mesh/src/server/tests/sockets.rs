//! The stack on sockets: mutual TLS, drain, isolation of clients from each other.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use upm_proto::user::v1::user_service_client::UserServiceClient;

use super::*;
use crate::{
    Authority,
    identity::pinned_client_config,
    testing::{Served, endpoint, identity as identity_of, serve, serve_on},
};

/// A client on the socket of a server.
fn remote(served: &Served, authority: &Authority, from: &str) -> UserServiceClient<Channel> {
    let identity = identity_of(authority, &module(from));
    UserServiceClient::new(client::connect(
        vec![endpoint(served.address)],
        identity,
        module("user"),
    ))
}

#[tokio::test]
async fn a_panic_ends_its_call_and_no_other() {
    let world = World::new();
    let authority = Authority::create().expect("an authority");
    let served = serve(world.stack.clone(), &authority, ClientAuth::Required).await;
    let mut client = remote(&served, &authority, "auth");
    let broken = client
        .get_user(world.by("users/root", get("users/panics")))
        .await
        .expect_err("panics");
    assert_eq!(
        (broken.code(), reason(&broken).as_str()),
        (Code::Internal, "PANIC")
    );
    assert_eq!(broken.message(), "internal error");
    client
        .get_user(world.by("users/root", get("users/x")))
        .await
        .expect("still there");

    // In the middle of a stream, too.
    let mut stream = client
        .watch_disabled_users(pb::WatchDisabledUsersRequest::default())
        .await
        .expect("begun")
        .into_inner();
    stream
        .message()
        .await
        .expect("the first message")
        .expect("one");
    world.users.release.notify_one();
    let broken = stream.message().await.expect_err("panics");
    assert_eq!(
        (broken.code(), reason(&broken).as_str()),
        (Code::Internal, "PANIC")
    );
}

#[tokio::test]
async fn mutual_tls_lets_modules_in_and_nobody_else() {
    let world = World::new();
    let authority = Authority::create().expect("an authority");
    let served = serve(world.stack.clone(), &authority, ClientAuth::Required).await;
    let mut client = remote(&served, &authority, "redis");
    let answer = client
        .get_user(get("users/x"))
        .await
        .expect("a module")
        .into_inner();
    assert_eq!(answer.display_name, "spiffe://upm/module/redis");
    assert_eq!(answer.email, "127.0.0.1");

    // A server that is somebody else.
    let identity = identity_of(&authority, &module("redis"));
    let wrong = client::connect(
        vec![endpoint(served.address)],
        identity.clone(),
        module("auth"),
    );
    let refused = UserServiceClient::new(wrong)
        .get_user(get("users/x"))
        .await
        .expect_err("not auth");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unavailable, "CONNECT_FAILED")
    );
    // A client of another authority, in both directions.
    let other = Authority::create().expect("an authority");
    let mut stranger = remote(&served, &other, "redis");
    assert_eq!(
        stranger
            .get_user(get("users/x"))
            .await
            .expect_err("unknown")
            .code(),
        Code::Unavailable
    );
    let issued = other
        .issue(&module("redis"), &[], Duration::from_mins(1))
        .expect("issued");
    let forged = Identity::issued(issued, &authority.certificates()).expect("an identity");
    let forged = client::connect(vec![endpoint(served.address)], forged, module("user"));
    let refused = UserServiceClient::new(forged)
        .get_user(get("users/x"))
        .await
        .expect_err("forged");
    assert_eq!(refused.code(), Code::Unavailable);
    // No certificate at all.
    let nobody = client::connect_with(
        vec![endpoint(served.address)],
        pinned_client_config(&authority.pin(), module("user")),
    );
    let refused = UserServiceClient::new(nobody)
        .get_user(get("users/x"))
        .await
        .expect_err("nobody");
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(world.users.reached.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn with_optional_certificates_a_client_without_one_is_nobody_and_trusts_by_pin() {
    let world = World::new();
    let authority = Authority::create().expect("an authority");
    let served = serve(world.stack.clone(), &authority, ClientAuth::Optional).await;
    let by_pin = |pin: &str, expected| {
        client::connect_with(
            vec![endpoint(served.address)],
            pinned_client_config(pin, expected),
        )
    };
    let right = by_pin(&authority.pin(), module("user"));
    HealthClient::new(right.clone())
        .check(HealthCheckRequest::default())
        .await
        .expect("public");
    let refused = UserServiceClient::new(right)
        .get_user(get("users/x"))
        .await
        .expect_err("nobody");
    assert_eq!(reason(&refused), "TOKEN_MISSING");

    let other = Authority::create().expect("an authority").pin();
    for wrong in [
        by_pin(&other, module("user")),
        by_pin(&authority.pin(), module("auth")),
    ] {
        let refused = HealthClient::new(wrong)
            .check(HealthCheckRequest::default())
            .await
            .expect_err("wrong");
        assert_eq!(refused.code(), Code::Unavailable);
    }
}

#[tokio::test]
async fn a_replaced_identity_is_used_for_the_next_connection() {
    let world = World::new();
    let authority = Authority::create().expect("an authority");
    let served = serve(world.stack.clone(), &authority, ClientAuth::Required).await;
    remote(&served, &authority, "redis")
        .get_user(get("users/x"))
        .await
        .expect("as user");
    let issued = authority
        .issue(&module("auth"), &[], Duration::from_mins(1))
        .expect("issued");
    served
        .identity
        .replace(issued.chain, issued.key, &authority.certificates())
        .expect("replaced");
    remote(&served, &authority, "redis")
        .get_user(get("users/x"))
        .await
        .expect_err("no longer user");
    let identity = identity_of(&authority, &module("redis"));
    let renamed = client::connect(vec![endpoint(served.address)], identity, module("auth"));
    UserServiceClient::new(renamed)
        .get_user(get("users/x"))
        .await
        .expect("now auth");
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_takes_nothing_new() {
    let world = World::new();
    let authority = Authority::create().expect("an authority");
    let served = serve(world.stack.clone(), &authority, ClientAuth::Required).await;
    let mut client = remote(&served, &authority, "redis");
    let mut running = client.clone();
    let running = tokio::spawn(async move { running.get_user(get("users/waits")).await });
    world.users.entered.notified().await;
    served.drain.begin();
    let mut late = remote(&served, &authority, "redis");
    let refused = tokio::time::timeout(Duration::from_mins(1), late.get_user(get("users/x"))).await;
    assert_eq!(
        refused.expect("in time").expect_err("closed").code(),
        Code::Unavailable
    );
    world.users.release.notify_one();
    running.await.expect("no panic").expect("finished");
    let served = tokio::time::timeout(Duration::from_mins(1), served.task).await;
    served.expect("in time").expect("no panic").expect("served");
    client.get_user(get("users/x")).await.expect_err("gone");
}

#[tokio::test]
async fn a_stream_that_outlives_the_grace_is_told_to_go_elsewhere() {
    let world = World::with(Limits {
        grace: Duration::from_millis(200),
        ..Limits::default()
    });
    let authority = Authority::create().expect("an authority");
    let served = serve(world.stack.clone(), &authority, ClientAuth::Required).await;
    let mut client = remote(&served, &authority, "auth");
    let request = pb::WatchDisabledUsersRequest::default();
    let mut stream = client
        .watch_disabled_users(request)
        .await
        .expect("begun")
        .into_inner();
    stream
        .message()
        .await
        .expect("the first message")
        .expect("one");
    served.drain.begin();
    let cut = stream.message().await.expect_err("cut");
    assert_eq!(
        (cut.code(), reason(&cut).as_str()),
        (Code::Unavailable, "DRAINING")
    );
    tokio::time::timeout(Duration::from_mins(1), served.task)
        .await
        .expect("in time")
        .expect("no panic")
        .expect("served");
}

/// A frame of HTTP/2.
fn http2(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn many_streams_that_are_reset_before_they_are_accepted_do_not_end_the_connection() {
    let (headers_frame, reset, settings, ping, goaway) = (1, 3, 4, 6, 7);
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(world.stack.clone().serve(listener, None, Drain::new()));
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(http2(settings, 0, 0, &[]));
    // POST, http, path `/x`, authority `a`: static entries and literals of HPACK.
    let headers = [0x83, 0x86, 0x04, 2, b'/', b'x', 0x01, 1, b'a'];
    for stream in (1..1000).step_by(2) {
        bytes.extend(http2(headers_frame, 0x4, stream, &headers));
        bytes.extend(http2(reset, 0, stream, &8_u32.to_be_bytes()));
    }
    bytes.extend(http2(ping, 0, 0, b"are you?"));
    stream.write_all(&bytes).await.expect("sent");
    let answered = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("a frame");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.expect("its payload");
            assert_ne!(head[3], goaway, "{}", String::from_utf8_lossy(&payload));
            if head[3] == ping && head[4] & 1 == 1 {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), answered)
        .await
        .expect("in time");
    serving.abort();
}

#[tokio::test]
async fn clients_that_give_up_do_not_break_the_connection_for_others() {
    let world = World::new();
    let authority = Authority::create().expect("an authority");
    let served = serve(world.stack.clone(), &authority, ClientAuth::Required).await;
    let client = remote(&served, &authority, "redis");
    client
        .clone()
        .get_user(get("users/x"))
        .await
        .expect("connected");
    for _ in 0..10 {
        let storm: Vec<_> = (0..50)
            .map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move { client.get_user(get("users/slow")).await })
            })
            .collect();
        tokio::task::yield_now().await;
        for call in &storm {
            call.abort();
        }
        client
            .clone()
            .get_user(get("users/x"))
            .await
            .expect("not affected");
    }
}

#[tokio::test]
async fn a_peer_that_never_finishes_its_handshake_is_let_go_with_the_drain() {
    let world = World::with(Limits {
        grace: Duration::from_millis(100),
        ..Limits::default()
    });
    let authority = Authority::create().expect("an authority");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let served = serve_on(
        world.stack.clone(),
        &authority,
        ClientAuth::Required,
        listener,
    );
    let _silent = TcpStream::connect(served.address).await.expect("connected");
    remote(&served, &authority, "redis")
        .get_user(get("users/x"))
        .await
        .expect("others are served");
    // The handshake alone would end it in ten seconds; a machine that is busy must not seem to be that slow.
    tokio::time::pause();
    served.drain.begin();
    tokio::time::timeout(Duration::from_secs(5), served.task)
        .await
        .expect("in time")
        .expect("no panic")
        .expect("served");
}

/// A world that gives who shows no certificate two connections of one address, for a moment.
fn wary() -> World {
    World::with(Limits {
        strangers: Some(Strangers {
            connections_per_network: 2,
            streams_per_connection: 4,
            life: Duration::from_millis(300),
        }),
        ..Limits::default()
    })
}

#[tokio::test]
async fn who_shows_no_certificate_has_few_connections_and_little_time() {
    let world = wary();
    let authority = Authority::create().expect("an authority");
    let served = serve(world.stack.clone(), &authority, ClientAuth::Optional).await;
    // Who shows one is counted no more.
    let mut known = remote(&served, &authority, "redis");
    known.get_user(get("users/x")).await.expect("known");
    let silent = [
        TcpStream::connect(served.address).await.expect("connected"),
        TcpStream::connect(served.address).await.expect("connected"),
    ];
    let mut third = TcpStream::connect(served.address).await.expect("connected");
    let closed = tokio::time::timeout(Duration::from_secs(30), third.read(&mut [0; 1])).await;
    assert!(
        matches!(closed.expect("at once"), Ok(0) | Err(_)),
        "it is closed"
    );
    known
        .get_user(get("users/x"))
        .await
        .expect("others are served");
    drop(silent);
    let later = async {
        while remote(&served, &authority, "redis")
            .get_user(get("users/x"))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let later = tokio::time::timeout(Duration::from_mins(1), later);
    later.await.expect("places are given back");

    let config = pinned_client_config(&authority.pin(), module("user"));
    let connector = tokio_rustls::TlsConnector::from(config);
    let stream = TcpStream::connect(served.address).await.expect("connected");
    let name = "127.0.0.1".to_owned().try_into().expect("a name");
    let mut stranger = connector.connect(name, stream).await.expect("a handshake");
    let ended = async {
        let mut bytes = [0; 1024];
        while matches!(stranger.read(&mut bytes).await, Ok(1..)) {}
    };
    let ended = tokio::time::timeout(Duration::from_mins(1), ended);
    ended.await.expect("its life is over");
    known
        .get_user(get("users/x"))
        .await
        .expect("with a certificate it goes on");
}

#[tokio::test]
async fn who_shows_no_certificate_gets_no_health_and_no_reflection() {
    let world = wary();
    let authority = Authority::create().expect("an authority");
    let served = serve(world.stack.clone(), &authority, ClientAuth::Optional).await;
    let nobody = client::connect_with(
        vec![endpoint(served.address)],
        pinned_client_config(&authority.pin(), module("user")),
    );
    let refused = HealthClient::new(nobody.clone())
        .check(HealthCheckRequest::default())
        .await
        .expect_err("no health");
    assert_eq!(refused.code(), Code::Unimplemented);
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let refused = ServerReflectionClient::new(nobody)
        .server_reflection_info(futures::stream::iter([ask]))
        .await
        .expect_err("no reflection");
    assert_eq!(refused.code(), Code::Unimplemented);
    let identity = identity_of(&authority, &module("redis"));
    let known = client::connect(vec![endpoint(served.address)], identity, module("user"));
    HealthClient::new(known)
        .check(HealthCheckRequest::default())
        .await
        .expect("known");
}
