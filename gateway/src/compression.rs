//! gzip, zstd and br of REST bodies, both ways. Each part of a stream is flushed, so that a reader sees it at once.

use std::{
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::BodyExt as _;

use crate::{Body, BodyError, inbound::Fault, refusal::Refusal};

/// A smaller answer is sent as it is, in bytes.
const SMALLEST: u64 = 1024;
const GZIP_LEVEL: u32 = 3;
const ZSTD_LEVEL: i32 = 1;
const BROTLI_QUALITY: u32 = 3;
/// 2^18 bytes of memory for each answer.
const BROTLI_WINDOW: u32 = 18;
/// The largest window that a client may ask us to keep: 2^23 bytes, what the zstd format says that everybody supports.
const ZSTD_WINDOW: u32 = 23;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Zstd,
    Brotli,
}

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Brotli => "br",
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            "br" => Some(Self::Brotli),
            _ => None,
        }
    }

    /// What the caller takes: the highest weight, and of equals the one that is cheapest for its size.
    pub(crate) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let order = |coding: Self| match coding {
            Self::Zstd => 3,
            Self::Gzip => 2,
            Self::Brotli => 1,
        };
        headers
            .get_all(header::ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|part| {
                let mut part = part.split(';').map(str::trim);
                let coding = Self::named(&part.next()?.to_ascii_lowercase())?;
                let weight = part
                    .find_map(|parameter| parameter.strip_prefix("q="))
                    .map_or(Some(1.0), |weight| weight.parse::<f64>().ok())?;
                (weight > 0.0).then_some(((weight * 1000.0) as u32, order(coding), coding))
            })
            .max_by_key(|(weight, order, _)| (*weight, *order))
            .map(|(_, _, coding)| coding)
    }

    /// How the body of a request came.
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else {
            return Ok(None);
        };
        let name = value
            .to_str()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        if name.is_empty() || name == "identity" {
            return Ok(None);
        }
        Self::named(&name)
            .map(Some)
            .ok_or_else(Refusal::content_encoding)
    }
}

/// Compresses an answer that is worth it.
pub(crate) fn compress(response: Response<Body>, coding: Option<Coding>) -> Response<Body> {
    let size = http_body::Body::size_hint(response.body()).exact();
    let worthwhile = size.is_none_or(|size| size >= SMALLEST)
        && !response.headers().contains_key(header::CONTENT_ENCODING)
        && !response.status().is_informational()
        && response.status() != http::StatusCode::NO_CONTENT
        && is_text(response.headers());
    if !worthwhile {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts
        .headers
        .append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let Some((coding, encoder)) = coding.and_then(|coding| Some((coding, Encoder::new(coding)?)))
    else {
        return Response::from_parts(parts, body);
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(
        header::CONTENT_ENCODING,
        HeaderValue::from_static(coding.name()),
    );
    let body = Compressed {
        inner: body,
        encoder: Some(encoder),
        whole: size.is_some(),
        trailers: None,
    };
    Response::from_parts(parts, body.boxed_unsync())
}

/// Whether bytes of this type become smaller.
fn is_text(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    content_type.starts_with("text/")
        || ["json", "xml", "protobuf", "javascript", "svg"]
            .iter()
            .any(|kind| content_type.contains(kind))
}

enum Encoder {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
}

impl Encoder {
    fn new(coding: Coding) -> Option<Self> {
        let out = Vec::with_capacity(1024);
        Some(match coding {
            Coding::Gzip => Self::Gzip(flate2::write::GzEncoder::new(
                out,
                flate2::Compression::new(GZIP_LEVEL),
            )),
            Coding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(out, ZSTD_LEVEL).ok()?),
            Coding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                out,
                4096,
                BROTLI_QUALITY,
                BROTLI_WINDOW,
            ))),
        })
    }

    /// The compressed form of `data`; with `flush` all of it.
    fn write(&mut self, data: &[u8], flush: bool) -> io::Result<Vec<u8>> {
        fn all(writer: &mut impl Write, data: &[u8], flush: bool) -> io::Result<()> {
            writer.write_all(data)?;
            if flush { writer.flush() } else { Ok(()) }
        }
        match self {
            Self::Gzip(writer) => all(writer, data, flush)?,
            Self::Zstd(writer) => all(writer, data, flush)?,
            Self::Brotli(writer) => all(writer, data, flush)?,
        }
        Ok(std::mem::take(match self {
            Self::Gzip(writer) => writer.get_mut(),
            Self::Zstd(writer) => writer.get_mut(),
            Self::Brotli(writer) => writer.get_mut(),
        }))
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(writer) => writer.finish(),
            Self::Zstd(writer) => writer.finish(),
            Self::Brotli(writer) => Ok(writer.into_inner()),
        }
    }
}

struct Compressed {
    inner: Body,
    /// Nothing when it is finished.
    encoder: Option<Encoder>,
    /// All of it comes at once: nobody waits for parts.
    whole: bool,
    trailers: Option<HeaderMap>,
}

impl Compressed {
    fn step(&mut self, frame: Option<Frame<Bytes>>) -> io::Result<Option<Bytes>> {
        let out = match frame.map(Frame::into_data) {
            Some(Ok(data)) => match &mut self.encoder {
                Some(encoder) => encoder.write(&data, !self.whole)?,
                None => Vec::new(),
            },
            end => {
                if let Some(Err(frame)) = end {
                    self.trailers = frame.into_trailers().ok();
                }
                self.encoder
                    .take()
                    .map_or(Ok(Vec::new()), Encoder::finish)?
            }
        };
        Ok((!out.is_empty()).then(|| Bytes::from(out)))
    }
}

impl http_body::Body for Compressed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.encoder.is_none() {
                let trailers = self.trailers.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let frame = match std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => Some(frame),
                None => None,
            };
            match self.step(frame) {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(BodyError::cut(&error)))),
            }
        }
    }
}

/// Takes the compression off a request's body. At most `limit` bytes come out of one part that goes in.
pub(crate) fn decompress(
    body: Body,
    coding: Coding,
    limit: usize,
    fault: &Fault,
) -> Result<Body, Refusal> {
    let sink = Sink {
        out: BytesMut::new(),
        limit,
    };
    let decoder = match coding {
        Coding::Gzip => Decoder::Gzip(flate2::write::MultiGzDecoder::new(sink)),
        Coding::Zstd => {
            let mut decoder =
                zstd::stream::write::Decoder::new(sink).map_err(|_| Refusal::content_encoding())?;
            decoder
                .window_log_max(ZSTD_WINDOW)
                .map_err(|_| Refusal::content_encoding())?;
            Decoder::Zstd(decoder)
        }
        Coding::Brotli => Decoder::Brotli(Box::new(brotli::DecompressorWriter::new(sink, 4096))),
    };
    Ok(Decompressed {
        inner: body,
        decoder: Some(decoder),
        fault: fault.clone(),
        limit,
    }
    .boxed_unsync())
}

/// Takes what a decoder gives, up to a limit: a small body may be a bomb.
struct Sink {
    out: BytesMut,
    limit: usize,
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.out.len() + data.len() > self.limit {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.out.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Decoder {
    Gzip(flate2::write::MultiGzDecoder<Sink>),
    Zstd(zstd::stream::write::Decoder<'static, Sink>),
    Brotli(Box<brotli::DecompressorWriter<Sink>>),
}

impl Decoder {
    fn write(&mut self, data: &[u8]) -> io::Result<Bytes> {
        match self {
            Self::Gzip(decoder) => decoder.write_all(data).and_then(|()| decoder.flush())?,
            Self::Zstd(decoder) => decoder.write_all(data).and_then(|()| decoder.flush())?,
            Self::Brotli(decoder) => decoder.write_all(data).and_then(|()| decoder.flush())?,
        }
        let sink = match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => decoder.get_mut(),
        };
        Ok(sink.out.split().freeze())
    }

    /// What is left; an error when the input ended too early.
    fn finish(mut self) -> io::Result<Bytes> {
        let mut rest = BytesMut::from(&self.write(&[])?[..]);
        match self {
            Self::Gzip(decoder) => rest.extend_from_slice(&decoder.finish()?.out),
            Self::Zstd(decoder) => rest.extend_from_slice(&decoder.into_inner().out),
            Self::Brotli(mut decoder) => {
                decoder.close()?;
                rest.extend_from_slice(&decoder.get_mut().out);
            }
        }
        Ok(rest.freeze())
    }
}

struct Decompressed {
    inner: Body,
    decoder: Option<Decoder>,
    fault: Fault,
    limit: usize,
}

impl Decompressed {
    fn refused(&mut self, error: &io::Error) -> BodyError {
        self.decoder = None;
        self.fault.set(match error.kind() {
            io::ErrorKind::FileTooLarge => Refusal::too_large(self.limit),
            _ => Refusal::malformed("the body is not compressed as its Content-Encoding says"),
        })
    }
}

impl http_body::Body for Decompressed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.decoder.is_none() {
                return Poll::Ready(None);
            }
            let frame = match std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => frame.into_data().ok(),
                None => None,
            };
            let out = match (frame, &mut self.decoder) {
                (Some(data), Some(decoder)) => decoder.write(&data),
                _ => self
                    .decoder
                    .take()
                    .map_or(Ok(Bytes::new()), Decoder::finish),
            };
            match out {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out)))),
                Err(error) => {
                    let error = self.refused(&error);
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
