//! Servers that die, restart, refuse and are hammered; a healthy client sees none of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;

use crate::testing::{Http, Running, Server};

/// A healthy client: calls one after the other until it is told to stop. None of them may fail.
pub(super) struct Healthy {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Healthy {
    /// One that reads: such calls may be repeated.
    pub(super) fn before(gateway: &Running) -> Self {
        Self::calling(gateway, "GET", "/v1/notes/7", "")
    }

    /// One that writes: nothing may be repeated that a server may have begun.
    pub(super) fn writing(gateway: &Running) -> Self {
        Self::calling(gateway, "POST", "/v1/behave", "{}")
    }

    fn calling(
        gateway: &Running,
        method: &'static str,
        path: &'static str,
        body: &'static str,
    ) -> Self {
        let address = gateway.address;
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (stopped, counter): (_, Arc<AtomicUsize>) = (stop.clone(), Arc::clone(&calls));
        let task = tokio::spawn(async move {
            let mut http = Http::h1(address).await;
            while !stopped.load(Ordering::SeqCst) {
                let got = http.call(method, path, &[], body).await;
                let calls = counter.fetch_add(1, Ordering::SeqCst);
                assert_eq!(got.status, 200, "{method} {calls}: {}", got.text());
            }
        });
        Self { stop, calls, task }
    }

    /// Waits until it has made so many calls more, however long they take on a busy machine.
    pub(super) async fn goes_on(&self, more: usize) {
        let wanted = self.calls.load(Ordering::SeqCst) + more;
        while self.calls.load(Ordering::SeqCst) < wanted && !self.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

/// Waits for a condition, however long it takes on a busy machine; one that never comes is a failure.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_mins(2);
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_the_only_server_restarts() {
    // No client of another test is given a port of this address while the server is away.
    let mut server = Server::at("a", "127.1.0.1:0".parse().unwrap());
    let gateway = Running::before(&[&server]).await;
    let healthy = Healthy::before(&gateway);
    for round in 0..3 {
        healthy.goes_on(5).await;
        if round == 1 {
            server.kill();
        } else {
            server.stop().await;
        }
        let address = server.address;
        drop(server);
        server = Server::at("a", address);
    }
    healthy.goes_on(5).await;
    healthy.end().await;
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_one_server_after_the_other_restarts() {
    let mut servers = [Server::start("a"), Server::start("b"), Server::start("c")];
    let gateway = Running::before(&servers.each_ref()).await;
    let clients = [
        Healthy::before(&gateway),
        Healthy::writing(&gateway),
        Healthy::writing(&gateway),
    ];
    for server in &mut servers {
        for client in &clients {
            client.goes_on(10).await;
        }
        server.stop().await;
        for client in &clients {
            client.goes_on(10).await;
        }
        *server = Server::at("again", server.address);
        let calls = || server.state.calls.load(Ordering::SeqCst);
        until("a server that is back gets calls", || calls() > 0).await;
    }
    for client in clients {
        client.end().await;
    }
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_never_there_takes_no_call() {
    let server = Server::start("a");
    // Nobody listens there, and as long as the address is held nobody will.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = held.local_addr().unwrap();
    let gateway = Running::with(&[&server], |settings| {
        let target = format!("demo.echo.Echo=http://{nobody}");
        settings.upstreams.push(target.parse().unwrap());
    })
    .await;
    let client = Healthy::writing(&gateway);
    client.goes_on(200).await;
    client.end().await;
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_calls_fail_is_taken_out_and_comes_back() {
    let servers = [Server::start("a"), Server::start("b")];
    let gateway = Running::before(&servers.each_ref()).await;
    let mut http = gateway.http().await;
    let calls = |server: &Server| server.state.calls.load(Ordering::SeqCst);
    let end = tokio::time::Instant::now() + Duration::from_mins(2);
    while calls(&servers[0]) == 0 || calls(&servers[1]) == 0 {
        assert!(tokio::time::Instant::now() < end, "both get calls");
        assert_eq!(http.post("/v1/behave", "{}").await.status, 200);
    }
    servers[1].state.failing.store(true, Ordering::SeqCst);
    // Five take it out. One slow call before makes it the dearer of the two for a while, so it is
    // not sure how many calls it takes until it gets five.
    let mut failed = 0;
    while failed < 5 {
        assert!(tokio::time::Instant::now() < end, "{failed} calls failed");
        failed += usize::from(http.post("/v1/behave", "{}").await.status == 503);
    }
    // After each pause, which doubles, one more call finds out whether it is well again.
    let mut later = 0;
    for _ in 0..400 {
        later += usize::from(http.post("/v1/behave", "{}").await.status == 503);
    }
    assert!(later < 15, "{later} of 400 calls failed");
    servers[1].state.failing.store(false, Ordering::SeqCst);
    let before = calls(&servers[1]);
    while calls(&servers[1]) == before {
        assert!(tokio::time::Instant::now() < end, "it comes back");
        assert_eq!(http.post("/v1/behave", "{}").await.status, 200);
    }
    drop(http);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_it_is_unwell_gets_no_calls_until_it_is_well() {
    let servers = [Server::with_health("a"), Server::with_health("b")];
    let gateway = Running::before(&servers.each_ref()).await;
    let client = Healthy::writing(&gateway);
    let calls = || servers[1].state.calls.load(Ordering::SeqCst);
    until("both get calls", || calls() > 0).await;
    servers[1].say_serving(false).await;
    let end = tokio::time::Instant::now() + Duration::from_mins(2);
    loop {
        let before = calls();
        client.goes_on(100).await;
        if calls() == before {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "it gets no more calls");
    }
    servers[1].say_serving(true).await;
    let before = calls();
    until("it gets calls again", || calls() > before).await;
    client.end().await;
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_when_one_of_three_servers_is_killed() {
    let mut servers = [Server::start("a"), Server::start("b"), Server::start("c")];
    let gateway = Running::before(&servers.each_ref()).await;
    let clients: Vec<_> = (0..4).map(|_| Healthy::before(&gateway)).collect();
    let served = |server: &Server| server.state.calls.load(Ordering::SeqCst);
    // All of them get calls.
    while servers.iter().any(|server| served(server) < 20) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    servers[1].kill();
    let before = served(&servers[0]);
    while served(&servers[0]) < before + 100 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for client in clients {
        client.goes_on(5).await;
        client.end().await;
    }
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_clients_that_abort_disturbs_nobody() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let clients = [Healthy::before(&gateway), Healthy::writing(&gateway)];
    for client in &clients {
        client.goes_on(5).await;
    }
    let mut http = gateway.http().await;
    // So many streams that an HTTP/2 server would end the connection if all of them were reset in a row, with every call on it.
    for _ in 0..20 {
        let mut http = Http::h2(gateway.address).await;
        for index in 0..40 {
            let path = if index % 2 == 0 {
                "/v1/behave?sleepMs=50"
            } else {
                "/v1/notes:watch?count=1000&pauseMs=20"
            };
            let request = http.request("GET", path, &[], crate::refusal::empty());
            // The call is under way, and then nobody waits for it. The gateway may end the connection of who does this too often.
            let call = Box::pin(http.attempt(request));
            tokio::time::timeout(Duration::from_micros(200), call)
                .await
                .ok();
        }
        drop(http);
    }
    for client in clients {
        client.goes_on(10).await;
        client.end().await;
    }
    let streams = || server.state.streams.load(Ordering::SeqCst);
    until("what was left behind ends", || streams() == 0).await;
    // Two for calls and one for streams: none was ended by the server for its resets.
    let connections = server.state.connections.load(Ordering::SeqCst);
    assert!(connections <= 3, "{connections} connections");
    assert_eq!(http.get("/v1/notes/7").await.status, 200);
    drop(http);
    gateway.end().await;
}

/// A server of HTTP/2 that refuses the first streams, as one that is about to end does, and answers the others.
async fn refusing(refused: usize) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let left = Arc::new(AtomicUsize::new(refused));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let left = left.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let mine = request.uri().path().ends_with("/Change");
                    if mine && left.load(Ordering::SeqCst) > 0 {
                        left.fetch_sub(1, Ordering::SeqCst);
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                        continue;
                    }
                    let status = if mine { "0" } else { "12" };
                    let response = http::Response::builder()
                        .header("content-type", "application/grpc")
                        .body(())
                        .unwrap();
                    let mut body = respond.send_response(response, false).unwrap();
                    if mine {
                        body.send_data(bytes::Bytes::from_static(&[0; 5]), false)
                            .unwrap();
                    }
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", status.parse().unwrap());
                    body.send_trailers(trailers).unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_refused_untouched_is_sent_again_even_when_it_writes() {
    let server = refusing(3).await;
    let gateway = Running::with(&[], |settings| {
        let target = format!("demo.echo.Echo=http://{server}");
        settings.upstreams.push(target.parse().unwrap());
    })
    .await;
    let mut http = gateway.http().await;
    let answer = http.post("/v1/behave", "{}").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "{}"));
    drop(http);
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_runs_when_the_drain_begins_gets_its_answer() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    let call = tokio::spawn(async move { http.post("/v1/behave", r#"{"sleepMs": 1000}"#).await });
    let calls = || server.state.calls.load(Ordering::SeqCst);
    until("the call is under way", || calls() > 0).await;
    let (answer, ()) = tokio::join!(call, gateway.end());
    assert_eq!(answer.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_repeated_is_repeated_and_nothing_else() {
    let server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    let mut http = gateway.http().await;
    let reads = http.get("/v1/behave?failTimes=2&key=reads").await;
    assert_eq!(
        (reads.status.as_u16(), &reads.json()["calls"]),
        (200, &3.into())
    );
    let writes = http
        .post("/v1/behave", r#"{"failTimes": 1, "key": "writes"}"#)
        .await;
    assert_eq!(writes.status, 503);
    let other = http.get("/v1/behave?code=10&key=aborted").await;
    assert_eq!(other.status, 409);
    let again = http.get("/v1/behave?key=aborted").await;
    assert_eq!(
        again.json()["calls"],
        2,
        "an error that is not UNAVAILABLE is final"
    );
    gateway.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_server_the_answer_says_so() {
    let mut server = Server::start("a");
    let gateway = Running::before(&[&server]).await;
    server.kill();
    let mut http = gateway.http().await;
    let none = http
        .call("GET", "/v1/notes/7", &[("x-server-timeout", "0.5")], "")
        .await;
    assert!(matches!(none.status.as_u16(), 503 | 504), "{}", none.text());
    assert!(
        !none.text().contains("127.0.0.1"),
        "no address of a server is told: {}",
        none.text()
    );
    gateway.end().await;
}
