//! The retry budget: repeated calls may be a fifth of all calls, so that retries do not finish off a peer that is overloaded.

use std::sync::atomic::{AtomicI64, Ordering};

/// Each call earns this much, each retry costs [`PRICE`].
const EARNED: i64 = 1;
const PRICE: i64 = 5;
/// What is there at the beginning: ten retries.
const RESERVE: i64 = 10 * PRICE;
/// More cannot be saved.
const CEILING: i64 = 100 * PRICE;

/// What is left of it. Cheap enough for every call.
#[derive(Debug)]
pub struct RetryBudget(AtomicI64);

impl RetryBudget {
    /// Room for ten retries.
    pub fn new() -> Self {
        Self(AtomicI64::new(RESERVE))
    }

    /// A first attempt was made.
    pub fn earn(&self) {
        if self.0.load(Ordering::Relaxed) < CEILING {
            self.0.fetch_add(EARNED, Ordering::Relaxed);
        }
    }

    /// Whether there is room for a retry; takes it.
    pub fn spend(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                (left >= PRICE).then_some(left - PRICE)
            })
            .is_ok()
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn retries_stay_within_a_fifth_of_the_calls_and_the_reserve(calls in proptest::collection::vec(any::<bool>(), 0..2000)) {
            let budget = RetryBudget::new();
            let (mut first, mut again) = (0_i64, 0_i64);
            for failed in calls {
                budget.earn();
                first += 1;
                while failed && budget.spend() {
                    again += 1;
                }
            }
            prop_assert!(again * PRICE <= RESERVE + first);
        }
    }
}
