use std::sync::Mutex;

use http_body_util::BodyExt as _;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse, logs_service_server as logs,
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server as metrics,
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse, trace_service_server as trace,
        },
    },
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::*;
use crate::{
    Drain,
    testing::{World, get},
};

/// A receiver of OTLP that keeps what it gets.
#[derive(Clone, Default)]
struct Receiver {
    spans: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    metrics: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    logs: Arc<Mutex<Vec<ExportLogsServiceRequest>>>,
}

#[tonic::async_trait]
impl trace::TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.spans
            .lock()
            .expect("not poisoned")
            .push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl metrics::MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics
            .lock()
            .expect("not poisoned")
            .push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl logs::LogsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.logs
            .lock()
            .expect("not poisoned")
            .push(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

impl Receiver {
    /// The spans of the calls of one trace.
    fn calls(&self, trace: &[u8]) -> Vec<Span> {
        let received = self.spans.lock().expect("not poisoned");
        received
            .iter()
            .flat_map(|export| &export.resource_spans)
            .flat_map(|resource| &resource.scope_spans)
            .flat_map(|scope| &scope.spans)
            .filter(|span| span.trace_id == trace && span.name == "upm.user.v1.UserService/GetUser")
            .cloned()
            .collect()
    }

    fn everything(&self) -> String {
        format!("{:?}{:?}{:?}", self.spans, self.logs, self.metrics)
    }
}

async fn page(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("connected");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .expect("HTTP");
    tokio::spawn(connection);
    let request = http::Request::get(path)
        .header("host", "metrics")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

async fn probes_answer(telemetry: &Telemetry) {
    let drain = Drain::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let probes = listener.local_addr().expect("an address");
    let ready = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_ready = ready.clone();
    let check = move || {
        let ready = is_ready.load(std::sync::atomic::Ordering::SeqCst);
        ready
            .then_some(())
            .ok_or_else(|| "no policy yet".to_owned())
    };
    let serving = tokio::spawn(telemetry.serve_metrics(listener, Arc::new(check), drain.clone()));
    let (code, text) = page(probes, "/metrics").await;
    assert_eq!(code, 200);
    assert!(
        text.contains("upm_rpc_server_duration_seconds_bucket"),
        "{text}"
    );
    assert!(text.contains("upm_rpc_client_calls_total"), "{text}");
    assert!(
        text.contains(r#"rpc_method="/upm.user.v1.UserService/GetUser""#),
        "{text}"
    );
    assert_eq!(page(probes, "/healthz").await.0, 200);
    assert_eq!(
        page(probes, "/readyz").await,
        (503, "no policy yet\n".to_owned())
    );
    ready.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(page(probes, "/readyz").await.0, 200);
    assert_eq!(page(probes, "/secrets").await.0, 404);
    drain.begin();
    serving.await.expect("no panic");
}

/// One test for the whole process, because there is one subscriber in a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_reaches_a_stock_receiver_together_with_metrics_and_logs_and_no_secret_does() {
    let receiver = Receiver::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tonic::transport::Server::builder()
        .add_service(trace::TraceServiceServer::new(receiver.clone()))
        .add_service(metrics::MetricsServiceServer::new(receiver.clone()))
        .add_service(logs::LogsServiceServer::new(receiver.clone()));
    let receiving = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let config = TelemetryConfig {
        otlp_endpoint: Some(format!("http://{address}")),
        filter: "warn".into(),
        ..TelemetryConfig::default()
    };
    let telemetry = init("upm-test", &config).expect("set up");

    // Two modules; the first forwards to the second.
    let first = World::new();
    let second = World::build(
        first.keys.clone(),
        crate::Verifier::fixed(&crate::testing::policy(&first.keys)),
        crate::Limits::default(),
    );
    *first.users.next.lock().expect("not poisoned") =
        Some(second.stack.in_memory(crate::testing::module("user")));
    // Spans of other tests of this process come here, too.
    let header = TraceParent::random().to_string();
    let trace_id = header.split('-').nth(1).expect("an id");
    let token = first.keys.token("users/root", 300);
    let mut request = crate::testing::with_token(&token, get("users/forwards"));
    request
        .metadata_mut()
        .insert("traceparent", header.parse().expect("a value"));
    let answer = first
        .client("gateway")
        .get_user(request)
        .await
        .expect("allowed");
    assert_eq!(answer.into_inner().uid, trace_id);
    tracing::info!("a line for the receiver");

    probes_answer(&telemetry).await;

    let wanted = hex::decode(trace_id).expect("hex");
    let (awaited, trace) = (receiver.clone(), wanted.clone());
    tokio::task::spawn_blocking(move || {
        // A server's span may end after the client has its answer.
        let deadline = std::time::Instant::now() + Duration::from_mins(1);
        let arrived = || {
            let everything = awaited.everything();
            awaited.calls(&trace).len() >= 4
                && everything.contains("a line for the receiver")
                && everything.contains("upm.rpc.server.duration")
        };
        telemetry.flush();
        while !arrived() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
            telemetry.flush();
        }
        drop(telemetry);
    })
    .await
    .expect("flushed");
    receiving.abort();

    let spans = receiver.calls(&wanted);
    // Client and server of the first call, client and server of the second.
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let parents: std::collections::HashSet<_> = spans
        .iter()
        .map(|span| span.parent_span_id.clone())
        .collect();
    assert_eq!(parents.len(), 4, "a chain: {spans:#?}");
    let everything = receiver.everything();
    assert!(everything.contains("a line for the receiver"));
    assert!(everything.contains("upm.rpc.server.duration"));
    assert!(!everything.contains(&token), "a token was exported");
}

#[test]
fn the_configuration_has_defaults_and_refuses_unknown_keys() {
    let config: TelemetryConfig = serde_json::from_str(r#"{"format":"json"}"#).expect("read");
    assert_eq!(config.format, Format::Json);
    assert_eq!(config.filter, "info");
    assert!(serde_json::from_str::<TelemetryConfig>(r#"{"endpoint":"x"}"#).is_err());
}
