//! What AIP-127 advises and a rule does not follow. Nothing of it keeps the tables from working.

use std::fmt;

use http::Method;

use crate::{
    Tables,
    route::{Binding, Body, Verb},
    tables::message::{Kind, Shape},
};

/// A rule that works but goes against AIP-127.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// Full name of the RPC method.
    pub method: String,
    /// The template of the rule.
    pub template: String,
    /// What is advised instead.
    pub advice: &'static str,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.method, self.template, self.advice)
    }
}

pub(crate) fn check(tables: &Tables) -> Vec<Lint> {
    let mut lints = Vec::new();
    for binding in tables.bindings() {
        let method = tables.method_of(binding);
        for advice in advice(tables, binding) {
            lints.push(Lint {
                method: method.full_name().to_owned(),
                template: binding.template().to_string(),
                advice,
            });
        }
    }
    lints
}

fn advice(tables: &Tables, binding: &Binding) -> Vec<&'static str> {
    let method = tables.method_of(binding);
    let input = tables.table(method.input());
    let is = |method: &Method| binding.verb == Verb::Is(method.clone());
    let mut advice = Vec::new();
    if binding.has_body() && (is(&Method::GET) || is(&Method::DELETE)) {
        advice.push("GET and DELETE have no body");
    }
    if !binding.has_body()
        && (is(&Method::POST) || is(&Method::PUT) || is(&Method::PATCH))
        && !input.fields.is_empty()
    {
        advice.push("POST, PUT and PATCH have a body");
    }
    if let Body::Field(body) = binding.body {
        if input.fields[body].shape != Shape::Singular {
            advice.push("the body is not a repeated field or map");
        }
        if binding
            .variables
            .iter()
            .any(|variable| variable.field.steps.len() == 1 && variable.field.steps[0].1 == body)
        {
            advice.push("the body is not also a path variable");
        }
    }
    if method.client_streaming() && method.server_streaming() {
        advice.push("bidirectional streams have no HTTP rule");
    }
    if binding.verb == Verb::Any {
        advice.push("a rule is for one HTTP method");
    }
    for variable in &binding.variables {
        let leaf = variable
            .field
            .steps
            .last()
            .map(|(message, index)| tables.table(*message).fields[*index].kind);
        if leaf != Some(Kind::String) {
            advice.push("path variables are strings");
        }
    }
    if binding.body != Body::Whole && is(&Method::GET) {
        let unreachable = |(index, field): (usize, &crate::tables::message::Field)| {
            let bound = binding
                .variables
                .iter()
                .any(|variable| variable.field.steps[0].1 == index);
            let message =
                matches!(field.kind, Kind::Message(id) if tables.table(id).known.is_none());
            !bound && field.shape == Shape::Repeated && message
        };
        if input.fields.iter().enumerate().any(unreachable) {
            advice.push(
                "a repeated message cannot be a query parameter, and this rule has no body for it",
            );
        }
    }
    advice
}
