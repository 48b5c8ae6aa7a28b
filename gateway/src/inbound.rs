//! The body of a request on its way in: counted, timed, and with a word for what was wrong with it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep};
use upm_transcode::status::Code;

use crate::{Body, BodyError, refusal::Refusal};

/// Why a body was cut by the gateway, for whoever answers the request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fault(Arc<Mutex<Option<Refusal>>>);

impl Fault {
    /// Notes the fault; the body error that goes to the upstream.
    pub(crate) fn set(&self, refusal: Refusal) -> BodyError {
        let error = BodyError {
            code: Code::Cancelled,
            text: "the request was refused".to_owned(),
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(refusal);
        error
    }

    pub(crate) fn take(&self) -> Option<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The fault instead of the result that followed from it.
    pub(crate) fn or<T>(&self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        match self.take() {
            Some(refusal) => Err(refusal),
            None => result,
        }
    }
}

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes altogether.
    pub(crate) bytes: Option<usize>,
    /// Time between two parts.
    pub(crate) pause: Option<Duration>,
    /// Time for all of it, however steadily it comes.
    pub(crate) total: Option<Duration>,
}

/// Keeps a body within its bounds.
pub(crate) fn bounded(body: Body, bounds: Bounds, fault: &Fault) -> Body {
    Inbound {
        inner: body,
        bounds,
        left: bounds.bytes.unwrap_or(usize::MAX),
        fault: fault.clone(),
        timer: None,
        end: bounds.total.map(|total| Instant::now() + total),
        failed: false,
    }
    .boxed_unsync()
}

struct Inbound {
    inner: Body,
    bounds: Bounds,
    left: usize,
    fault: Fault,
    /// Made when the first wait begins: most bodies come at once.
    timer: Option<Pin<Box<Sleep>>>,
    /// When all of it must be there.
    end: Option<Instant>,
    failed: bool,
}

impl Inbound {
    fn fail(&mut self, refusal: Refusal) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.failed = true;
        Poll::Ready(Some(Err(self.fault.set(refusal))))
    }

    fn late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(until) = self.until() else {
            return false;
        };
        self.timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)))
            .as_mut()
            .poll(cx)
            .is_ready()
    }

    /// Until when the next part is waited for.
    fn until(&self) -> Option<Instant> {
        let pause = self.bounds.pause.map(|pause| Instant::now() + pause);
        pause.into_iter().chain(self.end).min()
    }
}

impl http_body::Body for Inbound {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending if self.late(cx) => self.fail(Refusal::slow_body()),
            Poll::Ready(Some(Ok(frame))) => {
                let until = self.until();
                if let (Some(timer), Some(until)) = (&mut self.timer, until) {
                    timer.as_mut().reset(until);
                }
                let length = frame.data_ref().map_or(0, Bytes::len);
                if length > self.left {
                    let limit = self.bounds.bytes.unwrap_or(usize::MAX);
                    return self.fail(Refusal::too_large(limit));
                }
                self.left -= length;
                Poll::Ready(Some(Ok(frame)))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The whole of a bounded body.
pub(crate) async fn collect(body: Body, fault: &Fault) -> Result<Bytes, Refusal> {
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(_) => Err(fault
            .take()
            .unwrap_or_else(|| Refusal::malformed("the body was cut"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal;

    const BOUNDS: Bounds = Bounds {
        bytes: Some(3),
        pause: Some(Duration::from_secs(30)),
        total: Some(Duration::from_secs(100)),
    };

    #[tokio::test]
    async fn a_body_that_is_too_long_says_so() {
        let fault = Fault::default();
        let body = bounded(refusal::full("abcd"), BOUNDS, &fault);
        let refused = collect(body, &fault).await.unwrap_err();
        assert_eq!(refused.http_status(), 413);
        let body = bounded(refusal::full("abc"), BOUNDS, &fault);
        assert_eq!(collect(body, &fault).await.unwrap(), "abc");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_not_waited_for() {
        let fault = Fault::default();
        let (_sender, body) = http_body_util::channel::Channel::<Bytes, BodyError>::new(1);
        let body = bounded(body.boxed_unsync(), BOUNDS, &fault);
        let refused = collect(body, &fault).await.unwrap_err();
        assert_eq!(refused.http_status(), 408);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_ends_with_its_deadline() {
        let fault = Fault::default();
        let (mut sender, body) = http_body_util::channel::Channel::<Bytes, BodyError>::new(1);
        let dripping = async move {
            while sender.send_data(Bytes::new()).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(29)).await;
            }
        };
        let begun = Instant::now();
        let body = bounded(body.boxed_unsync(), BOUNDS, &fault);
        let (refused, ()) = tokio::join!(collect(body, &fault), dripping);
        assert_eq!(refused.unwrap_err().http_status(), 408);
        assert!(
            begun.elapsed() < Duration::from_secs(140),
            "{:?}",
            begun.elapsed()
        );
    }
}
