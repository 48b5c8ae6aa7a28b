//! Checks of fields that several resources have.

use std::collections::HashMap;

use upm_store::ids;

use crate::Error;

/// Takes the id out of `collection/{id}`.
pub(crate) fn id<'a>(name: &'a str, collection: &str, field: &str) -> Result<&'a str, Error> {
    name.strip_prefix(collection)
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|id| !id.is_empty() && !id.contains('/'))
        .ok_or_else(|| Error::invalid(field, format!("must be `{collection}/{{id}}`")))
}

/// The given id, checked, or a fresh one.
pub(crate) fn id_or_random(given: String, prefix: &str, field: &str) -> Result<String, Error> {
    if given.is_empty() {
        return Ok(ids::random_id(prefix));
    }
    ids::resource_id(&given).map_err(|violation| Error::invalid(field, violation.description))?;
    Ok(given)
}

/// Labels as JSON, at most 64 of them.
pub(crate) fn labels(labels: &HashMap<String, String>, field: &str) -> Result<String, Error> {
    if labels.len() > 64 {
        return Err(Error::invalid(field, "at most 64 labels are allowed"));
    }
    for (key, value) in labels {
        if key.is_empty() || key.len() > 253 || value.len() > 63 {
            return Err(Error::invalid(
                format!("{field}.{key}"),
                "a key has 1 to 253 characters, a value at most 63",
            ));
        }
    }
    let sorted: std::collections::BTreeMap<_, _> = labels.iter().collect();
    Ok(serde_json::to_string(&sorted).expect("a map of texts is JSON"))
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

/// Whether an update writes a field: it is named, or nothing is.
pub(crate) fn writes(mask: Option<&prost_types::FieldMask>, field: &str) -> bool {
    mask.is_none_or(|mask| {
        mask.paths.is_empty() || mask.paths.iter().any(|p| p == field || p == "*")
    })
}

/// Refuses a mask that names anything but the given fields.
pub(crate) fn check_mask(
    mask: Option<&prost_types::FieldMask>,
    allowed: &[&str],
) -> Result<(), Error> {
    for path in mask.iter().flat_map(|mask| &mask.paths) {
        if path != "*" && !allowed.contains(&path.as_str()) {
            return Err(Error::invalid(
                "update_mask",
                format!("`{path}` cannot be changed; only {}", allowed.join(", ")),
            ));
        }
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

    #[test]
    fn a_mask_names_only_what_can_change() {
        let mask = |path: &str| prost_types::FieldMask {
            paths: vec![path.to_owned()],
        };
        assert!(check_mask(Some(&mask("labels")), &["labels"]).is_ok());
        assert!(check_mask(Some(&mask("uid")), &["labels"]).is_err());
        assert!(writes(None, "labels"));
        assert!(!writes(Some(&mask("labels")), "quota"));
    }
}
