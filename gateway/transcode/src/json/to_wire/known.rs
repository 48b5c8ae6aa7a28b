//! The well-known types, whose JSON form is their own.

use bytes::BufMut as _;

use super::{Result, Writer};
use crate::{
    JsonError,
    error::Step,
    json::{
        keys::{Key, Keys},
        reader::Peek,
        scalar, type_name,
    },
    tables::message::{Kind, Known, MessageTable},
    wire,
};

impl<'a> Writer<'a, '_> {
    pub(super) fn known(&mut self, table: &'a MessageTable, known: Known) -> Result<()> {
        match known {
            Known::Empty => self.object(table, false, None),
            Known::Any => self.any(),
            Known::Struct => self.structure(),
            Known::ListValue => self.list(),
            Known::Value => self.value(),
            Known::Wrapper(kind) => self.wrapper(kind),
            Known::Timestamp | Known::Duration | Known::FieldMask => {
                let found = self.json.peek()?;
                if found != Peek::String {
                    return Err(self
                        .json
                        .fault(format!("expected a string, found {}", found.name())));
                }
                let text = self.json.string()?;
                match scalar::put_known_text(self.tables, self.out, known, &text, false) {
                    Some(Err(reason)) => Err(self.json.fault(format!("{text:?} is {reason}"))),
                    _ => Ok(()),
                }
            }
        }
    }

    fn wrapper(&mut self, kind: Kind) -> Result<()> {
        let start = self.out.len();
        wire::put_varint(self.out, u64::from(wire::tag(1, kind.wire_type())));
        let body = self.out.len();
        self.scalar(kind)?;
        if self.out[body..].iter().all(|byte| *byte == 0) {
            self.out.truncate(start);
        }
        Ok(())
    }

    fn value(&mut self) -> Result<()> {
        match self.json.peek()? {
            Peek::Null => {
                self.json.literal("null")?;
                self.out.put_slice(&[1 << 3, 0]);
            }
            Peek::Number => {
                let value = self.finite()?;
                self.out.put_u8(2 << 3 | wire::FIXED64);
                self.out.put_f64_le(value);
            }
            Peek::String => {
                let text = self.json.string()?;
                self.out.put_u8(3 << 3 | wire::DELIMITED);
                wire::put_delimited(self.out, text.as_bytes());
            }
            Peek::True => {
                self.json.literal("true")?;
                self.out.put_slice(&[4 << 3, 1]);
            }
            Peek::False => {
                self.json.literal("false")?;
                self.out.put_slice(&[4 << 3, 0]);
            }
            Peek::Object => {
                self.out.put_u8(5 << 3 | wire::DELIMITED);
                let start = wire::open(self.out);
                self.structure()?;
                wire::close(self.out, start);
            }
            Peek::Array => {
                self.out.put_u8(6 << 3 | wire::DELIMITED);
                let start = wire::open(self.out);
                self.list()?;
                wire::close(self.out, start);
            }
        }
        Ok(())
    }

    /// A `Value` inside a `Struct` or `ListValue`: one level deeper.
    fn inner_value(&mut self, number: u8) -> Result<()> {
        if self.depth >= crate::MAX_DEPTH {
            return Err(self.json.too_deep());
        }
        self.depth += 1;
        self.out.put_u8(number << 3 | wire::DELIMITED);
        let start = wire::open(self.out);
        self.value()?;
        wire::close(self.out, start);
        self.depth -= 1;
        Ok(())
    }

    fn structure(&mut self) -> Result<()> {
        let mut keys = Keys::default();
        let mut more = self.json.enter_object()?;
        while more {
            let key = self.json.key()?;
            let under = |error: JsonError| error.under(Step::Key(key.to_string()));
            if !keys.add(Key::Text(key.clone())) {
                return Err(under(self.json.fault("the key occurs twice")));
            }
            self.out.put_u8(1 << 3 | wire::DELIMITED);
            let entry = wire::open(self.out);
            self.out.put_u8(1 << 3 | wire::DELIMITED);
            wire::put_delimited(self.out, key.as_bytes());
            self.inner_value(2).map_err(under)?;
            wire::close(self.out, entry);
            more = self.json.more_in_object()?;
        }
        Ok(())
    }

    fn list(&mut self) -> Result<()> {
        let mut index = 0;
        let mut more = self.json.enter_array()?;
        while more {
            self.inner_value(1)
                .map_err(|error| error.under(Step::Index(index)))?;
            index += 1;
            more = self.json.more_in_array()?;
        }
        Ok(())
    }

    /// An `Any`: the type is looked for first, wherever it stands, then the object is read by that type.
    fn any(&mut self) -> Result<()> {
        let start = self.json.clone();
        let mut more = self.json.enter_object()?;
        if !more {
            return Ok(());
        }
        let mut found = None;
        while more && found.is_none() {
            if self.json.key()? == "@type" {
                if self.json.peek()? != Peek::String {
                    return Err(self
                        .json
                        .fault("expected a type URL")
                        .under(Step::Field("@type".to_owned())));
                }
                found = Some(self.json.string()?);
            } else {
                self.json.skip(self.depth)?;
            }
            if found.is_none() {
                more = self.json.more_in_object()?;
            }
        }
        let Some(url) = found else {
            return Err(self.json.fault("\"@type\" is missing"));
        };
        let id = type_name(&url)
            .and_then(|name| self.tables.message(name))
            .ok_or_else(|| {
                let error = self.json.fault(format!("unknown type {url:?}"));
                error.under(Step::Field("@type".to_owned()))
            })?;
        wire::put_bytes_field(self.out, 1, url.as_bytes());
        self.json = start;
        let before = self.out.len();
        self.out.put_u8(2 << 3 | wire::DELIMITED);
        let body = wire::open(self.out);
        let table = self.tables.table(id);
        if self.depth >= crate::MAX_DEPTH {
            return Err(self.json.too_deep());
        }
        self.depth += 1;
        match table.known {
            None => self.object(table, false, Some("@type"))?,
            Some(known) => self.any_known(table, known)?,
        }
        self.depth -= 1;
        if self.out.len() == body {
            self.out.truncate(before);
        } else {
            wire::close(self.out, body);
        }
        Ok(())
    }

    /// `{"@type": …, "value": …}`
    fn any_known(&mut self, table: &'a MessageTable, known: Known) -> Result<()> {
        let (mut seen_type, mut seen_value) = (false, false);
        let mut more = self.json.enter_object()?;
        while more {
            let key = self.json.key()?;
            match &*key {
                "@type" if !seen_type => {
                    seen_type = true;
                    self.json.skip(self.depth)?;
                }
                "value" if !seen_value => {
                    seen_value = true;
                    self.known(table, known)
                        .map_err(|error| error.under(Step::Field("value".to_owned())))?;
                }
                _ if !matches!(&*key, "@type" | "value") && self.options.ignore_unknown_fields => {
                    self.json.skip(self.depth)?;
                }
                _ => {
                    return Err(self
                        .json
                        .fault("only \"@type\" and \"value\", once each")
                        .under(Step::Field(key.into_owned())));
                }
            }
            more = self.json.more_in_object()?;
        }
        if seen_value || known == Known::Empty {
            Ok(())
        } else {
            Err(self.json.fault("\"value\" is missing"))
        }
    }
}
