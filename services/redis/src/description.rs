//! Descriptions of services.

use mesh::FieldViolation;

use crate::spec::violation;

const MAX_DESCRIPTION: usize = 1_000;

/// What is wrong with a description.
pub(crate) fn check(text: &str, field: &str) -> Vec<FieldViolation> {
    if text.chars().count() <= MAX_DESCRIPTION {
        return Vec::new();
    }
    vec![violation(
        field,
        format!("longer than {MAX_DESCRIPTION} characters"),
    )]
}
