//! Maps, whose entries are messages with a key and a value.

use std::borrow::Cow;

use super::{Result, Writer};
use crate::{
    error::Step,
    json::{
        keys::{Key, Keys},
        reader::Peek,
        scalar,
    },
    tables::message::{Field, Kind},
    wire,
};

impl<'a> Writer<'a, '_> {
    pub(super) fn map(&mut self, field: &'a Field) -> Result<()> {
        let Some((key_field, value_field)) = self.tables.map_entry(field) else {
            return Err(self.json.fault("the map has no entry type"));
        };
        let mut keys = Keys::default();
        let mut more = self.json.enter_object()?;
        while more {
            let key = self.json.key()?;
            self.entry(field, key_field, value_field, key.clone(), &mut keys)
                .map_err(|error| error.under(Step::Key(key.into_owned())))?;
            more = self.json.more_in_object()?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        field: &Field,
        key_field: &Field,
        value_field: &'a Field,
        key: Cow<'a, str>,
        keys: &mut Keys<'a>,
    ) -> Result<()> {
        let start = self.out.len();
        self.out.extend_from_slice(field.tag());
        let entry = wire::open(self.out);
        self.out.extend_from_slice(key_field.tag());
        let body = self.out.len();
        scalar::put_text(self.tables, self.out, key_field.kind, &key, false)
            .map_err(|reason| self.json.fault(format!("map key: {reason}")))?;
        let unique = match key_field.kind {
            Kind::String => Key::Text(key),
            _ => Key::Bits(key_bits(key_field.kind, &self.out[body..])),
        };
        if !keys.add(unique) {
            return Err(self.json.fault("the key occurs twice"));
        }
        if self.json.peek()? == Peek::Null && !self.tables.takes_null(value_field.kind) {
            return Err(self.json.fault("null in a map"));
        }
        let written = match value_field.kind {
            Kind::Message(id) => self.embedded(value_field, id, false).map(|()| true)?,
            kind => {
                self.out.extend_from_slice(value_field.tag());
                self.scalar(kind)?
            }
        };
        if written {
            wire::close(self.out, entry);
        } else {
            self.out.truncate(start);
        }
        Ok(())
    }
}

/// A number for each value of a map key, from its wire form as it is written here.
fn key_bits(kind: Kind, written: &[u8]) -> u64 {
    if kind.wire_type() == wire::VARINT {
        return wire::Cursor::new(written).varint().unwrap_or_default();
    }
    written
        .iter()
        .rev()
        .fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}
