//! What a person finds when the agent does not connect: a ConfigMap that says why, and the log.

use std::time::Duration;

use k8s_openapi::{api::core::v1::ConfigMap, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use upm_crds::names::label;
use upm_operator::call;

const NAME: &str = "upm-agent-status";
/// Between two writes.
const PACE: Duration = Duration::from_secs(5);

/// How the connection is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether the hub has welcomed a session that lives.
    pub connected: bool,
    /// UPPER_SNAKE.
    pub reason: String,
    /// In words.
    pub message: String,
    /// Where the connection goes.
    pub endpoint: String,
    /// The agent's id, once it is known.
    pub agent_id: String,
}

/// Writes each change until cancelled.
pub async fn publish(
    client: Client,
    namespace: String,
    mut report: watch::Receiver<Report>,
    cancel: CancellationToken,
) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let mut written = None;
    let mut since = (None, Timestamp::now());
    loop {
        let now = report.borrow_and_update().clone();
        if since.0 != Some(now.connected) {
            since = (Some(now.connected), Timestamp::now());
        }
        if written.as_ref() != Some(&now) {
            match write(&api, &now, since.1).await {
                Ok(()) => written = Some(now),
                Err(error) => {
                    tracing::warn!(%error, "The state of the connection cannot be written");
                }
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(PACE) => {}
        }
        let stale = written.as_ref() != Some(&*report.borrow());
        if !stale {
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = report.changed() => if changed.is_err() { return },
            }
        }
    }
}

async fn write(api: &Api<ConfigMap>, report: &Report, since: Timestamp) -> anyhow::Result<()> {
    let data = [
        ("connected", report.connected.to_string()),
        ("reason", report.reason.clone()),
        ("message", report.message.clone()),
        ("endpoint", report.endpoint.clone()),
        ("agent", report.agent_id.clone()),
        ("since", since.to_string()),
    ];
    let wanted = ConfigMap {
        metadata: kube::core::ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some([(label::MANAGED_BY.to_owned(), label::AGENT.to_owned())].into()),
            ..kube::core::ObjectMeta::default()
        },
        data: Some(data.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ..ConfigMap::default()
    };
    let params = PatchParams::apply(label::AGENT).force();
    call::within(
        "write the state of the connection",
        api.patch(NAME, &params, &Patch::Apply(&wanted)),
    )
    .await?;
    Ok(())
}
