//! How much this replica has to do, and who is let in.
//!
//! * GREEN — everything goes.
//! * YELLOW — status is committed once per second and session, inventory waits: credit comes back later, and agents merge.
//! * RED — status every three seconds; new sessions are refused with a slot. When memory is short, the newest of the live ones are asked to
//!   go, a hundredth per second, never the oldest. When it is time or the store that is short, all stay: coming back costs more of both.
//!
//! A level is left only after [`HOLD`] calm readings in a row, so that it does not flutter.

use std::{
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::Hub;

/// Between two readings.
const PACE: Duration = Duration::from_millis(500);
/// Calm readings in a row before a level is left.
const HOLD: u32 = 10;
/// A level is left below this part of what it is entered at.
const CALM: f64 = 0.7;
/// Share of the live sessions that is asked to go with each reading while it is red.
const DRAINED: usize = 200;
/// How long those who are asked to go stay away at least, in milliseconds, and over how much more they spread.
const AWAY_MS: (u32, u32) = (5_000, 20_000);
/// Whoever is refused comes back after at least this long.
const LEAST_SLOT: Duration = Duration::from_millis(500);
/// Bytes of a page, as `statm` counts.
const PAGE: u64 = 4_096;

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// No more than can be done.
    #[default]
    Green,
    /// What can wait waits.
    Yellow,
    /// Nobody new.
    Red,
}

impl Level {
    /// Between two commits of status of one session.
    pub(crate) fn status_pause_ms(self) -> u64 {
        match self {
            Self::Green => 0,
            Self::Yellow => 1_000,
            Self::Red => 3_000,
        }
    }

    fn of(number: u8) -> Self {
        match number {
            0 => Self::Green,
            1 => Self::Yellow,
            _ => Self::Red,
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Readings {
    /// How late a timer came.
    pub(crate) lag: Duration,
    /// How long the oldest report waits to be committed.
    pub(crate) commit: Duration,
    /// Part of the memory that may be used; 0 when no limit is known.
    pub(crate) memory: f64,
}

impl Readings {
    /// Without what gets worse when sessions go and come back.
    fn of_memory(self) -> Self {
        Self {
            memory: self.memory,
            ..Self::default()
        }
    }

    /// How far it is on the way to a level, 1 and more when it is reached.
    fn share(self, of: Level) -> f64 {
        let (lag, commit, memory) = match of {
            Level::Green => return 0.0,
            Level::Yellow => (0.1, 1.0, 0.75),
            Level::Red => (1.0, 10.0, 0.9),
        };
        (self.lag.as_secs_f64() / lag)
            .max(self.commit.as_secs_f64() / commit)
            .max(self.memory / memory)
    }
}

/// The level and how long it has been calm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Judge {
    pub(crate) level: Level,
    calm: u32,
}

impl Judge {
    /// The next reading. A step at a time: up with each reading, so that one pause of the process is not taken for overload; down late.
    pub(crate) fn hear(&mut self, readings: Readings) -> Level {
        let reached = [Level::Red, Level::Yellow]
            .into_iter()
            .find(|level| readings.share(*level) >= 1.0)
            .unwrap_or(Level::Green);
        if reached >= self.level {
            if reached > self.level || readings.share(self.level) >= CALM {
                self.calm = 0;
            }
            self.level = match self.level {
                Level::Green => reached.min(Level::Yellow),
                Level::Yellow | Level::Red => reached,
            };
            return self.level;
        }
        if readings.share(self.level) >= CALM {
            self.calm = 0;
            return self.level;
        }
        self.calm += 1;
        if self.calm >= HOLD {
            self.calm = 0;
            self.level = match self.level {
                Level::Red => Level::Yellow,
                Level::Yellow | Level::Green => Level::Green,
            };
        }
        self.level
    }
}

/// What sessions and the port ask.
#[derive(Debug)]
pub(crate) struct Overload {
    level: AtomicU8,
    began: Instant,
    /// Since when the present group is being committed, in milliseconds from `began`, plus one; 0 when none is.
    committing: AtomicU64,
    pub(crate) admission: Admission,
}

impl Overload {
    pub(crate) fn new(sessions_per_second: u32) -> Self {
        Self {
            level: AtomicU8::new(0),
            began: Instant::now(),
            committing: AtomicU64::new(0),
            admission: Admission::new(f64::from(sessions_per_second)),
        }
    }

    pub(crate) fn level(&self) -> Level {
        Level::of(self.level.load(Ordering::Relaxed))
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// A group commit begins, or has ended well; one that failed goes on until the store is back.
    pub(crate) fn committing(&self, is: bool) {
        if !is {
            self.committing.store(0, Ordering::Relaxed);
            return;
        }
        let since = self.now_ms() + 1;
        let _ = self
            .committing
            .compare_exchange(0, since, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn commit_lag(&self) -> Duration {
        match self.committing.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis((self.now_ms() + 1).saturating_sub(since)),
        }
    }

    /// Lets a session in, or says when it may come again.
    pub(crate) fn enter(&self) -> Result<(), Duration> {
        let red = self.level() == Level::Red;
        self.admission
            .enter(Instant::now(), red, rand::random_range(0.0..1.0))
    }
}

/// How many sessions may begin per second; who comes when there are more is owed a turn.
#[derive(Debug)]
pub(crate) struct Admission {
    rate: f64,
    state: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    /// Refused dials that will come again.
    owed: f64,
    at: Option<Instant>,
}

impl Admission {
    pub(crate) fn new(rate: f64) -> Self {
        let rate = rate.max(1.0);
        Self {
            rate,
            state: Mutex::new(Bucket {
                tokens: rate,
                owed: 0.0,
                at: None,
            }),
        }
    }

    /// One dial; `dice` is in 0..1. The slot of a refused one lies somewhere in the time that the backlog takes, so that the backlog comes
    /// back no faster than it can be served.
    pub(crate) fn enter(&self, now: Instant, closed: bool, dice: f64) -> Result<(), Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = state
            .at
            .map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        state.at = Some(now);
        state.tokens = (state.tokens + self.rate * passed).min(self.rate);
        if !closed {
            state.owed = (state.owed - self.rate * passed).max(0.0);
            if state.tokens >= 1.0 {
                state.tokens -= 1.0;
                return Ok(());
            }
        }
        state.owed += 1.0;
        let backlog = Duration::from_secs_f64((state.owed / self.rate).max(1.0));
        Err(LEAST_SLOT + backlog.mul_f64(dice))
    }
}

/// Bytes that this process may use: as configured, or as its control group says.
fn memory_limit(configured_mib: u64) -> Option<u64> {
    if configured_mib > 0 {
        return Some(configured_mib << 20);
    }
    let text = fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?;
    text.trim().parse().ok()
}

/// Bytes that this process uses.
fn memory_used() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE)
}

impl Hub {
    /// Keeps the level until the process drains.
    pub(crate) async fn watch_load(self) {
        let limit = memory_limit(self.inner.config.memory_mib);
        let overload = &self.inner.overload;
        let mut judge = Judge::default();
        loop {
            let asleep = Instant::now();
            tokio::select! {
                () = self.inner.drain.signalled() => return,
                () = tokio::time::sleep(PACE) => {}
            }
            let used = limit.and_then(|limit| Some(memory_used()? as f64 / limit as f64));
            let readings = Readings {
                lag: asleep.elapsed().saturating_sub(PACE),
                commit: overload.commit_lag(),
                memory: used.unwrap_or(0.0),
            };
            let before = judge.level;
            let level = judge.hear(readings);
            overload.level.store(level as u8, Ordering::Relaxed);
            self.inner.metrics.level(level);
            if level != before {
                tracing::warn!(
                    ?level,
                    ?before,
                    ?readings,
                    "The load of this replica has changed"
                );
            }
            if before == Level::Red && readings.of_memory().share(Level::Red) >= 1.0 {
                let count = self.sessions().div_ceil(DRAINED);
                self.drain_newest(count, AWAY_MS);
            }
        }
    }
}

#[cfg(test)]
mod tests;
