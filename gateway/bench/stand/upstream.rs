//! A gRPC server that knows its answers by heart, so that it is never what is measured.

use std::{convert::Infallible, error::Error, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::api;

/// Messages of a stream.
pub(super) const STREAM: usize = 1000;

type Answer = Arc<Vec<Bytes>>;

#[derive(Clone)]
struct Answers {
    small: Answer,
    list: Answer,
    stream: Answer,
}

pub(super) async fn serve(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let one = |message: &str, json| Arc::new(vec![Bytes::from(api::frame(message, json))]);
    let small = api::frame("Book", &api::small());
    let answers = Answers {
        small: one("Book", &api::small()),
        list: one("ListBooksResponse", &api::list()),
        stream: Arc::new(vec![Bytes::from(small.repeat(50)); STREAM / 50]),
    };
    let listener = tokio::net::TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answers = answers.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, answers.clone()));
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(1000)
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

async fn answer(
    request: Request<Incoming>,
    answers: Answers,
) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let sent = request.into_body().collect().await?.to_bytes();
    let parts = match path.as_str() {
        "/demo.bench.Books/GetBook" => answers.small,
        "/demo.bench.Books/ListBooks" => answers.list,
        "/demo.bench.Books/WatchShelf" => answers.stream,
        // The book is field 2 of the request; the answer is that book.
        "/demo.bench.Books/CreateBook" => Arc::new(vec![created(&sent)]),
        _ => Arc::default(),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames: Vec<_> = parts
        .iter()
        .map(|part| Ok(Frame::data(part.clone())))
        .chain([Ok(Frame::trailers(trailers))])
        .collect();
    let body = StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    Ok(response)
}

/// The book of a request, in a frame of its own.
fn created(request: &[u8]) -> Bytes {
    let mut rest = request.get(5..).unwrap_or_default();
    while let [tag, more @ ..] = rest {
        let (mut length, mut shift, mut used) = (0, 0, 0);
        for byte in more {
            length |= usize::from(byte & 0x7f) << shift;
            (shift, used) = (shift + 7, used + 1);
            if *byte < 0x80 {
                break;
            }
        }
        let Some(value) = more.get(used..used + length) else {
            break;
        };
        if *tag == 0x12 {
            let mut frame = vec![0];
            frame.extend((value.len() as u32).to_be_bytes());
            frame.extend(value);
            return Bytes::from(frame);
        }
        rest = &more[used + length..];
    }
    Bytes::new()
}
