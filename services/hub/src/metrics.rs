//! What the hub measures of the link. No label names an agent: an agent that is gone leaves nothing behind.

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge, Histogram},
};

use crate::overload::Level;

/// The instruments; made after telemetry is set up.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    sessions: Gauge<u64>,
    opened: Counter<u64>,
    closed: Counter<u64>,
    committed: Counter<u64>,
    failed: Counter<u64>,
    commit: Histogram<f64>,
    written: Counter<u64>,
    level: Gauge<u64>,
    refused: Counter<u64>,
    drained: Counter<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("upm-hub");
        Self {
            sessions: meter
                .u64_gauge("upm.hub.sessions")
                .with_description("Live sessions of this replica")
                .build(),
            opened: meter
                .u64_counter("upm.hub.sessions.opened")
                .with_description("Sessions that were welcomed")
                .build(),
            closed: meter
                .u64_counter("upm.hub.sessions.closed")
                .with_description("Sessions that ended, by reason")
                .build(),
            committed: meter
                .u64_counter("upm.hub.commits")
                .with_description("Reports of agents that were committed")
                .build(),
            failed: meter
                .u64_counter("upm.hub.commits.failed")
                .with_description("Group commits that failed and are tried again")
                .build(),
            written: meter
                .u64_counter("upm.hub.writes")
                .with_description("Requests of writers that were committed")
                .build(),
            level: meter
                .u64_gauge("upm.hub.load.level")
                .with_description("0 green, 1 yellow, 2 red")
                .build(),
            refused: meter
                .u64_counter("upm.hub.sessions.refused")
                .with_description("Sessions that were given a slot instead")
                .build(),
            drained: meter
                .u64_counter("upm.hub.sessions.drained")
                .with_description(
                    "Live sessions that were asked to go because there was too much to do",
                )
                .build(),
            commit: meter
                .f64_histogram("upm.hub.commit.duration")
                .with_unit("s")
                .with_description("Duration of group commits")
                .with_boundaries(vec![
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
                ])
                .build(),
        }
    }

    pub(crate) fn live(&self, sessions: usize) {
        self.sessions.record(sessions as u64, &[]);
    }

    pub(crate) fn opened(&self) {
        self.opened.add(1, &[]);
    }

    pub(crate) fn closed(&self, reason: &'static str) {
        self.closed.add(1, &[KeyValue::new("reason", reason)]);
    }

    pub(crate) fn committed(&self, works: usize, seconds: f64) {
        self.committed.add(works as u64, &[]);
        self.commit.record(seconds, &[]);
    }

    pub(crate) fn written(&self, requests: usize) {
        self.written.add(requests as u64, &[]);
    }

    pub(crate) fn level(&self, level: Level) {
        self.level.record(level as u64, &[]);
    }

    pub(crate) fn refused(&self) {
        self.refused.add(1, &[]);
    }

    pub(crate) fn drained(&self) {
        self.drained.add(1, &[]);
    }

    pub(crate) fn failed(&self) {
        self.failed.add(1, &[]);
    }
}
