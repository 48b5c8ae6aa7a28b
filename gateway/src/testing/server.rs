//! The server: tonic, with messages as JSON values.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Buf as _, BufMut as _};
use futures::{Stream, StreamExt as _, stream};
use prost_reflect::{DynamicMessage, MessageDescriptor, prost::Message as _};
use serde_json::{Value, json};
use tonic::{
    Request, Response, Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::NamedService,
};

use super::api::{descriptor_set, pool};

type Answers = Pin<Box<dyn Stream<Item = Result<Value, Status>> + Send>>;

/// A server with a runtime of its own, so that it can die at once with all its connections.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    runtime: Option<tokio::runtime::Runtime>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    serving: Option<tokio::task::JoinHandle<()>>,
    health: tonic_health::server::HealthReporter,
}

/// What tests look at.
#[derive(Default)]
pub(crate) struct State {
    name: String,
    pub(crate) calls: AtomicUsize,
    /// Streams that run now.
    pub(crate) streams: AtomicUsize,
    /// Connections that were accepted.
    pub(crate) connections: AtomicUsize,
    /// `Behave` and `Change` say UNAVAILABLE.
    pub(crate) failing: AtomicBool,
    failed: Mutex<HashMap<String, i64>>,
    /// What was created, by name.
    notes: Mutex<BTreeMap<String, Value>>,
}

impl Server {
    pub(crate) fn start(name: &str) -> Self {
        Self::at(name, "127.0.0.1:0".parse().unwrap())
    }

    /// One that says of itself how it is, by `grpc.health.v1`.
    pub(crate) fn with_health(name: &str) -> Self {
        Self::serve(name, "127.0.0.1:0".parse().unwrap(), true)
    }

    /// At an address that is free again.
    pub(crate) fn at(name: &str, address: SocketAddr) -> Self {
        Self::serve(name, address, false)
    }

    fn serve(name: &str, address: SocketAddr, health: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let state = Arc::new(State {
            name: name.to_owned(),
            ..State::default()
        });
        let listener = {
            let _inside = runtime.enter();
            listen(address)
        };
        let address = listener.local_addr().unwrap();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptor_set())
            .build_v1()
            .unwrap();
        let echo = Echo {
            state: state.clone(),
        };
        let (reporter, service) = tonic_health::server::health_reporter();
        let (end, ended) = tokio::sync::oneshot::channel();
        let counted = state.clone();
        let accepted =
            tokio_stream::wrappers::TcpListenerStream::new(listener).inspect(move |_| {
                counted.connections.fetch_add(1, Ordering::SeqCst);
            });
        let serving = tonic::transport::Server::builder()
            .add_service(echo)
            .add_service(reflection)
            .add_optional_service(health.then_some(service))
            .serve_with_incoming_shutdown(accepted, async {
                ended.await.ok();
            });
        let serving = runtime.spawn(async move {
            serving.await.ok();
        });
        Self {
            address,
            state,
            runtime: Some(runtime),
            end: Some(end),
            serving: Some(serving),
            health: reporter,
        }
    }

    /// Ends with a GOAWAY, like a rolling restart, once its calls have ended.
    pub(crate) async fn stop(&mut self) {
        self.end.take();
        if let Some(serving) = self.serving.take() {
            serving.await.ok();
        }
    }

    /// Ends without a word.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// What it says of itself from now on.
    pub(crate) async fn say_serving(&self, serving: bool) {
        let status = if serving {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        self.health.set_service_status("", status).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whoever had the address before may still be about to leave it.
fn listen(address: SocketAddr) -> tokio::net::TcpListener {
    for _ in 0..12_000 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        if socket.bind(address).is_ok()
            && let Ok(listener) = socket.listen(1024)
        {
            return listener;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{address} is not free");
}

#[derive(Clone)]
struct Echo {
    state: Arc<State>,
}

impl NamedService for Echo {
    const NAME: &'static str = "demo.echo.Echo";
}

impl tower::Service<http::Request<tonic::body::Body>> for Echo {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let state = self.state.clone();
        Box::pin(async move {
            let name = request.uri().path().rsplit('/').next().unwrap().to_owned();
            let service = pool().get_service_by_name("demo.echo.Echo").unwrap();
            let Some(method) = service.methods().find(|method| method.name() == name) else {
                return Ok(Status::unimplemented("no such method").into_http());
            };
            let codec = Json {
                encode: method.output(),
                decode: method.input(),
            };
            let handler = tower::service_fn(move |request: Request<Streaming<Value>>| {
                let (state, name) = (state.clone(), name.clone());
                async move { state.answer(&name, request).await }
            });
            // What is too large is for the gateway to say.
            Ok(tonic::server::Grpc::new(codec)
                .apply_max_message_size_config(Some(64 * 1024 * 1024), None)
                .streaming(handler, request)
                .await)
        })
    }
}

/// A stream that is counted while it runs.
struct Counted(Arc<State>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::SeqCst);
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// 64-bit numbers are strings in JSON.
fn number(value: &Value, field: &str) -> i64 {
    let value = &value[field];
    value
        .as_i64()
        .or_else(|| value.as_str()?.parse().ok())
        .unwrap_or_default()
}

fn one(value: Value) -> Response<Answers> {
    Response::new(Box::pin(stream::iter([Ok(value)])))
}

impl State {
    async fn answer(
        self: Arc<Self>,
        method: &str,
        request: Request<Streaming<Value>>,
    ) -> Result<Response<Answers>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let metadata = request.metadata().clone();
        let mut messages = request.into_inner();
        match method {
            "TalkNotes" | "Chat" => return Ok(self.talk(messages)),
            "CollectNotes" | "UploadParts" => return collect(messages).await.map(one),
            _ => {}
        }
        let request = messages.message().await?.unwrap_or_default();
        match method {
            "GetNote" if text(&request, "name") == "notes/none" => {
                Err(Status::not_found("there is no such note"))
            }
            "GetNote" => {
                let mut response = one(
                    json!({"name": request["name"], "title": "a title", "size": "9007199254740993"}),
                );
                response
                    .metadata_mut()
                    .insert("x-served-by", self.name.parse().unwrap());
                Ok(response)
            }
            "CreateNote" => {
                let mut note = request["note"].clone();
                let name = format!("notes/{}", text(&request, "noteId"));
                note["name"] = name.clone().into();
                self.notes.lock().unwrap().insert(name, note.clone());
                Ok(one(note))
            }
            "ListNotes" => self.list(&request).map(one),
            "WatchNotes" => Ok(self.watch(&request)),
            "Download" => Ok(one(part(&request, 0))),
            "DownloadParts" => {
                let parts: Vec<_> = (0..3).map(|index| Ok(part(&request, index))).collect();
                Ok(Response::new(Box::pin(stream::iter(parts))))
            }
            "Upload" => Ok(one(uploaded(&[request]))),
            "Mirror" => Ok(one(request)),
            "Behave" | "Change" if self.failing.load(Ordering::SeqCst) => {
                Err(Status::unavailable("not now"))
            }
            "Behave" | "Change" => self.behave(&request, &metadata).await.map(one),
            _ => Err(Status::unimplemented("no such method")),
        }
    }

    /// A page of what was created; the token is how many were shown already.
    fn list(&self, request: &Value) -> Result<Value, Status> {
        let shown: usize = match text(request, "pageToken").as_str() {
            "" => 0,
            token => token
                .parse()
                .map_err(|_| Status::invalid_argument("page_token is none of ours"))?,
        };
        let size = match number(request, "pageSize") {
            0 => 50,
            size => usize::try_from(size)
                .map_err(|_| Status::invalid_argument("page_size is negative"))?,
        };
        let notes = self.notes.lock().unwrap();
        let page: Vec<_> = notes.values().skip(shown).take(size).cloned().collect();
        let next = match shown + page.len() {
            all if all == notes.len() => String::new(),
            more => more.to_string(),
        };
        Ok(json!({"notes": page, "nextPageToken": next}))
    }

    fn talk(self: Arc<Self>, messages: Streaming<Value>) -> Response<Answers> {
        self.streams.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(self);
        Response::new(Box::pin(messages.map(move |message| {
            let _ = &counted;
            let mut message = message?;
            if message["title"] == "fail" {
                return Err(Status::aborted("the talk is over"));
            }
            let title = format!("re: {}", text(&message, "title"));
            message["title"] = title.into();
            Ok(message)
        })))
    }

    fn watch(self: Arc<Self>, request: &Value) -> Response<Answers> {
        let (count, pause) = (number(request, "count"), number(request, "pauseMs") as u64);
        let from: i64 = text(request, "resumeToken").parse().unwrap_or(0);
        self.streams.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(self);
        let notes = stream::iter(from..count).then(move |index| {
            let _ = &counted;
            async move {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                Ok(json!({"note": {"name": format!("notes/{index}")}, "bookmark": (index + 1).to_string()}))
            }
        });
        if request["fail"] == true {
            let mut status = Status::aborted("the end came early");
            let sent = count.to_string().parse().unwrap();
            status.metadata_mut().insert("x-notes-sent", sent);
            let last = stream::iter([Err(status)]);
            return Response::new(Box::pin(notes.chain(last)));
        }
        Response::new(Box::pin(notes))
    }

    async fn behave(
        &self,
        request: &Value,
        metadata: &tonic::metadata::MetadataMap,
    ) -> Result<Value, Status> {
        tokio::time::sleep(Duration::from_millis(number(request, "sleepMs") as u64)).await;
        let calls = {
            let mut failed = self.failed.lock().unwrap();
            let calls = failed.entry(text(request, "key")).or_default();
            *calls += 1;
            *calls
        };
        if calls <= number(request, "failTimes") {
            return Err(Status::unavailable("not now"));
        }
        let code = number(request, "code") as i32;
        if code != 0 && request["details"] == true {
            let message = "as you said: 100 %, \u{fc}ber\nalles";
            return Err(Status::with_details(
                tonic::Code::from(code),
                message,
                details(code, message).into(),
            ));
        }
        if code != 0 {
            return Err(Status::new(tonic::Code::from(code), "as you said"));
        }
        let metadata: serde_json::Map<_, _> = metadata
            .iter()
            .filter_map(|entry| match entry {
                tonic::metadata::KeyAndValueRef::Ascii(key, value) => {
                    Some((key.to_string(), value.to_str().ok()?.into()))
                }
                tonic::metadata::KeyAndValueRef::Binary(..) => None,
            })
            .collect();
        Ok(json!({"server": self.name, "metadata": metadata, "calls": calls}))
    }
}

/// `google.rpc.Status`
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_reflect::prost_types::Any>,
}

/// `google.rpc.ErrorInfo`
#[derive(Clone, PartialEq, prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
}

/// A `google.rpc.Status` with an `ErrorInfo`.
fn details(code: i32, message: &str) -> Vec<u8> {
    let info = ErrorInfo {
        reason: "AS_YOU_SAID".to_owned(),
        domain: "echo.demo".to_owned(),
    };
    let any = prost_reflect::prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
        value: info.encode_to_vec(),
    };
    RpcStatus {
        code,
        message: message.to_owned(),
        details: vec![any],
    }
    .encode_to_vec()
}

fn part(request: &Value, index: usize) -> Value {
    let data = STANDARD.encode(format!("part {index} of {}\n", text(request, "name")));
    json!({"contentType": if index == 0 { "text/x-notes" } else { "" }, "data": data})
}

async fn collect(mut messages: Streaming<Value>) -> Result<Value, Status> {
    let mut all = Vec::new();
    while let Some(message) = messages.message().await? {
        all.push(message);
    }
    Ok(uploaded(&all))
}

fn uploaded(messages: &[Value]) -> Value {
    let bytes = |message: &Value| {
        let data = text(&message["file"], "data");
        STANDARD.decode(data).unwrap().len()
    };
    let first = messages.first().cloned().unwrap_or_default();
    json!({
        "count": messages.len(),
        "titles": messages.iter().map(|message| text(message, "title")).collect::<Vec<_>>(),
        "bytes": messages.iter().map(bytes).sum::<usize>().to_string(),
        "contentType": text(&first["file"], "contentType"),
        "name": text(&first, "name"),
    })
}

/// Messages as JSON values.
#[derive(Clone)]
pub(super) struct Json {
    pub(super) encode: MessageDescriptor,
    pub(super) decode: MessageDescriptor,
}

impl Codec for Json {
    type Encode = Value;
    type Decode = Value;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Json {
    type Item = Value;
    type Error = Status;

    fn encode(&mut self, item: Value, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let message = DynamicMessage::deserialize(self.encode.clone(), item)
            .map_err(|error| Status::internal(error.to_string()))?;
        out.put(&message.encode_to_vec()[..]);
        Ok(())
    }
}

impl Decoder for Json {
    type Item = Value;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Value>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        let message = DynamicMessage::decode(self.decode.clone(), bytes)
            .map_err(|error| Status::internal(error.to_string()))?;
        serde_json::to_value(&message)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}
