//! `WatchObjects`: state, not events. A hint makes the watcher read what changed since; a lost hint costs nothing.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use upm_proto::hub::v1::{self as pb, watch_objects_response::Event};

use crate::{Error, Hub, ledger};

/// Messages that a slow watcher may be behind.
const BUFFER: usize = 64;
/// A bookmark at least this often, so that a dead reader is noticed.
const IDLE: Duration = Duration::from_secs(30);

/// Reads a resume token: `<incarnation>.<change>`.
fn parse(token: &str) -> Result<Option<(String, i64)>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    token
        .split_once('.')
        .and_then(|(incarnation, change)| Some((incarnation.to_owned(), change.parse().ok()?)))
        .map(Some)
        .ok_or_else(|| Error::field("resume_token", "is not one of ours"))
}

pub(super) fn objects(
    hub: Hub,
    request: pb::WatchObjectsRequest,
) -> Result<BoxStream<'static, Result<pb::WatchObjectsResponse, Status>>, Error> {
    let resume = parse(&request.resume_token)?;
    let (sender, receiver) = mpsc::channel(BUFFER);
    // Subscribed before the first read: what changes in between is seen.
    let feed = hub.feed();
    let watcher = Watcher {
        hub: hub.clone(),
        agent: request.agent_id,
        owner: request.owner,
        resume,
        sender,
    };
    hub.inner.running.spawn(watcher.run(feed));
    Ok(ReceiverStream::new(receiver).boxed())
}

struct Watcher {
    hub: Hub,
    agent: String,
    owner: String,
    resume: Option<(String, i64)>,
    sender: mpsc::Sender<Result<pb::WatchObjectsResponse, Status>>,
}

/// The reader is gone.
struct Gone;

impl Watcher {
    async fn run(mut self, mut feed: broadcast::Receiver<Arc<str>>) {
        let drain = self.hub.inner.drain.clone();
        loop {
            match self.send_changes().await {
                Ok(true) => {}
                Ok(false) | Err(Gone) => return,
            }
            tokio::select! {
                () = drain.signalled() => return,
                () = self.sender.closed() => return,
                () = tokio::time::sleep(IDLE) => {}
                () = wanted(&mut feed, &self.agent) => {}
            }
        }
    }

    /// Sends what changed and a bookmark; false when the watch is over.
    async fn send_changes(&mut self) -> Result<bool, Gone> {
        let (agent, owner) = (self.agent.clone(), self.owner.clone());
        let resume = self.resume.clone();
        let read = self
            .hub
            .inner
            .store
            .read("watch objects", move |conn| {
                let row = ledger::AgentRow::read(conn, &agent)?
                    .ok_or_else(|| Error::AgentNotFound(agent.clone()))?;
                let after = resume
                    .as_ref()
                    .filter(|(incarnation, _)| *incarnation == row.incarnation)
                    .map(|(_, change)| *change);
                ledger::read::changes(conn, &agent, &owner, after)
            })
            .await;
        let changes = match read {
            Ok(changes) => changes,
            Err(error) => {
                self.sender
                    .send(Err(error.into()))
                    .await
                    .map_err(|_| Gone)?;
                return Ok(false);
            }
        };
        let link = self.hub.link(&changes.agent);
        for (intent, status) in changes.objects {
            self.send(Event::Object(ledger::object(intent, status, link)))
                .await?;
        }
        let token = format!("{}.{}", changes.agent.incarnation, changes.upto);
        self.resume = Some((changes.agent.incarnation, changes.upto));
        self.send(Event::Bookmark(token)).await?;
        Ok(true)
    }

    async fn send(&self, event: Event) -> Result<(), Gone> {
        self.sender
            .send(Ok(pb::WatchObjectsResponse { event: Some(event) }))
            .await
            .map_err(|_| Gone)
    }
}

/// Waits until the agent may have changed.
pub(super) async fn wanted(feed: &mut broadcast::Receiver<Arc<str>>, agent: &str) {
    loop {
        match feed.recv().await {
            Ok(changed) if &*changed == agent => {
                // What came in the meantime is read together.
                while let Ok(_) | Err(broadcast::error::TryRecvError::Lagged(_)) = feed.try_recv() {
                }
                return;
            }
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
