//! The answer of an upstream, made dependable: it ends with trailers that hold a status, whatever happens, and not after its deadline.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep};
use upm_transcode::status::Code;

use crate::{
    Body, BodyError,
    refusal::{self, Refusal, Upstream},
};

/// Guards the body of an answer. An answer that has its status in the headers has no body.
pub(crate) fn guard(response: Response<Body>, deadline: Option<Instant>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if parts.headers.contains_key("grpc-status") {
        if is_late(&parts.headers, deadline) {
            merge(&mut parts.headers, Refusal::deadline().trailers());
        }
        return Response::from_parts(parts, refusal::empty());
    }
    if !parts.status.is_success() {
        // Not gRPC at all: a proxy on the way, or a server of another kind.
        let code = Code::from_http_status(parts.status.as_u16());
        let refusal = Refusal::foreign(code);
        parts.status = http::StatusCode::OK;
        parts.headers = refusal.trailers();
        return Response::from_parts(parts, refusal::empty());
    }
    let body = Answer {
        inner: body,
        at: deadline,
        deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
        ended: false,
    };
    Response::from_parts(parts, body.boxed_unsync())
}

/// Some servers (tonic is one) say CANCELLED when the deadline that they were told has passed. Nobody cancelled: it is the deadline.
fn is_late(status: &HeaderMap, deadline: Option<Instant>) -> bool {
    /// Timers of two processes differ by so much.
    const ABOUT: Duration = Duration::from_millis(20);
    deadline.is_some_and(|at| Instant::now() + ABOUT >= at)
        && Upstream::read(status).is_some_and(|status| status.code == Code::Cancelled)
}

struct Answer {
    inner: Body,
    at: Option<Instant>,
    deadline: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Answer {
    fn end(&mut self, refusal: &Refusal) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ended = true;
        // Nothing more is read: the upstream may stop.
        self.inner = refusal::empty();
        Poll::Ready(Some(Ok(Frame::trailers(refusal.trailers()))))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => {
                let late = self
                    .deadline
                    .as_mut()
                    .is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready());
                if late {
                    return self.end(&Refusal::deadline());
                }
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => {
                if frame.is_data() {
                    return Poll::Ready(Some(Ok(frame)));
                }
                self.ended = true;
                let mut trailers = frame.into_trailers().unwrap_or_default();
                if !trailers.contains_key("grpc-status") {
                    merge(&mut trailers, Refusal::cut().trailers());
                } else if is_late(&trailers, self.at) {
                    merge(&mut trailers, Refusal::deadline().trailers());
                }
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "An answer was cut");
                let refusal = match error.code {
                    Code::DeadlineExceeded => Refusal::deadline(),
                    _ => Refusal::cut(),
                };
                self.end(&refusal)
            }
            // A stream that ends without trailers was cut; the caller must not take it for a success.
            Poll::Ready(None) => self.end(&Refusal::cut()),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

fn merge(into: &mut HeaderMap, more: HeaderMap) {
    for (name, value) in more {
        if let Some(name) = name {
            into.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    async fn ends(body: Body, deadline: Option<Instant>) -> HeaderMap {
        let answer = guard(Response::new(body), deadline);
        let collected = answer.into_body().collect().await.unwrap();
        collected.trailers().unwrap().clone()
    }

    #[tokio::test]
    async fn an_answer_without_trailers_is_no_success() {
        assert_eq!(ends(refusal::full("x"), None).await["grpc-status"], "14");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_at_its_deadline() {
        let (_sender, body) = http_body_util::channel::Channel::<Bytes, BodyError>::new(1);
        let at = Instant::now() + Duration::from_secs(1);
        assert_eq!(
            ends(body.boxed_unsync(), Some(at)).await["grpc-status"],
            "4"
        );
    }

    #[tokio::test]
    async fn a_server_that_cancels_at_the_deadline_means_the_deadline() {
        let cancelled = |at| {
            let mut response = Response::new(refusal::empty());
            response
                .headers_mut()
                .insert("grpc-status", HeaderValue::from_static("1"));
            guard(response, Some(at)).headers()["grpc-status"].clone()
        };
        let now = Instant::now();
        assert_eq!(cancelled(now), "4");
        assert_eq!(cancelled(now + Duration::from_mins(1)), "1");
    }

    #[tokio::test]
    async fn trailers_with_a_status_stay_as_they_are() {
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("5"),
        )]);
        let frames = [
            Ok(Frame::data(Bytes::from("x"))),
            Ok(Frame::trailers(trailers.clone())),
        ];
        let body = http_body_util::StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
        assert_eq!(ends(body, None).await, trailers);
    }

    #[tokio::test]
    async fn a_status_of_no_known_number_stays_what_it_is() {
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("142"),
        )]);
        let frames = [Ok(Frame::trailers(trailers.clone()))];
        let body = http_body_util::StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
        assert_eq!(ends(body, None).await, trailers);
        assert_eq!(Upstream::read(&trailers).unwrap().code, Code::Unknown);
    }

    #[tokio::test]
    async fn an_answer_that_is_no_grpc_becomes_a_status() {
        let mut response = Response::new(refusal::full("<html>secret</html>"));
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        let response = guard(response, None);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert!(
            response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .is_empty()
        );
    }
}
