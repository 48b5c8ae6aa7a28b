//! Group commit of what writers ask for. Each request is all or nothing by itself: one that is refused leaves the others of its group alone.

use std::sync::Arc;

use diesel::Connection as _;
use tokio::sync::{mpsc, oneshot};
use upm_proto::hub::v1 as pb;
use upm_store::Connection;

use crate::{
    Error, Hub,
    ledger::write::{self, How, Outcome, Prepared, Writer},
};

/// Requests that may wait.
const QUEUE: usize = 1_024;
/// Rows of one transaction, about.
const GROUP: usize = 500;

/// What is asked for, checked.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Apply(Vec<Prepared>),
    Delete(Vec<pb::Key>, How),
}

#[derive(Debug)]
struct Asked {
    agent: String,
    writer: Writer,
    what: What,
}

#[derive(Debug)]
struct Request {
    asked: Arc<Asked>,
    reply: oneshot::Sender<Result<Vec<pb::Written>, Error>>,
}

/// Where writers hand in requests.
#[derive(Debug, Clone)]
pub(crate) struct Writers {
    queue: mpsc::Sender<Request>,
}

/// The task behind it.
#[derive(Debug)]
pub(crate) struct Writes {
    queue: mpsc::Receiver<Request>,
}

impl Asked {
    fn rows(&self) -> usize {
        match &self.what {
            What::Apply(intents) => intents.len(),
            What::Delete(keys, _) => keys.len(),
        }
    }

    /// As part of a larger transaction: refused without a trace. A request of one row needs no savepoint for that, as it is checked in full
    /// before anything is written.
    fn run_within(&self, conn: &mut Connection) -> Result<Outcome, Error> {
        if self.rows() == 1 {
            self.run(conn)
        } else {
            conn.transaction(|conn| self.run(conn))
        }
    }

    fn run(&self, conn: &mut Connection) -> Result<Outcome, Error> {
        match &self.what {
            What::Apply(intents) => write::apply_objects(conn, &self.agent, &self.writer, intents),
            What::Delete(keys, how) => {
                write::delete_objects(conn, &self.agent, &self.writer, keys, *how)
            }
        }
    }
}

impl Writers {
    pub(crate) fn new() -> (Self, Writes) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (Self { queue: sender }, Writes { queue })
    }

    /// Commits a request and tells the agent's session.
    pub(crate) async fn write(
        &self,
        hub: &Hub,
        agent: String,
        writer: Writer,
        what: What,
    ) -> Result<Vec<pb::Written>, Error> {
        let asked = Arc::new(Asked {
            agent,
            writer,
            what,
        });
        let (reply, committed) = oneshot::channel();
        let request = Request {
            asked: asked.clone(),
            reply,
        };
        if self.queue.send(request).await.is_ok()
            && let Ok(done) = committed.await
        {
            return done;
        }
        // The task has ended with the process's drain; what is asked for is idempotent.
        alone(hub, asked).await
    }
}

/// Commits one request in a transaction of its own.
async fn alone(hub: &Hub, asked: Arc<Asked>) -> Result<Vec<pb::Written>, Error> {
    let todo = asked.clone();
    let outcome = hub
        .inner
        .store
        .transact("write a ledger", move |conn| todo.run(conn))
        .await?;
    Ok(told(hub, &asked.agent, outcome))
}

/// Tells the session what was committed.
fn told(hub: &Hub, agent: &str, (written, fresh): Outcome) -> Vec<pb::Written> {
    if let Some(fresh) = fresh {
        hub.written(agent, fresh);
    }
    written
}

/// Whether the transaction as a whole has failed, and not only what one request wanted.
fn is_of_the_store(error: &Error) -> bool {
    matches!(error, Error::Store(_) | Error::Database(_))
}

impl Writes {
    /// Runs until nobody hands in anything any more, or the process ends.
    pub(crate) async fn run(mut self, hub: Hub) {
        while let Some(first) = tokio::select! {
            // What was handed in while this task was held up is not silence.
            biased;
            first = self.queue.recv() => first,
            () = super::quiet(&hub.inner.drain) => None,
        } {
            let mut rows = first.asked.rows();
            let mut group = vec![first];
            while rows < GROUP
                && let Ok(more) = self.queue.try_recv()
            {
                rows += more.asked.rows();
                group.push(more);
            }
            Self::commit(&hub, group).await;
        }
        // What came meanwhile is still done.
        self.queue.close();
        while let Some(last) = self.queue.recv().await {
            Self::commit(&hub, vec![last]).await;
        }
    }

    async fn commit(hub: &Hub, mut group: Vec<Request>) {
        // Agents in one order, so that groups of two replicas do not lock crosswise. Requests of one agent stay in order.
        group.sort_by(|a, b| a.asked.agent.cmp(&b.asked.agent));
        if group.len() > 1 {
            let todo = group
                .iter()
                .map(|request| request.asked.clone())
                .collect::<Vec<_>>();
            let done = hub
                .inner
                .store
                .transact("write ledgers", move |conn| {
                    todo.iter()
                        .map(|asked| match asked.run_within(conn) {
                            Err(error) if is_of_the_store(&error) => Err(error),
                            done => Ok(done),
                        })
                        .collect::<Result<Vec<_>, Error>>()
                })
                .await;
            match done {
                Ok(outcomes) => {
                    hub.inner.metrics.written(group.len());
                    for (request, outcome) in group.into_iter().zip(outcomes) {
                        let written =
                            outcome.map(|outcome| told(hub, &request.asked.agent, outcome));
                        // The caller may have gone.
                        let _ = request.reply.send(written);
                    }
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, requests = group.len(), "A group of writers failed; each is tried alone");
                }
            }
        }
        for request in group {
            let written = alone(hub, request.asked).await;
            hub.inner.metrics.written(1);
            let _ = request.reply.send(written);
        }
    }
}
