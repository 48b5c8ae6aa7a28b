//! The rim of a session: moves frames, commands and time between the pure core and the world.

use std::{
    pin::pin,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use prost::Message as _;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};
use tonic::{Status, Streaming};
use upm_mesh::identity::PeerCertificates;
use upm_proto::{
    hub::v1::{self as pb, drain::Reason},
    ledger::{Ahead, Next, limits},
};
use upm_store::time;

use crate::{
    Error, Hub, TRACE_TARGET, certificates,
    hub::{Control, Live, Shared},
    ledger,
    session::{Close, Command, Reply, Session, Settings},
};

/// Time for the last frames of a session that is over.
const FLUSH: Duration = Duration::from_secs(2);
/// Frames that are taken in one turn, if they are there.
const ALONG: usize = 32;
/// Between two tries of a command that the store failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Where frames for the agent go.
/// Boxed: a queue keeps room for many, and most are idle.
pub(crate) type Outbound = mpsc::Sender<Result<Box<pb::HubFrame>, Status>>;

/// The certificate that a session was opened with.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    /// SHA-256, hex.
    pub(crate) fingerprint: String,
    /// Serial number, hex.
    pub(crate) serial: String,
    /// When it ends.
    pub(crate) expire_us: i64,
    /// It, and what came with it; shared with the connection.
    pub(crate) chain: PeerCertificates,
}

/// Runs a session until it ends.
pub(crate) async fn session(
    hub: Hub,
    agent: String,
    certificate: Certificate,
    inbound: Streaming<pb::AgentFrame>,
    outbound: Outbound,
) {
    let wall = time::now_us();
    let jitter = rand::random_range(80..=120);
    let settings = Settings {
        replica: hub.inner.replica.clone(),
        certificate_ends: (certificate.expire_us - wall).max(0) as u64 / 1_000,
        max_age: limits::SESSION_AGE_MS * jitter / 100,
        wall_us: wall,
        reconnect_spread_ms: hub.reconnect_spread_ms(),
    };
    let (control, controls) = mpsc::channel(16);
    let mut driver = Driver {
        core: Session::new(settings, 0),
        began: Instant::now(),
        shared: Arc::default(),
        registered: false,
        control,
        certificate: Arc::new(certificate),
        hub,
        agent,
    };
    driver.run(inbound, &outbound, controls).await;
    driver.finish(outbound).await;
}

struct Driver {
    core: Session,
    began: Instant,
    shared: Arc<Shared>,
    registered: bool,
    control: mpsc::Sender<Control>,
    certificate: Arc<Certificate>,
    hub: Hub,
    agent: String,
}

impl Driver {
    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    async fn run(
        &mut self,
        mut inbound: Streaming<pb::AgentFrame>,
        outbound: &Outbound,
        mut controls: mpsc::Receiver<Control>,
    ) {
        let mut commands = FuturesUnordered::<BoxFuture<'static, Reply>>::new();
        let mut ahead = Ahead::default();
        let mut draining = false;
        let (drain, shared) = (self.hub.inner.drain.clone(), self.shared.clone());
        // Ten thousand sessions share a process: what one waits for is registered once, not in every turn.
        let mut drained = pin!(drain.signalled());
        let mut woken = pin!(shared.wake.notified());
        let mut timer = pin!(tokio::time::sleep_until(self.began));
        while self.core.closed().is_none() {
            while let Some(command) = self.core.next_command() {
                commands.push(self.execute(command));
            }
            if !self.send(outbound, &mut ahead) {
                break;
            }
            self.publish();
            let (next, full) = (self.core.next_kind(), outbound.capacity() == 0);
            let deadline = self.began + Duration::from_millis(self.core.deadline().min(1 << 40));
            // One that is early costs a look at the clock; most deadlines move away with each frame.
            if deadline < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                room = outbound.reserve(), if next == Next::Control || next == Next::Shared && full => if room.is_err() {
                    break;
                },
                // All that went out is taken: there is room again.
                taken = outbound.reserve_many(outbound.max_capacity()), if next == Next::Shared && !full => {
                    if taken.is_err() {
                        break;
                    }
                }
                came = inbound.message() => {
                    // What has come along is taken along.
                    let (mut came, mut left) = (Some(came), ALONG);
                    while let Some(one) = came {
                        if !self.heard(one) {
                            return;
                        }
                        left -= 1;
                        came = (left > 0).then(|| inbound.message().now_or_never()).flatten();
                    }
                }
                Some(reply) = commands.next() => {
                    let now = self.now();
                    self.core.reply(now, reply);
                }
                () = woken.as_mut() => {
                    woken.set(shared.wake.notified());
                    let now = self.now();
                    self.core.wake(now);
                }
                Some(control) = controls.recv() => match control {
                    Control::Fresh(fresh) => {
                        let now = self.now();
                        self.core.fresh(now, *fresh);
                    }
                    Control::OpenTunnel(tunnel) => self.core.open_tunnel(*tunnel),
                    Control::ConfirmPrune(prune) => self.core.confirm_prune(*prune),
                    Control::Drain(reason, (not_before, spread)) => {
                        let now = self.now();
                        self.core.drain(now, reason, not_before, spread);
                    }
                    Control::Cut(reason) => self.core.cut(reason),
                    Control::Roots => self.tell_roots(),
                },
                () = drained.as_mut(), if !draining => {
                    draining = true;
                    let now = self.now();
                    let spread = self.hub.reconnect_spread_ms();
                    self.core.drain(now, Reason::Shutdown, 200, spread);
                }
                () = timer.as_mut() => {
                    let now = self.now();
                    self.core.tick(now);
                }
            }
        }
        self.publish();
    }

    /// A frame of the agent; false when there will be no more.
    fn heard(&mut self, came: Result<Option<pb::AgentFrame>, Status>) -> bool {
        let frame = match came {
            Ok(Some(frame)) => frame,
            Ok(None) => return false,
            Err(status) => {
                tracing::debug!(agent = self.agent, code = ?status.code(), "The agent's stream broke");
                return false;
            }
        };
        let now = self.now();
        match &frame.message {
            Some(pb::agent_frame::Message::Heartbeat(_)) => {
                self.core
                    .set_reconnect_spread(self.hub.reconnect_spread_ms());
            }
            Some(pb::agent_frame::Message::Result(result)) => {
                let (agent, generation) = (self.agent.as_str(), result.generation);
                tracing::trace!(target: TRACE_TARGET, agent, generation, "A result has come");
            }
            _ => {}
        }
        self.core.set_level(self.hub.inner.overload.level());
        self.core.frame(now, frame);
        true
    }

    /// Sends what may go now; false when nobody takes it any more.
    fn send(&mut self, outbound: &Outbound, ahead: &mut Ahead) -> bool {
        while ahead.may(
            self.core.next_kind(),
            outbound.max_capacity() - outbound.capacity(),
        ) {
            let permit = match outbound.try_reserve() {
                Ok(permit) => permit,
                Err(TrySendError::Full(())) => return true,
                Err(TrySendError::Closed(())) => return false,
            };
            if let Some(frame) = self.core.next_frame() {
                ahead.sent(frame.encoded_len());
                permit.send(Ok(Box::new(frame)));
            }
        }
        true
    }

    /// Makes the session known once it is live, and what it has reached.
    fn publish(&mut self) {
        if !self.registered && self.core.is_live() {
            self.registered = true;
            tracing::info!(
                agent = self.agent,
                epoch = self.core.epoch(),
                "Agent connected"
            );
            self.hub.register(
                &self.agent,
                Live {
                    epoch: self.core.epoch(),
                    since: self.began,
                    shared: self.shared.clone(),
                    control: self.control.clone(),
                    certificate: self.certificate.clone(),
                },
            );
            // It may have been away when the authority's key was replaced, or when the overlap was ended before its time.
            if self.hub.inner.authority.has_former() {
                self.tell_roots();
            }
        }
        let (received, handed) = self.core.revisions();
        self.shared.received_rev.store(received, Ordering::Relaxed);
        self.shared.handed_rev.store(handed, Ordering::Relaxed);
        let scanned = self.core.scanned_rev();
        self.shared.scanned_rev.store(scanned, Ordering::Relaxed);
        let beat = self.core.health();
        self.shared
            .apply_queue
            .store(beat.apply_queue, Ordering::Relaxed);
        self.shared
            .oldest_unapplied_ms
            .store(beat.oldest_unapplied_ms, Ordering::Relaxed);
        let mut held = self
            .shared
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *held != self.core.held() {
            self.core.held().clone_into(&mut held);
        }
        drop(held);
        let health = beat.health.clone().unwrap_or_default();
        let unhealthy = !health.message.is_empty();
        if self.shared.unhealthy.swap(unhealthy, Ordering::Relaxed) || unhealthy {
            *self
                .shared
                .message
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = health.message;
        }
    }

    /// Tells the agent which CA certificates it shall trust.
    fn tell_roots(&mut self) {
        let roots = pb::CertIssued {
            certificate_chain: Vec::new(),
            ca_certificates: certificates::roots(&self.hub),
        };
        let now = self.now();
        self.core.reply(now, Reply::Certificate(Some(roots)));
    }

    /// Does a command; a failing store is asked again until the session is over.
    fn execute(&self, command: Command) -> BoxFuture<'static, Reply> {
        let (hub, agent, epoch) = (self.hub.clone(), self.agent.clone(), self.core.epoch());
        let certificate = self.certificate.clone();
        Box::pin(async move {
            let mut pause = RETRY.0;
            loop {
                if let Some(reply) = once(&hub, &agent, &certificate, epoch, command.clone()).await
                {
                    return reply;
                }
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                pause = (pause * 2).min(RETRY.1);
            }
        })
    }

    async fn finish(mut self, outbound: Outbound) {
        let close = self.core.closed().cloned();
        let (agent, epoch) = (self.agent.clone(), self.core.epoch());
        if self.registered {
            self.hub.unregister(&agent, epoch);
        }
        let store = self.hub.inner.store.clone();
        let (registered, name) = (self.registered, agent.clone());
        let note = async move {
            if !registered {
                return;
            }
            let noted = store
                .transact("note the end of a session", move |conn| {
                    ledger::agents::disconnected(conn, &name, epoch)
                })
                .await;
            if let Err(error) = noted {
                tracing::warn!(agent, %error, "The end of a session cannot be noted");
            }
        };
        let reason = close.as_ref().map_or("STREAM_BROKEN", Close::reason);
        self.hub.inner.metrics.closed(reason);
        tracing::info!(
            agent = self.agent,
            epoch = self.core.epoch(),
            reason,
            "Agent's session ended"
        );
        let flush = async move {
            while let Some(frame) = self.core.next_frame() {
                if outbound.send(Ok(Box::new(frame))).await.is_err() {
                    return;
                }
            }
            if let Some(close) = close
                && !matches!(close, Close::Goodbye | Close::Drained)
            {
                let _ = outbound
                    .send(Err(Error::SessionEnded(close.reason()).into()))
                    .await;
            }
        };
        // The agent is told, and its stream ends, however slow the store is.
        let (_, ()) = tokio::join!(tokio::time::timeout(FLUSH, flush), note);
    }
}

async fn once(
    hub: &Hub,
    agent: &str,
    certificate: &Certificate,
    epoch: u64,
    command: Command,
) -> Option<Reply> {
    let id = agent.to_owned();
    let done = match command {
        Command::Certificate(request) => {
            match certificates::renew(hub, agent, certificate, request).await {
                Ok(signed) => Ok(Reply::Certificate(Some(signed.into()))),
                Err(
                    error @ (Error::CertificateRequest(_)
                    | Error::CertificateRevoked(_)
                    | Error::Revoked(_)),
                ) => {
                    tracing::warn!(agent, %error, "No new certificate for the agent");
                    Ok(Reply::Certificate(None))
                }
                Err(error) => Err(error),
            }
        }
        read @ (Command::Scan { .. }
        | Command::Fetch { .. }
        | Command::FetchRevisions { .. }
        | Command::Index) => {
            hub.inner
                .store
                .read("read an agent's ledger", move |conn| {
                    ledger::session::read(conn, &id, epoch, &read)
                })
                .await
        }
        write @ (Command::Claim(_)
        | Command::Results { .. }
        | Command::Statuses { .. }
        | Command::Inventory { .. }
        | Command::Received { .. }
        | Command::PruneHeld(_)) => return hub.inner.committer.commit(agent, epoch, write).await,
    };
    match done {
        Ok(reply) => {
            if let Reply::Fetched(rows) = &reply {
                let bodies = rows.len() as u64;
                tracing::trace!(target: TRACE_TARGET, agent, bodies, "Bodies are handed over");
            }
            Some(reply)
        }
        Err(error) => {
            tracing::warn!(agent, %error, "The store failed a session; trying again");
            None
        }
    }
}
