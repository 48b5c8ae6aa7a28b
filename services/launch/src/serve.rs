//! `upm serve`: some modules as a process of their own.

mod standalone;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail};
use clap::Args;
use upm_mesh::{Authority, Drain, TelemetryConfig, telemetry};

use crate::{
    config::{Config, GATEWAY},
    hosted::{self, HOSTED, Hosted, Settings},
    platform::{Agents, AuthSecrets, Place, Platform},
};

/// Runs modules as one process; the others are reached with mutual TLS. `gateway` with `--upstream` runs in front of other gRPC servers.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Modules, for example `redis`, or `gateway`, or `all`.
    #[arg(required = true)]
    modules: Vec<String>,
    /// Configuration file (TOML).
    #[arg(long, env = "UPM_SERVE_CONFIG", required_unless_present = "upstreams")]
    config: Option<PathBuf>,
    #[command(flatten)]
    standalone: standalone::Standalone,
}

impl Serve {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let (modules, gateway) = self.chosen()?;
        if self.standalone.is_wanted() {
            if !modules.is_empty() || !gateway {
                bail!("only the gateway stands alone: upm serve gateway --upstream …");
            }
            return self.standalone.run().await;
        }
        let file = self.config.as_ref().context("needs --config")?;
        let config = Config::load(file)?;
        let telemetry = telemetry::init(
            &format!("upm-{}", self.modules.join("-")),
            &TelemetryConfig {
                otlp_endpoint: config.telemetry.otlp_endpoint.clone(),
                filter: std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()),
                ..TelemetryConfig::default()
            },
        )?;
        let mut platform = Platform::new(Drain::on_signals()?).log(config.operatorlog.clone());
        if let Some(roots) = &config.roots {
            platform.trust_file(roots)?;
        }
        for &hosted in &modules {
            let name = hosted.name;
            let module = config
                .modules
                .get(name)
                .with_context(|| format!("the configuration has no [modules.{name}]"))?;
            let place = Place {
                store: module
                    .store
                    .clone()
                    .with_context(|| format!("[modules.{name}] has no store"))?,
                cache: module.cache.clone(),
            };
            platform.add(hosted, &place, &config).await?;
        }
        if gateway {
            let listen = config.gateway.listen.context("[gateway] has no listen")?;
            platform.gateway(listen, config.gateway.settings()?).await?;
        }
        for (name, module) in &config.modules {
            if !modules.iter().any(|served| served.name == name) {
                platform.connect_to(name, &module.endpoints, &config.identities)?;
            }
        }
        for hosted in &modules {
            if let Some(address) = config.modules[hosted.name].listen {
                platform
                    .expose(hosted.name, address, &config.identities)
                    .await?;
            }
        }
        if let Some(address) = config.telemetry.metrics_listen {
            platform.metrics(&telemetry, address).await?;
        }
        tracing::info!(modules = ?self.modules, "UPM is up");
        platform.run().await
    }

    /// Modules in their starting order, and whether the gateway is served.
    fn chosen(&self) -> anyhow::Result<(Vec<&'static Hosted>, bool)> {
        let all = self.modules.iter().any(|name| name == "all");
        if let Some(unknown) = self
            .modules
            .iter()
            .find(|name| hosted::find(name).is_none() && *name != GATEWAY && *name != "all")
        {
            bail!(
                "there is no module {unknown}; there are: {} {GATEWAY} all",
                hosted::names(" ")
            );
        }
        let chosen = |name: &str| all || self.modules.iter().any(|given| given == name);
        let modules = HOSTED.iter().filter(|hosted| chosen(hosted.name)).collect();
        Ok((modules, chosen(GATEWAY)))
    }
}

/// Where other replicas of the hub reach this one; empty when nothing says it.
fn advertised(config: &Config, pod: Option<String>) -> String {
    let listen = config.modules.get("hub").and_then(|hub| hub.listen);
    let by_pod = || {
        let address = pod?.parse().ok()?;
        Some(SocketAddr::new(address, listen?.port()).to_string())
    };
    config
        .hub
        .advertise
        .clone()
        .or_else(by_pod)
        .unwrap_or_default()
}

impl Settings for Config {
    fn agents(&self, platform: &mut Platform) -> anyhow::Result<Agents> {
        let hub = &self.hub;
        let directory = hub.authority.as_ref().context("[hub] has no authority")?;
        let authority = Arc::new(Authority::open_or_create(directory)?);
        platform.trust(&authority.anchors());
        Ok(Agents {
            identity: platform.hub_identity(&authority)?,
            authority,
            authority_directory: directory.clone(),
            listen: hub.agent_listen.context("[hub] has no agent-listen")?,
            endpoints: hub.agent_endpoints.clone(),
            audiences: hub.audiences.clone(),
            advertise: advertised(self, std::env::var("POD_IP").ok()),
        })
    }

    fn secrets(&self) -> AuthSecrets {
        AuthSecrets {
            setup_token: self.auth.setup_token.clone(),
            key_file: self.auth.key_file.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_in_a_pod_is_reached_at_the_pods_address_unless_it_says_otherwise() {
        let mut config: Config = toml::from_str(
            "identities = \"/i\"\n[modules.hub]\nlisten = \"0.0.0.0:7000\"\nstore = \"sqlite:/hub.db\"",
        )
        .unwrap();
        assert_eq!(
            advertised(&config, Some("10.1.2.3".into())),
            "10.1.2.3:7000"
        );
        assert_eq!(
            advertised(&config, Some("fd00::7".into())),
            "[fd00::7]:7000"
        );
        assert_eq!(advertised(&config, None), "");
        config.hub.advertise = Some("hub-0.hub:7000".into());
        assert_eq!(
            advertised(&config, Some("10.1.2.3".into())),
            "hub-0.hub:7000"
        );
    }
}
