//! A unit's values: the package's, with the set's parameters over them.

use serde_yaml::{Mapping, Value};
use std::collections::BTreeMap;

/// Why values cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(String);

/// The package's values with the parameters below the key `type_`; a `/` in a parameter separates levels. Without
/// parameters the package's text stays as it is.
pub(crate) fn merged(
    value: &str,
    type_: &str,
    parameters: &BTreeMap<String, String>,
) -> Result<String, Malformed> {
    let mut root: Value = serde_yaml::from_str(value)
        .map_err(|error| Malformed(format!("the package's values are not YAML: {error}")))?;
    if parameters.is_empty() {
        return Ok(value.to_owned());
    }
    if root.is_null() {
        root = Value::Mapping(Mapping::new());
    }
    for (key, wanted) in parameters {
        let path: Vec<&str> = std::iter::once(type_)
            .chain(key.split('/'))
            .filter(|part| !part.is_empty())
            .collect();
        put(&mut root, &path, wanted)
            .map_err(|at| Malformed(format!("parameter {key}: {at} is not a group of values")))?;
    }
    serde_yaml::to_string(&root).map_err(|error| Malformed(error.to_string()))
}

fn put<'a>(node: &mut Value, path: &[&'a str], wanted: &str) -> Result<(), &'a str> {
    let Some((head, rest)) = path.split_first() else {
        return Ok(());
    };
    let Value::Mapping(fields) = node else {
        return Err(head);
    };
    let key = Value::String((*head).to_owned());
    if rest.is_empty() {
        fields.insert(key, Value::String(wanted.to_owned()));
        return Ok(());
    }
    let child = fields
        .entry(key)
        .or_insert_with(|| Value::Mapping(Mapping::new()));
    if !child.is_mapping() {
        return Err(head);
    }
    put(child, rest, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    const PACKAGE: &str = "# defaults\nredis:\n  maxMemory: \"0\"\n  hz: \"10\"\n";

    #[test]
    fn leaves_the_packages_text_alone_without_parameters() {
        assert_eq!(merged(PACKAGE, "redis", &parameters(&[])).unwrap(), PACKAGE);
    }

    #[test]
    fn puts_parameters_over_the_packages_values_and_keeps_the_case_of_keys() {
        let merged = merged(
            PACKAGE,
            "redis",
            &parameters(&[("hz", "50"), ("new/deep", "x")]),
        )
        .unwrap();
        let tree: Value = serde_yaml::from_str(&merged).unwrap();
        assert_eq!(tree["redis"]["maxMemory"], Value::from("0"));
        assert_eq!(tree["redis"]["hz"], Value::from("50"));
        assert_eq!(tree["redis"]["new"]["deep"], Value::from("x"));
    }

    #[test]
    fn keeps_numbers_and_words_as_texts() {
        let merged = merged(
            "redis: {}",
            "redis",
            &parameters(&[("a", "007"), ("b", "yes"), ("c", "a: b\n#x")]),
        )
        .unwrap();
        let tree: Value = serde_yaml::from_str(&merged).unwrap();
        assert_eq!(tree["redis"]["a"], Value::from("007"));
        assert_eq!(tree["redis"]["b"], Value::from("yes"));
        assert_eq!(tree["redis"]["c"], Value::from("a: b\n#x"));
    }

    #[test]
    fn names_the_parameter_that_does_not_fit() {
        let error = merged(PACKAGE, "redis", &parameters(&[("hz/deep", "1")])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "parameter hz/deep: hz is not a group of values"
        );
        assert!(merged("a: [", "redis", &parameters(&[])).is_err());
    }
}
