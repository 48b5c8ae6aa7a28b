//! When to dial again. Pure: the clock and the dice come from outside.
//!
//! A hub that is lost has lost all of its agents at the same moment, so the first dial is spread over the time that the hub named while it
//! lived: a moment for a few agents, many seconds for ten thousand. While the hub is away the pause grows with the absence (a quarter of
//! it, with decorrelated jitter), so that an agent is back soon after a short restart and does not hammer a hub that stays away. What the
//! hub asks for by `RetryInfo` is a lower bound. A connection that lived for a minute ends the absence; one that broke at once does not.

use std::time::Duration;

use rand::Rng;

use crate::hub::Pause;

/// Between any two dials.
const LEAST: Duration = Duration::from_millis(200);
/// Between two dials, at most, whatever an agent is told.
pub(super) const LONGEST: Duration = Duration::from_secs(30);
/// The cap of the pause when the absence has just begun.
const FIRST_CAP: Duration = Duration::from_secs(1);
/// The cap of the pause is this part of the absence.
const PART: u32 = 4;
/// A connection that lived this long ends the absence.
const STEADY: Duration = Duration::from_mins(1);

/// The state between dials. Times are since any fixed moment.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    away_since: Duration,
    pause: Duration,
    spread: Duration,
    longest: Duration,
}

impl Backoff {
    /// Nothing was dialled yet. While the hub is away no pause is longer than `longest`; the hub's own wishes still hold.
    pub(super) fn new(now: Duration, longest: Duration) -> Self {
        Self {
            away_since: now,
            pause: LEAST,
            spread: LEAST,
            longest: longest.clamp(FIRST_CAP, LONGEST),
        }
    }

    /// A connection that was welcomed is lost after `lived`; the hub had named `spread`.
    pub(super) fn lost(&mut self, now: Duration, lived: Duration, spread: Duration) {
        self.spread = spread.max(LEAST);
        if lived >= STEADY {
            self.away_since = now;
            self.pause = LEAST;
        } else {
            // The time of the connection does not count as absence, and does not end it.
            self.away_since = (self.away_since + lived).min(now);
        }
    }

    /// The first dial after a connection that broke by itself.
    pub(super) fn first(&mut self, now: Duration, rng: &mut impl Rng) -> Duration {
        if self.pause > LEAST {
            // It breaks again and again.
            return self.next(now, rng);
        }
        rng.random_range(Duration::ZERO..=self.spread)
    }

    /// The next dial after one that failed, or was refused.
    pub(super) fn next(&mut self, now: Duration, rng: &mut impl Rng) -> Duration {
        let absence = now.saturating_sub(self.away_since);
        let cap = (absence / PART).min(self.longest);
        let cap = cap.clamp(self.spread.max(FIRST_CAP), LONGEST);
        let most = (self.pause * 3).min(cap).max(LEAST);
        self.pause = rng.random_range(LEAST..=most);
        self.pause
    }

    /// How long to wait as `pause` says, at least as long as the hub asked for.
    pub(super) fn wait(
        &mut self,
        now: Duration,
        pause: Pause,
        retry_after: Option<Duration>,
        rng: &mut impl Rng,
    ) -> Duration {
        let wait = match pause {
            Pause::First => self.first(now, rng),
            Pause::Backoff => self.next(now, rng),
            Pause::At(not_before, spread) => {
                not_before + rng.random_range(Duration::ZERO..=spread.min(LONGEST))
            }
            Pause::Rival => LONGEST.mul_f64(rng.random_range(0.3..1.0)),
            Pause::Approval => Duration::from_secs(10).mul_f64(rng.random_range(0.5..1.5)),
            Pause::Long => Duration::from_mins(5).mul_f64(rng.random_range(0.5..1.5)),
        };
        match retry_after {
            Some(asked) => {
                let asked = asked.min(Duration::from_mins(10));
                wait.max(asked.mul_f64(rng.random_range(1.0..1.25)))
            }
            None => wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    const MINUTES: Duration = Duration::from_mins(10);

    /// When the agent is back, counted from the moment at which the hub is, when that was away for `outage`.
    fn late(outage: Duration, spread: Duration, seed: u64) -> Duration {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut backoff = Backoff::new(Duration::ZERO, LONGEST);
        backoff.lost(MINUTES, MINUTES, spread);
        let mut now = MINUTES + backoff.wait(MINUTES, Pause::First, None, &mut rng);
        while now < MINUTES + outage {
            now += backoff.wait(now, Pause::Backoff, None, &mut rng);
        }
        now.saturating_sub(MINUTES + outage)
    }

    #[test]
    fn is_back_within_two_seconds_of_a_hub_that_restarts_in_eight() {
        for seed in 0..1_000 {
            for outage in [0, 1, 3, 8] {
                let late = late(Duration::from_secs(outage), LEAST, seed);
                assert!(
                    late <= Duration::from_secs(2),
                    "outage {outage}, seed {seed}: {late:?}"
                );
            }
        }
    }

    #[test]
    fn a_storm_of_ten_thousand_spreads_over_what_the_hub_named() {
        let spread = Duration::from_secs(10);
        let mut per_second = [0u32; 11];
        for seed in 0..10_000 {
            per_second[late(Duration::ZERO, spread, seed).as_secs() as usize] += 1;
        }
        let most = per_second.into_iter().max().unwrap_or_default();
        assert!(most < 1_200, "{per_second:?}");
    }

    #[test]
    fn waits_as_long_as_the_hub_asks_and_a_rival_waits_longer_than_anybody() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::new(Duration::ZERO, LONGEST);
        let asked = Duration::from_secs(20);
        for _ in 0..100 {
            let wait = backoff.wait(Duration::ZERO, Pause::Backoff, Some(asked), &mut rng);
            assert!(wait >= asked && wait <= asked.mul_f64(1.25));
            let rival = backoff.wait(Duration::ZERO, Pause::Rival, None, &mut rng);
            assert!(rival >= Duration::from_secs(9) && rival <= LONGEST);
        }
    }

    #[test]
    fn connections_that_break_at_once_are_dialled_more_and_more_slowly() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::new(Duration::ZERO, LONGEST);
        let mut now = Duration::ZERO;
        let mut dials = 0;
        while now < MINUTES {
            now += backoff.wait(now, Pause::First, None, &mut rng) + Duration::from_secs(1);
            dials += 1;
            backoff.lost(now, Duration::from_secs(1), LEAST);
            now += backoff.wait(now, Pause::Backoff, None, &mut rng);
        }
        assert!((20..200).contains(&dials), "{dials}");
    }

    #[test]
    fn after_a_long_absence_it_dials_as_often_as_it_was_told() {
        let (longest, spread) = (Duration::from_secs(2), Duration::from_secs(5));
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::new(Duration::ZERO, longest);
        let pauses = |backoff: &mut Backoff, rng: &mut StdRng| {
            (0..100)
                .map(|_| backoff.wait(MINUTES, Pause::Backoff, None, rng))
                .max()
                .unwrap_or_default()
        };
        let most = pauses(&mut backoff, &mut rng);
        assert!(most > FIRST_CAP && most <= longest, "{most:?}");
        // A hub with many agents spreads them all the same.
        backoff.lost(MINUTES, LEAST, spread);
        let most = pauses(&mut backoff, &mut rng);
        assert!(most > longest && most <= spread, "{most:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_pause_is_longer_than_its_cap_or_shorter_than_the_least(steps in proptest::collection::vec((0u64..100_000, 0u64..60_000), 1..60), seed: u64) {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut backoff = Backoff::new(Duration::ZERO, LONGEST);
            let mut now = Duration::ZERO;
            for (step, spread) in steps {
                now += Duration::from_millis(step);
                backoff.lost(now, Duration::from_millis(step), Duration::from_millis(spread.min(30_000)));
                let wait = backoff.wait(now, Pause::Backoff, None, &mut rng);
                proptest::prop_assert!((LEAST..=LONGEST).contains(&wait));
            }
        }
    }
}
