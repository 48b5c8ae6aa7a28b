//! Kauntlet makes replication out of running members: it elects, fences, labels, routes. It never makes pods.

pub mod redis_replication;

use kube::Client;
use tokio_util::sync::CancellationToken;
use upm_operator::Settings;

/// Runs all controllers of topologies until the token is cancelled.
pub async fn run(
    client: Client,
    settings: Settings,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    redis_replication::run(client, settings, cancel).await
}
