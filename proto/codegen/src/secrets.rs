//! No secret in a URL: servers, proxies and browsers log and keep them.

use anyhow::{Context as _, bail};
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    MethodDescriptor, Value,
};

/// `google.api.FieldBehavior.INPUT_ONLY`.
const INPUT_ONLY: i32 = 4;
/// Tokens that open nothing by themselves: they say where a list or a stream goes on.
const CURSORS: [&str; 2] = ["page_token", "resume_token"];

/// Refuses every method of `upm` whose REST form would put a secret into the URL, and every request field that is named like a secret
/// but is not marked INPUT_ONLY.
pub(crate) fn check(pool: &DescriptorPool) -> anyhow::Result<()> {
    let http = pool
        .get_extension_by_name("google.api.http")
        .context("the http extension is missing")?;
    let behavior = pool
        .get_extension_by_name("google.api.field_behavior")
        .context("the field_behavior extension is missing")?;
    for service in pool
        .services()
        .filter(|s| s.full_name().starts_with("upm."))
    {
        for method in service.methods() {
            method_keeps_secrets(&method, &http, &behavior)
                .with_context(|| method.full_name().to_owned())?;
        }
    }
    Ok(())
}

fn method_keeps_secrets(
    method: &MethodDescriptor,
    http: &ExtensionDescriptor,
    behavior: &ExtensionDescriptor,
) -> anyhow::Result<()> {
    let options = method.options();
    if !options.has_extension(http) {
        return Ok(());
    }
    let mut secrets = Vec::new();
    collect(
        &method.input(),
        behavior,
        &mut Vec::new(),
        &mut Vec::new(),
        &mut secrets,
    )?;
    let rule = options.get_extension(http);
    let rule = rule.as_message().context("a rule is a message")?;
    let mut rules = vec![rule.clone()];
    if let Some(more) = rule.get_field_by_name("additional_bindings")
        && let Some(more) = more.as_list()
    {
        rules.extend(more.iter().filter_map(Value::as_message).cloned());
    }
    for rule in &rules {
        let body = text(rule, "body");
        for secret in &secrets {
            let in_body = body == "*" || secret.first() == Some(&body);
            if !in_body || in_path(rule, &secret.join(".")) {
                bail!(
                    "`{}` is a secret and would be in the URL: bind it to the body",
                    secret.join(".")
                );
            }
        }
    }
    Ok(())
}

/// The paths of all secrets of a message, also in messages within it.
fn collect(
    message: &MessageDescriptor,
    behavior: &ExtensionDescriptor,
    path: &mut Vec<String>,
    above: &mut Vec<String>,
    found: &mut Vec<Vec<String>>,
) -> anyhow::Result<()> {
    // A message may hold itself.
    if above.iter().any(|name| name == message.full_name()) {
        return Ok(());
    }
    above.push(message.full_name().to_owned());
    for field in message.fields() {
        path.push(field.name().to_owned());
        if is_input_only(&field, behavior) {
            found.push(path.clone());
        } else if sounds_secret(&field) {
            bail!(
                "`{}` is named like a secret: mark it INPUT_ONLY",
                path.join(".")
            );
        } else if let Kind::Message(inner) = field.kind()
            && inner.full_name().starts_with("upm.")
        {
            collect(&inner, behavior, path, above, found)?;
        }
        path.pop();
    }
    above.pop();
    Ok(())
}

fn is_input_only(field: &FieldDescriptor, behavior: &ExtensionDescriptor) -> bool {
    let options = field.options();
    options
        .get_extension(behavior)
        .as_list()
        .is_some_and(|values| values.contains(&Value::EnumNumber(INPUT_ONLY)))
}

fn sounds_secret(field: &FieldDescriptor) -> bool {
    let name = field.name();
    matches!(field.kind(), Kind::String)
        && (name.ends_with("password") || name.ends_with("token"))
        && !CURSORS.contains(&name)
}

/// Whether a template of the rule has the field as a variable.
fn in_path(rule: &DynamicMessage, field: &str) -> bool {
    ["get", "put", "post", "delete", "patch"]
        .iter()
        .map(|verb| text(rule, verb))
        .any(|template| {
            template.contains(&format!("{{{field}}}")) || template.contains(&format!("{{{field}="))
        })
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message
        .get_field_by_name(field)
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Checks one service whose request has `secret` (INPUT_ONLY) and `user.pin` (INPUT_ONLY).
    fn checked(rule: &str, fields: &str) -> Result<(), String> {
        let root = tempfile::tempdir().expect("a folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("proto");
        fs::write(
            root.path().join("upm.proto"),
            format!(
                r#"syntax = "proto3"; package upm.t.v1;
                import "google/api/annotations.proto"; import "google/api/field_behavior.proto";
                service T {{ rpc Do(R) returns (R) {{ option (google.api.http) = {{{rule}}}; }} }}
                message U {{ string pin = 1 [(google.api.field_behavior) = INPUT_ONLY]; R again = 2; }}
                message R {{ string name = 1; U user = 2; {fields} }}"#
            ),
        )
        .expect("write");
        let mut compiler = protox::Compiler::new([root.path(), source]).expect("a compiler");
        compiler.include_imports(true);
        compiler.open_file("upm.proto").expect("it compiles");
        let set = compiler.encode_file_descriptor_set();
        let pool = DescriptorPool::decode(set.as_slice()).expect("decode");
        check(&pool).map_err(|error| format!("{error:#}"))
    }

    const SECRET: &str = "string key = 3 [(google.api.field_behavior) = INPUT_ONLY];";

    #[test]
    fn a_secret_beside_the_body_is_refused() {
        let refused = checked(r#"post: "/v1/t" body: "user""#, SECRET).expect_err("in the query");
        assert!(refused.contains("`key` is a secret"), "{refused}");
        let refused = checked(r#"get: "/v1/t""#, "").expect_err("in the query");
        assert!(refused.contains("user.pin"), "{refused}");
    }

    #[test]
    fn a_secret_in_the_path_is_refused() {
        let refused = checked(r#"post: "/v1/{key}" body: "*""#, SECRET).expect_err("in the path");
        assert!(refused.contains("`key` is a secret"), "{refused}");
    }

    #[test]
    fn a_secret_beside_an_additional_body_is_refused() {
        let rule = r#"post: "/v1/t" body: "*" additional_bindings {post: "/v2/t" body: "user"}"#;
        assert!(checked(rule, SECRET).is_err());
    }

    #[test]
    fn a_secret_in_the_body_is_accepted() {
        checked(r#"post: "/v1/t" body: "*""#, SECRET).expect("in the body");
        checked(r#"post: "/v1/t" body: "user""#, "").expect("in the body");
    }

    #[test]
    fn a_field_named_like_a_secret_must_be_marked() {
        let rule = r#"post: "/v1/t" body: "*""#;
        assert!(checked(rule, "string old_password = 3;").is_err());
        checked(rule, "string page_token = 3;").expect("a cursor");
    }
}
