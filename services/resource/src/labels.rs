//! Filters over labels.

use std::collections::HashMap;

use upm_store::filter::{Op, Term};

/// Whether a label map meets a `labels.<key>` term: `=`, `!=`, or `:` for "has the key" with `*`.
pub(crate) fn holds(term: &Term, labels: &HashMap<String, String>) -> bool {
    let Some(key) = term.key_of("labels") else {
        return true;
    };
    let found = labels.get(key);
    match term.op {
        Op::Ne => found != Some(&term.value),
        Op::Has if term.value == "*" => found.is_some(),
        Op::Eq | Op::Has => found == Some(&term.value),
        Op::Lt | Op::Le | Op::Gt | Op::Ge => false,
    }
}

/// Whether a text meets a term of its own.
pub(crate) fn equals(term: &Term, value: &str) -> bool {
    (term.op == Op::Ne) != (term.value == value)
}
