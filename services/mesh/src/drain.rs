//! The end of a process: one signal that everything watches.

use std::{io, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Tells everything in the process that it ends. Clones share the signal.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    token: CancellationToken,
    listener: Option<Arc<Listener>>,
}

/// Owns the task that waits for signals.
#[derive(Debug)]
struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drain {
    /// A drain that only [`Drain::begin`] starts.
    pub fn new() -> Self {
        Self::default()
    }

    /// A drain that SIGTERM or SIGINT starts. Needs a tokio runtime. Errors: the handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let token = CancellationToken::new();
        let begun = token.clone();
        let task = tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "draining");
            begun.cancel();
        });
        Ok(Self {
            token,
            listener: Some(Arc::new(Listener(task))),
        })
    }

    /// Starts draining. Again is no error.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Waits until draining starts.
    pub async fn signalled(&self) {
        self.token.cancelled().await;
    }

    /// Whether draining has started.
    pub fn is_draining(&self) -> bool {
        self.token.is_cancelled()
    }

    /// The token, for code that knows only tokens.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// A drain that starts with this one and can be started alone.
    pub fn child(&self) -> Self {
        Self {
            token: self.token.child_token(),
            listener: self.listener.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_drains_with_its_parent_and_not_the_other_way_round() {
        let parent = Drain::new();
        let (first, second) = (parent.child(), parent.child());
        first.begin();
        assert!(first.is_draining() && !parent.is_draining() && !second.is_draining());
        parent.begin();
        second.signalled().await;
        assert!(second.is_draining());
    }
}
