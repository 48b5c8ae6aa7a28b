//! JSON merge patches (RFC 7396) between canonical bodies. A merge patch cannot set a member to null, so there is not always one.

use serde_json::{Map, Value};

use super::canonical;

/// The patch that makes `target` of `base`, both canonical JSON; canonical JSON itself. `None` when there is none, or when it is not smaller
/// than `target`.
pub fn merge_patch(base: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let from: Value = serde_json::from_slice(base).ok()?;
    let to: Value = serde_json::from_slice(target).ok()?;
    let patch = canonical::of_value(&difference(&from, &to)?).ok()?;
    // What the other side will make of it, bit by bit.
    let verified = patch.len() < target.len() && merged(base, &patch).as_deref() == Some(target);
    verified.then_some(patch)
}

/// What a patch makes of a base, as canonical JSON; `None` when either is not JSON.
pub fn merged(base: &[u8], patch: &[u8]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(base).ok()?;
    merge(&mut value, serde_json::from_slice(patch).ok()?);
    canonical::of_value(&value).ok()
}

/// RFC 7396, section 2.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else {
        return;
    };
    for (name, change) in patch {
        if change.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), change);
        }
    }
}

fn difference(from: &Value, to: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (from, to) else {
        return can_be_set(to).then(|| to.clone());
    };
    let mut patch = Map::new();
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, wanted) in after {
        match before.get(name) {
            Some(same) if same == wanted => {}
            _ if wanted.is_null() => return None,
            Some(other) => {
                patch.insert(name.clone(), difference(other, wanted)?);
            }
            None if can_be_set(wanted) => {
                patch.insert(name.clone(), wanted.clone());
            }
            None => return None,
        }
    }
    Some(Value::Object(patch))
}

/// Whether a patch that is this value sets exactly this value. Arrays are set as they are, with the nulls in them.
fn can_be_set(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.values().all(|m| !m.is_null() && can_be_set(m)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::canonical_json;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-1_000i64..1_000).prop_map(Value::from),
            any::<f64>()
                .prop_filter("JSON has no such number", |f| f.is_finite()
                    && f.abs() < 1e15)
                .prop_map(Value::from),
            "[a-c]{0,3}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map("[a-d]", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn has_null_member(value: &Value) -> bool {
        match value {
            Value::Object(members) => members.values().any(|m| m.is_null() || has_null_member(m)),
            _ => false,
        }
    }

    fn text(value: &Value) -> Vec<u8> {
        canonical_json(value.to_string().as_bytes()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_patch_of_any_two_values_makes_the_one_of_the_other(a in json(), b in json()) {
            let (a, b) = (text(&a), text(&b));
            let (from, to) = (serde_json::from_slice(&a).unwrap(), serde_json::from_slice(&b).unwrap());
            match difference(&from, &to) {
                Some(patch) => prop_assert_eq!(merged(&a, &canonical::of_value(&patch).unwrap()).unwrap(), b),
                None => prop_assert!(has_null_member(&to), "only a null cannot be set: {}", to),
            }
        }

        #[test]
        fn a_patch_is_only_given_when_it_is_smaller_and_right(a in json(), b in json()) {
            let (a, b) = (text(&a), text(&b));
            if let Some(patch) = merge_patch(&a, &b) {
                prop_assert!(patch.len() < b.len());
                prop_assert_eq!(merged(&a, &patch).unwrap(), b);
            }
        }

        #[test]
        fn any_bytes_are_merged_without_panic(a in prop::collection::vec(any::<u8>(), 0..40), b in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (merged(&a, &b), merge_patch(&a, &b));
        }
    }

    #[test]
    fn merges_as_the_examples_of_the_rfc_do() {
        for (base, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let made = merged(base.as_bytes(), patch.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(made).unwrap(), result, "{base} {patch}");
        }
    }

    #[test]
    fn a_small_change_of_a_large_object_is_a_small_patch() {
        let object = |units: u32| {
            let filler = "x".repeat(2_000);
            text(&serde_json::json!({"spec": {"filler": filler, "units": units}}))
        };
        let patch = merge_patch(&object(1), &object(2)).unwrap();
        assert_eq!(String::from_utf8(patch).unwrap(), r#"{"spec":{"units":2}}"#);
    }
}
