//! Routes: from an HTTP method and a path to an RPC method with its path variables.

pub(crate) mod compile;
pub(crate) mod trie;

#[cfg(test)]
mod tests;

use bytes::BytesMut;
use http::Method;

use crate::{
    BindError, DecodeError, MessageId, MethodTable, Options, RouteError, Tables,
    bind::{self, BodyKind},
    template::{self, Template},
};

/// A route of the tables. Keep it, with the tables, for as long as a stream lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub(crate) u32);

/// The HTTP method that a route answers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verb {
    /// This one (and `HEAD` with `GET`).
    Is(Method),
    /// Every one: a custom rule of kind `*`.
    Any,
}

/// What of a request the HTTP body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Whole,
    Field(usize),
}

/// A field of the request, nested or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldPath {
    /// With the names of the proto file.
    pub(crate) name: String,
    /// Message and index of the field in it, outermost first.
    pub(crate) steps: Vec<(MessageId, usize)>,
}

/// A path variable.
#[derive(Debug, Clone)]
pub(crate) struct BoundVariable {
    pub(crate) field: FieldPath,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Ends in `**`: takes all segments that are left.
    pub(crate) open: bool,
    pub(crate) keep_slash: bool,
}

/// One HTTP rule, resolved against its method.
#[derive(Debug)]
pub struct Binding {
    pub(crate) method: usize,
    pub(crate) verb: Verb,
    pub(crate) template: Template,
    pub(crate) body: Body,
    pub(crate) response_body: Option<usize>,
    pub(crate) variables: Vec<BoundVariable>,
    /// The index of `update_mask` in the request, when it is to be derived from the body.
    pub(crate) mask: Option<usize>,
    /// Method and rule, for error messages.
    pub(crate) origin: String,
}

impl Binding {
    /// The HTTP method.
    pub fn verb(&self) -> &Verb {
        &self.verb
    }

    /// The path template.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// Whether a request has a body.
    pub fn has_body(&self) -> bool {
        self.body != Body::None
    }
}

/// A request that has found its route.
#[derive(Debug)]
pub struct RouteMatch<'t> {
    tables: &'t Tables,
    id: RouteId,
    binding: &'t Binding,
    /// In the order of the binding's variables, percent-decoded.
    values: Vec<String>,
}

impl<'t> RouteMatch<'t> {
    /// The route; good for as long as the tables.
    pub fn id(&self) -> RouteId {
        self.id
    }

    /// The tables it was found in.
    pub fn tables(&self) -> &'t Tables {
        self.tables
    }

    /// The rule that matched.
    pub fn binding(&self) -> &'t Binding {
        self.binding
    }

    /// The RPC method to call.
    pub fn method(&self) -> &'t MethodTable {
        self.tables.method_of(self.binding)
    }

    /// The path variables: field path (proto names) and value, percent-decoded.
    pub fn variables(&self) -> impl Iterator<Item = (&'t str, &str)> {
        self.binding
            .variables
            .iter()
            .map(|variable| variable.field.name.as_str())
            .zip(self.values.iter().map(String::as_str))
    }

    /// The value of one path variable, by its field path (proto names).
    pub fn variable(&self, field_path: &str) -> Option<&str> {
        self.variables()
            .find(|(name, _)| *name == field_path)
            .map(|(_, value)| value)
    }

    /// What the body of a request is.
    pub fn body_kind(&self) -> BodyKind {
        bind::body_kind(self.tables, self.binding)
    }

    /// Appends the request message to `out` as wire bytes: path variables over body over query parameters.
    /// `query` is what follows the `?`, as it came. On an error `out` is left as it was.
    pub fn encode_request(
        &self,
        query: Option<&str>,
        body: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), BindError> {
        self.encode_request_with(&self.tables.options().bind, query, body, out)
    }

    /// [`RouteMatch::encode_request`] with options of its own.
    pub fn encode_request_with(
        &self,
        options: &Options,
        query: Option<&str>,
        body: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), BindError> {
        let request = bind::Request {
            tables: self.tables,
            binding: self.binding,
            values: &self.values,
            options,
        };
        let start = out.len();
        request
            .encode(query, bind::Content::Json(body), out)
            .inspect_err(|_| out.truncate(start))
    }

    /// [`RouteMatch::encode_request`] for a body of [`BodyKind::HttpBody`]: the bytes go into a
    /// `google.api.HttpBody` as they are.
    pub fn encode_http_body(
        &self,
        query: Option<&str>,
        content_type: &str,
        data: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), BindError> {
        let request = bind::Request {
            tables: self.tables,
            binding: self.binding,
            values: &self.values,
            options: &self.tables.options().bind,
        };
        let start = out.len();
        request
            .encode(query, bind::Content::Raw { content_type, data }, out)
            .inspect_err(|_| out.truncate(start))
    }

    /// Appends a later message of a request stream to `out`: the body alone, since path and query belong to the
    /// first. On an error `out` is left as it was.
    pub fn encode_next(&self, body: &[u8], out: &mut BytesMut) -> Result<(), BindError> {
        self.tables.encode_next(self.id, body, out)
    }

    /// Appends the JSON form of a response message to `out`, or of the field that `response_body` names. On an
    /// error `out` is left as it was.
    pub fn decode_response(&self, wire: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
        self.tables
            .decode_response(self.id, wire, out, &self.tables.options().json)
    }
}

impl Tables {
    /// Appends a later message of a request stream to `out`: the body alone, since path and query belong to the
    /// first. On an error `out` is left as it was.
    pub fn encode_next(
        &self,
        route: RouteId,
        body: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), BindError> {
        self.encode_content(route, bind::Content::Json(body), out)
    }

    /// [`Tables::encode_next`] for a body of [`BodyKind::HttpBody`]: more bytes of it.
    pub fn encode_next_http_body(
        &self,
        route: RouteId,
        data: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), BindError> {
        let content_type = "";
        self.encode_content(route, bind::Content::Raw { content_type, data }, out)
    }

    fn encode_content(
        &self,
        route: RouteId,
        content: bind::Content<'_>,
        out: &mut BytesMut,
    ) -> Result<(), BindError> {
        let request = bind::Request {
            tables: self,
            binding: self.binding(route),
            values: &[],
            options: &self.options().bind,
        };
        let start = out.len();
        request
            .encode(None, content, out)
            .inspect_err(|_| out.truncate(start))
    }
}

pub(crate) fn find<'t>(
    tables: &'t Tables,
    method: &Method,
    path: &str,
) -> Result<RouteMatch<'t>, RouteError> {
    let (id, spans) = tables.trie().find(method, path)?;
    let binding = tables.binding(id);
    let mut values = Vec::with_capacity(binding.variables.len());
    for variable in &binding.variables {
        let end = if variable.open {
            usize::MAX
        } else {
            variable.end
        };
        let raw = spans.text(path, variable.start, end);
        let value =
            template::decode(raw, variable.keep_slash).ok_or_else(|| RouteError::InvalidPath {
                variable: variable.field.name.clone(),
                description: "not percent-encoded UTF-8".to_owned(),
            })?;
        values.push(value);
    }
    Ok(RouteMatch {
        tables,
        id,
        binding,
        values,
    })
}
