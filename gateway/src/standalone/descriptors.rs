//! Where descriptors come from, and what happens when they change: compiled, compared, swapped; the last good ones stay.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use upm_mesh::{Chain, Drain};

use super::{Descriptors, reflection};
use crate::{Error, gateway::Shared, upstream::Pool, view::View};

/// How often a file is looked at.
const FILE: Duration = Duration::from_secs(2);
/// How often servers are asked.
const REFLECTION: Duration = Duration::from_secs(30);
/// How long the first answer of a server may take before it is asked again, and how often.
const FIRST: Duration = Duration::from_secs(1);
/// A set of descriptors is not larger, in bytes.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Where descriptors come from.
pub(super) enum Source {
    File(PathBuf),
    Reflection(HashMap<Arc<str>, Pool>),
}

impl Source {
    pub(super) fn new(descriptors: &Descriptors, pools: HashMap<Arc<str>, Pool>) -> Self {
        match descriptors {
            Descriptors::File(path) => Self::File(path.clone()),
            Descriptors::Reflection => Self::Reflection(pools),
        }
    }

    fn interval(&self) -> Duration {
        match self {
            Self::File(_) => FILE,
            Self::Reflection(_) => REFLECTION,
        }
    }

    async fn read(&self) -> Result<Vec<u8>, Error> {
        match self {
            Self::File(path) => {
                let failed = |source| Error::File {
                    path: path.clone(),
                    source,
                };
                let size = tokio::fs::metadata(path).await.map_err(failed)?.len();
                if size > LARGEST {
                    return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
                }
                tokio::fs::read(path).await.map_err(failed)
            }
            Self::Reflection(pools) => reflection::read(pools).await,
        }
    }

    /// The first descriptors. A file must be there; servers may still be starting.
    pub(super) async fn wait(&self, drain: &Drain) -> Result<Vec<u8>, Error> {
        loop {
            let failed = match (self.read().await, self) {
                (Err(error), Self::Reflection(_)) => error,
                (result, _) => return result,
            };
            tracing::info!(error = %failed, "Waiting for the descriptors of the upstreams");
            tokio::select! {
                () = tokio::time::sleep(FIRST) => {}
                () = drain.signalled() => return Err(failed),
            }
        }
    }

    /// Follows changes, for ever.
    pub(super) async fn follow(
        &self,
        shared: &Arc<Shared>,
        services: &[Arc<str>],
        anonymous: bool,
        first: Vec<u8>,
    ) {
        let (mut current, mut refused) = (first, Vec::new());
        loop {
            tokio::time::sleep(self.interval()).await;
            let new = match self.read().await {
                Ok(new) => new,
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "Could not read the descriptors; the last good ones stay");
                    continue;
                }
            };
            if new == current || new == refused {
                continue;
            }
            match exchange(shared, services, anonymous, &new) {
                Ok(methods) => {
                    tracing::info!(methods, "Took new descriptors");
                    (current, refused) = (new, Vec::new());
                }
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "Refused new descriptors; the last good ones stay");
                    refused = new;
                }
            }
        }
    }
}

/// Compiles and swaps; requests that run keep what they began with.
fn exchange(
    shared: &Shared,
    services: &[Arc<str>],
    anonymous: bool,
    descriptors: &[u8],
) -> Result<usize, Error> {
    let mut view = View::open(descriptors, services, &shared.config, anonymous)?;
    view.catalog.inherit(&shared.view.load().catalog);
    let methods = view.catalog.methods().count();
    shared.view.store(Arc::new(view));
    Ok(methods)
}
