//! Roles and bindings.

use prost_types::FieldMask;
use tonic::Code;

use super::*;

fn role(permissions: &[&str]) -> pb::Role {
    pb::Role {
        permissions: permissions.iter().map(|&text| text.to_owned()).collect(),
        ..pb::Role::default()
    }
}

fn create(id: &str, role: pb::Role) -> pb::CreateRoleRequest {
    pb::CreateRoleRequest {
        role_id: id.to_owned(),
        role: Some(role),
        request_id: String::new(),
    }
}

#[tokio::test]
async fn lists_built_in_and_custom_roles_in_one_order() {
    for world in worlds().await {
        for id in ["backup", "zeta"] {
            let request = world.root(create(id, role(&["redis.services.get"]))).await;
            world.roles().create_role(request).await.unwrap();
        }
        let (mut names, mut token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListRolesRequest {
                page_size: 3,
                page_token: token,
            };
            let page = world
                .roles()
                .list_roles(world.root(request).await)
                .await
                .unwrap()
                .into_inner();
            names.extend(
                page.roles
                    .into_iter()
                    .map(|role| role.name.replace("roles/", "")),
            );
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        let expected = [
            "auditor",
            "backup",
            "platform-admin",
            "platform-viewer",
            "project-admin",
            "project-operator",
            "project-viewer",
            "zeta",
        ];
        assert_eq!(names, expected, "{}", world.database);
    }
}

#[tokio::test]
async fn built_in_roles_cannot_be_changed_or_taken() {
    for world in worlds().await {
        let update = pb::UpdateRoleRequest {
            role: Some(pb::Role {
                name: "roles/auditor".to_owned(),
                ..role(&["*.*.*"])
            }),
            update_mask: None,
        };
        let refused = world
            .roles()
            .update_role(world.root(update).await)
            .await
            .unwrap_err();
        assert_eq!(reason(&refused), "ROLE_BUILT_IN", "{}", world.database);
        let delete = pb::DeleteRoleRequest {
            name: "roles/auditor".to_owned(),
            ..Default::default()
        };
        let refused = world
            .roles()
            .delete_role(world.root(delete).await)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let taken = world
            .root(create("auditor", role(&["redis.services.get"])))
            .await;
        let refused = world.roles().create_role(taken).await.unwrap_err();
        assert_eq!(reason(&refused), "ROLE_EXISTS");
        let get = pb::GetRoleRequest {
            name: "roles/auditor".to_owned(),
        };
        let auditor = world
            .roles()
            .get_role(world.root(get).await)
            .await
            .unwrap()
            .into_inner();
        assert!(auditor.built_in && auditor.permissions.contains(&"operatorlog.*.*".to_owned()));
    }
}

#[tokio::test]
async fn a_custom_role_lives_from_create_to_delete() {
    for world in worlds().await {
        let bad = world.root(create("ops", role(&["redis.services"]))).await;
        let refused = world.roles().create_role(bad).await.unwrap_err();
        assert_eq!(
            status::details(&refused).fields[0].field,
            "role.permissions"
        );
        let mut request = create(
            "ops",
            role(&["redis.services.restart", "redis.services.get"]),
        );
        request.request_id = "0190a5d2-7c3a-7f1a-9f6e-0d8c3b1a2c4d".to_owned();
        let made = world
            .roles()
            .create_role(world.root(request.clone()).await)
            .await
            .unwrap()
            .into_inner();
        let again = world
            .roles()
            .create_role(world.root(request).await)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(made, again, "{}", world.database);
        assert_eq!(
            made.permissions,
            ["redis.services.get", "redis.services.restart"]
        );
        let update = pb::UpdateRoleRequest {
            role: Some(pb::Role {
                description: "Ops".to_owned(),
                ..made.clone()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["description".to_owned()],
            }),
        };
        let changed = world
            .roles()
            .update_role(world.root(update.clone()).await)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (changed.description.as_str(), &changed.permissions),
            ("Ops", &made.permissions)
        );
        let stale = world
            .roles()
            .update_role(world.root(update).await)
            .await
            .unwrap_err();
        assert_eq!(
            (stale.code(), reason(&stale).as_str()),
            (Code::Aborted, "STALE_ETAG")
        );
    }
}

#[tokio::test]
async fn a_bound_role_stays_until_nobody_has_it() {
    for world in worlds().await {
        let request = world
            .root(create("ops", role(&["redis.services.get"])))
            .await;
        let made = world
            .roles()
            .create_role(request)
            .await
            .unwrap()
            .into_inner();
        world.create_user("ada").await;
        let binding = world.bind("users/ada", "roles/ops", "projects/shop").await;
        assert_eq!(binding.name, "roleBindings/ops.ada.shop");
        world
            .until(|| {
                world
                    .verifier
                    .may("users/ada", "redis.services.get", Some("projects/shop"))
            })
            .await;
        assert!(!world.verifier.may("users/ada", "redis.services.get", None));
        let delete = pb::DeleteRoleRequest {
            name: made.name.clone(),
            ..Default::default()
        };
        let bound = world
            .roles()
            .delete_role(world.root(delete.clone()).await)
            .await
            .unwrap_err();
        assert_eq!(reason(&bound), "ROLE_BOUND", "{}", world.database);
        let narrow = pb::UpdateRoleRequest {
            role: Some(pb::Role {
                name: made.name,
                scope: pb::RoleScope::Platform.into(),
                ..Default::default()
            }),
            update_mask: None,
        };
        let bound = world
            .roles()
            .update_role(world.root(narrow).await)
            .await
            .unwrap_err();
        assert_eq!(reason(&bound), "ROLE_BOUND", "{}", world.database);
        let unbind = pb::DeleteRoleBindingRequest {
            name: binding.name,
            allow_missing: false,
        };
        world
            .roles()
            .delete_role_binding(world.root(unbind.clone()).await)
            .await
            .unwrap();
        let gone = world
            .roles()
            .delete_role_binding(world.root(unbind).await)
            .await
            .unwrap_err();
        assert_eq!(reason(&gone), "ROLE_BINDING_NOT_FOUND");
        world
            .roles()
            .delete_role(world.root(delete).await)
            .await
            .unwrap();
        world
            .until(|| {
                !world
                    .verifier
                    .may("users/ada", "redis.services.get", Some("projects/shop"))
            })
            .await;
    }
}

#[tokio::test]
async fn a_binding_that_exists_is_returned_and_wrong_ones_name_their_field() {
    for world in worlds().await {
        world.create_user("ada").await;
        let first = world
            .bind("users/ada", "roles/project-viewer", "projects/shop")
            .await;
        assert_eq!(
            first,
            world
                .bind("users/ada", "roles/project-viewer", "projects/shop")
                .await
        );
        for (user, role, project, field) in [
            ("users/nobody", "roles/auditor", "", "role_binding.user"),
            ("ada", "roles/auditor", "", "role_binding.user"),
            (
                "users/ada",
                "roles/project-viewer",
                "",
                "role_binding.project",
            ),
            (
                "users/ada",
                "roles/auditor",
                "projects/shop",
                "role_binding.project",
            ),
            (
                "users/ada",
                "roles/project-viewer",
                "projects/No",
                "role_binding.project",
            ),
        ] {
            let request = world.root(bind_request(user, role, project)).await;
            let refused = world
                .roles()
                .create_role_binding(request)
                .await
                .unwrap_err();
            assert_eq!(
                refused.code(),
                Code::InvalidArgument,
                "{user} {role} {project}"
            );
            assert_eq!(
                status::details(&refused).fields[0].field,
                field,
                "{}",
                world.database
            );
        }
        let request = world
            .root(bind_request("users/ada", "roles/nothing", ""))
            .await;
        let refused = world
            .roles()
            .create_role_binding(request)
            .await
            .unwrap_err();
        assert_eq!(reason(&refused), "ROLE_NOT_FOUND");
    }
}

#[tokio::test]
async fn nobody_gives_more_than_they_have() {
    for world in worlds().await {
        world.create_user("ada").await;
        let clerk = role(&[
            "auth.roleBindings.*",
            "auth.roles.*",
            "user.users.get",
            "redis.services.get",
        ]);
        world
            .roles()
            .create_role(world.root(create("clerk", clerk)).await)
            .await
            .unwrap();
        world.bind("users/ada", "roles/clerk", "").await;
        world
            .until(|| world.verifier.may("users/ada", "auth.roles.create", None))
            .await;
        let token = world.login("ada", PASSWORD).await.unwrap().access_token;
        let admin = with_token(
            &token,
            bind_request("users/ada", "roles/platform-admin", ""),
        );
        let refused = world.roles().create_role_binding(admin).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::PermissionDenied, "PERMISSION_NOT_HELD")
        );
        assert_eq!(status::details(&refused).metadata["permission"], "*.*.*");
        let more = with_token(
            &token,
            create(
                "more",
                role(&["redis.services.get", "redis.services.delete"]),
            ),
        );
        let refused = world.roles().create_role(more).await.unwrap_err();
        assert_eq!(
            status::details(&refused).metadata["permission"],
            "redis.services.delete"
        );
        let own = pb::UpdateRoleRequest {
            role: Some(pb::Role {
                name: "roles/clerk".to_owned(),
                ..role(&["*.*.*"])
            }),
            update_mask: None,
        };
        let refused = world
            .roles()
            .update_role(with_token(&token, own))
            .await
            .unwrap_err();
        assert_eq!(
            reason(&refused),
            "PERMISSION_NOT_HELD",
            "{}",
            world.database
        );
        let less = with_token(&token, create("less", role(&["redis.services.get"])));
        world.roles().create_role(less).await.unwrap();
        let give = with_token(
            &token,
            bind_request("users/root", "roles/less", "projects/shop"),
        );
        world.roles().create_role_binding(give).await.unwrap();
    }
}

#[tokio::test]
async fn the_last_administrator_who_may_act_stays() {
    for world in worlds().await {
        let last = pb::DeleteRoleBindingRequest {
            name: "roleBindings/platform-admin.root".to_owned(),
            allow_missing: false,
        };
        let refused = world
            .roles()
            .delete_role_binding(world.root(last.clone()).await)
            .await
            .unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::FailedPrecondition, "LAST_ADMINISTRATOR")
        );
        assert_eq!(
            status::details(&refused).preconditions[0].subject,
            "users/root"
        );
        world.create_user("ada").await;
        world.bind("users/ada", "roles/platform-admin", "").await;
        let disable = users::DisableUserRequest {
            name: "users/ada".to_owned(),
        };
        world
            .users()
            .disable_user(world.root(disable).await)
            .await
            .unwrap();
        let ada = world.verifier.clone();
        world
            .until(|| !ada.may("users/ada", "redis.services.get", None))
            .await;
        let refused = world
            .roles()
            .delete_role_binding(world.root(last.clone()).await)
            .await
            .unwrap_err();
        assert_eq!(
            reason(&refused),
            "LAST_ADMINISTRATOR",
            "a disabled one does not count: {}",
            world.database
        );
        let enable = users::EnableUserRequest {
            name: "users/ada".to_owned(),
        };
        world
            .users()
            .enable_user(world.root(enable).await)
            .await
            .unwrap();
        world
            .until(|| ada.may("users/ada", "redis.services.get", None))
            .await;
        world
            .roles()
            .delete_role_binding(world.root(last).await)
            .await
            .unwrap();
    }
}
