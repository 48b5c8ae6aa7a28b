//! gRPC: headers are rewritten, frames pass undecoded. Only a method that is routed by a field has its first message read.

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};

use crate::{
    Body, BodyError,
    dispatch::Exchange,
    forward::{self, Call, Payload},
    frame::{Decoder, PREFIX},
    inbound::{self, Bounds, Fault},
    measure::Matched,
    messages,
    refusal::Refusal,
};

/// The body of a unary call is kept for another attempt up to this size.
const REPLAY: usize = 64 * 1024;

/// Answers a gRPC call.
pub(crate) async fn serve(exchange: &Exchange<'_>, request: Request<Body>) -> Response<Body> {
    match call(exchange, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_grpc(HeaderValue::from_static("application/grpc")),
    }
}

/// Passes a call on; the body is gRPC frames.
pub(crate) async fn call(
    exchange: &Exchange<'_>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let (parts, body) = request.into_parts();
    if let Some(local) = exchange.view.answer(&parts.uri) {
        let mut request = Request::from_parts(parts, tonic::body::Body::new(body));
        request.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        return Ok(local(request)
            .await?
            .map(|body| body.map_err(|status| BodyError::of(&status)).boxed_unsync()));
    }
    let method = exchange.view.catalog.find(parts.uri.path())?.clone();
    let admitted = exchange.admit(&parts.headers, &method)?;
    let config = exchange.gateway.config();
    let fault = Fault::default();
    let bounds = Bounds {
        bytes: (!method.client_streaming).then_some(admitted.max_body + PREFIX),
        pause: (!method.client_streaming).then_some(config.body_timeout),
        total: (!method.client_streaming).then_some(config.body_deadline),
    };
    let body = inbound::bounded(body, bounds, &fault);
    let body = messages::bounded(body, &parts.headers, admitted.max_body, &fault);
    let prefix = if method.client_streaming { 0 } else { REPLAY };
    let (owner, payload) = if method.needs_message() {
        let (first, body) = peek(body, &fault).await?;
        (method.owner(&first)?, Payload::Stream(body))
    } else {
        (method.owner(&[])?, whole(body, prefix, &fault).await?)
    };
    let (headers, deadline) = forward::head(&parts.headers, exchange.address, method.timeout)?;
    let call = Call {
        method: method.clone(),
        owner,
        headers: keep_codings(headers, &parts.headers),
        payload,
        deadline,
    };
    let mut response = fault.or(forward::call(exchange.gateway, call).await)?;
    response.extensions_mut().insert(Matched(method));
    Ok(response)
}

/// Frames pass as they are, so what caller and upstream agree on about their coding passes too.
fn keep_codings(mut headers: http::HeaderMap, caller: &http::HeaderMap) -> http::HeaderMap {
    for name in [
        header::ACCEPT_ENCODING,
        header::CONTENT_TYPE,
        HeaderName::from_static("grpc-accept-encoding"),
        HeaderName::from_static("grpc-encoding"),
    ] {
        if let Some(value) = caller.get(&name)
            && !value.as_bytes().starts_with(b"application/grpc-web")
        {
            headers.insert(name, value.clone());
        }
    }
    headers
}

/// A body that is complete within `limit` bytes, or a stream of what was read and what comes.
async fn whole(mut body: Body, limit: usize, fault: &Fault) -> Result<Payload, Refusal> {
    if limit == 0 || body.size_hint().lower() > limit as u64 {
        return Ok(Payload::Stream(body));
    }
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    loop {
        let data = match body.frame().await {
            None if more.is_empty() => return Ok(Payload::Whole(first)),
            None => return Ok(Payload::Whole(more.freeze())),
            Some(Err(_)) => return Err(cut(fault)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                // Requests of gRPC have no trailers.
                Err(_) => continue,
            },
        };
        if first.is_empty() && more.is_empty() {
            first = data;
        } else {
            if more.is_empty() {
                more.extend_from_slice(&first);
            }
            more.extend_from_slice(&data);
        }
        if first.len().max(more.len()) > limit {
            let read = if more.is_empty() {
                first
            } else {
                more.freeze()
            };
            let rest = http_body_util::BodyStream::new(body);
            let read = stream::iter([Ok(Frame::data(read))]);
            let all = futures::StreamExt::chain(read, rest);
            return Ok(Payload::Stream(StreamBody::new(all).boxed_unsync()));
        }
        if body.is_end_stream() {
            let read = if more.is_empty() {
                first
            } else {
                more.freeze()
            };
            return Ok(Payload::Whole(read));
        }
    }
}

fn cut(fault: &Fault) -> Refusal {
    fault
        .take()
        .unwrap_or_else(|| Refusal::malformed("the request was cut"))
}

/// Reads the first message and gives it back with a body that has everything, that message too.
async fn peek(mut body: Body, fault: &Fault) -> Result<(Bytes, Body), Refusal> {
    let mut decoder = Decoder::default();
    let mut read: Vec<Result<Frame<Bytes>, BodyError>> = Vec::new();
    loop {
        let frame = match body.frame().await {
            None => return Err(Refusal::malformed("the request has no message")),
            Some(Err(_)) => return Err(cut(fault)),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            decoder.push(data);
        }
        read.push(Ok(frame));
        if let Some(first) = decoder.next()? {
            let rest = http_body_util::BodyStream::new(body);
            let whole = futures::StreamExt::chain(stream::iter(read), rest);
            return Ok((first, StreamBody::new(whole).boxed_unsync()));
        }
    }
}
