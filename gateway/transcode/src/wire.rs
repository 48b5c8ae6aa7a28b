//! The protobuf wire format: reading without copies, writing into a growing buffer.

use bytes::{BufMut, BytesMut};

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const DELIMITED: u8 = 2;
pub(crate) const START_GROUP: u8 = 3;
pub(crate) const END_GROUP: u8 = 4;
pub(crate) const FIXED32: u8 = 5;

/// Why wire bytes are malformed.
pub(crate) type Reason = &'static str;

/// Reads wire bytes front to back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Reason> {
        if let [first, rest @ ..] = self.rest
            && *first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Reason> {
        let mut value = 0u64;
        for (index, byte) in self.rest.iter().take(10).enumerate() {
            if index == 9 && *byte > 1 {
                return Err("a varint is longer than 64 bits");
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err("a varint does not end")
    }

    /// The next field number and wire type.
    #[inline]
    pub(crate) fn tag(&mut self) -> Result<(u32, u8), Reason> {
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number > 0x1fff_ffff {
            return Err("a field number is out of range");
        }
        Ok((number as u32, (tag & 7) as u8))
    }

    #[inline]
    pub(crate) fn take(&mut self, length: u64) -> Result<&'a [u8], Reason> {
        let length = usize::try_from(length).map_err(|_| "a length is longer than the message")?;
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or("a length is longer than the message")?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn delimited(&mut self) -> Result<&'a [u8], Reason> {
        let length = self.varint()?;
        self.take(length)
    }

    pub(crate) fn fixed32(&mut self) -> Result<u32, Reason> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk::<4>()
            .ok_or("the message ends inside a field")?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    pub(crate) fn fixed64(&mut self) -> Result<u64, Reason> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk::<8>()
            .ok_or("the message ends inside a field")?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// Passes over one value of this wire type.
    pub(crate) fn skip(&mut self, number: u32, wire_type: u8) -> Result<(), Reason> {
        match wire_type {
            VARINT => self.varint().map(drop),
            FIXED64 => self.fixed64().map(drop),
            DELIMITED => self.delimited().map(drop),
            START_GROUP => self.group(number).map(drop),
            FIXED32 => self.fixed32().map(drop),
            END_GROUP => Err("a group ends that never began"),
            _ => Err("unknown wire type"),
        }
    }

    /// The contents of the group that has just begun, without its end tag.
    pub(crate) fn group(&mut self, number: u32) -> Result<&'a [u8], Reason> {
        let whole = self.rest;
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let before = self.rest.len();
            let (number, wire_type) = self.tag()?;
            match wire_type {
                START_GROUP if open.len() >= usize::from(crate::MAX_DEPTH) => {
                    return Err("groups are nested too deeply");
                }
                START_GROUP => open.push(number),
                END_GROUP if number == innermost => {
                    open.pop();
                    if open.is_empty() {
                        return Ok(&whole[..whole.len() - before]);
                    }
                }
                END_GROUP => return Err("a group ends with another's number"),
                _ => self.skip(number, wire_type)?,
            }
        }
        Err("a group does not end")
    }

    /// The next field of any kind: number, wire type and the bytes of tag and value together.
    pub(crate) fn record(&mut self) -> Result<(u32, &'a [u8]), Reason> {
        let whole = self.rest;
        let (number, wire_type) = self.tag()?;
        self.skip(number, wire_type)?;
        Ok((number, &whole[..whole.len() - self.rest.len()]))
    }
}

pub(crate) fn tag(number: u32, wire_type: u8) -> u32 {
    number << 3 | u32::from(wire_type)
}

pub(crate) fn zigzag32(value: i32) -> u64 {
    u64::from(((value << 1) ^ (value >> 31)) as u32)
}

pub(crate) fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(crate) fn unzigzag64(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

#[inline]
pub(crate) fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

pub(crate) fn put_delimited(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A field with a string or bytes value; nothing when it is empty.
pub(crate) fn put_bytes_field(out: &mut BytesMut, number: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_varint(out, u64::from(tag(number, DELIMITED)));
        put_delimited(out, bytes);
    }
}

/// A field with a varint value; nothing when it is zero.
pub(crate) fn put_varint_field(out: &mut BytesMut, number: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(tag(number, VARINT)));
        put_varint(out, value);
    }
}

/// Begins a length-delimited value: one byte is kept for the length. Pass the result to [`close`].
#[inline]
pub(crate) fn open(out: &mut BytesMut) -> usize {
    out.put_u8(0);
    out.len()
}

/// Ends the length-delimited value that began at `start`, making room when its length needs more than one byte.
#[inline]
pub(crate) fn close(out: &mut BytesMut, start: usize) {
    let length = out.len() - start;
    if length < 0x80 {
        out[start - 1] = length as u8;
        return;
    }
    let mut bytes = [0u8; 10];
    let mut used = 0;
    let mut value = length as u64;
    while value >= 0x80 {
        bytes[used] = value as u8 | 0x80;
        value >>= 7;
        used += 1;
    }
    bytes[used] = value as u8;
    used += 1;
    out.put_bytes(0, used - 1);
    out.copy_within(start..start + length, start + used - 1);
    out[start - 1..start - 1 + used].copy_from_slice(&bytes[..used]);
}
