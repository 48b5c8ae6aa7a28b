//! A stock receiver of OTLP traces.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

/// A span as far as a test looks at it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// `service.name`.
    pub(crate) service: String,
    pub(crate) name: String,
    /// 32 hex digits.
    pub(crate) trace: String,
    /// 16 hex digits.
    pub(crate) id: String,
    /// 16 hex digits; empty without one.
    pub(crate) parent: String,
}

/// Receives until it is dropped.
pub(crate) struct Receiver {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    _running: DropGuard,
}

struct Handler(Arc<Mutex<Vec<Seen>>>);

impl Receiver {
    pub(crate) fn start() -> Self {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let stop = CancellationToken::new();
        let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
        listener
            .set_nonblocking(true)
            .expect("a nonblocking socket");
        let port = listener.local_addr().expect("an address").port();
        let (handler, stopped) = (Handler(seen.clone()), stop.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                tonic::transport::Server::builder()
                    .add_service(TraceServiceServer::new(handler))
                    .serve_with_incoming_shutdown(
                        TcpListenerStream::new(listener),
                        stopped.cancelled_owned(),
                    )
                    .await
                    .expect("receive traces");
            });
        });
        Self {
            port,
            seen,
            _running: stop.drop_guard(),
        }
    }

    /// Where it is, as somebody sees it who knows this machine by `host`.
    pub(crate) fn endpoint(&self, host: &str) -> String {
        format!("http://{host}:{}", self.port)
    }

    /// The spans of a trace.
    pub(crate) fn trace(&self, id: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .filter(|span| span.trace == id)
            .cloned()
            .collect()
    }
}

#[tonic::async_trait]
impl TraceService for Handler {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in request.into_inner().resource_spans {
            let attributes = resource
                .resource
                .map(|resource| resource.attributes)
                .unwrap_or_default();
            let service = attributes
                .into_iter()
                .find(|attribute| attribute.key == "service.name")
                .and_then(|attribute| attribute.value?.value);
            let Some(Value::StringValue(service)) = service else {
                continue;
            };
            for span in resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
            {
                seen.push(Seen {
                    service: service.clone(),
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}
