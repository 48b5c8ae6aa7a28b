//! Sockets: accept, handshake, HTTP/2, drain.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::HandshakeKind;
use rustls_pki_types::UnixTime;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, transport::server::TcpConnectInfo};
use tower::Service as _;

use super::{
    Error, Stack,
    call::Cutoff,
    handshakes::{Ended, Handshakes},
};
use crate::{
    drain::Drain,
    identity::{ClientAuth, Identity, Peer, PeerCertificates, SpiffeId},
    network::{Network, Place, Places},
};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Clients of one connection may give up this many calls before they are accepted; with fewer, one client that goes away takes
/// the connection of all others behind the same gateway with it.
const MAX_RESETS: usize = 1024;
const MAX_HEADERS: u32 = 64 * 1024;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// After the grace, cut streams have this long to say so.
const FAREWELL: Duration = Duration::from_secs(2);
/// Records that are being written have this long.
const RECORDS_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn serve(
    stack: Stack,
    listener: TcpListener,
    tls: Option<(Identity, ClientAuth)>,
    drain: Drain,
) -> Result<(), Error> {
    let tickets = stack.inner.tickets.clone();
    let secure = tls.map(|(identity, clients)| Secure {
        acceptor: TlsAcceptor::from(identity.server_config_with(clients, tickets)),
        identity,
        handshakes: Arc::new(Handshakes::new(
            stack.inner.limits.handshakes_per_second,
            stack.inner.limits.handshakes,
        )),
    });
    let slots = Arc::new(Semaphore::new(stack.inner.limits.connections));
    let strangers = stack.inner.limits.strangers.as_ref();
    let strangers = strangers.map(|strangers| Places::new(strangers.connections_per_network));
    let cutoff = CancellationToken::new();
    let mut connections = JoinSet::new();
    tracing::info!(
        module = stack.inner.module, address = %listener.local_addr()?, tls = secure.is_some(), "serving"
    );
    while let Some((stream, address, slot)) =
        accept(&listener, &slots, &mut connections, &drain).await
    {
        // Everybody is a stranger until a certificate is shown.
        let place = match &strangers {
            None => None,
            Some(places) => {
                let Some(place) = places.enter(Network::of(address.ip())) else {
                    tracing::debug!(%address, "closed a connection of an address that has too many");
                    continue;
                };
                Some(place)
            }
        };
        let connection = Connection {
            stack: stack.clone(),
            place,
            address,
            drain: drain.clone(),
            cutoff: cutoff.clone(),
            _slot: slot,
        };
        connections.spawn(connection.run(stream, secure.clone()));
    }
    drop(listener);
    stack.stop_serving().await;
    let grace = stack.inner.limits.grace;
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, finished).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            ?grace,
            "calls outlive the grace; they are cut"
        );
        cutoff.cancel();
        let finished = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, finished).await;
        connections.shutdown().await;
    }
    if tokio::time::timeout(RECORDS_TIMEOUT, stack.recorded())
        .await
        .is_err()
    {
        tracing::error!("records were not written before the end");
    }
    Ok(())
}

/// The next connection; `None` once the process drains.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    connections: &mut JoinSet<()>,
    drain: &Drain,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    loop {
        let slot = tokio::select! {
            biased;
            () = drain.signalled() => return None,
            slot = slots.clone().acquire_owned() => slot.ok()?,
        };
        let accepted = tokio::select! {
            biased;
            () = drain.signalled() => return None,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => return Some((stream, address, slot)),
            Err(error) => {
                // Out of file descriptors, most likely, or a connection that ended before it was accepted.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::select! {
                    () = drain.signalled() => return None,
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                }
            }
        }
    }
}

/// What secures connections.
#[derive(Clone)]
struct Secure {
    acceptor: TlsAcceptor,
    identity: Identity,
    handshakes: Arc<Handshakes>,
}

impl Secure {
    /// A handshake, or `None`. It takes its turn once the client has begun, so that who says nothing takes none.
    async fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<Box<TlsStream<TcpStream>>> {
        let shake = async {
            stream.readable().await?;
            let Some(_under_way) = self.handshakes.admit().await else {
                tracing::debug!(%address, "too many handshakes wait");
                return Ok(None);
            };
            let secured = Box::new(self.acceptor.accept(stream).await?);
            let session = secured.get_ref().1;
            if session.handshake_kind() == Some(HandshakeKind::Resumed) {
                let chain = session.peer_certificates().unwrap_or_default();
                self.identity
                    .verify_resumed(chain, UnixTime::now())
                    .map_err(std::io::Error::other)?;
                self.handshakes.ended(Ended::Resumed);
            } else {
                self.handshakes.ended(Ended::Full);
            }
            Ok::<_, std::io::Error>(Some(secured))
        };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, shake).await {
            Ok(Ok(secured)) => return secured,
            Ok(Err(error)) => tracing::debug!(%address, %error, "handshake refused"),
            Err(_) => tracing::debug!(%address, "handshake not finished in time"),
        }
        self.handshakes.ended(Ended::Failed);
        None
    }
}

struct Connection {
    stack: Stack,
    /// Held while no certificate was shown.
    place: Option<Place>,
    address: SocketAddr,
    drain: Drain,
    cutoff: CancellationToken,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(mut self, stream: TcpStream, secure: Option<Secure>) {
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().ok();
        let Some(secure) = secure else {
            self.drive(stream, local, Peer(None), None).await;
            return;
        };
        // The handshake's state is gone before the long life of the connection begins.
        let Some(secured) = Box::pin(secure.handshake(stream, self.address)).await else {
            return;
        };
        let certificates: Option<Vec<_>> = secured.get_ref().1.peer_certificates().map(|chain| {
            chain
                .iter()
                .map(|certificate| certificate.clone().into_owned())
                .collect()
        });
        let peer = certificates
            .as_ref()
            .and_then(|chain| chain.first())
            .and_then(|leaf| SpiffeId::of_certificate(leaf).ok().flatten());
        let certificates = certificates.map(|chain| PeerCertificates(Arc::new(chain)));
        if peer.is_some() {
            self.place = None;
        }
        self.drive(secured, local, Peer(peer), certificates).await;
    }

    async fn drive(
        self,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        local: Option<SocketAddr>,
        peer: Peer,
        certificates: Option<PeerCertificates>,
    ) {
        let (stack, cutoff, remote) = (self.stack.clone(), self.cutoff.clone(), self.address);
        let limits = &self.stack.inner.limits;
        let stranger = limits.strangers.clone().filter(|_| peer.0.is_none());
        let streams = stranger
            .as_ref()
            .map_or(limits.streams_per_connection, |s| s.streams_per_connection);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let extensions = request.extensions_mut();
            extensions.insert(peer.clone());
            extensions.insert(Cutoff(cutoff.clone()));
            extensions.insert(TcpConnectInfo {
                local_addr: local,
                remote_addr: Some(remote),
            });
            if let Some(certificates) = &certificates {
                extensions.insert(certificates.clone());
            }
            let mut stack = stack.clone();
            async move {
                Ok::<_, Infallible>(
                    stack
                        .call(request.map(Body::new))
                        .await
                        .unwrap_or_else(|never| match never {}),
                )
            }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_concurrent_streams(streams)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .max_local_error_reset_streams(MAX_RESETS)
            .max_header_list_size(MAX_HEADERS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.drain.signalled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = ended_life(stranger.map(|stranger| stranger.life)) => {
                connection.as_mut().graceful_shutdown();
                // Whatever it waits for, it has had its time.
                let rest = tokio::time::timeout(HANDSHAKE_TIMEOUT, connection.as_mut());
                rest.await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(address = %self.address, %error, "connection ended");
        }
    }
}

/// The end of a connection's life; never for one without a bound.
async fn ended_life(life: Option<Duration>) {
    match life {
        Some(life) => tokio::time::sleep(life).await,
        None => std::future::pending().await,
    }
}
