//! `google.api.HttpRule`, from method annotations and from service configuration.

use serde::Deserialize;

use crate::wire::{Cursor, DELIMITED, Reason};

/// The field number of the extension `google.api.http` of `MethodOptions`.
pub const EXTENSION: u32 = 72_295_728;

/// The HTTP method of a rule with its path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// `get`
    Get(String),
    /// `put`
    Put(String),
    /// `post`
    Post(String),
    /// `delete`
    Delete(String),
    /// `patch`
    Patch(String),
    /// `custom`: any other method; the kind `*` stands for all.
    Custom {
        /// The HTTP method.
        kind: String,
        /// The path template.
        path: String,
    },
}

impl Pattern {
    /// The HTTP method, or `*`.
    pub fn kind(&self) -> &str {
        match self {
            Self::Get(_) => "GET",
            Self::Put(_) => "PUT",
            Self::Post(_) => "POST",
            Self::Delete(_) => "DELETE",
            Self::Patch(_) => "PATCH",
            Self::Custom { kind, .. } => kind,
        }
    }

    /// The path template.
    pub fn path(&self) -> &str {
        match self {
            Self::Get(path)
            | Self::Put(path)
            | Self::Post(path)
            | Self::Delete(path)
            | Self::Patch(path)
            | Self::Custom { path, .. } => path,
        }
    }
}

/// How an RPC method is reached over HTTP. Deserializes from an entry of `http.rules` of a service configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Entry")]
pub struct HttpRule {
    /// Full name of the method, for rules from service configuration.
    pub selector: String,
    /// HTTP method and path template.
    pub pattern: Option<Pattern>,
    /// The field that the body holds, `*` for the whole request, empty for no body.
    pub body: String,
    /// The field that is returned instead of the whole response; empty for the whole.
    pub response_body: String,
    /// More ways to the same method; these have none of their own.
    pub additional_bindings: Vec<HttpRule>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Entry {
    selector: String,
    get: Option<String>,
    put: Option<String>,
    post: Option<String>,
    delete: Option<String>,
    patch: Option<String>,
    custom: Option<CustomEntry>,
    body: String,
    #[serde(alias = "responseBody")]
    response_body: String,
    #[serde(alias = "additionalBindings")]
    additional_bindings: Vec<HttpRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomEntry {
    kind: String,
    path: String,
}

impl From<Entry> for HttpRule {
    fn from(entry: Entry) -> Self {
        let custom = entry
            .custom
            .map(|CustomEntry { kind, path }| Pattern::Custom { kind, path });
        let pattern = entry
            .get
            .map(Pattern::Get)
            .or_else(|| entry.put.map(Pattern::Put))
            .or_else(|| entry.post.map(Pattern::Post))
            .or_else(|| entry.delete.map(Pattern::Delete))
            .or_else(|| entry.patch.map(Pattern::Patch))
            .or(custom);
        Self {
            selector: entry.selector,
            pattern,
            body: entry.body,
            response_body: entry.response_body,
            additional_bindings: entry.additional_bindings,
        }
    }
}

impl HttpRule {
    /// Reads the wire form, as it stands in method options.
    pub(crate) fn from_wire(wire: &[u8]) -> Result<Self, Reason> {
        let mut rule = Self::default();
        let mut cursor = Cursor::new(wire);
        while !cursor.is_empty() {
            let (number, wire_type) = cursor.tag()?;
            if wire_type != DELIMITED {
                cursor.skip(number, wire_type)?;
                continue;
            }
            let value = cursor.delimited()?;
            match number {
                1 => rule.selector = text(value)?,
                2 => rule.pattern = Some(Pattern::Get(text(value)?)),
                3 => rule.pattern = Some(Pattern::Put(text(value)?)),
                4 => rule.pattern = Some(Pattern::Post(text(value)?)),
                5 => rule.pattern = Some(Pattern::Delete(text(value)?)),
                6 => rule.pattern = Some(Pattern::Patch(text(value)?)),
                7 => rule.body = text(value)?,
                8 => rule.pattern = Some(custom(value)?),
                11 => rule.additional_bindings.push(additional(value)?),
                12 => rule.response_body = text(value)?,
                _ => {}
            }
        }
        Ok(rule)
    }
}

/// An additional binding. Its own additional bindings are kept one level deep so that they can be refused by name.
fn additional(wire: &[u8]) -> Result<HttpRule, Reason> {
    let mut nested = Cursor::new(wire);
    let mut flat = Vec::with_capacity(wire.len());
    let mut has_own = false;
    while !nested.is_empty() {
        let (number, record) = nested.record()?;
        if number == 11 {
            has_own = true;
        } else {
            flat.extend_from_slice(record);
        }
    }
    let mut rule = HttpRule::from_wire(&flat)?;
    if has_own {
        rule.additional_bindings.push(HttpRule::default());
    }
    Ok(rule)
}

fn custom(wire: &[u8]) -> Result<Pattern, Reason> {
    let (mut kind, mut path) = (String::new(), String::new());
    let mut cursor = Cursor::new(wire);
    while !cursor.is_empty() {
        match cursor.tag()? {
            (1, DELIMITED) => kind = text(cursor.delimited()?)?,
            (2, DELIMITED) => path = text(cursor.delimited()?)?,
            (number, wire_type) => cursor.skip(number, wire_type)?,
        }
    }
    Ok(Pattern::Custom { kind, path })
}

fn text(bytes: &[u8]) -> Result<String, Reason> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| "a string is not UTF-8")
}
