//! The same promises in the process and in Redis.

use std::time::{Duration, Instant};

use upm_mesh::Classify;

use crate::{Cache, testing};

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(80);

#[tokio::test]
async fn keeps_values_until_their_time_is_over() {
    for (place, cache) in testing::caches().await {
        cache.set("a", b"1", LONG).await.unwrap();
        cache.set("b", b"\0\xff", LONG).await.unwrap();
        assert_eq!(
            cache.get("a").await.unwrap().as_deref(),
            Some(&b"1"[..]),
            "{place}"
        );
        assert_eq!(
            cache.get("b").await.unwrap().as_deref(),
            Some(&b"\0\xff"[..]),
            "{place}"
        );
        assert_eq!(cache.get("c").await.unwrap(), None, "{place}");
        cache.set("a", b"1", SHORT).await.unwrap();
        tokio::time::sleep(SHORT * 2).await;
        assert_eq!(cache.get("a").await.unwrap(), None, "{place}");
        assert!(cache.del("b").await.unwrap(), "{place}");
        assert!(!cache.del("b").await.unwrap(), "{place}");
    }
}

#[tokio::test]
async fn counting_on_does_not_extend_the_time() {
    for (place, cache) in testing::caches().await {
        let mut time = SHORT * 4;
        loop {
            let key = time.as_millis().to_string();
            let begun = Instant::now();
            assert_eq!(cache.incr(&key, time).await.unwrap(), 1, "{place}");
            let second = cache.incr(&key, LONG).await.unwrap();
            // Only a second count within the time says something.
            if time <= begun.elapsed() {
                time *= 2;
                continue;
            }
            assert_eq!(second, 2, "{place}");
            tokio::time::sleep(time + SHORT).await;
            assert_eq!(cache.incr(&key, SHORT).await.unwrap(), 1, "{place}");
            break;
        }
    }
}

#[tokio::test]
async fn compares_before_it_sets() {
    for (place, cache) in testing::caches().await {
        assert!(
            !cache
                .compare_and_set("k", Some(b"x"), b"y", LONG)
                .await
                .unwrap(),
            "{place}"
        );
        assert!(
            cache.compare_and_set("k", None, b"1", LONG).await.unwrap(),
            "{place}"
        );
        assert!(
            !cache.compare_and_set("k", None, b"2", LONG).await.unwrap(),
            "{place}"
        );
        assert!(
            cache
                .compare_and_set("k", Some(b"1"), b"2", LONG)
                .await
                .unwrap(),
            "{place}"
        );
        assert!(
            !cache
                .compare_and_set("k", Some(b""), b"3", LONG)
                .await
                .unwrap(),
            "{place}"
        );
        assert_eq!(
            cache.get("k").await.unwrap().as_deref(),
            Some(&b"2"[..]),
            "{place}"
        );
    }
}

#[tokio::test]
async fn scopes_do_not_see_each_other() {
    for (place, cache) in testing::caches().await {
        let (a, b) = (cache.scoped("a"), cache.scoped("b"));
        a.set("k", b"1", LONG).await.unwrap();
        assert_eq!(b.get("k").await.unwrap(), None, "{place}");
        assert_eq!(
            a.get("k").await.unwrap().as_deref(),
            Some(&b"1"[..]),
            "{place}"
        );
    }
}

#[tokio::test]
async fn says_that_redis_is_away_without_its_address() {
    let cache = Cache::redis("redis://:secret@127.0.0.1:1/").await.unwrap();
    let error = cache.get("k").await.unwrap_err();
    assert_eq!(error.reason(), "CACHE_UNAVAILABLE");
    assert!(!error.to_string().contains("secret"), "{error}");
}
