//! gRPC messages on their way through: each is bounded by its own size, as it is after decompression, without being put together.

use std::{
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::{Body, BodyError, frame::PREFIX, inbound::Fault, refusal::Refusal};

/// How messages are compressed that say they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Zstd,
    /// Unknown here: the upstream refuses it, or knows it and has a limit of its own.
    Other,
}

impl Coding {
    fn of(headers: &HeaderMap) -> Self {
        let name = headers
            .get("grpc-encoding")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        match name.trim() {
            "gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "zstd" => Self::Zstd,
            _ => Self::Other,
        }
    }
}

/// Bounds every message of a call by `limit` bytes, decompressed.
pub(crate) fn bounded(body: Body, headers: &HeaderMap, limit: usize, fault: &Fault) -> Body {
    Messages {
        inner: body,
        coding: Coding::of(headers),
        limit,
        fault: fault.clone(),
        at: At::Prefix([0; PREFIX], 0),
        failed: false,
    }
    .boxed_unsync()
}

struct Messages {
    inner: Body,
    coding: Coding,
    limit: usize,
    fault: Fault,
    at: At,
    failed: bool,
}

/// Where the next byte belongs.
enum At {
    /// So many bytes of a prefix are there.
    Prefix([u8; PREFIX], usize),
    /// So many bytes of a message are missing.
    Message(usize, Option<Box<Inflated>>),
}

/// Counts what a compressed message becomes.
enum Inflated {
    Gzip(MultiGzDecoder<Count>),
    Deflate(ZlibDecoder<Count>),
    Zstd(zstd::stream::write::Decoder<'static, Count>),
}

/// Takes so many bytes and keeps none.
struct Count {
    left: usize,
}

impl Write for Count {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(data.len())
            .ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Inflated {
    fn new(coding: Coding, limit: usize) -> Option<Self> {
        let count = Count { left: limit };
        Some(match coding {
            Coding::Gzip => Self::Gzip(MultiGzDecoder::new(count)),
            Coding::Deflate => Self::Deflate(ZlibDecoder::new(count)),
            Coding::Zstd => Self::Zstd(zstd::stream::write::Decoder::new(count).ok()?),
            Coding::Other => return None,
        })
    }

    fn push(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.write_all(data),
            Self::Deflate(decoder) => decoder.write_all(data),
            Self::Zstd(decoder) => decoder.write_all(data),
        }
    }

    /// Decodes what is left in the decoder.
    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(decoder) => decoder.try_finish(),
            Self::Deflate(decoder) => decoder.try_finish(),
            Self::Zstd(decoder) => decoder.flush(),
        }
    }
}

impl Messages {
    /// Follows the messages through a piece of the body.
    fn follow(&mut self, mut data: &[u8]) -> Result<(), Refusal> {
        loop {
            match &mut self.at {
                At::Prefix(prefix, filled) => {
                    let take = data.len().min(PREFIX - *filled);
                    let (now, later) = data.split_at(take);
                    prefix[*filled..*filled + take].copy_from_slice(now);
                    *filled += take;
                    data = later;
                    if *filled < PREFIX {
                        return Ok(());
                    }
                    let [flag, length @ ..] = *prefix;
                    let length = u32::from_be_bytes(length) as usize;
                    // What is compressed well below its limit may still be above it.
                    if length > self.limit {
                        return Err(Refusal::message_too_large(self.limit));
                    }
                    let inflated = if flag == 0 {
                        None
                    } else {
                        Inflated::new(self.coding, self.limit).map(Box::new)
                    };
                    self.at = At::Message(length, inflated);
                }
                At::Message(missing, inflated) => {
                    let take = data.len().min(*missing);
                    let (now, later) = data.split_at(take);
                    *missing -= take;
                    data = later;
                    if let Some(decoder) = inflated {
                        let mut pushed = decoder.push(now);
                        if pushed.is_ok() && *missing == 0 {
                            pushed = decoder.finish();
                        }
                        match pushed {
                            Ok(()) => {}
                            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                                return Err(Refusal::message_too_large(self.limit));
                            }
                            Err(_) => {
                                return Err(Refusal::malformed("a message cannot be decompressed"));
                            }
                        }
                    }
                    if *missing > 0 {
                        return Ok(());
                    }
                    self.at = At::Prefix([0; PREFIX], 0);
                    if data.is_empty() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && let Err(refusal) = self.follow(data)
        {
            self.failed = true;
            return Poll::Ready(Some(Err(self.fault.set(refusal))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::StreamBody;

    use super::*;
    use crate::inbound;

    const LIMIT: usize = 1000;

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&[flag][..], &length.to_be_bytes(), message].concat()
    }

    fn gzip(message: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(message).unwrap();
        encoder.finish().unwrap()
    }

    /// What becomes of a body that comes in pieces of so many bytes.
    async fn sent(bytes: &[u8], piece: usize, encoding: &str) -> Result<usize, http::StatusCode> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-encoding", encoding.parse().unwrap());
        let pieces: Vec<_> = bytes
            .chunks(piece)
            .map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let body = StreamBody::new(stream::iter(pieces)).boxed_unsync();
        let fault = Fault::default();
        let body = bounded(body, &headers, LIMIT, &fault);
        inbound::collect(body, &fault)
            .await
            .map(|bytes| bytes.len())
            .map_err(|refusal| refusal.http_status())
    }

    #[tokio::test]
    async fn a_message_of_exactly_the_limit_passes_and_one_more_not() {
        for piece in [1, 7, 4096] {
            let fits = framed(0, &[7; LIMIT]);
            assert_eq!(sent(&fits, piece, "identity").await, Ok(LIMIT + PREFIX));
            let beyond = framed(0, &[7; LIMIT + 1]);
            assert_eq!(
                sent(&beyond, piece, "identity").await,
                Err(http::StatusCode::PAYLOAD_TOO_LARGE)
            );
        }
    }

    #[tokio::test]
    async fn later_messages_are_bounded_too() {
        let good = [
            framed(0, &[7; LIMIT]),
            framed(0, b""),
            framed(0, &[7; LIMIT]),
        ]
        .concat();
        assert!(sent(&good, 100, "identity").await.is_ok());
        let bad = [framed(0, b"a"), framed(0, &[7; LIMIT + 1])].concat();
        assert_eq!(
            sent(&bad, 100, "identity").await,
            Err(http::StatusCode::PAYLOAD_TOO_LARGE)
        );
    }

    #[tokio::test]
    async fn a_compressed_message_counts_as_what_it_becomes() {
        let zstd = |message: &[u8]| zstd::encode_all(message, 0).unwrap();
        for piece in [1, 4096] {
            let fits = framed(1, &gzip(&[7; LIMIT]));
            assert!(sent(&fits, piece, "gzip").await.is_ok());
            let beyond = framed(1, &gzip(&[7; LIMIT + 1]));
            assert_eq!(
                sent(&beyond, piece, "gzip").await,
                Err(http::StatusCode::PAYLOAD_TOO_LARGE)
            );
            assert!(
                sent(&framed(1, &zstd(&[7; LIMIT])), piece, "zstd")
                    .await
                    .is_ok()
            );
            let bomb = framed(1, &zstd(&vec![7; 100 * LIMIT]));
            assert_eq!(
                sent(&bomb, piece, "zstd").await,
                Err(http::StatusCode::PAYLOAD_TOO_LARGE)
            );
        }
        assert_eq!(
            sent(&framed(1, b"no gzip"), 4096, "gzip").await,
            Err(http::StatusCode::BAD_REQUEST)
        );
    }
}
