//! gRPC frames: a flag, a length of four bytes, a message.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::refusal::Refusal;

/// Bytes before a message.
pub(crate) const PREFIX: usize = 5;
/// Largest message that is put together; gRPC passthrough has no limit of its own.
pub(crate) const LARGEST: usize = 64 * 1024 * 1024;

/// Puts the prefix into room that was left at the front of `message`.
pub(crate) fn seal(mut message: BytesMut) -> Bytes {
    let length = (message.len() - PREFIX) as u32;
    message[0] = 0;
    message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    message.freeze()
}

/// Room for a message behind its prefix.
pub(crate) fn open(capacity: usize) -> BytesMut {
    let mut message = BytesMut::with_capacity(capacity + PREFIX);
    message.put_bytes(0, PREFIX);
    message
}

/// The message of bytes that are one frame, without a copy; nothing when they are anything else.
pub(crate) fn only(mut frame: Bytes) -> Option<Bytes> {
    let (prefix, message) = frame.split_first_chunk::<PREFIX>()?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if prefix[0] != 0 || length != message.len() {
        return None;
    }
    frame.advance(PREFIX);
    Some(frame)
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next complete message; `None` when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        if self.buffer.len() < PREFIX {
            return Ok(None);
        }
        let length = (&self.buffer[1..PREFIX]).get_u32() as usize;
        if LARGEST < length {
            return Err(Refusal::too_large(LARGEST));
        }
        if self.buffer[0] != 0 {
            return Err(Refusal::malformed("a compressed message was not asked for"));
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether a part of a message is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_however_the_bytes_arrive() {
        let mut message = open(3);
        message.extend_from_slice(b"abc");
        let sealed = seal(message);
        let mut decoder = Decoder::default();
        for byte in sealed.iter().chain(&sealed) {
            decoder.push(&[*byte]);
        }
        assert_eq!(decoder.next().unwrap().unwrap(), "abc");
        assert_eq!(decoder.next().unwrap().unwrap(), "abc");
        assert!(decoder.next().unwrap().is_none() && decoder.is_empty());
    }

    #[test]
    fn only_one_whole_frame_is_one_message() {
        let mut message = open(3);
        message.extend_from_slice(b"abc");
        let sealed = seal(message);
        assert_eq!(only(sealed.clone()).unwrap(), "abc");
        let twice = [&sealed[..], &sealed[..]].concat();
        assert!(only(Bytes::from(twice)).is_none());
        assert!(only(sealed.slice(..7)).is_none() && only(Bytes::new()).is_none());
    }

    #[test]
    fn an_absurd_length_is_refused_before_memory_is_taken() {
        let mut decoder = Decoder::default();
        decoder.push(&[0, 0xff, 0xff, 0xff, 0xff]);
        assert!(decoder.next().is_err());
    }
}
