//! What operators ask: `/metrics`, `/healthz`, `/readyz`, on a port of their own.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet};
use upm_mesh::Drain;

use crate::{Error, gateway::Shared, measure};

/// Connections at the same time.
const CONNECTIONS: usize = 64;
const HEADERS: Duration = Duration::from_secs(10);

type Ready = Arc<dyn Fn() -> bool + Send + Sync>;

/// The listener, if there is an address.
pub(super) async fn bind(address: Option<SocketAddr>) -> Result<Option<TcpListener>, Error> {
    Ok(match address {
        Some(address) => Some(TcpListener::bind(address).await?),
        None => None,
    })
}

/// Serves until the drain; never ends without a listener.
pub(super) async fn serve(
    listener: Option<TcpListener>,
    shared: &Arc<Shared>,
    ready: impl Fn() -> bool + Send + Sync + 'static,
    drain: Drain,
) -> Result<(), Error> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let ready: Ready = Arc::new(ready);
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            () = drain.signalled() => return Ok(()),
        };
        while connections.try_join_next().is_some() {}
        // A connection may outlive the gateway by a moment; the access log is complete when the gateway has ended.
        let (shared, ready, drain) = (Arc::downgrade(shared), ready.clone(), drain.clone());
        connections.spawn(async move {
            let service = service_fn(move |request: http::Request<Incoming>| {
                let response = answer(request.uri().path(), &shared, &ready, &drain);
                async move { Ok::<_, Infallible>(response) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "A connection of an operator ended with an error");
            }
        });
    }
}

fn answer(
    path: &str,
    shared: &Weak<Shared>,
    ready: &Ready,
    drain: &Drain,
) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/metrics" => match shared.upgrade() {
            Some(shared) => (StatusCode::OK, measure::prometheus(&shared)),
            None => (StatusCode::SERVICE_UNAVAILABLE, "ended\n".to_owned()),
        },
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if drain.is_draining() => {
            (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned())
        }
        "/readyz" if ready() => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => (
            StatusCode::SERVICE_UNAVAILABLE,
            "an upstream has no server that takes calls\n".to_owned(),
        ),
        _ => (
            StatusCode::NOT_FOUND,
            "/metrics /healthz /readyz\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4"),
    );
    response
}
