//! Deterministic simulation: the real hub session and ledger, the real agent session, a cluster that is a map. Everything between them
//! (frames, store commands and their answers, API calls, writes of the durable copy, hints, the clocks) happens in an order that a seed
//! decides. What breaks: connections, for both sides, for one, or for nobody's knowledge (half-open); readers (slow); the store (stalls,
//! answers that are lost after the commit); replicas and agents (crashes at any point, SIGSTOP for up to a minute, a new leader while the
//! old one still writes); the durable copy (entries missing); clocks (each process has its own, from zero); the ledger (an older backup, an
//! empty one); and the hub is away for longer than some intents may live. Oracles I1–I7, I10, I13, I14, I23 and G10 of the protocol watch.
//!
//! `SEED=n` replays one seed, `SEEDS=n` runs that many: `make simulate SEEDS=10000`.

mod cluster;
#[cfg(feature = "mutations")]
mod mutations;
mod oracle;
#[cfg(not(feature = "mutations"))]
mod pace;
mod world;

use std::{collections::BTreeMap, hash::Hasher as _};

use rand::Rng as _;
use upm_hub::ledger;
use upm_store::Store;

pub(crate) use cluster::Cluster;
use world::World;

/// Seeds of the normal test.
const SEEDS: u64 = 200;
/// Seeds of the tests that restore an older ledger.
const RESTORES: u64 = 40;
/// Random steps of one seed.
const STEPS: u32 = 400;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds to run: one, as many as asked for, or `normal`.
fn seeds(normal: u64) -> std::ops::Range<u64> {
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(normal),
    }
}

pub(crate) async fn store() -> (Store, tempfile::TempDir) {
    // A memory file system spares thousands of flushes; any other works too.
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .unwrap();
    let url = format!("sqlite:{}/hub.db", folder.path().display());
    let store = Store::open(&url, "hub", upm_hub::MIGRATIONS).await.unwrap();
    (store, folder)
}

/// A new agent in the store, approved; its id. Tests share one store, agents do not touch each other.
pub(crate) async fn approved(store: &Store, prefix: &str) -> String {
    let id = format!("{prefix}-{:016x}", rand::random::<u64>());
    let name = id.clone();
    store
        .transact("invite", move |conn| {
            ledger::agents::invite(conn, &name, &ledger::random_token(), true, 60_000_000)?;
            ledger::agents::approve(conn, &name)
        })
        .await
        .unwrap();
    id
}

/// Prints the seed when a test fails in it.
struct Seed(&'static str, u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} failed with SEED={}", self.0, self.1);
        }
    }
}

/// One seed of the whole thing; returns what sums it up.
async fn converges(store: &Store, seed: u64) -> u64 {
    let mut world = World::new(store.clone(), seed).await;
    for _ in 0..STEPS {
        world.step().await;
    }
    world.settle().await;
    oracle::converged(&mut world).await;
    oracle::unchanged_resume_is_short(&mut world).await;
    world.trace.finish()
}

/// One seed in which the hub loses its ledger: an older one is restored, and writers may have gone on before the agent is back.
async fn restores(store: &Store, seed: u64) {
    let mut world = World::new(store.clone(), seed).await;
    let (first, second) = (
        world.rng.random_range(0..200),
        world.rng.random_range(0..200),
    );
    for _ in 0..first {
        world.step().await;
    }
    world.take_backup().await;
    for _ in 0..second {
        world.step().await;
    }
    let before = world
        .cluster
        .objects
        .iter()
        .filter(|(_, (_, live))| !live.deleting)
        .filter_map(|(text, (_, live))| Some((text.clone(), live.intent.as_ref()?.uid.clone())))
        .collect::<BTreeMap<_, _>>();
    world.restore_backup().await;
    for _ in 0..world.rng.random_range(0..8) {
        world.write().await;
    }
    world.settle().await;
    oracle::kept_what_the_backup_does_not_know(&mut world, &before);
}

/// One seed in which the hub's store is replaced by an empty one.
async fn empties(store: &Store, seed: u64) {
    let mut world = World::new(store.clone(), seed).await;
    for _ in 0..120 {
        world.step().await;
    }
    world.settle().await;
    let before = world.cluster.objects.len();
    world.restore_empty_ledger().await;
    world.settle().await;
    assert_eq!(
        world.cluster.objects.len(),
        before,
        "I4: objects went with the ledger"
    );
    // Refused intents have no object and are held too.
    assert!(
        world.agent.held() >= before,
        "I4: the guard holds what the new ledger does not know"
    );
}

/// One seed in which the hub is away several times, for longer and shorter than intents may live.
async fn silences(store: &Store, seed: u64) {
    let mut world = World::new(store.clone(), seed).await;
    for _ in 0..80 {
        world.step().await;
    }
    for _ in 0..3 {
        world.settle().await;
        oracle::converged(&mut world).await;
        let before = world.cluster.objects.clone();
        let began = world.silence.contact;
        let by = world.rng.random_range(5_000..140_000);
        world.silence(by).await;
        world.settle_alone();
        let silence = world.now - began;
        oracle::only_time_to_live_has_passed(&world, &before, silence);
    }
    world.settle().await;
    oracle::converged(&mut world).await;
}

#[cfg(not(feature = "mutations"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn converges_whatever_breaks_in_between() {
        let (store, _folder) = store().await;
        for seed in seeds(SEEDS) {
            let _seed = Seed("converges", seed);
            converges(&store, seed).await;
        }
    }

    #[tokio::test]
    async fn a_seed_replays_itself() {
        let (store, _folder) = store().await;
        for seed in 0..3 {
            let _seed = Seed("replays", seed);
            let (first, second) = (converges(&store, seed).await, converges(&store, seed).await);
            assert_eq!(first, second);
        }
    }

    #[tokio::test]
    async fn an_older_backup_deletes_nothing() {
        let (store, _folder) = store().await;
        for seed in seeds(RESTORES) {
            let _seed = Seed("older backup", seed);
            restores(&store, seed).await;
        }
    }

    #[tokio::test]
    async fn while_the_hub_is_away_nothing_goes_but_what_may_not_live_so_long() {
        let (store, _folder) = store().await;
        for seed in seeds(RESTORES) {
            let _seed = Seed("silences", seed);
            silences(&store, seed).await;
        }
    }

    #[tokio::test]
    async fn an_empty_ledger_deletes_nothing() {
        let (store, _folder) = store().await;
        for seed in seeds(RESTORES / 2) {
            let _seed = Seed("empty ledger", seed);
            empties(&store, seed).await;
        }
    }
}
