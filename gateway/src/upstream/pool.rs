//! The servers of one upstream: found, connected, chosen, and called again where that does no harm.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use tokio::{sync::Notify, time::Instant};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use upm_mesh::client::RetryBudget;
use upm_transcode::status::Code;

use super::{
    balance,
    contain::{Contain, Guarded},
    endpoint::{Endpoint, Failure},
    health,
    target::Target,
};
use crate::{
    Body,
    forward::{Call, Payload},
    refusal::{self, Refusal, Upstream},
};

/// Attempts of one call that may change something twice.
const ATTEMPTS: u32 = 3;
/// Attempts of one call altogether, with those that certainly changed nothing.
const TRIES: u32 = 10;
/// Calls that wait at the same time; further ones fail at once.
const WAITING: usize = 1024;
/// Before a repetition; doubled and with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// How often names are looked up again.
const RESOLVE: Duration = Duration::from_secs(5);

/// The servers of one upstream. Cheap to clone; its tasks end with the last clone.
#[derive(Clone)]
pub(crate) struct Pool {
    inner: Arc<Inner>,
    _end: Arc<DropGuard>,
}

struct Inner {
    targets: Vec<Target>,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    ready: Arc<Notify>,
    /// A call waits so long for a server to become ready.
    patience: Duration,
    budget: RetryBudget,
    waiting: AtomicUsize,
    contain: Arc<Contain>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl Pool {
    /// Starts to connect. Needs a runtime.
    pub(crate) fn new(targets: Vec<Target>, patience: Duration) -> Self {
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let inner = Arc::new(Inner {
            targets,
            endpoints: ArcSwap::default(),
            ready: Arc::new(Notify::new()),
            patience,
            budget: RetryBudget::new(),
            waiting: AtomicUsize::new(0),
            contain: Contain::new(&tasks, cancel.clone()),
            tasks: tasks.clone(),
            cancel: cancel.clone(),
        });
        tasks.spawn(Inner::resolve(inner.clone()));
        Self {
            inner,
            _end: Arc::new(cancel.drop_guard()),
        }
    }

    /// Makes a call, again where that does no harm.
    pub(crate) async fn send(&self, call: Call) -> Result<Response<Body>, Refusal> {
        let inner = &self.inner;
        inner.budget.earn();
        let Call {
            method,
            headers,
            payload,
            ..
        } = call;
        let streaming = !method.unary();
        let (whole, mut stream) = match payload {
            Payload::Whole(bytes) => (Some(bytes), None),
            Payload::Stream(body) => (None, Some(body)),
        };
        let (mut attempts, mut pause) = (1, FIRST_PAUSE);
        let mut failed = Vec::new();
        for _ in 0..TRIES {
            let endpoint = inner.pick(&failed).await?;
            let body = match (&whole, stream.take()) {
                (Some(bytes), _) => refusal::full(bytes.clone()),
                (None, Some(body)) => body,
                (None, None) => return Err(Refusal::cut()),
            };
            let sent = endpoint
                .send(
                    &method.path,
                    headers.clone(),
                    body,
                    streaming,
                    &inner.contain,
                )
                .await;
            let again = match sent {
                Ok(response) => match peek(response, method.repeatable && !streaming).await {
                    Seen::Answer(response) => {
                        endpoint.succeeded();
                        return Ok(response);
                    }
                    Seen::Unavailable(response) => {
                        endpoint.failed_call();
                        if whole.is_none()
                            || !method.repeatable
                            || attempts >= ATTEMPTS
                            || !inner.budget.spend()
                        {
                            return Ok(response);
                        }
                        attempts += 1;
                        true
                    }
                },
                // The connection was closed before anything was sent: not the server's fault, nor a repetition.
                Err(Failure::Unsent(body)) => {
                    stream = if whole.is_none() { body } else { None };
                    false
                }
                Err(Failure::Refused) if whole.is_some() => false,
                Err(Failure::Refused) => return Err(Refusal::cut()),
                Err(Failure::Lost) => {
                    endpoint.failed_call();
                    if whole.is_none()
                        || !method.repeatable
                        || attempts >= ATTEMPTS
                        || !inner.budget.spend()
                    {
                        return Err(Refusal::cut());
                    }
                    attempts += 1;
                    true
                }
            };
            failed.push(endpoint.address());
            if again {
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
                pause *= 2;
            }
        }
        Err(Refusal::no_endpoint())
    }

    /// Whether a server could take a call now.
    pub(crate) fn is_ready(&self) -> bool {
        self.inner
            .endpoints
            .load()
            .iter()
            .any(|endpoint| endpoint.is_ready())
    }
}

impl Inner {
    /// An endpoint for the next attempt, preferably none that failed it before.
    async fn pick(&self, failed: &[SocketAddr]) -> Result<Arc<Endpoint>, Refusal> {
        let until = Instant::now() + self.patience;
        let mut waits = None;
        loop {
            // Registered before the look, so that nothing is missed between look and wait.
            let ready = self.ready.notified();
            tokio::pin!(ready);
            ready.as_mut().enable();
            if let Some(endpoint) = self.choose(failed) {
                return Ok(endpoint);
            }
            if waits.is_none() {
                waits = Some(Waiting::begin(self)?);
            }
            if tokio::time::timeout_at(until, ready).await.is_err() {
                return Err(Refusal::no_endpoint());
            }
        }
    }

    fn choose(&self, failed: &[SocketAddr]) -> Option<Arc<Endpoint>> {
        let all = self.endpoints.load();
        if let [only] = all.as_slice() {
            // The only one is better than none, whatever it did before.
            return only.is_connected().then(|| only.clone());
        }
        let mut able: Vec<_> = all.iter().filter(|endpoint| endpoint.is_ready()).collect();
        let connected = all
            .iter()
            .filter(|endpoint| endpoint.is_connected())
            .count();
        if able.len() * 2 < connected {
            // When most are taken out, the measure is wrong rather than the servers: all get calls again.
            able = all
                .iter()
                .filter(|endpoint| endpoint.is_connected())
                .collect();
        }
        let fresh: Vec<_> = able
            .iter()
            .copied()
            .filter(|endpoint| !failed.contains(&endpoint.address()))
            .collect();
        let among = if fresh.is_empty() { &able } else { &fresh };
        balance::pick(among, |endpoint| endpoint.load.cost()).map(|endpoint| (*endpoint).clone())
    }

    /// Looks the names up, again and again.
    async fn resolve(self: Arc<Self>) {
        // The pool itself must not be kept alive by its own tasks.
        let (weak, cancel) = (Arc::downgrade(&self), self.cancel.clone());
        let targets = self.targets.clone();
        drop(self);
        let fixed = targets
            .iter()
            .all(|target| target.host.parse::<std::net::IpAddr>().is_ok());
        loop {
            let mut found = BTreeSet::new();
            for target in &targets {
                match tokio::net::lookup_host((target.host.as_str(), target.port)).await {
                    Ok(addresses) => found.extend(addresses),
                    Err(error) => tracing::warn!(%target, %error, "Could not look an upstream up"),
                }
            }
            {
                let Some(pool) = weak.upgrade() else { return };
                // A name that is gone for a moment takes no server away.
                if !found.is_empty() {
                    pool.exchange(&found);
                }
            }
            if fixed {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(RESOLVE) => {}
                () = cancel.cancelled() => return,
            }
        }
    }

    fn exchange(&self, found: &BTreeSet<SocketAddr>) {
        let old = self.endpoints.load_full();
        let authority = self.targets.first().and_then(Target::authority);
        let Some(authority) = authority else { return };
        let new: Vec<_> = found
            .iter()
            .map(|address| {
                let kept = old.iter().find(|endpoint| endpoint.address() == *address);
                kept.cloned().unwrap_or_else(|| {
                    let endpoint = Arc::new(Endpoint::new(
                        *address,
                        authority.clone(),
                        self.ready.clone(),
                        self.cancel.child_token(),
                    ));
                    endpoint.start(&self.tasks);
                    self.tasks
                        .spawn(health::watch(endpoint.clone(), self.contain.clone()));
                    endpoint
                })
            })
            .collect();
        for gone in old.iter().filter(|old| !found.contains(&old.address())) {
            // No new calls; those that run end on their connections.
            gone.cancel().cancel();
        }
        self.endpoints.store(Arc::new(new));
        self.ready.notify_waiters();
    }
}

/// A call that waits for a server.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(pool: &'a Inner) -> Result<Self, Refusal> {
        if pool.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            pool.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::no_endpoint());
        }
        Ok(Self(&pool.waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Seen {
    Answer(Response<Body>),
    /// The server says UNAVAILABLE.
    Unavailable(Response<Body>),
}

/// Looks for UNAVAILABLE in the headers, and where it matters in the trailers that follow them.
async fn peek(response: Response<Guarded>, wait: bool) -> Seen {
    let unavailable = |headers: &http::HeaderMap| {
        Upstream::read(headers).is_some_and(|status| status.code == Code::Unavailable)
    };
    if unavailable(response.headers()) {
        return Seen::Unavailable(response.map(BodyExt::boxed_unsync));
    }
    if !wait || response.headers().contains_key("grpc-status") {
        return Seen::Answer(response.map(BodyExt::boxed_unsync));
    }
    let (parts, mut body) = response.into_parts();
    let first = body.frame().await;
    let bad = match &first {
        Some(Ok(frame)) => frame.trailers_ref().is_some_and(unavailable),
        Some(Err(_)) | None => true,
    };
    let body = Prefixed { first, rest: body };
    let response = Response::from_parts(parts, body.boxed_unsync());
    if bad {
        Seen::Unavailable(response)
    } else {
        Seen::Answer(response)
    }
}

type Frame = Result<http_body::Frame<Bytes>, crate::BodyError>;

/// A body whose first frame was looked at.
struct Prefixed {
    first: Option<Frame>,
    rest: Guarded,
}

impl http_body::Body for Prefixed {
    type Data = Bytes;
    type Error = crate::BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Frame>> {
        match self.first.take() {
            Some(first) => std::task::Poll::Ready(Some(first)),
            None => std::pin::Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }
}
