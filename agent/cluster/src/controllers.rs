//! The controllers that the leader hosts. They need no hub: while it is away they go on.

use std::{future::Future, time::Duration};

use kube::Client;
use tokio_util::sync::CancellationToken;
use upm_operator::Settings;

/// Longest pause before a controller that ended is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs the controllers until cancelled. One that ends (its caches could not be read, say) is started again and leaves the others alone.
pub(crate) async fn run(client: Client, settings: Settings, cancel: CancellationToken) {
    let cube = keep("tesseract-cube", &cancel, || {
        upm_tesseract_cube::run(client.clone(), settings.clone(), cancel.child_token())
    });
    let kauntlet = keep("kauntlet", &cancel, || {
        upm_kauntlet::run(client.clone(), settings.clone(), cancel.child_token())
    });
    tokio::join!(cube, kauntlet);
}

async fn keep<F>(name: &'static str, cancel: &CancellationToken, start: impl Fn() -> F)
where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut pause = Duration::from_millis(500);
    while !cancel.is_cancelled() {
        match start().await {
            Ok(()) if cancel.is_cancelled() => return,
            Ok(()) => tracing::warn!(
                controller = name,
                ?pause,
                "The controller ended; it is started again"
            ),
            Err(error) => {
                tracing::error!(
                    controller = name,
                    ?pause,
                    error = format!("{error:#}"),
                    "The controller failed; it is started again"
                );
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancel.cancelled() => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
