//! Passwords through the API.

use tonic::Code;

use super::*;

const NEW: &str = "another long password";

#[tokio::test]
async fn verifies_the_right_password_and_tells_nothing_about_wrong_ones() {
    for world in worlds().await {
        world.create("ada").await;
        assert!(
            world.can_log_in("ada", PASSWORD).await,
            "{}",
            world.database
        );
        assert!(!world.can_log_in("ada", "wrong").await);
        assert!(!world.can_log_in("nobody", PASSWORD).await);
        assert!(!world.can_log_in("", "").await);
        let request = pb::CreateUserRequest {
            user_id: "robot".to_owned(),
            ..Default::default()
        };
        world
            .client()
            .create_user(world.admin(request))
            .await
            .unwrap();
        assert!(
            !world.can_log_in("robot", "").await,
            "a user without a password cannot log in"
        );
    }
}

#[tokio::test]
async fn only_modules_verify_passwords() {
    for world in worlds().await {
        world.create("ada").await;
        let request = pb::VerifyPasswordRequest {
            user_id: "ada".to_owned(),
            password: PASSWORD.to_owned(),
        };
        // The gateway passes a call on for somebody outside.
        let mut outside = world.admin(request);
        outside
            .metadata_mut()
            .insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        let refused = world.client().verify_password(outside).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{}", world.database);
    }
}

#[tokio::test]
async fn a_user_changes_only_their_own_password_and_must_know_the_old_one() {
    for world in worlds().await {
        world.create("ada").await;
        world.create("bob").await;
        let change = |name: &str, old: &str, new: &str| {
            let request = pb::ChangePasswordRequest {
                name: name.to_owned(),
                old_password: old.to_owned(),
                new_password: new.to_owned(),
            };
            world.people.request("users/ada", request)
        };
        let mut client = world.client();
        let other = client
            .change_password(change("users/bob", PASSWORD, NEW))
            .await
            .unwrap_err();
        assert_eq!(reason(&other), "NOT_OWN_USER", "{}", world.database);
        let wrong = client
            .change_password(change("users/ada", "wrong", NEW))
            .await
            .unwrap_err();
        assert_eq!(reason(&wrong), "BAD_CREDENTIALS");
        let short = client
            .change_password(change("users/ada", PASSWORD, "short"))
            .await
            .unwrap_err();
        assert_eq!(status::details(&short).fields[0].field, "new_password");
        client
            .change_password(change("users/me", PASSWORD, NEW))
            .await
            .unwrap();
        assert!(world.can_log_in("ada", NEW).await && !world.can_log_in("ada", PASSWORD).await);
        assert!(world.can_log_in("bob", PASSWORD).await);
    }
}

#[tokio::test]
async fn guessing_the_old_password_with_a_token_is_throttled() {
    for world in worlds().await {
        world.create("ada").await;
        let guess = |old: &str| {
            let request = pb::ChangePasswordRequest {
                name: "users/me".to_owned(),
                old_password: old.to_owned(),
                new_password: NEW.to_owned(),
            };
            world.people.request("users/ada", request)
        };
        for _ in 0..10 {
            let refused = world
                .client()
                .change_password(guess("wrong"))
                .await
                .unwrap_err();
            assert_eq!(reason(&refused), "BAD_CREDENTIALS", "{}", world.database);
        }
        let refused = world
            .client()
            .change_password(guess(PASSWORD))
            .await
            .unwrap_err();
        assert_eq!(
            refused.code(),
            Code::ResourceExhausted,
            "{}",
            world.database
        );
        assert!(status::details(&refused).retry_after.is_some());
    }
}

#[tokio::test]
async fn an_administrator_sets_another_password() {
    for world in worlds().await {
        let before = world.create("ada").await;
        let request = pb::ResetPasswordRequest {
            name: before.name.clone(),
            new_password: NEW.to_owned(),
        };
        world
            .client()
            .reset_password(world.admin(request))
            .await
            .unwrap();
        assert!(world.can_log_in("ada", NEW).await && !world.can_log_in("ada", PASSWORD).await);
        let get = pb::GetUserRequest { name: before.name };
        let after = world
            .client()
            .get_user(world.admin(get))
            .await
            .unwrap()
            .into_inner();
        let micros = |user: Option<prost_types::Timestamp>| {
            user.map(|time| upm_store::time::from_timestamp(&time))
                .unwrap()
        };
        let (old, new) = (
            micros(before.password_change_time),
            micros(after.password_change_time),
        );
        assert!(old < new, "{}", world.database);
    }
}

#[tokio::test]
async fn the_first_user_is_made_once_and_an_interrupted_set_up_goes_on() {
    for world in worlds().await {
        let first = |id: &str, password: &str| pb::CreateFirstUserRequest {
            user_id: id.to_owned(),
            password: password.to_owned(),
        };
        let short = world
            .auth()
            .create_first_user(first("root", ""))
            .await
            .unwrap_err();
        assert_eq!(short.code(), Code::InvalidArgument, "{}", world.database);
        let made = world
            .auth()
            .create_first_user(first("root", PASSWORD))
            .await
            .unwrap()
            .into_inner();
        let again = world
            .auth()
            .create_first_user(first("root", PASSWORD))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(made, again);
        for (id, password) in [("root", NEW), ("other", PASSWORD)] {
            let refused = world
                .auth()
                .create_first_user(first(id, password))
                .await
                .unwrap_err();
            assert_eq!(reason(&refused), "USERS_EXIST");
        }
        world.create("ada").await;
        let refused = world
            .auth()
            .create_first_user(first("root", PASSWORD))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
    }
}
