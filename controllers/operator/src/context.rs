//! What every controller of a process shares.

use std::fmt;
use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::Events;

/// How the engine is installed in its cluster.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Namespace of packages, the cluster CA and the agent.
    pub system_namespace: String,
    /// Put in front of images that name no registry, e.g. `registry.example.com/upm/`.
    pub image_prefix: String,
    /// Image that carries the unit agent.
    pub unit_agent_image: String,
    /// Domain of the cluster's DNS.
    pub cluster_domain: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            system_namespace: upm_crds::names::SYSTEM_NAMESPACE.to_owned(),
            image_prefix: String::new(),
            unit_agent_image: "upm-unit-agent:latest".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
        }
    }
}

/// Client, settings, events and the end of the process. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Client of the cluster.
    pub client: Client,
    /// How the engine is installed.
    pub settings: Arc<Settings>,
    /// Where events are published.
    pub events: Events,
    /// Cancelled when the process stops or is no longer the leader.
    pub cancel: CancellationToken,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// A context whose events are reported by `reporter`, e.g. `tesseract-cube`.
    pub fn new(
        client: Client,
        settings: Settings,
        reporter: &str,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            events: Events::new(client.clone(), reporter),
            client,
            settings: Arc::new(settings),
            cancel,
        }
    }
}
