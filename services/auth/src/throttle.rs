//! Slowing down guesses: per user and address, a few failures are free, then each doubles the lockout.

use std::time::Duration;

use sha2::{Digest, Sha256};
use upm_store::{Cache, Error as StoreError, time};

use crate::{Config, Error};

/// Failures are counted this long from the first.
const WINDOW: Duration = Duration::from_hours(1);

/// Counts attempts. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Throttle {
    shared: Cache,
    /// Counts when the shared cache is away, so that nobody guesses freely then.
    own: Cache,
    free: i64,
    first: Duration,
    longest: Duration,
}

impl Throttle {
    pub(crate) fn new(cache: &Cache, config: &Config) -> Self {
        Self {
            shared: cache.scoped("login"),
            own: Cache::in_process(),
            free: i64::from(config.login_failures.max(1)),
            first: Duration::from_secs(config.lockout_seconds.max(1)),
            longest: Duration::from_secs(config.longest_lockout_seconds.max(1)),
        }
    }

    /// Counts an attempt before the password is looked at, so that many at once do not pass together.
    ///
    /// # Errors
    /// [`Error::LoginThrottled`].
    pub(crate) async fn attempt(&self, user: &str, address: &str) -> Result<(), Error> {
        let key = key(user, address);
        let wait = match self.attempt_in(&self.shared, &key).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(%error, "Counting logins in the process");
                self.attempt_in(&self.own, &key).await?
            }
        };
        match wait {
            None => Ok(()),
            Some(wait) => Err(Error::LoginThrottled { wait }),
        }
    }

    /// Forgets the failures after a right password.
    pub(crate) async fn succeeded(&self, user: &str, address: &str) {
        let key = key(user, address);
        for cache in [&self.shared, &self.own] {
            for name in [locked(&key), failures(&key)] {
                if let Err(error) = cache.del(&name).await {
                    tracing::debug!(%error, "A counter of logins stays");
                }
            }
        }
    }

    /// Takes an attempt back that came to nothing: what failed was not the password.
    pub(crate) async fn give_back(&self, user: &str, address: &str) {
        let key = key(user, address);
        for cache in [&self.shared, &self.own] {
            if let Err(error) = self.give_back_in(cache, &key).await {
                tracing::debug!(%error, "An attempt stays counted");
            }
        }
    }

    async fn give_back_in(&self, cache: &Cache, key: &str) -> Result<(), StoreError> {
        let counted = failures(key);
        let Some(count) = cache.get(&counted).await? else {
            return Ok(());
        };
        let count: i64 = std::str::from_utf8(&count)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        // The lockout was set by the attempt that is taken back.
        if count >= self.free {
            cache.del(&locked(key)).await?;
        }
        cache.decr(&counted).await
    }

    /// How long to wait; `None` lets the attempt pass.
    async fn attempt_in(&self, cache: &Cache, key: &str) -> Result<Option<Duration>, StoreError> {
        let locked = locked(key);
        if let Some(until) = cache.get(&locked).await? {
            return Ok(Some(wait_until(&until)));
        }
        let count = cache.incr(&failures(key), WINDOW).await?;
        if count < self.free {
            return Ok(None);
        }
        // This attempt passes and locks out those after it, unless one beside it was faster.
        let lockout = lockout(self.first, self.longest, count - self.free);
        let until = (time::now_us() + time::micros(lockout)).to_string();
        let first = cache
            .compare_and_set(&locked, None, until.as_bytes(), lockout)
            .await?;
        Ok(if first { None } else { Some(lockout) })
    }
}

fn wait_until(until: &[u8]) -> Duration {
    let until_us: i64 = std::str::from_utf8(until)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let left = (until_us - time::now_us()).max(time::SECOND_US);
    Duration::from_micros(left.unsigned_abs())
}

/// `first · 2^beyond`, at most `longest`.
fn lockout(first: Duration, longest: Duration, beyond: i64) -> Duration {
    let doublings = u32::try_from(beyond.clamp(0, 30)).unwrap_or_default();
    first.saturating_mul(1 << doublings).min(longest)
}

/// Names and addresses do not go into the cache as they are.
fn key(user: &str, address: &str) -> String {
    hex::encode(Sha256::digest(format!("{user}\n{address}")))
}

fn locked(key: &str) -> String {
    format!("locked:{key}")
}

fn failures(key: &str) -> String {
    format!("failures:{key}")
}

#[cfg(test)]
mod tests {
    use upm_store::testing;

    use super::*;

    /// Lockouts that do not end before the test does.
    const LONG: u64 = 600;

    fn throttle(cache: &Cache, lockout_seconds: u64) -> Throttle {
        let config = Config {
            lockout_seconds,
            ..Config::default()
        };
        Throttle::new(cache, &config)
    }

    #[tokio::test]
    async fn locks_out_after_five_failures_one_user_from_one_address() {
        for (place, cache) in testing::caches().await {
            let throttle = throttle(&cache, LONG);
            for _ in 0..5 {
                throttle.attempt("ada", "192.0.2.1").await.expect(place);
            }
            let Err(Error::LoginThrottled { wait }) = throttle.attempt("ada", "192.0.2.1").await
            else {
                panic!("{place}: the sixth waits")
            };
            assert!(wait <= Duration::from_secs(LONG), "{place}");
            throttle.attempt("ada", "192.0.2.2").await.expect(place);
            throttle.attempt("bob", "192.0.2.1").await.expect(place);
            let lockout = locked(&key("ada", "192.0.2.1"));
            assert!(throttle.shared.del(&lockout).await.unwrap(), "{place}");
            throttle.attempt("ada", "192.0.2.1").await.expect(place);
            let Err(Error::LoginThrottled { wait }) = throttle.attempt("ada", "192.0.2.1").await
            else {
                panic!("{place}: one attempt after a lockout, not five")
            };
            assert!(
                Duration::from_secs(LONG) < wait,
                "{place}: the second lockout is longer"
            );
        }
    }

    #[tokio::test]
    async fn a_lockout_ends_by_itself() {
        for (place, cache) in testing::caches().await {
            let throttle = throttle(&cache, 1);
            let begun = std::time::Instant::now();
            for _ in 0..5 {
                throttle.attempt("ada", "192.0.2.1").await.expect(place);
            }
            let ended = async {
                while throttle.attempt("ada", "192.0.2.1").await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(Duration::from_mins(1), ended)
                .await
                .expect(place);
            assert!(Duration::from_millis(990) <= begun.elapsed(), "{place}");
        }
    }

    #[tokio::test]
    async fn an_attempt_that_is_given_back_does_not_count() {
        for (place, cache) in testing::caches().await {
            let throttle = throttle(&cache, LONG);
            for _ in 0..20 {
                throttle.attempt("ada", "192.0.2.1").await.expect(place);
                throttle.give_back("ada", "192.0.2.1").await;
            }
            for _ in 0..5 {
                throttle.attempt("ada", "192.0.2.1").await.expect(place);
            }
            assert!(
                throttle.attempt("ada", "192.0.2.1").await.is_err(),
                "{place}"
            );
        }
    }

    #[tokio::test]
    async fn a_right_password_starts_anew() {
        for (place, cache) in testing::caches().await {
            let throttle = throttle(&cache, LONG);
            for _ in 0..20 {
                throttle.attempt("ada", "192.0.2.1").await.expect(place);
                throttle.succeeded("ada", "192.0.2.1").await;
            }
        }
    }

    #[tokio::test]
    async fn many_at_once_do_not_pass_together() {
        for (place, cache) in testing::caches().await {
            let throttle = throttle(&cache, LONG);
            let attempts = (0..40).map(|_| throttle.attempt("ada", "192.0.2.1"));
            let passed = futures::future::join_all(attempts).await;
            let passed = passed.iter().filter(|attempt| attempt.is_ok()).count();
            assert_eq!(passed, 5, "{place}");
        }
    }

    #[tokio::test]
    async fn counts_in_the_process_when_the_cache_is_away() {
        let away = Cache::redis("redis://127.0.0.1:1/").await.unwrap();
        let throttle = Throttle {
            own: Cache::in_process(),
            ..Throttle::new(
                &away,
                &Config {
                    login_failures: 1,
                    lockout_seconds: LONG,
                    ..Config::default()
                },
            )
        };
        throttle.attempt("ada", "192.0.2.1").await.unwrap();
        assert!(throttle.attempt("ada", "192.0.2.1").await.is_err());
    }

    #[test]
    fn lockouts_double_up_to_the_longest() {
        let of =
            |beyond| lockout(Duration::from_secs(10), Duration::from_mins(15), beyond).as_secs();
        assert_eq!(
            [of(0), of(1), of(3), of(6), of(7), of(100)],
            [10, 20, 80, 640, 900, 900]
        );
    }
}
