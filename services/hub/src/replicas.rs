//! Replicas that share a store. Each moves its row every few seconds; whether another one lives is judged by the own clock alone, from
//! when its row was last seen to move. An agent is connected when its session is here, or its replica lives: liveness costs the store
//! as many writes as there are replicas, not as there are agents.
//!
//! A lease says nothing of who may write: that is what the epochs of the sessions are for.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use upm_mesh::{self as mesh, Channel, Identity, SpiffeId};
use upm_proto::hub::v1::drain::Reason;

use crate::{
    Error, Hub,
    ledger::replicas::{self as rows, ReplicaRow},
};

/// How often a replica moves its row.
const RENEW: Duration = Duration::from_secs(3);
/// A replica whose row has not moved for so long holds nobody.
const LEASE: Duration = Duration::from_secs(10);
/// Its row goes after this.
const FORGET: Duration = Duration::from_secs(60);
/// Sessions more than the others before any is moved: a tenth, and at least so many.
const SLACK: u64 = 8;

/// Another replica.
#[derive(Debug, Clone)]
struct Peer {
    row: ReplicaRow,
    moved: Instant,
}

impl Peer {
    fn lives(&self) -> bool {
        self.moved.elapsed() < LEASE
    }
}

/// What this replica knows of the others.
#[derive(Debug)]
pub(crate) struct Replicas {
    own: ReplicaRow,
    identity: Identity,
    peers: Mutex<HashMap<String, Peer>>,
    channels: Mutex<HashMap<String, Channel>>,
}

impl Replicas {
    pub(crate) fn new(name: &str, endpoint: &str, identity: Identity) -> Self {
        Self {
            own: ReplicaRow {
                name: name.to_owned(),
                instance: hex::encode(rand::random::<[u8; 16]>()),
                endpoint: endpoint.to_owned(),
                beats: 0,
                sessions: 0,
            },
            identity,
            peers: Mutex::default(),
            channels: Mutex::default(),
        }
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<String, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was read; returns rows that have not moved for so long that they can go.
    fn observe(&self, read: Vec<ReplicaRow>, now: Instant) -> Vec<ReplicaRow> {
        let mut peers = self.peers();
        let mut seen = HashMap::new();
        for row in read.into_iter().filter(|row| row.name != self.own.name) {
            let moved = match peers.remove(&row.name) {
                Some(before)
                    if (&before.row.instance, before.row.beats) == (&row.instance, row.beats) =>
                {
                    before.moved
                }
                _ => now,
            };
            seen.insert(row.name.clone(), Peer { row, moved });
        }
        *peers = seen;
        peers
            .values()
            .filter(|peer| now - peer.moved > FORGET)
            .map(|peer| peer.row.clone())
            .collect()
    }

    /// Whether a replica lives, as far as this one can see.
    pub(crate) fn lives(&self, name: &str) -> bool {
        let peers = self.peers();
        peers.get(name).is_some_and(Peer::lives)
    }

    /// Sessions of the others that live.
    fn others(&self) -> Vec<u64> {
        let peers = self.peers();
        let living = peers.values().filter(|peer| peer.lives());
        living.map(|peer| peer.row.sessions.max(0) as u64).collect()
    }

    /// The way to a replica that lives and said where it is.
    pub(crate) fn channel(&self, name: &str) -> Option<Channel> {
        let endpoint = {
            let peers = self.peers();
            let peer = peers.get(name).filter(|peer| peer.lives())?;
            peer.row.endpoint.clone()
        };
        let uri = format!("https://{endpoint}").parse().ok()?;
        let hub = SpiffeId::module("hub").ok()?;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let living = self.peers();
        channels.retain(|known, _| living.values().any(|peer| peer.row.endpoint == *known));
        let channel = channels
            .entry(endpoint)
            .or_insert_with(|| mesh::client::connect(vec![uri], self.identity.clone(), hub));
        Some(channel.clone())
    }
}

/// How many sessions to send away: what is above the mean, but not for a small difference, and at most a hundredth each second.
fn excess(mine: u64, others: &[u64], since: Duration) -> u64 {
    if others.is_empty() {
        return 0;
    }
    let total = mine + others.iter().sum::<u64>();
    let mean = total.div_ceil(others.len() as u64 + 1);
    if mine <= mean + (mean / 10).max(SLACK) {
        return 0;
    }
    (mine - mean).min((mine * since.as_secs() / 100).max(1))
}

impl Hub {
    /// Moves this replica's row once and reads the others'.
    pub(crate) async fn renew(&self) -> Result<(), Error> {
        let replicas = &self.inner.replicas;
        let own = ReplicaRow {
            sessions: self.sessions() as i64,
            ..replicas.own.clone()
        };
        let (read, taken) = self
            .inner
            .store
            .transact("renew a replica's lease", move |conn| {
                rows::renew(conn, &own)
            })
            .await?;
        // at the start it is what an earlier process left
        if taken && self.sessions() > 0 {
            tracing::warn!(
                replica = replicas.own.name,
                "Another process has the name of this replica; each replica needs a name of its own"
            );
        }
        for dead in replicas.observe(read, Instant::now()) {
            tracing::info!(replica = dead.name, "A replica is gone");
            self.inner
                .store
                .transact("forget a replica", move |conn| rows::forget(conn, &dead))
                .await?;
        }
        Ok(())
    }

    /// Keeps the lease and the balance until the hub drains; then the row goes, so that nobody waits for the lease to end.
    pub(crate) async fn keep_lease(self) {
        loop {
            tokio::select! {
                () = self.inner.drain.signalled() => break,
                () = tokio::time::sleep(RENEW) => {}
            }
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, "The lease of this replica cannot be renewed");
                continue;
            }
            let others = self.inner.replicas.others();
            let away = excess(self.sessions() as u64, &others, RENEW);
            if away > 0 {
                tracing::info!(away, "Sending agents to other replicas");
            }
            for agent in self.some_agents(away as usize) {
                self.cut(&agent, Reason::Rebalance).await;
            }
        }
        self.inner.running.wait().await;
        let name = self.inner.replicas.own.name.clone();
        let instance = self.inner.replicas.own.instance.clone();
        let gone = self
            .inner
            .store
            .transact("end a replica's lease", move |conn| {
                rows::end(conn, &name, &instance)
            })
            .await;
        if let Err(error) = gone {
            tracing::warn!(%error, "The end of this replica cannot be noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas() -> Replicas {
        let authority = mesh::Authority::create().unwrap();
        let id = SpiffeId::module("hub").unwrap();
        let issued = authority.issue(&id, &[], Duration::from_secs(60)).unwrap();
        let identity = Identity::issued(issued, &authority.certificates()).unwrap();
        Replicas::new("one", "127.0.0.1:1", identity)
    }

    fn row(beats: i64) -> ReplicaRow {
        ReplicaRow {
            name: "two".into(),
            instance: "i".into(),
            endpoint: "127.0.0.1:2".into(),
            beats,
            sessions: 5,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_lives_as_long_as_its_row_moves_by_the_clock_of_who_looks() {
        let replicas = replicas();
        assert!(replicas.observe(vec![row(7)], Instant::now()).is_empty());
        assert!(replicas.lives("two") && !replicas.lives("three"));
        tokio::time::advance(Duration::from_secs(9)).await;
        replicas.observe(vec![row(7)], Instant::now());
        assert!(replicas.lives("two") && replicas.channel("two").is_some());
        tokio::time::advance(Duration::from_secs(2)).await;
        replicas.observe(vec![row(7)], Instant::now());
        assert!(!replicas.lives("two") && replicas.channel("two").is_none());
        assert!(replicas.others().is_empty());
        replicas.observe(vec![row(8)], Instant::now());
        assert!(replicas.lives("two"));
        assert_eq!(replicas.others(), [5]);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(replicas.observe(vec![row(8)], Instant::now()), [row(8)]);
        replicas.observe(Vec::new(), Instant::now());
        assert!(!replicas.lives("two"));
    }

    #[test]
    fn sessions_are_sent_away_only_from_a_replica_that_has_clearly_more_and_slowly() {
        let second = Duration::from_secs(1);
        assert_eq!(excess(9_000, &[], second), 0);
        assert_eq!(excess(1_000, &[950, 980], second), 0);
        assert_eq!(excess(20, &[10], second), 0);
        assert_eq!(excess(9_000, &[0, 0], second), 90);
        assert_eq!(excess(9_000, &[0, 0], 3 * second), 270);
        assert_eq!(excess(50, &[0], second), 1);
        assert_eq!(excess(0, &[9_000], second), 0);
    }

    proptest::proptest! {
        #[test]
        fn balancing_ends(mut counts in proptest::collection::vec(0u64..20_000, 2..5)) {
            // as many steps as it takes to halve the largest at a hundredth a step, many times over
            for _ in 0..20_000 {
                let before = counts.clone();
                for at in 0..counts.len() {
                    let others = before.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, n)| *n).collect::<Vec<_>>();
                    let away = excess(before[at], &others, Duration::from_secs(3)).min(counts[at]);
                    counts[at] -= away;
                    // they land on the emptiest
                    let to = (0..counts.len()).min_by_key(|i| counts[*i]).unwrap();
                    counts[to] += away;
                }
                if counts == before { break; }
            }
            let mean = counts.iter().sum::<u64>().div_ceil(counts.len() as u64);
            for count in &counts {
                proptest::prop_assert!(*count <= mean + (mean / 10).max(SLACK));
            }
        }
    }
}
