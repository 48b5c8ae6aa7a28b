//! `upm-agent`: see the library.

use std::{process::ExitCode, sync::Arc};

use clap::Parser as _;
use upm_agent::options::Options;
use upm_mesh::{Drain, TelemetryConfig, telemetry};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let config = TelemetryConfig {
        filter: options.log.clone(),
        otlp_endpoint: options.otlp_endpoint.clone(),
        ..TelemetryConfig::default()
    };
    let telemetry = match telemetry::init("upm-agent", &config) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("upm-agent: {error}");
            return ExitCode::from(2);
        }
    };
    let ended = async {
        let drain = Drain::on_signals()?;
        let listener = tokio::net::TcpListener::bind(options.metrics_address).await?;
        // A replica that does not lead is ready to.
        let metrics = telemetry.serve_metrics(listener, Arc::new(|| Ok(())), drain.clone());
        let (ran, ()) = tokio::join!(
            async {
                let ran = upm_agent::run(options, drain.clone()).await;
                drain.begin();
                ran
            },
            metrics
        );
        ran
    };
    match ended.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "The agent cannot run");
            ExitCode::FAILURE
        }
    }
}
