//! gRPC-Web: gRPC in a body that browsers can read. Trailers become a last frame with flag 0x80; the text form is base64.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::BodyExt as _;

use crate::{
    Body, BodyError,
    dispatch::Exchange,
    frame::PREFIX,
    inbound::{self, Bounds, Fault},
    passthrough, refusal,
};

/// Which form the caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `application/grpc-web[+proto]`
    Binary,
    /// `application/grpc-web-text[+proto]`
    Text,
}

impl Form {
    /// Of a content type without parameters.
    pub(crate) fn of(content_type: &str) -> Option<Self> {
        match content_type {
            "application/grpc-web" | "application/grpc-web+proto" => Some(Self::Binary),
            "application/grpc-web-text" | "application/grpc-web-text+proto" => Some(Self::Text),
            _ => None,
        }
    }

    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Binary => "application/grpc-web+proto",
            Self::Text => "application/grpc-web-text+proto",
        })
    }
}

/// Answers a gRPC-Web call.
pub(crate) async fn serve(
    exchange: &Exchange<'_>,
    request: Request<Body>,
    form: Form,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let config = exchange.gateway.config();
    let bounds = Bounds {
        // Base64 of the largest message with its prefix.
        bytes: Some((config.max_body_bytes + PREFIX).div_ceil(3) * 4 + 4),
        pause: Some(config.body_timeout),
        total: Some(config.body_deadline),
    };
    let body = match form {
        Form::Binary => body,
        Form::Text => match decode(body, bounds).await {
            Ok(body) => body,
            Err(refusal) => return refusal.into_grpc(form.content_type()),
        },
    };
    match passthrough::call(exchange, Request::from_parts(parts, body)).await {
        Ok(response) => wrap(response, form),
        Err(refusal) => refusal.into_grpc(form.content_type()),
    }
}

/// A browser sends the whole body at once, so decoding needs no stream; each frame may be padded by itself.
async fn decode(body: Body, bounds: Bounds) -> Result<Body, refusal::Refusal> {
    let fault = Fault::default();
    let text = inbound::collect(inbound::bounded(body, bounds, &fault), &fault).await?;
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3);
    let mut rest = &text[..];
    while !rest.is_empty() {
        let end = rest
            .windows(2)
            .position(|pair| pair[0] == b'=' && pair[1] != b'=')
            .map_or(rest.len(), |at| at + 1);
        let (chunk, tail) = rest.split_at(end);
        STANDARD
            .decode_vec(chunk, &mut decoded)
            .map_err(|_| refusal::Refusal::malformed("the body is not base64"))?;
        rest = tail;
    }
    Ok(refusal::full(decoded))
}

fn wrap(response: Response<Body>, form: Form) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    parts
        .headers
        .insert(header::CONTENT_TYPE, form.content_type());
    parts.headers.remove(header::TRAILER);
    // A trailers-only answer has its status in the headers: an empty trailer frame would hide it from some clients.
    if parts.headers.contains_key("grpc-status") {
        return Response::from_parts(parts, refusal::empty());
    }
    let body = WebBody {
        inner: body,
        form,
        carry: BytesMut::new(),
        ended: false,
    };
    Response::from_parts(parts, body.boxed_unsync())
}

/// Turns frames with trailers into frames of data only.
struct WebBody {
    inner: Body,
    form: Form,
    /// Bytes that did not fill a group of three.
    carry: BytesMut,
    ended: bool,
}

impl WebBody {
    fn encode(&mut self, data: Bytes, last: bool) -> Bytes {
        if self.form == Form::Binary {
            return data;
        }
        self.carry.extend_from_slice(&data);
        let whole = if last {
            self.carry.len()
        } else {
            self.carry.len() / 3 * 3
        };
        Bytes::from(STANDARD.encode(self.carry.split_to(whole)))
    }
}

impl http_body::Body for WebBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => frame,
                // A stream that ends without trailers was cut; the caller must not take it for a success.
                None => {
                    self.ended = true;
                    let trailers = HeaderMap::from_iter([(
                        http::HeaderName::from_static("grpc-status"),
                        HeaderValue::from_static("14"),
                    )]);
                    let data = self.encode(trailer_frame(&trailers), true);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            };
            let data = match frame.into_data() {
                Ok(data) => self.encode(data, false),
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    self.ended = true;
                    self.encode(trailer_frame(&trailers), true)
                }
            };
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

fn trailer_frame(trailers: &HeaderMap) -> Bytes {
    let mut text = Vec::new();
    for (name, value) in trailers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    let mut frame = BytesMut::with_capacity(text.len() + 5);
    frame.put_u8(0x80);
    frame.put_u32(text.len() as u32);
    frame.extend_from_slice(&text);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        bytes: Some(100),
        pause: None,
        total: None,
    };

    #[test]
    fn the_form_follows_from_the_content_type() {
        assert_eq!(Form::of("application/grpc-web+proto"), Some(Form::Binary));
        assert_eq!(Form::of("application/grpc-web-text"), Some(Form::Text));
        assert_eq!(Form::of("application/grpc"), None);
    }

    #[tokio::test]
    async fn text_that_is_padded_in_the_middle_is_read() {
        let text = format!("{}{}", STANDARD.encode(b"a"), STANDARD.encode(b"bc"));
        let body = decode(refusal::full(text), BOUNDS).await.unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
    }

    #[test]
    fn trailers_are_one_frame_in_lower_case() {
        let trailers = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static("0"),
        )]);
        assert_eq!(
            &trailer_frame(&trailers)[..],
            b"\x80\0\0\0\x10grpc-status: 0\r\n"
        );
    }
}
