//! What a process needs to know, as `upm serve --config FILE` reads it (TOML).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use upm_gateway::AccessLog;

use crate::hosted;

/// The gateway is served like a module, but has no methods of its own.
pub(crate) const GATEWAY: &str = "gateway";

/// The configuration of a process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// Folder of the identities that `upm ca issue` wrote: one folder for each module.
    pub(crate) identities: PathBuf,
    /// File with the CA's certificates (`ca.crt` in its folder). Peers are verified with the roots in it, as they change, instead of the
    /// `ca.crt` beside each identity. A process that serves the hub verifies with the hub's CA without it.
    pub(crate) roots: Option<PathBuf>,
    /// Every module of the platform, whether this process serves it or not.
    pub(crate) modules: BTreeMap<String, ModuleConfig>,
    /// The gateway.
    #[serde(default)]
    pub(crate) gateway: GatewayConfig,
    /// The hub's own settings.
    #[serde(default)]
    pub(crate) hub: HubConfig,
    /// The authentication module's own settings.
    #[serde(default)]
    pub(crate) auth: AuthConfig,
    /// The operation log's own settings.
    #[serde(default)]
    pub(crate) operatorlog: upm_operatorlog::Config,
    /// Traces, metrics, logs.
    #[serde(default)]
    pub(crate) telemetry: Telemetry,
}

/// Where a module is, and where it keeps its data.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ModuleConfig {
    /// Address that the module listens on when this process serves it.
    pub(crate) listen: Option<SocketAddr>,
    /// Addresses under which the others reach it, `host:port`.
    #[serde(default)]
    pub(crate) endpoints: Vec<String>,
    /// `sqlite:{path}` or `mysql://…`; only needed where it is served.
    pub(crate) store: Option<String>,
    /// File with the same, for URLs with a password.
    pub(crate) store_file: Option<PathBuf>,
    /// `redis://…`; a cache in the process when left out, which allows one replica only.
    pub(crate) cache: Option<String>,
    /// File with the same, for URLs with a password.
    pub(crate) cache_file: Option<PathBuf>,
}

impl ModuleConfig {
    /// Takes the URLs from the files that are named.
    fn read_files(&mut self, name: &str) -> anyhow::Result<()> {
        for (what, url, file) in [
            ("store", &mut self.store, &self.store_file),
            ("cache", &mut self.cache, &self.cache_file),
        ] {
            let Some(file) = file else { continue };
            if url.is_some() {
                bail!("[modules.{name}] has both {what} and {what}-file");
            }
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("read {}", file.display()))?;
            *url = Some(text.trim().to_owned());
        }
        Ok(())
    }
}

/// The gateway's settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct GatewayConfig {
    /// Address for REST, gRPC and gRPC-Web.
    pub(crate) listen: Option<SocketAddr>,
    /// Certificate chain, PEM; plain text when left out.
    pub(crate) tls_certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub(crate) tls_key: Option<PathBuf>,
    /// Requests of one address (IPv6: one /64 network); without a limit when left out.
    pub(crate) rate_per_address: Option<Rate>,
    /// Requests with one bearer token; without a limit when left out.
    pub(crate) rate_per_principal: Option<Rate>,
    /// Origins whose pages may call, such as `https://ui.example.com`; `*` for all.
    pub(crate) allowed_origins: Vec<String>,
    /// File for a line of JSON for each request; `-` for standard output.
    pub(crate) access_log: Option<PathBuf>,
    /// Largest body or message, in bytes.
    pub(crate) max_body_bytes: Option<usize>,
    /// Networks of proxies in front, such as `10.0.0.0/8`: their `X-Forwarded-For` says who calls.
    pub(crate) trusted_proxies: Vec<String>,
}

/// So many requests in a second on average, and so many at once.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Rate {
    per_second: f64,
    burst: u32,
}

impl Rate {
    fn checked(self, key: &str) -> anyhow::Result<upm_gateway::Rate> {
        if !(self.per_second.is_finite() && self.per_second > 0.0) || self.burst == 0 {
            bail!("[gateway] {key}: per-second and burst are above 0");
        }
        Ok(upm_gateway::Rate {
            per_second: self.per_second,
            burst: self.burst,
        })
    }
}

impl GatewayConfig {
    /// As the gateway takes them.
    ///
    /// # Errors
    /// When a rate is not above 0, or a certificate has no key.
    pub(crate) fn settings(&self) -> anyhow::Result<upm_gateway::Config> {
        let usual = upm_gateway::Config::default();
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            bail!("[gateway] tls-certificate and tls-key belong together");
        }
        let rate = |rate: Option<Rate>, key| rate.map(|rate| rate.checked(key)).transpose();
        Ok(upm_gateway::Config {
            tls: self.tls_certificate.clone().zip(self.tls_key.clone()),
            rate_per_address: rate(self.rate_per_address, "rate-per-address")?,
            rate_per_principal: rate(self.rate_per_principal, "rate-per-principal")?,
            allowed_origins: self.allowed_origins.clone(),
            access_log: self.access_log.as_deref().map(access_log),
            max_body_bytes: self.max_body_bytes.unwrap_or(usual.max_body_bytes),
            trusted_proxies: self
                .trusted_proxies
                .iter()
                .map(|network| network.parse().context("[gateway] trusted-proxies"))
                .collect::<anyhow::Result<_>>()?,
            ..usual
        })
    }
}

/// `-` is standard output.
pub(crate) fn access_log(path: &Path) -> AccessLog {
    if path == Path::new("-") {
        AccessLog::Stdout
    } else {
        AccessLog::File(path.to_owned())
    }
}

/// The hub's settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct HubConfig {
    /// Address that agents dial.
    pub(crate) agent_listen: Option<SocketAddr>,
    /// Addresses under which agents reach it, `host:port`.
    pub(crate) agent_endpoints: Vec<String>,
    /// Where other replicas of the hub reach this one's services, `host:port`; when left out, `POD_IP` of the environment with the
    /// port of `[modules.hub] listen`.
    pub(crate) advertise: Option<String>,
    /// Audiences that the service-account tokens of agents may be for; `upm-hub` when left out.
    pub(crate) audiences: Option<Vec<String>>,
    /// Folder of the CA that signs agents' certificates.
    pub(crate) authority: Option<PathBuf>,
}

/// The authentication module's settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct AuthConfig {
    /// File for the one-time setup token (mode 0600), written while there is no administrator.
    pub(crate) setup_token: Option<PathBuf>,
    /// File (mode 0600, made when missing) with the key that seals the signing keys in the store; replicas share it.
    pub(crate) key_file: Option<PathBuf>,
}

/// Traces, metrics, logs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Telemetry {
    /// OTLP receiver (gRPC), for example `http://127.0.0.1:4317`.
    pub(crate) otlp_endpoint: Option<String>,
    /// Address of `/metrics`, `/healthz`, `/readyz`.
    pub(crate) metrics_listen: Option<SocketAddr>,
}

impl Config {
    /// Reads a file.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let mut config: Self =
            toml::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        for (name, module) in &mut config.modules {
            module.read_files(name)?;
            if hosted::find(name).is_none() {
                bail!(
                    "{}: there is no module {name}; there are: {}",
                    path.display(),
                    hosted::names(", ")
                );
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod chart;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_or_module_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            let path = folder.path().join("upm.toml");
            std::fs::write(&path, text).unwrap();
            Config::load(&path)
        };
        assert!(load("identities = '/x'\n[modules.redis]\nendpoints = ['a:1']").is_ok());
        assert!(load("identities = '/x'\n[modules.redis]\nendpoint = ['a:1']").is_err());
        assert!(load("identities = '/x'\n[modules.postgres]\n").is_err());
    }

    #[test]
    fn the_gateway_takes_its_limits_from_the_file() {
        let settings = |text: &str| {
            let config: GatewayConfig = toml::from_str(text)?;
            config.settings()
        };
        let config = settings(
            "rate-per-address = { per-second = 50, burst = 100 }\nallowed-origins = ['https://ui.example.com']\n\
             access-log = '-'\nmax-body-bytes = 1000",
        )
        .unwrap();
        assert_eq!(
            config.rate_per_address,
            Some(upm_gateway::Rate {
                per_second: 50.0,
                burst: 100
            })
        );
        assert_eq!(config.rate_per_principal, None);
        assert_eq!(config.allowed_origins, ["https://ui.example.com"]);
        assert_eq!(config.access_log, Some(AccessLog::Stdout));
        assert_eq!(config.max_body_bytes, 1000);
        for wrong in [
            "rate-per-principal = { per-second = 0, burst = 1 }",
            "rate-per-principal = { per-second = 1, burst = 0 }",
            "rate-per-principal = { per-second = nan, burst = 1 }",
            "rate-per-principal = { per-second = 1 }",
            "tls-certificate = '/x'",
            "rate = 1",
        ] {
            assert!(settings(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn urls_come_from_files_or_from_the_configuration_but_not_from_both() {
        let folder = tempfile::tempdir().unwrap();
        let (url, path) = (folder.path().join("url"), folder.path().join("upm.toml"));
        std::fs::write(&url, "mysql://upm:secret@db:3306\n").unwrap();
        let load = |more: &str| {
            let text = format!(
                "identities = '/x'\n[modules.user]\nstore-file = '{}'\n{more}",
                url.display()
            );
            std::fs::write(&path, text).unwrap();
            Config::load(&path)
        };
        let config = load("").unwrap();
        assert_eq!(
            config.modules["user"].store.as_deref(),
            Some("mysql://upm:secret@db:3306")
        );
        assert_eq!(config.modules["user"].cache, None);
        assert!(load("store = 'sqlite:/x'").is_err());
        assert!(load("cache-file = '/no/such/file'").is_err());
    }
}
