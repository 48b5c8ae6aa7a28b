//! Labels of resources: one grammar, one way to filter.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

use upm_mesh::FieldViolation;

use crate::filter::{Op, Term};

/// Most labels of one resource.
pub const MOST: usize = 64;
/// Longest name of a key, and longest value.
const WORD: usize = 63;

/// Labels as they are read, however they are kept.
pub trait Labels {
    /// The value of a key.
    fn value(&self, key: &str) -> Option<&str>;
    /// All, in any order.
    fn all(&self) -> Vec<(&str, &str)>;
}

impl<S: BuildHasher> Labels for HashMap<String, String, S> {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }

    fn all(&self) -> Vec<(&str, &str)> {
        self.iter().map(pair).collect()
    }
}

impl Labels for BTreeMap<String, String> {
    fn value(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }

    fn all(&self) -> Vec<(&str, &str)> {
        self.iter().map(pair).collect()
    }
}

fn pair<'a>((key, value): (&'a String, &'a String)) -> (&'a str, &'a str) {
    (key.borrow(), value.borrow())
}

/// What is wrong with labels: keys and values as in Kubernetes, at most [`MOST`]. `field` is the path of the map.
pub fn check(labels: &impl Labels, field: &str) -> Vec<FieldViolation> {
    let mut all = labels.all();
    all.sort_unstable();
    let mut wrong = Vec::new();
    if MOST < all.len() {
        wrong.push(FieldViolation::new(
            field,
            format!("more than {MOST} labels"),
        ));
    }
    for (key, value) in all {
        let at = || format!("{field}[{}]", key.chars().take(80).collect::<String>());
        let (prefix, name) = key
            .split_once('/')
            .map_or((None, key), |(prefix, name)| (Some(prefix), name));
        if !is_word(name) || !prefix.is_none_or(is_domain) {
            wrong.push(FieldViolation::new(
                at(),
                "is not a label key as in Kubernetes: [prefix/]name, the name at most 63 of letters, digits, '-', '_', '.'",
            ));
        } else if !value.is_empty() && !is_word(value) {
            wrong.push(FieldViolation::new(
                at(),
                "the value is not one as in Kubernetes: at most 63 of letters, digits, '-', '_', '.'",
            ));
        }
    }
    wrong
}

/// Whether labels meet a `labels.<key>` term: `=`, `!=`, or `:` with a value or with `*` for "has the key". Other terms hold.
///
/// # Errors
/// A comparison by size.
pub fn holds(term: &Term, labels: &impl Labels) -> Result<bool, crate::Error> {
    let Some(key) = term.key_of("labels") else {
        return Ok(true);
    };
    let found = labels.value(key);
    Ok(match term.op {
        Op::Has if term.value == "*" => found.is_some(),
        Op::Has => found == Some(&term.value),
        Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge => {
            (found == Some(&term.value)) == term.equality()?
        }
    })
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= WORD
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_domain(text: &str) -> bool {
    let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= 253
        && text
            .split('.')
            .all(|part| is_word(part) && part.bytes().all(is_lower))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter;

    fn labels(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn accepts_what_kubernetes_accepts() {
        for (key, value) in [("team", "db"), ("example.com/tier", "a_b.c-1"), ("x", "")] {
            assert!(
                check(&labels(key, value), "labels").is_empty(),
                "{key}={value}"
            );
        }
        let long = "x".repeat(64);
        for (key, value) in [
            ("", "x"),
            ("-a", "x"),
            ("a", "b c"),
            ("a", long.as_str()),
            (long.as_str(), "x"),
            ("Example.com/a", "x"),
            ("/a", "x"),
            ("a/b/c", "x"),
        ] {
            assert_eq!(
                check(&labels(key, value), "labels").len(),
                1,
                "{key}={value}"
            );
        }
    }

    #[test]
    fn more_than_the_most_are_refused() {
        let many: HashMap<String, String> = (0..=MOST)
            .map(|n| (format!("k{n}"), String::new()))
            .collect();
        assert_eq!(check(&many, "labels").len(), 1);
    }

    #[test]
    fn terms_compare_for_equality_and_presence() {
        let team = labels("team", "db");
        for (text, wanted) in [
            ("labels.team=db", true),
            ("labels.team=web", false),
            ("labels.team!=web", true),
            ("labels.other!=web", true),
            ("labels.team:*", true),
            ("labels.other:*", false),
            ("labels.team:db", true),
        ] {
            let terms = filter::parse(text, &["labels.*"]).unwrap();
            assert_eq!(holds(&terms[0], &team).unwrap(), wanted, "{text}");
        }
        let terms = filter::parse("labels.team>db", &["labels.*"]).unwrap();
        assert!(holds(&terms[0], &team).is_err());
    }
}
