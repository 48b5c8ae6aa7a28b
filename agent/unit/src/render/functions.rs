//! The functions that the packages' templates use, beside Go's own.

use std::collections::HashMap;
use std::path::Path;

use aws_lc_rs::cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gtmpl_ng::{Func, FuncError, Value};
use sha2::{Digest, Sha256};

use super::scope;
use crate::member::replicas;

type Answer = Result<Value, FuncError>;

/// All of them by name.
pub const ALL: &[(&str, Func)] = &[
    // values
    ("exists", exists),
    ("get", get),
    ("gets", gets),
    ("getv", getv),
    ("getvs", getvs),
    ("ls", ls),
    ("getenv", getenv),
    // secrets
    ("secretRead", secret_read),
    ("agentSecret", agent_secret),
    ("replicaPassword", replica_password),
    ("AESCTRDecrypt", aes_ctr_decrypt),
    // files and paths
    ("fileExists", file_exists),
    ("fileRead", file_read),
    ("filePathJoin", file_path_join),
    ("base", base),
    ("dir", dir),
    // text
    ("base64Encode", base64_encode),
    ("base64Decode", base64_decode),
    ("sha256sum", sha256sum),
    ("toUpper", to_upper),
    ("toLower", to_lower),
    ("contains", contains),
    ("replace", replace),
    ("trimSuffix", trim_suffix),
    ("split", split),
    ("join", join),
    ("reverse", reverse),
    ("json", json),
    ("jsonArray", json),
    ("map", map),
    // numbers
    ("atoi", atoi),
    ("toFloat64", to_float),
    ("parseBool", parse_bool),
    ("add", add),
    ("sub", sub),
    ("mul", mul),
    ("div", div),
    ("mod", modulo),
    ("min", min),
    ("max", max),
    ("seq", seq),
];

fn wrong(message: impl Into<String>) -> FuncError {
    FuncError::Generic(message.into())
}

fn text(name: &str, args: &[Value], index: usize) -> Result<String, FuncError> {
    match args.get(index) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::Bool(flag)) => Ok(flag.to_string()),
        Some(_) => Err(wrong(format!("{name}: argument {} is not text", index + 1))),
        None => Err(FuncError::AtLeastXArgs(name.to_owned(), index + 1)),
    }
}

fn number(name: &str, args: &[Value], index: usize) -> Result<i64, FuncError> {
    match args.get(index) {
        Some(Value::Number(number)) => number
            .as_i64()
            .ok_or_else(|| wrong(format!("{name}: {number} is not a whole number"))),
        Some(Value::String(text)) => text
            .trim()
            .parse()
            .map_err(|_| wrong(format!("{name}: {text:?} is not a number"))),
        Some(_) => Err(wrong(format!(
            "{name}: argument {} is not a number",
            index + 1
        ))),
        None => Err(FuncError::AtLeastXArgs(name.to_owned(), index + 1)),
    }
}

fn look<T>(with: impl FnOnce(&super::Inputs) -> T) -> Result<T, FuncError> {
    scope::look(with).ok_or_else(|| wrong("no rendering is running"))
}

fn exists(args: &[Value]) -> Answer {
    let key = text("exists", args, 0)?;
    look(|inputs| Value::from(inputs.values.contains_key(&key)))
}

/// `getv KEY [DEFAULT]`: the value at a path; without a default it must be there.
fn getv(args: &[Value]) -> Answer {
    let key = text("getv", args, 0)?;
    match (
        look(|inputs| inputs.values.get(&key).cloned())?,
        args.get(1),
    ) {
        (Some(value), _) => Ok(value.into()),
        (None, Some(default)) => Ok(default.clone()),
        (None, None) => Err(wrong(format!("getv: there is no value {key}"))),
    }
}

fn pair(key: &str, value: &str) -> Value {
    Value::from(HashMap::from([
        ("Key".to_owned(), Value::from(key)),
        ("Value".to_owned(), Value::from(value)),
    ]))
}

fn get(args: &[Value]) -> Answer {
    let key = text("get", args, 0)?;
    match look(|inputs| inputs.values.get(&key).cloned())? {
        Some(value) => Ok(pair(&key, &value)),
        None => Err(wrong(format!("get: there is no value {key}"))),
    }
}

/// Whether a path matches a pattern in which `*` stands for one segment or a part of it.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) => {
                let holds = match pattern.split_once('*') {
                    Some((head, tail)) => {
                        part.len() >= head.len() + tail.len()
                            && part.starts_with(head)
                            && part.ends_with(tail)
                    }
                    None => pattern == part,
                };
                if !holds {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

fn gets(args: &[Value]) -> Answer {
    let pattern = text("gets", args, 0)?;
    look(|inputs| {
        let found = inputs
            .values
            .iter()
            .filter(|(key, _)| matches(&pattern, key));
        Value::Array(found.map(|(key, value)| pair(key, value)).collect())
    })
}

fn getvs(args: &[Value]) -> Answer {
    let pattern = text("getvs", args, 0)?;
    look(|inputs| {
        let found = inputs
            .values
            .iter()
            .filter(|(key, _)| matches(&pattern, key));
        Value::Array(found.map(|(_, value)| Value::from(value)).collect())
    })
}

/// `ls PATH`: the names below a path, sorted, once each.
fn ls(args: &[Value]) -> Answer {
    let below = format!("{}/", text("ls", args, 0)?.trim_end_matches('/'));
    look(|inputs| {
        let mut names: Vec<&str> = inputs
            .values
            .keys()
            .filter_map(|key| key.strip_prefix(&below)?.split('/').next())
            .collect();
        names.dedup();
        Value::Array(names.into_iter().map(Value::from).collect())
    })
}

/// `getenv NAME [DEFAULT]`: empty without a default.
fn getenv(args: &[Value]) -> Answer {
    let name = text("getenv", args, 0)?;
    let found = look(|inputs| {
        inputs
            .env
            .get(&name)
            .filter(|value| !value.is_empty())
            .cloned()
    })?;
    Ok(found.map_or_else(
        || args.get(1).cloned().unwrap_or_else(|| Value::from("")),
        Value::from,
    ))
}

fn secret(name: &str, user: &str) -> Result<String, FuncError> {
    if user.is_empty() || user.contains('/') || user.starts_with('.') {
        return Err(wrong(format!("{name}: {user:?} is not the name of a user")));
    }
    let (path, masked) = look(|inputs| (inputs.secrets.join(user), inputs.masked))?;
    let password = std::fs::read_to_string(&path)
        .map_err(|error| wrong(format!("{name}: {}: {error}", path.display())))?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(wrong(format!("{name}: {} is empty", path.display())));
    }
    Ok(if masked {
        "********".to_owned()
    } else {
        password.to_owned()
    })
}

/// `secretRead USER`: the user's password.
fn secret_read(args: &[Value]) -> Answer {
    secret("secretRead", &text("secretRead", args, 0)?).map(Value::from)
}

/// `agentSecret`: the password of the unit agent's own user.
fn agent_secret(_: &[Value]) -> Answer {
    look(|inputs| {
        if inputs.masked {
            "********".to_owned()
        } else {
            inputs.agent_secret.reveal().to_owned()
        }
    })
    .map(Value::from)
}

/// `replicaPassword`: with which this member follows others; its user is `upm-replica-` and the environment's `MEMBER_ID`.
fn replica_password(_: &[Value]) -> Answer {
    let secret = secret("replicaPassword", replicas::SECRET)?;
    let (member_id, masked) = look(|inputs| {
        let id = inputs.env.get("MEMBER_ID").cloned().unwrap_or_default();
        (id, inputs.masked)
    })?;
    Ok(Value::from(if masked {
        secret
    } else {
        replicas::password(&secret, &member_id)
    }))
}

/// `AESCTRDecrypt FILE-OF-USER`: passwords of earlier versions, `IV(16) || AES-256-CTR`, key in `AES_SECRET_KEY`.
fn aes_ctr_decrypt(args: &[Value]) -> Answer {
    let user = text("AESCTRDecrypt", args, 0)?;
    let (path, key, masked) = look(|inputs| {
        (
            inputs.secrets.join(&user),
            inputs.env.get("AES_SECRET_KEY").cloned(),
            inputs.masked,
        )
    })?;
    let key = key.ok_or_else(|| wrong("AESCTRDecrypt: AES_SECRET_KEY is not set"))?;
    let sealed = std::fs::read(&path)
        .map_err(|error| wrong(format!("AESCTRDecrypt: {}: {error}", path.display())))?;
    let plain = decrypt(key.as_bytes(), &sealed)
        .ok_or_else(|| wrong("AESCTRDecrypt: wrong key or content"))?;
    Ok(Value::from(if masked {
        "********".to_owned()
    } else {
        plain
    }))
}

/// Decrypts `IV(16) || AES-256-CTR(text)` with a key of 32 bytes.
pub fn decrypt(key: &[u8], sealed: &[u8]) -> Option<String> {
    let (iv, body) = sealed.split_at_checked(16)?;
    let iv: [u8; 16] = iv.try_into().ok()?;
    let key = DecryptingKey::ctr(UnboundCipherKey::new(&AES_256, key).ok()?).ok()?;
    let mut body = body.to_vec();
    let plain = key
        .decrypt(&mut body, DecryptionContext::Iv128(FixedLength::from(iv)))
        .ok()?;
    String::from_utf8(plain.to_vec()).ok()
}

fn file_exists(args: &[Value]) -> Answer {
    Ok(Value::from(
        Path::new(&text("fileExists", args, 0)?).exists(),
    ))
}

fn file_read(args: &[Value]) -> Answer {
    let path = text("fileRead", args, 0)?;
    std::fs::read_to_string(&path)
        .map(Value::from)
        .map_err(|error| wrong(format!("fileRead: {path}: {error}")))
}

fn file_path_join(args: &[Value]) -> Answer {
    let mut joined = String::new();
    for index in 0..args.len() {
        let part = text("filePathJoin", args, index)?;
        if !joined.is_empty() && !joined.ends_with('/') {
            joined.push('/');
        }
        joined.push_str(if joined.is_empty() {
            &part
        } else {
            part.trim_start_matches('/')
        });
    }
    Ok(Value::from(joined))
}

fn base(args: &[Value]) -> Answer {
    let path = text("base", args, 0)?;
    Ok(Value::from(
        path.trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or_default(),
    ))
}

fn dir(args: &[Value]) -> Answer {
    let path = text("dir", args, 0)?;
    Ok(Value::from(path.rsplit_once('/').map_or(
        ".",
        |(head, _)| if head.is_empty() { "/" } else { head },
    )))
}

fn base64_encode(args: &[Value]) -> Answer {
    Ok(Value::from(STANDARD.encode(text("base64Encode", args, 0)?)))
}

fn base64_decode(args: &[Value]) -> Answer {
    let bytes = STANDARD
        .decode(text("base64Decode", args, 0)?.trim())
        .map_err(|_| wrong("base64Decode: not base64"))?;
    String::from_utf8(bytes)
        .map(Value::from)
        .map_err(|_| wrong("base64Decode: not text"))
}

fn sha256sum(args: &[Value]) -> Answer {
    Ok(Value::from(hex::encode(Sha256::digest(
        text("sha256sum", args, 0)?.as_bytes(),
    ))))
}

fn to_upper(args: &[Value]) -> Answer {
    Ok(Value::from(text("toUpper", args, 0)?.to_uppercase()))
}

fn to_lower(args: &[Value]) -> Answer {
    Ok(Value::from(text("toLower", args, 0)?.to_lowercase()))
}

fn contains(args: &[Value]) -> Answer {
    Ok(Value::from(
        text("contains", args, 0)?.contains(&text("contains", args, 1)?),
    ))
}

/// `replace TEXT OLD NEW [COUNT]`; a negative count or none replaces all.
fn replace(args: &[Value]) -> Answer {
    let (whole, old, new) = (
        text("replace", args, 0)?,
        text("replace", args, 1)?,
        text("replace", args, 2)?,
    );
    let count = if args.len() > 3 {
        number("replace", args, 3)?
    } else {
        -1
    };
    Ok(Value::from(match usize::try_from(count) {
        Ok(count) => whole.replacen(&old, &new, count),
        Err(_) => whole.replace(&old, &new),
    }))
}

fn trim_suffix(args: &[Value]) -> Answer {
    let (whole, suffix) = (text("trimSuffix", args, 0)?, text("trimSuffix", args, 1)?);
    Ok(Value::from(whole.strip_suffix(&suffix).unwrap_or(&whole)))
}

fn split(args: &[Value]) -> Answer {
    let (whole, by) = (text("split", args, 0)?, text("split", args, 1)?);
    Ok(Value::Array(whole.split(&by).map(Value::from).collect()))
}

fn join(args: &[Value]) -> Answer {
    let Some(Value::Array(items)) = args.first() else {
        return Err(wrong("join: argument 1 is not a list"));
    };
    let parts: Result<Vec<String>, FuncError> = (0..items.len())
        .map(|index| text("join", items, index))
        .collect();
    Ok(Value::from(parts?.join(&text("join", args, 1)?)))
}

fn reverse(args: &[Value]) -> Answer {
    match args.first() {
        Some(Value::Array(items)) => Ok(Value::Array(items.iter().rev().cloned().collect())),
        _ => Err(wrong("reverse: argument 1 is not a list")),
    }
}

fn json(args: &[Value]) -> Answer {
    let parsed: serde_json::Value = serde_json::from_str(&text("json", args, 0)?)
        .map_err(|error| wrong(format!("json: {error}")))?;
    Ok(from_json(&parsed))
}

fn from_json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::from(whole),
            (None, Some(float)) => Value::from(float),
            (None, None) => Value::Nil,
        },
        serde_json::Value::String(text) => Value::from(text),
        serde_json::Value::Array(items) => Value::Array(items.iter().map(from_json).collect()),
        serde_json::Value::Object(fields) => Value::from(
            fields
                .iter()
                .map(|(key, value)| (key.clone(), from_json(value)))
                .collect::<HashMap<_, _>>(),
        ),
    }
}

/// `map K V [K V…]`.
fn map(args: &[Value]) -> Answer {
    if args.len() % 2 == 1 {
        return Err(wrong("map: a key has no value"));
    }
    let mut made = HashMap::new();
    for index in (0..args.len()).step_by(2) {
        made.insert(text("map", args, index)?, args[index + 1].clone());
    }
    Ok(Value::from(made))
}

fn atoi(args: &[Value]) -> Answer {
    number("atoi", args, 0).map(Value::from)
}

fn to_float(args: &[Value]) -> Answer {
    let given = text("toFloat64", args, 0)?;
    given
        .trim()
        .parse::<f64>()
        .map(Value::from)
        .map_err(|_| wrong(format!("toFloat64: {given:?} is not a number")))
}

fn parse_bool(args: &[Value]) -> Answer {
    match text("parseBool", args, 0)?.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::from(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::from(false)),
        other => Err(wrong(format!("parseBool: {other:?}"))),
    }
}

fn arithmetic(name: &str, args: &[Value], with: impl Fn(i64, i64) -> Option<i64>) -> Answer {
    with(number(name, args, 0)?, number(name, args, 1)?)
        .map(Value::from)
        .ok_or_else(|| wrong(format!("{name}: the result is not a number")))
}

fn add(args: &[Value]) -> Answer {
    arithmetic("add", args, i64::checked_add)
}

fn min(args: &[Value]) -> Answer {
    arithmetic("min", args, |a, b| Some(a.min(b)))
}
fn max(args: &[Value]) -> Answer {
    arithmetic("max", args, |a, b| Some(a.max(b)))
}
fn sub(args: &[Value]) -> Answer {
    arithmetic("sub", args, i64::checked_sub)
}

fn mul(args: &[Value]) -> Answer {
    arithmetic("mul", args, i64::checked_mul)
}

fn div(args: &[Value]) -> Answer {
    arithmetic("div", args, i64::checked_div)
}

fn modulo(args: &[Value]) -> Answer {
    arithmetic("mod", args, i64::checked_rem)
}

fn seq(args: &[Value]) -> Answer {
    let (from, to) = (number("seq", args, 0)?, number("seq", args, 1)?);
    if to.saturating_sub(from) > 10_000 {
        return Err(wrong("seq: more than 10000 numbers"));
    }
    Ok(Value::Array((from..=to).map(Value::from).collect()))
}
