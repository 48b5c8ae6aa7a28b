//! A request that is sent twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use prost_types::Timestamp;

use super::{ITEMS, add};
use crate::request_id::{Key, fingerprint, once};
use crate::{Error, Store, testing};

const REQUEST: &str = "6f1f4f0e-7c3a-4f1a-9f6e-0d8c3b1a2c4d";

async fn send(
    store: &Store,
    principal: &'static str,
    request_id: &'static str,
    what: &str,
    done: &Arc<AtomicU32>,
) -> Result<i64, Error> {
    let print = fingerprint(&serde_json::json!({ "what": what }));
    let done = done.clone();
    let answer = store
        .transact("do it once", move |conn| {
            let key = Key {
                principal,
                method: "/test/Do",
                request_id,
            };
            once::<Timestamp, Error, _>(conn, key, &print, |conn| {
                let seconds = i64::from(done.fetch_add(1, Ordering::SeqCst));
                add(conn, &format!("made {}", crate::ids::uuid7()), seconds)?;
                Ok(Timestamp { seconds, nanos: 0 })
            })
        })
        .await?;
    Ok(answer.seconds)
}

#[tokio::test]
async fn gives_the_first_answer_again_and_does_it_once() {
    for test in testing::stores("once", || ITEMS).await {
        let done = Arc::new(AtomicU32::new(7));
        for _ in 0..3 {
            assert_eq!(
                send(&test.store, "users/a", REQUEST, "x", &done)
                    .await
                    .unwrap(),
                7
            );
        }
        assert_eq!(done.load(Ordering::SeqCst), 8, "{}", test.database);
        assert_eq!(
            send(&test.store, "users/b", REQUEST, "x", &done)
                .await
                .unwrap(),
            8
        );
        assert_eq!(
            send(&test.store, "users/a", "", "x", &done).await.unwrap(),
            9
        );
        assert_eq!(
            send(&test.store, "users/a", "", "x", &done).await.unwrap(),
            10
        );
    }
}

#[tokio::test]
async fn refuses_the_id_with_another_request() {
    for test in testing::stores("reused", || ITEMS).await {
        let done = Arc::default();
        send(&test.store, "users/a", REQUEST, "x", &done)
            .await
            .unwrap();
        let reused = send(&test.store, "users/a", REQUEST, "y", &done).await;
        assert!(
            matches!(reused, Err(Error::RequestIdReused)),
            "{}",
            test.database
        );
        let odd = send(&test.store, "users/a", "no uuid", "x", &done).await;
        assert!(matches!(odd, Err(Error::Field(_))), "{}", test.database);
    }
}

#[tokio::test]
async fn a_failed_request_may_be_sent_again() {
    for test in testing::stores("failed", || ITEMS).await {
        let failed: Result<Timestamp, Error> = test
            .store
            .transact("fail", |conn| {
                let key = Key {
                    principal: "users/a",
                    method: "/test/Do",
                    request_id: REQUEST,
                };
                once(
                    conn,
                    key,
                    &fingerprint(&serde_json::json!({ "what": "x" })),
                    |_| Err(Error::StaleEtag),
                )
            })
            .await;
        assert!(failed.is_err());
        let done = Arc::default();
        assert_eq!(
            send(&test.store, "users/a", REQUEST, "x", &done)
                .await
                .unwrap(),
            0
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_repetitions_do_it_once() {
    for test in testing::stores("concurrent", || ITEMS).await {
        let answers: Vec<_> = (0..8)
            .map(|_| {
                let (store, done) = (test.store.clone(), Arc::default());
                tokio::spawn(async move { send(&store, "users/a", REQUEST, "x", &done).await })
            })
            .collect();
        for answer in answers {
            assert_eq!(answer.await.unwrap().unwrap(), 0);
        }
        let made: i64 = test
            .store
            .read("count", |conn| {
                use diesel::prelude::*;
                Ok::<_, Error>(super::items::table.count().get_result(conn)?)
            })
            .await
            .unwrap();
        assert_eq!(made, 1, "{}", test.database);
    }
}
