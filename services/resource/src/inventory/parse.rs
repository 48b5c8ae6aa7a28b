//! Kubernetes JSON → what the API shows. Pure; an object that is not as expected shows empty fields.

use std::collections::HashMap;

use prost_types::Timestamp;
use serde_json::Value;
use upm_proto::resource::v1::{Node, StorageClass};

pub(super) fn node(name: String, object: &str, observed: Timestamp) -> Node {
    let object: Value = serde_json::from_str(object).unwrap_or_default();
    let status = &object["status"];
    Node {
        name,
        ready: array(&status["conditions"]).any(|c| c["type"] == "Ready" && c["status"] == "True"),
        schedulable: !object["spec"]["unschedulable"]
            .as_bool()
            .unwrap_or_default(),
        labels: texts(&object["metadata"]["labels"]),
        kubelet_version: text(&status["nodeInfo"]["kubeletVersion"]),
        address: array(&status["addresses"])
            .find(|a| a["type"] == "InternalIP")
            .map(|a| text(&a["address"]))
            .unwrap_or_default(),
        allocatable_cpu_millis: thousandths(&text(&status["allocatable"]["cpu"])),
        allocatable_memory_bytes: thousandths(&text(&status["allocatable"]["memory"])) / 1000,
        observe_time: Some(observed),
        requested_cpu_millis: status["requested"]["cpu"].as_str().map(thousandths),
        requested_memory_bytes: status["requested"]["memory"]
            .as_str()
            .map(|bytes| thousandths(bytes) / 1000),
    }
}

pub(super) fn storage_class(name: String, object: &str, observed: Timestamp) -> StorageClass {
    let object: Value = serde_json::from_str(object).unwrap_or_default();
    let annotations = &object["metadata"]["annotations"];
    StorageClass {
        name,
        provisioner: text(&object["provisioner"]),
        default: annotations["storageclass.kubernetes.io/is-default-class"] == "true",
        allow_volume_expansion: object["allowVolumeExpansion"].as_bool().unwrap_or_default(),
        reclaim_policy: text(&object["reclaimPolicy"]),
        volume_binding_mode: text(&object["volumeBindingMode"]),
        observe_time: Some(observed),
    }
}

/// A Kubernetes quantity in thousandths; 0 when it is none.
fn thousandths(quantity: &str) -> i64 {
    const SUFFIXES: &[(&str, f64)] = &[
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("m", 0.001),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
    ];
    let (number, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| Some((quantity.strip_suffix(suffix)?, *factor)))
        .unwrap_or((quantity, 1.0));
    number
        .parse::<f64>()
        .map_or(0, |number| (number * factor * 1000.0).round() as i64)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> HashMap<String, String> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), text(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (quantity, expect) in [
            ("2", 2000),
            ("500m", 500),
            ("1Ki", 1_024_000),
            ("24Gi", 25_769_803_776_000),
            ("1k", 1_000_000),
            ("", 0),
            ("many", 0),
        ] {
            assert_eq!(thousandths(quantity), expect, "{quantity}");
        }
    }

    #[test]
    fn a_node_shows_its_readiness_and_capacity() {
        let object = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}],
            "allocatable":{"cpu":"2","memory":"1Mi"},"addresses":[{"type":"InternalIP","address":"10.0.0.1"}]}}"#;
        let node = node("n".into(), object, Timestamp::default());
        assert!(node.ready && node.schedulable);
        assert_eq!(
            (
                node.allocatable_cpu_millis,
                node.allocatable_memory_bytes,
                node.address.as_str()
            ),
            (2000, 1_048_576, "10.0.0.1")
        );
    }

    #[test]
    fn a_node_shows_what_its_pods_ask_for_when_it_is_known() {
        let of = |status: &str| node("n".into(), status, Timestamp::default());
        let known = of(r#"{"status":{"requested":{"cpu":"1500m","memory":"1024"}}}"#);
        assert_eq!(
            (known.requested_cpu_millis, known.requested_memory_bytes),
            (Some(1500), Some(1024))
        );
        assert_eq!(of(r#"{"status":{}}"#).requested_cpu_millis, None);
    }

    #[test]
    fn a_strange_object_is_shown_empty() {
        assert!(!node("n".into(), "not json", Timestamp::default()).ready);
    }
}
