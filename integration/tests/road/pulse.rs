//! Time in which this process did not get to run.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Measures for how long this process did not get to run: a machine that stands still is no pause of the service.
#[derive(Debug, Clone)]
pub(crate) struct Pulse(Arc<Mutex<Beat>>);

#[derive(Debug)]
struct Beat {
    at: Instant,
    stood_still: Duration,
}

impl Pulse {
    const EVERY: Duration = Duration::from_millis(20);
    /// What a beat may be late without counting.
    const LATE: Duration = Duration::from_millis(100);

    /// Beats until it is dropped.
    pub(crate) fn start() -> Self {
        let beat = Arc::new(Mutex::new(Beat {
            at: Instant::now(),
            stood_still: Duration::ZERO,
        }));
        let beats = Arc::downgrade(&beat);
        thread::spawn(move || {
            while let Some(beat) = beats.upgrade() {
                beat.lock().unwrap_or_else(PoisonError::into_inner).beats();
                drop(beat);
                thread::sleep(Self::EVERY);
            }
        });
        Self(beat)
    }

    /// Altogether.
    pub(crate) fn stood_still(&self) -> Duration {
        let mut beat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        beat.beats();
        beat.stood_still
    }
}

impl Beat {
    fn beats(&mut self) {
        let late = self.at.elapsed().saturating_sub(Pulse::EVERY);
        if late > Pulse::LATE {
            self.stood_still += late;
        }
        self.at = Instant::now();
    }
}
