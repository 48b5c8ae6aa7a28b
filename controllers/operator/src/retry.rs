//! How long to wait after a failure: per object, exponential, with jitter.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::Rng as _;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_mins(1);

/// Counts the failures in a row of every object.
#[derive(Debug)]
pub(crate) struct Failures<K>(Mutex<HashMap<K, u32>>);

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> Failures<K> {
    /// Notes one more failure; returns how many there are in a row now.
    pub(crate) fn add(&self, key: K) -> u32 {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Forgets an object that succeeded or is gone.
    pub(crate) fn clear(&self, key: &K) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

/// The wait after the `count`-th failure in a row, before jitter.
fn bound(count: u32) -> Duration {
    FIRST
        .saturating_mul(1 << count.saturating_sub(1).min(16))
        .min(LONGEST)
}

/// The wait after the `count`-th failure in a row: between half the bound and the bound.
pub(crate) fn delay(count: u32) -> Duration {
    jittered(bound(count))
}

/// A time between half of `duration` and all of it, so that many objects do not come at once.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_a_minute() {
        let waits: Vec<_> = [1, 2, 3, 7, 8, 40, u32::MAX]
            .map(|n| bound(n).as_millis())
            .into();
        assert_eq!(waits, [500, 1000, 2000, 32_000, 60_000, 60_000, 60_000]);
    }

    #[test]
    fn stays_between_half_the_bound_and_the_bound() {
        for count in 1..20 {
            let wait = delay(count);
            assert!(wait >= bound(count) / 2 && wait <= bound(count));
        }
    }

    #[test]
    fn counts_each_object_for_itself() {
        let failures = Failures::default();
        assert_eq!(
            (failures.add("a"), failures.add("a"), failures.add("b")),
            (1, 2, 1)
        );
        failures.clear(&"a");
        assert_eq!(failures.add("a"), 1);
    }
}
