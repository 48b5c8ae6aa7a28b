//! The first administrator.

use tonic::Code;

use super::*;

#[tokio::test]
async fn the_set_up_token_makes_one_administrator_once() {
    for mut world in fresh_worlds(Config::default()).await {
        let token = world.token.clone().expect("there is no administrator");
        assert_eq!(format!("{token:?}"), "SetupToken(..)");
        let wrong = world
            .client()
            .setup(outside(setup_request("wrong", "root", PASSWORD)))
            .await;
        assert_eq!(
            reason(&wrong.unwrap_err()),
            "SETUP_TOKEN_INVALID",
            "{}",
            world.database
        );
        let weak = setup_request(token.as_str(), "root", "short");
        let weak = world.client().setup(outside(weak)).await.unwrap_err();
        assert_eq!(weak.code(), Code::InvalidArgument, "{weak:?}");
        assert_eq!(status::details(&weak).fields[0].field, "password");
        let answer = world.set_up().await;
        assert_eq!(answer.user, "users/root");
        let me = with_token(&answer.access_token, pb::WhoAmIRequest {});
        let me = world.client().who_am_i(me).await.unwrap().into_inner();
        assert_eq!(me.user, "users/root");
        assert_eq!(me.role_bindings[0].role, "roles/platform-admin");
        assert!(me.expire_time.is_some());
        let again = setup_request(token.as_str(), "other", PASSWORD);
        let again = world.client().setup(outside(again)).await.unwrap_err();
        assert_eq!(
            (again.code(), reason(&again).as_str()),
            (Code::FailedPrecondition, "ALREADY_SET_UP")
        );
        world.restart_auth().await;
        assert_eq!(world.token, None, "no token once there is an administrator");
    }
}

#[tokio::test]
async fn each_start_without_an_administrator_offers_a_new_token() {
    for mut world in fresh_worlds(Config::default()).await {
        let first = world.token.clone().unwrap();
        world.restart_auth().await;
        assert_ne!(world.token, Some(first.clone()), "{}", world.database);
        let old = setup_request(first.as_str(), "root", PASSWORD);
        assert!(
            world.client().setup(outside(old)).await.is_err(),
            "{}",
            world.database
        );
        world.set_up().await;
    }
}

#[tokio::test]
async fn an_interrupted_set_up_goes_on_with_the_same_user() {
    for mut world in fresh_worlds(Config::default()).await {
        // As if the process had died between the two modules.
        let first = users::CreateFirstUserRequest {
            user_id: "root".to_owned(),
            password: PASSWORD.to_owned(),
        };
        let auth = SpiffeId::module("auth").unwrap();
        UserServiceClient::new(world.users.in_memory(auth))
            .create_first_user(first)
            .await
            .unwrap();
        let token = world.token.clone().unwrap();
        let stranger = setup_request(token.as_str(), "root", "not the password at all");
        let refused = world.client().setup(outside(stranger)).await.unwrap_err();
        assert_eq!(reason(&refused), "BAD_CREDENTIALS", "{}", world.database);
        world.set_up().await;
    }
}

#[tokio::test]
async fn neither_token_nor_password_is_stored_or_recorded_in_clear() {
    for mut world in fresh_worlds(Config::default()).await {
        let token = world.token.clone().unwrap();
        let answer = world.set_up().await;
        let records: Vec<upm_proto::operatorlog::v1::Entry> = world
            .auth_store
            .store
            .read("look into the outbox", |conn| {
                use diesel::prelude::*;
                use prost::Message;
                #[derive(QueryableByName)]
                struct Row {
                    #[diesel(sql_type = diesel::sql_types::Binary)]
                    record: Vec<u8>,
                }
                let rows: Vec<Row> =
                    diesel::sql_query("SELECT record FROM upm_outbox").load(conn)?;
                Ok::<_, upm_store::Error>(
                    rows.iter()
                        .filter_map(|row| Message::decode(&row.record[..]).ok())
                        .collect(),
                )
            })
            .await
            .unwrap();
        let setup: Vec<_> = records
            .iter()
            .filter(|entry| entry.method.ends_with("/Setup"))
            .collect();
        assert_eq!(setup.len(), 1, "{}: {records:?}", world.database);
        assert_eq!(
            (setup[0].resource.as_str(), setup[0].code),
            ("users/root", 0)
        );
        assert_eq!(setup[0].source_address, "192.0.2.7");
        let all = format!("{records:?}");
        for secret in [
            token.as_str(),
            PASSWORD,
            &answer.access_token,
            &answer.refresh_token,
        ] {
            assert!(!all.contains(secret), "{}: {all}", world.database);
        }
    }
}

#[tokio::test]
async fn migrations_go_down_and_up_again() {
    for test in testing::stores("auth", || MIGRATIONS).await {
        testing::migrates_down_and_up(&test, || MIGRATIONS).await;
    }
}
