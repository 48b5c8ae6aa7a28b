//! Logs, traces and metrics of a process.
//!
//! Logs go to stderr. With an endpoint, traces, metrics and logs also go there by OTLP. Metrics are always readable at `/metrics` of
//! [`Telemetry::serve_metrics`]. Spans and records never hold headers, tokens or message bodies.

use std::io::IsTerminal as _;
use std::{sync::Arc, time::Duration};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource, logs::SdkLoggerProvider, metrics::SdkMeterProvider, trace::SdkTracerProvider,
};
use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::LevelFilter, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

mod endpoint;
pub(crate) mod rpc;
mod trace;

pub use self::trace::{TraceParent, current_traceparent, with_traceparent};

/// What a process tells the outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// `text` or `json`.
    pub format: Format,
    /// Which logs, in the syntax of `RUST_LOG`, for example `info,upm_hub=debug`.
    pub filter: String,
    /// Address of an OTLP/gRPC receiver, for example `http://collector:4317`; `None` sends nothing.
    pub otlp_endpoint: Option<String>,
    /// How often metrics are sent, in seconds.
    pub metrics_interval_seconds: u64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines, one object on a line.
    Json,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            format: Format::Text,
            filter: "info".to_owned(),
            otlp_endpoint: None,
            metrics_interval_seconds: 30,
        }
    }
}

/// What can be wrong with telemetry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be parsed.
    #[error("log filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// An exporter cannot be built.
    #[error("exporter of OTLP")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// The Prometheus exporter cannot be built.
    #[error("exporter of Prometheus")]
    Prometheus(#[from] opentelemetry_sdk::error::OTelSdkError),
    /// There is a subscriber already.
    #[error("telemetry was set up before")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps telemetry going; flushes when dropped.
#[derive(Debug)]
pub struct Telemetry {
    registry: prometheus::Registry,
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    logs: Option<SdkLoggerProvider>,
}

/// Libraries of the export path itself: their records would feed on themselves.
const SILENT: &[&str] = &[
    "h2",
    "hyper",
    "hyper_util",
    "opentelemetry",
    "opentelemetry_sdk",
    "opentelemetry_otlp",
    "tonic",
    "tower",
];

/// Sets up telemetry of the process; call it once, inside a tokio runtime, before stacks and channels are built.
/// `service` is `service.name`, for example `upm-redis`.
pub fn init(service: &str, config: &TelemetryConfig) -> Result<Telemetry, Error> {
    let resource = Resource::builder()
        .with_service_name(service.to_owned())
        .with_attribute(KeyValue::new("service.namespace", "upm"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new(
            "service.instance.id",
            uuid::Uuid::new_v4().to_string(),
        ))
        .build();
    let telemetry = Telemetry::build(&resource, config)?;

    let filter = EnvFilter::try_new(&config.filter)?;
    let stderr = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let stderr = match config.format {
        Format::Text => stderr.boxed(),
        Format::Json => stderr.json().flatten_event(true).boxed(),
    };
    // Spans are always made, also without an endpoint: their ids are in records and answers.
    let spans = tracing_opentelemetry::layer()
        .with_tracer(telemetry.traces.tracer("upm"))
        .with_filter(exported(LevelFilter::INFO));
    let records = telemetry
        .logs
        .as_ref()
        .map(|logs| OpenTelemetryTracingBridge::new(logs).with_filter(exported(LevelFilter::INFO)));
    tracing_subscriber::registry()
        .with(stderr.with_filter(filter))
        .with(spans)
        .with(records)
        .try_init()?;
    opentelemetry::global::set_meter_provider(telemetry.metrics.clone());
    Ok(telemetry)
}

fn exported(level: LevelFilter) -> EnvFilter {
    SILENT.iter().fold(
        EnvFilter::default().add_directive(level.into()),
        |filter, target| match format!("{target}=off").parse() {
            Ok(directive) => filter.add_directive(directive),
            Err(_) => filter,
        },
    )
}

impl Telemetry {
    fn build(resource: &Resource, config: &TelemetryConfig) -> Result<Self, Error> {
        let registry = prometheus::Registry::new();
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .build()?;
        let mut traces = SdkTracerProvider::builder().with_resource(resource.clone());
        let mut metrics = SdkMeterProvider::builder()
            .with_resource(resource.clone())
            .with_reader(prometheus);
        let mut logs = None;
        if let Some(endpoint) = &config.otlp_endpoint {
            let spans = opentelemetry_otlp::SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()?;
            traces = traces.with_batch_exporter(spans);
            let values = opentelemetry_otlp::MetricExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()?;
            metrics = metrics.with_reader(
                opentelemetry_sdk::metrics::PeriodicReader::builder(values)
                    .with_interval(Duration::from_secs(config.metrics_interval_seconds.max(1)))
                    .build(),
            );
            let records = opentelemetry_otlp::LogExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()?;
            logs = Some(
                SdkLoggerProvider::builder()
                    .with_resource(resource.clone())
                    .with_batch_exporter(records)
                    .build(),
            );
        }
        Ok(Self {
            registry,
            traces: traces.build(),
            metrics: metrics.build(),
            logs,
        })
    }

    /// Answers `/metrics`, `/healthz` (the process runs) and `/readyz` (200 once `ready` says so, 503 with its reason before and while
    /// draining) by HTTP until the process drains.
    pub fn serve_metrics(
        &self,
        listener: tokio::net::TcpListener,
        ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
        drain: crate::Drain,
    ) -> impl Future<Output = ()> + Send + use<> {
        endpoint::serve(listener, self.registry.clone(), ready, drain)
    }

    /// The Prometheus registry, for collectors that are not OpenTelemetry's.
    pub fn registry(&self) -> &prometheus::Registry {
        &self.registry
    }

    /// Sends what is waiting to be sent.
    pub fn flush(&self) {
        let traces = self.traces.force_flush();
        let metrics = self.metrics.force_flush();
        let logs = self
            .logs
            .as_ref()
            .map_or(Ok(()), SdkLoggerProvider::force_flush);
        for result in [traces, metrics, logs] {
            if let Err(error) = result {
                tracing::debug!(%error, "telemetry was not flushed");
            }
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // Exporters need their runtime; after it, there is nobody to tell.
        let _ = self.traces.shutdown();
        let _ = self.metrics.shutdown();
        if let Some(logs) = &self.logs {
            let _ = logs.shutdown();
        }
    }
}

#[cfg(test)]
mod tests;
