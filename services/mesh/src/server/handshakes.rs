//! The budget of handshakes: they cost more than anything else that a stranger can ask for, so they begin at a bounded rate, in the order of
//! coming, and only so many are under way. Who would wait too long is let go at once, and comes back after its own pause.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::{KeyValue, global, metrics::Counter};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// A turn is waited for this long; clients give up a connection after five seconds.
const LONGEST: Duration = Duration::from_secs(3);
/// Turns that may be taken at once after a pause, as a part of a second's.
const BURST: f64 = 0.25;

/// The budget of one listener.
#[derive(Debug)]
pub(super) struct Handshakes {
    /// Between two turns; zero for no bound.
    pace: Duration,
    next: Mutex<Option<Instant>>,
    under_way: Arc<Semaphore>,
    counted: Counter<u64>,
}

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Full,
    Resumed,
    Failed,
    Refused,
}

impl Handshakes {
    /// `per_second` 0 is no bound.
    pub(super) fn new(per_second: u32, under_way: usize) -> Self {
        Self {
            pace: match per_second {
                0 => Duration::ZERO,
                rate => Duration::from_secs(1) / rate,
            },
            next: Mutex::new(None),
            under_way: Arc::new(Semaphore::new(under_way)),
            counted: global::meter("upm-mesh")
                .u64_counter("upm.tls.handshakes")
                .with_description("TLS handshakes of servers, by end")
                .build(),
        }
    }

    /// How long to wait for the next turn; `None` when that is too long. The turn is taken.
    fn turn(&self, now: Instant) -> Option<Duration> {
        if self.pace.is_zero() {
            return Some(Duration::ZERO);
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let burst = Duration::from_secs_f64(BURST);
        let earliest = now.checked_sub(burst).unwrap_or(now);
        let at = next.map_or(earliest, |next| next.max(earliest));
        let wait = at.saturating_duration_since(now);
        if wait > LONGEST {
            return None;
        }
        *next = Some(at + self.pace);
        Some(wait)
    }

    /// The right to a handshake, held until it ends; `None` when too many others are before it.
    pub(super) async fn admit(&self) -> Option<OwnedSemaphorePermit> {
        let Some(wait) = self.turn(Instant::now()) else {
            self.ended(Ended::Refused);
            return None;
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let permit = self.under_way.clone().try_acquire_owned().ok();
        if permit.is_none() {
            self.ended(Ended::Refused);
        }
        permit
    }

    pub(super) fn ended(&self, how: Ended) {
        let how = match how {
            Ended::Full => "full",
            Ended::Resumed => "resumed",
            Ended::Failed => "failed",
            Ended::Refused => "refused",
        };
        self.counted.add(1, &[KeyValue::new("end", how)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_each_other_at_the_rate_and_who_would_wait_too_long_is_let_go() {
        let handshakes = Handshakes::new(100, 10);
        let now = Instant::now() + Duration::from_secs(10);
        let waits: Vec<_> = std::iter::from_fn(|| handshakes.turn(now))
            .take(1_000)
            .collect();
        // A quarter of a second is free, then three seconds of queue.
        assert_eq!(waits.len(), 25 + 301);
        assert!(waits.iter().take(26).all(Duration::is_zero));
        assert!(waits.iter().skip(26).all(|wait| !wait.is_zero()));
        assert!(waits.windows(2).all(|two| two[0] <= two[1]));
        assert_eq!(handshakes.turn(now), None);
        let later = now + Duration::from_millis(100);
        assert_eq!(
            std::iter::from_fn(|| handshakes.turn(later))
                .take(100)
                .count(),
            10
        );
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let handshakes = Handshakes::new(0, 10);
        for _ in 0..1_000 {
            assert_eq!(handshakes.turn(Instant::now()), Some(Duration::ZERO));
        }
    }

    #[tokio::test]
    async fn only_so_many_are_under_way() {
        let handshakes = Handshakes::new(0, 2);
        let one = handshakes.admit().await;
        let two = handshakes.admit().await;
        assert!(one.is_some() && two.is_some());
        assert!(handshakes.admit().await.is_none());
        drop(one);
        assert!(handshakes.admit().await.is_some());
    }
}
