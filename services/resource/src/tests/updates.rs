//! Updates: masks, quotas, and what becomes of a project that is gone.

use std::sync::atomic::Ordering;

use upm_proto::hub::v1::AgentState;

use super::*;

fn wanted() -> pb::Project {
    pb::Project {
        name: "projects/ours".to_owned(),
        display_name: "Ours".to_owned(),
        quota: Some(pb::Quota {
            services: 2,
            units: 6,
        }),
        ..pb::Project::default()
    }
}

async fn create(world: &World, id: &str) -> pb::Project {
    let request = pb::CreateProjectRequest {
        project_id: id.to_owned(),
        project: Some(pb::Project {
            display_name: "Before".to_owned(),
            labels: labels(&[("team", "web")]),
            quota: Some(pb::Quota {
                services: 1,
                units: 3,
            }),
            ..pb::Project::default()
        }),
        request_id: String::new(),
    };
    let made = world.projects().create_project(world.admin(request)).await;
    made.expect("created").into_inner()
}

async fn update(
    world: &World,
    by: &str,
    project: pb::Project,
    paths: Option<&[&str]>,
) -> Result<pb::Project, Status> {
    let request = pb::UpdateProjectRequest {
        project: Some(project),
        update_mask: paths.map(mask),
    };
    let answer = world
        .projects()
        .update_project(world.people.request(by, request))
        .await?;
    Ok(answer.into_inner())
}

/// A mask, and what stands in name, labels, services and units afterwards.
type Case = (
    Option<&'static [&'static str]>,
    (&'static str, usize, i32, i32),
);

#[tokio::test]
async fn an_update_changes_what_its_mask_says() {
    let cases: [Case; 8] = [
        (None, ("Ours", 1, 2, 6)),
        (Some(&[]), ("Ours", 1, 2, 6)),
        (Some(&["*"]), ("Ours", 0, 2, 6)),
        (Some(&["display_name"]), ("Ours", 1, 1, 3)),
        (Some(&["labels"]), ("Before", 0, 1, 3)),
        (Some(&["quota"]), ("Before", 1, 2, 6)),
        (Some(&["quota.units"]), ("Before", 1, 1, 6)),
        (
            Some(&["uid", "etag", "name", "create_time", "quota.services"]),
            ("Before", 1, 2, 3),
        ),
    ];
    for world in worlds().await {
        for (n, (paths, expected)) in cases.into_iter().enumerate() {
            let id = format!("p{n}");
            create(&world, &id).await;
            let project = pb::Project {
                name: format!("projects/{id}"),
                ..wanted()
            };
            let after = update(&world, ADMIN, project, paths)
                .await
                .expect("updated");
            let quota = after.quota.unwrap();
            let found = (
                after.display_name.as_str(),
                after.labels.len(),
                quota.services,
                quota.units,
            );
            assert_eq!(found, expected, "{} {paths:?}", world.database);
        }
    }
}

#[tokio::test]
async fn an_update_that_sets_nothing_changes_nothing() {
    for world in worlds().await {
        let before = create(&world, "ours").await;
        let nothing = pb::Project {
            name: "projects/ours".to_owned(),
            ..pb::Project::default()
        };
        let after = update(&world, ADMIN, nothing, None).await.expect("updated");
        assert_eq!(after, before, "{}", world.database);
        // What Get returned is a valid update.
        let all = [
            "name",
            "uid",
            "etag",
            "display_name",
            "labels",
            "quota.services",
            "quota.units",
            "create_time",
            "update_time",
            "service_count",
        ];
        let same = update(&world, ADMIN, before.clone(), Some(&all)).await;
        assert_eq!(same.expect("updated"), before, "{}", world.database);
    }
}

#[tokio::test]
async fn who_runs_a_project_sets_no_quota() {
    for world in worlds().await {
        create(&world, "ours").await;
        for paths in [
            None,
            Some(&["*"][..]),
            Some(&["quota"]),
            Some(&["quota.units"]),
        ] {
            let refused = update(&world, OWNER, wanted(), paths).await.unwrap_err();
            assert_eq!(
                reason(&refused),
                "PERMISSION_DENIED",
                "{} {paths:?}",
                world.database
            );
            assert!(
                refused.message().contains("setQuota"),
                "{}",
                refused.message()
            );
        }
        let renamed = update(&world, OWNER, wanted(), Some(&["display_name"])).await;
        assert_eq!(renamed.expect("renamed").quota.unwrap().units, 3);
    }
}

fn delete(id: &str) -> pb::DeleteProjectRequest {
    pb::DeleteProjectRequest {
        name: format!("projects/{id}"),
        ..pb::DeleteProjectRequest::default()
    }
}

#[tokio::test]
async fn an_id_is_free_when_the_roles_of_its_project_are_gone() {
    for world in worlds().await {
        let first = create(&world, "ours").await;
        world.auth.away.store(true, Ordering::SeqCst);
        let request = world.admin(delete("ours"));
        world
            .projects()
            .delete_project(request)
            .await
            .expect("deleted");
        let again = pb::CreateProjectRequest {
            project_id: "ours".to_owned(),
            ..pb::CreateProjectRequest::default()
        };
        let refused = world
            .projects()
            .create_project(world.admin(again.clone()))
            .await;
        let refused = refused.unwrap_err();
        assert_eq!(
            reason(&refused),
            "PROJECT_BEING_DELETED",
            "{}",
            world.database
        );
        world.auth.away.store(false, Ordering::SeqCst);
        let free = async {
            loop {
                let made = world
                    .projects()
                    .create_project(world.admin(again.clone()))
                    .await;
                if made.is_ok() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), free)
            .await
            .expect("free");
        let told = world.auth.forgotten.lock().unwrap().clone();
        assert_eq!(told[0].project, "projects/ours");
        assert_eq!(told[0].project_uid, first.uid, "{}", world.database);
    }
}

#[tokio::test]
async fn a_deleted_project_leaves_no_intent_behind() {
    for world in worlds().await {
        create(&world, "ours").await;
        world.hub.set_agent("east", AgentState::Connected);
        world.hub.hold("projects/ours", "Namespace");
        world.hub.hold("projects/other", "Namespace");
        let request = world.admin(delete("ours"));
        world
            .projects()
            .delete_project(request)
            .await
            .expect("deleted");
        let objects = world.hub.objects.lock().unwrap().clone();
        let live: Vec<&str> = objects
            .iter()
            .filter(|object| !object.tombstone)
            .map(|object| object.owner.as_str())
            .collect();
        assert_eq!(live, ["projects/other"], "{}", world.database);
    }
}
