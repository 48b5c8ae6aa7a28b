//! What the modules are told.

use tonic::Streaming;

use super::*;

async fn next(stream: &mut Streaming<pb::PolicySnapshot>) -> pb::PolicySnapshot {
    timeout(Duration::from_mins(2), stream.message())
        .await
        .expect("a snapshot in time")
        .expect("no error")
        .expect("the stream goes on")
}

#[tokio::test]
async fn the_stream_begins_with_everything_and_counts_up_with_each_change() {
    for world in worlds().await {
        world.create_user("ada").await;
        let watch = |known_revision| pb::WatchPolicyRequest { known_revision };
        let mut stream = world
            .inside()
            .watch_policy(watch(0))
            .await
            .unwrap()
            .into_inner();
        let first = next(&mut stream).await;
        assert_eq!(
            first.roles.len(),
            crate::BUILT_IN.len(),
            "{}",
            world.database
        );
        assert_eq!(first.jwks.as_ref().unwrap().keys.len(), 1);
        assert_eq!(first.role_bindings.len(), 1);
        world.bind("users/ada", "roles/platform-viewer", "").await;
        let second = next(&mut stream).await;
        assert!(first.revision < second.revision);
        assert_eq!(second.role_bindings.len(), 2);
        let disable = users::DisableUserRequest {
            name: "users/ada".to_owned(),
        };
        world
            .users()
            .disable_user(world.root(disable).await)
            .await
            .unwrap();
        let third = next(&mut stream).await;
        assert!(second.revision < third.revision);
        assert_eq!(third.disabled_users, ["users/ada"], "{}", world.database);
        let mut known = world
            .inside()
            .watch_policy(watch(third.revision))
            .await
            .unwrap()
            .into_inner();
        let nothing = timeout(Duration::from_millis(300), known.message()).await;
        assert!(nothing.is_err(), "who knows it is not told again");
        world.drain.begin();
        let end = timeout(Duration::from_mins(2), stream.message())
            .await
            .expect("it ends");
        assert_eq!(end.unwrap(), None);
    }
}

#[tokio::test]
async fn a_change_by_another_replica_reaches_the_stream() {
    for mut world in worlds().await {
        let mut stream = world
            .inside()
            .watch_policy(pb::WatchPolicyRequest { known_revision: 0 })
            .await
            .unwrap()
            .into_inner();
        let first = next(&mut stream).await;
        // The stream stays with the first one, the call goes to the second.
        world.restart_auth().await;
        let role = pb::Role {
            permissions: vec!["redis.services.get".to_owned()],
            ..Default::default()
        };
        let request = pb::CreateRoleRequest {
            role: Some(role),
            ..Default::default()
        };
        let made = world
            .roles()
            .create_role(world.root(request).await)
            .await
            .unwrap()
            .into_inner();
        let second = next(&mut stream).await;
        assert!(first.revision < second.revision, "{}", world.database);
        assert!(second.roles.iter().any(|role| role.name == made.name));
    }
}

#[tokio::test]
async fn outsiders_cannot_watch_the_policy() {
    for world in worlds().await {
        let watch = world
            .root(pb::WatchPolicyRequest { known_revision: 0 })
            .await;
        let refused = world.policy().watch_policy(watch).await.unwrap_err();
        assert_eq!(
            refused.code(),
            tonic::Code::PermissionDenied,
            "{}",
            world.database
        );
    }
}

#[tokio::test]
async fn test_permissions_answers_what_the_caller_has() {
    for world in worlds().await {
        world.create_user("ada").await;
        world
            .bind("users/ada", "roles/project-operator", "projects/shop")
            .await;
        let shop = Some("projects/shop");
        world
            .until(|| {
                world
                    .verifier
                    .may("users/ada", "redis.services.restart", shop)
            })
            .await;
        let token = world.login("ada", PASSWORD).await.unwrap().access_token;
        let ask = async |project: &str| {
            let request = pb::TestPermissionsRequest {
                project: project.to_owned(),
                permissions: vec![
                    "redis.services.restart".to_owned(),
                    "redis.services.delete".to_owned(),
                ],
            };
            let answer = world
                .policy()
                .test_permissions(with_token(&token, request))
                .await;
            answer.map(|answer| answer.into_inner().permissions)
        };
        assert_eq!(
            ask("projects/shop").await.unwrap(),
            ["redis.services.restart"]
        );
        assert!(
            ask("projects/other").await.unwrap().is_empty(),
            "{}",
            world.database
        );
        assert!(ask("").await.unwrap().is_empty());
        let many = pb::TestPermissionsRequest {
            project: String::new(),
            permissions: vec!["a.b.c".to_owned(); 101],
        };
        let refused = world
            .policy()
            .test_permissions(with_token(&token, many))
            .await
            .unwrap_err();
        assert_eq!(status::details(&refused).fields[0].field, "permissions");
    }
}
