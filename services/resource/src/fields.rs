//! Checks of fields that several resources have.

use std::collections::{BTreeMap, HashMap};

use upm_store::{self as store, ids};

use crate::Error;

/// Takes the id out of `collection/{id}`.
pub(crate) fn id<'a>(name: &'a str, collection: &str, field: &str) -> Result<&'a str, Error> {
    Ok(ids::in_name(field, collection, name)?)
}

/// The given id, checked, or a fresh one.
pub(crate) fn id_or_random(given: String, prefix: &str, field: &str) -> Result<String, Error> {
    if given.is_empty() {
        return Ok(ids::random_id(prefix));
    }
    ids::field(field, &given)?;
    Ok(given)
}

/// Labels as JSON.
pub(crate) fn labels(labels: &HashMap<String, String>, field: &str) -> Result<String, Error> {
    let wrong = store::labels::check(labels, field);
    if !wrong.is_empty() {
        return Err(Error::Fields(wrong));
    }
    Ok(labels_json(labels))
}

fn labels_json(labels: &HashMap<String, String>) -> String {
    let sorted: BTreeMap<_, _> = labels.iter().collect();
    serde_json::json!(sorted).to_string()
}

/// Labels from JSON.
pub(crate) fn parse_labels(text: &str) -> HashMap<String, String> {
    serde_json::from_str(text).unwrap_or_default()
}

/// A text for people.
pub(crate) fn display_name(text: &str, field: &str) -> Result<(), Error> {
    if text.chars().count() > 200 {
        return Err(Error::invalid(field, "at most 200 characters are allowed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_exactly_one_part_behind_its_collection() {
        assert_eq!(id("projects/a", "projects", "name").unwrap(), "a");
        for wrong in ["projects/", "projects/a/b", "project/a", "a", "projects"] {
            assert!(id(wrong, "projects", "name").is_err(), "{wrong}");
        }
    }
}
