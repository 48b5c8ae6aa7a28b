//! Messages, enums and fields as JSON schemas.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::prost::Message as _;
use serde_json::{Map, Value, json};

use super::comment::Comments;
use crate::{
    MessageId, Tables,
    tables::{
        enumeration::EnumId,
        message::{Field, Kind, Known, MessageTable, Shape},
    },
    wire::{Cursor, DELIMITED, VARINT},
};

/// The extension `google.api.field_behavior` of `FieldOptions`.
const FIELD_BEHAVIOR: u32 = 1052;

/// What `google.api.field_behavior` says of a field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Behavior {
    pub(super) required: bool,
    pub(super) output_only: bool,
    pub(super) input_only: bool,
}

/// Makes schemas and remembers which messages and enums they refer to.
pub(super) struct Schemas<'a> {
    tables: &'a Tables,
    comments: &'a Comments,
    wanted_messages: BTreeSet<MessageId>,
    wanted_enums: BTreeSet<EnumId>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(tables: &'a Tables, comments: &'a Comments) -> Self {
        Self {
            tables,
            comments,
            wanted_messages: BTreeSet::new(),
            wanted_enums: BTreeSet::new(),
        }
    }

    /// All components that were referred to, and what they refer to in turn.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        let mut done = BTreeMap::new();
        while let Some(id) = self
            .wanted_messages
            .iter()
            .copied()
            .find(|id| !done.contains_key(id))
        {
            let schema = self.object(id, &|_| true);
            done.insert(id, schema);
        }
        let mut schemas = Map::new();
        for (id, schema) in done {
            schemas.insert(self.tables.table(id).name().to_owned(), schema);
        }
        for id in &self.wanted_enums {
            let descriptor = &self.tables.enumeration(*id).descriptor;
            let names: Vec<_> = descriptor
                .values()
                .map(|value| value.name().to_owned())
                .collect();
            let mut schema = json!({ "type": "string", "enum": names });
            let mut description = self
                .comments
                .get(&descriptor.parent_file(), descriptor.path())
                .unwrap_or_default()
                .to_owned();
            for value in descriptor.values() {
                if let Some(comment) = self.comments.get(&value.parent_file(), value.path()) {
                    description.extend([
                        "\n\n* `",
                        value.name(),
                        "`: ",
                        &comment.replace('\n', " "),
                    ]);
                }
            }
            if !description.is_empty() {
                schema["description"] = json!(description.trim_start());
            }
            schemas.insert(descriptor.full_name().to_owned(), schema);
        }
        schemas
    }

    /// A schema that stands for a message: a reference, or the schema itself for well-known types.
    pub(super) fn message(&mut self, id: MessageId) -> Value {
        if let Some(known) = self.tables.table(id).known {
            self.known(known)
        } else {
            self.wanted_messages.insert(id);
            json!({ "$ref": format!("#/components/schemas/{}", self.tables.table(id).name()) })
        }
    }

    /// The object schema of a message with some of its fields.
    pub(super) fn object(&mut self, id: MessageId, has: &dyn Fn(usize) -> bool) -> Value {
        let table = self.tables.table(id);
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (index, field) in table
            .fields
            .iter()
            .enumerate()
            .filter(|(index, _)| has(*index))
        {
            let behavior = behavior(table, field);
            if behavior.required {
                required.push(field.json_name.to_string());
            }
            properties.insert(field.json_name.to_string(), self.described(table, index));
        }
        let mut schema = json!({ "type": "object", "properties": properties });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if let Some(comment) = self
            .comments
            .get(&table.descriptor.parent_file(), table.descriptor.path())
        {
            schema["description"] = json!(comment);
        }
        schema
    }

    /// The schema of a field with its description and what is said of it.
    pub(super) fn described(&mut self, table: &MessageTable, index: usize) -> Value {
        let field = &table.fields[index];
        let mut schema = self.field(field);
        let behavior = behavior(table, field);
        if behavior.output_only {
            schema["readOnly"] = json!(true);
        }
        if behavior.input_only {
            schema["writeOnly"] = json!(true);
        }
        let options = table
            .descriptor
            .get_field(field.number)
            .and_then(|field| field.field_descriptor_proto().options.clone());
        if options.is_some_and(|options| options.deprecated()) {
            schema["deprecated"] = json!(true);
        }
        if let Some(description) = self.description(table, field) {
            schema["description"] = json!(description);
        }
        schema
    }

    pub(super) fn description(&self, table: &MessageTable, field: &Field) -> Option<String> {
        let descriptor = table.descriptor.get_field(field.number)?;
        let comment = self
            .comments
            .get(&descriptor.parent_file(), descriptor.path())
            .map(str::to_owned);
        let Some(oneof) = field.oneof else {
            return comment;
        };
        let members: Vec<_> = table
            .fields
            .iter()
            .filter(|other| other.oneof == Some(oneof))
            .map(|other| format!("`{}`", other.json_name))
            .collect();
        let rule = format!("At most one of {} is set.", members.join(", "));
        Some(comment.map_or_else(|| rule.clone(), |comment| format!("{comment}\n\n{rule}")))
    }

    pub(super) fn field(&mut self, field: &Field) -> Value {
        match field.shape {
            Shape::Singular => self.kind(field.kind),
            Shape::Repeated => json!({ "type": "array", "items": self.kind(field.kind) }),
            Shape::Map => {
                let value = self.tables.map_entry(field).map(|(_, value)| value.kind);
                json!({ "type": "object", "additionalProperties": value.map(|kind| self.kind(kind)) })
            }
        }
    }

    pub(super) fn kind(&mut self, kind: Kind) -> Value {
        match kind {
            Kind::Double => json!({ "type": "number", "format": "double" }),
            Kind::Float => json!({ "type": "number", "format": "float" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({ "type": "integer", "format": "int32" })
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({ "type": "integer", "format": "int64", "minimum": 0, "maximum": u32::MAX })
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "format": "int64" })
            }
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "format": "uint64" }),
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => {
                json!({ "type": "string", "format": "byte", "contentEncoding": "base64" })
            }
            Kind::Enum(id) if self.tables.enumeration(id).null => json!({ "type": "null" }),
            Kind::Enum(id) => {
                self.wanted_enums.insert(id);
                json!({ "$ref": format!("#/components/schemas/{}", self.tables.enumeration(id).descriptor.full_name()) })
            }
            Kind::Message(id) => self.message(id),
        }
    }

    fn known(&mut self, known: Known) -> Value {
        match known {
            Known::Any => any(),
            Known::Duration => {
                json!({ "type": "string", "pattern": "^-?[0-9]{1,12}(\\.[0-9]{1,9})?s$", "examples": ["3.5s"] })
            }
            Known::Empty => json!({ "type": "object" }),
            Known::FieldMask => json!({ "type": "string", "examples": ["displayName,labels"] }),
            Known::ListValue => json!({ "type": "array", "items": {} }),
            Known::Struct => json!({ "type": "object", "additionalProperties": true }),
            Known::Timestamp => json!({ "type": "string", "format": "date-time" }),
            Known::Value => json!({}),
            Known::Wrapper(kind) => self.kind(kind),
        }
    }
}

/// An object of a type that it names itself.
pub(super) fn any() -> Value {
    json!({
        "type": "object",
        "required": ["@type"],
        "properties": { "@type": { "type": "string", "description": "The URL of the type, such as type.googleapis.com/google.rpc.ErrorInfo." } },
        "additionalProperties": true,
    })
}

pub(super) fn behavior(table: &MessageTable, field: &Field) -> Behavior {
    let mut behavior = Behavior::default();
    let Some(descriptor) = table.descriptor.get_field(field.number) else {
        return behavior;
    };
    let options = descriptor.options().encode_to_vec();
    let mut cursor = Cursor::new(&options);
    let mut note = |value: u64| match value {
        2 => behavior.required = true,
        3 => behavior.output_only = true,
        4 => behavior.input_only = true,
        _ => {}
    };
    while let Ok((number, wire_type)) = cursor.tag() {
        let read = match (number, wire_type) {
            (FIELD_BEHAVIOR, VARINT) => cursor.varint().map(&mut note),
            (FIELD_BEHAVIOR, DELIMITED) => cursor.delimited().map(|packed| {
                let mut packed = Cursor::new(packed);
                while let Ok(value) = packed.varint() {
                    note(value);
                }
            }),
            _ => cursor.skip(number, wire_type),
        };
        if read.is_err() {
            break;
        }
    }
    behavior
}
