//! Whether an object still has everything that was applied to it.

use serde_json::Value;

/// Whether `found` has every field of `wanted` with its value. Fields that only `found` has were added by the API
/// server or belong to somebody else. Lists of objects may have more fields per element, not more elements.
pub fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| match found.get(key) {
                Some(found) => covers(found, wanted),
                // the API server drops empty values
                None => is_empty(wanted),
            })
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found
                    .iter()
                    .zip(wanted)
                    .all(|(found, wanted)| covers(found, wanted))
        }
        _ => found == wanted,
    }
}

/// Paths (`spec.units`, `spec.ports[0].port`) of the fields in which `found` differs from `wanted`, at most `most` of them; the values are
/// not told. Empty exactly when [`covers`] holds.
pub fn differences(found: &Value, wanted: &Value, most: usize) -> Vec<String> {
    let mut paths = Vec::new();
    differing("", found, wanted, most, &mut paths);
    paths
}

fn differing(path: &str, found: &Value, wanted: &Value, most: usize, paths: &mut Vec<String>) {
    if paths.len() >= most {
        return;
    }
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            for (key, wanted) in wanted {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                match found.get(key) {
                    Some(found) => differing(&path, found, wanted, most, paths),
                    None if is_empty(wanted) => {}
                    None if paths.len() < most => paths.push(path),
                    None => {}
                }
            }
        }
        (Value::Array(found), Value::Array(wanted)) if found.len() == wanted.len() => {
            for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                differing(&format!("{path}[{index}]"), found, wanted, most, paths);
            }
        }
        _ if found == wanted => {}
        _ => paths.push(path.to_owned()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;
    use crate::call::stamped;

    fn service(port: i32) -> Service {
        serde_json::from_value(json!({
            "metadata": { "name": "demo-svc", "labels": { "a": "b" } },
            "spec": { "ports": [{ "name": "redis", "port": port }], "selector": { "x": "y" } },
        }))
        .unwrap()
    }

    /// What the API server makes of it: defaults, and more in the metadata.
    fn stored(port: i32) -> Value {
        let mut stored = stamped(&service(port)).unwrap();
        stored["metadata"]["resourceVersion"] = json!("7");
        stored["spec"]["clusterIP"] = json!("10.0.0.1");
        stored["spec"]["ports"][0]["protocol"] = json!("TCP");
        stored
    }

    #[test]
    fn sees_that_nothing_changed_below_the_defaults() {
        assert!(covers(&stored(6379), &stamped(&service(6379)).unwrap()));
    }

    #[test]
    fn sees_a_change_of_the_intent_and_a_change_by_others() {
        assert!(!covers(&stored(6379), &stamped(&service(6380)).unwrap()));
        let mut edited = stored(6379);
        edited["spec"]["selector"]["x"] = json!("z");
        assert!(!covers(&edited, &stamped(&service(6379)).unwrap()));
    }

    #[test]
    fn sees_a_field_that_the_intent_dropped() {
        let mut fewer = service(6379);
        fewer.metadata.labels = None;
        assert!(!covers(&stored(6379), &stamped(&fewer).unwrap()));
    }

    #[test]
    fn differences_name_the_fields_and_not_their_values() {
        let wanted = stamped(&service(6379)).unwrap();
        assert_eq!(differences(&stored(6379), &wanted, 8), [] as [&str; 0]);
        let mut edited = stored(6379);
        edited["spec"]["selector"]["x"] = json!("z");
        edited["spec"]["ports"][0]["port"] = json!(1);
        edited["metadata"]["labels"] = json!({});
        let paths = differences(&edited, &wanted, 8);
        assert_eq!(
            paths,
            ["metadata.labels.a", "spec.ports[0].port", "spec.selector.x"]
        );
        assert_eq!(differences(&edited, &wanted, 2).len(), 2);
        edited["spec"]["ports"] = json!([]);
        assert!(differences(&edited, &wanted, 8).contains(&"spec.ports".to_owned()));
    }

    #[test]
    fn digests_do_not_depend_on_the_order_of_keys() {
        let a: Value = serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"b":{"d":3,"c":2},"a":1}"#).unwrap();
        assert_eq!(crate::call::digest(&a), crate::call::digest(&b));
    }
}
