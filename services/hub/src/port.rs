//! The agent port: the only thing of the hub that the outside reaches.

use std::{sync::Arc, time::Duration};

use tokio::net::TcpListener;
use upm_mesh::{self as mesh, audit, server};

use crate::{Hub, grpc};

/// A connection without a certificate is for one enrolment, which has 20 seconds.
const STRANGER: Duration = Duration::from_secs(60);

/// The agent port, ready to serve.
#[derive(Debug)]
pub struct AgentPort {
    hub: Hub,
    identity: mesh::Identity,
    stack: mesh::Stack,
}

impl AgentPort {
    pub(crate) fn new(hub: Hub, identity: mesh::Identity, sink: Arc<dyn audit::Sink>) -> Self {
        let limits = mesh::Limits {
            streams: hub.inner.config.sessions * 2,
            connections: hub.inner.config.sessions + 64,
            // Agents of a whole company may come from one address; whoever shows a certificate is counted no more.
            strangers: Some(mesh::Strangers {
                connections_per_network: (hub.inner.config.sessions / 8).max(256),
                streams_per_connection: 4,
                life: STRANGER,
            }),
            handshakes_per_second: hub.inner.config.entrance(),
            ..mesh::Limits::default()
        };
        // No user ever calls here: agents are known by their certificates alone.
        let stack = mesh::Server::builder("hub", mesh::Verifier::new(), sink)
            .routes(grpc::agent_routes(&hub))
            .limits(limits)
            .tickets(hub.inner.authority.tickets())
            .build();
        Self {
            hub,
            identity,
            stack,
        }
    }

    /// The hub behind the port.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Serves agents until the process drains: TLS, with a client certificate for everything but Enroll.
    ///
    /// # Errors
    /// When the listener is broken.
    pub async fn serve(
        self,
        listener: TcpListener,
        drain: mesh::Drain,
    ) -> Result<(), server::Error> {
        let served = self
            .stack
            .serve(
                listener,
                Some((self.identity, mesh::ClientAuth::Optional)),
                drain,
            )
            .await;
        // Each session has its own deadlines, so this ends.
        self.hub.inner.running.close();
        self.hub.inner.running.wait().await;
        served
    }
}
