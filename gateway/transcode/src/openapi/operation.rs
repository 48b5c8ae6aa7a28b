//! Bindings as operations of path items.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::{
    Policy,
    comment::{Comments, first_sentence},
    parameter,
    path::{self, PathParameter},
    schema::Schemas,
};
use crate::{
    BodyKind, MethodTable, Tables, bind,
    route::{Binding, Body, Verb},
};

/// The methods that a path item can have.
const METHODS: [&str; 8] = [
    "GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE",
];
const NDJSON: &str = "application/x-ndjson";
const JSON: &str = "application/json";

pub(super) struct Operations<'a> {
    tables: &'a Tables,
    comments: &'a Comments,
    schemas: Schemas<'a>,
    policy: Policy<'a>,
    paths: Map<String, Value>,
    /// The first path of each shape: templates that differ only in names are one path.
    shapes: HashMap<String, (String, Vec<PathParameter>)>,
    ids: HashSet<String>,
    /// Full names by the short name of services.
    services: BTreeMap<String, HashSet<String>>,
    tags: BTreeMap<String, Option<String>>,
}

impl<'a> Operations<'a> {
    pub(super) fn new(
        tables: &'a Tables,
        comments: &'a Comments,
        schemas: Schemas<'a>,
        policy: Policy<'a>,
    ) -> Self {
        let mut services: BTreeMap<String, HashSet<String>> = BTreeMap::new();
        for method in tables.methods() {
            services
                .entry(short(method).to_owned())
                .or_default()
                .insert(method.service().to_owned());
        }
        Self {
            tables,
            comments,
            schemas,
            policy,
            paths: Map::new(),
            shapes: HashMap::new(),
            ids: HashSet::new(),
            services,
            tags: BTreeMap::new(),
        }
    }

    pub(super) fn finish(self) -> (Map<String, Value>, Vec<Value>, Map<String, Value>) {
        let tag = |(name, description): (String, Option<String>)| match description {
            Some(description) => json!({ "name": name, "description": description }),
            None => json!({ "name": name }),
        };
        (
            self.paths,
            self.tags.into_iter().map(tag).collect(),
            self.schemas.finish(),
        )
    }

    pub(super) fn add(&mut self, binding: &Binding) {
        let method = self.tables.method_of(binding);
        let Verb::Is(verb) = &binding.verb else {
            return;
        };
        if !(self.policy.include)(method) || !METHODS.contains(&verb.as_str()) {
            return;
        }
        let expanded = path::expand(self.tables, binding);
        let (path, names) = self
            .shapes
            .entry(binding.template.shape())
            .or_insert_with(|| expanded.clone())
            .clone();
        let parameters = expanded
            .1
            .into_iter()
            .zip(names)
            .map(|(own, first)| PathParameter {
                name: first.name,
                ..own
            })
            .collect();
        let operation = self.operation(method, binding, parameters);
        let item = self.paths.entry(path).or_insert_with(|| json!({}));
        item[verb.as_str().to_ascii_lowercase()] = operation;
    }

    fn operation(
        &mut self,
        method: &MethodTable,
        binding: &Binding,
        path_parameters: Vec<PathParameter>,
    ) -> Value {
        let tag = self.tag(method);
        let descriptor = method.descriptor();
        let comment = self
            .comments
            .get(&descriptor.parent_file(), descriptor.path());
        let summary = comment.map_or_else(|| method.name().to_owned(), first_sentence);
        let description = comment.unwrap_or(method.name()).to_owned();
        let mut operation = json!({
            "operationId": self.operation_id(&format!("{tag}_{}", method.name())),
            "tags": [tag],
            "summary": summary,
            "description": description,
        });
        let mut parameters: Vec<_> = path_parameters
            .iter()
            .map(|parameter| self.path_parameter(binding, parameter))
            .collect();
        parameters.extend(parameter::query(self.tables, binding, &mut self.schemas));
        if !parameters.is_empty() {
            operation["parameters"] = Value::Array(parameters);
        }
        if let Some(body) = self.request_body(method, binding) {
            operation["requestBody"] = body;
        }
        operation["responses"] = json!({
            "200": { "description": "Success.", "content": self.response(method, binding) },
            "4XX": { "$ref": "#/components/responses/Error" },
            "default": { "$ref": "#/components/responses/Error" },
        });
        if (self.policy.public)(method) {
            operation["security"] = json!([]);
        }
        let options = &descriptor.method_descriptor_proto().options;
        if options
            .as_ref()
            .is_some_and(prost_reflect::prost_types::MethodOptions::deprecated)
        {
            operation["deprecated"] = json!(true);
        }
        operation
    }

    /// The short name of the service, or the full one when two services share the short one.
    fn tag(&mut self, method: &MethodTable) -> String {
        let short = short(method);
        let name = if self.services[short].len() > 1 {
            method.service().replace('.', "_")
        } else {
            short.to_owned()
        };
        let service = method.descriptor().parent_service();
        let comment = self
            .comments
            .get(&service.parent_file(), service.path())
            .map(str::to_owned);
        self.tags.insert(name.clone(), comment);
        name
    }

    fn operation_id(&mut self, wanted: &str) -> String {
        let mut id = wanted.to_owned();
        let mut number = 0;
        while !self.ids.insert(id.clone()) {
            number += 1;
            id = format!("{wanted}_{number}");
        }
        id
    }

    fn path_parameter(&mut self, binding: &Binding, parameter: &PathParameter) -> Value {
        let mut schema = json!({ "type": "string" });
        let mut description = None;
        if let Some(variable) = parameter.variable.map(|index| &binding.variables[index])
            && let Some((message, index)) = variable.field.steps.last()
        {
            let table = self.tables.table(*message);
            if parameter.whole {
                schema = self.schemas.field(&table.fields[*index]);
                description = self.schemas.description(table, &table.fields[*index]);
            } else {
                let field = path::json_path(self.tables, &variable.field.steps);
                description = Some(format!("Part of `{field}`."));
            }
        }
        if parameter.rest {
            let more = "May contain slashes.";
            description =
                Some(description.map_or_else(|| more.to_owned(), |text| format!("{text} {more}")));
        }
        let mut object =
            json!({ "name": parameter.name, "in": "path", "required": true, "schema": schema });
        if let Some(description) = description {
            object["description"] = json!(description);
        }
        object
    }

    fn request_body(&mut self, method: &MethodTable, binding: &Binding) -> Option<Value> {
        if bind::body_kind(self.tables, binding) == BodyKind::HttpBody {
            return Some(json!({ "required": true, "content": { "*/*": { "schema": {} } } }));
        }
        let table = self.tables.table(method.input());
        let schema = match binding.body {
            Body::None => return None,
            Body::Field(field) => self.schemas.field(&table.fields[field]),
            Body::Whole => {
                let bound = |index: usize| {
                    binding.variables.iter().any(|variable| {
                        variable.field.steps.len() == 1 && variable.field.steps[0].1 == index
                    })
                };
                if binding
                    .variables
                    .iter()
                    .any(|variable| variable.field.steps.len() == 1)
                {
                    self.schemas.object(method.input(), &|index| !bound(index))
                } else {
                    self.schemas.message(method.input())
                }
            }
        };
        let content_type = if method.client_streaming() {
            NDJSON
        } else {
            JSON
        };
        Some(json!({ "required": true, "content": { content_type: { "schema": schema } } }))
    }

    fn response(&mut self, method: &MethodTable, binding: &Binding) -> Value {
        if self.tables.responds_with_http_body(binding) {
            return json!({ "*/*": { "schema": {} } });
        }
        let schema = match binding.response_body {
            Some(field) => self
                .schemas
                .field(&self.tables.table(method.output()).fields[field]),
            None => self.schemas.message(method.output()),
        };
        let content_type = if method.server_streaming() {
            NDJSON
        } else {
            JSON
        };
        json!({ content_type: { "schema": schema } })
    }
}

fn short(method: &MethodTable) -> &str {
    method.service().rsplit('.').next().unwrap_or_default()
}
