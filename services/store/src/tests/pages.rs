//! Keyset pages over a real table.

use diesel::prelude::*;
use proptest::prelude::*;

use super::{ITEMS, add, items};
use crate::page::{PageRequest, Query, size};
use crate::{Error, Store, testing};

async fn page(
    store: &Store,
    filter: &str,
    asked: i32,
    token: &str,
) -> Result<(Vec<String>, String), Error> {
    let query = Query {
        method: "/test/List",
        filter,
        ..Query::default()
    };
    let page: PageRequest<String> = PageRequest::parse(store, query, asked, token)?;
    let request = page.clone();
    let rows = store
        .read("list", move |conn| {
            let mut rows = items::table
                .select(items::id)
                .into_boxed::<crate::Backend>();
            if let Some(after) = request.after() {
                rows = rows.filter(items::id.gt(after.clone()));
            }
            Ok::<_, Error>(
                rows.order(items::id.asc())
                    .limit(request.limit())
                    .load::<String>(conn)?,
            )
        })
        .await?;
    page.finish(rows, Clone::clone)
}

#[tokio::test]
async fn pages_hold_every_row_once_and_in_order() {
    for test in testing::stores("pages", || ITEMS).await {
        let ids: Vec<String> = (0..7).map(|n| format!("item-{n}")).collect();
        let added = ids.clone();
        test.store
            .transact("add", move |conn| {
                added.iter().try_for_each(|id| add(conn, id, 1))
            })
            .await
            .unwrap();
        for asked in 1..=8 {
            let (mut seen, mut token) = (Vec::new(), String::new());
            loop {
                let (rows, next) = page(&test.store, "", asked, &token).await.unwrap();
                assert!(rows.len() <= asked as usize);
                seen.extend(rows);
                if next.is_empty() {
                    break;
                }
                token = next;
            }
            assert_eq!(seen, ids, "{} pages of {asked}", test.database);
        }
    }
}

#[tokio::test]
async fn a_token_is_good_for_its_own_query_and_its_own_store() {
    for test in testing::stores("tokens", || ITEMS).await {
        test.store
            .transact("add", |conn| {
                ["a", "b"].iter().try_for_each(|id| add(conn, id, 1))
            })
            .await
            .unwrap();
        let (_, token) = page(&test.store, "", 1, "").await.unwrap();
        let replica = Store::open(&test.url, "tokens", ITEMS).await.unwrap();
        assert!(
            page(&replica, "", 1, &token).await.is_ok(),
            "another replica has the same key"
        );
        let other_query = page(&test.store, "size=1", 1, &token).await;
        assert!(
            matches!(other_query, Err(Error::PageToken)),
            "{}",
            test.database
        );
        let stranger = testing::sqlite("tokens", ITEMS).await;
        let other_store = page(&stranger.store, "", 1, &token).await;
        assert!(
            matches!(other_store, Err(Error::PageToken)),
            "{}",
            test.database
        );
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            if changed != token {
                assert!(
                    page(&test.store, "", 1, &changed).await.is_err(),
                    "byte {at}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn sizes_are_between_one_and_a_thousand(asked in any::<i32>()) {
        match size(asked) {
            Ok(size) => prop_assert!((1..=1000).contains(&size)),
            Err(_) => prop_assert!(asked < 0),
        }
    }
}
