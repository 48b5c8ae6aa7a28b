//! Projects, their quotas, and the services that they hold.

use super::*;
use crate::project::model::{self, ProjectRow};

fn creation(id: &str) -> pb::CreateProjectRequest {
    pb::CreateProjectRequest {
        project_id: id.to_owned(),
        ..pb::CreateProjectRequest::default()
    }
}

async fn create(world: &World, id: &str) -> pb::Project {
    world
        .projects()
        .create_project(world.admin(creation(id)))
        .await
        .expect("created")
        .into_inner()
}

async fn create_with_quota(world: &World, id: &str, services: i32, units: i32) {
    let request = pb::CreateProjectRequest {
        project: Some(pb::Project {
            quota: Some(pb::Quota { services, units }),
            ..pb::Project::default()
        }),
        ..creation(id)
    };
    world
        .projects()
        .create_project(world.admin(request))
        .await
        .expect("created");
}

fn delete(id: &str, etag: &str, allow_missing: bool) -> pb::DeleteProjectRequest {
    pb::DeleteProjectRequest {
        name: format!("projects/{id}"),
        etag: etag.to_owned(),
        allow_missing,
    }
}

/// Module `redis` reserves a service.
async fn reserve(world: &World, project: &str, service: &str, units: i32) -> Result<(), Status> {
    let request = pb::ReserveServiceRequest {
        service: format!("projects/{project}/{service}"),
        cluster: "clusters/c".to_owned(),
        units,
        validate_only: false,
    };
    let request = upm_mesh::Context::internal("a test").forward(request);
    world
        .redis()
        .reserve_service(request)
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_project_is_created_once_read_changed_by_mask_and_deleted() {
    for world in worlds().await {
        let mut client = world.projects();
        let request = pb::CreateProjectRequest {
            project_id: "shop".to_owned(),
            project: Some(pb::Project {
                display_name: "The shop".to_owned(),
                labels: labels(&[("team", "web")]),
                ..pb::Project::default()
            }),
            request_id: "0190a5d2-7c3a-7f1a-9f6e-0d8c3b1a2c4d".to_owned(),
        };
        let made = client.create_project(world.admin(request.clone())).await;
        let made = made.unwrap().into_inner();
        let again = client.create_project(world.admin(request.clone())).await;
        assert_eq!(again.unwrap().into_inner(), made, "{}", world.database);
        let other = pb::CreateProjectRequest {
            request_id: String::new(),
            ..request
        };
        let taken = client.create_project(world.admin(other)).await.unwrap_err();
        assert_eq!(
            (taken.code(), reason(&taken).as_str()),
            (Code::AlreadyExists, "PROJECT_EXISTS")
        );

        let change = |etag: &str, paths: &[&str]| pb::UpdateProjectRequest {
            project: Some(pb::Project {
                name: "projects/shop".to_owned(),
                etag: etag.to_owned(),
                display_name: "ignored".to_owned(),
                quota: Some(pb::Quota {
                    services: 2,
                    units: 6,
                }),
                ..pb::Project::default()
            }),
            update_mask: Some(mask(paths)),
        };
        let changed = client
            .update_project(world.admin(change(&made.etag, &["quota"])))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(changed.display_name, "The shop");
        assert_eq!(changed.labels, made.labels);
        assert_eq!(changed.quota.unwrap().units, 6);
        assert_ne!(changed.etag, made.etag);
        let stale = client
            .update_project(world.admin(change(&made.etag, &["quota"])))
            .await
            .unwrap_err();
        assert_eq!(reason(&stale), "STALE_ETAG", "{}", world.database);
        let unknown = client
            .update_project(world.admin(change("", &["nothing"])))
            .await
            .unwrap_err();
        assert_eq!(field(&unknown), "update_mask");

        let stale = client
            .delete_project(world.admin(delete("shop", &made.etag, false)))
            .await
            .unwrap_err();
        assert_eq!(reason(&stale), "STALE_ETAG");
        let request = world.admin(delete("shop", &changed.etag, false));
        client.delete_project(request).await.unwrap();
        let gone = client
            .delete_project(world.admin(delete("shop", "", false)))
            .await
            .unwrap_err();
        assert_eq!(reason(&gone), "PROJECT_NOT_FOUND", "{}", world.database);
        client
            .delete_project(world.admin(delete("shop", "", true)))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn wrong_fields_are_named_and_reserved_names_refused() {
    for world in worlds().await {
        let mut client = world.projects();
        for id in ["default", "kube-system", "upm-system", "UPPER", "a/b"] {
            let refused = client.create_project(world.admin(creation(id))).await;
            assert_eq!(field(&refused.unwrap_err()), "project_id", "{id}");
        }
        let request = pb::CreateProjectRequest {
            project: Some(pb::Project {
                quota: Some(pb::Quota {
                    services: -1,
                    units: 0,
                }),
                ..pb::Project::default()
            }),
            ..creation("shop")
        };
        let refused = client.create_project(world.admin(request)).await;
        assert_eq!(field(&refused.unwrap_err()), "project.quota");
        let list = client
            .list_projects(world.admin(pb::ListProjectsRequest::default()))
            .await;
        assert!(
            list.unwrap().into_inner().projects.is_empty(),
            "{}",
            world.database
        );
    }
}

#[tokio::test]
async fn a_list_has_full_pages_of_what_the_caller_may_see() {
    for world in worlds().await {
        for id in ["a", "b", "ours", "x", "y"] {
            create(&world, id).await;
        }
        let list = async |user: &str, page_size: i32| {
            let mut pages: Vec<String> = Vec::new();
            let mut request = pb::ListProjectsRequest {
                page_size,
                ..pb::ListProjectsRequest::default()
            };
            loop {
                let page = world
                    .projects()
                    .list_projects(world.people.request(user, request.clone()))
                    .await
                    .unwrap()
                    .into_inner();
                let names = page
                    .projects
                    .iter()
                    .map(|project| project.name.trim_start_matches("projects/").to_owned());
                pages.push(names.collect::<Vec<_>>().join(" "));
                if page.next_page_token.is_empty() {
                    return pages.join("|");
                }
                request.page_token = page.next_page_token;
            }
        };
        assert_eq!(list(ADMIN, 2).await, "a b|ours x|y", "{}", world.database);
        assert_eq!(list(MEMBER, 2).await, "ours", "{}", world.database);
        let own = pb::GetProjectRequest {
            name: "projects/ours".to_owned(),
        };
        let own = world.people.request(MEMBER, own);
        assert!(world.projects().get_project(own).await.is_ok());
        let other = pb::GetProjectRequest {
            name: "projects/a".to_owned(),
        };
        let other = world.people.request(MEMBER, other);
        let refused = world.projects().get_project(other).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
}

#[tokio::test]
async fn a_quota_counts_services_and_units_and_a_name_is_taken_once() {
    for world in worlds().await {
        create_with_quota(&world, "shop", 2, 5).await;
        reserve(&world, "shop", "redisServices/a", 3).await.unwrap();
        // the same again is no second service
        reserve(&world, "shop", "redisServices/a", 3).await.unwrap();
        let taken = reserve(&world, "shop", "kafkaServices/a", 1).await;
        assert_eq!(reason(&taken.unwrap_err()), "SERVICE_EXISTS");
        let units = reserve(&world, "shop", "redisServices/b", 3)
            .await
            .unwrap_err();
        assert_eq!(
            (units.code(), reason(&units).as_str()),
            (Code::ResourceExhausted, "QUOTA_EXCEEDED"),
            "{}",
            world.database
        );
        reserve(&world, "shop", "redisServices/b", 2).await.unwrap();
        let services = reserve(&world, "shop", "redisServices/c", 0).await;
        assert_eq!(reason(&services.unwrap_err()), "QUOTA_EXCEEDED");
        let missing = reserve(&world, "nowhere", "redisServices/a", 1).await;
        assert_eq!(reason(&missing.unwrap_err()), "PROJECT_NOT_FOUND");

        let full = world
            .projects()
            .delete_project(world.admin(delete("shop", "", false)))
            .await
            .unwrap_err();
        assert_eq!(reason(&full), "PROJECT_NOT_EMPTY", "{}", world.database);
        for service in ["a", "b"] {
            let request = pb::ReleaseServiceRequest {
                service: format!("projects/shop/redisServices/{service}"),
            };
            let request = upm_mesh::Context::internal("a test").forward(request);
            world.redis().release_service(request).await.unwrap();
        }
        let request = world.admin(delete("shop", "", false));
        world.projects().delete_project(request).await.unwrap();
    }
}

#[tokio::test]
async fn services_that_race_for_the_last_of_a_quota_do_not_both_get_it() {
    for world in worlds().await {
        create_with_quota(&world, "shop", 3, 0).await;
        let names: Vec<String> = (0..8).map(|n| format!("redisServices/s{n}")).collect();
        let all = names
            .iter()
            .map(|name| reserve(&world, "shop", name, 1))
            .collect::<Vec<_>>();
        let got = futures::future::join_all(all).await;
        let admitted = got.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(admitted, 3, "{}: {got:?}", world.database);
    }
}

#[tokio::test]
async fn a_project_is_never_deleted_under_a_service_that_is_being_made() {
    for world in worlds().await {
        for n in 0..10 {
            let id = format!("p{n}");
            create(&world, &id).await;
            let mut projects = world.projects();
            let removal = projects.delete_project(world.admin(delete(&id, "", false)));
            let (reserved, deleted) =
                tokio::join!(reserve(&world, &id, "redisServices/a", 1), removal);
            assert!(
                reserved.is_ok() != deleted.is_ok(),
                "{}: {reserved:?} {deleted:?}",
                world.database
            );
        }
    }
}

#[tokio::test]
async fn of_many_who_create_the_same_project_at_once_one_succeeds_and_the_others_are_told_it_exists()
 {
    for world in worlds().await {
        for round in 0..5 {
            let id = format!("race-{round}");
            let racers = (0..8).map(|_| {
                let (mut projects, request) = (world.projects(), world.admin(creation(&id)));
                async move { projects.create_project(request).await }
            });
            let answers = futures::future::join_all(racers).await;
            let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
            assert_eq!(made.len(), 1, "{}", world.database);
            for status in refused.into_iter().filter_map(Result::err) {
                assert_eq!(
                    status.code(),
                    Code::AlreadyExists,
                    "{}: {status:?}",
                    world.database
                );
            }
        }
    }
}

#[tokio::test]
async fn a_project_that_another_transaction_has_made_in_between_exists() {
    for world in worlds().await {
        let row = |uid: &str| ProjectRow {
            id: "twice".into(),
            uid: uid.into(),
            version: 1,
            labels: String::new(),
            display_name: String::new(),
            quota_services: 0,
            quota_units: 0,
            create_us: 0,
            update_us: 0,
        };
        let insert = async |uid: &str| {
            let row = row(uid);
            let store = &world.test.store;
            store
                .transact("insert", move |conn| model::insert(conn, &row))
                .await
        };
        insert("one").await.expect("made");
        let again = insert("two").await;
        assert!(matches!(again, Err(crate::Error::ProjectExists(id)) if id == "twice"));
    }
}
