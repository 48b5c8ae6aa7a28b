//! The request as JSON without its secrets.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, Value};

use super::bounded;
use crate::descriptors::{POOL, is_input_only};

/// The number of a request's `request_id` field, `None` when it has none.
pub(crate) fn request_id_field(input: &str) -> Option<u32> {
    let message = POOL.as_ref()?.get_message_by_name(input)?;
    message
        .get_field_by_name("request_id")
        .map(|field| field.number())
}

/// JSON of a request (`input` is the full name of its message) without fields that are marked INPUT_ONLY, without fields and map
/// entries that are named like secrets, and without opaque bytes; at most [`super::MAX_JSON`] bytes. Empty when the bytes are no such message.
pub fn request_json(input: &str, message: &[u8]) -> String {
    let Some(descriptor) = POOL
        .as_ref()
        .and_then(|pool| pool.get_message_by_name(input))
    else {
        return String::new();
    };
    let Ok(mut decoded) = DynamicMessage::decode(descriptor, message) else {
        return String::new();
    };
    redact(&mut decoded);
    serde_json::to_string(&decoded)
        .map(bounded)
        .unwrap_or_default()
}

fn redact(message: &mut DynamicMessage) {
    let secret: Vec<FieldDescriptor> = message
        .fields()
        .map(|(field, _)| field)
        .filter(is_secret)
        .collect();
    for field in &secret {
        message.clear_field(field);
    }
    // Bytes that this version does not know could be anything.
    message.take_unknown_fields().for_each(drop);
    for (_, value) in message.fields_mut() {
        redact_value(value);
    }
}

fn redact_value(value: &mut Value) {
    match value {
        Value::Message(inner) => redact(inner),
        Value::List(items) => items.iter_mut().for_each(redact_value),
        Value::Map(entries) => {
            entries.retain(|key, _| !matches!(key, MapKey::String(name) if sounds_secret(name)));
            entries.values_mut().for_each(redact_value);
        }
        _ => {}
    }
}

fn is_secret(field: &FieldDescriptor) -> bool {
    // Bytes are certificates, frames, objects: of no use to a reader, and opaque to these rules.
    if matches!(field.kind(), Kind::Bytes) {
        return true;
    }
    if let Kind::Message(message) = field.kind()
        && message.full_name() == "google.protobuf.Any"
    {
        return true;
    }
    sounds_secret(field.name()) && !is_reference(field) || is_input_only(field)
}

fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["pass", "token", "secret", "csr", "credential", "private"]
        .iter()
        .any(|word| name.contains(word))
}

/// `password_secret` names a Secret; it does not hold one.
fn is_reference(field: &FieldDescriptor) -> bool {
    field.name().ends_with("_secret") && matches!(field.kind(), Kind::String)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use upm_proto::{auth::v1 as auth, user::v1 as user};

    use super::*;

    #[test]
    fn passwords_and_tokens_are_left_out_and_the_rest_stays() {
        let request = user::CreateUserRequest {
            user_id: "alice".into(),
            password: "hunter2-hunter2".into(),
            request_id: "8c2b".into(),
            ..Default::default()
        };
        let json = request_json("upm.user.v1.CreateUserRequest", &request.encode_to_vec());
        assert!(json.contains("alice") && json.contains("8c2b"), "{json}");
        assert!(!json.contains("hunter2"), "{json}");

        let login = auth::LoginRequest {
            user_id: "alice".into(),
            password: "hunter2".into(),
        };
        let json = request_json("upm.auth.v1.LoginRequest", &login.encode_to_vec());
        assert_eq!(json, r#"{"userId":"alice"}"#);

        let setup = auth::SetupRequest {
            setup_token: "one-time".into(),
            user_id: "root".into(),
            password: "hunter2".into(),
        };
        let json = request_json("upm.auth.v1.SetupRequest", &setup.encode_to_vec());
        assert_eq!(json, r#"{"userId":"root"}"#);
    }

    #[test]
    fn no_request_of_the_api_keeps_a_field_that_is_named_like_a_secret() {
        for method in upm_proto::policy::METHODS {
            let message = POOL
                .as_ref()
                .expect("the descriptors decode")
                .get_message_by_name(method.input)
                .expect("every input is described");
            for field in message.fields() {
                let name = field.name();
                if name.contains("password") || name.contains("token") || name == "csr" {
                    assert!(is_secret(&field), "{}.{name}", method.input);
                }
            }
        }
    }

    #[test]
    fn a_map_entry_that_is_named_like_a_secret_is_left_out() {
        let mut entries = std::collections::HashMap::new();
        entries.insert(
            MapKey::String("requirepass".into()),
            Value::String("x".into()),
        );
        entries.insert(
            MapKey::String("maxmemory".into()),
            Value::String("1gb".into()),
        );
        let mut value = Value::Map(entries);
        redact_value(&mut value);
        let Value::Map(left) = value else {
            unreachable!("it was a map")
        };
        assert_eq!(left.len(), 1);
        assert!(left.contains_key(&MapKey::String("maxmemory".into())));
    }

    #[test]
    fn a_long_request_is_cut_and_says_so() {
        let request = user::GetUserRequest {
            name: "users/\"".repeat(4000),
        };
        let json = request_json("upm.user.v1.GetUserRequest", &request.encode_to_vec());
        assert!(json.len() <= super::super::MAX_JSON, "{}", json.len());
        let read: serde_json::Value = serde_json::from_str(&json).expect("still JSON");
        assert_eq!(read["truncated"], true);
    }

    #[test]
    fn garbage_and_unknown_messages_give_nothing() {
        assert_eq!(
            request_json("upm.user.v1.GetUserRequest", &[0xff, 0xff]),
            ""
        );
        assert_eq!(request_json("upm.nothing.v1.Request", &[]), "");
    }
}
