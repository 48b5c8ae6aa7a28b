//! Short certificates need somebody who renews them.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use super::{Anchors, Authority, Error, Identity, SpiffeId, rotation};
use crate::drain::Drain;

/// After a failed renewal.
const RETRY: Duration = Duration::from_secs(30);
/// How often files are read again.
const RELOAD: Duration = Duration::from_secs(30);

impl Authority {
    /// Replaces an identity with a new certificate whenever two thirds of `lifetime` are over, and when the authority signs with another key,
    /// until the process drains. For processes that hold the authority; the task's owner spawns it.
    pub async fn renew(
        &self,
        identity: &Identity,
        id: &SpiffeId,
        dns_names: &[&str],
        lifetime: Duration,
        drain: &Drain,
    ) {
        let mut replaced = self.replaced();
        // The authority's key may have been replaced since the identity was issued.
        let outdated = identity.pin().is_some_and(|pin| pin != self.pin());
        let mut wait = if outdated {
            Duration::ZERO
        } else {
            lifetime * 2 / 3
        };
        loop {
            tokio::select! {
                () = drain.signalled() => return,
                _ = replaced.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
            let renewed = self.issue(id, dns_names, lifetime).and_then(|issued| {
                identity.replace(issued.chain, issued.key, &self.certificates())
            });
            wait = match renewed {
                Ok(()) => lifetime * 2 / 3,
                Err(error) => {
                    tracing::error!(%error, %id, "a certificate was not renewed");
                    RETRY.min(lifetime / 10)
                }
            };
        }
    }
}

impl Authority {
    /// Reads the files of the directory again and again, until the process drains: a rotation that another process has made takes effect
    /// here. Files that do not fit together (yet) are logged, and what was read before stays.
    pub async fn follow(&self, directory: &Path, drain: &Drain) {
        loop {
            tokio::select! {
                () = drain.signalled() => return,
                () = tokio::time::sleep(RELOAD) => {}
            }
            let path = directory.to_owned();
            let Ok(read) = tokio::task::spawn_blocking(move || rotation::read(&path)).await else {
                continue;
            };
            match read.map(|read| self.adopt(read)) {
                Ok(false) => {}
                Ok(true) => {
                    let overlap = self
                        .overlap_ends()
                        .and_then(|end| end.duration_since(SystemTime::now()).ok());
                    let (pin, overlap_s) = (self.pin(), overlap.map(|left| left.as_secs()));
                    tracing::info!(pin, overlap_s, "the authority signs with another key");
                }
                Err(error) => {
                    tracing::error!(%error, directory = %directory.display(), "the authority was not read again");
                }
            }
        }
    }
}

impl Anchors {
    /// Reads the file of [`Anchors::from_file`] again and again, until the process drains. A file that cannot be used is logged, and what was
    /// read before stays.
    pub async fn follow(&self, file: &Path, drain: &Drain) {
        loop {
            tokio::select! {
                () = drain.signalled() => return,
                () = tokio::time::sleep(RELOAD) => {}
            }
            let (anchors, path) = (self.clone(), file.to_owned());
            let read: Result<Result<(), Error>, _> =
                tokio::task::spawn_blocking(move || anchors.reload(&path)).await;
            if let Ok(Err(error)) = read {
                tracing::error!(%error, file = %file.display(), "the roots were not read again");
            }
        }
    }
}

impl Identity {
    /// Reads the files of [`Identity::from_directory`] again and again, until the process drains; others replace them. Files that do
    /// not fit together (yet) are logged, and the old identity stays.
    pub async fn follow(&self, directory: &Path, drain: &Drain) {
        loop {
            tokio::select! {
                () = drain.signalled() => return,
                () = tokio::time::sleep(RELOAD) => {}
            }
            let (identity, path) = (self.clone(), directory.to_owned());
            let read: Result<Result<(), Error>, _> =
                tokio::task::spawn_blocking(move || identity.reload(&path)).await;
            if let Ok(Err(error)) = read {
                tracing::error!(%error, directory = %directory.display(), "the identity was not read again");
            }
        }
    }
}
