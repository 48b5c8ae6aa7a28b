//! What can be set about operations.

use std::time::Duration;

use serde::Deserialize;

/// Settings of a module with operations. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// How long a replica that died keeps its operations from others.
    pub lease_ms: u64,
    /// How often everything is looked at even when nothing was heard.
    pub tick_ms: u64,
    /// How many operations one replica works on at a time.
    pub concurrency: usize,
    /// How long undoing may take.
    pub undo_deadline_ms: u64,
    /// Multiplies the deadlines of operations, in percent.
    pub deadline_percent: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease_ms: 10_000,
            tick_ms: 3_000,
            concurrency: 64,
            undo_deadline_ms: 15 * 60 * 1_000,
            deadline_percent: 100,
        }
    }
}

impl Config {
    /// How long a lease lasts.
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms.max(100))
    }

    /// How often a lease is renewed.
    pub(crate) fn renewal(&self) -> Duration {
        self.lease() / 3
    }

    /// How often everything is looked at.
    pub(crate) fn tick(&self) -> Duration {
        Duration::from_millis(self.tick_ms.max(10))
    }

    /// A deadline as it applies here.
    pub(crate) fn deadline(&self, planned: Duration) -> Duration {
        planned * self.deadline_percent / 100
    }
}
