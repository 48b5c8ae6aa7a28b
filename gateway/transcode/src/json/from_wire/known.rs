//! The well-known types, whose JSON form is their own.

use super::{Printer, Result, Stop, follows, malformed, scalar::push_string};
use crate::{
    DecodeError,
    json::{number, type_name, well_known},
    tables::message::{Kind, Known, MessageTable},
    wire::{self, Cursor},
};

impl<'a> Printer<'a> {
    pub(super) fn known(
        &mut self,
        table: &'a MessageTable,
        known: Known,
        wire: &[u8],
    ) -> Result<()> {
        match known {
            Known::Empty => {
                each(table, wire, |number, wire_type, cursor| {
                    cursor.skip(number, wire_type)
                })?;
                self.out.extend_from_slice(b"{}");
                Ok(())
            }
            Known::Timestamp => self.seconds_and_nanos(table, wire, well_known::push_timestamp),
            Known::Duration => self.seconds_and_nanos(table, wire, well_known::push_duration),
            Known::FieldMask => self.mask(table, wire),
            Known::Wrapper(kind) => self.wrapper(table, kind, wire),
            Known::Any => self.any(table, wire),
            Known::Value => self.dynamic_value(table, wire),
            Known::Struct => self.structure(table, wire),
            Known::ListValue => self.list(table, wire),
        }
    }

    fn seconds_and_nanos(
        &mut self,
        table: &MessageTable,
        wire: &[u8],
        push: fn(&mut Vec<u8>, i64, i32) -> bool,
    ) -> Result<()> {
        let (mut seconds, mut nanos) = (0, 0);
        each(table, wire, |number, wire_type, cursor| {
            match (number, wire_type) {
                (1, wire::VARINT) => seconds = cursor.varint()? as i64,
                (2, wire::VARINT) => nanos = cursor.varint()? as i32,
                (1 | 2, _) => return Err("unexpected wire type"),
                _ => cursor.skip(number, wire_type)?,
            }
            Ok(())
        })?;
        self.out.push(b'"');
        if !push(self.out, seconds, nanos) {
            return Err(unrepresentable(table, "out of range"));
        }
        self.out.push(b'"');
        Ok(())
    }

    fn mask(&mut self, table: &MessageTable, wire: &[u8]) -> Result<()> {
        let mut paths = String::new();
        let mut utf8 = true;
        let mut camel = true;
        each(table, wire, |number, wire_type, cursor| {
            match (number, wire_type) {
                (1, wire::DELIMITED) => {
                    if !paths.is_empty() {
                        paths.push(',');
                    }
                    match std::str::from_utf8(cursor.delimited()?) {
                        Ok(path) => camel &= well_known::push_camel_case(&mut paths, path),
                        Err(_) => utf8 = false,
                    }
                }
                (1, _) => return Err("unexpected wire type"),
                _ => cursor.skip(number, wire_type)?,
            }
            Ok(())
        })?;
        if !utf8 {
            return Err(DecodeError::Utf8 {
                message: table.name().to_owned(),
                field: "paths".to_owned(),
            }
            .into());
        }
        if !camel {
            return Err(unrepresentable(table, "a path has no form in camel case"));
        }
        push_string(self.out, &paths);
        Ok(())
    }

    fn wrapper(&mut self, table: &'a MessageTable, kind: Kind, wire: &[u8]) -> Result<()> {
        let Some((_, field)) = table.field(1) else {
            return Err(malformed(table, "it has no field 1").into());
        };
        let mut found = None;
        each(table, wire, |number, wire_type, cursor| {
            if number == 1 {
                if wire_type != kind.wire_type() {
                    return Err("unexpected wire type");
                }
                found = Some(*cursor);
            }
            cursor.skip(number, wire_type)
        })?;
        if let Some(mut cursor) = found {
            return self.scalar(table, field, kind, &mut cursor);
        }
        self.default_value(kind);
        Ok(())
    }

    fn any(&mut self, table: &MessageTable, wire: &[u8]) -> Result<()> {
        let (mut url, mut value): (&[u8], &[u8]) = (b"", b"");
        let mut cursor = Cursor::new(wire);
        while !cursor.is_empty() {
            let fail = |reason| malformed(table, reason);
            match cursor.tag().map_err(fail)? {
                (1, wire::DELIMITED) => url = cursor.delimited().map_err(fail)?,
                (2, wire::DELIMITED) => value = cursor.delimited().map_err(fail)?,
                (1 | 2, _) => return Err(fail("unexpected wire type").into()),
                (number, wire_type) => cursor.skip(number, wire_type).map_err(fail)?,
            }
        }
        if url.is_empty() && value.is_empty() {
            self.out.extend_from_slice(b"{}");
            return Ok(());
        }
        let url = std::str::from_utf8(url).map_err(|_| DecodeError::Utf8 {
            message: table.name().to_owned(),
            field: "type_url".to_owned(),
        })?;
        self.out.extend_from_slice(b"{\"@type\":");
        push_string(self.out, url);
        match type_name(url).and_then(|name| self.tables.message(name)) {
            Some(id) => {
                let payload = self.tables.table(id);
                if payload.known.is_some() {
                    self.out.extend_from_slice(b",\"value\":");
                    self.message(id, value)?;
                } else {
                    if self.depth >= crate::MAX_DEPTH {
                        return Err(DecodeError::TooDeep.into());
                    }
                    self.depth += 1;
                    self.ordered(payload, value, |printer, value| {
                        printer.members(payload, value, false)
                    })?;
                    self.depth -= 1;
                }
            }
            None if self.options.skip_unknown_any => {}
            None => return Err(DecodeError::UnknownType(url.to_owned()).into()),
        }
        self.out.push(b'}');
        Ok(())
    }

    /// A `Value`; without a kind it is `null`.
    fn dynamic_value(&mut self, table: &'a MessageTable, wire: &[u8]) -> Result<()> {
        let fail = |reason| malformed(table, reason);
        let mut seen = false;
        let mut cursor = Cursor::new(wire);
        while !cursor.is_empty() {
            let (number, wire_type) = cursor.tag().map_err(fail)?;
            if !(1..=6).contains(&number) {
                cursor.skip(number, wire_type).map_err(fail)?;
                continue;
            }
            if std::mem::replace(&mut seen, true) {
                return Err(Stop::Order);
            }
            match (number, wire_type) {
                (1, wire::VARINT) => {
                    cursor.varint().map_err(fail)?;
                    self.out.extend_from_slice(b"null");
                }
                (2, wire::FIXED64) => {
                    let value = f64::from_bits(cursor.fixed64().map_err(fail)?);
                    if !value.is_finite() {
                        return Err(unrepresentable(table, "a number that is not finite"));
                    }
                    number::push_double(self.out, value);
                }
                (3, wire::DELIMITED) => {
                    let bytes = cursor.delimited().map_err(fail)?;
                    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8 {
                        message: table.name().to_owned(),
                        field: "string_value".to_owned(),
                    })?;
                    push_string(self.out, text);
                }
                (4, wire::VARINT) => {
                    let value = cursor.varint().map_err(fail)? != 0;
                    self.out
                        .extend_from_slice(if value { b"true" } else { b"false" });
                }
                (5 | 6, wire::DELIMITED) => {
                    let body = cursor.delimited().map_err(fail)?;
                    self.container(table, number, body)?;
                }
                _ => return Err(fail("unexpected wire type").into()),
            }
        }
        if !seen {
            self.out.extend_from_slice(b"null");
        }
        Ok(())
    }

    /// The `Struct` (5) or `ListValue` (6) of a `Value`: the same level of JSON, a message of its own on the wire.
    fn container(&mut self, value: &'a MessageTable, number: u32, body: &[u8]) -> Result<()> {
        let Some(Kind::Message(id)) = value.field(number).map(|(_, field)| field.kind) else {
            return Err(malformed(value, "it has no such field").into());
        };
        let table = self.tables.table(id);
        self.ordered(table, body, |printer, body| {
            if number == 5 {
                printer.structure(table, body)
            } else {
                printer.list(table, body)
            }
        })
    }

    fn structure(&mut self, table: &'a MessageTable, wire: &[u8]) -> Result<()> {
        let Some((_, field)) = table.field(1) else {
            return Err(malformed(table, "it has no field 1").into());
        };
        let mut cursor = Cursor::new(wire);
        let mut seen = false;
        while !cursor.is_empty() {
            let (number, wire_type) = cursor.tag().map_err(|reason| malformed(table, reason))?;
            if number != 1 {
                cursor
                    .skip(number, wire_type)
                    .map_err(|reason| malformed(table, reason))?;
                continue;
            }
            if std::mem::replace(&mut seen, true) {
                return Err(Stop::Order);
            }
            self.map(table, field, wire_type, &mut cursor)?;
        }
        if !seen {
            self.out.extend_from_slice(b"{}");
        }
        Ok(())
    }

    fn list(&mut self, table: &'a MessageTable, wire: &[u8]) -> Result<()> {
        let fail = |reason| malformed(table, reason);
        let Some((_, field)) = table.field(1) else {
            return Err(fail("it has no field 1").into());
        };
        let mut cursor = Cursor::new(wire);
        let mut empty = true;
        self.out.push(b'[');
        while !cursor.is_empty() {
            if let Some(wire_type) = follows(field, &mut cursor).map_err(fail)? {
                self.comma(&mut empty);
                self.element(table, field, wire_type, &mut cursor)?;
            } else {
                let (number, wire_type) = cursor.tag().map_err(fail)?;
                cursor.skip(number, wire_type).map_err(fail)?;
            }
        }
        self.out.push(b']');
        Ok(())
    }
}

fn unrepresentable(table: &MessageTable, reason: &'static str) -> Stop {
    DecodeError::Unrepresentable {
        message: table.name().to_owned(),
        reason,
    }
    .into()
}

/// Calls `read` for every field, with the cursor behind its tag; it consumes the value.
fn each<'w>(
    table: &MessageTable,
    wire: &'w [u8],
    mut read: impl FnMut(u32, u8, &mut Cursor<'w>) -> std::result::Result<(), wire::Reason>,
) -> Result<()> {
    let mut cursor = Cursor::new(wire);
    while !cursor.is_empty() {
        let (number, wire_type) = cursor.tag().map_err(|reason| malformed(table, reason))?;
        read(number, wire_type, &mut cursor).map_err(|reason| malformed(table, reason))?;
    }
    Ok(())
}
