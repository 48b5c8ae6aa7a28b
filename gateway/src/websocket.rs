//! WebSockets: one JSON message in each frame, both ways, for every kind of stream.
//!
//! The path is that of the method's HTTP rule, or its gRPC path `/package.Service/Method` for methods that have none. Path and query
//! belong to the first message. An empty text frame ends the client's side; the server's end is a close frame: 1000 after OK, else
//! `4000 + code` after a frame with the error. A browser, which cannot set headers, sends its token as the subprotocol
//! `bearer.<token>` beside `json`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use upm_transcode::{JsonOptions, MessageId, RouteId, status::Code};

use crate::{
    Body, BodyError, catalog,
    dispatch::Exchange,
    forward::{self, Call, Payload},
    frame::{self, Decoder},
    gateway::Gateway,
    inbound::Fault,
    measure::Matched,
    refusal::{self, Refusal, Upstream},
    rest,
    view::View,
};

/// Messages of the client that wait for the upstream.
const WAITING: usize = 16;
/// A client that answers no ping for so many of them is gone.
const SILENT: u32 = 3;
/// What is told of an error at most, in bytes: a close frame has room for 123.
const REASON: usize = 100;

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Whether a request asks for a WebSocket: by an upgrade (RFC 6455), or over HTTP/2 by an extended CONNECT (RFC 8441).
pub(crate) fn is_asked_for<B>(request: &Request<B>) -> bool {
    if request.method() == Method::CONNECT {
        return request
            .extensions()
            .get::<Protocol>()
            .is_some_and(|protocol| protocol.as_str() == "websocket");
    }
    let has = |name: header::HeaderName, word: &str| {
        request
            .headers()
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
}

/// Where the messages of a socket go.
struct Talk {
    gateway: Gateway,
    view: Arc<View>,
    method: Arc<catalog::Method>,
    target: Target,
    headers: HeaderMap,
    deadline: Option<tokio::time::Instant>,
}

enum Target {
    /// By an HTTP rule; here is the path with the query, which the first message needs.
    Route(RouteId, http::uri::PathAndQuery, Method),
    /// By the gRPC path.
    Method(MessageId, MessageId),
}

/// Opens a socket.
pub(crate) fn serve(
    exchange: &Exchange<'_>,
    mut request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (mut parts, _) = request.into_parts();
    same_origin(exchange, &parts.headers, &parts.uri)?;
    let accept = if parts.method == Method::CONNECT {
        None
    } else {
        Some(accept(&parts.headers)?)
    };
    let (chosen, token) = protocols(&parts.headers);
    if let Some(token) = token {
        parts.headers.insert(header::AUTHORIZATION, token);
    }
    let (method, target) = target(&exchange.view, &parts.uri)?;
    // A token is shown with the request for the socket, before anything is read from it.
    let admitted = exchange.admit(&parts.headers, &method)?;
    let place = exchange
        .gateway
        .shared()
        .protection
        .place(exchange.address)?;
    let (headers, deadline) = forward::head(&parts.headers, exchange.address, method.timeout)?;
    let talk = Talk {
        gateway: exchange.gateway.clone(),
        view: exchange.view.clone(),
        method: method.clone(),
        target,
        headers,
        deadline,
    };
    exchange.gateway.tasks().spawn(async move {
        match upgrade.await {
            Ok(upgraded) => talk.over(TokioIo::new(upgraded)).await,
            Err(error) => tracing::debug!(%error, "A WebSocket was not opened"),
        }
        drop((admitted, place));
    });
    let mut response = Response::new(refusal::empty());
    let out = response.headers_mut();
    if let Some(accept) = accept {
        out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        out.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        out.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    }
    let out = response.headers_mut();
    if chosen {
        out.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static("json"),
        );
    }
    response.extensions_mut().insert(Matched(method));
    response.extensions_mut().insert(Code::Ok);
    Ok(response)
}

/// What proves to the client that its key was understood.
fn accept(headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let version = headers.get(header::SEC_WEBSOCKET_VERSION);
    headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|_| version.is_some_and(|version| version == "13"))
        .and_then(|key| HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok())
        .ok_or_else(|| Refusal::malformed("a WebSocket needs a key and version 13"))
}

/// A page of another origin may open a socket only where it may call.
fn same_origin(
    exchange: &Exchange<'_>,
    headers: &HeaderMap,
    uri: &http::Uri,
) -> Result<(), Refusal> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    // HTTP/2 has the host in the URI.
    let host = uri.authority().map(http::uri::Authority::as_str).or(headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok()));
    let same = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .is_some_and(|(_, origin)| Some(origin) == host);
    if same || crate::cors::origin(exchange.gateway.config(), headers).is_some() {
        return Ok(());
    }
    Err(Refusal::foreign_origin())
}

/// Whether `json` is offered, and the token.
fn protocols(headers: &HeaderMap) -> (bool, Option<HeaderValue>) {
    let (mut json, mut token) = (false, None);
    for offered in headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        match offered.trim().split_once("bearer.") {
            Some(("", bearer)) => token = HeaderValue::from_str(&format!("Bearer {bearer}")).ok(),
            _ => json |= offered.trim() == "json",
        }
    }
    (json, token)
}

fn target(view: &View, uri: &http::Uri) -> Result<(Arc<catalog::Method>, Target), Refusal> {
    if let Some(table) = view.tables.method(uri.path()) {
        let method = view
            .catalog
            .find(table.path())
            .map_err(|_| Refusal::unknown_path())?;
        let target = Target::Method(table.input(), table.output());
        return Ok((method.clone(), target));
    }
    let (verb, matched) = match rest::route(view, &Method::GET, uri.path()) {
        Ok(matched) => (Method::GET, matched),
        Err(_) => (Method::POST, rest::route(view, &Method::POST, uri.path())?),
    };
    let method = view
        .catalog
        .find(matched.method().path())
        .map_err(|_| Refusal::unknown_path())?;
    let path = uri
        .path_and_query()
        .cloned()
        .ok_or_else(Refusal::unknown_path)?;
    Ok((method.clone(), Target::Route(matched.id(), path, verb)))
}

impl Talk {
    /// Carries messages until both sides have ended.
    async fn over(self, io: TokioIo<hyper::upgrade::Upgraded>) {
        let config = self.gateway.config();
        let limits = WebSocketConfig::default()
            .max_message_size(Some(config.max_body_bytes))
            .max_frame_size(Some(config.max_body_bytes))
            .max_write_buffer_size(config.max_body_bytes * 2 + 256 * 1024);
        let keep_alive = config.keep_alive;
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits)).await;
        let (mut sink, mut source) = socket.split();
        let fault = Fault::default();
        let (sender, messages) = mpsc::channel(WAITING);
        let (alive, heard) = mpsc::channel(1);
        // The reader lives for as long as the writer: a client that has ended its side still answers pings.
        let reader = self.read(&mut source, sender, &fault, alive);
        let ending = self.gateway.ending().clone();
        let writer = async {
            tokio::select! {
                end = self.write(&mut sink, messages, &fault, heard, keep_alive) => end,
                () = ending.cancelled() => Some((CloseCode::Away, "the gateway ends".to_owned())),
            }
        };
        let mut reader = Box::pin(reader);
        let mut writer = Box::pin(writer);
        let end = tokio::select! {
            () = &mut reader => None,
            end = &mut writer => end,
        };
        drop((reader, writer));
        let close = end.map(|(code, reason)| CloseFrame {
            code,
            reason: reason.into(),
        });
        // A client that takes nothing any more is not waited for.
        let goodbye = async {
            sink.send(Message::Close(close)).await.ok();
            sink.close().await.ok();
        };
        if tokio::time::timeout(Duration::from_secs(5), goodbye)
            .await
            .is_err()
        {
            tracing::debug!("A WebSocket did not close in time");
        }
    }

    /// Reads frames into messages until the client is gone.
    async fn read(
        &self,
        source: &mut stream::SplitStream<Socket>,
        sender: mpsc::Sender<Result<Bytes, BodyError>>,
        fault: &Fault,
        alive: mpsc::Sender<()>,
    ) {
        let mut sender = Some(sender);
        let mut first = true;
        // A method whose requests do not stream may have all of its request in the path.
        if !self.method.client_streaming
            && let Target::Route(_, _, Method::GET) = self.target
        {
            let message = self.encode(b"", true).map_err(|refusal| fault.set(refusal));
            if let Some(sender) = sender.take() {
                sender.send(message).await.ok();
            }
        }
        loop {
            let frame = match source.next().await {
                None | Some(Err(_) | Ok(Message::Close(_))) => return,
                Some(Ok(frame)) => frame,
            };
            alive.try_send(()).ok();
            let data = match frame {
                Message::Text(text) => Bytes::from(text),
                Message::Binary(data) => data,
                _ => continue,
            };
            if data.is_empty() {
                sender = None;
                continue;
            }
            let message = self
                .encode(&data, first)
                .map_err(|refusal| fault.set(refusal));
            first = false;
            let failed = message.is_err();
            if let Some(open) = &sender
                && open.send(message).await.is_err()
            {
                sender = None;
            }
            if failed || !self.method.client_streaming {
                sender = None;
            }
        }
    }

    fn encode(&self, json: &[u8], first: bool) -> Result<Bytes, Refusal> {
        let mut message = frame::open(json.len() + 64);
        let tables = &self.view.tables;
        match &self.target {
            Target::Route(_, path, verb) if first => {
                let matched = rest::route(&self.view, verb, path.path())?;
                matched
                    .encode_request(path.query(), json, &mut message)
                    .map_err(|error| Refusal::bind(&error))?;
            }
            Target::Route(route, ..) => tables
                .encode_next(*route, json, &mut message)
                .map_err(|error| Refusal::bind(&error))?,
            Target::Method(input, _) => tables
                .json_to_wire(*input, json, &mut message)
                .map_err(|error| Refusal::malformed(error.to_string()))?,
        }
        Ok(frame::seal(message))
    }

    /// Makes the call and writes its answer; the end is what the close frame says.
    async fn write(
        &self,
        sink: &mut stream::SplitSink<Socket, Message>,
        mut messages: mpsc::Receiver<Result<Bytes, BodyError>>,
        fault: &Fault,
        mut heard: mpsc::Receiver<()>,
        keep_alive: Duration,
    ) -> Option<(CloseCode, String)> {
        let first = tokio::select! {
            first = messages.recv() => first,
            () = pinged(sink, &mut heard, keep_alive) => return None,
            // Who opens a socket has something to say.
            () = tokio::time::sleep(self.gateway.config().body_timeout) => {
                return self.failed(sink, &Refusal::slow_body()).await;
            }
        };
        let called = match self.payload(first, messages) {
            Ok((owner, payload)) => {
                let call = Call {
                    method: self.method.clone(),
                    owner,
                    headers: self.headers.clone(),
                    payload,
                    deadline: self.deadline,
                };
                forward::call(&self.gateway, call).await
            }
            Err(refusal) => Err(refusal),
        };
        let response = match fault.or(called) {
            Ok(response) => response,
            Err(refusal) => return self.failed(sink, &refusal).await,
        };
        if let Some(status) = Upstream::read(response.headers()) {
            return self.ended(sink, status).await;
        }
        let mut body = response.into_body();
        let mut decoder = Decoder::default();
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = pinged(sink, &mut heard, keep_alive) => return None,
            };
            let refused = match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => {
                    decoder.push(&data);
                    match self.send(sink, &mut decoder).await {
                        Ok(true) => continue,
                        Ok(false) => return None,
                        Err(refusal) => refusal,
                    }
                }
                Some(Ok(Err(trailers))) => {
                    let trailers = trailers.into_trailers().unwrap_or_default();
                    match (fault.take(), Upstream::read(&trailers)) {
                        (Some(refusal), _) => refusal,
                        (None, Some(status)) => return self.ended(sink, status).await,
                        (None, None) => Refusal::cut(),
                    }
                }
                None | Some(Err(_)) => fault.take().unwrap_or_else(Refusal::cut),
            };
            return self.failed(sink, &refused).await;
        }
    }

    fn payload(
        &self,
        first: Option<Result<Bytes, BodyError>>,
        messages: mpsc::Receiver<Result<Bytes, BodyError>>,
    ) -> Result<(Arc<str>, Payload), Refusal> {
        let first = match first {
            None => return Ok((self.method.owner(&[])?, Payload::Whole(Bytes::new()))),
            Some(Err(_)) => return Err(Refusal::malformed("the first message is refused")),
            Some(Ok(first)) => first,
        };
        let owner = self.method.owner(&first[frame::PREFIX..])?;
        if !self.method.client_streaming {
            return Ok((owner, Payload::Whole(first)));
        }
        let rest = stream::unfold(messages, |mut messages| async {
            Some((messages.recv().await?.map(Frame::data), messages))
        });
        let all = stream::iter([Ok(Frame::data(first))]).chain(rest);
        Ok((owner, Payload::Stream(StreamBody::new(all).boxed_unsync())))
    }

    /// Sends all complete messages; false when the client is gone.
    async fn send(
        &self,
        sink: &mut stream::SplitSink<Socket, Message>,
        decoder: &mut Decoder,
    ) -> Result<bool, Refusal> {
        while let Some(message) = decoder.next()? {
            let mut json = Vec::with_capacity(message.len() * 2);
            let tables = &self.view.tables;
            let options: &JsonOptions = &tables.options().json;
            match &self.target {
                Target::Route(route, ..) => {
                    tables.decode_response(*route, &message, &mut json, options)
                }
                Target::Method(_, output) => {
                    tables.wire_to_json(*output, &message, &mut json, options)
                }
            }
            .map_err(|error| {
                tracing::error!(%error, "Could not transcode a message");
                Refusal::broken_answer()
            })?;
            if sink.send(text(json)).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn ended(
        &self,
        sink: &mut stream::SplitSink<Socket, Message>,
        status: Upstream,
    ) -> Option<(CloseCode, String)> {
        if status.code == Code::Ok {
            return Some((CloseCode::Normal, String::new()));
        }
        self.failed(sink, &status.into_refusal()).await
    }

    async fn failed(
        &self,
        sink: &mut stream::SplitSink<Socket, Message>,
        refusal: &Refusal,
    ) -> Option<(CloseCode, String)> {
        let json = refusal.to_json(&self.view.tables);
        sink.send(text(json)).await.ok()?;
        let code = refusal.code();
        let mut reason = code.name().to_owned();
        reason.truncate(REASON);
        Some((CloseCode::Library(4000 + code.number() as u16), reason))
    }
}

fn text(json: Vec<u8>) -> Message {
    match String::from_utf8(json) {
        Ok(text) => Message::text(text),
        // JSON that we wrote is UTF-8.
        Err(error) => Message::binary(error.into_bytes()),
    }
}

/// Pings an idle client; ends when it is gone.
async fn pinged(
    sink: &mut stream::SplitSink<Socket, Message>,
    heard: &mut mpsc::Receiver<()>,
    keep_alive: Duration,
) {
    let mut silent = 0;
    loop {
        match tokio::time::timeout(keep_alive, heard.recv()).await {
            Ok(Some(())) => silent = 0,
            // The reader is gone, and with it the socket.
            Ok(None) => std::future::pending().await,
            Err(_) => {
                silent += 1;
                if silent > SILENT || sink.send(Message::Ping(Bytes::new())).await.is_err() {
                    return;
                }
            }
        }
    }
}
