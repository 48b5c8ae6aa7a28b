//! What the modules decide by: the whole policy, streamed again after each change.

use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use tokio::sync::watch;
use tokio::time::sleep;
use tonic::Status;
use upm_mesh::Drain;
use upm_proto::auth::v1 as pb;
use upm_store::{Connection, Store};

use crate::model::{bindings, blocked, keys as key_rows, policy, roles};
use crate::permissions::BUILT_IN;
use crate::{Error, keys, pb as convert};

/// Other replicas change the policy too.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells the streams of this process about changes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    store: Store,
    drain: Drain,
    changes: watch::Sender<u64>,
}

struct Watcher {
    policy: Policy,
    changes: watch::Receiver<u64>,
    known_revision: i64,
}

impl Policy {
    pub(crate) fn new(store: Store, drain: Drain) -> Self {
        Self {
            store,
            drain,
            changes: watch::Sender::new(0),
        }
    }

    /// Call it after a change was committed.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// The policy now, unless the caller has it, and again after each change. Ends when the process drains, or with an error when the
    /// store fails; the caller comes back.
    pub(crate) fn watch(
        &self,
        known_revision: i64,
    ) -> impl Stream<Item = Result<pb::PolicySnapshot, Status>> + Send + 'static {
        let changes = self.changes.subscribe();
        let watcher = Watcher {
            policy: self.clone(),
            changes,
            known_revision,
        };
        unfold(Some(watcher), |watcher| async move {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(Some(snapshot)) => Some((Ok(snapshot), Some(watcher))),
                Ok(None) => None,
                Err(error) => Some((Err(error.into()), None)),
            }
        })
    }
}

impl Watcher {
    async fn next(&mut self) -> Result<Option<pb::PolicySnapshot>, Error> {
        loop {
            let known = self.known_revision;
            let newer = self
                .policy
                .store
                .read("read the policy", move |conn| {
                    if policy::revision(conn)? == known {
                        Ok(None)
                    } else {
                        snapshot(conn).map(Some)
                    }
                })
                .await?;
            if let Some(snapshot) = newer {
                self.known_revision = snapshot.revision;
                return Ok(Some(snapshot));
            }
            tokio::select! {
                () = self.policy.drain.signalled() => return Ok(None),
                _ = self.changes.changed() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }
}

/// Everything, as of one revision.
pub(crate) fn snapshot(conn: &mut Connection) -> Result<pb::PolicySnapshot, Error> {
    let custom = roles::all(conn)?;
    Ok(pb::PolicySnapshot {
        revision: policy::revision(conn)?,
        roles: BUILT_IN
            .iter()
            .map(convert::built_in_role)
            .chain(custom.iter().map(convert::role))
            .collect(),
        role_bindings: bindings::all(conn)?.iter().map(convert::binding).collect(),
        jwks: Some(keys::jwks(&key_rows::all(conn)?)),
        disabled_users: blocked::all(conn)?.into_keys().collect(),
    })
}
