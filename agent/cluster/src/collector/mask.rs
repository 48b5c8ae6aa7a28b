//! Cutting an object down to the fields that the hub wants, and reading its conditions. Pure.

use serde_json::{Map, Value};
use upm_proto::hub::v1::Transition;

/// Longest message of an edge, in bytes.
const MESSAGE: usize = 1024;
/// What is reported when the hub names no fields.
const DEFAULT: [&str; 4] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.generation",
    "status",
];
/// Changes with every beat of a node's heart and says nothing.
const NOISE: &str = "lastHeartbeatTime";

/// The object with only these paths.
pub(super) fn masked(object: &Value, paths: &[String]) -> Value {
    let mut out = Value::Object(Map::new());
    if paths.is_empty() {
        for path in DEFAULT {
            copy(object, &mut out, path);
        }
    }
    for path in paths {
        copy(object, &mut out, path);
    }
    if let Some(conditions) = out
        .pointer_mut("/status/conditions")
        .and_then(Value::as_array_mut)
    {
        for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
            condition.remove(NOISE);
        }
    }
    out
}

fn copy(from: &Value, to: &mut Value, path: &str) {
    let (head, rest) = path
        .split_once('.')
        .map_or((path, None), |(h, r)| (h, Some(r)));
    let Some(value) = from.get(head) else { return };
    let Some(map) = to.as_object_mut() else {
        return;
    };
    match rest {
        None => {
            map.insert(head.to_owned(), value.clone());
        }
        Some(rest) => {
            let inner = map.entry(head).or_insert_with(|| Value::Object(Map::new()));
            copy(value, inner, rest);
        }
    }
}

/// A condition as far as it makes edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    /// Type.
    pub(super) kind: String,
    /// `True`, `False` or `Unknown`.
    pub(super) status: String,
    /// Reason.
    pub(super) reason: String,
    /// Message.
    pub(super) message: String,
    /// Microseconds since 1970.
    pub(super) at_us: i64,
}

/// The conditions of an object.
pub(super) fn conditions(object: &Value) -> Vec<Condition> {
    let list = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .map(|c| {
            let text = |name: &str| {
                c.get(name)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            Condition {
                kind: text("type"),
                status: text("status"),
                reason: text("reason"),
                message: text("message"),
                at_us: text("lastTransitionTime")
                    .parse::<k8s_openapi::jiff::Timestamp>()
                    .map_or(0, k8s_openapi::jiff::Timestamp::as_microsecond),
            }
        })
        .collect()
}

/// What became different between two sets of conditions, and whether something went bad.
pub(super) fn edges(before: &[Condition], now: &[Condition]) -> (Vec<Transition>, bool) {
    let mut edges = Vec::new();
    let mut worse = false;
    for condition in now {
        let old = before.iter().find(|old| old.kind == condition.kind);
        if old.is_some_and(|old| old.status == condition.status && old.reason == condition.reason) {
            continue;
        }
        worse |= condition.kind == "Ready"
            && condition.status != "True"
            && old.is_some_and(|old| old.status == "True");
        let mut message = condition.message.clone();
        if message.len() > MESSAGE {
            let end = (0..=MESSAGE).rev().find(|i| message.is_char_boundary(*i));
            message.truncate(end.unwrap_or(0));
        }
        edges.push(Transition {
            r#type: condition.kind.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message,
            at_us: condition.at_us,
        });
    }
    (edges, worse)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keeps_only_the_wanted_fields() {
        let object = json!({"metadata": {"name": "x", "labels": {"a": "b"}, "managedFields": []}, "spec": {"password": 1},
            "status": {"ready": true, "conditions": [{"type": "Ready", "lastHeartbeatTime": "now"}]}});
        assert_eq!(
            masked(&object, &[]),
            json!({"metadata": {"name": "x"}, "status": {"ready": true, "conditions": [{"type": "Ready"}]}})
        );
        assert_eq!(
            masked(&object, &["metadata.labels".into(), "nothing.here".into()]),
            json!({"metadata": {"labels": {"a": "b"}}})
        );
    }

    #[test]
    fn sees_when_ready_goes_false() {
        let of = |status: &str, reason: &str| {
            conditions(&json!({"status": {"conditions": [
                {"type": "Ready", "status": status, "reason": reason, "lastTransitionTime": "2024-01-01T00:00:00Z"}]}}))
        };
        let (first, worse) = edges(&[], &of("True", "Ok"));
        assert_eq!((first.len(), worse), (1, false));
        assert_eq!(first[0].at_us, 1_704_067_200_000_000);
        assert_eq!(edges(&of("True", "Ok"), &of("True", "Ok")).0.len(), 0);
        let (bad, worse) = edges(&of("True", "Ok"), &of("False", "Down"));
        assert_eq!((bad.len(), worse), (1, true));
    }
}
