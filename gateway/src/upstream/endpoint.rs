//! One server of an upstream: its connections, its load, its health.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{
    Request, Uri,
    uri::{Authority, Scheme},
};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use tokio::{sync::Notify, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{balance::Load, connection::Slot, contain::Guarded};
use crate::Body;

/// Connections for calls with one answer. More than one, because a connection has one lock and one window.
const CONNECTIONS: usize = 2;
/// So many failures one after the other take an endpoint out.
const FAILURES: u32 = 5;
const FIRST_EJECTION: Duration = Duration::from_secs(1);
const LONGEST_EJECTION: Duration = Duration::from_secs(30);

/// What happens to the connections of an endpoint.
pub(super) trait Events: Send + Sync {
    fn connected(&self);
    fn failed(&self);
}

pub(super) struct Endpoint {
    address: SocketAddr,
    authority: Authority,
    slots: [Slot; CONNECTIONS],
    /// Streams have a connection of their own: what their callers do to it touches no other call.
    streams: Slot,
    pub(super) load: Load,
    failures: AtomicU32,
    ejection: Mutex<Ejection>,
    /// What the server says of itself.
    healthy: AtomicBool,
    /// Told when an endpoint may have become ready.
    ready: Arc<Notify>,
    cancel: CancellationToken,
}

#[derive(Debug, Default)]
struct Ejection {
    until: Option<Instant>,
    times: u32,
}

/// Why an attempt failed.
pub(super) enum Failure {
    /// Nothing of it was sent; here it is again.
    Unsent(Option<Body>),
    /// The server says that it did nothing with it: REFUSED_STREAM, or GOAWAY with an earlier last stream.
    Refused,
    /// It may have been done.
    Lost,
}

impl Endpoint {
    pub(super) fn new(
        address: SocketAddr,
        authority: Authority,
        ready: Arc<Notify>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            address,
            authority,
            slots: std::array::from_fn(|_| Slot::new(false)),
            streams: Slot::new(true),
            load: Load::new(),
            failures: AtomicU32::new(0),
            ejection: Mutex::default(),
            healthy: AtomicBool::new(true),
            ready,
            cancel,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Starts the tasks that keep the connections.
    pub(super) fn start(self: &Arc<Self>, tasks: &TaskTracker) {
        for index in 0..=CONNECTIONS {
            let (endpoint, keeper) = (self.clone(), tasks.clone());
            tasks.spawn(async move {
                let slot = endpoint.slots.get(index).unwrap_or(&endpoint.streams);
                let cancel = endpoint.cancel.clone();
                slot.keep(endpoint.address, &*endpoint, keeper, cancel)
                    .await;
            });
        }
    }

    /// Whether calls may go there: connected, not ejected, not unwell by its own word.
    pub(super) fn is_ready(&self) -> bool {
        self.is_connected() && self.healthy.load(Ordering::Relaxed) && !self.is_ejected()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.slots.iter().any(|slot| slot.usable().is_some())
    }

    fn is_ejected(&self) -> bool {
        if self.failures.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let ejection = self.ejection.lock().unwrap_or_else(PoisonError::into_inner);
        ejection.until.is_some_and(|until| Instant::now() < until)
    }

    /// What the server says of itself.
    pub(super) fn set_healthy(&self, healthy: bool) {
        if self.healthy.swap(healthy, Ordering::Relaxed) != healthy {
            tracing::info!(address = %self.address, healthy, "The health of an upstream changed");
        }
        if healthy {
            self.ready.notify_waiters();
        }
    }

    /// A call had an answer that speaks for the server.
    pub(super) fn succeeded(&self) {
        if self.failures.swap(0, Ordering::Relaxed) >= FAILURES {
            let mut ejection = self.ejection.lock().unwrap_or_else(PoisonError::into_inner);
            *ejection = Ejection::default();
        }
    }

    /// A call failed in a way that speaks against the server.
    pub(super) fn failed_call(&self) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures < FAILURES {
            return;
        }
        let mut ejection = self.ejection.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if ejection.until.is_none_or(|until| until <= now) {
            let time = (FIRST_EJECTION * 2_u32.pow(ejection.times)).min(LONGEST_EJECTION);
            ejection.times = (ejection.times + 1).min(8);
            ejection.until = Some(now + time);
            tracing::warn!(address = %self.address, ?time, "Took an upstream out: its calls fail");
        }
    }

    /// Makes one attempt.
    pub(super) async fn send(
        self: &Arc<Self>,
        path: &http::uri::PathAndQuery,
        headers: http::HeaderMap,
        body: Body,
        streaming: bool,
        contain: &Arc<super::contain::Contain>,
    ) -> Result<http::Response<Guarded>, Failure> {
        let Some((slot, sender)) = self.choose(streaming) else {
            return Err(Failure::Unsent(Some(body)));
        };
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = headers;
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = Some(path.clone());
        *request.uri_mut() = Uri::from_parts(uri).expect("scheme, authority and path make a URI");
        let running = Running::begin(self.clone(), slot);
        let begun = Instant::now();
        let sent = (*sender).clone().try_send_request(request);
        match contain.head(sent, streaming).await {
            Ok(response) => {
                self.load.measured(begun.elapsed());
                Ok(response.map(|body| Guarded::new(body, running, contain.clone(), streaming)))
            }
            Err(mut error) => {
                let slot = self.slot(slot);
                if let Some(request) = error.take_message() {
                    slot.forget(&sender);
                    return Err(Failure::Unsent(Some(request.into_body())));
                }
                let error = error.into_error();
                tracing::debug!(address = %self.address, %error, "An attempt failed");
                if sender.is_closed() {
                    slot.forget(&sender);
                }
                Err(if untouched(&error) {
                    Failure::Refused
                } else {
                    Failure::Lost
                })
            }
        }
    }

    /// The connection for a call. A stream goes to a common connection while its own is being dialled.
    fn choose(&self, streaming: bool) -> Option<(usize, Arc<SendRequest<Body>>)> {
        if streaming {
            if let Some(sender) = self.streams.usable() {
                return Some((CONNECTIONS, sender));
            }
            self.streams.want();
        }
        let usable = |index: usize| Some((index, self.slots[index].usable()?));
        (0..CONNECTIONS)
            .filter_map(usable)
            .min_by_key(|(index, _)| self.slots[*index].running.load(Ordering::Relaxed))
    }

    fn slot(&self, index: usize) -> &Slot {
        self.slots.get(index).unwrap_or(&self.streams)
    }
}

impl Events for Endpoint {
    fn connected(&self) {
        self.ready.notify_waiters();
    }

    fn failed(&self) {
        // Calls that wait find out by themselves that nothing became ready.
    }
}

/// Whether the server certainly did nothing with the call.
fn untouched(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_remote()
                && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM));
        }
        source = error.source();
    }
    false
}

/// A call that counts as load of its endpoint.
pub(super) struct Running {
    pub(super) endpoint: Arc<Endpoint>,
    slot: usize,
}

impl Running {
    fn begin(endpoint: Arc<Endpoint>, slot: usize) -> Self {
        endpoint.load.begin();
        endpoint.slot(slot).running.fetch_add(1, Ordering::Relaxed);
        Self { endpoint, slot }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.endpoint.load.end();
        self.endpoint
            .slot(self.slot)
            .running
            .fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body, as the connection gives it.
pub(super) type Received = Incoming;
