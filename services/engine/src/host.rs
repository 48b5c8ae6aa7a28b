//! What runner, steps and handlers of one module share.

use std::sync::Arc;

use tokio::sync::{Notify, broadcast};

use crate::{
    catalogue::Catalogue, config::Config, engine::AnyEngine, failpoint::Failpoints, ledger::Ledger,
};

/// How many changes a slow listener may miss before it reads everything again.
const BACKLOG: usize = 1024;

/// The parts of one module that has operations.
pub(crate) struct Host {
    pub(crate) store: store::Store,
    pub(crate) ledger: Ledger,
    pub(crate) catalogue: Catalogue,
    pub(crate) engine: Arc<dyn AnyEngine>,
    pub(crate) config: Config,
    pub(crate) drain: mesh::Drain,
    pub(crate) failpoints: Failpoints,
    /// Names this process in leases.
    pub(crate) replica: String,
    pub(crate) signals: Signals,
}

/// What this process tells itself; other replicas find out by looking.
pub(crate) struct Signals {
    /// An operation can be taken up.
    pub(crate) runnable: Notify,
    /// Names of operations that changed.
    pub(crate) operations: broadcast::Sender<String>,
    /// Names of services that changed.
    pub(crate) services: broadcast::Sender<String>,
}

impl Signals {
    pub(crate) fn new() -> Self {
        Self {
            runnable: Notify::new(),
            operations: broadcast::channel(BACKLOG).0,
            services: broadcast::channel(BACKLOG).0,
        }
    }

    /// Tells whoever listens that an operation, and its service, changed.
    pub(crate) fn changed(&self, operation: &str, service: &str) {
        // Nobody listening is no error.
        let _ = self.operations.send(operation.to_owned());
        let _ = self.services.send(service.to_owned());
    }
}

impl Host {
    /// A context for work of the module's own.
    pub(crate) fn background(&self) -> mesh::Context {
        mesh::Context::internal(self.engine.kind())
    }

    /// A context for calls that the module makes in its own name to answer a request: in its trace, within its time.
    pub(crate) fn on_behalf(&self, ctx: &mesh::Context) -> mesh::Context {
        let own = self.background().in_trace(&ctx.traceparent);
        match ctx.remaining() {
            Some(remaining) => own.within(remaining),
            None => own,
        }
    }
}
