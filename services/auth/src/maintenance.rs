//! What has to be done from time to time: keys, and sessions that have ended.

use std::time::Duration;

use tokio::time::sleep;
use upm_mesh::Drain;
use upm_store::{Store, time};

use crate::Error;
use crate::keys::Keys;
use crate::model::sessions;
use crate::policy::Policy;

const EVERY: Duration = Duration::from_mins(1);

/// Works until the process drains.
pub(crate) async fn run(store: Store, keys: Keys, policy: Policy, drain: Drain) {
    loop {
        tokio::select! {
            () = drain.signalled() => return,
            () = sleep(EVERY) => {}
        }
        match keys.maintain().await {
            Ok(true) => policy.changed(),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "Signing keys were not maintained"),
        }
        if let Err(error) = forget_ended(&store).await {
            tracing::error!(%error, "Ended sessions were not removed");
        }
    }
}

async fn forget_ended(store: &Store) -> Result<(), Error> {
    let forgotten = store
        .transact("forget ended sessions", |conn| {
            Ok::<_, Error>(sessions::forget_ended(conn, time::now_us())?)
        })
        .await?;
    if 0 < forgotten {
        tracing::debug!(rows = forgotten, "Removed ended sessions");
    }
    Ok(())
}
