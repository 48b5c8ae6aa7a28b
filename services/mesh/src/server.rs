//! One server stack for every process.
//!
//! A call passes, in this order: trace and measurement, load shedding, authentication, panic isolation, deadline, size limit,
//! authorization by the method's policy, audit draft, the handler. The order is fixed and the same for sockets and in memory.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::task::TaskTracker;
use tonic::{body::Body, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use upm_proto::policy::{self, Access};

use crate::{
    audit::Sink,
    auth::Verifier,
    client::{self, Channel},
    descriptors,
    drain::Drain,
    identity::{ClientAuth, Identity, SpiffeId, Tickets},
    telemetry::rpc::{Instruments, Side},
};

mod anonymous;
mod audited;
mod authorize;
mod call;
mod handshakes;
mod listener;
mod throttle;

use self::anonymous::Anonymous;

/// Bounds of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest request message, in bytes.
    pub max_request: usize,
    /// Unary calls at once; more are answered RESOURCE_EXHAUSTED `OVERLOADED`.
    pub in_flight: usize,
    /// Streams at once; likewise.
    pub streams: usize,
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Streams at once on one connection.
    pub streams_per_connection: u32,
    /// TLS handshakes that may begin per second, in the order of coming; 0 is no bound.
    pub handshakes_per_second: u32,
    /// TLS handshakes under way at once.
    pub handshakes: usize,
    /// After the drain began, running calls have this long.
    pub grace: Duration,
    /// Bounds for who shows no certificate; `None` where everybody must show one.
    pub strangers: Option<Strangers>,
}

/// Bounds for connections without a client certificate. They get no health and no reflection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strangers {
    /// Connections of one address (IPv6: one /64 network) at once, from their beginning until a certificate is shown; more are closed.
    pub connections_per_network: usize,
    /// Calls at once on one connection.
    pub streams_per_connection: u32,
    /// A connection ends after so long.
    pub life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_request: 4 << 20,
            in_flight: 1024,
            streams: 16_384,
            connections: 16_384,
            streams_per_connection: 1024,
            handshakes_per_second: 0,
            handshakes: 4096,
            grace: Duration::from_secs(25),
            strangers: None,
        }
    }
}

/// Builds stacks.
#[derive(Debug, Clone, Copy)]
pub struct Server;

impl Server {
    /// Begins the stack of a module. `sink` takes the records that no transaction writes.
    pub fn builder(module: &'static str, verifier: Verifier, sink: Arc<dyn Sink>) -> Builder {
        Builder {
            module,
            verifier,
            sink,
            routes: Routes::default(),
            limits: Limits::default(),
            tickets: None,
        }
    }
}

/// A stack that is being built.
pub struct Builder {
    module: &'static str,
    verifier: Verifier,
    sink: Arc<dyn Sink>,
    routes: Routes,
    limits: Limits,
    tickets: Option<Arc<Tickets>>,
}

impl Builder {
    /// Lets clients resume TLS sessions; their certificates are verified each time.
    #[must_use]
    pub fn tickets(mut self, tickets: Tickets) -> Self {
        self.tickets = Some(Arc::new(tickets));
        self
    }

    /// The module's services.
    #[must_use]
    pub fn routes(mut self, routes: Routes) -> Self {
        self.routes = routes;
        self
    }

    /// Other bounds than the default.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The stack, with `grpc.health.v1` and reflection added.
    pub fn build(self) -> Stack {
        let (reporter, health) = tonic_health::server::health_reporter();
        for service in services(self.module) {
            // Nobody else holds the reporter yet, so nothing is waited for.
            let _ = reporter
                .set_service_status(service, ServingStatus::Serving)
                .now_or_never();
        }
        let mut routes = self.routes.add_service(health);
        let reflection = descriptors::only(upm_proto::DESCRIPTOR_SET, &is_shown)
            .map_err(tonic_reflection::server::Error::from)
            .and_then(|shown| {
                tonic_reflection::server::Builder::configure()
                    .register_file_descriptor_set(shown)
                    .build_v1()
            });
        match reflection {
            Ok(reflection) => routes = routes.add_service(reflection),
            Err(error) => {
                tracing::error!(%error, "no reflection: the descriptor set cannot be read");
            }
        }
        Stack {
            inner: Arc::new(Inner {
                module: self.module,
                verifier: self.verifier,
                sink: self.sink,
                routes: routes.prepare(),
                calls: Arc::new(Semaphore::new(self.limits.in_flight)),
                streams: Arc::new(Semaphore::new(self.limits.streams)),
                instruments: Instruments::new(Side::Server),
                records: TaskTracker::new(),
                anonymous: Anonymous::new(),
                health: reporter,
                limits: self.limits,
                tickets: self.tickets,
            }),
        }
    }
}

/// Whether everybody who may ask may know of a method. What modules call among themselves is nobody else's business.
fn is_shown(path: &str) -> bool {
    policy::find(path).is_none_or(|method| match method.access {
        Access::Internal => false,
        Access::Permission | Access::Public | Access::Authenticated | Access::Agent => true,
    })
}

/// A module's services behind the stack. Clones share everything.
#[derive(Clone)]
pub struct Stack {
    inner: Arc<Inner>,
}

struct Inner {
    module: &'static str,
    verifier: Verifier,
    sink: Arc<dyn Sink>,
    routes: Routes,
    limits: Limits,
    tickets: Option<Arc<Tickets>>,
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    instruments: Instruments,
    /// Records that are being written.
    records: TaskTracker,
    /// Bounds the records that callers without any identity can cause.
    anonymous: Anonymous,
    health: HealthReporter,
}

impl Stack {
    /// A channel to this stack without a socket. The other side sees `from` as the peer.
    pub fn in_memory(&self, from: SpiffeId) -> Channel {
        client::in_memory(self.clone(), from)
    }

    /// Serves a listener until the process drains and running calls have ended or [`Limits::grace`] is over. With `tls` it speaks
    /// TLS 1.3 and HTTP/2, without it HTTP/2 in clear text. Errors: the listener is broken.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Option<(Identity, ClientAuth)>,
        drain: Drain,
    ) -> Result<(), Error> {
        listener::serve(self, listener, tls, drain).await
    }

    /// Sets what `grpc.health.v1` says of a service; the empty name is the whole server.
    pub async fn set_serving(&self, service: &str, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        self.inner.health.set_service_status(service, status).await;
    }

    /// Says of all services that they stop serving, before the listeners close.
    pub(crate) async fn stop_serving(&self) {
        self.set_serving("", false).await;
        for service in services(self.inner.module) {
            self.set_serving(service, false).await;
        }
    }

    /// Waits until all records that the mesh writes itself are written.
    pub async fn recorded(&self) {
        audited::flush(&self.inner).await;
        self.inner.records.close();
        self.inner.records.wait().await;
        self.inner.records.reopen();
    }
}

/// The services of a module's own package.
fn services(module: &str) -> BTreeSet<&'static str> {
    policy::METHODS
        .iter()
        .filter(|method| method.module() == module)
        .filter_map(|method| method.path.split('/').nth(1))
        .collect()
}

impl tower::Service<http::Request<Body>> for Stack {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        // Never waits: too many calls are refused at once.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let inner = self.inner.clone();
        Box::pin(async move { Ok(call::handle(inner, request).await) })
    }
}

/// Why a server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener is broken.
    #[error("listener")]
    Listener(#[from] std::io::Error),
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("module", &self.inner.module)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("module", &self.module)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
