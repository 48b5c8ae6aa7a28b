//! Values of the kinds that are no messages, and defaults.

use super::{Printer, Result, malformed};
use crate::{
    DecodeError,
    json::{number, plain, well_known},
    tables::message::{Field, Kind, MessageTable},
    wire::{self, Cursor},
};

impl Printer<'_> {
    pub(super) fn default_value(&mut self, kind: Kind) {
        let text: &[u8] = match kind {
            Kind::String | Kind::Bytes => b"\"\"",
            Kind::Bool => b"false",
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => b"\"0\"",
            Kind::Double | Kind::Float => b"0.0",
            Kind::Enum(_) => {
                self.enumeration(kind, 0);
                return;
            }
            Kind::Message(id) => {
                let start = self.out.len();
                if self.message(id, b"").is_err() {
                    self.out.truncate(start);
                    self.out.extend_from_slice(b"null");
                }
                return;
            }
            _ => b"0",
        };
        self.out.extend_from_slice(text);
    }

    /// A value of a kind that is no message, without its tag.
    pub(super) fn scalar(
        &mut self,
        table: &MessageTable,
        field: &Field,
        kind: Kind,
        cursor: &mut Cursor<'_>,
    ) -> Result<()> {
        let fail = |reason| malformed(table, reason);
        match kind {
            Kind::String => push_string(
                self.out,
                text(table, field, cursor.delimited().map_err(fail)?)?,
            ),
            Kind::Bytes => well_known::push_base64(self.out, cursor.delimited().map_err(fail)?),
            Kind::Bool => self
                .out
                .extend_from_slice(if cursor.varint().map_err(fail)? == 0 {
                    b"false"
                } else {
                    b"true"
                }),
            Kind::Int32 => {
                number::push_signed(self.out, i64::from(cursor.varint().map_err(fail)? as i32));
            }
            Kind::Uint32 => {
                number::push_unsigned(self.out, u64::from(cursor.varint().map_err(fail)? as u32));
            }
            Kind::Sint32 => {
                let value = cursor.varint().map_err(fail)? as u32;
                number::push_signed(self.out, wire::unzigzag64(u64::from(value)));
            }
            Kind::Fixed32 => {
                number::push_unsigned(self.out, u64::from(cursor.fixed32().map_err(fail)?));
            }
            Kind::Sfixed32 => {
                number::push_signed(self.out, i64::from(cursor.fixed32().map_err(fail)? as i32));
            }
            Kind::Int64 => self.quoted_signed(cursor.varint().map_err(fail)? as i64),
            Kind::Sint64 => self.quoted_signed(wire::unzigzag64(cursor.varint().map_err(fail)?)),
            Kind::Sfixed64 => self.quoted_signed(cursor.fixed64().map_err(fail)? as i64),
            Kind::Uint64 => self.quoted_unsigned(cursor.varint().map_err(fail)?),
            Kind::Fixed64 => self.quoted_unsigned(cursor.fixed64().map_err(fail)?),
            Kind::Float => {
                number::push_float(self.out, f32::from_bits(cursor.fixed32().map_err(fail)?));
            }
            Kind::Double => {
                number::push_double(self.out, f64::from_bits(cursor.fixed64().map_err(fail)?));
            }
            Kind::Enum(_) => {
                let value = cursor.varint().map_err(fail)? as i32;
                self.enumeration(kind, value);
            }
            Kind::Message(_) => return Err(fail("a message in a packed field").into()),
        }
        Ok(())
    }

    pub(super) fn enumeration(&mut self, kind: Kind, value: i32) {
        let Kind::Enum(id) = kind else { return };
        let table = self.tables.enumeration(id);
        match table.quoted(value) {
            _ if table.null => self.out.extend_from_slice(b"null"),
            Some(quoted) if !self.options.enums_as_numbers => {
                self.out.extend_from_slice(quoted.as_bytes());
            }
            _ => number::push_signed(self.out, i64::from(value)),
        }
    }

    pub(super) fn quoted_signed(&mut self, value: i64) {
        self.out.push(b'"');
        number::push_signed(self.out, value);
        self.out.push(b'"');
    }

    pub(super) fn quoted_unsigned(&mut self, value: u64) {
        self.out.push(b'"');
        number::push_unsigned(self.out, value);
        self.out.push(b'"');
    }
}

/// Whether the bytes of a value (without its tag) are the default of its kind.
pub(super) fn is_default(kind: Kind, bytes: &[u8]) -> bool {
    match kind.wire_type() {
        wire::VARINT => bytes.iter().all(|byte| byte << 1 == 0),
        wire::DELIMITED => {
            bytes.iter().all(|byte| byte << 1 == 0)
                && Cursor::new(bytes).delimited().is_ok_and(<[u8]>::is_empty)
        }
        _ => bytes.iter().all(|byte| *byte == 0),
    }
}

pub(super) fn text<'w>(
    table: &MessageTable,
    field: &Field,
    bytes: &'w [u8],
) -> std::result::Result<&'w str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8 {
        message: table.name().to_owned(),
        field: field.name.to_string(),
    })
}

pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    if plain::prefix(text.as_bytes()) == text.len() {
        out.reserve(text.len() + 2);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    serde_json::to_writer(out, text).expect("a vector takes every string");
}
