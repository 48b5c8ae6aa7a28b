//! `upm dev`: the whole platform in one process.

use std::{net::SocketAddr, os::unix::fs::DirBuilderExt as _, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use clap::Args;
use upm_mesh::{Authority, Drain, TelemetryConfig, telemetry};

use crate::{
    hosted::{HOSTED, Settings},
    platform::{Agents, AuthSecrets, Place, Platform},
};

/// Runs the whole platform in one process on SQLite files; the modules call each other without sockets.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Folder of the data.
    #[arg(long)]
    data: PathBuf,
    /// Address for REST, gRPC and gRPC-Web.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Address that agents dial.
    #[arg(long, default_value = "127.0.0.1:7443")]
    agent_listen: SocketAddr,
    /// Under which addresses agents find it, `host:port`; `--agent-listen` when left out.
    #[arg(long)]
    agent_address: Vec<String>,
    /// OTLP receiver (gRPC), for example `http://127.0.0.1:4317`.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// Address of `/metrics`, `/healthz`, `/readyz`.
    #[arg(long)]
    metrics_listen: Option<SocketAddr>,
}

impl Dev {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let telemetry = telemetry::init(
            "upm",
            &TelemetryConfig {
                otlp_endpoint: self.otlp_endpoint.clone(),
                filter: std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()),
                ..TelemetryConfig::default()
            },
        )?;
        let (mut platform, bound) = self.platform(Drain::on_signals()?).await?;
        if let Some(address) = self.metrics_listen {
            platform.metrics(&telemetry, address).await?;
        }
        tracing::info!(address = %bound, data = %self.data.display(), "UPM is up");
        platform.run().await
    }

    /// All modules and the gateway, which listens already.
    async fn platform(&self, drain: Drain) -> anyhow::Result<(Platform, SocketAddr)> {
        // The signing keys of the tokens are in it.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.data)
            .with_context(|| format!("make {}", self.data.display()))?;
        let log = upm_operatorlog::Config {
            key_file: Some(self.data.join("operatorlog-key")),
            adopt_head: None,
        };
        let mut platform = Platform::new(drain).alone().log(log);
        for hosted in HOSTED {
            let file = self.data.join(format!("{}.db", hosted.name));
            let place = Place {
                store: format!("sqlite:{}", file.display()),
                cache: None,
            };
            platform.add(hosted, &place, self).await?;
        }
        let bound = platform
            .gateway(self.listen, upm_gateway::Config::default())
            .await?;
        Ok((platform, bound))
    }
}

impl Settings for Dev {
    fn agents(&self, platform: &mut Platform) -> anyhow::Result<Agents> {
        let directory = self.data.join("ca");
        let authority = Arc::new(Authority::open_or_create(&directory)?);
        let identity = platform.hub_identity(&authority)?;
        Ok(Agents {
            identity,
            authority,
            authority_directory: directory,
            advertise: String::new(),
            audiences: None,
            listen: self.agent_listen,
            endpoints: if self.agent_address.is_empty() {
                vec![self.agent_listen.to_string()]
            } else {
                self.agent_address.clone()
            },
        })
    }

    fn secrets(&self) -> AuthSecrets {
        AuthSecrets {
            setup_token: Some(self.data.join("setup-token")),
            key_file: Some(self.data.join("auth-key")),
        }
    }
}

#[cfg(test)]
mod updates;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// On ports that are free.
    pub(super) fn anywhere(data: PathBuf) -> Dev {
        let anywhere: SocketAddr = ([127, 0, 0, 1], 0).into();
        Dev {
            data,
            listen: anywhere,
            agent_listen: anywhere,
            agent_address: Vec::new(),
            otlp_endpoint: None,
            metrics_listen: None,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_platform_without_work_ends_before_its_tasks_must_be_aborted() {
        let folder = tempfile::tempdir().unwrap();
        let dev = anywhere(folder.path().join("data"));
        let drain = Drain::new();
        let (platform, _) = dev.platform(drain.clone()).await.unwrap();
        let running = tokio::spawn(platform.run());
        drain.begin();
        let ended = tokio::time::timeout(Duration::from_secs(20), running).await;
        ended.expect("its tasks end").unwrap().unwrap();
    }
}
