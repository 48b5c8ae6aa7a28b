//! For arbitrary messages of arbitrary descriptors the codec agrees with prost-reflect.

use bytes::BytesMut;
use proptest::prelude::*;
use prost_reflect::{
    DescriptorPool, DynamicMessage,
    prost::Message as _,
    prost_types::{
        DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
        FieldOptions, FileDescriptorProto, MessageOptions, OneofDescriptorProto,
        field_descriptor_proto::{Label, Type},
    },
};

use crate::{
    JsonOptions, LoadOptions, Tables,
    fixture::{Choices, arbitrary, cases},
};

const SCALARS: [Type; 15] = [
    Type::Double,
    Type::Float,
    Type::Int64,
    Type::Uint64,
    Type::Int32,
    Type::Fixed64,
    Type::Fixed32,
    Type::Bool,
    Type::String,
    Type::Bytes,
    Type::Uint32,
    Type::Sfixed32,
    Type::Sfixed64,
    Type::Sint32,
    Type::Sint64,
];
/// The scalars that may be keys of maps.
const KEYS: [Type; 12] = [
    Type::Int64,
    Type::Uint64,
    Type::Int32,
    Type::Fixed64,
    Type::Fixed32,
    Type::Bool,
    Type::String,
    Type::Uint32,
    Type::Sfixed32,
    Type::Sfixed64,
    Type::Sint32,
    Type::Sint64,
];

fn pick<T: Copy>(choices: &mut Choices<'_>, of: &[T]) -> T {
    of[usize::from(choices.byte()) % of.len()]
}

fn field(name: &str, number: i32, label: Label) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(label.into()),
        ..FieldDescriptorProto::default()
    }
}

/// Gives a field any type: a scalar, the enum, or one of the messages.
fn typed(field: &mut FieldDescriptorProto, choices: &mut Choices<'_>, messages: u8) {
    match choices.byte() % 8 {
        0 => {
            field.set_type(Type::Enum);
            field.type_name = Some(".any.E".to_owned());
        }
        1 | 2 => {
            field.set_type(Type::Message);
            field.type_name = Some(format!(".any.M{}", choices.byte() % messages));
        }
        _ => field.set_type(pick(choices, &SCALARS)),
    }
}

/// The entry of a map with the name that the language gives it.
fn entry(index: u8, choices: &mut Choices<'_>, messages: u8) -> DescriptorProto {
    let mut key = field("key", 1, Label::Optional);
    key.set_type(pick(choices, &KEYS));
    let mut value = field("value", 2, Label::Optional);
    typed(&mut value, choices, messages);
    DescriptorProto {
        name: Some(format!("Field{index}Entry")),
        field: vec![key, value],
        options: Some(MessageOptions {
            map_entry: Some(true),
            ..MessageOptions::default()
        }),
        ..DescriptorProto::default()
    }
}

fn message(name: u8, choices: &mut Choices<'_>, messages: u8) -> DescriptorProto {
    let mut made = DescriptorProto {
        name: Some(format!("M{name}")),
        ..DescriptorProto::default()
    };
    let mut number = 0;
    let (mut choice, mut optional) = (Vec::new(), Vec::new());
    for index in 0..choices.byte() % 9 {
        // Small numbers, large ones, and never the reserved range.
        number += 1
            + (choices.bits()
                % if choices.byte().is_multiple_of(4) {
                    1_000_000
                } else {
                    3
                }) as i32;
        if (19_000..20_000).contains(&number) {
            number = 20_000;
        }
        let label = if choices.byte().is_multiple_of(4) {
            Label::Repeated
        } else {
            Label::Optional
        };
        let mut one = field(&format!("field_{index}"), number, label);
        match choices.byte() % 8 {
            0 => {
                one.set_label(Label::Repeated);
                one.set_type(Type::Message);
                one.type_name = Some(format!(".any.M{name}.Field{index}Entry"));
                made.nested_type.push(entry(index, choices, messages));
            }
            kind => {
                typed(&mut one, choices, messages);
                if label == Label::Repeated {
                    let packable =
                        !matches!(one.r#type(), Type::String | Type::Bytes | Type::Message);
                    one.options = packable.then(|| FieldOptions {
                        packed: Some(choices.byte().is_multiple_of(2)),
                        ..FieldOptions::default()
                    });
                } else if kind < 3 {
                    choice.push(made.field.len());
                } else if kind < 5 {
                    optional.push(made.field.len());
                }
            }
        }
        made.field.push(one);
    }
    let oneof = |name: String| OneofDescriptorProto {
        name: Some(name),
        ..OneofDescriptorProto::default()
    };
    if !choice.is_empty() {
        made.oneof_decl.push(oneof("choice".to_owned()));
        for index in choice {
            made.field[index].oneof_index = Some(0);
        }
    }
    // The oneofs that the language makes of optional fields come last.
    for index in optional {
        let field = &mut made.field[index];
        field.proto3_optional = Some(true);
        field.oneof_index = Some(made.oneof_decl.len() as i32);
        made.oneof_decl.push(oneof(format!("_{}", field.name())));
    }
    made
}

fn pool(choices: &mut Choices<'_>) -> DescriptorPool {
    let messages = 1 + choices.byte() % 3;
    let value = |name: &str, number| EnumValueDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        ..EnumValueDescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("any.proto".to_owned()),
        package: Some("any".to_owned()),
        syntax: Some("proto3".to_owned()),
        enum_type: vec![EnumDescriptorProto {
            name: Some("E".to_owned()),
            value: vec![
                value("NOTHING", 0),
                value("SOMETHING", 1),
                value("LESS", -7),
            ],
            ..EnumDescriptorProto::default()
        }],
        message_type: (0..messages)
            .map(|name| message(name, choices, messages))
            .collect(),
        ..FileDescriptorProto::default()
    };
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_proto(file)
        .expect("the descriptor is valid");
    pool
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(200), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_of_arbitrary_descriptors_equals_that_of_prost_reflect_and_reads_back(
        shape in prop::collection::vec(any::<u8>(), 0..300),
        content in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let tables = Tables::from_pool(pool(&mut Choices(&shape)), LoadOptions::default()).unwrap();
        let id = tables.message("any.M0").unwrap();
        let descriptor = tables.descriptor(id).clone();
        let wire = arbitrary(&descriptor, &mut Choices(&content), 3).encode_to_vec();
        let message = DynamicMessage::decode(descriptor.clone(), &wire[..]).unwrap();

        let mut json = Vec::new();
        tables.wire_to_json(id, &wire, &mut json, &JsonOptions::default()).unwrap();
        let ours: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let theirs: serde_json::Value = serde_json::from_str(&serde_json::to_string(&message).unwrap()).unwrap();
        prop_assert_eq!(ours, theirs);

        let mut back = BytesMut::new();
        tables.json_to_wire(id, &json, &mut back).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let back = DynamicMessage::decode(descriptor, &back[..]).unwrap();
        prop_assert!(back == message, "{}", String::from_utf8_lossy(&json));
    }

    #[test]
    fn random_wire_bytes_and_text_never_panic_for_arbitrary_descriptors(
        shape in prop::collection::vec(any::<u8>(), 0..300),
        wire in prop::collection::vec(any::<u8>(), 0..100),
        json in "[\\[\\]{}\",:0-9eE.\\-field_ ]{0,60}",
    ) {
        let tables = Tables::from_pool(pool(&mut Choices(&shape)), LoadOptions::default()).unwrap();
        let id = tables.message("any.M0").unwrap();
        let _ = tables.wire_to_json(id, &wire, &mut Vec::new(), &JsonOptions::default());
        let _ = tables.json_to_wire(id, json.as_bytes(), &mut BytesMut::new());
    }
}
