//! Server streams over REST: one JSON message per line, server-sent events, one JSON array, or the bytes of an `HttpBody`, as `Accept` and
//! the method say. An error after the first message is the last element of the stream; none is hidden behind a clean end.
//!
//! Server-sent events carry an `id` when a message has a string field `bookmark` or `resume_token`; a client that comes back with
//! `Last-Event-ID` finds it in the request's string field `resume_token`, if there is one, and in the metadata `last-event-id`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep};
use upm_transcode::{RouteId, status::Code};

use super::shown;
use crate::{
    Body, BodyError,
    frame::Decoder,
    inbound::Fault,
    refusal::{Refusal, Upstream},
    view::View,
};

/// Messages that are ready together go out together, up to this size in bytes.
const TOGETHER: usize = 16 * 1024;

/// How messages are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `application/x-ndjson`
    Lines,
    /// `text/event-stream`
    Events,
    /// `application/json`
    Array,
}

impl Form {
    /// The first form that `Accept` names; lines when it names none.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accept = headers
            .get(header::ACCEPT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_ascii_lowercase();
        accept
            .split(',')
            .find_map(
                |part| match part.split(';').next().unwrap_or_default().trim() {
                    "application/x-ndjson" => Some(Self::Lines),
                    "text/event-stream" => Some(Self::Events),
                    "application/json" => Some(Self::Array),
                    _ => None,
                },
            )
            .unwrap_or(Self::Lines)
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
            Self::Array => "application/json",
        }
    }

    fn before(self, first: bool) -> &'static [u8] {
        match (self, first) {
            (Self::Lines, _) => b"",
            (Self::Events, _) => b"data: ",
            (Self::Array, true) => b"[",
            (Self::Array, false) => b",\n",
        }
    }

    fn after(self) -> &'static [u8] {
        match self {
            Self::Lines => b"\n",
            Self::Events => b"\n\n",
            Self::Array => b"",
        }
    }

    fn end(self, first: bool) -> &'static [u8] {
        match (self, first) {
            (Self::Array, true) => b"[]\n",
            (Self::Array, false) => b"]\n",
            (Self::Lines | Self::Events, _) => b"",
        }
    }
}

/// What a stream needs to be written.
pub(super) struct Settings {
    pub(super) view: Arc<View>,
    pub(super) route: RouteId,
    pub(super) keep_alive: Duration,
    /// Whether the caller takes trailers.
    pub(super) trailers: bool,
    /// What may become wrong with the request while the answer is under way.
    pub(super) fault: Fault,
}

impl Settings {
    /// The number of the field of a message that says where to resume.
    fn bookmark(&self) -> Option<u32> {
        let tables = &self.view.tables;
        let output = tables.method_of(tables.binding(self.route)).output();
        ["bookmark", "resume_token"]
            .iter()
            .find_map(|name| tables.string_field(output, name))
    }
}

/// Messages as JSON.
pub(super) fn serve(settings: Settings, response: Response<Body>, form: Form) -> Response<Body> {
    let bookmark = settings.bookmark().filter(|_| form == Form::Events);
    let keep_alive = (form == Form::Events).then_some(settings.keep_alive);
    let body = StreamBody {
        inner: response.into_body(),
        decoder: Decoder::default(),
        form,
        bookmark,
        keep_alive: keep_alive.map(|time| (time, Box::pin(tokio::time::sleep(time)))),
        first: true,
        trailers: None,
        ended: false,
        settings,
    };
    let mut response = Response::new(body.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(form.content_type()),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies on the way must pass each message at once.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct StreamBody {
    settings: Settings,
    inner: Body,
    decoder: Decoder,
    form: Form,
    bookmark: Option<u32>,
    keep_alive: Option<(Duration, Pin<Box<Sleep>>)>,
    first: bool,
    trailers: Option<HeaderMap>,
    ended: bool,
}

impl StreamBody {
    /// Writes all messages that are complete now.
    fn messages(&mut self, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let tables = &self.settings.view.tables;
        let options = &tables.options().json;
        while let Some(message) = self.decoder.next()? {
            let before = out.len();
            if let Some(id) = self.id(&message) {
                out.extend_from_slice(b"id: ");
                out.extend_from_slice(id.as_bytes());
                out.push(b'\n');
            }
            out.extend_from_slice(self.form.before(self.first));
            if let Err(error) = tables.decode_response(self.settings.route, &message, out, options)
            {
                tracing::error!(%error, "Could not transcode a streamed message");
                out.truncate(before);
                return Err(Refusal::broken_answer());
            }
            self.first = false;
            out.extend_from_slice(self.form.after());
        }
        Ok(())
    }

    /// Where to resume after a message, when that fits on a line.
    fn id<'m>(&self, message: &'m [u8]) -> Option<&'m str> {
        upm_mesh::wire::string_field(message, &[self.bookmark?])
            .ok()
            .flatten()
            .filter(|id| !id.is_empty() && !id.contains(['\n', '\r', '\0']))
    }

    /// The error as the last element.
    fn error(&mut self, json: &[u8], out: &mut Vec<u8>) {
        if self.form == Form::Events {
            out.extend_from_slice(b"event: error\n");
        }
        out.extend_from_slice(self.form.before(self.first));
        self.first = false;
        out.extend_from_slice(json);
        out.extend_from_slice(self.form.after());
    }

    fn end(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        self.ended = true;
        let json = refusal.to_json(&self.settings.view.tables);
        self.error(&json, out);
        out.extend_from_slice(self.form.end(self.first));
    }

    /// The stream ended with these trailers.
    fn finish(&mut self, trailers: HeaderMap, out: &mut Vec<u8>) {
        if let Some(refusal) = self.settings.fault.take() {
            return self.end(&refusal, out);
        }
        match Upstream::read(&trailers) {
            Some(status) if status.code == Code::Ok && self.decoder.is_empty() => {
                self.ended = true;
                out.extend_from_slice(self.form.end(self.first));
            }
            Some(status) if status.code != Code::Ok => {
                self.ended = true;
                let json = status.to_json(&self.settings.view.tables);
                self.error(&json, out);
                out.extend_from_slice(self.form.end(self.first));
            }
            _ => self.end(&Refusal::cut(), out),
        }
        if self.settings.trailers {
            let shown = trailers
                .iter()
                .filter(|(name, _)| shown(name))
                .map(|(name, value)| (name.clone(), value.clone()));
            self.trailers = Some(shown.collect());
        }
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((time, sleep)) = &mut self.keep_alive else {
            return false;
        };
        if sleep.as_mut().poll(cx).is_pending() {
            return false;
        }
        sleep.as_mut().reset(Instant::now() + *time);
        // Registered for the next time.
        let _ = sleep.as_mut().poll(cx);
        true
    }

    fn busy(&mut self) {
        if let Some((time, sleep)) = &mut self.keep_alive {
            sleep.as_mut().reset(Instant::now() + *time);
        }
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut out = Vec::new();
        while !this.ended && out.len() < TOGETHER {
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Pending if !out.is_empty() => break,
                Poll::Pending if this.tick(cx) => {
                    out.extend_from_slice(b":\n\n");
                    break;
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None | Some(Err(_))) => this.finish(HeaderMap::new(), &mut out),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        this.decoder.push(&data);
                        if let Err(refusal) = this.messages(&mut out) {
                            this.end(&refusal, &mut out);
                        }
                    }
                    Err(frame) => this.finish(frame.into_trailers().unwrap_or_default(), &mut out),
                },
            }
        }
        if !out.is_empty() {
            this.busy();
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
        }
        let trailers = this.trailers.take().filter(|trailers| !trailers.is_empty());
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.trailers.is_none()
    }
}

/// The bytes of `HttpBody` messages. The first says of which type they are, so it is waited for.
pub(super) async fn raw(
    settings: Settings,
    response: Response<Body>,
) -> Result<Response<Body>, Refusal> {
    let mut body = RawBody {
        settings,
        inner: response.into_body(),
        decoder: Decoder::default(),
        ended: false,
    };
    let first = body.next().await?;
    let mut response = Response::new(crate::refusal::empty());
    let (content_type, data) = first.unwrap_or_default();
    super::put_content_type(&mut response, &content_type);
    let first = futures::stream::iter([Ok(Frame::data(data))]);
    let rest = futures::stream::unfold(Some(body), |body| async {
        let mut body = body?;
        match body.next().await {
            Ok(None) => None,
            Ok(Some((_, data))) => Some((Ok(Frame::data(data)), Some(body))),
            // Bytes of another kind have no place for an error: the answer is cut, which every client notices.
            Err(refusal) => {
                let code = refusal.code();
                let text = "the stream of bytes failed".to_owned();
                Some((Err(BodyError { code, text }), None))
            }
        }
    });
    let all = futures::StreamExt::chain(first, rest);
    Ok(response.map(|_| http_body_util::StreamBody::new(all).boxed_unsync()))
}

struct RawBody {
    settings: Settings,
    inner: Body,
    decoder: Decoder,
    ended: bool,
}

impl RawBody {
    /// The content type and bytes of the next message.
    async fn next(&mut self) -> Result<Option<(String, Bytes)>, Refusal> {
        loop {
            if let Some(message) = self.decoder.next()? {
                let tables = &self.settings.view.tables;
                let found = tables
                    .response_http_body(tables.binding(self.settings.route), &message)
                    .ok_or_else(Refusal::broken_answer)?;
                let data = message.slice_ref(found.data);
                return Ok(Some((found.content_type.to_owned(), data)));
            }
            if self.ended {
                return Ok(None);
            }
            match self.inner.frame().await {
                None | Some(Err(_)) => return Err(Refusal::cut()),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.decoder.push(&data),
                    Err(frame) => {
                        self.ended = true;
                        let trailers = frame.into_trailers().unwrap_or_default();
                        let status = Upstream::read(&trailers);
                        self.settings.fault.or(match status {
                            Some(status) if status.code == Code::Ok => Ok(()),
                            Some(status) => Err(status.into_refusal()),
                            None => Err(Refusal::cut()),
                        })?;
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_from_accept() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(value));
            Form::of(&headers)
        };
        assert_eq!(of("*/*"), Form::Lines);
        assert_eq!(of("text/html, text/event-stream;q=0.9"), Form::Events);
        assert_eq!(of("application/json"), Form::Array);
        assert_eq!(Form::of(&HeaderMap::new()), Form::Lines);
    }

    #[test]
    fn an_empty_array_is_still_an_array() {
        assert_eq!(Form::Array.end(true), b"[]\n");
        assert_eq!(Form::Array.end(false), b"]\n");
    }
}
