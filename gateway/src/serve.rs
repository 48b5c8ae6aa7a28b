//! Connections: accept, TLS, HTTP/1.1 and HTTP/2 on one port, drain.

mod certificate;
mod linger;
mod stall;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};
use tokio_util::task::TaskTracker;
use upm_mesh::Drain;

use self::{certificate::Certificate, stall::Stall};
use crate::{Error, Gateway, dispatch, places::Places, proxies};

/// A TLS handshake that takes longer is cut.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After a failed accept (no file descriptors) others must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// More headers are answered with 431 before anything looks at them.
const MAX_HEADERS: usize = 128;
/// A longer head is answered with 431, in bytes: above every limit that is answered in the caller's protocol.
const MAX_HEAD: usize = 64 * 1024;
/// What a client may send before anybody reads, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

pub(crate) async fn run(
    gateway: Gateway,
    listener: TcpListener,
    drain: Drain,
) -> Result<(), Error> {
    let tls = match &gateway.config().tls {
        Some((certificate, key)) => Some(Certificate::open(certificate, key)?),
        None => None,
    };
    let following = async {
        if let Some(certificate) = &tls {
            certificate.follow().await;
        }
        std::future::pending::<()>().await;
    };
    let mut following = std::pin::pin!(following);
    let slots = Arc::new(Semaphore::new(gateway.config().max_connections));
    let places = Places::new(gateway.config().max_connections_per_address);
    let graceful = GracefulShutdown::new();
    let connections = TaskTracker::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.signalled() => break,
            () = &mut following => continue,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "Could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // A proxy has the connections of all its clients.
        let place = if proxies::is_trusted(&gateway.config().trusted_proxies, address.ip()) {
            None
        } else {
            let Some(place) = places.enter(address.ip()) else {
                tracing::debug!(%address, "Closed a connection of an address that has too many");
                continue;
            };
            Some(place)
        };
        stream.set_nodelay(true).ok();
        let stream = Stall::new(stream, gateway.config().write_timeout);
        let tls = tls.as_ref().map(Certificate::acceptor);
        let (gateway, watcher) = (gateway.clone(), graceful.watcher());
        // A connection ends by itself: at its end, at a timeout, or at the end of the grace period.
        connections.spawn(async move {
            match tls {
                None => connection(gateway, stream, address, watcher).await,
                Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                    Ok(Ok(stream)) => connection(gateway, stream, address, watcher).await,
                    Ok(Err(error)) => tracing::debug!(%address, %error, "A TLS handshake failed"),
                    Err(_) => tracing::debug!(%address, "A TLS handshake took too long"),
                },
            }
            drop((slot, place));
        });
    }
    drop(listener);
    connections.close();
    gateway.tasks().close();
    // WebSockets end with a word to the client.
    gateway.ending().cancel();
    if tokio::time::timeout(gateway.config().grace, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("Cut connections that did not end within the grace period");
    } else {
        gateway.tasks().wait().await;
        connections.wait().await;
    }
    Ok(())
}

async fn connection<S>(
    gateway: Gateway,
    stream: S,
    address: SocketAddr,
    watcher: hyper_util::server::graceful::Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(gateway.config().header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(250)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD as u32);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let gateway = gateway.clone();
        async move {
            let request = request.map(|body| linger::body(body, gateway.tasks()));
            Ok::<_, Infallible>(dispatch::answer(gateway, request, address).await)
        }
    });
    let connection = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%address, %error, "A connection ended with an error");
    }
}
