//! The table of one message: its fields by number and by name, with everything precomputed that the codec writes.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use prost_reflect::{Cardinality, FieldDescriptor, Kind as DescriptorKind, MessageDescriptor};

use super::{MessageId, enumeration::EnumId};
use crate::wire;

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(EnumId),
    Message(MessageId),
}

impl Kind {
    pub(crate) fn wire_type(self) -> u8 {
        match self {
            Self::Double | Self::Fixed64 | Self::Sfixed64 => wire::FIXED64,
            Self::Float | Self::Fixed32 | Self::Sfixed32 => wire::FIXED32,
            Self::String | Self::Bytes | Self::Message(_) => wire::DELIMITED,
            _ => wire::VARINT,
        }
    }

    pub(crate) fn packable(self) -> bool {
        self.wire_type() != wire::DELIMITED
    }
}

/// How often a field occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Singular,
    Repeated,
    Map,
}

/// Messages whose JSON form is their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Any,
    Duration,
    Empty,
    FieldMask,
    ListValue,
    Struct,
    Timestamp,
    Value,
    Wrapper(Kind),
}

impl Known {
    fn of(full_name: &str) -> Option<Self> {
        Some(match full_name.strip_prefix("google.protobuf.")? {
            "Any" => Self::Any,
            "Duration" => Self::Duration,
            "Empty" => Self::Empty,
            "FieldMask" => Self::FieldMask,
            "ListValue" => Self::ListValue,
            "Struct" => Self::Struct,
            "Timestamp" => Self::Timestamp,
            "Value" => Self::Value,
            "DoubleValue" => Self::Wrapper(Kind::Double),
            "FloatValue" => Self::Wrapper(Kind::Float),
            "Int64Value" => Self::Wrapper(Kind::Int64),
            "UInt64Value" => Self::Wrapper(Kind::Uint64),
            "Int32Value" => Self::Wrapper(Kind::Int32),
            "UInt32Value" => Self::Wrapper(Kind::Uint32),
            "BoolValue" => Self::Wrapper(Kind::Bool),
            "StringValue" => Self::Wrapper(Kind::String),
            "BytesValue" => Self::Wrapper(Kind::Bytes),
            _ => return None,
        })
    }
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
    /// Written as a group instead of with a length.
    pub(crate) group: bool,
    /// Repeated values are written in one packed record.
    pub(crate) packed: bool,
    /// Whether a default value is different from an absent one.
    pub(crate) presence: bool,
    /// The bit of its oneof in a [`Bits`], when it is a member of one that was written in the file.
    pub(crate) oneof: Option<u16>,
    pub(crate) name: Box<str>,
    pub(crate) json_name: Box<str>,
    /// `"jsonName":` and `"proto_name":`, as they go into JSON.
    pub(crate) key: Box<[u8]>,
    pub(crate) proto_key: Box<[u8]>,
    tag: [u8; 5],
    tag_length: u8,
}

impl Field {
    /// The tag with which a value is written (for packed fields: of the packed record).
    #[inline]
    pub(crate) fn tag(&self) -> &[u8] {
        &self.tag[..usize::from(self.tag_length)]
    }
}

/// `(number, kind, is_group, cardinality …)` of a field or an extension, which have no trait in common.
struct Source {
    number: u32,
    kind: DescriptorKind,
    group: bool,
    list: bool,
    map: bool,
    packed: bool,
    presence: bool,
    name: String,
    json_name: String,
}

fn source(field: &FieldDescriptor) -> Source {
    Source {
        number: field.number(),
        kind: field.kind(),
        group: field.is_group(),
        list: field.cardinality() == Cardinality::Repeated,
        map: field.is_map(),
        packed: field.is_packed(),
        presence: field.supports_presence(),
        name: field.name().to_owned(),
        json_name: field.json_name().to_owned(),
    }
}

#[derive(Debug)]
pub(crate) struct MessageTable {
    pub(crate) descriptor: MessageDescriptor,
    pub(crate) known: Option<Known>,
    pub(crate) fields: Vec<Field>,
    /// How many bits a [`Bits`] for this message has: its fields, then its oneofs.
    pub(crate) bits: usize,
    pub(crate) oneofs: Vec<Box<str>>,
    /// Field index + 1 by number, for small numbers.
    dense: Vec<u16>,
    sparse: HashMap<u32, u16>,
    names: HashMap<Box<str>, u16, BuildHasherDefault<Fnv>>,
}

/// Numbers below this are looked up by index.
const DENSE: u32 = 1024;

impl MessageTable {
    pub(crate) fn new(
        descriptor: MessageDescriptor,
        messages: &HashMap<String, MessageId>,
        enums: &HashMap<String, EnumId>,
    ) -> Self {
        let mut table = Self {
            known: Known::of(descriptor.full_name()),
            fields: Vec::new(),
            bits: 0,
            oneofs: Vec::new(),
            dense: Vec::new(),
            sparse: HashMap::new(),
            names: HashMap::default(),
            descriptor: descriptor.clone(),
        };
        let mut oneofs = HashMap::new();
        for oneof in descriptor.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            oneofs.insert(oneof.full_name().to_owned(), table.oneofs.len());
            table.oneofs.push(oneof.name().into());
        }
        let extensions: Vec<_> = descriptor.extensions().collect();
        let count = descriptor.fields().len() + extensions.len();
        table.bits = count + table.oneofs.len();
        for field in descriptor.fields() {
            let oneof = field
                .containing_oneof()
                .and_then(|oneof| oneofs.get(oneof.full_name()));
            table.add(
                source(&field),
                oneof.map(|index| (count + index) as u16),
                messages,
                enums,
            );
        }
        for extension in extensions {
            let source = Source {
                number: extension.number(),
                kind: extension.kind(),
                group: extension.is_group(),
                list: extension.cardinality() == Cardinality::Repeated,
                map: extension.is_map(),
                packed: extension.is_packed(),
                presence: extension.supports_presence(),
                name: extension.json_name().to_owned(),
                json_name: extension.json_name().to_owned(),
            };
            table.add(source, None, messages, enums);
        }
        table
    }

    fn add(
        &mut self,
        source: Source,
        oneof: Option<u16>,
        messages: &HashMap<String, MessageId>,
        enums: &HashMap<String, EnumId>,
    ) {
        let kind = kind(&source.kind, messages, enums);
        let wire_type = match kind {
            _ if source.group => wire::START_GROUP,
            _ if source.packed => wire::DELIMITED,
            kind => kind.wire_type(),
        };
        let mut tag = [0; 5];
        let mut tag_length = 0;
        let mut rest = wire::tag(source.number, wire_type);
        while rest >= 0x80 {
            tag[tag_length] = rest as u8 | 0x80;
            rest >>= 7;
            tag_length += 1;
        }
        tag[tag_length] = rest as u8;
        let index = self.fields.len() as u16;
        if source.number < DENSE {
            if self.dense.len() <= source.number as usize {
                self.dense.resize(source.number as usize + 1, 0);
            }
            self.dense[source.number as usize] = index + 1;
        } else {
            self.sparse.insert(source.number, index);
        }
        self.names
            .entry(source.name.as_str().into())
            .or_insert(index);
        self.names.insert(source.json_name.as_str().into(), index);
        self.fields.push(Field {
            number: source.number,
            kind,
            shape: match (source.map, source.list) {
                (true, _) => Shape::Map,
                (_, true) => Shape::Repeated,
                _ => Shape::Singular,
            },
            group: source.group,
            packed: source.packed,
            presence: source.presence,
            oneof,
            key: key(&source.json_name),
            proto_key: key(&source.name),
            name: source.name.into(),
            json_name: source.json_name.into(),
            tag,
            tag_length: tag_length as u8 + 1,
        });
    }

    pub(crate) fn name(&self) -> &str {
        self.descriptor.full_name()
    }

    /// The field with this number and its index.
    #[inline]
    pub(crate) fn field(&self, number: u32) -> Option<(usize, &Field)> {
        let index = match self.dense.get(number as usize) {
            Some(0) => return None,
            Some(index) => usize::from(*index - 1),
            None => usize::from(*self.sparse.get(&number)?),
        };
        Some((index, &self.fields[index]))
    }

    /// The index of the field with this JSON or proto name. `guess` is tried first.
    #[inline]
    pub(crate) fn named(&self, name: &str, guess: usize) -> Option<usize> {
        if self
            .fields
            .get(guess)
            .is_some_and(|field| *field.json_name == *name)
        {
            return Some(guess);
        }
        self.names.get(name).map(|index| usize::from(*index))
    }
}

fn key(name: &str) -> Box<[u8]> {
    let mut key = serde_json::Value::from(name).to_string();
    key.push(':');
    key.into_bytes().into()
}

fn kind(
    kind: &DescriptorKind,
    messages: &HashMap<String, MessageId>,
    enums: &HashMap<String, EnumId>,
) -> Kind {
    match kind {
        DescriptorKind::Double => Kind::Double,
        DescriptorKind::Float => Kind::Float,
        DescriptorKind::Int32 => Kind::Int32,
        DescriptorKind::Int64 => Kind::Int64,
        DescriptorKind::Uint32 => Kind::Uint32,
        DescriptorKind::Uint64 => Kind::Uint64,
        DescriptorKind::Sint32 => Kind::Sint32,
        DescriptorKind::Sint64 => Kind::Sint64,
        DescriptorKind::Fixed32 => Kind::Fixed32,
        DescriptorKind::Fixed64 => Kind::Fixed64,
        DescriptorKind::Sfixed32 => Kind::Sfixed32,
        DescriptorKind::Sfixed64 => Kind::Sfixed64,
        DescriptorKind::Bool => Kind::Bool,
        DescriptorKind::String => Kind::String,
        DescriptorKind::Bytes => Kind::Bytes,
        DescriptorKind::Message(message) => Kind::Message(messages[message.full_name()]),
        DescriptorKind::Enum(one) => Kind::Enum(enums[one.full_name()]),
    }
}

/// Field names are few, short and fixed at load, so a small hash does.
#[derive(Debug)]
pub(crate) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
