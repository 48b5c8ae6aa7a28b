//! Creating, reading, listing, changing, deleting.

use std::collections::{BTreeSet, HashMap};

use prost_types::FieldMask;
use tonic::Code;

use super::*;

fn get(name: &str) -> pb::GetUserRequest {
    pb::GetUserRequest {
        name: name.to_owned(),
    }
}

#[tokio::test]
async fn a_created_user_can_be_read_by_name_and_as_me() {
    for world in worlds().await {
        let request = pb::CreateUserRequest {
            user_id: "ada".to_owned(),
            user: Some(pb::User {
                display_name: "Ada".to_owned(),
                email: "ada@example.org".to_owned(),
                labels: HashMap::from([("team".to_owned(), "db".to_owned())]),
                ..pb::User::default()
            }),
            password: PASSWORD.to_owned(),
            request_id: String::new(),
        };
        let made = world
            .client()
            .create_user(world.admin(request))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(made.name, "users/ada");
        assert!(!made.uid.is_empty() && !made.etag.is_empty() && !made.disabled);
        assert!(made.create_time.is_some() && made.password_change_time.is_some());
        let read = world
            .client()
            .get_user(world.people.request(READER, get("users/ada")))
            .await;
        assert_eq!(read.unwrap().into_inner(), made, "{}", world.database);
        world.create("reader").await;
        let me = world
            .client()
            .get_user(world.people.request(READER, get("users/me")))
            .await;
        assert_eq!(me.unwrap().into_inner().name, READER, "{}", world.database);
        let nobody = world
            .client()
            .get_user(world.admin(get("users/nobody")))
            .await
            .unwrap_err();
        assert_eq!(
            (nobody.code(), reason(&nobody).as_str()),
            (Code::NotFound, "USER_NOT_FOUND")
        );
    }
}

#[tokio::test]
async fn the_same_request_id_makes_one_user_and_a_second_user_with_the_id_is_refused() {
    for world in worlds().await {
        let request = pb::CreateUserRequest {
            user_id: "ada".to_owned(),
            password: PASSWORD.to_owned(),
            request_id: "0190a5d2-7c3a-7f1a-9f6e-0d8c3b1a2c4d".to_owned(),
            ..pb::CreateUserRequest::default()
        };
        let mut client = world.client();
        let first = client
            .create_user(world.admin(request.clone()))
            .await
            .unwrap()
            .into_inner();
        let again = client
            .create_user(world.admin(request.clone()))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(first, again, "{}", world.database);
        let other = pb::CreateUserRequest {
            user_id: "bob".to_owned(),
            ..request.clone()
        };
        let reused = client.create_user(world.admin(other)).await.unwrap_err();
        assert_eq!(reason(&reused), "REQUEST_ID_REUSED", "{}", world.database);
        let taken = pb::CreateUserRequest {
            request_id: String::new(),
            ..request
        };
        let taken = client.create_user(world.admin(taken)).await.unwrap_err();
        assert_eq!(
            (taken.code(), reason(&taken).as_str()),
            (Code::AlreadyExists, "USER_EXISTS")
        );
    }
}

#[tokio::test]
async fn wrong_fields_are_named_and_nothing_is_made() {
    for world in worlds().await {
        let request = pb::CreateUserRequest {
            user_id: "Ada".to_owned(),
            password: "short".to_owned(),
            ..pb::CreateUserRequest::default()
        };
        let refused = world
            .client()
            .create_user(world.admin(request))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let fields: BTreeSet<String> = status::details(&refused)
            .fields
            .into_iter()
            .map(|field| field.field)
            .collect();
        assert_eq!(
            fields,
            BTreeSet::from(["password".to_owned(), "user_id".to_owned()])
        );
        let list = world
            .client()
            .list_users(world.admin(pb::ListUsersRequest::default()))
            .await;
        assert!(
            list.unwrap().into_inner().users.is_empty(),
            "{}",
            world.database
        );
    }
}

#[tokio::test]
async fn lists_page_by_page_and_by_filter() {
    for world in worlds().await {
        for n in 0..5 {
            let request = pb::CreateUserRequest {
                user_id: format!("user-{n}"),
                user: Some(pb::User {
                    labels: if n == 4 {
                        HashMap::new()
                    } else {
                        HashMap::from([("team".to_owned(), ["db", "web"][n % 2].to_owned())])
                    },
                    ..pb::User::default()
                }),
                ..pb::CreateUserRequest::default()
            };
            world
                .client()
                .create_user(world.admin(request))
                .await
                .unwrap();
        }
        let disable = pb::DisableUserRequest {
            name: "users/user-2".to_owned(),
        };
        world
            .client()
            .disable_user(world.admin(disable))
            .await
            .unwrap();
        let list = async |filter: &str, page_size: i32| {
            let (mut names, mut pages) = (Vec::new(), 0);
            let mut request = pb::ListUsersRequest {
                filter: filter.to_owned(),
                page_size,
                ..pb::ListUsersRequest::default()
            };
            loop {
                let page = world
                    .client()
                    .list_users(world.admin(request.clone()))
                    .await?
                    .into_inner();
                names.extend(
                    page.users
                        .into_iter()
                        .map(|user| user.name.replace("users/user-", "")),
                );
                pages += 1;
                if page.next_page_token.is_empty() {
                    return Ok::<_, Status>((names.join(" "), pages));
                }
                request.page_token = page.next_page_token;
            }
        };
        assert_eq!(
            list("", 0).await.unwrap(),
            ("0 1 2 3 4".to_owned(), 1),
            "{}",
            world.database
        );
        assert_eq!(list("", 2).await.unwrap(), ("0 1 2 3 4".to_owned(), 3));
        assert_eq!(list("disabled=true", 0).await.unwrap().0, "2");
        assert_eq!(list("disabled!=true", 2).await.unwrap().0, "0 1 3 4");
        assert_eq!(
            list("labels.team=db", 1).await.unwrap(),
            ("0 2".to_owned(), 2)
        );
        assert_eq!(list("labels.team!=db", 0).await.unwrap().0, "1 3 4");
        assert_eq!(list("labels.team:*", 0).await.unwrap().0, "0 1 2 3");
        assert_eq!(
            list("labels.team=db AND disabled=false", 0)
                .await
                .unwrap()
                .0,
            "0"
        );
        let refused = list("email=x", 0).await.unwrap_err();
        assert_eq!(reason(&refused), "FILTER_INVALID");
    }
}

#[tokio::test]
async fn an_update_changes_the_masked_fields_and_refuses_a_stale_etag() {
    for world in worlds().await {
        let made = world.create("ada").await;
        let update = |user: pb::User, paths: &[&str]| pb::UpdateUserRequest {
            user: Some(pb::User {
                name: "users/ada".to_owned(),
                ..user
            }),
            update_mask: Some(FieldMask {
                paths: paths.iter().map(|&path| path.to_owned()).collect(),
            }),
        };
        let change = pb::User {
            display_name: "Ada".to_owned(),
            email: "ignored@example.org".to_owned(),
            etag: made.etag.clone(),
            ..pb::User::default()
        };
        let request = world.admin(update(change.clone(), &["display_name"]));
        let changed = world
            .client()
            .update_user(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (changed.display_name.as_str(), changed.email.as_str()),
            ("Ada", "")
        );
        assert_ne!(changed.etag, made.etag, "{}", world.database);
        assert_eq!(changed.uid, made.uid);
        let stale = world
            .client()
            .update_user(world.admin(update(change.clone(), &["email"])))
            .await;
        let stale = stale.unwrap_err();
        assert_eq!(
            (stale.code(), reason(&stale).as_str()),
            (Code::Aborted, "STALE_ETAG")
        );
        let uid = pb::User {
            etag: String::new(),
            ..change
        };
        let refused = world
            .client()
            .update_user(world.admin(update(uid, &["nothing"])))
            .await
            .unwrap_err();
        assert_eq!(status::details(&refused).fields[0].field, "update_mask");
    }
}

#[tokio::test]
async fn nobody_deletes_or_disables_themselves_and_a_deleted_id_rests() {
    for world in worlds().await {
        world.create("root").await;
        let made = world.create("ada").await;
        let delete = |name: &str, etag: &str, allow_missing| pb::DeleteUserRequest {
            name: name.to_owned(),
            etag: etag.to_owned(),
            allow_missing,
        };
        for own in ["users/root", "users/me"] {
            let refused = world
                .client()
                .delete_user(world.admin(delete(own, "", false)))
                .await;
            assert_eq!(
                reason(&refused.unwrap_err()),
                "OWN_USER",
                "{}",
                world.database
            );
        }
        let disable = pb::DisableUserRequest {
            name: "users/me".to_owned(),
        };
        let refused = world
            .client()
            .disable_user(world.admin(disable))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let stale = world
            .client()
            .delete_user(world.admin(delete("users/ada", "old", false)))
            .await;
        assert_eq!(reason(&stale.unwrap_err()), "STALE_ETAG");
        let request = world.admin(delete("users/ada", &made.etag, false));
        world.client().delete_user(request).await.unwrap();
        let gone = world
            .client()
            .delete_user(world.admin(delete("users/ada", "", false)))
            .await;
        assert_eq!(gone.unwrap_err().code(), Code::NotFound);
        world
            .client()
            .delete_user(world.admin(delete("users/ada", "", true)))
            .await
            .unwrap();
        let again = pb::CreateUserRequest {
            user_id: "ada".to_owned(),
            ..Default::default()
        };
        let refused = world
            .client()
            .create_user(world.admin(again))
            .await
            .unwrap_err();
        assert_eq!(
            reason(&refused),
            "USER_ID_RECENTLY_DELETED",
            "{}",
            world.database
        );
        assert!(status::details(&refused).retry_after.is_some());
    }
}

#[tokio::test]
async fn who_has_no_permission_changes_nothing() {
    for world in worlds().await {
        world.create("ada").await;
        let request = pb::ResetPasswordRequest {
            name: "users/ada".to_owned(),
            new_password: "another long password".to_owned(),
        };
        let refused = world
            .client()
            .reset_password(world.people.request(READER, request))
            .await;
        assert_eq!(
            refused.unwrap_err().code(),
            Code::PermissionDenied,
            "{}",
            world.database
        );
        assert!(
            world.can_log_in("ada", PASSWORD).await,
            "{}",
            world.database
        );
    }
}

#[tokio::test]
async fn each_change_leaves_its_record_without_the_password() {
    use prost::Message;
    use upm_proto::operatorlog::v1::Entry;
    for world in worlds().await {
        world.create("ada").await;
        let records: Vec<Entry> = world
            .test
            .store
            .read("look into the outbox", |conn| {
                use diesel::prelude::*;
                #[derive(QueryableByName)]
                struct Row {
                    #[diesel(sql_type = diesel::sql_types::Binary)]
                    record: Vec<u8>,
                }
                let rows: Vec<Row> =
                    diesel::sql_query("SELECT record FROM upm_outbox").load(conn)?;
                Ok::<_, upm_store::Error>(
                    rows.iter()
                        .filter_map(|row| Entry::decode(&row.record[..]).ok())
                        .collect(),
                )
            })
            .await
            .unwrap();
        assert_eq!(records.len(), 1, "{}", world.database);
        let record = &records[0];
        assert_eq!(
            (record.principal.as_str(), record.resource.as_str()),
            (ADMIN, "users/ada")
        );
        assert_eq!(record.method, "/upm.user.v1.UserService/CreateUser");
        assert!(!format!("{record:?}").contains(PASSWORD), "{record:?}");
    }
}
