use serde_json::json;

use super::*;

fn pod(labelled: bool, main: Option<&str>) -> Pod {
    let labels = if labelled {
        json!({label::UNIT: "demo-0"})
    } else {
        json!({})
    };
    let annotations = main.map_or(json!({}), |main| json!({annotation::MAIN_CONTAINER: main}));
    serde_json::from_value(json!({
        "metadata": {"name": "demo-0", "labels": labels, "annotations": annotations},
        "spec": {"containers": [{"name": "exporter"}, {"name": "redis"}]},
    }))
    .unwrap()
}

#[test]
fn the_main_container_is_meant_when_none_is_named() {
    let unit = pod(true, Some("redis"));
    assert_eq!(container_of(&unit, "").unwrap(), "redis");
    assert_eq!(container_of(&unit, "exporter").unwrap(), "exporter");
    assert_eq!(container_of(&pod(true, None), "").unwrap(), "exporter");
    let missing = container_of(&unit, "shell").unwrap_err();
    assert_eq!(missing.reason, "CONTAINER_NOT_FOUND");
}

#[test]
fn a_pod_that_is_no_unit_is_nobodys_to_enter() {
    let denied = container_of(&pod(false, Some("redis")), "redis").unwrap_err();
    assert_eq!(denied.reason, "DENIED_LOCAL_POLICY");
}
