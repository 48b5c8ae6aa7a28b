//! Values of the kinds that are no messages.

use bytes::BufMut as _;

use super::{Result, Writer};
use crate::{
    JsonError,
    json::{number, reader::Peek, scalar, well_known},
    tables::message::Kind,
    wire,
};

impl Writer<'_, '_> {
    /// A value without its tag. False when it is an unknown enum name that is to be ignored.
    pub(super) fn scalar(&mut self, kind: Kind) -> Result<bool> {
        let found = self.json.peek()?;
        match (kind, found) {
            (Kind::Bool, Peek::True) => {
                self.json.literal("true")?;
                self.out.put_u8(1);
            }
            (Kind::Bool, Peek::False) => {
                self.json.literal("false")?;
                self.out.put_u8(0);
            }
            (Kind::String, Peek::String) => {
                let text = self.json.string()?;
                wire::put_delimited(self.out, text.as_bytes());
            }
            (Kind::Bytes, Peek::String) => {
                let text = self.json.string()?;
                let start = wire::open(self.out);
                if !well_known::put_base64(self.out, &text) {
                    return Err(self.json.fault("not base64"));
                }
                wire::close(self.out, start);
            }
            (Kind::Enum(id), Peek::String) => {
                let name = self.json.string()?;
                let table = self.tables.enumeration(id);
                match table.number(&name, self.options.case_insensitive_enums) {
                    Some(value) => wire::put_varint(self.out, i64::from(value) as u64),
                    None if self.options.ignore_unknown_fields => return Ok(false),
                    None => {
                        return Err(self.json.fault(format!(
                            "{name:?} is no value of {}",
                            table.descriptor.full_name()
                        )));
                    }
                }
            }
            (Kind::Enum(id), Peek::Null) if self.tables.enumeration(id).null => {
                self.json.literal("null")?;
                self.out.put_u8(0);
            }
            (Kind::Bool | Kind::String | Kind::Bytes | Kind::Message(_), _) => {
                return Err(self.unexpected(kind, found));
            }
            (_, Peek::Number) => {
                let text = self.json.number()?;
                self.put_number(kind, text)?;
            }
            (Kind::Enum(_), _) => return Err(self.unexpected(kind, found)),
            (_, Peek::String) => {
                let text = self.json.string()?;
                self.put_number(kind, &text)?;
            }
            _ => return Err(self.unexpected(kind, found)),
        }
        Ok(true)
    }

    fn put_number(&mut self, kind: Kind, text: &str) -> Result<()> {
        scalar::put_number(self.out, kind, text).map_err(|reason| self.json.fault(reason))
    }

    fn unexpected(&self, kind: Kind, found: Peek) -> JsonError {
        self.json.fault(format!(
            "expected a {}, found {}",
            scalar::kind_name(kind),
            found.name()
        ))
    }

    pub(super) fn finite(&mut self) -> Result<f64> {
        let text = self.json.number()?;
        number::double(text).ok_or_else(|| {
            self.json
                .fault(format!("{text} is out of range for a double"))
        })
    }
}
