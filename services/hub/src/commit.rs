//! Group commit: what sessions write is taken together, so that one transaction serves many of them. Whatever is waiting goes at once;
//! the next group forms while this one commits. What writers ask for goes the same way, in groups of its own.

#[cfg(test)]
pub(crate) mod tests;
mod writers;

pub(crate) use writers::{What, Writers};

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};
use upm_mesh::Drain;
use upm_store::{Connection, Store};

use crate::{
    Error, Hub, TRACE_TARGET, ledger,
    session::{Command, Reply},
};

/// Commands that may wait.
const QUEUE: usize = 4_096;
/// Keys of one transaction, about.
const GROUP: usize = 1_000;

/// How long sessions may be silent while they drain.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Work {
    agent: String,
    epoch: u64,
    command: Command,
    reply: oneshot::Sender<Result<Reply, ()>>,
}

/// What was not committed.
#[derive(Debug, Default)]
struct Failed {
    /// Whether the store refused a statement, so that the rest may do without it; otherwise the store itself is away.
    refused: bool,
    /// Per agent and epoch.
    works: Vec<Vec<Work>>,
}

/// Where sessions hand in what they write.
#[derive(Debug, Clone)]
pub(crate) struct Committer {
    queue: mpsc::Sender<Work>,
}

/// The task behind it.
#[derive(Debug)]
pub(crate) struct Commits {
    store: Store,
    queue: mpsc::Receiver<Work>,
}

impl Committer {
    pub(crate) fn new(store: Store) -> (Self, Commits) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (Self { queue: sender }, Commits { store, queue })
    }

    /// Commits a command; `None` when it failed and may be tried again.
    pub(crate) async fn commit(&self, agent: &str, epoch: u64, command: Command) -> Option<Reply> {
        let (reply, committed) = oneshot::channel();
        let work = Work {
            agent: agent.to_owned(),
            epoch,
            command,
            reply,
        };
        self.queue.send(work).await.ok()?;
        committed.await.ok()?.ok()
    }
}

fn weight(command: &Command) -> usize {
    match command {
        Command::Results { results, .. } => results.len(),
        Command::Statuses { updates, .. } => updates.len(),
        Command::Inventory { batch, .. } => batch.events.len(),
        // Many statements: a crowd of returning agents must not hold up the reports of those who are there.
        Command::Claim(_) => 8,
        Command::Scan { .. }
        | Command::Fetch { .. }
        | Command::FetchRevisions { .. }
        | Command::Index
        | Command::Received { .. }
        | Command::PruneHeld(_)
        | Command::Certificate(_) => 1,
    }
}

/// Takes epochs: what a session does before it has one.
fn claims(
    conn: &mut Connection,
    agent: &str,
    commands: &[&Command],
    replica: &str,
) -> Result<Vec<Reply>, Error> {
    commands
        .iter()
        .map(|command| match command {
            Command::Claim(hello) => ledger::session::claim(conn, agent, hello, replica),
            Command::Scan { .. }
            | Command::Fetch { .. }
            | Command::FetchRevisions { .. }
            | Command::Index
            | Command::Results { .. }
            | Command::Statuses { .. }
            | Command::Inventory { .. }
            | Command::Received { .. }
            | Command::PruneHeld(_)
            | Command::Certificate(_) => Err(Error::Corrupt("command")),
        })
        .collect()
}

fn trace(agent: &str, command: &Command) {
    if let Command::Results { results, .. } = command {
        for result in results {
            let generation = result.generation;
            tracing::trace!(target: TRACE_TARGET, agent, generation, committed = true, "A result is committed");
        }
    }
}

/// The drain has begun, and the time after which a session that still had something would have handed it in is over.
async fn quiet(drain: &Drain) {
    drain.signalled().await;
    tokio::time::sleep(QUIET).await;
}

impl Commits {
    /// Runs until the process drains and nobody hands in anything any more.
    pub(crate) async fn run(mut self, hub: Hub) {
        while let Some(first) = tokio::select! {
            // What was handed in while this task was held up is not silence.
            biased;
            first = self.queue.recv() => first,
            () = quiet(&hub.inner.drain) => None,
        } {
            let mut keys = weight(&first.command);
            let mut group = vec![first];
            while keys < GROUP
                && let Ok(more) = self.queue.try_recv()
            {
                keys += weight(&more.command);
                group.push(more);
            }
            self.commit(&hub, group).await;
        }
    }

    /// Commits a group. When that fails and the group is of several agents, each is committed by itself: what the store refuses of one
    /// must not hold up the others.
    async fn commit(&self, hub: &Hub, group: Vec<Work>) {
        hub.inner.overload.committing(true);
        let mut failed = self.together(hub, group).await;
        if failed.refused && failed.works.len() > 1 {
            let mut rest = Vec::new();
            for works in failed.works {
                rest.extend(self.together(hub, works).await.works);
            }
            failed.works = rest;
        }
        if failed.works.is_empty() {
            // What failed comes again: until then the store counts as late.
            hub.inner.overload.committing(false);
        }
        for work in failed.works.into_iter().flatten() {
            let _ = work.reply.send(Err(()));
        }
    }

    /// Commits works in one transaction; returns those that were not committed.
    async fn together(&self, hub: &Hub, group: Vec<Work>) -> Failed {
        // Agents in one order, so that groups of two replicas do not lock crosswise.
        let mut agents = BTreeMap::<(String, u64), Vec<Work>>::new();
        for work in group {
            agents
                .entry((work.agent.clone(), work.epoch))
                .or_default()
                .push(work);
        }
        let todo = agents
            .iter()
            .map(|(of, works)| {
                let commands = works.iter().map(|w| w.command.clone()).collect::<Vec<_>>();
                (of.clone(), commands)
            })
            .collect::<Vec<_>>();
        let replica = hub.inner.replica.clone();
        let (began, works) = (Instant::now(), todo.iter().map(|(_, c)| c.len()).sum());
        let done = self
            .store
            .transact("commit what agents report", move |conn| {
                todo.iter()
                    .map(|((agent, epoch), commands)| {
                        let commands = commands.iter().collect::<Vec<_>>();
                        if *epoch == 0 {
                            return claims(conn, agent, &commands, &replica);
                        }
                        ledger::session::commit(conn, agent, *epoch, &commands)
                    })
                    .collect::<Result<Vec<_>, Error>>()
            })
            .await;
        match done {
            Ok(replies) => {
                let took = began.elapsed().as_secs_f64();
                hub.inner.metrics.committed(works, took);
                for (((agent, _), works), replies) in agents.into_iter().zip(replies) {
                    for (work, reply) in works.into_iter().zip(replies) {
                        trace(&agent, &work.command);
                        // The session may have ended meanwhile.
                        let _ = work.reply.send(Ok(reply));
                    }
                    hub.changed(&agent);
                }
                Failed::default()
            }
            Err(error) => {
                hub.inner.metrics.failed();
                tracing::warn!(%error, agents = agents.len(), "What agents report cannot be committed; it will be tried again");
                Failed {
                    refused: !matches!(error, Error::Store(_)),
                    works: agents.into_values().collect(),
                }
            }
        }
    }
}
