//! Which kinds the API server knows: asked once, asked again when a kind turns out to be gone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use kube::{
    Client,
    core::GroupVersionKind,
    discovery::{self, ApiResource, Scope},
};
use upm_operator::call;
use upm_proto::hub::v1::Key;

/// A kind that the API server knows.
#[derive(Debug, Clone)]
pub struct Kind {
    /// How it is addressed.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// By group, version and kind.
type Known = HashMap<(String, String, String), Kind>;

/// The cache of kinds. Clones share it.
#[derive(Clone)]
pub struct Kinds {
    client: Client,
    known: Arc<Mutex<Known>>,
}

impl std::fmt::Debug for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kinds").finish_non_exhaustive()
    }
}

/// Why a kind cannot be used.
#[derive(Debug)]
pub enum Unknown {
    /// The API server does not know it.
    Kind,
    /// The API server could not be asked.
    Away(String),
}

impl Kinds {
    /// An empty cache.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: Arc::default(),
        }
    }

    /// The kind of a key.
    ///
    /// # Errors
    /// When it is not known, or the API server is away.
    pub async fn get(&self, group: &str, version: &str, kind: &str) -> Result<Kind, Unknown> {
        let of = (group.to_owned(), version.to_owned(), kind.to_owned());
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&of)
            .cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let asked = tokio::time::timeout(
            call::DEADLINE,
            discovery::oneshot::pinned_kind(&self.client, &gvk),
        )
        .await
        .map_err(|_| Unknown::Away("no answer in time".into()))?;
        match asked {
            Ok((resource, capabilities)) => {
                let kind = Kind {
                    resource,
                    namespaced: capabilities.scope == Scope::Namespaced,
                };
                self.known
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(of, kind.clone());
                Ok(kind)
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Err(Unknown::Kind),
            Err(kube::Error::Discovery(_)) => Err(Unknown::Kind),
            Err(error) => Err(Unknown::Away(error.to_string())),
        }
    }

    /// A kind was gone when it was used: the next use asks again.
    pub fn forget(&self, key: &Key) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&(key.group.clone(), key.version.clone(), key.kind.clone()));
    }
}
