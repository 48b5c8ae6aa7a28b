//! Labels and descriptions of users.

use std::collections::HashMap;

use mesh::FieldViolation;

use crate::spec::violation;

const MAX_LABELS: usize = 64;
const MAX_DESCRIPTION: usize = 1_000;

/// What is wrong with labels: keys and values as in Kubernetes.
pub(crate) fn check(labels: &HashMap<String, String>, field: &str) -> Vec<FieldViolation> {
    let mut wrong = Vec::new();
    if MAX_LABELS < labels.len() {
        wrong.push(violation(field, format!("more than {MAX_LABELS} labels")));
    }
    let mut sorted: Vec<_> = labels.iter().collect();
    sorted.sort();
    for (key, value) in sorted {
        let (prefix, name) = key
            .split_once('/')
            .map_or(("", key.as_str()), |(prefix, name)| (prefix, name));
        if !is_word(name, 63) || (key.contains('/') && !is_domain(prefix)) {
            wrong.push(violation(
                format!("{field}[{key}]"),
                "is not a label key as in Kubernetes",
            ));
        } else if !value.is_empty() && !is_word(value, 63) {
            wrong.push(violation(
                format!("{field}[{key}]"),
                format!("{value:?} is not a label value as in Kubernetes: letters, digits, '-', '_', '.', at most 63"),
            ));
        }
    }
    wrong
}

/// What is wrong with a description.
pub(crate) fn check_description(text: &str, field: &str) -> Vec<FieldViolation> {
    if text.chars().count() <= MAX_DESCRIPTION {
        return Vec::new();
    }
    vec![violation(
        field,
        format!("longer than {MAX_DESCRIPTION} characters"),
    )]
}

fn is_word(text: &str, max: usize) -> bool {
    let bytes = text.as_bytes();
    let edge = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= max
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}

fn is_domain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|part| {
            is_word(part, 63)
                && part
                    .bytes()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_kubernetes_accepts() {
        let accepted = |key: &str, value: &str| {
            check(&HashMap::from([(key.into(), value.into())]), "labels").is_empty()
        };
        for (key, value) in [("team", "db"), ("example.com/tier", "a_b.c-1"), ("x", "")] {
            assert!(accepted(key, value), "{key}={value}");
        }
        for (key, value) in [
            ("", "x"),
            ("-a", "x"),
            ("a", "b c"),
            ("Example.com/a", "x"),
            ("/a", "x"),
            ("a/b/c", "x"),
        ] {
            assert!(!accepted(key, value), "{key}={value}");
        }
    }
}
