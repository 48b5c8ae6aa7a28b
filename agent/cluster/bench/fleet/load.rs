//! Writers of intents, as the engine's workflows are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::Semaphore, task::JoinSet};
use upm_hub::Hub;
use upm_proto::hub::v1 as pb;

use crate::{
    child::{Answer, pairs},
    ledger,
    tap::{Tap, quantile},
};

/// Time for the last results.
const PATIENCE: Duration = Duration::from_secs(10);
/// Agents that a rollout writes to at once.
const ROLLOUT: usize = 256;
/// Applies per second beside a rollout.
const BESIDE: u64 = 100;

static SERIES: AtomicU64 = AtomicU64::new(1);

/// Writes through the hub.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) hub: Hub,
    pub(crate) tap: Tap,
    generation: Arc<AtomicU64>,
}

impl Load {
    pub(crate) fn new(hub: Hub, tap: Tap) -> Self {
        // Above all that an earlier process has written.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            hub,
            tap,
            generation: Arc::new(AtomicU64::new(now.as_micros() as u64)),
        }
    }

    fn series() -> usize {
        SERIES.fetch_add(1, Ordering::Relaxed) as usize
    }

    /// One intent of one agent.
    async fn write(&self, series: usize, agent: String, n: usize) {
        self.write_as(series, agent, |generation| ledger::intent(n, generation))
            .await;
    }

    async fn write_as(&self, series: usize, agent: String, intent: impl FnOnce(u64) -> pb::Intent) {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        self.tap.expect(series, &agent, generation);
        let request = pb::ApplyObjectsRequest {
            agent_id: agent.clone(),
            writer: Some(pb::Writer {
                owner: ledger::OWNER.into(),
                epoch: 1,
            }),
            intents: vec![intent(generation)],
        };
        match self.hub.apply_objects(request, "").await {
            Ok(_) => self.tap.committed(&agent, generation),
            Err(error) => {
                eprintln!("write: {error}");
                self.tap.failed(&agent, generation);
            }
        }
    }

    /// `rate` intents per second, whether results come or not, over agents `first..first + count`.
    pub(crate) async fn steady(
        &self,
        rate: u64,
        seconds: u64,
        first: usize,
        count: usize,
        n: usize,
    ) -> Answer {
        let series = Self::series();
        let (sent, began) = self
            .offered(series, rate, Duration::from_secs(seconds), first, count, n)
            .await;
        let took = began.elapsed();
        let late = self.settle(series).await;
        let times = self.tap.take(series);
        pairs([
            ("sent", sent as f64),
            ("late", late as f64),
            ("rate", sent as f64 / took.as_secs_f64()),
            ("p50", quantile(&times.came, 0.50)),
            ("p99", quantile(&times.came, 0.99)),
            ("max", quantile(&times.came, 1.0)),
            ("settled_p50", quantile(&times.settled, 0.50)),
            ("settled_p99", quantile(&times.settled, 0.99)),
        ])
    }

    async fn offered(
        &self,
        series: usize,
        rate: u64,
        time: Duration,
        first: usize,
        count: usize,
        n: usize,
    ) -> (u64, Instant) {
        let began = Instant::now();
        let mut running = JoinSet::new();
        let mut sent = 0;
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        while began.elapsed() < time {
            tick.tick().await;
            let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
            while sent < due {
                let agent = ledger::agent(first + sent as usize % count);
                let load = self.clone();
                running.spawn(async move { load.write(series, agent, n).await });
                sent += 1;
            }
            while running.try_join_next().is_some() {}
        }
        while running.join_next().await.is_some() {}
        (sent, began)
    }

    /// Waits for the last results; how many did not come.
    async fn settle(&self, series: usize) -> usize {
        let deadline = Instant::now() + PATIENCE;
        while self.tap.waiting(series) > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.tap.waiting(series)
    }

    /// One change to every agent, and other changes beside it.
    pub(crate) async fn fan_out(&self, agents: usize) -> Answer {
        let (series, beside) = (Self::series(), Self::series());
        let other = self.clone();
        let time = Duration::from_secs(4);
        let unrelated =
            tokio::spawn(async move { other.offered(beside, BESIDE, time, 0, agents, 1).await });
        let began = Instant::now();
        let slots = Arc::new(Semaphore::new(ROLLOUT));
        let mut running = JoinSet::new();
        for n in 0..agents {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                break;
            };
            let load = self.clone();
            running.spawn(async move {
                load.write(series, ledger::agent(n), 0).await;
                drop(slot);
            });
            while running.try_join_next().is_some() {}
        }
        while running.join_next().await.is_some() {}
        let written = began.elapsed();
        let deadline = Instant::now() + 3 * PATIENCE;
        while self.tap.waiting(series) > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let settled = began.elapsed();
        let late = self.tap.waiting(series);
        let _ = unrelated.await;
        self.settle(beside).await;
        let (times, others) = (self.tap.take(series), self.tap.take(beside));
        pairs([
            ("late", late as f64),
            ("written", written.as_secs_f64()),
            ("settled", settled.as_secs_f64()),
            ("p99", quantile(&times.settled, 0.99)),
            ("unrelated", others.came.len() as f64),
            ("unrelated_p99", quantile(&others.came, 0.99)),
        ])
    }

    /// `count` ConfigMaps of one agent, until all have a result.
    pub(crate) async fn config_maps(&self, agent: &str, count: usize) -> Answer {
        let series = Self::series();
        for n in 0..count {
            let intent = |generation| ledger::config_map(n, generation);
            self.write_as(series, agent.to_owned(), intent).await;
        }
        let mut late = self.settle(series).await;
        for _ in 0..12 {
            if late > 0 {
                late = self.settle(series).await;
            }
        }
        self.tap.take(series);
        pairs([("late", late as f64)])
    }

    /// `count` intents of one agent, whether it reads or not.
    pub(crate) async fn push(&self, agent: &str, count: usize) -> Answer {
        let series = Self::series();
        for n in 0..count {
            self.write(series, agent.to_owned(), n).await;
        }
        self.tap.take(series);
        pairs([("sent", count as f64)])
    }
}
