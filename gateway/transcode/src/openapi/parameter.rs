//! Query parameters: the fields that neither path nor body hold, messages taken apart.

use serde_json::{Value, json};

use super::schema::{Schemas, behavior};
use crate::{
    MessageId, Tables,
    route::{Binding, Body},
    tables::message::{Kind, Shape},
};

pub(super) fn query(tables: &Tables, binding: &Binding, schemas: &mut Schemas<'_>) -> Vec<Value> {
    if binding.body == Body::Whole {
        return Vec::new();
    }
    let input = tables.method_of(binding).input();
    let mut walk = Walk {
        tables,
        binding,
        schemas,
        steps: Vec::new(),
        parameters: Vec::new(),
    };
    walk.message(input, "");
    walk.parameters
}

struct Walk<'a, 's, 'c> {
    tables: &'a Tables,
    binding: &'a Binding,
    schemas: &'s mut Schemas<'c>,
    steps: Vec<(MessageId, usize)>,
    parameters: Vec<Value>,
}

impl Walk<'_, '_, '_> {
    fn message(&mut self, id: MessageId, prefix: &str) {
        // A message inside of itself has no end; its fields are left to clients that know them.
        if self.steps.iter().any(|(outer, _)| *outer == id) {
            return;
        }
        for index in 0..self.tables.table(id).fields.len() {
            self.steps.push((id, index));
            self.field(id, index, prefix);
            self.steps.pop();
        }
    }

    fn field(&mut self, id: MessageId, index: usize, prefix: &str) {
        let table = self.tables.table(id);
        let field = &table.fields[index];
        let in_body = self.steps.len() == 1 && self.binding.body == Body::Field(index);
        let in_path = self
            .binding
            .variables
            .iter()
            .any(|variable| variable.field.steps == self.steps);
        let behavior = behavior(table, field);
        if in_body || in_path || behavior.output_only {
            return;
        }
        let name = format!("{prefix}{}", field.json_name);
        let plain_message = match field.kind {
            Kind::Message(inner) if self.tables.table(inner).known.is_none() => Some(inner),
            _ => None,
        };
        match (field.shape, plain_message) {
            (Shape::Singular, Some(inner)) => return self.message(inner, &format!("{name}.")),
            (Shape::Repeated, Some(_)) => return,
            _ => {}
        }
        let mut parameter =
            json!({ "name": name, "in": "query", "schema": self.schemas.field(field) });
        if field.shape == Shape::Map {
            parameter["style"] = json!("deepObject");
            parameter["explode"] = json!(true);
        }
        if behavior.required && self.steps.len() == 1 {
            parameter["required"] = json!(true);
        }
        if let Some(description) = self.schemas.description(table, field) {
            parameter["description"] = json!(description);
        }
        self.parameters.push(parameter);
    }
}
