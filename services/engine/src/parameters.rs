//! Parameters against the package's list: known, of the right type, in range.

use std::collections::BTreeMap;

use mesh::FieldViolation;
use upm_proto::resource::v1::{Parameter, Software};

/// The most parameters, and the longest value.
const MAX: (usize, usize) = (256, 1024);

/// Everything that is wrong with the parameters, which the request has in `field`.
pub fn check(
    parameters: &BTreeMap<String, String>,
    software: &Software,
    field: &str,
) -> Vec<FieldViolation> {
    if MAX.0 < parameters.len() {
        let text = format!("more than {} parameters", MAX.0);
        return vec![FieldViolation::new(field, text)];
    }
    parameters
        .iter()
        .filter_map(|(key, value)| {
            let why = match software.parameters.iter().find(|known| known.key == *key) {
                Some(parameter) => refuse(parameter, value),
                None => Some(unknown(key, software)),
            };
            why.map(|why| FieldViolation::new(format!("{field}[{key}]"), why))
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
    // as the package has it: empty stands for what it computes
    if value.is_empty() && parameter.default_value.is_empty() {
        return None;
    }
    match parameter.r#type.as_str() {
        "Integer" => integer(parameter, value),
        "BufferLimit" => buffer_limit(parameter, value),
        "Letters" => letters(&parameter.values, value),
        "Float" => match value.parse::<f64>() {
            // no exponent, no infinity: what the server's own reader takes
            Ok(number) if decimal(value) => out_of_range(parameter, number, value),
            Ok(_) | Err(_) => Some(format!("{value:?} is not a number")),
        },
        "Boolean" => {
            (!matches!(value, "yes" | "no")).then(|| format!("{value:?} is neither yes nor no"))
        }
        "Enumeration" => (!parameter.values.iter().any(|allowed| allowed == value))
            .then(|| format!("{value:?} is not one of {}", parameter.values.join(", "))),
        "String" => None,
        // a package of a newer platform: what cannot be checked is not let through
        other => Some(format!("its type {other} is not known to this platform")),
    }
}

/// An integer in its one form: `010`, `+1` and ` 1` are other numbers to some, or none.
fn integer(parameter: &Parameter, value: &str) -> Option<String> {
    let Ok(number) = value.parse::<i64>() else {
        return Some(format!("{value:?} is not an integer"));
    };
    if number.to_string() != value {
        return Some(format!("{value:?} is written {number}"));
    }
    let bound = |text: &str| text.parse::<i64>().ok();
    let low = bound(&parameter.minimum).is_some_and(|minimum| number < minimum);
    let high = bound(&parameter.maximum).is_some_and(|maximum| maximum < number);
    (low || high).then(|| format!("{value} is out of range: {}", range(parameter)))
}

/// Hard limit, soft limit and seconds, separated by single spaces.
fn buffer_limit(parameter: &Parameter, value: &str) -> Option<String> {
    let parts: Vec<&str> = value.split(' ').collect();
    if parts.len() != 3 {
        return Some(format!(
            "{value:?} is not a hard limit, a soft limit and seconds"
        ));
    }
    parts.into_iter().find_map(|part| integer(parameter, part))
}

/// Some of the letters, each at most once.
fn letters(allowed: &[String], value: &str) -> Option<String> {
    let mut seen = Vec::new();
    for letter in value.chars() {
        if !allowed.iter().any(|known| known.chars().eq([letter])) {
            return Some(format!("{letter:?} is none of {}", allowed.concat()));
        }
        if seen.contains(&letter) {
            return Some(format!("{letter:?} is there twice"));
        }
        seen.push(letter);
    }
    None
}

/// Digits with at most one point between them, and a sign.
fn decimal(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    [whole, part]
        .iter()
        .all(|digits| !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()))
}

fn out_of_range(parameter: &Parameter, number: f64, value: &str) -> Option<String> {
    let bound = |text: &str| text.parse::<f64>().ok();
    let low = bound(&parameter.minimum).is_some_and(|minimum| number < minimum);
    let high = bound(&parameter.maximum).is_some_and(|maximum| maximum < number);
    (low || high).then(|| format!("{value} is out of range: {}", range(parameter)))
}

fn range(parameter: &Parameter) -> String {
    match (parameter.minimum.as_str(), parameter.maximum.as_str()) {
        (minimum, "") => format!("at least {minimum}"),
        ("", maximum) => format!("at most {maximum}"),
        (minimum, maximum) => format!("{minimum} to {maximum}"),
    }
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
            name: "software/toy-7.0.15".into(),
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
                parameter(
                    "notify-keyspace-events",
                    "Letters",
                    "",
                    "",
                    &["K", "E", "x", "A"],
                ),
                parameter("buffer", "BufferLimit", "0", "1000", &[]),
                parameter("note", "String", "", "", &[]),
                parameter("later", "Matrix", "", "", &[]),
                Parameter {
                    default_value: "10".into(),
                    ..parameter("samples", "Integer", "1", "64", &[])
                },
            ],
            ..Default::default()
        }
    }

    fn refused(key: &str, value: &str) -> Option<FieldViolation> {
        check(
            &BTreeMap::from([(key.to_owned(), value.to_owned())]),
            &software(),
            "toy_service.spec.parameters",
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
            ("notify-keyspace-events", "KEA"),
            ("buffer", "1000 0 60"),
            ("hz", ""),
            ("note", "anything"),
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
            ("hz", "010", "is written 10"),
            ("hz", "+10", "is written 10"),
            ("hz", " 10", "not an integer"),
            ("hz", "99999999999999999999", "not an integer"),
            ("lfu", "1e0", "not a number"),
            ("lfu", "inf", "not a number"),
            ("lfu", "1.", "not a number"),
            ("samples", "", "not an integer"),
            ("notify-keyspace-events", "QQ", "none of KExA"),
            ("notify-keyspace-events", "KK", "twice"),
            ("buffer", "1mb 0 60", "not an integer"),
            ("buffer", "0 0", "hard limit, a soft limit"),
            ("buffer", "0  0 60", "hard limit, a soft limit"),
            ("buffer", "1001 0 60", "0 to 1000"),
            ("later", "1", "not known to this platform"),
            ("hzz", "1", "did you mean \"hz\""),
            ("requirepass", "x", "has no parameter"),
        ] {
            let violation = refused(key, value).unwrap_or_else(|| panic!("{key} {value}"));
            assert!(violation.description.contains(says), "{violation:?}");
            assert_eq!(
                violation.field,
                format!("toy_service.spec.parameters[{key}]")
            );
        }
    }

    proptest! {
        #[test]
        fn never_lets_a_second_line_into_the_configuration(value in "[ -~]{0,8}[\\x00-\\x1f\"\\\\][ -~]{0,8}") {
            prop_assert!(refused("note", &value).is_some());
        }

        #[test]
        fn an_integer_is_taken_in_one_form_only(value in "[-+ ]?0{0,2}[0-9]{1,3}") {
            let number: Option<i64> = value.parse().ok();
            let fits = number.is_some_and(|number| (1..=500).contains(&number) && number.to_string() == value);
            prop_assert_eq!(refused("hz", &value).is_none(), fits, "{}", value);
        }

        #[test]
        fn the_distance_is_symmetric_and_zero_only_for_equals(a in "[a-c]{0,6}", b in "[a-c]{0,6}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
        }
    }
}
