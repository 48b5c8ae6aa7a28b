//! Logging in, refreshing, logging out, keys.

use tonic::Code;

use super::*;

#[tokio::test]
async fn a_login_gives_a_token_that_the_policy_accepts() {
    for world in worlds().await {
        let seconds = || upm_store::time::now_us() / 1_000_000;
        let asked = seconds();
        let tokens = world.login("root", PASSWORD).await.unwrap();
        let lives = asked + 290..=seconds() + 300;
        assert_eq!(
            world.verifier.verify(&tokens.access_token).unwrap().user,
            "users/root"
        );
        let end = tokens.expire_time.unwrap().seconds;
        assert!(lives.contains(&end), "{}: {end} {lives:?}", world.database);
        for (id, password) in [("root", "wrong"), ("nobody", PASSWORD), ("", "")] {
            let refused = world.login(id, password).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated);
            assert_eq!(reason(&refused), "BAD_CREDENTIALS", "{}", world.database);
        }
    }
}

#[tokio::test]
async fn guessing_is_throttled_with_a_time_to_come_back() {
    // The lockout does not end before the test does.
    let config = Config {
        lockout_seconds: 600,
        ..Config::default()
    };
    for mut world in fresh_worlds(config).await {
        world.set_up().await;
        for _ in 0..5 {
            assert_eq!(
                reason(&world.login("root", "wrong").await.unwrap_err()),
                "BAD_CREDENTIALS"
            );
        }
        let refused = world.login("root", PASSWORD).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Code::ResourceExhausted,
            "{}",
            world.database
        );
        assert_eq!(reason(&refused), "LOGIN_THROTTLED");
        let wait = status::details(&refused).retry_after.expect("RetryInfo");
        assert!(wait <= Duration::from_secs(world.config.lockout_seconds));
        let request = pb::LoginRequest {
            user_id: "root".to_owned(),
            password: PASSWORD.to_owned(),
        };
        let mut elsewhere = outside(request);
        elsewhere
            .metadata_mut()
            .insert("x-forwarded-for", "192.0.2.8".parse().unwrap());
        assert!(
            world.client().login(elsewhere).await.is_ok(),
            "another address is not locked out"
        );
    }
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_its_reuse_ends_the_family() {
    for world in worlds().await {
        let first = world.login("root", PASSWORD).await.unwrap();
        let other = world.login("root", PASSWORD).await.unwrap();
        let second = world.refresh(&first.refresh_token).await.unwrap();
        assert_ne!(second.refresh_token, first.refresh_token);
        assert!(world.verifier.verify(&second.access_token).is_ok());
        let third = world.refresh(&second.refresh_token).await.unwrap();
        let reused = world.refresh(&first.refresh_token).await.unwrap_err();
        assert_eq!(
            reason(&reused),
            "REFRESH_TOKEN_INVALID",
            "{}",
            world.database
        );
        let ended = world.refresh(&third.refresh_token).await.unwrap_err();
        assert_eq!(
            reason(&ended),
            "REFRESH_TOKEN_INVALID",
            "the newest one has ended, too"
        );
        assert!(
            world.refresh(&other.refresh_token).await.is_ok(),
            "another login goes on"
        );
        assert!(world.refresh("made up").await.is_err());
    }
}

#[tokio::test]
async fn two_refreshes_at_once_get_one_answer() {
    for world in worlds().await {
        let tokens = world.login("root", PASSWORD).await.unwrap();
        let (a, b) = tokio::join!(
            world.refresh(&tokens.refresh_token),
            world.refresh(&tokens.refresh_token)
        );
        let (a, b) = (a.expect("the first"), b.expect("the second"));
        assert_eq!(a.refresh_token, b.refresh_token, "{}", world.database);
        // A lost answer is asked for again.
        let again = world.refresh(&tokens.refresh_token).await.unwrap();
        assert_eq!(again.refresh_token, a.refresh_token);
        assert!(world.refresh(&a.refresh_token).await.is_ok());
    }
}

#[tokio::test]
async fn a_used_refresh_token_from_elsewhere_ends_the_session() {
    for world in worlds().await {
        let tokens = world.login("root", PASSWORD).await.unwrap();
        let next = world.refresh(&tokens.refresh_token).await.unwrap();
        let mut elsewhere = Request::new(pb::RefreshRequest {
            refresh_token: tokens.refresh_token.clone(),
        });
        elsewhere
            .metadata_mut()
            .insert("x-forwarded-for", "198.51.100.9".parse().unwrap());
        let refused = world.client().refresh(elsewhere).await.unwrap_err();
        assert_eq!(
            reason(&refused),
            "REFRESH_TOKEN_INVALID",
            "{}",
            world.database
        );
        assert!(
            world.refresh(&next.refresh_token).await.is_err(),
            "the family has ended"
        );
        let records = world.records().await;
        let reuse = records
            .iter()
            .find(|entry| entry.method.ends_with("reuse-refresh-token"))
            .expect("a record of the reuse");
        assert_eq!(reuse.resource, "users/root", "{}", world.database);
        assert!(reuse.diff.contains("session"), "{}", reuse.diff);
    }
}

#[tokio::test]
async fn a_flood_of_failed_logins_hinders_nobody_and_fills_no_log() {
    for world in worlds().await {
        let before = world.records().await.len();
        for n in 0..200 {
            let guess = pb::LoginRequest {
                user_id: format!("guess-{n}"),
                password: "x".repeat(4096),
            };
            let refused = world.client().login(outside(guess)).await.unwrap_err();
            assert_eq!(reason(&refused), "BAD_CREDENTIALS", "{}", world.database);
        }
        world.auth.recorded().await;
        let records = world.records().await;
        assert!(
            records.len() - before < 20,
            "{}: {}",
            world.database,
            records.len()
        );
        let counted = records.iter().find(|entry| entry.reason == "AGGREGATED");
        let counted = counted.expect("what was not recorded is counted");
        assert!(counted.diff.contains("192.0.2.7"), "{}", counted.diff);
        let longest = records.iter().map(|entry| entry.request.len()).max();
        assert!(
            longest.is_some_and(|longest| longest <= 1024),
            "{longest:?}"
        );
        let mut other = Request::new(pb::LoginRequest {
            user_id: "root".to_owned(),
            password: PASSWORD.to_owned(),
        });
        other
            .metadata_mut()
            .insert("x-forwarded-for", "198.51.100.9".parse().unwrap());
        assert!(
            world.client().login(other).await.is_ok(),
            "{}",
            world.database
        );
    }
}

#[tokio::test]
async fn a_stranger_sends_no_long_request() {
    for world in worlds().await {
        let request = pb::LoginRequest {
            user_id: "root".to_owned(),
            password: "x".repeat(100_000),
        };
        let refused = world.client().login(outside(request)).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Code::ResourceExhausted,
            "{}",
            world.database
        );
        assert!(world.login("root", PASSWORD).await.is_ok());
    }
}

#[tokio::test]
async fn an_id_with_a_space_is_nobodys() {
    for world in worlds().await {
        for id in ["root ", " root", "Root", "root\0", ""] {
            let refused = world.login(id, PASSWORD).await.unwrap_err();
            assert_eq!(
                reason(&refused),
                "BAD_CREDENTIALS",
                "{} {id:?}",
                world.database
            );
        }
    }
}

#[tokio::test]
async fn logging_out_ends_the_family_and_can_be_repeated() {
    for world in worlds().await {
        let tokens = world.login("root", PASSWORD).await.unwrap();
        let next = world.refresh(&tokens.refresh_token).await.unwrap();
        for _ in 0..2 {
            let request = pb::LogoutRequest {
                refresh_token: next.refresh_token.clone(),
            };
            world.client().logout(outside(request)).await.unwrap();
        }
        assert!(
            world.refresh(&next.refresh_token).await.is_err(),
            "{}",
            world.database
        );
    }
}

#[tokio::test]
async fn a_new_password_ends_the_logins_with_the_old_one() {
    for world in worlds().await {
        world.create_user("ada").await;
        let before = world.login("ada", PASSWORD).await.unwrap();
        let new = "a very different password";
        let request = users::ResetPasswordRequest {
            name: "users/ada".to_owned(),
            new_password: new.to_owned(),
        };
        world
            .users()
            .reset_password(world.root(request).await)
            .await
            .unwrap();
        let refused = world.refresh(&before.refresh_token).await.unwrap_err();
        assert_eq!(
            reason(&refused),
            "REFRESH_TOKEN_INVALID",
            "{}",
            world.database
        );
        let after = world.login("ada", new).await.unwrap();
        assert!(
            world.refresh(&after.refresh_token).await.is_ok(),
            "{}",
            world.database
        );
    }
}

#[tokio::test]
async fn a_disabled_user_is_out_within_moments_and_a_deleted_one_loses_roles() {
    for world in worlds().await {
        world.create_user("ada").await;
        world.bind("users/ada", "roles/platform-viewer", "").await;
        let tokens = world.login("ada", PASSWORD).await.unwrap();
        world
            .until(|| world.verifier.may("users/ada", "redis.services.get", None))
            .await;
        let disable = users::DisableUserRequest {
            name: "users/ada".to_owned(),
        };
        world
            .users()
            .disable_user(world.root(disable).await)
            .await
            .unwrap();
        world
            .until(|| world.verifier.verify(&tokens.access_token).is_err())
            .await;
        assert!(
            world.refresh(&tokens.refresh_token).await.is_err(),
            "{}",
            world.database
        );
        assert!(
            world.login("ada", PASSWORD).await.is_err(),
            "{}",
            world.database
        );
        let delete = users::DeleteUserRequest {
            name: "users/ada".to_owned(),
            ..Default::default()
        };
        world
            .users()
            .delete_user(world.root(delete).await)
            .await
            .unwrap();
        let bindings = async || {
            let request = pb::ListRoleBindingsRequest {
                user: "users/ada".to_owned(),
                ..Default::default()
            };
            let list = world
                .roles()
                .list_role_bindings(world.root(request).await)
                .await
                .unwrap();
            list.into_inner().role_bindings.len()
        };
        let gone = async {
            while bindings().await != 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_mins(2), gone)
            .await
            .expect("the bindings go");
    }
}

#[tokio::test]
async fn says_so_when_module_user_is_away() {
    for world in worlds().await {
        let tokens = world.login("root", PASSWORD).await.unwrap();
        let nowhere = Peers::new();
        world.peers.insert("user", nowhere.channel("user"));
        let refused = world.login("root", PASSWORD).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{}", world.database);
        let refused = world.refresh(&tokens.refresh_token).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{}", world.database);
        world.peers.insert(
            "user",
            world.users.in_memory(SpiffeId::module("auth").unwrap()),
        );
        assert!(
            world.refresh(&tokens.refresh_token).await.is_ok(),
            "the token was not used up"
        );
    }
}

#[tokio::test]
async fn tokens_of_one_replica_are_good_at_another_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        key_file: Some(folder.path().join("key")),
        ..Config::default()
    };
    for mut world in fresh_worlds(config).await {
        world.set_up().await;
        let before = world.login("root", PASSWORD).await.unwrap();
        world.restart_auth().await;
        let after = world.login("root", PASSWORD).await.unwrap();
        for tokens in [before, after] {
            assert!(
                world.verifier.verify(&tokens.access_token).is_ok(),
                "{}",
                world.database
            );
        }
        let jwks = world
            .client()
            .get_jwks(outside(pb::GetJwksRequest {}))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(jwks.keys.len(), 1, "a restart makes no key");
        assert_eq!(
            (jwks.keys[0].crv.as_str(), jwks.keys[0].x.len()),
            ("P-256", 43)
        );
        let sealed = world
            .auth_store
            .store
            .read("look at the keys", |conn| {
                Ok::<_, crate::Error>(crate::model::keys::all(conn)?)
            })
            .await
            .unwrap();
        assert!(sealed.iter().all(|key| key.sealed), "{}", world.database);
    }
}

#[tokio::test]
async fn a_key_file_that_is_set_later_seals_the_keys_that_are_there() {
    let folder = tempfile::tempdir().unwrap();
    for mut world in fresh_worlds(Config::default()).await {
        world.set_up().await;
        let before = world.login("root", PASSWORD).await.unwrap();
        world.config.key_file = Some(folder.path().join(world.database));
        world.restart_auth().await;
        assert!(world.verifier.verify(&before.access_token).is_ok());
        let after = world.login("root", PASSWORD).await.unwrap();
        assert!(world.verifier.verify(&after.access_token).is_ok());
        let rows = world
            .auth_store
            .store
            .read("look at the keys", |conn| {
                Ok::<_, crate::Error>(crate::model::keys::all(conn)?)
            })
            .await
            .unwrap();
        assert_eq!(rows.len(), 1, "{}: the key stays", world.database);
        assert!(rows[0].sealed, "{}", world.database);
        let parses = rcgen::KeyPair::try_from(rows[0].private_key.as_slice());
        assert!(parses.is_err(), "{}: it lies in clear", world.database);
    }
}
