//! Nodes and storage classes as the agents report them.

use super::*;

const READY: &str = r#"{"status": {"conditions": [{"type": "Ready", "status": "True"}],
    "nodeInfo": {"kubeletVersion": "v1.34.4"}, "allocatable": {"cpu": "1500m", "memory": "2Gi"},
    "addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}}"#;
const FAST: &str = r#"{"provisioner": "example.org/fast", "allowVolumeExpansion": true,
    "metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}"#;

async fn nodes(world: &World, page_size: i32, page_token: &str) -> pb::ListNodesResponse {
    let request = pb::ListNodesRequest {
        parent: "clusters/east".to_owned(),
        page_size,
        page_token: page_token.to_owned(),
    };
    world
        .nodes()
        .list_nodes(world.admin(request))
        .await
        .expect("listed")
        .into_inner()
}

#[tokio::test]
async fn what_an_agent_reports_is_shown_and_what_it_no_longer_tells_is_gone() {
    for world in worlds().await {
        world.hub.inventory.send_replace(vec![
            ("Node", "n1", READY),
            ("Node", "n2", "{}"),
            ("StorageClass", "fast", FAST),
        ]);
        let request = pb::CreateClusterRequest {
            cluster_id: "east".to_owned(),
            ..pb::CreateClusterRequest::default()
        };
        world
            .clusters()
            .create_cluster(world.admin(request))
            .await
            .unwrap();
        until("the nodes are there", async || {
            nodes(&world, 0, "").await.nodes.len() == 2
        })
        .await;
        let first = nodes(&world, 1, "").await;
        assert_eq!(first.nodes[0].name, "clusters/east/nodes/n1");
        assert!(first.nodes[0].ready);
        assert_eq!(first.nodes[0].allocatable_cpu_millis, 1500);
        assert_eq!(first.nodes[0].allocatable_memory_bytes, 2 << 30);
        let second = nodes(&world, 1, &first.next_page_token).await;
        assert_eq!(second.nodes[0].name, "clusters/east/nodes/n2");
        assert!(!second.nodes[0].ready && second.next_page_token.is_empty());
        let class = pb::GetStorageClassRequest {
            name: "clusters/east/storageClasses/fast".to_owned(),
        };
        until("the storage class is there", async || {
            let request = world.admin(class.clone());
            world
                .storage_classes()
                .get_storage_class(request)
                .await
                .is_ok()
        })
        .await;
        let found = world
            .storage_classes()
            .get_storage_class(world.admin(class.clone()))
            .await
            .unwrap()
            .into_inner();
        assert!(found.default && found.allow_volume_expansion);

        // while the watch was broken a node went away
        world
            .hub
            .inventory
            .send_replace(vec![("Node", "n1", READY), ("StorageClass", "fast", FAST)]);
        until("the node is gone", async || {
            nodes(&world, 0, "").await.nodes.len() == 1
        })
        .await;
        let gone = pb::GetNodeRequest {
            name: "clusters/east/nodes/n2".to_owned(),
        };
        let gone = world.nodes().get_node(world.admin(gone)).await.unwrap_err();
        assert_eq!(reason(&gone), "NOT_REPORTED", "{}", world.database);
        let nowhere = pb::ListNodesRequest {
            parent: "clusters/west".to_owned(),
            ..pb::ListNodesRequest::default()
        };
        let nowhere = world.nodes().list_nodes(world.admin(nowhere)).await;
        assert_eq!(reason(&nowhere.unwrap_err()), "CLUSTER_NOT_FOUND");
    }
}
