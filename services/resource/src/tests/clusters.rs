//! Clusters: join, approval, health, cordon, deletion.

use upm_proto::hub::v1::AgentState;

use super::*;

async fn create(world: &World, id: &str) -> pb::CreateClusterResponse {
    let request = pb::CreateClusterRequest {
        cluster_id: id.to_owned(),
        cluster: Some(pb::Cluster {
            labels: labels(&[("region", id)]),
            ..pb::Cluster::default()
        }),
        auto_approve: false,
    };
    world
        .clusters()
        .create_cluster(world.admin(request))
        .await
        .expect("created")
        .into_inner()
}

async fn get(world: &World, id: &str) -> pb::Cluster {
    let request = pb::GetClusterRequest {
        name: format!("clusters/{id}"),
    };
    world
        .clusters()
        .get_cluster(world.admin(request))
        .await
        .expect("found")
        .into_inner()
}

fn delete(id: &str, allow_missing: bool) -> pb::DeleteClusterRequest {
    pb::DeleteClusterRequest {
        name: format!("clusters/{id}"),
        etag: String::new(),
        allow_missing,
    }
}

#[tokio::test]
async fn a_cluster_joins_by_a_command_without_the_token_and_is_approved() {
    for world in worlds().await {
        let made = create(&world, "east").await;
        let join = made.join_command.unwrap();
        assert_eq!(join.token, "a-join-token");
        assert!(!join.command.contains(&join.token), "{}", join.command);
        assert!(join.command.contains("hub.caPin=0123abcd"));
        assert_eq!(
            made.cluster.unwrap().state(),
            pb::ClusterState::AwaitingAgent
        );
        let taken = world
            .clusters()
            .create_cluster(world.admin(pb::CreateClusterRequest {
                cluster_id: "east".to_owned(),
                ..pb::CreateClusterRequest::default()
            }))
            .await
            .unwrap_err();
        assert_eq!(reason(&taken), "CLUSTER_EXISTS", "{}", world.database);

        world.hub.set_agent("east", AgentState::AwaitingApproval);
        assert_eq!(
            get(&world, "east").await.state(),
            pb::ClusterState::AwaitingApproval
        );
        let approve = pb::ApproveClusterRequest {
            name: "clusters/east".to_owned(),
        };
        let approved = world.clusters().approve_cluster(world.admin(approve)).await;
        let approved = approved.unwrap().into_inner();
        assert_eq!(approved.state(), pb::ClusterState::Healthy);
        assert_eq!(approved.kubernetes_version, "v1.34.4");
        let again = pb::CreateJoinCommandRequest {
            name: "clusters/east".to_owned(),
            auto_approve: true,
        };
        let again = world
            .clusters()
            .create_join_command(world.admin(again))
            .await;
        assert_eq!(again.unwrap().into_inner().ca_pin, "0123abcd");
        let nowhere = pb::CreateJoinCommandRequest {
            name: "clusters/west".to_owned(),
            auto_approve: true,
        };
        let nowhere = world
            .clusters()
            .create_join_command(world.admin(nowhere))
            .await;
        assert_eq!(reason(&nowhere.unwrap_err()), "CLUSTER_NOT_FOUND");
        let asked = world.hub.asked.lock().unwrap().clone();
        let methods: Vec<&str> = asked.iter().map(|(method, _)| *method).collect();
        assert_eq!(
            methods,
            ["CreateJoinToken", "ApproveAgent", "CreateJoinToken"]
        );
    }
}

#[tokio::test]
async fn who_only_creates_clusters_neither_approves_nor_rejoins() {
    for world in worlds().await {
        let create = |auto_approve| {
            let request = pb::CreateClusterRequest {
                cluster_id: "south".to_owned(),
                auto_approve,
                ..pb::CreateClusterRequest::default()
            };
            world.people.request(CREATOR, request)
        };
        let refused = world.clusters().create_cluster(create(true)).await;
        let refused = refused.unwrap_err();
        assert_eq!(reason(&refused), "PERMISSION_DENIED", "{}", world.database);
        world
            .clusters()
            .create_cluster(create(false))
            .await
            .unwrap();
        let rejoin = |by: &str, auto_approve| {
            let request = pb::CreateJoinCommandRequest {
                name: "clusters/south".to_owned(),
                auto_approve,
            };
            world.people.request(by, request)
        };
        for (by, auto_approve, allowed) in [
            (CREATOR, false, false),
            (REJOINER, false, true),
            (REJOINER, true, false),
        ] {
            let answer = world
                .clusters()
                .create_join_command(rejoin(by, auto_approve))
                .await;
            assert_eq!(answer.is_ok(), allowed, "{} {by}", world.database);
        }
        let asked = world.hub.asked.lock().unwrap().len();
        assert_eq!(asked, 2, "no token for who was refused");
    }
}

#[tokio::test]
async fn lists_by_page_state_and_label_and_changes_by_mask() {
    for world in worlds().await {
        for id in ["east", "north", "west"] {
            create(&world, id).await;
        }
        world.hub.set_agent("north", AgentState::Connected);
        world.hub.set_agent("west", AgentState::Disconnected);
        let list = async |filter: &str, page_size: i32| {
            let mut names = Vec::new();
            let mut request = pb::ListClustersRequest {
                page_size,
                filter: filter.to_owned(),
                ..pb::ListClustersRequest::default()
            };
            loop {
                let page = world
                    .clusters()
                    .list_clusters(world.admin(request.clone()))
                    .await?
                    .into_inner();
                names.extend(page.clusters.into_iter().map(|cluster| cluster.name));
                if page.next_page_token.is_empty() {
                    return Ok::<_, Status>(names.join(" ").replace("clusters/", ""));
                }
                request.page_token = page.next_page_token;
            }
        };
        assert_eq!(
            list("", 2).await.unwrap(),
            "east north west",
            "{}",
            world.database
        );
        assert_eq!(list("state=UNREACHABLE", 0).await.unwrap(), "west");
        assert_eq!(list("labels.region=east", 1).await.unwrap(), "east");
        let refused = list("uid=x", 0).await.unwrap_err();
        assert_eq!(reason(&refused), "FILTER_INVALID");

        let before = get(&world, "east").await;
        let update = |etag: &str| pb::UpdateClusterRequest {
            cluster: Some(pb::Cluster {
                name: "clusters/east".to_owned(),
                etag: etag.to_owned(),
                display_name: "East".to_owned(),
                ..pb::Cluster::default()
            }),
            update_mask: Some(mask(&["display_name"])),
        };
        let changed = world
            .clusters()
            .update_cluster(world.admin(update(&before.etag)))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(changed.display_name, "East");
        assert_eq!(changed.labels, before.labels, "{}", world.database);
        let stale = world
            .clusters()
            .update_cluster(world.admin(update(&before.etag)))
            .await;
        assert_eq!(reason(&stale.unwrap_err()), "STALE_ETAG");
    }
}

#[tokio::test]
async fn a_cordon_stays_until_it_is_lifted() {
    for world in worlds().await {
        create(&world, "east").await;
        let name = || "clusters/east".to_owned();
        let mut client = world.clusters();
        for _ in 0..2 {
            let request = world.admin(pb::CordonClusterRequest { name: name() });
            let cordoned = client.cordon_cluster(request).await.unwrap();
            assert!(cordoned.into_inner().cordoned, "{}", world.database);
        }
        assert!(get(&world, "east").await.cordoned);
        let request = world.admin(pb::UncordonClusterRequest { name: name() });
        assert!(
            !client
                .uncordon_cluster(request)
                .await
                .unwrap()
                .into_inner()
                .cordoned
        );
    }
}

#[tokio::test]
async fn a_cluster_with_services_or_objects_stays() {
    for world in worlds().await {
        create(&world, "east").await;
        let project = pb::CreateProjectRequest {
            project_id: "shop".to_owned(),
            ..pb::CreateProjectRequest::default()
        };
        world
            .projects()
            .create_project(world.admin(project))
            .await
            .unwrap();
        let service = "projects/shop/redisServices/a".to_owned();
        let reserve = pb::ReserveServiceRequest {
            service: service.clone(),
            cluster: "clusters/east".to_owned(),
            units: 3,
            validate_only: false,
        };
        let internal = || upm_mesh::Context::internal("a test");
        world
            .redis()
            .reserve_service(internal().forward(reserve))
            .await
            .unwrap();
        let mut client = world.clusters();
        let refused = client
            .delete_cluster(world.admin(delete("east", false)))
            .await
            .unwrap_err();
        assert_eq!(reason(&refused), "CLUSTER_NOT_EMPTY", "{}", world.database);
        assert!(world.hub.asked.lock().unwrap().len() == 1, "only the join");
        world
            .redis()
            .release_service(internal().forward(pb::ReleaseServiceRequest { service }))
            .await
            .unwrap();
        // an object of a service that nobody here knows
        let orphaned = "projects/shop/kafkaServices/k";
        world.hub.hold("projects/shop", "Project");
        world.hub.hold("packages/redis-7.0.15", "PodTemplate");
        world.hub.hold(orphaned, "UnitSet");
        let refused = client
            .delete_cluster(world.admin(delete("east", false)))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(get(&world, "east").await.name, "clusters/east");
        let held = world.hub.objects.lock().unwrap().clone();
        assert_eq!(held.len(), 1, "{}: {held:?}", world.database);
        assert_eq!(held[0].owner, orphaned, "what a service has stays");
        world.hub.objects.lock().unwrap().clear();
        world.hub.hold("projects/shop", "Project");
        client
            .delete_cluster(world.admin(delete("east", false)))
            .await
            .unwrap();
        let asked = world.hub.asked.lock().unwrap().clone();
        assert!(
            asked.contains(&("Orphan", "packages/redis-7.0.15".to_owned())),
            "{asked:?}"
        );
        assert!(!asked.iter().any(|(method, _)| *method == "Delete"));
        assert_eq!(asked.last().unwrap().0, "DeleteAgent");
        let gone = client
            .delete_cluster(world.admin(delete("east", false)))
            .await
            .unwrap_err();
        assert_eq!(reason(&gone), "CLUSTER_NOT_FOUND", "{}", world.database);
        client
            .delete_cluster(world.admin(delete("east", true)))
            .await
            .unwrap();
    }
}
