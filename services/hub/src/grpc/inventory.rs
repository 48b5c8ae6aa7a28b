//! `WatchInventory`: nodes and storage classes as the agent reported them last.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use upm_proto::hub::v1 as pb;

use super::watch::wanted;
use crate::{Error, Hub, ledger};

const BUFFER: usize = 64;
/// Between two looks at the table while nothing says that it changed.
const IDLE: Duration = Duration::from_secs(30);
/// Between two looks while status streams in.
const PACE: Duration = Duration::from_secs(1);

pub(super) fn events(
    hub: Hub,
    agent: String,
) -> BoxStream<'static, Result<pb::InventoryEvent, Status>> {
    let (sender, receiver) = mpsc::channel(BUFFER);
    let feed = hub.feed();
    hub.inner
        .running
        .spawn(run(hub.clone(), agent, sender, feed));
    ReceiverStream::new(receiver).boxed()
}

async fn run(
    hub: Hub,
    agent: String,
    sender: mpsc::Sender<Result<pb::InventoryEvent, Status>>,
    mut feed: broadcast::Receiver<Arc<str>>,
) {
    let mut known = ledger::read::Inventory::new();
    let mut first = true;
    loop {
        let id = agent.clone();
        let read = hub
            .inner
            .store
            .read("read the inventory", move |conn| {
                ledger::read::inventory(conn, &id)
            })
            .await;
        let now = match read {
            Ok(now) => now,
            Err(error) => {
                let _ = sender.send(Err(Error::into(error))).await;
                return;
            }
        };
        let changes = difference(&known, &now);
        let changed = !changes.is_empty();
        for event in changes {
            if sender.send(Ok(event)).await.is_err() {
                return;
            }
        }
        if changed || first {
            let bookmark = pb::InventoryEvent {
                bookmark: true,
                ..pb::InventoryEvent::default()
            };
            if sender.send(Ok(bookmark)).await.is_err() {
                return;
            }
        }
        (known, first) = (now, false);
        tokio::select! {
            () = hub.inner.drain.signalled() => return,
            () = sender.closed() => return,
            () = tokio::time::sleep(IDLE) => {}
            () = wanted(&mut feed, &agent) => tokio::time::sleep(PACE).await,
        }
    }
}

/// What to tell to get from one inventory to another. Pure.
fn difference(
    known: &ledger::read::Inventory,
    now: &ledger::read::Inventory,
) -> Vec<pb::InventoryEvent> {
    let mut events = Vec::new();
    for (at, (key, object)) in now {
        if known.get(at).is_none_or(|(_, before)| before != object) {
            events.push(pb::InventoryEvent {
                key: Some(key.clone()),
                object: object.clone().into(),
                gone: false,
                bookmark: false,
            });
        }
    }
    for (at, (key, _)) in known {
        if !now.contains_key(at) {
            events.push(pb::InventoryEvent {
                key: Some(key.clone()),
                object: Vec::new().into(),
                gone: true,
                bookmark: false,
            });
        }
    }
    events
}
