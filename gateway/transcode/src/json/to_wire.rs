//! JSON to wire bytes, in one pass over the text.

mod known;
mod map;
mod scalar;

use bytes::BytesMut;

use super::reader::{Peek, Reader};
use crate::{
    JsonError, MAX_DEPTH, MessageId, Options, Tables,
    bind::mask::Mask,
    error::Step,
    tables::{
        bits::Bits,
        message::{Field, Kind, MessageTable, Shape},
    },
    wire,
};

type Result<T> = std::result::Result<T, JsonError>;

/// Appends the message that the text holds.
pub(crate) fn message(
    tables: &Tables,
    id: MessageId,
    json: &[u8],
    options: &Options,
    out: &mut BytesMut,
) -> Result<()> {
    let mut writer = Writer::new(tables, json, options, out, None)?;
    writer.message(id, false)?;
    writer.json.end()
}

/// Appends one field of a message, tag and all, from a text that holds its value. With a mask, its paths are
/// collected. A blank text is an absent field.
pub(crate) fn field(
    tables: &Tables,
    field: &Field,
    json: &[u8],
    options: &Options,
    out: &mut BytesMut,
    mask: Option<&mut Mask>,
) -> Result<()> {
    let collect = mask.is_some();
    let mut writer = Writer::new(tables, json, options, out, mask)?;
    writer.depth = 1;
    if writer.json.peek()? == Peek::Null
        && !(field.shape == Shape::Singular && tables.takes_null(field.kind))
    {
        writer.json.literal("null")?;
    } else {
        writer.field(field, collect)?;
    }
    writer.json.end()
}

/// Whether a text is empty or only space.
pub(crate) fn is_blank(json: &[u8]) -> bool {
    json.iter()
        .all(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t'))
}

struct Writer<'a, 'o> {
    tables: &'a Tables,
    json: Reader<'a>,
    options: &'a Options,
    out: &'o mut BytesMut,
    mask: Option<&'o mut Mask>,
    depth: u16,
}

impl<'a, 'o> Writer<'a, 'o> {
    fn new(
        tables: &'a Tables,
        json: &'a [u8],
        options: &'a Options,
        out: &'o mut BytesMut,
        mask: Option<&'o mut Mask>,
    ) -> Result<Self> {
        out.reserve(json.len());
        Ok(Self {
            tables,
            json: Reader::new(json)?,
            options,
            out,
            mask,
            depth: 0,
        })
    }

    /// The fields of a message, without tag and length. With `collect`, their paths go into the mask.
    fn message(&mut self, id: MessageId, collect: bool) -> Result<()> {
        if self.depth >= MAX_DEPTH {
            return Err(self.json.too_deep());
        }
        self.depth += 1;
        let table = self.tables.table(id);
        match table.known {
            None => self.object(table, collect, None)?,
            Some(known) => self.known(table, known)?,
        }
        self.depth -= 1;
        Ok(())
    }

    /// A JSON object by the table. The key `besides` is passed over, once.
    fn object(
        &mut self,
        table: &'a MessageTable,
        collect: bool,
        besides: Option<&str>,
    ) -> Result<()> {
        let mut seen = Bits::new(table.bits);
        let mut seen_besides = false;
        let mut guess = 0;
        let mut more = self.json.enter_object()?;
        while more {
            let key = self.json.key()?;
            match table.named(&key, guess) {
                Some(index) => {
                    guess = index + 1;
                    self.member(table, index, &mut seen, collect)
                        .map_err(|error| error.under(Step::Field(key.into_owned())))?;
                }
                None if besides == Some(&*key) && !seen_besides => {
                    seen_besides = true;
                    self.json.skip(self.depth)?;
                }
                None if besides == Some(&*key) => {
                    return Err(self.twice().under(Step::Field(key.into_owned())));
                }
                None if self.options.ignore_unknown_fields => self.json.skip(self.depth)?,
                None => {
                    let error = self
                        .json
                        .fault(format!("{} has no such field", table.name()));
                    return Err(error.under(Step::Field(key.into_owned())));
                }
            }
            more = self.json.more_in_object()?;
        }
        Ok(())
    }

    fn twice(&self) -> JsonError {
        self.json.fault("the field occurs twice")
    }

    fn member(
        &mut self,
        table: &'a MessageTable,
        index: usize,
        seen: &mut Bits,
        collect: bool,
    ) -> Result<()> {
        let field = &table.fields[index];
        if seen.set(index) {
            return Err(self.twice());
        }
        let null = self.json.peek()? == Peek::Null;
        if null && !(field.shape == Shape::Singular && self.tables.takes_null(field.kind)) {
            self.json.literal("null")?;
            if collect && let Some(mask) = &mut self.mask {
                mask.leaf(&field.name);
            }
            return Ok(());
        }
        if let Some(oneof) = field.oneof.map(usize::from)
            && seen.set(oneof)
        {
            let name = &table.oneofs[oneof - (table.bits - table.oneofs.len())];
            return Err(self
                .json
                .fault(format!("another field of the oneof {name:?} is set")));
        }
        if !collect {
            return self.field(field, false);
        }
        let descend = field.shape == Shape::Singular
            && matches!(field.kind, Kind::Message(id) if self.tables.table(id).known.is_none());
        if let Some(mask) = &mut self.mask {
            if descend {
                mask.enter(&field.name);
            } else {
                mask.leaf(&field.name);
            }
        }
        self.field(field, descend)?;
        if descend && let Some(mask) = &mut self.mask {
            mask.leave();
        }
        Ok(())
    }

    fn field(&mut self, field: &'a Field, collect: bool) -> Result<()> {
        match field.shape {
            Shape::Singular => self.singular(field, collect),
            Shape::Repeated => self.repeated(field),
            Shape::Map => self.map(field),
        }
    }

    /// Tag and value. A default value without presence leaves no trace.
    fn singular(&mut self, field: &'a Field, collect: bool) -> Result<()> {
        if let Kind::Message(id) = field.kind {
            return self.embedded(field, id, collect);
        }
        let start = self.out.len();
        self.out.extend_from_slice(field.tag());
        let body = self.out.len();
        let written = self.scalar(field.kind)?;
        // Zero as a varint, as fixed bytes and as a length is all zeros, and nothing else is.
        if !written || (!field.presence && self.out[body..].iter().all(|byte| *byte == 0)) {
            self.out.truncate(start);
        }
        Ok(())
    }

    fn embedded(&mut self, field: &Field, id: MessageId, collect: bool) -> Result<()> {
        self.out.extend_from_slice(field.tag());
        if field.group {
            self.message(id, collect)?;
            wire::put_varint(
                self.out,
                u64::from(wire::tag(field.number, wire::END_GROUP)),
            );
        } else {
            let start = wire::open(self.out);
            self.message(id, collect)?;
            wire::close(self.out, start);
        }
        Ok(())
    }

    fn repeated(&mut self, field: &'a Field) -> Result<()> {
        let mut more = self.json.enter_array()?;
        if !more {
            return Ok(());
        }
        let packed = if field.packed {
            self.out.extend_from_slice(field.tag());
            Some(wire::open(self.out))
        } else {
            None
        };
        let takes_null = self.tables.takes_null(field.kind);
        let mut index = 0;
        while more {
            let element = if !takes_null && self.json.peek()? == Peek::Null {
                Err(self.json.fault("null in a repeated field"))
            } else if packed.is_some() {
                self.scalar(field.kind).map(drop)
            } else {
                self.element(field)
            };
            element.map_err(|error| error.under(Step::Index(index)))?;
            index += 1;
            more = self.json.more_in_array()?;
        }
        if let Some(start) = packed {
            wire::close(self.out, start);
        }
        Ok(())
    }

    fn element(&mut self, field: &'a Field) -> Result<()> {
        if let Kind::Message(id) = field.kind {
            return self.embedded(field, id, false);
        }
        let start = self.out.len();
        self.out.extend_from_slice(field.tag());
        if !self.scalar(field.kind)? {
            self.out.truncate(start);
        }
        Ok(())
    }
}
