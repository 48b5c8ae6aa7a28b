//! Connections to the replicas of a peer: dialled lazily, re-dialled with growing pauses, chosen by load among those that are ready.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex as SyncMutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Request, Response, Uri, uri::PathAndQuery};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rand::seq::SliceRandom as _;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, sync::Mutex, task::JoinHandle, time::Instant};
use tokio_rustls::TlsConnector;
use tonic::{Code, Status, body::Body};

use super::Transport;
use crate::{
    auth::Pause,
    error::{Chain, Details, Kind},
    status,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A call waits this long for the next dial; if that is later, it fails at once.
const LONGEST_WAIT: Duration = Duration::from_millis(250);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const MAX_HEADERS: u32 = 64 * 1024;
const MAX_RESETS: usize = 1024;

/// The replicas of one peer.
pub(super) struct Remote {
    /// For messages.
    name: String,
    endpoints: Vec<Arc<Endpoint>>,
}

struct Endpoint {
    uri: Uri,
    tls: TlsConnector,
    running: AtomicUsize,
    connection: ArcSwapOption<Connection>,
    dial: Mutex<Dial>,
    /// Dials while others serve the calls.
    warming: SyncMutex<Option<JoinHandle<()>>>,
}

/// When to dial again.
struct Dial {
    pause: Pause,
    not_before: Option<Instant>,
}

struct Connection {
    sender: http2::SendRequest<Body>,
    driver: Arc<Driver>,
}

/// Owns the task of a connection; lives as long as the endpoint uses it or an answer is read from it.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("the endpoint `{0}` is not `https://host:port`")]
    Endpoint(Uri),
    #[error("connect")]
    Connect(#[from] std::io::Error),
    #[error("not connected in {CONNECT_TIMEOUT:?}")]
    Timeout,
    #[error("HTTP/2 handshake")]
    Handshake(#[from] hyper::Error),
    #[error("the last dial failed; the next one is in {0:?}")]
    Pausing(Duration),
}

// === impl Remote ===

impl Remote {
    pub(super) fn new(
        name: String,
        endpoints: Vec<Uri>,
        config: Arc<rustls::ClientConfig>,
    ) -> Self {
        let endpoints = endpoints
            .into_iter()
            .map(|uri| {
                Arc::new(Endpoint {
                    uri,
                    tls: TlsConnector::from(config.clone()),
                    running: AtomicUsize::new(0),
                    connection: ArcSwapOption::empty(),
                    dial: Mutex::new(Dial {
                        pause: Pause::new(FIRST_PAUSE, LONGEST_PAUSE),
                        not_before: None,
                    }),
                    warming: SyncMutex::new(None),
                })
            })
            .collect();
        Self { name, endpoints }
    }

    /// All endpoints in the order in which to try them: the less loaded of two random ready ones, other ready ones, the rest.
    fn order(&self) -> Vec<Arc<Endpoint>> {
        let mut order = self.endpoints.clone();
        order.shuffle(&mut rand::rng());
        order.sort_by_key(|endpoint| !endpoint.is_ready());
        if order.first().is_some_and(|first| first.is_ready()) {
            // Replicas that are new or were lost are dialled without a call waiting for them.
            order
                .iter()
                .filter(|endpoint| !endpoint.is_ready())
                .for_each(Endpoint::warm);
        }
        if let [first, second, ..] = order.as_mut_slice()
            && second.is_ready()
            && second.running.load(Ordering::Relaxed) < first.running.load(Ordering::Relaxed)
        {
            std::mem::swap(first, second);
        }
        order
    }

    /// Logs each failed dial once, and not the calls that come before the next one.
    fn report(&self, endpoint: &Endpoint, error: &DialError) {
        let (peer, endpoint) = (&self.name, &endpoint.uri);
        if matches!(error, DialError::Pausing(_)) {
            tracing::debug!(peer, %endpoint, %error, "not connected");
        } else {
            tracing::warn!(peer, %endpoint, error = %Chain(error), "cannot connect");
        }
    }

    fn unreachable(&self) -> Status {
        status::own_with(
            Kind::Unavailable,
            "CONNECT_FAILED",
            format!("cannot reach {}", self.name),
            &Details::fact("peer", &self.name),
        )
    }
}

impl Transport for Remote {
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        for endpoint in self.order() {
            // A connection may turn out to be closed only when it is used: then once more on a new one.
            for _ in 0..2 {
                let connection = match endpoint.connected().await {
                    Ok(connection) => connection,
                    Err(error) => {
                        self.report(&endpoint, &error);
                        break;
                    }
                };
                let running = Running::begin(&endpoint);
                let sent = connection
                    .sender
                    .clone()
                    .try_send_request(endpoint.addressed(request)?)
                    .await;
                let mut failed = match sent {
                    Ok(response) => {
                        return Ok(response.map(|inner| {
                            Body::new(Answer {
                                inner,
                                _driver: connection.driver.clone(),
                                _running: running,
                            })
                        }));
                    }
                    Err(failed) => failed,
                };
                endpoint.forget(&connection);
                match failed.take_message() {
                    // Not a byte of it was sent.
                    Some(unsent) => request = unsent,
                    None => return Err(lost(failed.into_error())),
                }
            }
        }
        Err(self.unreachable())
    }
}

/// The status of a connection that broke with a call on it.
fn lost(error: hyper::Error) -> Status {
    tracing::debug!(error = %Chain(&error), "a connection broke");
    let status = Status::from_error(Box::new(error));
    match status.code() {
        // What HTTP/2 has no better word for.
        Code::Unknown | Code::Internal | Code::Unavailable => status::own(
            Kind::Unavailable,
            "CONNECTION_LOST",
            "the connection broke before the answer was complete",
        ),
        _ => status,
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn is_ready(&self) -> bool {
        self.connection
            .load()
            .as_ref()
            .is_some_and(|connection| !connection.sender.is_closed())
    }

    /// The connection, dialled if need be; callers that come meanwhile wait for the same dial.
    async fn connected(&self) -> Result<Arc<Connection>, DialError> {
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        let mut dial = self.dial.lock().await;
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        if let Some(at) = dial.not_before {
            let wait = at.saturating_duration_since(Instant::now());
            if wait > LONGEST_WAIT {
                return Err(DialError::Pausing(wait));
            }
            tokio::time::sleep(wait).await;
        }
        let dialled = tokio::time::timeout(CONNECT_TIMEOUT, self.dialled())
            .await
            .unwrap_or(Err(DialError::Timeout));
        match dialled {
            Ok(connection) => {
                let connection = Arc::new(connection);
                dial.pause.reset();
                dial.not_before = None;
                self.connection.store(Some(connection.clone()));
                Ok(connection)
            }
            Err(error) => {
                dial.not_before = Some(Instant::now() + dial.pause.next());
                Err(error)
            }
        }
    }

    /// Begins to dial, unless that is going on or has just failed.
    fn warm(self: &Arc<Self>) {
        let is_due = self
            .dial
            .try_lock()
            .is_ok_and(|dial| dial.not_before.is_none_or(|at| at <= Instant::now()));
        let mut warming = self.warming.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_due || warming.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let endpoint = self.clone();
        // It ends with the dial, which has a timeout.
        *warming = Some(tokio::spawn(async move {
            if let Err(error) = endpoint.connected().await {
                tracing::debug!(endpoint = %endpoint.uri, error = %Chain(&error), "cannot connect");
            }
        }));
    }

    fn usable(&self) -> Option<Arc<Connection>> {
        self.connection
            .load_full()
            .filter(|connection| !connection.sender.is_closed())
    }

    /// Does not use a connection any more, unless another took its place already.
    fn forget(&self, broken: &Arc<Connection>) {
        self.connection.rcu(|current| match current {
            Some(current) if Arc::ptr_eq(current, broken) => None,
            other => other.clone(),
        });
    }

    async fn dialled(&self) -> Result<Connection, DialError> {
        let wrong = || DialError::Endpoint(self.uri.clone());
        let host = self.uri.host().ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.uri.port_u16().unwrap_or(443);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
        let mut addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
        addresses.shuffle(&mut rand::rng());
        let stream = TcpStream::connect(addresses.as_slice()).await?;
        stream.set_nodelay(true)?;
        let secured = self.tls.connect(name, stream).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADERS)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .handshake(TokioIo::new(secured))
            .await?;
        let driver = Driver(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        }));
        Ok(Connection {
            sender,
            driver: Arc::new(driver),
        })
    }

    /// The request with this endpoint's scheme and authority.
    fn addressed(&self, request: Request<Body>) -> Result<Request<Body>, Status> {
        let (mut parts, body) = request.into_parts();
        let mut uri = parts.uri.into_parts();
        uri.scheme = self.uri.scheme().cloned();
        uri.authority = self.uri.authority().cloned();
        uri.path_and_query = uri.path_and_query.or(Some(PathAndQuery::from_static("/")));
        parts.uri = Uri::from_parts(uri).map_err(|error| {
            tracing::error!(%error, endpoint = %self.uri, "not an endpoint");
            status::own(Kind::Internal, "ENDPOINT", "internal error")
        })?;
        // Extensions are for this process.
        parts.extensions.clear();
        Ok(Request::from_parts(parts, body))
    }
}

/// Counts a call of an endpoint while it lasts.
struct Running(Arc<Endpoint>);

impl Running {
    fn begin(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.running.fetch_add(1, Ordering::Relaxed);
        Self(endpoint.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer; keeps its connection going.
struct Answer {
    inner: Incoming,
    _driver: Arc<Driver>,
    _running: Running,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.get_mut().inner)
            .poll_frame(cx)
            .map_err(lost)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
