//! The table of method policies, as Rust source.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    ReflectMessage as _,
};

/// Renders the table, sorted by path.
pub(crate) fn table(pool: &DescriptorPool) -> anyhow::Result<String> {
    let extension = pool
        .get_extension_by_name("upm.policy.v1.method")
        .context("the policy extension is missing")?;
    let mut rows = Vec::new();
    for service in pool
        .services()
        .filter(|s| s.full_name().starts_with("upm."))
    {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            rows.push((
                path.clone(),
                row(&path, &method, &extension).with_context(|| path)?,
            ));
        }
    }
    rows.sort();
    let mut out = String::from(
        "// Made by upm-codegen.\n\n/// Every method of every package, sorted by path.\n#[rustfmt::skip]\npub static METHODS: &[Method] = &[\n",
    );
    for (_, row) in rows {
        out.push_str(&row);
    }
    out.push_str("];\n");
    Ok(out)
}

fn row(
    path: &str,
    method: &MethodDescriptor,
    extension: &ExtensionDescriptor,
) -> anyhow::Result<String> {
    let options = method.options();
    if !options.has_extension(extension) {
        bail!("the method has no policy");
    }
    let policy = options.get_extension(extension);
    let policy = policy.as_message().context("a policy is a message")?;
    let access = enumerator(policy, "access")?;
    let permission = text(policy, "permission");
    match (access.as_str(), permission.is_empty()) {
        ("ACCESS_UNSPECIFIED", true) => bail!("the policy has neither permission nor access"),
        ("ACCESS_UNSPECIFIED", false) | (_, true) => {}
        (_, false) => bail!("a permission excludes access {access}"),
    }
    let callers = texts(policy, "callers");
    match (access.as_str(), callers.is_empty()) {
        ("INTERNAL", true) => bail!("an INTERNAL method names its callers"),
        ("INTERNAL", false) | (_, true) => {}
        (_, false) => bail!("only an INTERNAL method has callers"),
    }
    if callers.iter().any(|caller| caller == "gateway") {
        bail!("the gateway calls for strangers: it is no caller of INTERNAL methods");
    }
    let streaming = method.is_client_streaming() || method.is_server_streaming();
    let timeout = timeout(policy);
    if timeout.is_none() && !streaming {
        bail!("a unary method needs a timeout");
    }
    let mut out = String::new();
    write!(
        out,
        "    Method {{ path: {path:?}, input: {:?}, client_streaming: {}, server_streaming: {}, permission: {permission:?}, access: Access::{}, audit: Audit::{}, idempotency: Idempotency::{}, timeout: {}, route_by: {}, scope: {}, callers: &{callers:?} }},",
        method.input().full_name(),
        method.is_client_streaming(),
        method.is_server_streaming(),
        variant(&access, "ACCESS_UNSPECIFIED", "Permission"),
        variant(
            &enumerator(policy, "audit")?,
            "AUDIT_UNSPECIFIED",
            "Refusals"
        ),
        variant(
            &enumerator(policy, "idempotency")?,
            "IDEMPOTENCY_UNSPECIFIED",
            "Never"
        ),
        timeout.map_or_else(
            || "None".to_owned(),
            |ms| format!("Some(Duration::from_millis({ms}))")
        ),
        field_path(&method.input(), &text(policy, "route_by"))?,
        field_path(&method.input(), &text(policy, "scope"))?,
    )?;
    out.push('\n');
    Ok(out)
}

fn text(message: &DynamicMessage, field: &str) -> String {
    message
        .get_field_by_name(field)
        .and_then(|v| v.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn texts(message: &DynamicMessage, field: &str) -> Vec<String> {
    message
        .get_field_by_name(field)
        .and_then(|list| {
            let texts = list
                .as_list()?
                .iter()
                .filter_map(|v| v.as_str().map(str::to_owned));
            Some(texts.collect())
        })
        .unwrap_or_default()
}

fn enumerator(message: &DynamicMessage, field: &str) -> anyhow::Result<String> {
    let descriptor = message
        .descriptor()
        .get_field_by_name(field)
        .with_context(|| format!("the policy has no field {field}"))?;
    let Kind::Enum(kind) = descriptor.kind() else {
        bail!("{field} is no enum");
    };
    let number = message
        .get_field(&descriptor)
        .as_enum_number()
        .unwrap_or_default();
    Ok(kind
        .get_value(number)
        .with_context(|| format!("{field} has no value {number}"))?
        .name()
        .to_owned())
}

/// `NO_SIDE_EFFECTS` → `NoSideEffects`; the unspecified value has a name of its own.
fn variant(name: &str, unspecified: &str, instead: &str) -> String {
    if name == unspecified {
        return instead.to_owned();
    }
    name.split('_')
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_owned() + &rest.to_lowercase()
        })
        .collect()
}

fn timeout(policy: &DynamicMessage) -> Option<i64> {
    if !policy.has_field_by_name("timeout") {
        return None;
    }
    let duration = policy.get_field_by_name("timeout")?.into_owned();
    let duration = duration.as_message()?;
    let seconds = duration.get_field_by_name("seconds")?.as_i64()?;
    let nanos = duration.get_field_by_name("nanos")?.as_i32()?;
    Some(seconds * 1000 + i64::from(nanos) / 1_000_000)
}

/// `redis_service.name` → the field numbers, so that a reader of the wire needs no descriptors.
fn field_path(input: &MessageDescriptor, path: &str) -> anyhow::Result<String> {
    let mut numbers = Vec::new();
    let mut message = Some(input.clone());
    for name in path.split('.').filter(|n| !n.is_empty()) {
        let field = message
            .as_ref()
            .and_then(|m| m.get_field_by_name(name))
            .with_context(|| format!("{} has no field {path}", input.full_name()))?;
        numbers.push(field.number());
        message = match field.kind() {
            Kind::Message(m) => Some(m),
            Kind::String => None,
            other => bail!("{path} is a {other:?}, not a string"),
        };
    }
    if message.is_some() && !path.is_empty() {
        bail!("{path} is a message, not a string");
    }
    Ok(format!("&{numbers:?}"))
}
