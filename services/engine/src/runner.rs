//! Brings operations to their end: any replica, one at a time per operation, resuming from the journal and from what it observes.
//!
//! # Guarantees
//! * An operation is worked on only under a lease that is taken by compare-and-swap; the lease's epoch is the writer epoch towards
//!   the hub, so that a replica that lost its lease without noticing cannot write.
//! * The journal is committed before a step begins and after it ends, with what the step changes in the service's row.
//! * A replica that ends gives its leases back; one that dies loses them after [`crate::Config::lease_ms`].

mod drive;

use std::{collections::HashSet, sync::Arc};

use tokio::{task::JoinSet, time::timeout};

use crate::{host::Host, operation};

/// Takes up operations that nobody works on, until the process drains.
pub(crate) async fn run(host: Arc<Host>) {
    let mut working = JoinSet::new();
    let mut busy = HashSet::new();
    while !host.drain.is_draining() {
        let free = host.config.concurrency.saturating_sub(busy.len());
        if 0 < free {
            for name in abandoned(&host)
                .await
                .into_iter()
                .filter(|name| !busy.contains(name))
                .take(free)
                .collect::<Vec<_>>()
            {
                busy.insert(name.clone());
                working.spawn(drive::drive(host.clone(), name));
            }
        }
        tokio::select! {
            () = host.drain.signalled() => {}
            Some(ended) = working.join_next() => match ended {
                Ok(name) => { busy.remove(&name); }
                Err(error) => {
                    // Which operation it was is not known any more; those that still run are found by their leases.
                    tracing::error!(%error, "An operation's task panicked");
                    busy.clear();
                }
            },
            _ = timeout(host.config.tick(), host.signals.runnable.notified()) => {}
        }
    }
    // Every task sees the drain too and gives its lease back.
    while working.join_next().await.is_some() {}
}

/// Names of operations that nobody works on. A database that does not answer is asked again at the next tick.
async fn abandoned(host: &Host) -> Vec<String> {
    let (kind, limit) = (host.engine.kind(), host.config.concurrency as i64 * 2);
    let found = host
        .store
        .read("engine.abandoned", move |conn| {
            operation::model::abandoned(conn, kind, limit)
        })
        .await;
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "Could not look for operations");
        Vec::new()
    })
}
