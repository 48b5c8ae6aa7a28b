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
    /// The role for Secrets that the agent binds in the namespaces of projects. `None`: it has Secrets by other roles.
    pub secrets: Option<SecretsRole>,
    /// Whether each set gets a NetworkPolicy that leaves the unit agents to pods of the system namespace. Only where the controllers run in such
    /// a pod: from elsewhere they would be cut off.
    pub network_policies: bool,
}

/// A ClusterRole and whom it is bound to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SecretsRole {
    /// Name of the ClusterRole, and of its RoleBindings.
    pub role: String,
    /// Name of the agent's ServiceAccount in the system namespace.
    pub account: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            system_namespace: upm_crds::names::SYSTEM_NAMESPACE.to_owned(),
            image_prefix: String::new(),
            unit_agent_image: "upm-unit-agent:latest".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            secrets: None,
            network_policies: false,
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
