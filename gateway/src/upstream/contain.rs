//! Keeps the resets of impatient callers away from the upstream.
//!
//! A caller that goes away would have its stream reset, and an HTTP/2 server ends a whole connection, with every call on it, when it sees
//! too many resets. So an answer that is nearly there is read to its end and thrown away, and the resets of the rest are paced.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::client::conn::TrySendError;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::endpoint::{Received, Running};
use crate::{Body, BodyError};

/// Answers that are read for nobody at the same time.
const READERS: usize = 512;
/// Longest time and largest size of such an answer.
const READ_TIME: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 256 * 1024;
/// Resets that wait for their turn; beyond it they go out at once.
const QUEUE: usize = 4096;
/// One reset in this time: a server has long accepted the stream before it sees the next reset.
const PACE: Duration = Duration::from_millis(5);

type Sent = Result<Response<Received>, TrySendError<Request<Body>>>;
type Sending = Pin<Box<dyn Future<Output = Sent> + Send>>;

/// The containment of a pool.
pub(super) struct Contain {
    tasks: TaskTracker,
    readers: AtomicUsize,
    resets: mpsc::Sender<Left>,
}

/// What a caller left behind. Dropping it resets the stream.
enum Left {
    Head(#[expect(dead_code, reason = "held until its turn")] Sending),
    Body(
        #[expect(dead_code, reason = "held until its turn")] Received,
        #[expect(dead_code, reason = "held until its turn")] Running,
    ),
}

impl Contain {
    pub(super) fn new(tasks: &TaskTracker, cancel: CancellationToken) -> Arc<Self> {
        let (resets, mut queue) = mpsc::channel(QUEUE);
        tasks.spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let left = tokio::select! {
                    left = queue.recv() => left,
                    () = cancel.cancelled() => return,
                };
                let Some(left) = left else { return };
                pace.tick().await;
                drop(left);
            }
        });
        Arc::new(Self {
            tasks: tasks.clone(),
            readers: AtomicUsize::new(0),
            resets,
        })
    }

    /// Waits for the head of an answer; when nobody waits any more, it goes on behind the scenes.
    pub(super) async fn head(
        self: &Arc<Self>,
        sent: impl Future<Output = Sent> + Send + 'static,
        streaming: bool,
    ) -> Sent {
        Head {
            sending: Some(Box::pin(sent)),
            contain: self.clone(),
            streaming,
        }
        .await
    }

    /// Runs `work` if there is room for another reader.
    fn read(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let contain = self.clone();
        self.tasks.spawn(async move {
            // A task that is late with this only delays the count, never the limit of time and size.
            let _ = tokio::time::timeout(READ_TIME, work).await;
            contain.readers.fetch_sub(1, Ordering::Relaxed);
        });
    }

    fn has_room(&self) -> bool {
        self.readers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
                (now < READERS).then_some(now + 1)
            })
            .is_ok()
    }

    fn pace(&self, left: Left) {
        // When the queue is full the reset goes out at once.
        self.resets.try_send(left).ok();
    }
}

/// The head of an answer that is waited for.
struct Head {
    sending: Option<Sending>,
    contain: Arc<Contain>,
    streaming: bool,
}

impl Future for Head {
    type Output = Sent;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Sent> {
        let Some(sending) = &mut self.sending else {
            return Poll::Pending;
        };
        let ready = sending.as_mut().poll(cx);
        if ready.is_ready() {
            self.sending = None;
        }
        ready
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        let Some(sending) = self.sending.take() else {
            return;
        };
        if self.streaming || !self.contain.has_room() {
            self.contain.pace(Left::Head(sending));
            return;
        }
        self.contain.read(async move {
            if let Ok(response) = sending.await {
                read_out(response.into_body()).await;
            }
        });
    }
}

/// Reads an answer for nobody.
async fn read_out(mut body: Received) {
    let mut left = READ_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        if length > left {
            return;
        }
        left -= length;
    }
}

/// The body of an answer; a caller that drops it before its end resets nothing at once.
pub(super) struct Guarded {
    inner: Option<(Received, Running)>,
    contain: Arc<Contain>,
    streaming: bool,
}

impl Guarded {
    pub(super) fn new(
        body: Received,
        running: Running,
        contain: Arc<Contain>,
        streaming: bool,
    ) -> Self {
        let inner = (!body.is_end_stream()).then_some((body, running));
        Self {
            inner,
            contain,
            streaming,
        }
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some((body, running)) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let polled = std::task::ready!(Pin::new(body).poll_frame(cx));
        let result = polled.map(|frame| frame.map_err(|error| BodyError::cut(&error)));
        match &result {
            Some(Ok(frame)) if !frame.is_trailers() => {}
            Some(Err(_)) => {
                running.endpoint.failed_call();
                self.inner = None;
            }
            _ => self.inner = None,
        }
        Poll::Ready(result)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let Some((body, running)) = self.inner.take() else {
            return;
        };
        if body.is_end_stream() {
            return;
        }
        if self.streaming || !self.contain.has_room() {
            self.contain.pace(Left::Body(body, running));
            return;
        }
        self.contain.read(async move {
            read_out(body).await;
            drop(running);
        });
    }
}
