//! Resolves HTTP rules against the messages of their methods.

use std::collections::HashMap;

use http::Method;

use super::{Binding, Body, BoundVariable, FieldPath, Verb};
use crate::{
    HttpRule, LoadError, MessageId, MethodTable, Pattern, Tables, http_rule,
    tables::message::{Kind, Known, Shape},
    template::{Segment, Template},
};

/// The bindings of all methods: from the overlay rules, else from the annotations.
pub(crate) fn bindings(tables: &Tables, rules: &[HttpRule]) -> Result<Vec<Binding>, LoadError> {
    let mut overlay: HashMap<&str, &HttpRule> = HashMap::new();
    for rule in rules {
        if !tables
            .methods()
            .iter()
            .any(|method| method.full_name() == rule.selector)
        {
            return Err(LoadError::Rule {
                method: rule.selector.clone(),
                template: rule
                    .pattern
                    .as_ref()
                    .map(|pattern| pattern.path().to_owned())
                    .unwrap_or_default(),
                reason: "no method has this name".to_owned(),
            });
        }
        overlay.insert(&rule.selector, rule);
    }
    let mut bindings = Vec::new();
    for (index, method) in tables.methods().iter().enumerate() {
        let compiler = Compiler {
            tables,
            index,
            method,
        };
        match overlay.get(method.full_name()) {
            Some(rule) => compiler.rule(rule, &mut bindings)?,
            None => {
                if let Some(wire) = method.option_wire(http_rule::EXTENSION) {
                    let rule =
                        HttpRule::from_wire(&wire).map_err(|reason| compiler.fault("", reason))?;
                    compiler.rule(&rule, &mut bindings)?;
                }
            }
        }
    }
    Ok(bindings)
}

/// Follows a dotted field path. All but the last step are plain messages that occur once.
pub(crate) fn field_path(
    tables: &Tables,
    message: MessageId,
    path: &str,
) -> Result<FieldPath, String> {
    let mut steps = Vec::new();
    let mut names = Vec::new();
    let mut inside = Some(message);
    for part in path.split('.') {
        let Some(message) = inside else {
            return Err(format!("{} has no fields", names.join(".")));
        };
        let table = tables.table(message);
        let index = table
            .named(part, 0)
            .ok_or_else(|| format!("{} has no field {part:?}", table.name()))?;
        let field = &table.fields[index];
        steps.push((message, index));
        names.push(field.name.to_string());
        inside = match (field.shape, field.kind) {
            (Shape::Singular, Kind::Message(id)) if tables.table(id).known.is_none() => Some(id),
            _ => None,
        };
    }
    Ok(FieldPath {
        name: names.join("."),
        steps,
    })
}

struct Compiler<'a> {
    tables: &'a Tables,
    index: usize,
    method: &'a MethodTable,
}

impl Compiler<'_> {
    fn fault(&self, template: &str, reason: impl Into<String>) -> LoadError {
        LoadError::Rule {
            method: self.method.full_name().to_owned(),
            template: template.to_owned(),
            reason: reason.into(),
        }
    }

    fn rule(&self, rule: &HttpRule, bindings: &mut Vec<Binding>) -> Result<(), LoadError> {
        bindings.push(self.binding(rule)?);
        for additional in &rule.additional_bindings {
            if !additional.additional_bindings.is_empty() {
                let template = additional
                    .pattern
                    .as_ref()
                    .map(Pattern::path)
                    .unwrap_or_default();
                return Err(self.fault(template, "an additional binding has additional bindings"));
            }
            bindings.push(self.binding(additional)?);
        }
        Ok(())
    }

    fn binding(&self, rule: &HttpRule) -> Result<Binding, LoadError> {
        let Some(pattern) = &rule.pattern else {
            return Err(self.fault("", "the rule has no path"));
        };
        let text = pattern.path();
        let template = Template::parse(text).map_err(|reason| LoadError::Template {
            method: self.method.full_name().to_owned(),
            template: text.to_owned(),
            reason,
        })?;
        let verb = match pattern.kind() {
            "*" => Verb::Any,
            kind => Verb::Is(
                Method::from_bytes(kind.as_bytes())
                    .map_err(|_| self.fault(text, format!("{kind:?} is no HTTP method")))?,
            ),
        };
        let variables = self.variables(&template)?;
        let body = self.body(text, &rule.body)?;
        let response_body = match rule.response_body.as_str() {
            "" | "*" => None,
            name => Some(
                self.top_level(self.method.output(), name)
                    .map_err(|reason| self.fault(text, format!("response_body: {reason}")))?,
            ),
        };
        let mask = match body {
            Body::Field(field) if verb == Verb::Is(Method::PATCH) => self.mask(field),
            _ => None,
        };
        let origin = format!("{} ({} {text})", self.method.full_name(), pattern.kind());
        Ok(Binding {
            method: self.index,
            verb,
            template,
            body,
            response_body,
            variables,
            mask,
            origin,
        })
    }

    fn variables(&self, template: &Template) -> Result<Vec<BoundVariable>, LoadError> {
        let text = template.to_string();
        let mut variables = Vec::new();
        for variable in template.variables() {
            let field = field_path(self.tables, self.method.input(), &variable.field_path)
                .map_err(|reason| {
                    self.fault(&text, format!("variable {}: {reason}", variable.field_path))
                })?;
            if let Some((message, index)) = field.steps.last() {
                let leaf = &self.tables.table(*message).fields[*index];
                let wrong = match (leaf.shape, leaf.kind) {
                    (Shape::Repeated, _) => "is repeated",
                    (Shape::Map, _) => "is a map",
                    (_, Kind::Message(_)) => "is a message",
                    _ => "",
                };
                if !wrong.is_empty() {
                    return Err(self.fault(
                        &text,
                        format!("variable {}: the field {wrong}", variable.field_path),
                    ));
                }
            }
            variables.push(BoundVariable {
                field,
                start: variable.start,
                end: variable.end,
                open: template.segments()[variable.end - 1] == Segment::Rest,
                keep_slash: template.spans_several(variable)
                    && !self.tables.options().fully_decode_reserved_expansion,
            });
        }
        Ok(variables)
    }

    fn top_level(&self, message: MessageId, name: &str) -> Result<usize, String> {
        let table = self.tables.table(message);
        table
            .named(name, 0)
            .ok_or_else(|| format!("{} has no field {name:?}", table.name()))
    }

    fn body(&self, template: &str, body: &str) -> Result<Body, LoadError> {
        match body {
            "" => Ok(Body::None),
            "*" => Ok(Body::Whole),
            name => self
                .top_level(self.method.input(), name)
                .map(Body::Field)
                .map_err(|reason| self.fault(template, format!("body: {reason}"))),
        }
    }

    /// The field `update_mask`, when the body is a message with fields of its own.
    fn mask(&self, body: usize) -> Option<usize> {
        let request = self.tables.table(self.method.input());
        let own_fields =
            |kind| matches!(kind, Kind::Message(id) if self.tables.table(id).known.is_none());
        let resource = &request.fields[body];
        let index = request.named("update_mask", 0)?;
        let mask = &request.fields[index];
        let is_mask = matches!(mask.kind, Kind::Message(id) if self.tables.table(id).known == Some(Known::FieldMask));
        (resource.shape == Shape::Singular
            && own_fields(resource.kind)
            && mask.shape == Shape::Singular
            && is_mask)
            .then_some(index)
    }
}
