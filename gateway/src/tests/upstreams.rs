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

/// A healthy client: calls that read, one after the other, until it is told to stop. None of them may fail.
pub(super) struct Healthy {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Healthy {
    pub(super) fn before(gateway: &Running) -> Self {
        let address = gateway.address;
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (stopped, counter): (_, Arc<AtomicUsize>) = (stop.clone(), Arc::clone(&calls));
        let task = tokio::spawn(async move {
            let mut http = Http::h1(address).await;
            while !stopped.load(Ordering::SeqCst) {
                let got = http.get("/v1/notes/7").await;
                let calls = counter.fetch_add(1, Ordering::SeqCst);
                assert_eq!(got.status, 200, "call {calls}: {}", got.text());
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
            server.stop();
            tokio::time::sleep(Duration::from_millis(100)).await;
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
    let healthy = Healthy::before(&gateway);
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
    healthy.goes_on(10).await;
    healthy.end().await;
    // What was left behind ends.
    while server.state.streams.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gateway.end().await;
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
