//! Query parameters: `page_size=10&filter.state=ACTIVE&id=1&id=2&labels[tier]=gold`.

use std::{borrow::Cow, collections::HashSet};

use bytes::BytesMut;
use percent_encoding::percent_decode_str;

use super::Request;
use crate::{
    BindError, Location,
    json::scalar,
    route::{Body, FieldPath, compile::field_path},
    tables::message::{Field, Kind, Shape},
    wire,
};

/// What was set: fields that may be set once, members of oneofs, map keys.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Taken {
    Field(Vec<(u32, usize)>),
    Oneof(Vec<(u32, usize)>, u16),
    Key(Vec<(u32, usize)>, Vec<u8>),
}

pub(super) struct Query<'a> {
    request: &'a Request<'a>,
    taken: HashSet<Taken>,
}

impl<'a> Query<'a> {
    pub(super) fn new(request: &'a Request<'a>) -> Self {
        Self {
            request,
            taken: HashSet::new(),
        }
    }

    /// Appends all parameters as wire fields. True when `update_mask` is one of them.
    pub(super) fn encode(mut self, query: &str, out: &mut BytesMut) -> Result<bool, BindError> {
        let mut has_mask = false;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(raw_name).ok_or_else(|| {
                BindError::new(
                    Location::Query,
                    raw_name,
                    "the name is not percent-encoded UTF-8",
                )
            })?;
            if self.request.options.ignores(&name) {
                continue;
            }
            let fault =
                |description: String| BindError::new(Location::Query, name.as_ref(), description);
            let value =
                decode(raw_value).ok_or_else(|| fault("not percent-encoded UTF-8".to_owned()))?;
            let (path, key) = match name.strip_suffix(']').and_then(|rest| rest.split_once('[')) {
                Some((path, key)) => (path, Some(key)),
                None => (name.as_ref(), None),
            };
            let field = self.resolve(path).map_err(fault)?;
            if self.clashes(&field).map_err(fault)? {
                continue;
            }
            has_mask |= self.request.binding.mask.is_some()
                && field.steps.first().map(|(_, index)| *index) == self.request.binding.mask;
            self.parameter(&field, key, &value, out).map_err(fault)?;
        }
        Ok(has_mask)
    }

    fn resolve(&self, path: &str) -> Result<FieldPath, String> {
        if self.request.binding.body == Body::Whole {
            return Err(
                "this method takes no query parameters, its body is the whole request".to_owned(),
            );
        }
        let input = self.request.tables.method_of(self.request.binding).input();
        field_path(self.request.tables, input, path)
            .map_err(|reason| format!("unknown query parameter: {reason}"))
    }

    /// Whether path or body hold the field already.
    fn clashes(&self, field: &FieldPath) -> Result<bool, String> {
        let in_body = matches!((self.request.binding.body, field.steps.first()), (Body::Field(body), Some((_, first))) if body == *first);
        let in_path = self
            .request
            .binding
            .variables
            .iter()
            .any(|variable| variable.field.steps == field.steps);
        match (in_body, in_path, self.request.options.refuse_clashes) {
            (true, _, true) => Err("the body holds this field".to_owned()),
            (_, true, true) => Err("the path holds this field".to_owned()),
            (in_body, in_path, _) => Ok(in_body || in_path),
        }
    }

    fn parameter(
        &mut self,
        path: &FieldPath,
        key: Option<&str>,
        value: &str,
        out: &mut BytesMut,
    ) -> Result<(), String> {
        let tables = self.request.tables;
        let Some((message, index)) = path.steps.last() else {
            return Ok(());
        };
        let field = &tables.table(*message).fields[*index];
        let steps: Vec<_> = path
            .steps
            .iter()
            .map(|(message, index)| (message.0, *index))
            .collect();
        self.check_oneofs(path)?;
        match (field.shape, key) {
            (Shape::Map, Some(key)) => return self.entry(path, field, key, value, out, steps),
            (Shape::Map, None) => {
                return Err("a map parameter needs a key, as in name[key]=value".to_owned());
            }
            (_, Some(_)) => return Err("this field is no map".to_owned()),
            (Shape::Repeated, None) => {
                if matches!(field.kind, Kind::Message(id) if tables.table(id).known.is_none()) {
                    return Err("a repeated message cannot be a query parameter".to_owned());
                }
            }
            (Shape::Singular, None) => {
                if !self.taken.insert(Taken::Field(steps)) {
                    return Err("the parameter occurs twice".to_owned());
                }
            }
        }
        self.request.put_at(path, value, out)
    }

    /// Different members of one oneof, at any level of the path, are refused.
    fn check_oneofs(&mut self, path: &FieldPath) -> Result<(), String> {
        for (depth, (message, index)) in path.steps.iter().enumerate() {
            let table = self.request.tables.table(*message);
            let Some(oneof) = table.fields[*index].oneof else {
                continue;
            };
            let outer: Vec<_> = path.steps[..depth]
                .iter()
                .map(|(message, index)| (message.0, *index))
                .collect();
            for (other, field) in table.fields.iter().enumerate() {
                let mut sibling = outer.clone();
                sibling.push((message.0, other));
                if other != *index
                    && field.oneof == Some(oneof)
                    && self.taken.contains(&Taken::Oneof(sibling, oneof))
                {
                    return Err(format!(
                        "another field of the oneof is set: {}",
                        field.json_name
                    ));
                }
            }
            let mut own = outer;
            own.push((message.0, *index));
            self.taken.insert(Taken::Oneof(own, oneof));
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: &FieldPath,
        field: &Field,
        key: &str,
        value: &str,
        out: &mut BytesMut,
        steps: Vec<(u32, usize)>,
    ) -> Result<(), String> {
        let tables = self.request.tables;
        let any_case = self.request.options.case_insensitive_enums;
        let Some((key_field, value_field)) = tables.map_entry(field) else {
            return Err("the map has no entry type".to_owned());
        };
        let mut entry = BytesMut::new();
        entry.extend_from_slice(key_field.tag());
        scalar::put_text(tables, &mut entry, key_field.kind, key, any_case)?;
        if !self.taken.insert(Taken::Key(steps, entry.to_vec())) {
            return Err("the key occurs twice".to_owned());
        }
        entry.extend_from_slice(value_field.tag());
        match value_field.kind {
            Kind::Message(id) => {
                let start = wire::open(&mut entry);
                let known = tables.table(id).known;
                known
                    .and_then(|known| {
                        scalar::put_known_text(tables, &mut entry, known, value, any_case)
                    })
                    .unwrap_or_else(|| {
                        Err("a map of messages cannot be a query parameter".to_owned())
                    })?;
                wire::close(&mut entry, start);
            }
            kind => scalar::put_text(tables, &mut entry, kind, value, any_case)?,
        }
        let mut nested = BytesMut::new();
        nested.extend_from_slice(field.tag());
        wire::put_delimited(&mut nested, &entry);
        let outer = path.steps.split_last().map_or(&[][..], |(_, outer)| outer);
        for (message, index) in outer.iter().rev() {
            let around = &tables.table(*message).fields[*index];
            let mut wrapped = BytesMut::new();
            wrapped.extend_from_slice(around.tag());
            if around.group {
                wrapped.extend_from_slice(&nested);
                wire::put_varint(
                    &mut wrapped,
                    u64::from(wire::tag(around.number, wire::END_GROUP)),
                );
            } else {
                wire::put_delimited(&mut wrapped, &nested);
            }
            nested = wrapped;
        }
        out.extend_from_slice(&nested);
        Ok(())
    }
}

/// Undoes form encoding: `+` is a space, `%XX` a byte.
fn decode(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains(['%', '+']) {
        return Some(Cow::Borrowed(raw));
    }
    let spaced = raw.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .ok()
        .map(|decoded| Cow::Owned(decoded.into_owned()))
}
