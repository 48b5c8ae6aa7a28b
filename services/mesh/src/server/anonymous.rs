//! The budget of records that callers without any identity can cause by failing: each is a transaction with an fsync and an entry of the log
//! for good. What is beyond the budget is counted, and the counts are recorded instead.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::throttle::Throttle;
use crate::network::Network;

/// Records in a second, and at once, of all together.
const ALL: (f64, f64) = (10.0, 100.0);
/// The same of one network: one attacker does not blind the log for others.
const EACH: (f64, f64) = (0.5, 10.0);
/// Networks that are told apart at once.
const REMEMBERED: usize = 4096;
/// Counts are recorded this long after the first of them.
const AGGREGATE: Duration = Duration::from_secs(60);
/// Addresses that a count names.
const NAMED: usize = 8;

/// What one method's failures were beyond the budget.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) failures: u64,
    /// Some of who caused them.
    pub(super) addresses: BTreeSet<String>,
}

/// By method, `/package.Service/Method`.
pub(super) type Counts = BTreeMap<&'static str, Count>;

pub(super) struct Anonymous {
    all: Throttle,
    each: Mutex<HashMap<Network, Throttle>>,
    counted: Mutex<(Option<Instant>, Counts)>,
}

impl Anonymous {
    pub(super) fn new() -> Self {
        Self {
            all: Throttle::new(ALL.0, ALL.1),
            each: Mutex::default(),
            counted: Mutex::default(),
        }
    }

    /// Whether a failure gets a record of its own; otherwise it is counted.
    pub(super) fn admit(&self, method: &'static str, address: &str) -> bool {
        if self.take(address) {
            return true;
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, counts) = &mut *counted;
        since.get_or_insert_with(Instant::now);
        let count = counts.entry(method).or_default();
        count.failures += 1;
        if count.addresses.len() < NAMED && !count.addresses.contains(address) {
            count.addresses.insert(address.to_owned());
        }
        false
    }

    fn take(&self, address: &str) -> bool {
        let network = Network::parse(address);
        let own = {
            let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
            if each.len() >= REMEMBERED && !each.contains_key(&network) {
                // More than anybody can tell apart: the bound of all together holds.
                each.clear();
            }
            each.entry(network)
                .or_insert_with(|| Throttle::new(EACH.0, EACH.1))
                .take()
        };
        own && self.all.take()
    }

    /// The counts, when it is time to record them, or `now` is set.
    pub(super) fn due(&self, now: bool) -> Counts {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let over = counted.0.is_some_and(|since| since.elapsed() >= AGGREGATE);
        if !(over || now) {
            return Counts::new();
        }
        counted.0 = None;
        std::mem::take(&mut counted.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_beyond_the_budget_are_counted_once() {
        let anonymous = Anonymous::new();
        let login = "/upm.auth.v1.AuthService/Login";
        let admitted = (0..1000)
            .filter(|n| anonymous.admit(login, &format!("2001:db8::{n:x}")))
            .count();
        assert_eq!(admitted, 10, "one /64 has its own budget");
        assert!(anonymous.admit(login, "192.0.2.1"), "others are recorded");
        assert!(anonymous.due(false).is_empty(), "not yet");
        tokio::time::advance(AGGREGATE).await;
        let counts = anonymous.due(false);
        assert_eq!(counts[login].failures, 990);
        assert_eq!(counts[login].addresses.len(), NAMED);
        assert!(anonymous.due(true).is_empty());
    }

    #[test]
    fn all_together_are_bounded_and_so_is_the_memory() {
        let anonymous = Anonymous::new();
        let admitted = (0..(REMEMBERED * 3))
            .filter(|n| anonymous.admit("/a", &format!("2001:db8:{:x}:{:x}::1", n / 256, n % 256)))
            .count();
        assert!(admitted <= 110, "{admitted}");
        assert!(anonymous.each.lock().unwrap().len() <= REMEMBERED);
    }
}
