//! One place for an HTTP/2 connection: dialled, watched, dialled again with growing pauses.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{net::TcpStream, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::endpoint::Events;
use crate::Body;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A connection that lived shorter counts as a failed dial: servers that close at once are not hammered.
const SETTLED: Duration = Duration::from_secs(1);
/// How often it is looked whether the server wants the connection to end.
const LOOK: Duration = Duration::from_millis(250);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const MAX_HEADERS: u32 = 64 * 1024;

/// A place for a connection. Its task keeps it filled.
pub(super) struct Slot {
    sender: ArcSwapOption<SendRequest<Body>>,
    pub(super) running: AtomicUsize,
    /// Somebody wants a connection, or found this one closed.
    wake: Notify,
    /// Dial only when somebody asks.
    lazy: bool,
}

impl Slot {
    pub(super) fn new(lazy: bool) -> Self {
        Self {
            sender: ArcSwapOption::empty(),
            running: AtomicUsize::new(0),
            wake: Notify::new(),
            lazy,
        }
    }

    /// The connection when it takes calls.
    pub(super) fn usable(&self) -> Option<Arc<SendRequest<Body>>> {
        self.sender.load_full().filter(|sender| !sender.is_closed())
    }

    /// Gives a connection up that turned out to be closed.
    pub(super) fn forget(&self, sender: &Arc<SendRequest<Body>>) {
        let current = self.sender.load();
        if current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, sender))
        {
            self.sender.store(None);
            self.wake.notify_one();
        }
    }

    /// Asks for a connection.
    pub(super) fn want(&self) {
        self.wake.notify_one();
    }

    /// Keeps the slot filled until it is cancelled. Connections that the server wants to end live on, beside their successor, until their
    /// calls have ended.
    pub(super) async fn keep(
        &self,
        address: SocketAddr,
        events: &dyn Events,
        tasks: TaskTracker,
        cancel: CancellationToken,
    ) {
        let mut pause = Pause::default();
        loop {
            if self.lazy {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = cancel.cancelled() => return,
                }
            }
            let begun = tokio::time::Instant::now();
            let dialled = tokio::select! {
                dialled = tokio::time::timeout(CONNECT_TIMEOUT, dial(address)) => dialled,
                () = cancel.cancelled() => return,
            };
            match dialled {
                Ok(Ok((sender, connection))) => {
                    let closed = CancellationToken::new();
                    let guard = closed.clone().drop_guard();
                    tasks.spawn(async move {
                        let _guard = guard;
                        if let Err(error) = connection.await {
                            tracing::debug!(%address, %error, "A connection to an upstream ended with an error");
                        }
                    });
                    self.sender.store(Some(Arc::new(sender)));
                    events.connected();
                    self.watch(&closed, &cancel).await;
                    self.sender.store(None);
                    if cancel.is_cancelled() {
                        return;
                    }
                    if begun.elapsed() > SETTLED {
                        pause = Pause::default();
                        continue;
                    }
                }
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "Could not connect to an upstream");
                    events.failed();
                }
                Err(_) => {
                    tracing::debug!(%address, "Connecting to an upstream took too long");
                    events.failed();
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause.next()) => {}
                () = cancel.cancelled() => return,
            }
        }
    }

    /// Waits until the connection takes no more calls.
    async fn watch(&self, closed: &CancellationToken, cancel: &CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = closed.cancelled() => return,
                () = cancel.cancelled() => return,
                () = self.wake.notified() => {}
                _ = look.tick() => {}
            }
            if self.usable().is_none() {
                return;
            }
        }
    }
}

type Connection = http2::Connection<TokioIo<TcpStream>, Body, TokioExecutor>;

async fn dial(
    address: SocketAddr,
) -> Result<(SendRequest<Body>, Connection), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await?)
}

/// Pauses that double, with jitter: half of each is random, so that many gateways do not dial at the same moment.
#[derive(Debug, Default)]
struct Pause {
    doubled: u32,
}

impl Pause {
    fn next(&mut self) -> Duration {
        let whole = (FIRST_PAUSE * 2_u32.pow(self.doubled)).min(LONGEST_PAUSE);
        self.doubled = (self.doubled + 1).min(16);
        whole.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let mut pause = Pause::default();
        assert!(pause.next() <= FIRST_PAUSE);
        for _ in 0..40 {
            assert!(pause.next() <= LONGEST_PAUSE);
        }
        assert!(pause.next() >= LONGEST_PAUSE / 2);
    }
}
