//! What the agent measures of its connection. Only the leader connects; the others say nothing.

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Gauge},
};

/// The instruments; made after telemetry is set up.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    connected: Gauge<u64>,
    lost: Counter<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("upm-agent");
        Self {
            connected: meter
                .u64_gauge("upm.agent.connected")
                .with_description("1 while the hub has welcomed a session that lives, otherwise 0")
                .build(),
            lost: meter
                .u64_counter("upm.agent.connections.lost")
                .with_description("Dials that failed and sessions that ended, by reason")
                .build(),
        }
    }

    /// An object of this kind was edited by somebody else, and the edit taken back.
    pub(crate) fn drift(kind: &str) {
        let counter = global::meter("upm-agent")
            .u64_counter("upm.agent.drift.reverted")
            .with_description("Edits of intents' objects by others that were taken back, by kind")
            .build();
        counter.add(1, &[KeyValue::new("kind", kind.to_owned())]);
    }

    pub(crate) fn connected(&self) {
        self.connected.record(1, &[]);
    }

    pub(crate) fn lost(&self, reason: &str) {
        self.connected.record(0, &[]);
        let reason = KeyValue::new("reason", reason.to_owned());
        self.lost.add(1, &[reason]);
    }
}
