//! Wire bytes to JSON, in one pass over the bytes.
//!
//! The pass prints fields as they come. Where that is impossible (a repeated field in several pieces, a singular
//! field twice, two members of a oneof, a map key twice) the message concerned, and only that, is put in order by
//! way of a `DynamicMessage` and printed then.

mod known;
mod map;
mod scalar;

use std::sync::atomic::Ordering;

use prost_reflect::{DynamicMessage, prost::Message as _};

use self::scalar::is_default;
use super::JsonOptions;
use crate::{
    DecodeError, MAX_DEPTH, MessageId, Tables,
    tables::{
        bits::Bits,
        message::{Field, Kind, MessageTable, Shape},
    },
    wire::{self, Cursor, Reason},
};

/// Why printing stopped.
enum Stop {
    /// The fields come in an order that one pass cannot print.
    Order,
    Fail(DecodeError),
}

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Fail(error)
    }
}

type Result<T> = std::result::Result<T, Stop>;

const DISORDER: &str = "its fields cannot be put in order";

fn malformed(table: &MessageTable, reason: Reason) -> DecodeError {
    DecodeError::Malformed {
        message: table.name().to_owned(),
        reason,
    }
}

fn finish(result: Result<()>, table: &MessageTable) -> std::result::Result<(), DecodeError> {
    result.map_err(|stop| match stop {
        Stop::Order => malformed(table, DISORDER),
        Stop::Fail(error) => error,
    })
}

/// Appends the JSON form of a message.
pub(crate) fn message(
    tables: &Tables,
    id: MessageId,
    wire: &[u8],
    options: JsonOptions,
    out: &mut Vec<u8>,
) -> std::result::Result<(), DecodeError> {
    out.reserve(wire.len() * 2);
    let mut printer = Printer {
        tables,
        options,
        out,
        depth: 0,
        budget: wire.len().saturating_mul(usize::from(MAX_DEPTH)),
    };
    finish(printer.message(id, wire), tables.table(id))
}

/// Appends the JSON form of one field of a message; its default when it is absent.
pub(crate) fn single_field(
    tables: &Tables,
    id: MessageId,
    field: usize,
    wire: &[u8],
    options: JsonOptions,
    out: &mut Vec<u8>,
) -> std::result::Result<(), DecodeError> {
    let table = tables.table(id);
    let field = &table.fields[field];
    let mut records = Vec::with_capacity(wire.len());
    let mut cursor = Cursor::new(wire);
    while !cursor.is_empty() {
        let (number, record) = cursor.record().map_err(|reason| malformed(table, reason))?;
        if number == field.number {
            records.extend_from_slice(record);
        }
    }
    let mut printer = Printer {
        tables,
        options,
        out,
        depth: 1,
        budget: wire.len().saturating_mul(usize::from(MAX_DEPTH)),
    };
    finish(
        printer.ordered(table, &records, |printer, wire| {
            printer.lone_field(table, field, wire)
        }),
        table,
    )
}

struct Printer<'a> {
    tables: &'a Tables,
    options: JsonOptions,
    out: &'a mut Vec<u8>,
    depth: u16,
    /// How many bytes may still be put in order. Disorder inside of disorder could otherwise double the work at
    /// every level of `Any`.
    budget: usize,
}

impl<'a> Printer<'a> {
    fn message(&mut self, id: MessageId, wire: &[u8]) -> Result<()> {
        if self.depth >= MAX_DEPTH {
            return Err(DecodeError::TooDeep.into());
        }
        self.depth += 1;
        let table = self.tables.table(id);
        self.ordered(table, wire, |printer, wire| match table.known {
            None => {
                printer.out.push(b'{');
                printer.members(table, wire, true)?;
                printer.out.push(b'}');
                Ok(())
            }
            Some(known) => printer.known(table, known, wire),
        })?;
        self.depth -= 1;
        Ok(())
    }

    /// Prints; when the order is wrong, takes that back and prints the message in order.
    fn ordered(
        &mut self,
        table: &MessageTable,
        wire: &[u8],
        print: impl Fn(&mut Self, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let (length, depth) = (self.out.len(), self.depth);
        match print(self, wire) {
            Err(Stop::Order) => {
                self.out.truncate(length);
                self.depth = depth;
                self.budget = self
                    .budget
                    .checked_sub(wire.len())
                    .ok_or_else(|| malformed(table, DISORDER))?;
                self.tables.reordered.fetch_add(1, Ordering::Relaxed);
                let message = DynamicMessage::decode(table.descriptor.clone(), wire)
                    .map_err(|_| malformed(table, DISORDER))?;
                match print(self, &message.encode_to_vec()) {
                    Err(Stop::Order) => Err(malformed(table, DISORDER).into()),
                    result => result,
                }
            }
            result => result,
        }
    }

    /// The members of an object, without the braces.
    fn members(&mut self, table: &'a MessageTable, wire: &[u8], mut first: bool) -> Result<()> {
        let mut seen = Bits::new(table.bits);
        let mut cursor = Cursor::new(wire);
        while !cursor.is_empty() {
            let (number, wire_type) = cursor.tag().map_err(|reason| malformed(table, reason))?;
            let Some((index, field)) = table.field(number) else {
                cursor
                    .skip(number, wire_type)
                    .map_err(|reason| malformed(table, reason))?;
                continue;
            };
            if seen.set(index)
                || field
                    .oneof
                    .is_some_and(|oneof| seen.set(usize::from(oneof)))
            {
                return Err(Stop::Order);
            }
            let start = self.out.len();
            self.key(field, first);
            if self.value(table, field, wire_type, &mut cursor)? {
                first = false;
            } else {
                self.out.truncate(start);
            }
        }
        if self.options.always_print_primitives {
            for (index, field) in table.fields.iter().enumerate() {
                if !field.presence && !seen.has(index) {
                    self.key(field, first);
                    self.default(field);
                    first = false;
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn key(&mut self, field: &Field, first: bool) {
        if !first {
            self.out.push(b',');
        }
        self.out.extend_from_slice(if self.options.proto_names {
            &field.proto_key
        } else {
            &field.key
        });
    }

    /// The value of a message that has only this field, or its default.
    fn lone_field(&mut self, table: &'a MessageTable, field: &'a Field, wire: &[u8]) -> Result<()> {
        let mut cursor = Cursor::new(wire);
        if cursor.is_empty() {
            self.default(field);
            return Ok(());
        }
        let start = self.out.len();
        let (_, wire_type) = cursor.tag().map_err(|reason| malformed(table, reason))?;
        if !self.value(table, field, wire_type, &mut cursor)? {
            self.out.truncate(start);
            self.default(field);
        }
        if cursor.is_empty() {
            Ok(())
        } else {
            Err(Stop::Order)
        }
    }

    fn default(&mut self, field: &Field) {
        match (field.shape, field.kind) {
            (Shape::Repeated, _) => self.out.extend_from_slice(b"[]"),
            (Shape::Map, _) => self.out.extend_from_slice(b"{}"),
            (Shape::Singular, kind) => self.default_value(kind),
        }
    }

    /// The value of a field whose tag was read, with all that follows for a repeated field or map. False when it is
    /// a default that is not printed.
    fn value(
        &mut self,
        table: &'a MessageTable,
        field: &'a Field,
        wire_type: u8,
        cursor: &mut Cursor<'_>,
    ) -> Result<bool> {
        match field.shape {
            Shape::Singular => {
                let before = cursor.rest();
                self.element(table, field, wire_type, cursor)?;
                let silent = !field.presence && !self.options.always_print_primitives;
                Ok(!(silent
                    && is_default(field.kind, &before[..before.len() - cursor.rest().len()])))
            }
            Shape::Repeated => self.repeated(table, field, wire_type, cursor),
            Shape::Map => {
                self.map(table, field, wire_type, cursor)?;
                Ok(true)
            }
        }
    }

    /// One value whose tag was read.
    fn element(
        &mut self,
        table: &'a MessageTable,
        field: &'a Field,
        wire_type: u8,
        cursor: &mut Cursor<'_>,
    ) -> Result<()> {
        let fail = |reason| malformed(table, reason);
        match field.kind {
            Kind::Message(id) => {
                let body = match (field.group, wire_type) {
                    (false, wire::DELIMITED) => cursor.delimited().map_err(fail)?,
                    (true, wire::START_GROUP) => cursor.group(field.number).map_err(fail)?,
                    _ => return Err(fail("unexpected wire type").into()),
                };
                self.message(id, body)
            }
            kind if kind.wire_type() == wire_type => self.scalar(table, field, kind, cursor),
            _ => Err(fail("unexpected wire type").into()),
        }
    }

    fn repeated(
        &mut self,
        table: &'a MessageTable,
        field: &'a Field,
        mut wire_type: u8,
        cursor: &mut Cursor<'_>,
    ) -> Result<bool> {
        let fail = |reason| malformed(table, reason);
        self.out.push(b'[');
        let mut empty = true;
        loop {
            if wire_type == wire::DELIMITED && field.kind.packable() && !field.group {
                let mut packed = Cursor::new(cursor.delimited().map_err(fail)?);
                while !packed.is_empty() {
                    self.comma(&mut empty);
                    self.scalar(table, field, field.kind, &mut packed)?;
                }
            } else {
                self.comma(&mut empty);
                self.element(table, field, wire_type, cursor)?;
            }
            match follows(field, cursor).map_err(fail)? {
                Some(next) => wire_type = next,
                None => break,
            }
        }
        self.out.push(b']');
        Ok(!empty || self.options.always_print_primitives)
    }

    fn comma(&mut self, empty: &mut bool) {
        if !*empty {
            self.out.push(b',');
        }
        *empty = false;
    }
}

/// The wire type of the next value when it belongs to the same field; its tag is consumed then.
fn follows(field: &Field, cursor: &mut Cursor<'_>) -> std::result::Result<Option<u8>, Reason> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let mut ahead = *cursor;
    let (number, wire_type) = ahead.tag()?;
    if number != field.number {
        return Ok(None);
    }
    *cursor = ahead;
    Ok(Some(wire_type))
}
