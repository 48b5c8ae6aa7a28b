//! The rim of the session: one loop moves frames, work, observations, durable writes and time between the core and the world, over
//! any number of connections.

mod backoff;

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use prost::Message as _;
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use upm_proto::{
    hub::v1 as pb,
    ledger::{Ahead, Next},
};

use backoff::Backoff;

use crate::{
    applier::Worker,
    collector::Seen,
    durable::Durable,
    hub::{Connection, Hub, Pause, Refused, refused},
    metrics::Metrics,
    report::Report,
    session::{Action, Done, Facts, Lost, Persist, Session},
    tunnel::Tunnels,
};

/// Frames that are taken in one turn, if they are there.
const ALONG: usize = 32;
/// Between two looks at the certificate.
const CERTIFICATE: Duration = Duration::from_secs(20);
/// Time for the last frames of a connection.
const FLUSH: Duration = Duration::from_secs(2);
/// Between two tries to write the durable copy.
const PERSIST_RETRY: Duration = Duration::from_secs(2);

/// Between two dials while the hub is away, unless an agent is told less.
pub const LONGEST_PAUSE: Duration = backoff::LONGEST;

/// What the loop works with.
pub struct Parts {
    /// The way to the hub.
    pub hub: Hub,
    /// Does the work on objects.
    pub worker: Arc<dyn Worker>,
    /// Keeps what must not be forgotten.
    pub durable: Arc<dyn Durable>,
    /// Serves tunnels.
    pub tunnels: Arc<dyn Tunnels>,
    /// What was seen in the cluster.
    pub seen: mpsc::Receiver<Seen>,
    /// What the hub wants to see.
    pub interest: watch::Sender<Vec<pb::Watch>>,
    /// How the connection is.
    pub report: watch::Sender<Report>,
    /// Between two dials while the hub is away, at most: 1 to 30 s.
    pub longest_pause: Duration,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}

/// Runs the session until cancelled. The durable copy is read first, as often as that takes: without it the agent would not know what it
/// was told.
pub async fn run(parts: Parts, facts: Facts, cancel: CancellationToken) {
    let mut session = Session::new(facts, rand::random(), 0);
    loop {
        match parts.durable.load().await {
            Ok(head) => {
                session.load(head);
                break;
            }
            Err(error) => tracing::warn!(%error, "The durable ledger cannot be read; trying again"),
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(PERSIST_RETRY) => {}
        }
    }
    let driver = Driver {
        session,
        began: Instant::now(),
        hub: Some(Box::new(parts.hub)),
        worker: parts.worker,
        durable: parts.durable,
        tunnels: parts.tunnels,
        interest: parts.interest,
        report: parts.report,
        link: None,
        backoff: Backoff::new(Duration::ZERO, parts.longest_pause),
        redial: Instant::now(),
        running: JoinSet::new(),
        metrics: Metrics::new(),
    };
    driver.run(parts.seen, cancel).await;
}

struct Driver {
    session: Session,
    began: Instant,
    /// Away while it dials.
    hub: Option<Box<Hub>>,
    worker: Arc<dyn Worker>,
    durable: Arc<dyn Durable>,
    tunnels: Arc<dyn Tunnels>,
    interest: watch::Sender<Vec<pb::Watch>>,
    report: watch::Sender<Report>,
    link: Option<Link>,
    backoff: Backoff,
    redial: Instant,
    running: JoinSet<()>,
    metrics: Metrics,
}

struct Link {
    connection: Connection,
    since: Instant,
    welcomed: bool,
}

/// What is under way.
#[derive(Default)]
struct Flow {
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    persist: Option<BoxFuture<'static, Persist>>,
    dial: Option<BoxFuture<'static, Dialled>>,
    /// What has gone out on the present connection.
    ahead: Ahead,
}

type Dialled = (Box<Hub>, Result<Connection, Refused>);

impl Driver {
    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    async fn run(mut self, mut seen: mpsc::Receiver<Seen>, cancel: CancellationToken) {
        let mut flow = Flow::default();
        let mut certificate = tokio::time::interval(CERTIFICATE);
        let mut cancelled = pin!(cancel.cancelled());
        let mut timer = pin!(tokio::time::sleep_until(self.began));
        loop {
            self.actions().await;
            self.begin(&mut flow);
            self.send(&mut flow.ahead);
            let Flow {
                work,
                persist,
                dial,
                ahead: _,
            } = &mut flow;
            let mut deadline =
                self.began + Duration::from_millis(self.session.deadline().min(1 << 40));
            if self.link.is_none() && dial.is_none() {
                deadline = deadline.min(self.redial);
            }
            // One that is early costs a look at the clock; most deadlines move away with each frame.
            if deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            let welcomed = self.link.as_ref().is_some_and(|l| l.welcomed);
            let link = self.link.as_mut();
            let outbound = link.as_ref().map(|l| l.connection.outbound.clone());
            let full = outbound.as_ref().is_some_and(|out| out.capacity() == 0);
            let next = match outbound {
                Some(_) => self.session.next_kind(),
                None => Next::Nothing,
            };
            tokio::select! {
                () = cancelled.as_mut() => break,
                room = room(outbound.clone()), if next == Next::Control || next == Next::Shared && full => if !room {
                    self.ended();
                },
                // All that went out is taken: there is room again.
                taken = empty(outbound), if next == Next::Shared && !full => if !taken {
                    self.ended();
                },
                came = receive(link) => {
                    // What has come along is taken along, until there is something to do about the connection.
                    let (mut came, mut left) = (Some(came), ALONG);
                    while let Some(one) = came {
                        self.heard(one);
                        if self.welcomed().await {
                            certificate.reset_immediately();
                        }
                        left -= 1;
                        came = (left > 0 && self.link.is_some() && !self.session.has_action())
                            .then(|| receive(self.link.as_mut()).now_or_never())
                            .flatten();
                    }
                }
                Some(done) = work.next() => {
                    let now = self.now();
                    // What is seen of the object by now goes out together with the result.
                    for _ in 0..ALONG {
                        let Ok(seen) = seen.try_recv() else { break };
                        self.saw(now, seen);
                    }
                    self.session.done(now, done);
                }
                Some(written) = some(persist) => {
                    *persist = None;
                    let now = self.now();
                    self.session.persisted(now, &written);
                }
                Some((hub, dialled)) = some(dial) => {
                    *dial = None;
                    self.hub = Some(hub);
                    match dialled {
                        Ok(connection) => {
                            let now = self.now();
                            self.session.connect(now);
                            self.link = Some(Link { connection, since: Instant::now(), welcomed: false });
                        }
                        Err(refused) => self.pause(refused),
                    }
                }
                Some(seen) = seen.recv() => {
                    let now = self.now();
                    self.saw(now, seen);
                }
                _ = certificate.tick(), if welcomed => {
                    if let Some(request) = self.hub.as_mut().and_then(|hub| hub.renewal()) {
                        self.session.request_certificate(request);
                    }
                }
                Some(_) = self.running.join_next() => {}
                () = timer.as_mut() => {
                    let now = self.now();
                    self.session.tick(now);
                }
            }
        }
        self.leave("the agent stops").await;
        // What was begun on the API server ends by itself; its result is looked up again by the next leader.
        self.running.shutdown().await;
        if let Some(persist) = flow.persist {
            let _ = tokio::time::timeout(FLUSH, persist).await;
        }
    }

    /// A frame of the hub, or that there are no more.
    fn heard(&mut self, came: Result<Option<pb::HubFrame>, tonic::Status>) {
        match came {
            Ok(Some(frame)) => {
                let now = self.now();
                self.session.frame(now, frame);
            }
            Ok(None) => self.broken(Refused::new(
                "STREAM_ENDED",
                "the hub ended the stream",
                Pause::First,
            )),
            Err(status) => self.broken(refused(&status)),
        }
    }

    /// The stream takes no more frames.
    fn ended(&mut self) {
        self.broken(Refused::new(
            "STREAM_BROKEN",
            "the stream ended",
            Pause::First,
        ));
    }

    /// Sends what may go now.
    fn send(&mut self, ahead: &mut Ahead) {
        let Some(outbound) = self.link.as_ref().map(|l| l.connection.outbound.clone()) else {
            return;
        };
        while ahead.may(
            self.session.next_kind(),
            outbound.max_capacity() - outbound.capacity(),
        ) {
            let permit = match outbound.try_reserve() {
                Ok(permit) => permit,
                Err(TrySendError::Full(())) => return,
                Err(TrySendError::Closed(())) => return self.ended(),
            };
            if let Some(frame) = self.session.next_frame() {
                ahead.sent(frame.encoded_len());
                permit.send(frame);
            }
        }
    }

    /// Begins what can begin.
    fn begin(&mut self, flow: &mut Flow) {
        let now = self.now();
        while let Some(piece) = self.session.next_work(now) {
            flow.work.push(self.worker.work(piece));
        }
        if flow.persist.is_none()
            && let Some(wanted) = self.session.next_persist(now)
        {
            flow.persist = Some(save(self.durable.clone(), wanted).boxed());
        }
        if self.link.is_some() {
            return;
        }
        flow.ahead = Ahead::default();
        if flow.dial.is_none()
            && Instant::now() >= self.redial
            && let Some(mut hub) = self.hub.take()
        {
            flow.dial = Some(
                async move {
                    let dialled = hub.dial().await;
                    (hub, dialled)
                }
                .boxed(),
            );
        }
    }

    fn saw(&mut self, now: u64, seen: Seen) {
        match seen {
            Seen::Object(key, observation) => self.session.observed(now, key, *observation),
            Seen::Listed(group, kind, namespace, texts) => {
                self.session.listed(now, &group, &kind, &namespace, &texts);
            }
            Seen::Inventory(watch, events, complete) => {
                self.session.inventory(now, watch, events, complete);
            }
        }
    }

    async fn actions(&mut self) {
        while let Some(action) = self.session.next_action() {
            match action {
                Action::Interest(interest) => {
                    self.interest.send_modify(|wanted| {
                        wanted.retain(|w| {
                            !interest.remove.contains(&w.watch_id)
                                && interest.add.iter().all(|a| a.watch_id != w.watch_id)
                        });
                        wanted.extend(interest.add);
                    });
                }
                Action::OpenTunnel(tunnel) => {
                    if let Some(link) = &self.link {
                        let open = self.tunnels.open(tunnel, link.connection.client.clone());
                        self.running.spawn(open);
                    }
                }
                Action::Certificate(issued) => {
                    if let Some(hub) = &mut self.hub {
                        hub.issued(issued).await;
                    }
                }
                Action::Reconnect(lost) => {
                    self.flush().await;
                    self.broken(why(&lost));
                }
            }
        }
    }

    /// Sends what is queued, for a moment.
    async fn flush(&mut self) {
        let Some(link) = &self.link else { return };
        let outbound = link.connection.outbound.clone();
        let mut frames = Vec::new();
        while let Some(frame) = self.session.next_frame() {
            frames.push(frame);
        }
        let send = async {
            for frame in frames {
                if outbound.send(frame).await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(FLUSH, send).await;
    }

    async fn leave(&mut self, why: &str) {
        self.session.goodbye(why);
        self.flush().await;
        let now = self.now();
        self.session.disconnect(now);
        self.link = None;
    }

    /// Answers whether the hub has just welcomed the session.
    async fn welcomed(&mut self) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        if link.welcomed || self.session.live_since().is_none() {
            return false;
        }
        link.welcomed = true;
        let endpoint = link.connection.endpoint.clone();
        let mut agent = None;
        if let Some(hub) = &mut self.hub {
            hub.proven().await;
            agent = hub.agent_id();
        }
        tracing::info!(endpoint, "Connected to the hub");
        self.metrics.connected();
        self.report.send_replace(Report {
            connected: true,
            reason: "CONNECTED".into(),
            message: String::new(),
            endpoint,
            agent_id: agent.unwrap_or_default(),
        });
        true
    }

    /// The connection is gone: say why, wait, dial again.
    fn broken(&mut self, mut refused: Refused) {
        let now = self.now();
        self.session.disconnect(now);
        match self.link.take().filter(|link| link.welcomed) {
            Some(link) => {
                let spread = Duration::from_millis(self.session.reconnect_spread_ms());
                self.backoff
                    .lost(self.began.elapsed(), link.since.elapsed(), spread);
                if refused.pause == Pause::Backoff && is_break(&refused) {
                    refused.pause = Pause::First;
                }
            }
            // It was never welcomed: the same as a dial that failed.
            None if refused.pause == Pause::First => refused.pause = Pause::Backoff,
            None => {}
        }
        if let Some(hub) = &mut self.hub {
            hub.distrust(&refused);
        }
        self.pause(refused);
    }

    fn pause(&mut self, refused: Refused) {
        let pause = self.backoff.wait(
            self.began.elapsed(),
            refused.pause,
            refused.retry_after,
            &mut rand::rng(),
        );
        self.redial = Instant::now() + pause;
        tracing::warn!(
            reason = refused.reason,
            message = refused.message,
            again_in_ms = pause.as_millis() as u64,
            "Not connected to the hub; what the cluster was told to be goes on"
        );
        self.metrics.lost(&refused.reason);
        let agent_id = self.report.borrow().agent_id.clone();
        self.report.send_replace(Report {
            connected: false,
            reason: refused.reason,
            message: refused.message,
            endpoint: String::new(),
            agent_id,
        });
    }
}

/// Whether a status only says that the connection is gone.
fn is_break(refused: &Refused) -> bool {
    matches!(
        refused.reason.as_str(),
        "CONNECTION_LOST" | "UNAVAILABLE" | "CANCELLED" | "UNKNOWN" | "INTERNAL" | "DRAINED"
    )
}

/// What it means that a session asks for another connection.
fn why(lost: &Lost) -> Refused {
    use pb::drain::Reason;
    match lost {
        Lost::Drained(reason, not_before, spread) => Refused::new(
            &format!("DRAINED_{}", reason.as_str_name()),
            "the hub asks to come back",
            match reason {
                // After a revocation the next dial says whether it is the certificate alone.
                Reason::Revoked | Reason::Wedged | Reason::Overrun => Pause::Backoff,
                Reason::Fenced => Pause::Rival,
                _ => Pause::At(
                    Duration::from_millis(u64::from(*not_before)),
                    Duration::from_millis(u64::from(*spread)),
                ),
            },
        ),
        Lost::HelloTimeout => Refused::new(
            "HELLO_TIMEOUT",
            "the hub did not welcome the session",
            Pause::Backoff,
        ),
        Lost::Dead => Refused::new("DEAD", "nothing was heard of the hub", Pause::First),
        Lost::Protocol(why) => Refused::new("PROTOCOL_ERROR", *why, Pause::Backoff),
    }
}

async fn save(durable: Arc<dyn Durable>, persist: Persist) -> Persist {
    loop {
        match durable.save(&persist).await {
            Ok(()) => return persist,
            Err(error) => {
                tracing::warn!(%error, "The durable ledger cannot be written; trying again");
                tokio::time::sleep(PERSIST_RETRY).await;
            }
        }
    }
}

/// Waits until another frame may go out; false when the stream has ended.
async fn room(outbound: Option<mpsc::Sender<pb::AgentFrame>>) -> bool {
    match outbound {
        Some(outbound) => outbound.reserve().await.is_ok(),
        None => false,
    }
}

/// Waits until everything that went out is taken; false when the stream has ended.
async fn empty(outbound: Option<mpsc::Sender<pb::AgentFrame>>) -> bool {
    match outbound {
        Some(outbound) => outbound.reserve_many(outbound.max_capacity()).await.is_ok(),
        None => false,
    }
}

async fn receive(link: Option<&mut Link>) -> Result<Option<pb::HubFrame>, tonic::Status> {
    match link {
        Some(link) => link.connection.inbound.message().await,
        None => std::future::pending().await,
    }
}

async fn some<T>(future: &mut Option<BoxFuture<'static, T>>) -> Option<T> {
    match future {
        Some(future) => Some(future.await),
        None => std::future::pending().await,
    }
}
