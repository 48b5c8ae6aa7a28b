//! The stream of users who must not act: first all of them, then again after each change.

use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use tokio::sync::watch;
use tokio::time::sleep;
use tonic::Status;
use upm_mesh::Drain;
use upm_proto::user::v1 as pb;

use crate::users::Users;
use crate::{Error, model, pb as convert};

/// Other replicas change users too, and after 24 hours a deleted one leaves the list.
const LOOK_EVERY: Duration = Duration::from_secs(2);

struct Watcher {
    users: Users,
    drain: Drain,
    changes: watch::Receiver<u64>,
    sent: Option<pb::DisabledUsers>,
}

/// Ends when the process drains, or with an error when the store fails; the caller comes back.
pub(crate) fn watch(
    users: Users,
    drain: Drain,
) -> impl Stream<Item = Result<pb::DisabledUsers, Status>> + Send + 'static {
    let changes = users.changes();
    let watcher = Watcher {
        users,
        drain,
        changes,
        sent: None,
    };
    unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(Some(list)) => Some((Ok(list), Some(watcher))),
            Ok(None) => None,
            Err(error) => Some((Err(error.into()), None)),
        }
    })
}

impl Watcher {
    /// The next list that differs from the last one.
    async fn next(&mut self) -> Result<Option<pb::DisabledUsers>, Error> {
        loop {
            let list = current(&self.users).await?;
            if self.sent.as_ref() != Some(&list) {
                self.sent = Some(list.clone());
                return Ok(Some(list));
            }
            tokio::select! {
                () = self.drain.signalled() => return Ok(None),
                _ = self.changes.changed() => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }
}

async fn current(users: &Users) -> Result<pb::DisabledUsers, Error> {
    users
        .store()
        .read("list disabled users", |conn| {
            let deleted: Vec<String> = model::recently_deleted(conn)?
                .iter()
                .map(|(id, _)| convert::name(id))
                .collect();
            let disabled = model::disabled(conn)?;
            let users = disabled
                .iter()
                .map(|id| convert::name(id))
                .chain(deleted.iter().cloned());
            Ok(pb::DisabledUsers {
                users: users.collect(),
                deleted_users: deleted.clone(),
            })
        })
        .await
}
