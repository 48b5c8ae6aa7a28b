//! A module: its routes and the tasks that it owns.

use std::{fmt, future::Future, time::Duration};

use tokio::task::JoinSet;
use tonic::service::Routes;

/// What a module crate hands to the process that hosts it.
#[derive(Debug)]
pub struct Module {
    /// `redis`; its SPIFFE id is `spiffe://upm/module/redis`.
    pub name: &'static str,
    /// Its services.
    pub routes: Routes,
    /// Its background work.
    pub tasks: Tasks,
}

/// Owns background tasks: they are aborted when it is dropped.
#[derive(Default)]
pub struct Tasks {
    set: JoinSet<&'static str>,
}

impl Tasks {
    /// No tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task under a name for the logs. Needs a tokio runtime.
    pub fn spawn(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(async move {
            work.await;
            name
        });
    }

    /// Takes the tasks of another owner.
    pub fn adopt(&mut self, name: &'static str, other: Self) {
        self.spawn(name, other.finished());
    }

    /// How many tasks have not been collected.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Waits until all tasks have ended. A task that panicked is logged.
    pub async fn finished(mut self) {
        while let Some(ended) = self.set.join_next().await {
            match ended {
                Ok(name) => tracing::debug!(task = name, "task ended"),
                Err(error) if error.is_panic() => tracing::error!(%error, "a task panicked"),
                Err(_) => {}
            }
        }
    }

    /// Waits until all tasks have ended, at most for `grace`, then aborts the rest. True when none had to be aborted.
    pub async fn finished_within(self, grace: Duration) -> bool {
        tokio::time::timeout(grace, self.finished()).await.is_ok()
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("running", &self.set.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dropping_the_owner_ends_its_tasks() {
        let (alive, mut ended) = tokio::sync::mpsc::channel::<()>(1);
        let mut tasks = Tasks::new();
        tasks.spawn("waits forever", async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        assert_eq!(tasks.len(), 1);
        drop(tasks);
        assert_eq!(ended.recv().await, None);
    }

    #[tokio::test]
    async fn a_panic_of_one_task_does_not_end_the_others() {
        let mut tasks = Tasks::new();
        tasks.spawn("panics", async { panic!("on purpose") });
        let (done, is_done) = tokio::sync::oneshot::channel();
        tasks.spawn("works", async move {
            let _ = done.send(());
        });
        assert!(tasks.finished_within(Duration::from_mins(1)).await);
        assert_eq!(is_done.await, Ok(()));
    }
}
