//! Bindings end with whom and what they were made for.

use upm_store::Store;

use super::*;
use crate::model::bindings;

async fn count(store: &Store) -> usize {
    let all = store.read("bindings", |conn| {
        Ok::<_, crate::Error>(bindings::all(conn)?)
    });
    all.await.expect("read").len()
}

fn resource_module(world: &World) -> PolicyServiceClient<Channel> {
    PolicyServiceClient::new(world.auth.in_memory(SpiffeId::module("resource").unwrap()))
}

fn gone(uid: &str) -> pb::ForgetProjectRequest {
    pb::ForgetProjectRequest {
        project: "projects/shop".to_owned(),
        project_uid: uid.to_owned(),
    }
}

#[tokio::test]
async fn nobody_has_a_role_in_the_next_project_of_a_name() {
    for world in worlds().await {
        world.create_user("ada").await;
        world
            .bind("users/ada", "roles/project-admin", "projects/shop")
            .await;
        let may = || {
            let shop = Some("projects/shop");
            world.verifier.may("users/ada", "redis.services.get", shop)
        };
        world.until(may).await;
        let mut module = resource_module(&world);
        module
            .forget_project(gone("uid-shop"))
            .await
            .expect("forgotten");
        world.until(|| !may()).await;
        module
            .forget_project(gone("uid-shop"))
            .await
            .expect("again is no error");
        // Who was asked before the project went away binds nobody to the next one.
        let late = world.root(bind_request(
            "users/ada",
            "roles/project-viewer",
            "projects/shop",
        ));
        let refused = world
            .roles()
            .create_role_binding(late.await)
            .await
            .unwrap_err();
        let field = &status::details(&refused).fields[0].field;
        assert_eq!(field, "role_binding.project", "{}", world.database);
        world.projects.put("projects/shop", "uid-next");
        world
            .bind("users/ada", "roles/project-viewer", "projects/shop")
            .await;
        // The end of the first is no end of the next.
        module
            .forget_project(gone("uid-shop"))
            .await
            .expect("no error");
        world.until(may).await;
    }
}

#[tokio::test]
async fn a_role_is_given_only_in_a_project_that_exists() {
    for world in worlds().await {
        world.create_user("ada").await;
        let request = bind_request("users/ada", "roles/project-viewer", "projects/none");
        let request = world.root(request).await;
        let refused = world
            .roles()
            .create_role_binding(request)
            .await
            .unwrap_err();
        let field = &status::details(&refused).fields[0].field;
        assert_eq!(field, "role_binding.project", "{}", world.database);
    }
}

#[tokio::test]
async fn only_the_module_of_projects_forgets_one() {
    for world in worlds().await {
        for module in ["redis", "user", "gateway"] {
            let id = SpiffeId::module(module).unwrap();
            let mut client = PolicyServiceClient::new(world.auth.in_memory(id));
            let refused = client.forget_project(gone("uid-shop")).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{module}");
        }
    }
}

#[tokio::test]
async fn who_gets_a_used_name_gets_none_of_its_roles() {
    for world in worlds().await {
        world.create_user("ada").await;
        world.bind("users/ada", "roles/platform-viewer", "").await;
        let before = count(&world.auth_store.store).await;
        // As if another user had had the name, and this module had not heard of the end.
        let store = &world.auth_store.store;
        let foreign = store.transact("make it another's", |conn| {
            let mut row = bindings::find(conn, "platform-viewer.ada")?.expect("the binding");
            bindings::delete(conn, &row.id)?;
            row.user_uid = "somebody else".to_owned();
            Ok::<_, crate::Error>(bindings::insert(conn, &row)?)
        });
        foreign.await.expect("written");
        world.login("ada", PASSWORD).await.expect("log in");
        let after = count(&world.auth_store.store).await;
        assert_eq!(after, before - 1, "{}", world.database);
    }
}

#[tokio::test]
async fn a_role_is_taken_away_only_by_who_has_it_all() {
    for world in worlds().await {
        for id in ["ada", "clerk"] {
            world.create_user(id).await;
        }
        let role = pb::Role {
            permissions: vec!["auth.roleBindings.delete".to_owned()],
            ..pb::Role::default()
        };
        let request = pb::CreateRoleRequest {
            role_id: "taker".to_owned(),
            role: Some(role),
            request_id: String::new(),
        };
        let request = world.root(request).await;
        world.roles().create_role(request).await.expect("a role");
        world.bind("users/clerk", "roles/taker", "").await;
        world.bind("users/ada", "roles/platform-admin", "").await;
        world
            .until(|| {
                world
                    .verifier
                    .may("users/clerk", "auth.roleBindings.delete", None)
            })
            .await;
        let tokens = world.login("clerk", PASSWORD).await.expect("log in");
        let delete = pb::DeleteRoleBindingRequest {
            name: "roleBindings/platform-admin.ada".to_owned(),
            allow_missing: false,
        };
        let request = with_token(&tokens.access_token, delete);
        let refused = world
            .roles()
            .delete_role_binding(request)
            .await
            .unwrap_err();
        assert_eq!(
            reason(&refused),
            "PERMISSION_NOT_HELD",
            "{}",
            world.database
        );
    }
}
