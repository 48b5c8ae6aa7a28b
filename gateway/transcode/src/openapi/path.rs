//! Templates as OpenAPI paths.

use crate::{route::Binding, tables::Tables, template::Segment};

/// One `{parameter}` of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathParameter {
    pub(super) name: String,
    /// The index of the binding's variable that it is a part of.
    pub(super) variable: Option<usize>,
    /// Whether it is all of that variable.
    pub(super) whole: bool,
    /// Whether it may contain slashes.
    pub(super) rest: bool,
}

/// The path with its parameters. Variables of one segment keep their JSON name; wildcards inside of longer ones are
/// named after the literal before them.
pub(super) fn expand(tables: &Tables, binding: &Binding) -> (String, Vec<PathParameter>) {
    let mut path = String::new();
    let mut parameters: Vec<PathParameter> = Vec::new();
    let mut literal = "";
    for (index, segment) in binding.template.segments().iter().enumerate() {
        path.push('/');
        if let Segment::Literal(text) = segment {
            path.push_str(text);
            literal = text;
            continue;
        }
        let variable = binding
            .variables
            .iter()
            .position(|variable| (variable.start..variable.end).contains(&index));
        let whole = variable.is_some_and(|variable| {
            binding.variables[variable].end - binding.variables[variable].start == 1
        });
        let wanted = match variable {
            Some(variable) if whole => json_path(tables, &binding.variables[variable].field.steps),
            _ => singular(literal),
        };
        let name = unique(&wanted, &parameters);
        path.push('{');
        path.push_str(&name);
        path.push('}');
        parameters.push(PathParameter {
            name,
            variable,
            whole,
            rest: *segment == Segment::Rest,
        });
    }
    if let Some(verb) = binding.template.verb() {
        path.push(':');
        path.push_str(verb);
    }
    (path, parameters)
}

pub(super) fn json_path(tables: &Tables, steps: &[(crate::MessageId, usize)]) -> String {
    let names: Vec<_> = steps
        .iter()
        .map(|(message, index)| &*tables.table(*message).fields[*index].json_name)
        .collect();
    names.join(".")
}

fn unique(wanted: &str, taken: &[PathParameter]) -> String {
    let free = |name: &str| taken.iter().all(|parameter| parameter.name != name);
    let mut name = wanted.to_owned();
    let mut number = 0;
    while !free(&name) {
        number += 1;
        name = format!("{wanted}_{number}");
    }
    name
}

/// The name of one of a collection.
fn singular(collection: &str) -> String {
    let cut =
        |length: usize, end: &str| format!("{}{end}", &collection[..collection.len() - length]);
    match collection {
        "" => "segment".to_owned(),
        _ if collection.ends_with("ies") => cut(3, "y"),
        _ if collection.ends_with("sses")
            || collection.ends_with("xes")
            || collection.ends_with("ches") =>
        {
            cut(2, "")
        }
        _ if collection.ends_with('s') && !collection.ends_with("ss") => cut(1, ""),
        _ => format!("{collection}Id"),
    }
}
