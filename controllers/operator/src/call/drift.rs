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
    fn digests_do_not_depend_on_the_order_of_keys() {
        let a: Value = serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"b":{"d":3,"c":2},"a":1}"#).unwrap();
        assert_eq!(crate::call::digest(&a), crate::call::digest(&b));
    }
}
