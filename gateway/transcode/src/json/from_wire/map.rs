//! Maps, whose entries are messages with a key and a value.

use super::{
    Printer, Result, Stop, follows, malformed,
    scalar::{push_string, text},
};
use crate::{
    json::keys::{Key, Keys},
    tables::message::{Field, Kind, MessageTable},
    wire::{self, Cursor},
};

impl<'a> Printer<'a> {
    pub(super) fn map(
        &mut self,
        table: &'a MessageTable,
        field: &'a Field,
        mut wire_type: u8,
        cursor: &mut Cursor<'_>,
    ) -> Result<()> {
        let fail = |reason| malformed(table, reason);
        let (key_field, value_field) = self
            .tables
            .map_entry(field)
            .ok_or_else(|| fail("the map has no entry type"))?;
        let mut keys = Keys::default();
        let mut empty = true;
        self.out.push(b'{');
        loop {
            if wire_type != wire::DELIMITED {
                return Err(fail("unexpected wire type").into());
            }
            let entry = cursor.delimited().map_err(fail)?;
            self.comma(&mut empty);
            if !keys.add(self.entry_key(table, key_field, entry)?) {
                return Err(Stop::Order);
            }
            self.out.push(b':');
            self.entry_value(table, value_field, entry)?;
            match follows(field, cursor).map_err(fail)? {
                Some(next) => wire_type = next,
                None => break,
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    /// Prints the key of a map entry as a string; of several the last counts.
    fn entry_key<'w>(
        &mut self,
        table: &MessageTable,
        field: &Field,
        entry: &'w [u8],
    ) -> Result<Key<'w>> {
        let fail = |reason| malformed(table, reason);
        let mut found: &[u8] = match field.kind.wire_type() {
            wire::FIXED32 => &[0; 4],
            wire::FIXED64 => &[0; 8],
            _ => &[0],
        };
        let mut cursor = Cursor::new(entry);
        while !cursor.is_empty() {
            let (number, wire_type) = cursor.tag().map_err(fail)?;
            let before = cursor.rest();
            cursor.skip(number, wire_type).map_err(fail)?;
            if number == 1 {
                if wire_type != field.kind.wire_type() {
                    return Err(fail("unexpected wire type").into());
                }
                found = &before[..before.len() - cursor.rest().len()];
            }
        }
        let mut cursor = Cursor::new(found);
        if field.kind == Kind::String {
            let bytes = cursor.delimited().map_err(fail)?;
            let text = text(table, field, bytes)?;
            push_string(self.out, text);
            return Ok(Key::Text(text.into()));
        }
        // 64-bit integers bring their own quotes.
        let quoted = matches!(
            field.kind,
            Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64
        );
        if !quoted {
            self.out.push(b'"');
        }
        let start = self.out.len();
        self.scalar(table, field, field.kind, &mut cursor)?;
        let printed = &self.out[start..];
        let bits = std::str::from_utf8(printed)
            .unwrap_or_default()
            .trim_matches('"');
        let bits = bits
            .parse::<i128>()
            .map_or_else(|_| u64::from(printed == b"true"), |value| value as u64);
        if !quoted {
            self.out.push(b'"');
        }
        Ok(Key::Bits(bits))
    }

    fn entry_value(
        &mut self,
        table: &'a MessageTable,
        field: &'a Field,
        entry: &[u8],
    ) -> Result<()> {
        let fail = |reason| malformed(table, reason);
        let mut found = None;
        let mut cursor = Cursor::new(entry);
        while !cursor.is_empty() {
            let (number, wire_type) = cursor.tag().map_err(fail)?;
            if number == 2 && found.replace((wire_type, cursor)).is_some() {
                return Err(Stop::Order);
            }
            cursor.skip(number, wire_type).map_err(fail)?;
        }
        if let Some((wire_type, mut cursor)) = found {
            return self.element(table, field, wire_type, &mut cursor);
        }
        self.default_value(field.kind);
        Ok(())
    }
}
