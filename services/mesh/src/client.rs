//! One client stack for every process: whether the other side is in the process or on another machine, a [`Channel`] is the same
//! `tower` service, and generated clients take it as it is: `UserServiceClient::new(peers.channel("user"))`.
//!
//! Each call gets a span and a measurement, carries the trace, has a deadline (its own or the policy's, sent as `grpc-timeout`), and is
//! repeated when the other side was UNAVAILABLE, the method's policy allows it, and the channel's budget has room.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use futures::future::BoxFuture;
use http::Uri;
use tonic::{Status, body::Body};
use tower::util::BoxCloneSyncService;

use crate::{
    identity::{Identity, Peer, SpiffeId},
    server::Stack,
    telemetry::rpc::{Instruments, Side},
};

mod budget;
mod call;
mod peers;
mod remote;

pub use self::budget::RetryBudget;
pub use self::peers::Peers;

/// The way to another module. Always ready; clones share connections and the retry budget.
pub type Channel = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Status>;

/// A channel to the replicas of one peer. Lazy: it dials with the first call and again whenever a connection is lost. Each server must
/// prove to be `expected`. Endpoints are `https://host:port`.
pub fn connect(endpoints: Vec<Uri>, identity: Identity, expected: SpiffeId) -> Channel {
    let name = expected.to_string();
    let config = identity.client_config_for(expected);
    channel(remote::Remote::new(name, endpoints, config))
}

/// The same with a TLS configuration of the caller's choice, for example [`crate::identity::pinned_client_config`].
pub fn connect_with(endpoints: Vec<Uri>, config: Arc<rustls::ClientConfig>) -> Channel {
    let name = endpoints.first().map(Uri::to_string).unwrap_or_default();
    channel(remote::Remote::new(name, endpoints, config))
}

pub(crate) fn in_memory(stack: Stack, from: SpiffeId) -> Channel {
    channel(InMemory { stack, from })
}

fn channel(transport: impl Transport) -> Channel {
    BoxCloneSyncService::new(Client {
        inner: Arc::new(Inner {
            transport,
            budget: RetryBudget::new(),
            instruments: Instruments::new(Side::Client),
        }),
    })
}

/// Carries one attempt of a call to the other side.
pub(crate) trait Transport: Send + Sync + 'static {
    fn send(
        &self,
        request: http::Request<Body>,
    ) -> impl Future<Output = Result<http::Response<Body>, Status>> + Send;
}

/// A transport with the client stack before it.
struct Client<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    transport: T,
    budget: RetryBudget,
    instruments: Instruments,
}

impl<T> Clone for Client<T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<T: Transport> tower::Service<http::Request<Body>> for Client<T> {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let inner = self.inner.clone();
        Box::pin(async move { call::handle(&inner, request).await })
    }
}

/// Calls a stack of the same process.
struct InMemory {
    stack: Stack,
    from: SpiffeId,
}

impl Transport for InMemory {
    async fn send(&self, mut request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        // What the caller attached to its own request is not the server's.
        request.extensions_mut().clear();
        request
            .extensions_mut()
            .insert(Peer(Some(self.from.clone())));
        match tower::Service::call(&mut self.stack.clone(), request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }
}

#[cfg(test)]
mod tests;
