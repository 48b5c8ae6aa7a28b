//! What keeps one caller from hurting the others: rates by address and principal, a bound on the work at the same time.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::{
    Config, Rate,
    places::{Place, Places, network},
    refusal::Refusal,
};

const SHARDS: usize = 16;
/// Callers that are remembered in each shard; the memory of those that are quiet is given up first.
const REMEMBERED: usize = 8 * 1024;

/// All limits of a process.
pub(crate) struct Protection {
    addresses: Option<Limiter>,
    principals: Option<Limiter>,
    in_flight: Semaphore,
    /// Requests by network.
    by_network: Places,
    /// Requests of callers who have shown nothing, together and by network.
    strangers: Arc<Semaphore>,
    strangers_by_network: Places,
}

/// A request that is worked on.
pub(crate) struct Entered<'a> {
    _permit: SemaphorePermit<'a>,
    _place: Place,
}

/// A request of somebody who has shown nothing, for as long as it is worked on.
pub(crate) struct Stranger {
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

impl Protection {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            addresses: config.rate_per_address.map(Limiter::new),
            principals: config.rate_per_principal.map(Limiter::new),
            in_flight: Semaphore::new(config.max_in_flight.min(Semaphore::MAX_PERMITS)),
            by_network: Places::new(config.max_in_flight_per_address),
            strangers: Arc::new(Semaphore::new(
                config.strangers.in_flight.min(Semaphore::MAX_PERMITS),
            )),
            strangers_by_network: Places::new(config.strangers.in_flight_per_address),
        }
    }

    /// A request begins; keep the permit for as long as it is worked on.
    pub(crate) fn enter(&self, address: IpAddr) -> Result<Entered<'_>, Refusal> {
        if let Some(limiter) = &self.addresses {
            limiter.admit(&network(address))?;
        }
        // First the caller's own share: who has used it up takes no slot from others.
        let place = self.place(address)?;
        let permit = self
            .in_flight
            .try_acquire()
            .map_err(|_| Refusal::overloaded())?;
        Ok(Entered {
            _permit: permit,
            _place: place,
        })
    }

    /// A place for something of this address that outlives its request.
    pub(crate) fn place(&self, address: IpAddr) -> Result<Place, Refusal> {
        self.by_network
            .enter(address)
            .ok_or_else(|| Refusal::too_many_requests(1))
    }

    /// The request comes from somebody who has shown nothing.
    pub(crate) fn stranger(&self, address: IpAddr) -> Result<Stranger, Refusal> {
        let place = self
            .strangers_by_network
            .enter(address)
            .ok_or_else(|| Refusal::too_many_requests(1))?;
        let permit = self
            .strangers
            .clone()
            .try_acquire_owned()
            .map_err(|_| Refusal::overloaded())?;
        Ok(Stranger {
            _permit: permit,
            _place: place,
        })
    }

    /// The request is this principal's.
    pub(crate) fn principal(&self, principal: &[u8]) -> Result<(), Refusal> {
        match &self.principals {
            Some(limiter) => limiter.admit(principal),
            None => Ok(()),
        }
    }

    pub(crate) fn limits_principals(&self) -> bool {
        self.principals.is_some()
    }
}

/// The generic cell rate algorithm: for each caller one point in time, at which its bucket would be empty again.
struct Limiter {
    /// Time of one request.
    interval: Duration,
    /// How far ahead the bucket may be.
    tolerance: Duration,
    begun: Instant,
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, Duration>>; SHARDS],
}

impl Limiter {
    fn new(rate: Rate) -> Self {
        let interval = Duration::from_secs_f64(1.0 / rate.per_second.clamp(1e-3, 1e9));
        Self {
            interval,
            tolerance: interval * rate.burst.max(1),
            begun: Instant::now(),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    fn admit<K: Hash + ?Sized>(&self, key: &K) -> Result<(), Refusal> {
        self.admit_at(key, self.begun.elapsed())
            .map_err(|wait| Refusal::too_many_requests(wait.as_secs_f64().ceil() as u64))
    }

    /// The error is how long to wait.
    fn admit_at<K: Hash + ?Sized>(&self, key: &K, now: Duration) -> Result<(), Duration> {
        let hash = self.hasher.hash_one(key);
        let shard = &self.shards[hash as usize % SHARDS];
        let mut callers = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = callers.get(&hash).copied().unwrap_or_default().max(now);
        let next = empty + self.interval;
        if let Some(wait) = next
            .checked_sub(now + self.tolerance)
            .filter(|wait| !wait.is_zero())
        {
            return Err(wait);
        }
        if callers.len() >= REMEMBERED && !callers.contains_key(&hash) {
            callers.retain(|_, empty| *empty > now);
            if callers.len() >= REMEMBERED {
                // More callers at once than anybody can tell apart: none is remembered rather than memory without bound.
                callers.clear();
            }
        }
        callers.insert(hash, next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limiter() -> Limiter {
        Limiter::new(Rate {
            per_second: 10.0,
            burst: 5,
        })
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_counts() {
        let limiter = limiter();
        let at = Duration::from_millis;
        for _ in 0..5 {
            assert!(limiter.admit_at("a", at(0)).is_ok());
        }
        assert_eq!(limiter.admit_at("a", at(0)), Err(at(100)));
        assert!(
            limiter.admit_at("b", at(0)).is_ok(),
            "others are not touched"
        );
        assert!(limiter.admit_at("a", at(100)).is_ok());
        assert!(limiter.admit_at("a", at(110)).is_err());
    }

    #[test]
    fn memory_is_bounded_however_many_callers_there_are() {
        let limiter = limiter();
        for caller in 0..(REMEMBERED * SHARDS * 3) {
            limiter.admit_at(&caller, Duration::ZERO).ok();
        }
        for shard in &limiter.shards {
            assert!(shard.lock().unwrap().len() <= REMEMBERED);
        }
    }

    #[test]
    fn a_stranger_uses_up_only_what_strangers_of_its_network_have() {
        let config = Config {
            max_in_flight: 4,
            max_in_flight_per_address: 2,
            strangers: crate::Strangers {
                in_flight: 2,
                in_flight_per_address: 1,
                ..crate::Strangers::default()
            },
            ..Config::default()
        };
        let protection = Protection::new(&config);
        let of = |last: u8| IpAddr::from([192, 0, 2, last]);
        let _held = [protection.enter(of(1)).ok(), protection.enter(of(1)).ok()];
        assert!(protection.enter(of(1)).is_err(), "it has its share");
        assert!(protection.enter(of(2)).is_ok(), "others are served");
        let first = protection.stranger(of(1));
        assert!(first.is_ok());
        assert!(protection.stranger(of(1)).is_err());
        let second = protection.stranger(of(2));
        assert!(second.is_ok(), "another network");
        assert!(
            protection.stranger(of(3)).is_err(),
            "strangers together have two"
        );
    }

    proptest! {
        #[test]
        fn no_more_pass_than_burst_and_rate_allow(steps in proptest::collection::vec(0_u64..300, 1..200)) {
            let limiter = limiter();
            let (mut now, mut passed) = (0, 0_u64);
            for step in steps {
                now += step;
                passed += u64::from(limiter.admit_at("a", Duration::from_millis(now)).is_ok());
            }
            prop_assert!(passed <= 5 + now / 100);
        }
    }
}
