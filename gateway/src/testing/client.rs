//! Clients: hyper for HTTP, tonic for gRPC.

use std::{net::SocketAddr, str::FromStr as _};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use http::{HeaderMap, Method, Request, StatusCode, uri::PathAndQuery};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;

use super::{api::pool, server::Json};
use crate::{Body, refusal};

/// A connection of HTTP/1.1 or HTTP/2.
pub(crate) struct Http {
    sender: Sender,
    address: SocketAddr,
}

enum Sender {
    One(hyper::client::conn::http1::SendRequest<Body>),
    Two(hyper::client::conn::http2::SendRequest<Body>),
}

/// All of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The reason in the error.
    pub(crate) fn reason(&self) -> String {
        let json = self.json();
        assert_eq!(json["error"]["code"], self.status.as_u16());
        json["error"]["details"][0]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

impl Http {
    pub(crate) async fn h1(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self {
            sender: Sender::One(sender),
            address,
        }
    }

    pub(crate) async fn h2(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        Self {
            sender: Sender::Two(sender),
            address,
        }
    }

    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Request<Body> {
        let uri = match self.sender {
            Sender::One(_) => path.to_owned(),
            Sender::Two(_) => format!("http://{}{path}", self.address),
        };
        let mut request = Request::builder()
            .method(Method::from_str(method).unwrap())
            .uri(uri);
        if let Sender::One(_) = self.sender {
            request = request.header("host", self.address.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).unwrap()
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> http::Response<Incoming> {
        match &mut self.sender {
            Sender::One(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request).await.unwrap()
            }
            Sender::Two(sender) => sender.send_request(request).await.unwrap(),
        }
    }

    /// The same for a connection that the gateway may end.
    pub(crate) async fn attempt(
        &mut self,
        request: Request<Body>,
    ) -> Option<http::Response<Incoming>> {
        match &mut self.sender {
            Sender::One(sender) => sender.send_request(request).await.ok(),
            Sender::Two(sender) => sender.send_request(request).await.ok(),
        }
    }

    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let body = refusal::full(body.into());
        let request = self.request(method, path, headers, body);
        let response = self.send(request).await;
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            trailers: collected.trailers().cloned().unwrap_or_default(),
            body: collected.to_bytes(),
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.call("GET", path, &[], "").await
    }

    pub(crate) async fn post(&mut self, path: &str, json: &str) -> Answer {
        self.call(
            "POST",
            path,
            &[("content-type", "application/json")],
            json.to_owned(),
        )
        .await
    }
}

/// Calls a method of any kind with tonic: all messages of the request, all of the answer.
pub(crate) async fn grpc(
    address: SocketAddr,
    method: &str,
    messages: Vec<Value>,
    timeout: Option<std::time::Duration>,
) -> Result<Vec<Value>, tonic::Status> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let service = pool().get_service_by_name("demo.echo.Echo").unwrap();
    let found = service
        .methods()
        .find(|found| found.name() == method)
        .unwrap();
    let codec = Json {
        encode: found.input(),
        decode: found.output(),
    };
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(stream::iter(messages));
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    let path = PathAndQuery::from_str(&format!("/demo.echo.Echo/{method}")).unwrap();
    let answers = client.streaming(request, path, codec).await?;
    answers
        .into_inner()
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect()
}

/// A message in its gRPC frame, from JSON.
pub(crate) fn framed(message: &str, json: &Value) -> Bytes {
    use prost_reflect::prost::Message as _;
    let descriptor = pool().get_message_by_name(message).unwrap();
    let wire = prost_reflect::DynamicMessage::deserialize(descriptor, json)
        .unwrap()
        .encode_to_vec();
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&[0]);
    frame.extend_from_slice(&(wire.len() as u32).to_be_bytes());
    frame.extend_from_slice(&wire);
    frame.freeze()
}

/// Flags and content of each frame.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let [flags, a, b, c, d, rest @ ..] = bytes {
        let (content, more) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        found.push((*flags, content.to_vec()));
        bytes = more;
    }
    assert!(bytes.is_empty(), "the answer ends with a frame");
    found
}

/// A body that is sent in parts.
pub(crate) fn parts(parts: Vec<Bytes>) -> Body {
    let frames = parts
        .into_iter()
        .map(|part| Ok(http_body::Frame::data(part)));
    http_body_util::StreamBody::new(stream::iter(frames)).boxed_unsync()
}
