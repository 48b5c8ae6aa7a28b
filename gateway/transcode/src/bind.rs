//! Binds a request: path variables, body and query parameters become the wire bytes of the request message.

pub(crate) mod mask;
mod query;
#[cfg(test)]
mod tests;

use bytes::BytesMut;

use self::{mask::Mask, query::Query};
use crate::{
    BindError, Location, MessageId, Tables,
    error::JsonError,
    json::{scalar, to_wire},
    route::{Binding, Body, FieldPath},
    tables::message::{Kind, Shape},
    wire,
};

/// What callers may send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Pass over unknown JSON fields and unknown enum names instead of refusing them.
    pub ignore_unknown_fields: bool,
    /// Query parameters that are not for the method, such as `key` or `alt`; an entry that ends in `*` stands for
    /// all that begin so.
    pub ignored_query: Vec<String>,
    /// Refuse a query parameter for a field that the path or the body holds, instead of passing over it.
    pub refuse_clashes: bool,
    /// Take enum names in any case.
    pub case_insensitive_enums: bool,
}

impl Options {
    fn ignores(&self, name: &str) -> bool {
        self.ignored_query
            .iter()
            .any(|ignored| match ignored.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => ignored == name,
            })
    }
}

/// What the body of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none; one that is sent is refused.
    None,
    /// JSON.
    Json,
    /// Bytes of any content type, for a `google.api.HttpBody`: use [`crate::RouteMatch::encode_http_body`].
    HttpBody,
}

/// A `google.api.HttpBody` that a response holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HttpBody<'w> {
    /// The content type.
    pub content_type: &'w str,
    /// The bytes.
    pub data: &'w [u8],
}

const HTTP_BODY: &str = "google.api.HttpBody";

impl<'w> HttpBody<'w> {
    /// Reads the wire form. Nothing when it is malformed.
    pub fn from_wire(wire: &'w [u8]) -> Option<Self> {
        let mut body = Self::default();
        let mut cursor = wire::Cursor::new(wire);
        while !cursor.is_empty() {
            match cursor.tag().ok()? {
                (1, wire::DELIMITED) => {
                    body.content_type = std::str::from_utf8(cursor.delimited().ok()?).ok()?;
                }
                (2, wire::DELIMITED) => body.data = cursor.delimited().ok()?,
                (number, wire_type) => cursor.skip(number, wire_type).ok()?,
            }
        }
        Some(body)
    }
}

impl Tables {
    /// Whether responses of a route are a `google.api.HttpBody`, to be sent as they are.
    pub fn responds_with_http_body(&self, binding: &Binding) -> bool {
        let output = self.method_of(binding).output();
        match binding.response_body {
            None => self.table(output).name() == HTTP_BODY,
            Some(field) => self.is_http_body(self.table(output).fields[field].kind),
        }
    }

    /// The `google.api.HttpBody` that a route's response holds, by [`Tables::responds_with_http_body`]. Empty when the
    /// field is absent, nothing when the bytes are malformed.
    pub fn response_http_body<'w>(
        &self,
        binding: &Binding,
        wire: &'w [u8],
    ) -> Option<HttpBody<'w>> {
        let Some(field) = binding.response_body else {
            return HttpBody::from_wire(wire);
        };
        let output = self.table(self.method_of(binding).output());
        let number = output.fields[field].number;
        let mut found = HttpBody::default();
        let mut cursor = wire::Cursor::new(wire);
        while !cursor.is_empty() {
            match cursor.tag().ok()? {
                (at, wire::DELIMITED) if at == number => {
                    found = HttpBody::from_wire(cursor.delimited().ok()?)?;
                }
                (number, wire_type) => cursor.skip(number, wire_type).ok()?,
            }
        }
        Some(found)
    }

    /// The number of a message's singular string field with this name in the proto file.
    pub fn string_field(&self, message: MessageId, name: &str) -> Option<u32> {
        self.table(message)
            .fields
            .iter()
            .find(|field| {
                &*field.name == name && field.shape == Shape::Singular && field.kind == Kind::String
            })
            .map(|field| field.number)
    }

    fn is_http_body(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Message(id) if self.table(id).name() == HTTP_BODY)
    }
}

pub(crate) fn body_kind(tables: &Tables, binding: &Binding) -> BodyKind {
    let input = tables.table(tables.method_of(binding).input());
    let raw = match binding.body {
        Body::None => return BodyKind::None,
        Body::Whole => input.name() == HTTP_BODY,
        Body::Field(field) => {
            input.fields[field].shape == Shape::Singular
                && tables.is_http_body(input.fields[field].kind)
        }
    };
    if raw {
        BodyKind::HttpBody
    } else {
        BodyKind::Json
    }
}

/// The body as it came.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    Json(&'a [u8]),
    Raw {
        content_type: &'a str,
        data: &'a [u8],
    },
}

/// A routed request on its way into a message.
pub(crate) struct Request<'a> {
    pub(crate) tables: &'a Tables,
    pub(crate) binding: &'a Binding,
    pub(crate) values: &'a [String],
    pub(crate) options: &'a Options,
}

impl Request<'_> {
    /// Of two values of one field the later wins on the wire, so the parts come in rising order of precedence.
    pub(crate) fn encode(
        &self,
        query: Option<&str>,
        content: Content<'_>,
        out: &mut BytesMut,
    ) -> Result<(), BindError> {
        let mut has_mask = false;
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            has_mask = Query::new(self).encode(query, out)?;
        }
        match content {
            Content::Json(json) => self.json(json, has_mask, out)?,
            Content::Raw { content_type, data } => self.raw(content_type, data, out)?,
        }
        for (variable, value) in self.binding.variables.iter().zip(self.values) {
            self.put_at(&variable.field, value, out)
                .map_err(|description| {
                    BindError::new(Location::Path, &variable.field.name, description)
                })?;
        }
        Ok(())
    }

    fn json(&self, json: &[u8], has_mask: bool, out: &mut BytesMut) -> Result<(), BindError> {
        let input = self.tables.method_of(self.binding).input();
        let fault = |prefix: &str, error: JsonError| {
            let path = error.path();
            let dot = if prefix.is_empty() || path.is_empty() || path.starts_with('[') {
                ""
            } else {
                "."
            };
            BindError::new(
                Location::Body,
                format!("{prefix}{dot}{path}"),
                error.description(),
            )
        };
        if to_wire::is_blank(json) {
            return Ok(());
        }
        match self.binding.body {
            Body::None => Err(BindError::new(
                Location::Body,
                "",
                "this method takes no body",
            )),
            Body::Whole => to_wire::message(self.tables, input, json, self.options, out)
                .map_err(|error| fault("", error)),
            Body::Field(index) => {
                let field = &self.tables.table(input).fields[index];
                let mut mask = match self.binding.mask {
                    Some(_) if !has_mask => Some(self.mask(index)),
                    _ => None,
                };
                to_wire::field(self.tables, field, json, self.options, out, mask.as_mut())
                    .map_err(|error| fault(&field.json_name, error))?;
                if let (Some(mask), Some(at)) = (mask, self.binding.mask) {
                    mask.put(&self.tables.table(input).fields[at], out);
                }
                Ok(())
            }
        }
    }

    /// The mask leaves out what the path already names.
    fn mask(&self, body: usize) -> Mask {
        let inside = |path: &FieldPath| match path.steps.first() {
            Some((_, first)) if *first == body => {
                path.name.split_once('.').map(|(_, rest)| rest.to_owned())
            }
            _ => None,
        };
        Mask::without(
            self.binding
                .variables
                .iter()
                .filter_map(|variable| inside(&variable.field))
                .collect(),
        )
    }

    fn raw(&self, content_type: &str, data: &[u8], out: &mut BytesMut) -> Result<(), BindError> {
        let input = self
            .tables
            .table(self.tables.method_of(self.binding).input());
        if body_kind(self.tables, self.binding) != BodyKind::HttpBody {
            return Err(BindError::new(Location::Body, "", "this method takes JSON"));
        }
        let start = match self.binding.body {
            Body::Field(field) => {
                out.extend_from_slice(input.fields[field].tag());
                Some(wire::open(out))
            }
            _ => None,
        };
        wire::put_bytes_field(out, 1, content_type.as_bytes());
        wire::put_bytes_field(out, 2, data);
        if let Some(start) = start {
            wire::close(out, start);
        }
        Ok(())
    }

    /// Writes the text of a scalar, or of a well-known type that is a string in JSON, at a field path.
    fn put_at(&self, path: &FieldPath, text: &str, out: &mut BytesMut) -> Result<(), String> {
        let Some(((message, index), outer)) = path.steps.split_last() else {
            return Ok(());
        };
        let mut open = Vec::with_capacity(outer.len());
        for (message, index) in outer {
            let field = &self.tables.table(*message).fields[*index];
            out.extend_from_slice(field.tag());
            open.push((
                field,
                if field.group {
                    None
                } else {
                    Some(wire::open(out))
                },
            ));
        }
        let leaf = &self.tables.table(*message).fields[*index];
        match leaf.kind {
            Kind::Message(id) => {
                out.extend_from_slice(leaf.tag());
                let start = wire::open(out);
                let known = self.tables.table(id).known;
                known
                    .and_then(|known| {
                        scalar::put_known_text(
                            self.tables,
                            out,
                            known,
                            text,
                            self.options.case_insensitive_enums,
                        )
                    })
                    .unwrap_or_else(|| Err("a message cannot be a parameter".to_owned()))?;
                wire::close(out, start);
            }
            kind => {
                wire::put_varint(out, u64::from(wire::tag(leaf.number, kind.wire_type())));
                scalar::put_text(
                    self.tables,
                    out,
                    kind,
                    text,
                    self.options.case_insensitive_enums,
                )?;
            }
        }
        for (field, start) in open.into_iter().rev() {
            match start {
                Some(start) => wire::close(out, start),
                None => wire::put_varint(out, u64::from(wire::tag(field.number, wire::END_GROUP))),
            }
        }
        Ok(())
    }
}
