//! Who may change whose account.

use super::*;

/// Every way to change an account, with its reason for being refused; "" for done.
async fn tried(world: &World, by: &str, on: &str) -> [String; 5] {
    let name = || format!("users/{on}");
    let said = |answer: Result<(), Status>| {
        answer.map_or_else(|status| reason(&status), |()| String::new())
    };
    let request = pb::ResetPasswordRequest {
        name: name(),
        new_password: "a password of the attacker".to_owned(),
    };
    let reset = world
        .client()
        .reset_password(world.people.request(by, request))
        .await;
    let request = pb::UpdateUserRequest {
        user: Some(pb::User {
            name: name(),
            email: "attacker@example.com".to_owned(),
            ..pb::User::default()
        }),
        update_mask: None,
    };
    let update = world
        .client()
        .update_user(world.people.request(by, request))
        .await;
    let request = pb::DisableUserRequest { name: name() };
    let disable = world
        .client()
        .disable_user(world.people.request(by, request))
        .await;
    let request = pb::EnableUserRequest { name: name() };
    let enable = world
        .client()
        .enable_user(world.people.request(by, request))
        .await;
    let request = pb::DeleteUserRequest {
        name: name(),
        ..pb::DeleteUserRequest::default()
    };
    let delete = world
        .client()
        .delete_user(world.people.request(by, request))
        .await;
    [
        said(reset.map(drop)),
        said(update.map(drop)),
        said(disable.map(drop)),
        said(enable.map(drop)),
        said(delete.map(drop)),
    ]
}

#[tokio::test]
async fn nobody_changes_an_account_that_holds_more() {
    for world in worlds().await {
        for id in ["boss", "chief", "member", "ada"] {
            world.create(id).await;
        }
        let refused = ["ACCOUNT_HOLDS_MORE"; 5].map(str::to_owned);
        for more in ["boss", "member"] {
            let found = tried(&world, DESK, more).await;
            assert_eq!(found, refused, "{} {more}", world.database);
            assert!(world.can_log_in(more, PASSWORD).await, "{}", world.database);
        }
        let done = [""; 5].map(str::to_owned);
        assert_eq!(tried(&world, DESK, "ada").await, done, "{}", world.database);
    }
}

#[tokio::test]
async fn the_last_administrator_is_left_alone_by_others() {
    for world in worlds().await {
        for id in ["boss", "chief"] {
            world.create(id).await;
        }
        // Who may everything, but is no administrator.
        let disable = pb::DisableUserRequest {
            name: "users/chief".to_owned(),
        };
        let disabled = world.client().disable_user(world.admin(disable)).await;
        disabled.expect("another administrator can act");
        let last = |found: &String| found == "LAST_ADMINISTRATOR";
        let [reset, update, disable, enable, delete] = tried(&world, ADMIN, "boss").await;
        assert!(
            [reset, disable, delete].iter().all(last),
            "{}",
            world.database
        );
        assert_eq!([update, enable], ["", ""], "{}", world.database);
        assert!(
            world.can_log_in("boss", PASSWORD).await,
            "{}",
            world.database
        );
    }
}

#[tokio::test]
async fn administrators_cannot_disable_each_other_at_once() {
    for world in worlds().await {
        for id in ["boss", "chief"] {
            world.create(id).await;
        }
        let disable = |by: &'static str, on: &str| {
            let name = on.to_owned();
            let request = world.people.request(by, pb::DisableUserRequest { name });
            let mut client = world.client();
            async move { client.disable_user(request).await }
        };
        let (first, second) =
            tokio::join!(disable(BOSSES[0], BOSSES[1]), disable(BOSSES[1], BOSSES[0]));
        let done = [first, second]
            .iter()
            .filter(|answer| answer.is_ok())
            .count();
        assert_eq!(done, 1, "{}", world.database);
    }
}
