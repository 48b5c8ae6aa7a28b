//! Scalars from their text form, which query parameters, path variables, map keys and quoted numbers share.

use bytes::{BufMut as _, BytesMut};

use super::{number, well_known};
use crate::{
    tables::{Tables, message::Kind},
    wire,
};

pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Double => "double",
        Kind::Float => "float",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "32-bit integer",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "64-bit integer",
        Kind::Uint32 | Kind::Fixed32 => "unsigned 32-bit integer",
        Kind::Uint64 | Kind::Fixed64 => "unsigned 64-bit integer",
        Kind::Bool => "boolean",
        Kind::String => "string",
        Kind::Bytes => "base64 string",
        Kind::Enum(_) => "enum value",
        Kind::Message(_) => "message",
    }
}

/// Writes an integer as this kind. False when it is out of the kind's range.
pub(crate) fn put_integer(out: &mut BytesMut, kind: Kind, value: i128) -> bool {
    let signed32 = || i32::try_from(value).ok();
    let signed64 = || i64::try_from(value).ok();
    let unsigned32 = || u32::try_from(value).ok();
    let unsigned64 = || u64::try_from(value).ok();
    let written = match kind {
        Kind::Int32 | Kind::Enum(_) => {
            signed32().map(|value| wire::put_varint(out, i64::from(value) as u64))
        }
        Kind::Int64 => signed64().map(|value| wire::put_varint(out, value as u64)),
        Kind::Uint32 => unsigned32().map(|value| wire::put_varint(out, u64::from(value))),
        Kind::Uint64 => unsigned64().map(|value| wire::put_varint(out, value)),
        Kind::Sint32 => signed32().map(|value| wire::put_varint(out, wire::zigzag32(value))),
        Kind::Sint64 => signed64().map(|value| wire::put_varint(out, wire::zigzag64(value))),
        Kind::Fixed32 => unsigned32().map(|value| out.put_u32_le(value)),
        Kind::Fixed64 => unsigned64().map(|value| out.put_u64_le(value)),
        Kind::Sfixed32 => signed32().map(|value| out.put_i32_le(value)),
        Kind::Sfixed64 => signed64().map(|value| out.put_i64_le(value)),
        _ => None,
    };
    written.is_some()
}

/// Writes the value that a JSON number, quoted or not, stands for. The error is for the caller.
pub(crate) fn put_number(out: &mut BytesMut, kind: Kind, text: &str) -> Result<(), String> {
    let refused = || format!("{text:?} is no {}", kind_name(kind));
    match kind {
        Kind::Double => out.put_f64_le(number::double(text).ok_or_else(refused)?),
        Kind::Float => out.put_f32_le(number::float(text).ok_or_else(refused)?),
        _ => {
            let value = number::integer(text).ok_or_else(refused)?;
            if !put_integer(out, kind, value) {
                return Err(format!("{text} is out of range for a {}", kind_name(kind)));
            }
        }
    }
    Ok(())
}

/// Writes the value of any scalar kind from its text: enums by name or number, bytes in base64.
pub(crate) fn put_text(
    tables: &Tables,
    out: &mut BytesMut,
    kind: Kind,
    text: &str,
    any_case: bool,
) -> Result<(), String> {
    match kind {
        Kind::Bool => match text {
            "true" => out.put_u8(1),
            "false" => out.put_u8(0),
            _ => return Err(format!("{text:?} is neither true nor false")),
        },
        Kind::String => wire::put_delimited(out, text.as_bytes()),
        Kind::Bytes => {
            let start = wire::open(out);
            if !well_known::put_base64(out, text) {
                return Err("not base64".to_owned());
            }
            wire::close(out, start);
        }
        Kind::Enum(id) => {
            let table = tables.enumeration(id);
            if let Some(value) = table.number(text, any_case) {
                wire::put_varint(out, i64::from(value) as u64);
            } else if !number::integer(text).is_some_and(|value| put_integer(out, kind, value)) {
                return Err(format!(
                    "{text:?} is no value of {}",
                    table.descriptor.full_name()
                ));
            }
        }
        Kind::Message(_) => return Err("a message has no text form".to_owned()),
        _ => put_number(out, kind, text)?,
    }
    Ok(())
}

/// Writes a message that JSON says as a string (a time, a duration, a field mask, a wrapper) from that string.
/// Nothing when the message is none of these.
pub(crate) fn put_known_text(
    tables: &Tables,
    out: &mut BytesMut,
    known: crate::tables::message::Known,
    text: &str,
    any_case: bool,
) -> Option<Result<(), String>> {
    use crate::tables::message::Known;
    let pair = |out: &mut BytesMut, value: Option<(i64, i32)>, reason: &str| match value {
        Some((seconds, nanos)) => {
            wire::put_varint_field(out, 1, seconds as u64);
            wire::put_varint_field(out, 2, i64::from(nanos) as u64);
            Ok(())
        }
        None => Err(reason.to_owned()),
    };
    Some(match known {
        Known::Timestamp => pair(
            out,
            well_known::parse_timestamp(text),
            "not an RFC 3339 time from year 1 to 9999",
        ),
        Known::Duration => pair(
            out,
            well_known::parse_duration(text),
            "not a duration in seconds, such as \"1.5s\"",
        ),
        Known::FieldMask => put_mask(out, text),
        Known::Wrapper(kind) => {
            let start = out.len();
            wire::put_varint(out, u64::from(wire::tag(1, kind.wire_type())));
            let body = out.len();
            put_text(tables, out, kind, text, any_case).map(|()| {
                if out[body..].iter().all(|byte| *byte == 0) {
                    out.truncate(start);
                }
            })
        }
        _ => return None,
    })
}

fn put_mask(out: &mut BytesMut, text: &str) -> Result<(), String> {
    for path in text.split(',').filter(|path| !path.is_empty()) {
        let snake = well_known::snake_case(path)
            .ok_or_else(|| format!("field mask path {path:?} is not in camel case"))?;
        wire::put_bytes_field(out, 1, snake.as_bytes());
    }
    Ok(())
}
