//! The rest of a body that nobody wants: read and thrown away, within bounds. A client that is still sending would otherwise see its connection or
//! stream cut, and some then do not look at the answer that says why.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio_util::task::TaskTracker;

use crate::{Body, BodyError};

/// How long, and how many bytes of it.
const TIME: Duration = Duration::from_secs(3);
const BYTES: usize = 16 * 1024 * 1024;

/// The body of a request; what is left of it when it is dropped is read by a task of the tracker.
pub(super) fn body(inner: Incoming, tasks: &TaskTracker) -> Body {
    if inner.is_end_stream() {
        return inner.map_err(|error| BodyError::cut(&error)).boxed_unsync();
    }
    Linger {
        inner: Some(inner),
        tasks: tasks.clone(),
    }
    .boxed_unsync()
}

struct Linger {
    /// Nothing after its end.
    inner: Option<Incoming>,
    tasks: TaskTracker,
}

impl http_body::Body for Linger {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(inner).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.inner = None;
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(|error| BodyError::cut(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Linger {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take().filter(|inner| !inner.is_end_stream()) else {
            return;
        };
        // A runtime that ends has no time for this.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.tasks.spawn_on(
                async {
                    tokio::time::timeout(TIME, rest(inner)).await.ok();
                },
                &runtime,
            );
        }
    }
}

async fn rest(mut body: Incoming) {
    let mut left = BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(less) => left = less,
            None => return,
        }
    }
}
