//! The other modules, by name.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    task::{Context as TaskContext, Poll},
};

use futures::future::BoxFuture;
use tonic::{Status, body::Body};
use tower::{Service, util::BoxCloneSyncService};

use super::Channel;
use crate::{
    error::{Details, Kind},
    status,
};

/// Channels by module. Late bound: a channel may be asked for before its module is there. Clones share the registry.
#[derive(Clone, Default)]
pub struct Peers {
    channels: Arc<RwLock<HashMap<String, Channel>>>,
}

impl Peers {
    /// No modules.
    pub fn new() -> Self {
        Self::default()
    }

    /// A channel that finds its module with each call. Calls answer UNAVAILABLE `MODULE_UNAVAILABLE` while it is absent.
    pub fn channel(&self, module: &str) -> Channel {
        BoxCloneSyncService::new(Late {
            peers: self.clone(),
            module: module.into(),
        })
    }

    /// Adds or replaces a module.
    pub fn insert(&self, module: impl Into<String>, channel: Channel) {
        self.channels
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(module.into(), channel);
    }

    /// Whether a module is there.
    pub fn contains(&self, module: &str) -> bool {
        self.find(module).is_some()
    }

    /// The names of all modules, sorted.
    pub fn modules(&self) -> Vec<String> {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> = channels.keys().cloned().collect();
        names.sort();
        names
    }

    fn find(&self, module: &str) -> Option<Channel> {
        self.channels
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(module)
            .cloned()
    }
}

#[derive(Clone)]
struct Late {
    peers: Peers,
    module: Arc<str>,
}

impl Service<http::Request<Body>> for Late {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self.peers.find(&self.module) {
            // Channels are always ready.
            Some(mut channel) => channel.call(request),
            None => Box::pin(std::future::ready(Err(absent(&self.module)))),
        }
    }
}

fn absent(module: &str) -> Status {
    status::own_with(
        Kind::Unavailable,
        "MODULE_UNAVAILABLE",
        format!("the module {module} is not there"),
        &Details::fact("module", module),
    )
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peers").field(&self.modules()).finish()
    }
}

#[cfg(test)]
mod tests {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    use super::*;

    #[tokio::test]
    async fn a_channel_finds_its_module_once_it_is_there() {
        let peers = Peers::new();
        let mut health = HealthClient::new(peers.channel("user"));
        let refused = health
            .check(HealthCheckRequest::default())
            .await
            .expect_err("absent");
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        assert_eq!(
            status::reason(&refused).as_deref(),
            Some("MODULE_UNAVAILABLE")
        );

        let stack = crate::Server::builder(
            "user",
            crate::Verifier::new(),
            Arc::new(crate::audit::LogSink),
        )
        .build();
        let from = crate::SpiffeId::module("redis").expect("an id");
        peers.insert("user", stack.in_memory(from));
        health
            .check(HealthCheckRequest::default())
            .await
            .expect("there");
        assert_eq!(peers.modules(), ["user"]);
    }
}
