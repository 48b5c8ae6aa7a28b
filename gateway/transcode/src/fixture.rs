//! Tables of the test descriptors, and messages made from arbitrary bytes.

use std::{path::Path, sync::OnceLock};

use bytes::BytesMut;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
    prost::Message as _,
};

use crate::{JsonOptions, LoadOptions, MessageId, Tables};

pub(crate) fn descriptor_set() -> &'static [u8] {
    static SET: OnceLock<Vec<u8>> = OnceLock::new();
    SET.get_or_init(|| {
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        let mut compiler = protox::Compiler::new([testdata]).unwrap();
        compiler.include_imports(true).include_source_info(true);
        compiler
            .open_files([
                "demo/types.proto",
                "demo/legacy.proto",
                "demo/library.proto",
            ])
            .unwrap();
        compiler.encode_file_descriptor_set()
    })
}

pub(crate) fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| Tables::from_descriptor_set(descriptor_set()).unwrap())
}

pub(crate) fn tables_with(options: LoadOptions) -> Tables {
    Tables::load(descriptor_set(), options).unwrap()
}

pub(crate) fn id(name: &str) -> MessageId {
    tables().message(name).unwrap()
}

/// JSON to JSON by way of the wire.
pub(crate) fn through(message: &str, json: &str) -> Result<String, crate::JsonError> {
    Ok(print(message, &wire(message, json)?).unwrap())
}

pub(crate) fn wire(message: &str, json: &str) -> Result<Vec<u8>, crate::JsonError> {
    let mut out = BytesMut::new();
    tables().json_to_wire(id(message), json.as_bytes(), &mut out)?;
    Ok(out.to_vec())
}

pub(crate) fn print(message: &str, wire: &[u8]) -> Result<String, crate::DecodeError> {
    let mut out = Vec::new();
    tables().wire_to_json(id(message), wire, &mut out, &JsonOptions::default())?;
    Ok(String::from_utf8(out).unwrap())
}

/// What prost-reflect makes of wire bytes, as JSON.
pub(crate) fn reference(message: &str, wire: &[u8]) -> Result<serde_json::Value, String> {
    let message = DynamicMessage::decode(tables().descriptor(id(message)).clone(), wire)
        .map_err(|error| error.to_string())?;
    let json = serde_json::to_string(&message).map_err(|error| error.to_string())?;
    Ok(serde_json::from_str(&json).unwrap())
}

/// How many cases a property is tried with: `PROPTEST_CASES` says it for all, else the usual number.
pub(crate) fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}

/// A source of choices; runs dry into zeros, so that shrinking it shrinks the message.
pub(crate) struct Choices<'a>(pub(crate) &'a [u8]);

impl Choices<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub(crate) fn bits(&mut self) -> u64 {
        let length = self.byte() % 9;
        (0..length).fold(0, |bits, _| bits << 8 | u64::from(self.byte()))
    }

    fn text(&mut self) -> String {
        const CHARS: [char; 12] = [
            'a', 'B', '7', ' ', '"', '\\', '\n', '\u{1}', 'é', '漢', '😀', '/',
        ];
        (0..self.byte() % 12)
            .map(|_| CHARS[usize::from(self.byte()) % CHARS.len()])
            .collect()
    }

    fn double(&mut self, finite: bool) -> f64 {
        let value = match self.byte() % 8 {
            0 => f64::INFINITY,
            1 => f64::NEG_INFINITY,
            2 => self.bits() as f64,
            3 => f64::MAX,
            4 => f64::MIN_POSITIVE,
            _ => f64::from_bits(self.bits()),
        };
        if value.is_nan() || value == 0.0 || (finite && value.is_infinite()) {
            1.5
        } else {
            value
        }
    }

    fn float(&mut self, finite: bool) -> f32 {
        let value = f32::from_bits(self.bits() as u32);
        if value.is_nan() || value == 0.0 || (finite && value.is_infinite()) {
            -0.25
        } else {
            value
        }
    }
}

/// A message with arbitrary fields. Values that have no JSON form or that do not equal themselves are left out.
pub(crate) fn arbitrary(
    descriptor: &MessageDescriptor,
    choices: &mut Choices<'_>,
    depth: u8,
) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    if known(&mut message, choices, depth) {
        return message;
    }
    for field in descriptor.fields() {
        if choices.byte().is_multiple_of(3)
            || (depth == 0 && matches!(field.kind(), Kind::Message(_)))
        {
            continue;
        }
        let value = if field.is_map() {
            let Kind::Message(entry) = field.kind() else {
                unreachable!()
            };
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            if depth == 0 && matches!(value.kind(), Kind::Message(_)) {
                continue;
            }
            let entries = (0..choices.byte() % 4).map(|_| {
                let key: MapKey = scalar(&key, choices, depth).into_map_key().unwrap();
                (key, scalar(&value, choices, depth))
            });
            Value::Map(entries.collect())
        } else if field.is_list() {
            Value::List(
                (0..choices.byte() % 4)
                    .map(|_| scalar(&field, choices, depth))
                    .collect(),
            )
        } else {
            scalar(&field, choices, depth)
        };
        message.set_field(&field, value);
    }
    for extension in descriptor.extensions() {
        match extension.json_name() {
            "[demo.legacy.note]" => {
                message.set_extension(&extension, Value::String(choices.text()));
            }
            _ => message.set_extension(&extension, Value::List(vec![Value::U64(choices.bits())])),
        }
    }
    message
}

fn scalar(field: &FieldDescriptor, choices: &mut Choices<'_>, depth: u8) -> Value {
    let finite = field
        .parent_message()
        .full_name()
        .starts_with("google.protobuf.");
    match field.kind() {
        Kind::Double => Value::F64(choices.double(finite)),
        Kind::Float => Value::F32(choices.float(finite)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(choices.bits() as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(choices.bits() as i64),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(choices.bits() as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(choices.bits()),
        Kind::Bool => Value::Bool(choices.byte() % 2 == 1),
        Kind::String => Value::String(choices.text()),
        Kind::Bytes => Value::Bytes(
            choices.bits().to_le_bytes()[..usize::from(choices.byte() % 8)]
                .to_vec()
                .into(),
        ),
        Kind::Enum(one) if one.full_name() == "google.protobuf.NullValue" => Value::EnumNumber(0),
        Kind::Enum(one) => Value::EnumNumber(match choices.byte() % 4 {
            0 => choices.bits() as i32,
            pick => one
                .values()
                .nth(usize::from(pick) % one.values().len())
                .unwrap()
                .number(),
        }),
        Kind::Message(message) => {
            Value::Message(arbitrary(&message, choices, depth.saturating_sub(1)))
        }
    }
}

fn known(message: &mut DynamicMessage, choices: &mut Choices<'_>, depth: u8) -> bool {
    let descriptor = message.descriptor();
    let pool = descriptor.parent_pool().clone();
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => {
            message.set_field_by_name(
                "seconds",
                Value::I64((choices.bits() % 315_537_897_600) as i64 - 62_135_596_800),
            );
            message.set_field_by_name("nanos", Value::I32(nanos(choices)));
        }
        "google.protobuf.Duration" => {
            let sign = if choices.byte().is_multiple_of(2) {
                1
            } else {
                -1
            };
            message.set_field_by_name(
                "seconds",
                Value::I64(sign * (choices.bits() % 315_576_000_001) as i64),
            );
            message.set_field_by_name("nanos", Value::I32(sign as i32 * nanos(choices)));
        }
        "google.protobuf.FieldMask" => {
            let paths = ["name", "book.title", "a_b.c_d", "x1"]
                .iter()
                .filter(|_| choices.byte() % 2 == 1);
            message.set_field_by_name(
                "paths",
                Value::List(
                    paths
                        .map(|path| Value::String((*path).to_owned()))
                        .collect(),
                ),
            );
        }
        "google.protobuf.Any" => {
            // Without maps, which may be encoded in more than one way.
            const TYPES: [&str; 4] = [
                "google.protobuf.Duration",
                "demo.types.Scalars",
                "google.protobuf.Empty",
                "google.protobuf.FieldMask",
            ];
            let name = TYPES[usize::from(choices.byte()) % TYPES.len()];
            let payload = arbitrary(
                &pool.get_message_by_name(name).unwrap(),
                choices,
                depth.saturating_sub(1),
            );
            message.set_field_by_name(
                "type_url",
                Value::String(format!("type.googleapis.com/{name}")),
            );
            message.set_field_by_name("value", Value::Bytes(payload.encode_to_vec().into()));
        }
        "google.protobuf.Value" => {
            let kind = choices.byte() % if depth == 0 { 4 } else { 6 };
            let name = [
                "null_value",
                "number_value",
                "string_value",
                "bool_value",
                "struct_value",
                "list_value",
            ][usize::from(kind)];
            let field = descriptor.get_field_by_name(name).unwrap();
            let value = scalar(&field, choices, depth);
            message.set_field(&field, value);
        }
        _ => return false,
    }
    true
}

fn nanos(choices: &mut Choices<'_>) -> i32 {
    let unit = [1, 1_000, 1_000_000][usize::from(choices.byte() % 3)];
    (choices.bits() % (1_000_000_000 / unit) * unit) as i32
}
