use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::*;

use super::*;

fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend(message);
    bytes
}

fn chunked(bytes: &[u8], size: usize) -> Body {
    let frames: Vec<Result<Frame<Bytes>, Status>> = bytes
        .chunks(size.max(1))
        .map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect();
    Body::new(StreamBody::new(futures::stream::iter(frames)))
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_before_it_is_read() {
    let mut bytes = framed(&[]);
    bytes[1..5].copy_from_slice(&1_000_000_u32.to_be_bytes());
    let endless =
        futures::stream::iter([Ok::<_, Status>(Frame::data(Bytes::from(bytes)))]).chain_pending();
    let refused = collect(Body::new(StreamBody::new(endless)), 1000)
        .await
        .expect_err("too large");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(
        status::reason(&refused).as_deref(),
        Some("REQUEST_TOO_LARGE")
    );
}

trait ChainPending: futures::Stream + Sized {
    /// The stream, and then nothing, without an end.
    fn chain_pending(self) -> futures::stream::Chain<Self, futures::stream::Pending<Self::Item>> {
        futures::StreamExt::chain(self, futures::stream::pending())
    }
}

impl<S: futures::Stream> ChainPending for S {}

#[test]
fn only_one_uncompressed_message_is_a_request() {
    assert_eq!(message(&framed(b"abc")).expect("one"), b"abc");
    assert_eq!(message(&[]).expect("none"), b"");
    let two = [framed(b"abc"), framed(b"def")].concat();
    assert_eq!(
        message(&two).expect_err("two").code(),
        Code::InvalidArgument
    );
    assert_eq!(
        message(&framed(b"abc")[..6]).expect_err("cut").code(),
        Code::InvalidArgument
    );
    let mut compressed = framed(b"abc");
    compressed[0] = 1;
    assert_eq!(
        message(&compressed).expect_err("compressed").code(),
        Code::Unimplemented
    );
}

proptest! {
    #[test]
    fn a_body_in_any_pieces_is_the_same_body(content in proptest::collection::vec(any::<u8>(), 0..300), size in 1_usize..64) {
        let bytes = framed(&content);
        let read = futures::executor::block_on(collect(chunked(&bytes, size), 300)).expect("small enough");
        prop_assert_eq!(&read[..], &bytes[..]);
    }

    #[test]
    fn a_stream_passes_exactly_while_its_messages_are_small(
        sizes in proptest::collection::vec(0_usize..40, 1..8), piece in 1_usize..64,
    ) {
        let bytes: Vec<u8> = sizes.iter().flat_map(|size| framed(&vec![7; *size])).collect();
        let body = FrameLimit::new(chunked(&bytes, piece), 32);
        let passed = futures::executor::block_on(body.collect());
        prop_assert_eq!(passed.is_ok(), sizes.iter().all(|size| *size <= 32));
    }
}
