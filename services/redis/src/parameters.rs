//! Parameters against the package's list: known, of the right type, in range.

use std::collections::BTreeMap;

use mesh::FieldViolation;
use upm_proto::resource::v1::{Parameter, Software};

use crate::spec::{field, violation};

/// The most parameters, and the longest value.
const MAX: (usize, usize) = (256, 1024);

/// Everything that is wrong with the parameters.
pub(crate) fn check(
    parameters: &BTreeMap<String, String>,
    software: &Software,
) -> Vec<FieldViolation> {
    if MAX.0 < parameters.len() {
        return vec![violation(
            field("parameters"),
            format!("more than {} parameters", MAX.0),
        )];
    }
    parameters
        .iter()
        .filter_map(|(key, value)| {
            let why = match software.parameters.iter().find(|known| known.key == *key) {
                Some(parameter) => refuse(parameter, value),
                None => Some(unknown(key, software)),
            };
            why.map(|why| violation(format!("{}[{key}]", field("parameters")), why))
        })
        .collect()
}

/// Why a value cannot be taken.
fn refuse(parameter: &Parameter, value: &str) -> Option<String> {
    if MAX.1 < value.len() {
        return Some(format!("longer than {} bytes", MAX.1));
    }
    // The value becomes a part of a line of the configuration file.
    if value
        .chars()
        .any(|c| c.is_control() || c == '"' || c == '\\')
    {
        return Some("quotes, backslashes and control characters are not allowed".to_owned());
    }
    match parameter.r#type.as_str() {
        "Integer" => match value.parse::<i64>() {
            Ok(number) => out_of_range(parameter, number as f64, value),
            Err(_) => Some(format!("{value:?} is not an integer")),
        },
        "Float" => match value.parse::<f64>() {
            Ok(number) if number.is_finite() => out_of_range(parameter, number, value),
            Ok(_) | Err(_) => Some(format!("{value:?} is not a number")),
        },
        "Boolean" => {
            (!matches!(value, "yes" | "no")).then(|| format!("{value:?} is neither yes nor no"))
        }
        "Enumeration" => (!parameter.values.iter().any(|allowed| allowed == value))
            .then(|| format!("{value:?} is not one of {}", parameter.values.join(", "))),
        _ => None,
    }
}

fn out_of_range(parameter: &Parameter, number: f64, value: &str) -> Option<String> {
    let bound = |text: &str| text.parse::<f64>().ok();
    let low = bound(&parameter.minimum).is_some_and(|minimum| number < minimum);
    let high = bound(&parameter.maximum).is_some_and(|maximum| maximum < number);
    let range = match (parameter.minimum.as_str(), parameter.maximum.as_str()) {
        (minimum, "") => format!("at least {minimum}"),
        ("", maximum) => format!("at most {maximum}"),
        (minimum, maximum) => format!("{minimum} to {maximum}"),
    };
    (low || high).then(|| format!("{value} is out of range: {range}"))
}

/// An unknown parameter, with the one that was probably meant.
fn unknown(key: &str, software: &Software) -> String {
    let package = software
        .name
        .strip_prefix("software/")
        .unwrap_or(&software.name);
    let near = software
        .parameters
        .iter()
        .map(|known| (distance(key, &known.key), known.key.as_str()))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    match near {
        Some((_, meant)) => format!("{package} has no parameter {key:?}; did you mean {meant:?}?"),
        None => format!("{package} has no parameter {key:?} that can be set"),
    }
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn software() -> Software {
        let parameter =
            |key: &str, kind: &str, minimum: &str, maximum: &str, values: &[&str]| Parameter {
                key: key.into(),
                r#type: kind.into(),
                minimum: minimum.into(),
                maximum: maximum.into(),
                values: values.iter().map(|value| (*value).to_owned()).collect(),
                ..Default::default()
            };
        Software {
            name: "software/redis-7.0.15".into(),
            parameters: vec![
                parameter("hz", "Integer", "1", "500", &[]),
                parameter("lfu", "Float", "", "1.5", &[]),
                parameter("activerehashing", "Boolean", "", "", &[]),
                parameter(
                    "maxmemory-policy",
                    "Enumeration",
                    "",
                    "",
                    &["noeviction", "allkeys-lru"],
                ),
                parameter("notify-keyspace-events", "String", "", "", &[]),
            ],
            ..Default::default()
        }
    }

    fn refused(key: &str, value: &str) -> Option<FieldViolation> {
        check(
            &BTreeMap::from([(key.to_owned(), value.to_owned())]),
            &software(),
        )
        .pop()
    }

    #[test]
    fn accepts_values_of_their_type_in_range() {
        for (key, value) in [
            ("hz", "1"),
            ("hz", "500"),
            ("lfu", "-3.5"),
            ("activerehashing", "no"),
            ("maxmemory-policy", "allkeys-lru"),
            ("notify-keyspace-events", "Ex"),
            ("notify-keyspace-events", ""),
        ] {
            assert_eq!(refused(key, value), None, "{key} {value}");
        }
    }

    #[test]
    fn refuses_the_others_and_names_the_parameter() {
        for (key, value, says) in [
            ("hz", "0", "1 to 500"),
            ("hz", "fast", "not an integer"),
            ("lfu", "2", "at most 1.5"),
            ("lfu", "NaN", "not a number"),
            ("activerehashing", "true", "neither yes nor no"),
            ("maxmemory-policy", "lru", "noeviction, allkeys-lru"),
            (
                "notify-keyspace-events",
                "a\nuser evil on nopass",
                "control characters",
            ),
            ("hzz", "1", "did you mean \"hz\""),
            ("requirepass", "x", "has no parameter"),
        ] {
            let violation = refused(key, value).unwrap_or_else(|| panic!("{key} {value}"));
            assert!(violation.description.contains(says), "{violation:?}");
            assert_eq!(
                violation.field,
                format!("redis_service.spec.parameters[{key}]")
            );
        }
    }

    proptest! {
        #[test]
        fn never_lets_a_second_line_into_the_configuration(value in "[ -~]{0,8}[\\x00-\\x1f\"\\\\][ -~]{0,8}") {
            prop_assert!(refused("notify-keyspace-events", &value).is_some());
        }

        #[test]
        fn the_distance_is_symmetric_and_zero_only_for_equals(a in "[a-c]{0,6}", b in "[a-c]{0,6}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
        }
    }
}
