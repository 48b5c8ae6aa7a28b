//! Reads single string fields out of an encoded message by their field numbers, without knowing its type.
//!
//! Decisions hang on what it finds, so it agrees with what the handler will decode: the last occurrence of a field wins,
//! occurrences of a sub-message are merged, and what no decoder accepts is refused.

/// Groups may be nested this deep.
const MAX_DEPTH: u32 = 32;

/// The bytes are no protobuf message, or the field is no string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request is not a valid protobuf message")]
pub struct Malformed;

/// The string at a path of field numbers; `None` when it is absent. An empty path finds nothing.
pub fn string_field<'a>(message: &'a [u8], path: &[u32]) -> Result<Option<&'a str>, Malformed> {
    let Some((&number, rest)) = path.split_first() else {
        return Ok(None);
    };
    let mut found = None;
    let mut reader = Reader(message);
    while !reader.0.is_empty() {
        let (field, wire) = reader.key()?;
        if field != number {
            reader.skip(field, wire, 0)?;
            continue;
        }
        if wire != LENGTH {
            return Err(Malformed);
        }
        let value = reader.bytes()?;
        if rest.is_empty() {
            found = Some(std::str::from_utf8(value).map_err(|_| Malformed)?);
        } else if let Some(inner) = string_field(value, rest)? {
            found = Some(inner);
        }
    }
    Ok(found)
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH: u8 = 2;
const GROUP: u8 = 3;
const END_GROUP: u8 = 4;
const FIXED32: u8 = 5;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for index in 0..10 {
            let byte = self.take(1)?[0];
            // The tenth byte has room for one bit.
            if index == 9 && byte > 1 {
                return Err(Malformed);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn key(&mut self) -> Result<(u32, u8), Malformed> {
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let (field, wire) = (key >> 3, (key & 7) as u8);
        if field == 0 || wire > FIXED32 {
            return Err(Malformed);
        }
        Ok((field, wire))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        self.take(length)
    }

    fn skip(&mut self, field: u32, wire: u8, depth: u32) -> Result<(), Malformed> {
        match wire {
            VARINT => self.varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            LENGTH => self.bytes().map(drop),
            FIXED32 => self.take(4).map(drop),
            GROUP if depth < MAX_DEPTH => loop {
                let (inner, wire) = self.key()?;
                if wire == END_GROUP {
                    return if inner == field {
                        Ok(())
                    } else {
                        Err(Malformed)
                    };
                }
                self.skip(inner, wire, depth + 1)?;
            },
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests;
