//! How a file's frames lie one after the other in a command's input and output: what the agent of a cluster and the unit agent must do alike.

use prost::{
    Message as _,
    bytes::{Buf as _, Bytes, BytesMut},
    encoding::decode_varint,
};

use crate::unit::v1::{FileFrame, file_frame::Frame};

/// Bytes of a file in one frame.
pub const CHUNK: usize = 32 * 1024;
/// The longest frame: a chunk of any version, and what is around it.
const LONGEST: u64 = 128 * 1024;
/// The longest length before a frame.
const PREFIX: usize = 10;

/// What is no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no frames of a file")]
pub struct Malformed;

/// A frame with its length before it.
pub fn encode(frame: Frame) -> Vec<u8> {
    FileFrame { frame: Some(frame) }.encode_length_delimited_to_vec()
}

/// Takes bytes as they come and gives frames as they are complete. Holds at most one frame more than what it was given.
#[derive(Debug, Default)]
pub struct Decoder(BytesMut);

impl Decoder {
    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next frame; `None` when more bytes are needed. A frame of a later version is `Malformed`: it could be what matters.
    pub fn frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let mut prefix = &self.0[..self.0.len().min(PREFIX)];
        let begun = prefix.len();
        let Ok(length) = decode_varint(&mut prefix) else {
            return if begun == PREFIX {
                Err(Malformed)
            } else {
                Ok(None)
            };
        };
        let head = begun - prefix.len();
        if length > LONGEST {
            return Err(Malformed);
        }
        let length = length as usize;
        if self.0.len() < head + length {
            return Ok(None);
        }
        self.0.advance(head);
        let frame: Bytes = self.0.split_to(length).freeze();
        let frame = FileFrame::decode(frame).map_err(|_| Malformed)?;
        frame.frame.map(Some).ok_or(Malformed)
    }

    /// Whether nothing has begun.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::unit::v1::{FileDigest, FileFacts};

    fn all(decoder: &mut Decoder) -> Vec<Frame> {
        std::iter::from_fn(|| decoder.frame().unwrap()).collect()
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..8),
            cut in 1_usize..700,
        ) {
            let mut frames = vec![Frame::Facts(FileFacts { size: Some(7), mode: 0o640 })];
            frames.extend(parts.into_iter().map(|part| Frame::Data(part.into())));
            frames.push(Frame::Digest(FileDigest { sha256: vec![1; 32].into(), size: 7 }));
            let bytes = frames.iter().cloned().flat_map(encode).collect::<Vec<_>>();
            let mut decoder = Decoder::default();
            let mut out = Vec::new();
            for piece in bytes.chunks(cut) {
                decoder.push(piece);
                out.extend(all(&mut decoder));
            }
            prop_assert_eq!(out, frames);
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.frame() {}
        }
    }

    #[test]
    fn what_claims_to_be_longer_than_any_frame_is_refused_at_once() {
        let mut decoder = Decoder::default();
        decoder.push(&[0xff, 0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(decoder.frame(), Err(Malformed));
    }
}
