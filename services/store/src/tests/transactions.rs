//! `Store::open`, `transact` and `read`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use diesel::prelude::*;
use diesel::result::Error as QueryError;
use tokio::sync::Barrier;

use super::{ITEMS, add, items, size};
use crate::{Error, Migrations, Store, lock, testing};

#[tokio::test]
async fn keeps_what_is_committed_and_nothing_of_what_fails() {
    for test in testing::stores("keeps", || ITEMS).await {
        let store = &test.store;
        store
            .transact("add", |conn| add(conn, "kept", 1))
            .await
            .unwrap();
        let failed: Result<(), Error> = store
            .transact("fail", |conn| {
                add(conn, "lost", 1)?;
                Err(Error::StaleEtag)
            })
            .await;
        assert!(matches!(failed, Err(Error::StaleEtag)), "{}", test.database);
        let again = Store::open(&test.url, "keeps", ITEMS).await.unwrap();
        let found = again
            .read("look", |conn| {
                Ok::<_, Error>((size(conn, "kept")?, size(conn, "lost")?))
            })
            .await
            .unwrap();
        assert_eq!(found, (Some(1), None), "{}", test.database);
    }
}

#[tokio::test]
async fn migrations_go_down_and_up_again() {
    for test in testing::stores("down", || ITEMS).await {
        testing::migrates_down_and_up(&test, || ITEMS).await;
    }
}

#[tokio::test]
async fn a_panic_commits_nothing_and_leaves_the_store_usable() {
    for test in testing::stores("panics", || ITEMS).await {
        let panicked: Result<(), Error> = test
            .store
            .transact("panic", |conn| {
                add(conn, "lost", 1)?;
                panic!("on purpose")
            })
            .await;
        assert!(
            matches!(panicked, Err(Error::Panicked { .. })),
            "{}",
            test.database
        );
        let found = test
            .store
            .transact("look", |conn| size(conn, "lost"))
            .await
            .unwrap();
        assert_eq!(found, None, "{}", test.database);
    }
}

#[tokio::test]
async fn a_read_cannot_write() {
    for test in testing::stores("reads", || ITEMS).await {
        let written = test.store.read("write", |conn| add(conn, "no", 1)).await;
        assert!(written.is_err(), "{}", test.database);
    }
}

#[tokio::test]
async fn keys_are_compared_byte_by_byte() {
    for test in testing::stores("bytes", || ITEMS).await {
        let found: i64 = test
            .store
            .transact("add", |conn| {
                for id in ["a", "A", "ä", "🦀"] {
                    add(conn, id, 1)?;
                }
                Ok::<_, Error>(items::table.count().get_result(conn)?)
            })
            .await
            .unwrap();
        assert_eq!(found, 4, "{}", test.database);
    }
}

#[tokio::test]
async fn an_update_that_changes_nothing_still_counts_its_rows() {
    for test in testing::stores("counts", || ITEMS).await {
        let rows = test
            .store
            .transact("update", |conn| {
                add(conn, "same", 1)?;
                Ok::<_, Error>(
                    diesel::update(items::table.find("same"))
                        .set(items::size.eq(1))
                        .execute(conn)?,
                )
            })
            .await
            .unwrap();
        assert_eq!(rows, 1, "{}", test.database);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locked_counting_loses_no_step() {
    for test in testing::stores("counting", || ITEMS).await {
        test.store
            .transact("add", |conn| add(conn, "n", 0))
            .await
            .unwrap();
        let steps: Vec<_> = (0..40)
            .map(|_| {
                let store = test.store.clone();
                tokio::spawn(async move {
                    store
                        .transact("count", |conn| {
                            lock::row(conn, "items", "id", "n")?;
                            let now = size(conn, "n")?.unwrap_or_default();
                            diesel::update(items::table.find("n"))
                                .set(items::size.eq(now + 1))
                                .execute(conn)?;
                            Ok::<_, Error>(())
                        })
                        .await
                })
            })
            .collect();
        for step in steps {
            step.await.unwrap().unwrap();
        }
        let n = test
            .store
            .read("look", |conn| size(conn, "n"))
            .await
            .unwrap();
        assert_eq!(n, Some(40), "{}", test.database);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_lock_keeps_a_decision_over_many_rows_true() {
    for test in testing::stores("named", || ITEMS).await {
        // Everybody adds one only if there is none.
        let tries: Vec<_> = (0..12)
            .map(|n| {
                let store = test.store.clone();
                tokio::spawn(async move {
                    store
                        .transact("add the only one", move |conn| {
                            lock::name(conn, "the only one")?;
                            if items::table.count().get_result::<i64>(conn)? == 0 {
                                add(conn, &format!("by {n}"), 1)?;
                            }
                            Ok::<_, Error>(())
                        })
                        .await
                })
            })
            .collect();
        for tried in tries {
            tried.await.unwrap().unwrap();
        }
        let found: i64 = test
            .store
            .read("count", |conn| {
                Ok::<_, Error>(items::table.count().get_result(conn)?)
            })
            .await
            .unwrap();
        assert_eq!(found, 1, "{}", test.database);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loser_of_a_deadlock_is_run_again() {
    let test = testing::mariadb("deadlock", ITEMS).await;
    test.store
        .transact("add", |conn| {
            add(conn, "a", 0)?;
            add(conn, "b", 0)
        })
        .await
        .unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let both = Arc::new(std::sync::Barrier::new(2));
    let tasks: Vec<_> = [("a", "b"), ("b", "a")]
        .into_iter()
        .map(|(first, second)| {
            let (store, runs, both) = (test.store.clone(), runs.clone(), both.clone());
            tokio::spawn(async move {
                let mut met = false;
                store
                    .transact("cross", move |conn| {
                        runs.fetch_add(1, Ordering::Relaxed);
                        lock::row(conn, "items", "id", first)?;
                        if !std::mem::replace(&mut met, true) {
                            both.wait();
                        }
                        lock::row(conn, "items", "id", second)?;
                        for id in [first, second] {
                            diesel::update(items::table.find(id))
                                .set(items::size.eq(items::size + 1))
                                .execute(conn)?;
                        }
                        Ok::<_, Error>(())
                    })
                    .await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(
        3 <= runs.load(Ordering::Relaxed),
        "one of the two was run again"
    );
    let sizes = test
        .store
        .read("look", |conn| {
            Ok::<_, Error>((size(conn, "a")?, size(conn, "b")?))
        })
        .await
        .unwrap();
    assert_eq!(sizes, (Some(2), Some(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_overlooks_a_lost_deadlock_commits_nothing_of_it() {
    let test = testing::mariadb("overlooked", ITEMS).await;
    test.store
        .transact("add", |conn| {
            add(conn, "a", 0)?;
            add(conn, "b", 0)
        })
        .await
        .unwrap();
    let both = Arc::new(std::sync::Barrier::new(2));
    let tasks: Vec<_> = [("a", "b"), ("b", "a")]
        .into_iter()
        .map(|(first, second)| {
            let (store, both) = (test.store.clone(), both.clone());
            tokio::spawn(async move {
                let mut met = false;
                store
                    .transact("cross", move |conn| {
                        diesel::update(items::table.find(first))
                            .set(items::size.eq(items::size + 1))
                            .execute(conn)?;
                        if !std::mem::replace(&mut met, true) {
                            both.wait();
                        }
                        let _ = diesel::update(items::table.find(second))
                            .set(items::size.eq(items::size + 1))
                            .execute(conn);
                        Ok::<_, Error>(())
                    })
                    .await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let sizes = test
        .store
        .read("look", |conn| {
            Ok::<_, Error>((size(conn, "a")?, size(conn, "b")?))
        })
        .await
        .unwrap();
    assert_eq!(sizes, (Some(2), Some(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_server_closed_is_replaced() {
    let test = testing::mariadb("closed", ITEMS).await;
    test.store
        .transact("add", |conn| add(conn, "a", 1))
        .await
        .unwrap();
    let killer = Store::open(&test.url, "closed", ITEMS).await.unwrap();
    let killed: Result<(), Error> = killer
        .transact("kill", |conn| {
            #[derive(QueryableByName)]
            struct Process {
                #[diesel(sql_type = diesel::sql_types::BigInt)]
                id: i64,
            }
            let others: Vec<Process> = diesel::sql_query(
                "SELECT CAST(id AS SIGNED) AS id FROM information_schema.processlist \
                 WHERE db = DATABASE() AND id <> CONNECTION_ID()",
            )
            .load(conn)?;
            for process in others {
                match diesel::sql_query(format!("KILL {}", process.id)).execute(conn) {
                    // It was being closed already when the list was made.
                    Err(QueryError::DatabaseError(_, told))
                        if told.message().contains("Unknown thread id") => {}
                    killed => {
                        killed?;
                    }
                }
            }
            Ok(())
        })
        .await;
    killed.unwrap();
    let found = test
        .store
        .read("look", |conn| size(conn, "a"))
        .await
        .unwrap();
    assert_eq!(found, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_that_start_together_migrate_once() {
    let url = tokio::task::spawn_blocking(testing::mariadb_url)
        .await
        .unwrap();
    let start = Arc::new(Barrier::new(4));
    let replicas: Vec<_> = (0..4)
        .map(|_| {
            let (url, start) = (url.clone(), start.clone());
            tokio::spawn(async move {
                start.wait().await;
                Store::open(&url, "together", ITEMS).await
            })
        })
        .collect();
    for replica in replicas {
        replica.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn says_unavailable_when_the_server_is_away() {
    use upm_mesh::{Classify, Kind};
    let error = Store::open("mysql://root@127.0.0.1:1/x", "away", Migrations::NONE)
        .await
        .unwrap_err();
    assert_ne!(error.kind(), Kind::InvalidArgument);
    assert!(!error.to_string().contains("root"), "{error}");
}
