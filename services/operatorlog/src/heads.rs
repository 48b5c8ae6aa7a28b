//! Heads of the log in the log of the process, for a collector: who changes the store cannot change what was taken elsewhere.

use std::time::Duration;

use upm_mesh::Drain;
use upm_store::Store;

use crate::model;

/// Between two looks. What is appended and cut off again between two of them shows nowhere but in the head of the store.
const EVERY: Duration = Duration::from_mins(1);

/// Writes each new head down, until the process drains.
pub(crate) async fn follow(store: Store, drain: Drain) {
    let mut told = 0;
    loop {
        match store.read("operatorlog.head", model::head).await {
            Ok(head) if head.sequence != told => {
                told = head.sequence;
                let noted = format!("{}:{}", head.sequence, head.hash);
                // `upm log verify --noted` takes it as it is.
                tracing::info!(noted, "Head of the operation log");
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "The head of the operation log cannot be read"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = drain.signalled() => return,
        }
    }
}
