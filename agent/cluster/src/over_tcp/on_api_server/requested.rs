//! What the pods of a node ask for, from a real API server to what the hub is told of the node.

use super::*;
use crate::collector::{Seen, collect};

async fn pod(plane: &ControlPlane, name: &str, cpu: &str) {
    let metadata = json!({"name": name, "namespace": "others"});
    let requests = json!({"cpu": cpu, "memory": "64Mi"});
    let container = json!({"name": "c", "image": "c:1", "resources": {"requests": requests}});
    let spec = json!({"nodeName": "n1", "containers": [container]});
    plane
        .make(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
        .await;
}

#[tokio::test]
async fn a_node_is_reported_with_what_pods_of_others_ask_for() {
    let plane = ControlPlane::start().await;
    namespace(&plane, "others").await;
    plane
        .make(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}))
        .await;
    pod(&plane, "a", "300m").await;
    pod(&plane, "b", "200m").await;
    let nodes = pb::Watch {
        watch_id: 6,
        version: "v1".into(),
        kind: "Node".into(),
        field_mask: vec!["metadata.name".into(), "status.requested".into()],
        inventory: true,
        ..pb::Watch::default()
    };
    let (_interest, wanted) = watch::channel(vec![nodes]);
    let (sender, mut seen) = mpsc::channel(16);
    let cancel = CancellationToken::new();
    let client = plane.client.clone();
    let collecting = tokio::spawn(collect(
        client.clone(),
        Kinds::new(client),
        wanted,
        sender,
        cancel.clone(),
    ));
    let told = tokio::time::timeout(PATIENCE, async {
        loop {
            let Some(Seen::Inventory(6, events, _)) = seen.recv().await else {
                continue;
            };
            for event in events {
                let node: Value = serde_json::from_slice(&event.object).unwrap();
                if node["status"]["requested"].is_object() {
                    return node;
                }
            }
        }
    });
    let told = told.await.expect("it is told");
    assert_eq!(
        told["status"]["requested"],
        json!({"cpu": "500m", "memory": (128 << 20).to_string()})
    );
    cancel.cancel();
    collecting.await.unwrap();
}
