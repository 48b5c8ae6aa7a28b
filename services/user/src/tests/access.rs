//! Disabling, enabling, and the stream that tells `auth`.

use std::time::Duration;

use tokio::time::timeout;
use tonic::Streaming;

use super::*;

async fn next(stream: &mut Streaming<pb::DisabledUsers>) -> (Vec<String>, Vec<String>) {
    let list = timeout(Duration::from_mins(2), stream.message())
        .await
        .expect("a list in time")
        .expect("no error")
        .expect("the stream goes on");
    (list.users, list.deleted_users)
}

#[tokio::test]
async fn a_disabled_user_cannot_log_in_until_enabled() {
    for world in worlds().await {
        world.create("ada").await;
        let name = "users/ada".to_owned();
        let disable = pb::DisableUserRequest { name: name.clone() };
        let user = world
            .client()
            .disable_user(world.admin(disable))
            .await
            .unwrap()
            .into_inner();
        assert!(
            user.disabled && !world.can_log_in("ada", PASSWORD).await,
            "{}",
            world.database
        );
        let enable = pb::EnableUserRequest { name };
        let user = world
            .client()
            .enable_user(world.admin(enable))
            .await
            .unwrap()
            .into_inner();
        assert!(
            !user.disabled && world.can_log_in("ada", PASSWORD).await,
            "{}",
            world.database
        );
    }
}

#[tokio::test]
async fn the_stream_begins_with_all_and_tells_each_change() {
    for world in worlds().await {
        for id in ["ada", "bob"] {
            world.create(id).await;
        }
        let (ada, bob) = ("users/ada".to_owned(), "users/bob".to_owned());
        let disable = pb::DisableUserRequest { name: ada.clone() };
        world
            .client()
            .disable_user(world.admin(disable))
            .await
            .unwrap();
        let watch = pb::WatchDisabledUsersRequest {};
        let mut stream = world
            .auth()
            .watch_disabled_users(watch)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            next(&mut stream).await,
            (vec![ada.clone()], vec![]),
            "{}",
            world.database
        );
        let delete = pb::DeleteUserRequest {
            name: bob.clone(),
            ..Default::default()
        };
        world
            .client()
            .delete_user(world.admin(delete))
            .await
            .unwrap();
        assert_eq!(
            next(&mut stream).await,
            (vec![ada.clone(), bob.clone()], vec![bob.clone()])
        );
        let enable = pb::EnableUserRequest { name: ada };
        world
            .client()
            .enable_user(world.admin(enable))
            .await
            .unwrap();
        assert_eq!(next(&mut stream).await, (vec![bob.clone()], vec![bob]));
        world.drain.begin();
        let end = timeout(Duration::from_mins(2), stream.message())
            .await
            .expect("it ends");
        assert_eq!(end.unwrap(), None, "{}", world.database);
    }
}

#[tokio::test]
async fn a_change_by_another_replica_reaches_the_stream() {
    for world in worlds().await {
        world.create("ada").await;
        let watch = pb::WatchDisabledUsersRequest {};
        let mut stream = world
            .auth()
            .watch_disabled_users(watch)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(next(&mut stream).await.0, Vec::<String>::new());
        let store = upm_store::Store::open(&world.test.url, "user", MIGRATIONS)
            .await
            .unwrap();
        let other = TestStoreOf(store);
        other.disable("ada").await;
        assert_eq!(
            next(&mut stream).await.0,
            ["users/ada"],
            "{}",
            world.database
        );
    }
}

struct TestStoreOf(upm_store::Store);

impl TestStoreOf {
    async fn disable(&self, id: &'static str) {
        self.0
            .transact("disable", move |conn| {
                let mut row = crate::model::find_locked(conn, id)?.expect("the user");
                row.disabled = true;
                Ok::<_, upm_store::Error>(crate::model::update(conn, &row)?)
            })
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn migrations_go_down_and_up_again() {
    for test in testing::stores("user", || MIGRATIONS).await {
        testing::migrates_down_and_up(&test, || MIGRATIONS).await;
    }
}
