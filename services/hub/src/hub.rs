//! What all sessions and calls of this replica share.

#[cfg(test)]
mod churn;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, Semaphore, broadcast, mpsc};
use tokio_util::task::TaskTracker;
use upm_mesh as mesh;
use upm_proto::{
    hub::v1::{self as pb, drain::Reason},
    ledger::limits,
};
use upm_store::{Store, time};

use crate::{
    Config, Error,
    commit::{Committer, What, Writers},
    drive::Certificate,
    ledger,
    ledger::read::Filter,
    metrics::Metrics,
    overload::Overload,
    replicas::Replicas,
    session::Fresh,
    tunnel::Tunnels,
};

/// Changes that a slow watcher may be behind before it re-reads everything.
const FEED: usize = 4_096;
/// Revocations are looked for this far back: clocks of replicas differ, and a poll may fail.
const REVOKED_US: i64 = 5 * 60 * time::SECOND_US;

/// The hub of this replica. Clones share it.
#[derive(Debug, Clone)]
pub struct Hub {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) config: Config,
    pub(crate) replica: String,
    pub(crate) authority: Arc<mesh::Authority>,
    /// The hub's own.
    pub(crate) identity: mesh::Identity,
    pub(crate) committer: Committer,
    pub(crate) writers: Writers,
    pub(crate) overload: Overload,
    pub(crate) tunnels: Tunnels,
    pub(crate) replicas: Replicas,
    pub(crate) metrics: Metrics,
    pub(crate) drain: mesh::Drain,
    pub(crate) sessions: Arc<Semaphore>,
    /// Sessions that run.
    pub(crate) running: TaskTracker,
    live: Mutex<HashMap<String, Live>>,
    feed: broadcast::Sender<Arc<str>>,
}

/// A live session as the rest of the replica sees it.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) epoch: u64,
    pub(crate) since: tokio::time::Instant,
    pub(crate) shared: Arc<Shared>,
    pub(crate) control: mpsc::Sender<Control>,
    pub(crate) certificate: Arc<Certificate>,
}

/// What a session publishes, and how it is woken.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) wake: Notify,
    pub(crate) received_rev: AtomicU64,
    pub(crate) handed_rev: AtomicU64,
    pub(crate) scanned_rev: AtomicU64,
    pub(crate) unhealthy: AtomicBool,
    pub(crate) message: Mutex<String>,
    pub(crate) held: Mutex<Vec<pb::Key>>,
    pub(crate) apply_queue: AtomicU32,
    pub(crate) oldest_unapplied_ms: AtomicU64,
}

/// What a session is told.
#[derive(Debug)]
pub(crate) enum Control {
    /// What was just committed for the agent.
    Fresh(Box<Fresh>),
    OpenTunnel(Box<pb::OpenTunnel>),
    ConfirmPrune(Box<pb::ConfirmPrune>),
    Cut(Reason),
    /// The CA certificates have changed.
    Roots,
    /// Come back not before so many milliseconds, spread over so many more.
    Drain(Reason, (u32, u32)),
}

impl Hub {
    /// Starts the hub's background work under `tasks`.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn start(
        store: Store,
        config: Config,
        authority: Arc<mesh::Authority>,
        identity: mesh::Identity,
        drain: mesh::Drain,
        tasks: &mut mesh::Tasks,
    ) -> Result<Self, Error> {
        let replica = if config.replica.is_empty() {
            std::env::var("HOSTNAME").unwrap_or_else(|_| "hub".into())
        } else {
            config.replica.clone()
        };
        let name = replica.clone();
        store
            .transact("forget sessions of an earlier process", move |conn| {
                ledger::agents::replica_started(conn, &name)
            })
            .await?;
        let (committer, commits) = Committer::new(store.clone());
        let (writers, writes) = Writers::new();
        let (feed, _) = broadcast::channel(FEED);
        let hub = Self {
            inner: Arc::new(Inner {
                sessions: Arc::new(Semaphore::new(config.sessions)),
                running: TaskTracker::new(),
                store,
                replicas: Replicas::new(&replica, &config.advertise, identity.clone()),
                identity,
                replica,
                authority,
                committer,
                writers,
                overload: Overload::new(config.entrance()),
                tunnels: Tunnels::default(),
                metrics: Metrics::new(),
                drain,
                live: Mutex::default(),
                feed,
                config,
            }),
        };
        hub.renew().await?;
        tasks.spawn("lease of the replica", hub.clone().keep_lease());
        tasks.spawn("group commit", commits.run(hub.clone()));
        tasks.spawn("group commit of writers", writes.run(hub.clone()));
        tasks.spawn("load", hub.clone().watch_load());
        tasks.spawn("changes of other replicas", hub.clone().poll());
        tasks.spawn("rotations of the authority", hub.clone().follow_authority());
        Ok(hub)
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, Live>> {
        self.inner
            .live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How many sessions are live on this replica.
    pub(crate) fn sessions(&self) -> usize {
        self.live().len()
    }

    /// Some agents with a live session here, whichever.
    pub(crate) fn some_agents(&self, count: usize) -> Vec<String> {
        self.live().keys().take(count).cloned().collect()
    }

    /// All live sessions on this replica.
    pub(crate) fn all_sessions(&self) -> Vec<(String, Live)> {
        let live = self.live();
        live.iter()
            .map(|(agent, session)| (agent.clone(), session.clone()))
            .collect()
    }

    /// The live session of an agent on this replica.
    pub(crate) fn session(&self, agent: &str) -> Option<Live> {
        self.live().get(agent).cloned()
    }

    /// Over how long agents shall spread their return if this replica is lost now, in milliseconds: the more agents, the longer.
    pub(crate) fn reconnect_spread_ms(&self) -> u32 {
        let (least, longest) = limits::RECONNECT_SPREAD_MS;
        let all_at_once = self.live().len() as u64 * 1_000 / limits::RETURNS_PER_SECOND;
        all_at_once.clamp(least, longest) as u32
    }

    /// Makes a session known; an older one of the same agent is cut.
    pub(crate) fn register(&self, agent: &str, session: Live) {
        let mut live = self.live();
        if live
            .get(agent)
            .is_some_and(|other| other.epoch > session.epoch)
        {
            return;
        }
        if let Some(older) = live.insert(agent.to_owned(), session) {
            let _ = older.control.try_send(Control::Cut(Reason::Fenced));
        }
        self.inner.metrics.opened();
        self.inner.metrics.live(live.len());
        drop(live);
        self.changed(agent);
    }

    /// Forgets a session, unless a newer one took its place.
    pub(crate) fn unregister(&self, agent: &str, epoch: u64) {
        let mut live = self.live();
        if live
            .get(agent)
            .is_some_and(|session| session.epoch == epoch)
        {
            live.remove(agent);
        }
        self.inner.metrics.live(live.len());
        drop(live);
        self.changed(agent);
    }

    /// Something of an agent has changed: its watchers look.
    pub(crate) fn changed(&self, agent: &str) {
        // Nobody may be watching.
        let _ = self.inner.feed.send(Arc::from(agent));
    }

    /// The ledger of an agent has changed: its session hears what was committed, or looks itself.
    pub(crate) fn written(&self, agent: &str, fresh: Fresh) {
        if let Some(session) = self.live().get(agent) {
            let told = Control::Fresh(Box::new(fresh));
            if session.control.try_send(told).is_err() {
                session.shared.wake.notify_one();
            }
        }
        self.changed(agent);
    }

    /// Asks the sessions that came last to go: nobody who is served well shall pay for those who came when there was too much to do.
    pub(crate) fn drain_newest(&self, count: usize, away_ms: (u32, u32)) {
        let mut sessions = self
            .live()
            .values()
            .map(|live| (live.since, live.control.clone()))
            .collect::<Vec<_>>();
        sessions.sort_unstable_by_key(|(since, _)| std::cmp::Reverse(*since));
        for (_, control) in sessions.into_iter().take(count) {
            if control
                .try_send(Control::Drain(Reason::Rebalance, away_ms))
                .is_ok()
            {
                self.inner.metrics.drained();
            }
        }
    }

    /// Ids of agents of which something has changed.
    pub(crate) fn feed(&self) -> broadcast::Receiver<Arc<str>> {
        self.inner.feed.subscribe()
    }

    /// What is known of an agent's connection.
    pub(crate) fn link(&self, row: &ledger::AgentRow) -> ledger::Link {
        match self.session(&row.id) {
            Some(session) => ledger::Link {
                connected: true,
                received_rev: session.shared.received_rev.load(Ordering::Relaxed),
                handed_rev: session.shared.handed_rev.load(Ordering::Relaxed),
            },
            None => ledger::Link {
                connected: self.inner.replicas.lives(&row.replica),
                received_rev: row.received_rev as u64,
                handed_rev: row.received_rev as u64,
            },
        }
    }

    /// Cuts an agent's session on this replica; other replicas see the epoch.
    pub(crate) async fn cut(&self, agent: &str, reason: Reason) {
        if reason == Reason::Revoked {
            self.inner.tunnels.cut(agent);
        }
        if let Some(session) = self.session(agent) {
            // A session that does not take the message within a second is stuck in its own writes, which the epoch fences.
            let _ = session
                .control
                .send_timeout(Control::Cut(reason), Duration::from_secs(1))
                .await;
        }
    }

    /// Cuts the sessions on this replica that were opened with one of these certificates.
    pub(crate) async fn cut_certificates(&self, fingerprints: &[String]) {
        let cut = self
            .live()
            .iter()
            .filter(|(_, live)| fingerprints.contains(&live.certificate.fingerprint))
            .map(|(agent, _)| agent.clone())
            .collect::<Vec<_>>();
        for agent in cut {
            self.cut(&agent, Reason::Revoked).await;
        }
    }

    /// What a join command pins: the root of the hub's own certificate, which every chain of the authority leads from.
    pub(crate) fn pin(&self) -> String {
        let own = self.inner.identity.pin();
        own.unwrap_or_else(|| self.inner.authority.pin())
    }

    /// Writes intents and wakes the agent's session.
    ///
    /// # Errors
    /// See `LedgerService.ApplyObjects`.
    pub async fn apply_objects(
        &self,
        request: pb::ApplyObjectsRequest,
        traceparent: &str,
    ) -> Result<Vec<pb::Written>, Error> {
        let writer = ledger::write::writer(request.writer, traceparent)?;
        let intents = ledger::write::prepare(request.intents, writer.owner())?;
        let what = What::Apply(intents);
        self.inner
            .writers
            .write(self, request.agent_id, writer, what)
            .await
    }

    /// Writes tombstones and wakes the agent's session.
    ///
    /// # Errors
    /// See `LedgerService.DeleteObjects`.
    pub async fn delete_objects(
        &self,
        request: pb::DeleteObjectsRequest,
        traceparent: &str,
    ) -> Result<Vec<pb::Written>, Error> {
        let writer = ledger::write::writer(request.writer, traceparent)?;
        let keys = ledger::write::check_keys(request.keys)?;
        let how = ledger::write::How {
            propagation: request.propagation,
            orphan: request.orphan,
        };
        let what = What::Delete(keys, how);
        self.inner
            .writers
            .write(self, request.agent_id, writer, what)
            .await
    }

    /// One object.
    ///
    /// # Errors
    /// See `LedgerService.GetObject`.
    pub async fn get_object(&self, agent: &str, key: pb::Key) -> Result<pb::Object, Error> {
        let id = agent.to_owned();
        let (row, (intent, status)) = self
            .inner
            .store
            .read("get object", move |conn| ledger::read::get(conn, &id, &key))
            .await?;
        Ok(ledger::object(intent, status, self.link(&row)))
    }

    /// A page of objects with the key text of each.
    pub(crate) async fn list_objects(
        &self,
        agent: &str,
        filter: Filter,
        after: Option<String>,
        limit: i64,
    ) -> Result<Vec<(String, pb::Object)>, Error> {
        let id = agent.to_owned();
        let (row, pairs) = self
            .inner
            .store
            .read("list objects", move |conn| {
                ledger::read::list(conn, &id, &filter, after.as_deref(), limit)
            })
            .await?;
        let link = self.link(&row);
        Ok(pairs
            .into_iter()
            .map(|(intent, status)| {
                (
                    intent.key_text.clone(),
                    ledger::object(intent, status, link),
                )
            })
            .collect())
    }

    /// Finds what other replicas changed, and what a lost hint hid: hints are a courtesy, this is the guarantee.
    async fn poll(self) {
        let mut known = HashMap::<String, (i64, i64)>::new();
        let every = Duration::from_millis(self.inner.config.poll_ms.max(50));
        let revoked = |conn: &mut upm_store::Connection| {
            ledger::agents::revoked_since(conn, time::now_us() - REVOKED_US)
        };
        loop {
            tokio::select! {
                () = self.inner.drain.signalled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let heads = match self
                .inner
                .store
                .read("heads of agents", ledger::agents::heads)
                .await
            {
                Ok(heads) => heads,
                Err(error) => {
                    tracing::warn!(%error, "Changes of other replicas cannot be read");
                    continue;
                }
            };
            match self.inner.store.read("revoked certificates", revoked).await {
                Ok(revoked) if revoked.is_empty() => {}
                Ok(revoked) => self.cut_certificates(&revoked).await,
                Err(error) => {
                    tracing::warn!(%error, "Revoked certificates cannot be read");
                }
            }
            let mut seen = HashMap::with_capacity(heads.len());
            for head in heads {
                if head.revoked {
                    // Those that outlive their session, too.
                    self.inner.tunnels.cut(&head.agent);
                }
                let place = (head.rev, head.change);
                if known.get(&head.agent) != Some(&place) {
                    self.changed(&head.agent);
                }
                let session = self.session(&head.agent);
                if let Some(session) = &session
                    && session.shared.scanned_rev.load(Ordering::Relaxed) < head.rev as u64
                {
                    session.shared.wake.notify_one();
                }
                if let Some(session) = session
                    && session.epoch < head.epoch as u64
                {
                    let reason = if head.revoked {
                        Reason::Revoked
                    } else {
                        Reason::Fenced
                    };
                    self.cut(&head.agent, reason).await;
                }
                seen.insert(head.agent, place);
            }
            let forgotten = self
                .live()
                .keys()
                .filter(|agent| !seen.contains_key(*agent) && known.contains_key(*agent))
                .cloned()
                .collect::<Vec<_>>();
            for agent in forgotten {
                self.cut(&agent, Reason::Revoked).await;
            }
            known = seen;
        }
    }
}
