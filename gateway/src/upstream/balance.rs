//! Which endpoint takes a call: of two random ones the one with less load, where load is the peak of recent latencies times the calls that
//! run there. A peak counts at once and is forgotten slowly, so that an endpoint that becomes slow is avoided before it has a queue.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// A latency counts a third of itself after this time.
const MEMORY: Duration = Duration::from_secs(10);
/// What an endpoint without a measurement is taken for: it gets calls soon, but not all.
const UNKNOWN: f64 = 0.005;

/// The load of an endpoint.
#[derive(Debug)]
pub(super) struct Load {
    running: AtomicUsize,
    latency: Mutex<Latency>,
}

#[derive(Debug)]
struct Latency {
    /// Seconds.
    peak: f64,
    at: Instant,
}

impl Load {
    pub(super) fn new() -> Self {
        Self {
            running: AtomicUsize::new(0),
            latency: Mutex::new(Latency {
                peak: UNKNOWN,
                at: Instant::now(),
            }),
        }
    }

    pub(super) fn begin(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// An answer began after so long.
    pub(super) fn measured(&self, took: Duration) {
        let (now, took) = (Instant::now(), took.as_secs_f64());
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let weight = faded(now - latency.at);
        latency.peak = if took > latency.peak {
            took
        } else {
            latency.peak * weight + took * (1.0 - weight)
        };
        latency.at = now;
    }

    /// What another call would meet.
    pub(super) fn cost(&self) -> f64 {
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let peak = latency.peak * faded(latency.at.elapsed());
        drop(latency);
        peak.max(f64::MIN_POSITIVE) * (self.running() + 1) as f64
    }
}

fn faded(time: Duration) -> f64 {
    (-time.as_secs_f64() / MEMORY.as_secs_f64()).exp()
}

/// Of two random items the cheaper one.
pub(super) fn pick<T>(items: &[T], cost: impl Fn(&T) -> f64) -> Option<&T> {
    match items {
        [] => None,
        [one] => Some(one),
        _ => {
            let first = rand::random_range(0..items.len());
            // Another one than the first.
            let second = (first + rand::random_range(1..items.len())) % items.len();
            let (first, second) = (&items[first], &items[second]);
            Some(if cost(second) < cost(first) {
                second
            } else {
                first
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peak_counts_at_once_and_fades() {
        let load = Load::new();
        load.measured(Duration::from_secs(1));
        let peak = load.cost();
        assert!((peak - 1.0).abs() < 1e-9);
        load.measured(Duration::from_millis(1));
        assert!(load.cost() > 0.9, "one good answer does not clear it");
        tokio::time::advance(MEMORY).await;
        assert!(load.cost() < 0.5);
    }

    #[tokio::test(start_paused = true)]
    async fn running_calls_make_an_endpoint_dearer() {
        let load = Load::new();
        load.measured(Duration::from_secs(1));
        let before = load.cost();
        load.begin();
        assert!(load.cost() > before * 1.5);
    }

    #[test]
    fn the_dearest_of_many_is_never_taken() {
        let items: Vec<usize> = (0..10).collect();
        for _ in 0..1000 {
            assert_ne!(pick(&items, |item| *item as f64), Some(&9));
        }
        assert_eq!(pick::<u8>(&[], |_| 0.0), None);
    }
}
