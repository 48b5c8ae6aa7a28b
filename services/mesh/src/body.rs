//! Bodies: what bounds a request, and what watches an answer to its end.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status, body::Body};

use crate::{error::Kind, status, telemetry::rpc::Call};

/// A gRPC message begins with one byte for compression and four for its length.
pub(crate) const PREFIX: usize = 5;

/// Reads a body that must be one message of at most `max` bytes.
pub(crate) async fn collect(mut body: Body, max: usize) -> Result<Bytes, Status> {
    let mut first: Option<Bytes> = None;
    let mut joined = BytesMut::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        length += data.len();
        if length > max.saturating_add(PREFIX) {
            return Err(too_large(max));
        }
        if first.is_none() && joined.is_empty() {
            first = Some(data);
        } else {
            if let Some(first) = first.take() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&data);
        }
        let begun = first.as_deref().unwrap_or(&joined);
        if announced(begun).is_some_and(|announced| announced > max) {
            return Err(too_large(max));
        }
    }
    Ok(first.unwrap_or_else(|| joined.freeze()))
}

/// The length that a message's prefix announces.
fn announced(bytes: &[u8]) -> Option<usize> {
    let prefix: [u8; PREFIX] = bytes.get(..PREFIX)?.try_into().ok()?;
    Some(u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize)
}

/// The message in a body of one frame. An empty body is an empty message: tonic answers for it.
pub(crate) fn message(body: &[u8]) -> Result<&[u8], Status> {
    if body.is_empty() {
        return Ok(body);
    }
    let length = announced(body).ok_or_else(malformed)?;
    if body[0] != 0 {
        return Err(status::own(
            Kind::Unimplemented,
            "COMPRESSION_UNSUPPORTED",
            "compressed requests are not accepted",
        ));
    }
    let message = &body[PREFIX..];
    if message.len() == length {
        Ok(message)
    } else {
        Err(malformed())
    }
}

fn malformed() -> Status {
    status::own(
        Kind::InvalidArgument,
        "REQUEST_MALFORMED",
        "the request is not one gRPC message",
    )
}

fn too_large(max: usize) -> Status {
    status::own_with(
        Kind::ResourceExhausted,
        "REQUEST_TOO_LARGE",
        format!("a request may have at most {max} bytes"),
        &crate::Details::fact("max_bytes", max.to_string()),
    )
}

// === FrameLimit ===

/// A request stream whose messages have at most `max` bytes each.
pub(crate) struct FrameLimit {
    inner: Body,
    max: usize,
    prefix: [u8; PREFIX],
    filled: usize,
    left: usize,
}

impl FrameLimit {
    pub(crate) fn new(inner: Body, max: usize) -> Self {
        Self {
            inner,
            max,
            prefix: [0; PREFIX],
            filled: 0,
            left: 0,
        }
    }

    fn check(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            if self.left > 0 {
                let count = self.left.min(data.len());
                self.left -= count;
                data = &data[count..];
                continue;
            }
            self.prefix[self.filled] = data[0];
            self.filled += 1;
            data = &data[1..];
            if self.filled == PREFIX {
                self.filled = 0;
                self.left = announced(&self.prefix).unwrap_or(0);
                if self.left > self.max {
                    return Err(too_large(self.max));
                }
            }
        }
        Ok(())
    }
}

impl HttpBody for FrameLimit {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(match frame.data_ref() {
                Some(data) => this.check(&data.clone()).map(|()| frame),
                None => Ok(frame),
            })),
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

// === Guarded ===

/// An answer's body that is watched to its end: panics, the deadline and the end of the token become trailers, the code is
/// measured, and whatever the call holds is let go.
pub(crate) struct Guarded {
    inner: Option<Body>,
    call: Call,
    deadline: Option<Pin<Box<Sleep>>>,
    expiry: Option<Pin<Box<Sleep>>>,
    cutoff: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    held: Option<Box<dyn Send>>,
}

/// When a stream ends although neither side ended it.
#[derive(Default)]
pub(crate) struct Ends {
    /// DEADLINE_EXCEEDED.
    pub(crate) deadline: Option<Instant>,
    /// UNAUTHENTICATED `TOKEN_EXPIRED`.
    pub(crate) expiry: Option<Duration>,
    /// UNAVAILABLE `DRAINING`.
    pub(crate) cutoff: Option<CancellationToken>,
}

/// Gives the answer to the caller; `held` lives as long as its body.
pub(crate) fn guard(
    response: http::Response<Body>,
    mut call: Call,
    ends: Ends,
    held: Box<dyn Send>,
) -> http::Response<Body> {
    if let Some(code) = code_of(response.headers()) {
        call.ended(code);
        return response;
    }
    response.map(|inner| {
        Body::new(Guarded {
            inner: Some(inner),
            call,
            deadline: ends
                .deadline
                .map(|at| Box::pin(tokio::time::sleep_until(at))),
            expiry: ends.expiry.map(|after| Box::pin(tokio::time::sleep(after))),
            cutoff: ends.cutoff.map(|token| Box::pin(token.cancelled_owned())),
            held: Some(held),
        })
    })
}

/// `grpc-status`, when the headers have one.
pub(crate) fn code_of(headers: &HeaderMap) -> Option<Code> {
    headers
        .get("grpc-status")
        .map(|value| Code::from_bytes(value.as_bytes()))
}

impl Guarded {
    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.close(status.code());
        let mut trailers = HeaderMap::new();
        match status.add_header(&mut trailers) {
            Ok(()) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    fn close(&mut self, code: Code) {
        self.call.ended(code);
        self.inner = None;
        self.deadline = None;
        self.expiry = None;
        self.cutoff = None;
        self.held = None;
    }

    /// The status that ends the stream now, if any.
    fn overdue(&mut self, cx: &mut Context<'_>) -> Option<Status> {
        let is_over = |sleep: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>| {
            sleep
                .as_mut()
                .is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
        };
        if is_over(&mut self.deadline, cx) {
            return Some(deadline_exceeded());
        }
        if is_over(&mut self.expiry, cx) {
            return Some(status::own(
                Kind::Unauthenticated,
                "TOKEN_EXPIRED",
                "the token has ended; refresh it and resume the stream",
            ));
        }
        let cut = self
            .cutoff
            .as_mut()
            .is_some_and(|cutoff| cutoff.as_mut().poll(cx).is_ready());
        cut.then(|| {
            status::own(
                Kind::Unavailable,
                "DRAINING",
                "the server ends; resume the stream with another one",
            )
        })
    }
}

/// The answer to a call whose time is over.
pub(crate) fn deadline_exceeded() -> Status {
    status::own(
        Kind::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        "the time of the call is over",
    )
}

/// The answer to a call whose handler panicked.
pub(crate) fn panicked() -> Status {
    status::own(Kind::Internal, "PANIC", "internal error")
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.inner.is_none() {
            return Poll::Ready(None);
        }
        let span = this.call.span().clone();
        let _entered = span.enter();
        if let Some(status) = this.overdue(cx) {
            return this.end(&status);
        }
        let Some(inner) = this.inner.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx)));
        match polled {
            Err(_) => {
                tracing::error!(reason = "PANIC", "a stream panicked");
                this.end(&panicked())
            }
            Ok(Poll::Ready(Some(Err(status)))) => this.end(&status),
            Ok(Poll::Ready(Some(Ok(frame)))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let code = code_of(trailers).unwrap_or(Code::Unknown);
                    this.close(code);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Ok(Poll::Ready(None)) => {
                this.close(Code::Unknown);
                Poll::Ready(None)
            }
            Ok(Poll::Pending) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_none()
    }
}

/// A body that begins with a frame that was read already.
pub(crate) struct Prefixed {
    pub(crate) first: Option<Frame<Bytes>>,
    pub(crate) rest: Body,
}

impl HttpBody for Prefixed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        match this.first.take() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut this.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }
}

#[cfg(test)]
mod tests;
