//! `upm serve gateway` with `--upstream`: the gateway in front of any gRPC servers, without the platform.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use upm_gateway::{Authentication, Cidr, Config, Descriptors, Rate, Standalone as Gateway, Target};
use upm_mesh::{Drain, TelemetryConfig, telemetry};

use crate::config::access_log;

/// The gateway in front of other gRPC servers, without the platform; needs no configuration file.
#[derive(Debug, Args)]
#[command(next_help_heading = "The gateway alone")]
pub(crate) struct Standalone {
    /// A service and a server that has it: `package.Service=http://host:port`. Several for one service share its calls.
    #[arg(long = "upstream", value_name = "SERVICE=URL")]
    upstreams: Vec<Target>,
    /// Where to listen for REST, gRPC, gRPC-Web and WebSockets.
    #[arg(long, default_value = "127.0.0.1:8080", requires = "upstreams")]
    listen: SocketAddr,
    /// Descriptors, as `protoc --include_imports -o FILE` writes them; the servers' reflection when left out.
    #[arg(long, value_name = "FILE", requires = "upstreams")]
    descriptors: Option<PathBuf>,
    /// Let everybody call.
    #[arg(long, conflicts_with = "jwks", requires = "upstreams")]
    anonymous: bool,
    /// JWK set whose keys sign the tokens of callers.
    #[arg(long, value_name = "FILE", requires = "upstreams")]
    jwks: Option<PathBuf>,
    /// What `iss` of a token must be.
    #[arg(long, requires = "jwks")]
    issuer: Option<String>,
    /// What `aud` of a token must hold.
    #[arg(long, requires = "jwks")]
    audience: Option<String>,
    /// Threads, each with connections of its own.
    #[arg(long, default_value_t = 1, requires = "upstreams", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Where to serve `/metrics`, `/healthz` and `/readyz`.
    #[arg(long, value_name = "ADDR", requires = "upstreams")]
    admin_listen: Option<SocketAddr>,
    /// Certificate chain, PEM; plain text when left out.
    #[arg(long, value_name = "FILE", requires_all = ["upstreams", "tls_key"])]
    tls_certificate: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// File for a line of JSON for each request; `-` for standard output.
    #[arg(long, value_name = "FILE", requires = "upstreams")]
    access_log: Option<PathBuf>,
    /// Origins whose pages may call, such as `https://ui.example.com`; `*` for all.
    #[arg(long, value_name = "ORIGIN", requires = "upstreams")]
    allowed_origin: Vec<String>,
    /// Requests per second and at once of one address, such as `50:100`.
    #[arg(long, value_name = "RATE:BURST", value_parser = rate, requires = "upstreams")]
    rate_per_address: Option<Rate>,
    /// Requests per second and at once of one principal.
    #[arg(long, value_name = "RATE:BURST", value_parser = rate, requires = "upstreams")]
    rate_per_principal: Option<Rate>,
    /// Network of proxies whose `X-Forwarded-For` is believed, such as `10.0.0.0/8`; may be repeated.
    #[arg(long, value_name = "CIDR", requires = "upstreams")]
    trusted_proxy: Vec<Cidr>,
    /// Largest body or message, in bytes.
    #[arg(long, value_name = "BYTES", requires = "upstreams")]
    max_body: Option<usize>,
    /// Seconds for a call that sets no deadline itself; none when left out or 0. Streams have none.
    #[arg(long, value_name = "SECONDS", requires = "upstreams")]
    timeout: Option<u64>,
}

impl Standalone {
    /// Whether it was asked for.
    pub(super) fn is_wanted(&self) -> bool {
        !self.upstreams.is_empty()
    }

    pub(super) async fn run(self) -> anyhow::Result<()> {
        let telemetry = telemetry::init(
            "upm-gateway",
            &TelemetryConfig {
                otlp_endpoint: std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok(),
                filter: std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()),
                ..TelemetryConfig::default()
            },
        )?;
        let spans = std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some();
        let gateway = self.gateway(spans)?;
        let bound = |address| tracing::info!(%address, "The gateway is up");
        let ended = gateway.run(Drain::on_signals()?, bound).await;
        drop(telemetry);
        ended.context("serve the gateway")
    }

    fn gateway(self, spans: bool) -> anyhow::Result<Gateway> {
        let authentication = match (self.anonymous, self.jwks) {
            (true, _) => Authentication::Anonymous,
            (false, Some(keys)) => Authentication::Tokens {
                keys,
                issuer: self.issuer,
                audience: self.audience,
            },
            (false, None) => bail!("say who may call: --jwks FILE, or --anonymous for everybody"),
        };
        let usual = Config::default();
        let config = Config {
            tls: self.tls_certificate.zip(self.tls_key),
            access_log: self.access_log.as_deref().map(access_log),
            allowed_origins: self.allowed_origin,
            rate_per_address: self.rate_per_address,
            rate_per_principal: self.rate_per_principal,
            max_body_bytes: self.max_body.unwrap_or(usual.max_body_bytes),
            // A deadline that the caller did not set is the caller's surprise: none, unless it is asked for; 0 is none.
            default_timeout: self
                .timeout
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            trusted_proxies: self.trusted_proxy,
            spans,
            ..usual
        };
        Ok(Gateway {
            listen: self.listen,
            upstreams: self.upstreams,
            descriptors: self
                .descriptors
                .map_or(Descriptors::Reflection, Descriptors::File),
            authentication,
            workers: self.workers.into(),
            admin: self.admin_listen,
            config,
        })
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    let (per_second, burst) = text
        .split_once(':')
        .ok_or("must be RATE:BURST, such as 50:100")?;
    let rate = Rate {
        per_second: per_second
            .parse()
            .map_err(|_| "the rate is a number per second")?,
        burst: burst.parse().map_err(|_| "the burst is a whole number")?,
    };
    if !(rate.per_second.is_finite() && rate.per_second > 0.0) || rate.burst == 0 {
        return Err("rate and burst are above 0".to_owned());
    }
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use upm_gateway::AccessLog;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        standalone: Standalone,
    }

    fn line(arguments: &str) -> anyhow::Result<Gateway> {
        let arguments = std::iter::once("gateway").chain(arguments.split_whitespace());
        Line::try_parse_from(arguments)?.standalone.gateway(false)
    }

    #[test]
    fn who_may_call_must_be_said() {
        let upstream = "--upstream a.B=http://127.0.0.1:1";
        assert!(line(upstream).is_err());
        assert!(line(&format!("{upstream} --anonymous")).is_ok());
        assert!(line(&format!("{upstream} --jwks keys.json --issuer me")).is_ok());
        assert!(line(&format!("{upstream} --jwks keys.json --anonymous")).is_err());
        assert!(line("--anonymous").is_err(), "only with upstreams");
    }

    #[test]
    fn several_servers_and_limits_are_taken() {
        let gateway = line(
            "--upstream a.B=http://127.0.0.1:1 --upstream a.B=http://127.0.0.1:2 --anonymous --workers 2 --rate-per-address 0.5:10 --access-log -",
        )
        .unwrap();
        assert_eq!((gateway.upstreams.len(), gateway.workers), (2, 2));
        assert_eq!(
            gateway.config.rate_per_address,
            Some(Rate {
                per_second: 0.5,
                burst: 10
            })
        );
        assert_eq!(gateway.config.access_log, Some(AccessLog::Stdout));
        for wrong in ["5", "0:1", "1:0", "NaN:1", "a:1"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
