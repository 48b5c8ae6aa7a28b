//! Files that transcoding needs even when the descriptor set does not bring them: the well-known types and the
//! messages of error details.

use prost_reflect::{
    DescriptorPool,
    prost_types::{
        DescriptorProto, FieldDescriptorProto, FileDescriptorProto, MessageOptions,
        field_descriptor_proto::{Label, Type},
    },
};

const WELL_KNOWN: [&str; 7] = [
    "any",
    "duration",
    "empty",
    "field_mask",
    "struct",
    "timestamp",
    "wrappers",
];
const DETAILS: &str = "google/rpc/error_details.proto";
const STATUS: &str = "google/rpc/status.proto";

/// Adds what is missing. What the set defines itself stays as it is.
pub(crate) fn complete(pool: &mut DescriptorPool) {
    let known = DescriptorPool::global();
    for name in WELL_KNOWN {
        if let Some(file) = known.get_file_by_name(&format!("google/protobuf/{name}.proto")) {
            add(pool, file.file_descriptor_proto().clone());
        }
    }
    add(pool, error_details());
    add(pool, status());
}

/// A file is added when neither its name nor one of its messages is taken. A set that defines only some of them
/// under other file names keeps its own; the rest stays unknown, which the codec reports where it matters.
fn add(pool: &mut DescriptorPool, file: FileDescriptorProto) {
    let taken = file.message_type.iter().any(|message| {
        pool.get_message_by_name(&format!("{}.{}", file.package(), message.name()))
            .is_some()
    });
    if !taken && pool.get_file_by_name(file.name()).is_none() {
        let _ = pool.add_file_descriptor_proto(file);
    }
}

/// A field with its number: strings unless said otherwise.
enum Part {
    Text(&'static str, i32),
    Int(&'static str, i32),
    One(&'static str, i32, &'static str),
    Many(&'static str, i32, &'static str),
}

use Part::{Int, Many, One, Text};

fn field(part: &Part) -> FieldDescriptorProto {
    let (name, number, r#type, type_name, label) = match part {
        Text(name, number) => (name, number, Type::String, None, Label::Optional),
        Int(name, number) => (name, number, Type::Int32, None, Label::Optional),
        One(name, number, of) => (
            name,
            number,
            Type::Message,
            Some((*of).to_owned()),
            Label::Optional,
        ),
        Many(name, number, of) => (
            name,
            number,
            Type::Message,
            Some((*of).to_owned()),
            Label::Repeated,
        ),
    };
    FieldDescriptorProto {
        name: Some((*name).to_owned()),
        number: Some(*number),
        r#type: Some(r#type.into()),
        type_name,
        label: Some(label.into()),
        ..FieldDescriptorProto::default()
    }
}

fn message(name: &str, fields: &[Part], nested: Vec<DescriptorProto>) -> DescriptorProto {
    DescriptorProto {
        name: Some(name.to_owned()),
        field: fields.iter().map(field).collect(),
        nested_type: nested,
        ..DescriptorProto::default()
    }
}

fn file(name: &str, dependency: &str, message_type: Vec<DescriptorProto>) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(name.to_owned()),
        package: Some("google.rpc".to_owned()),
        dependency: vec![dependency.to_owned()],
        message_type,
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

fn error_details() -> FileDescriptorProto {
    let mut messages = failures();
    messages.extend(information());
    file(DETAILS, "google/protobuf/duration.proto", messages)
}

/// What is wrong, item by item.
fn failures() -> Vec<DescriptorProto> {
    let quota = message(
        "Violation",
        &[Text("subject", 1), Text("description", 2)],
        vec![],
    );
    let precondition = [Text("type", 1), Text("subject", 2), Text("description", 3)];
    let precondition = message("Violation", &precondition, vec![]);
    let localized = One("localized_message", 4, ".google.rpc.LocalizedMessage");
    let field = [
        Text("field", 1),
        Text("description", 2),
        Text("reason", 3),
        localized,
    ];
    let field = message("FieldViolation", &field, vec![]);
    let violations = |of: &'static str| [Many("violations", 1, of)];
    let quotas = violations(".google.rpc.QuotaFailure.Violation");
    let preconditions = violations(".google.rpc.PreconditionFailure.Violation");
    let fields = [Many(
        "field_violations",
        1,
        ".google.rpc.BadRequest.FieldViolation",
    )];
    vec![
        message("QuotaFailure", &quotas, vec![quota]),
        message("PreconditionFailure", &preconditions, vec![precondition]),
        message("BadRequest", &fields, vec![field]),
    ]
}

/// What else is to be known.
fn information() -> Vec<DescriptorProto> {
    let mut entry = message("MetadataEntry", &[Text("key", 1), Text("value", 2)], vec![]);
    entry.options = Some(MessageOptions {
        map_entry: Some(true),
        ..MessageOptions::default()
    });
    let metadata = Many("metadata", 3, ".google.rpc.ErrorInfo.MetadataEntry");
    let info = [Text("reason", 1), Text("domain", 2), metadata];
    let delay = [One("retry_delay", 1, ".google.protobuf.Duration")];
    let link = message("Link", &[Text("description", 1), Text("url", 2)], vec![]);
    let links = [Many("links", 1, ".google.rpc.Help.Link")];
    let resource = [
        Text("resource_type", 1),
        Text("resource_name", 2),
        Text("owner", 3),
        Text("description", 4),
    ];
    vec![
        message("ErrorInfo", &info, vec![entry]),
        message("RetryInfo", &delay, vec![]),
        message(
            "RequestInfo",
            &[Text("request_id", 1), Text("serving_data", 2)],
            vec![],
        ),
        message("ResourceInfo", &resource, vec![]),
        message("Help", &links, vec![link]),
        message(
            "LocalizedMessage",
            &[Text("locale", 1), Text("message", 2)],
            vec![],
        ),
    ]
}

fn status() -> FileDescriptorProto {
    let details = Many("details", 3, ".google.protobuf.Any");
    file(
        STATUS,
        "google/protobuf/any.proto",
        vec![message(
            "Status",
            &[Int("code", 1), Text("message", 2), details],
            vec![],
        )],
    )
}
