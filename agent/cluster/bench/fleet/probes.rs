//! Agents that are measured one by one, or that misbehave.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use upm_agent::session::Persist;

use crate::{
    agents::{facts, place},
    child::{self, Answer, pairs},
    drip::Drip,
    fake::Fake,
    ledger,
    probe::{Flood, Probe},
};

/// Silence after which a resume is over: shorter than a heartbeat.
const SILENCE: Duration = Duration::from_millis(1_500);

/// Serves until the parent closes its lines.
pub(crate) async fn serve(folder: PathBuf, port: u16, intents: usize) -> anyhow::Result<()> {
    let pin = upm_mesh::Authority::open_or_create(&folder.join("ca"))?.pin();
    let mut probes = Probes {
        incarnations: ledger::incarnations(&folder)?,
        folder,
        port,
        pin,
        intents,
        vaults: BTreeMap::new(),
        misbehaving: JoinSet::new(),
    };
    child::answer_lines(async |words| probes.ask(words).await).await
}

struct Probes {
    folder: PathBuf,
    port: u16,
    pin: String,
    intents: usize,
    incarnations: BTreeMap<String, String>,
    /// Certificates outlive connections: a join token is good for one enrolment.
    vaults: BTreeMap<String, Arc<Fake>>,
    misbehaving: JoinSet<anyhow::Result<()>>,
}

impl Probes {
    async fn ask(&mut self, words: &[&str]) -> anyhow::Result<Answer> {
        Ok(match words {
            ["resume", intents] => self.resume(intents.parse()?).await?,
            ["flood", count, keys, seconds, how] => {
                self.flood(
                    count.parse()?,
                    keys.parse()?,
                    Duration::from_secs(seconds.parse()?),
                    *how == "committed",
                )
                .await?
            }
            ["misbehave", seconds] => {
                let until = Instant::now() + Duration::from_secs(seconds.parse()?);
                self.misbehave(until).await?;
                pairs([])
            }
            ["behave"] => {
                let mut ended = 0;
                while let Some(done) = self.misbehaving.join_next().await {
                    if let Ok(Err(error)) = done {
                        eprintln!("a misbehaving agent was cut: {error:#}");
                    }
                    ended += 1;
                }
                pairs([("ended", f64::from(ended))])
            }
            _ => bail!("what is `{}`?", words.join(" ")),
        })
    }

    async fn probe(&mut self, id: &str, port: u16, intents: usize) -> anyhow::Result<Probe> {
        let incarnation = self
            .incarnations
            .get(id)
            .context("a probe without ledger")?;
        let persist = ledger::settled(intents, incarnation)?;
        let vault = self.vaults.entry(id.to_owned()).or_insert_with(|| {
            let (seen, _) = mpsc::channel(1);
            Fake::new(Persist::default(), seen)
        });
        let place = place(&self.folder, port, id, &self.pin);
        Probe::dial(place, vault.clone(), facts(id), persist).await
    }

    /// Frames and bytes of a resume that finds nothing changed.
    async fn resume(&mut self, intents: usize) -> anyhow::Result<Answer> {
        let mut probe = self.probe(ledger::BIG, self.port, intents).await?;
        probe.quiet(SILENCE).await?;
        Ok(pairs([
            ("up_frames", probe.up.frames as f64),
            ("up_bytes", probe.up.bytes as f64),
            ("down_frames", probe.down.frames as f64),
            ("down_bytes", probe.down.bytes as f64),
        ]))
    }

    /// Floods from the first `count` probes at once.
    async fn flood(
        &mut self,
        count: usize,
        keys: usize,
        time: Duration,
        each_committed: bool,
    ) -> anyhow::Result<Answer> {
        let mut ready = Vec::new();
        for n in 0..count.min(ledger::PROBES - 2) {
            let mut probe = self
                .probe(&ledger::probe(n), self.port, self.intents)
                .await?;
            probe.quiet(Duration::from_millis(50)).await?;
            ready.push(probe);
        }
        let acked = Arc::new(AtomicU64::new(0));
        let flood = Flood {
            keys: keys.min(self.intents),
            each_committed,
            until: Instant::now() + time,
        };
        let mut running = JoinSet::new();
        for mut probe in ready {
            let acked = acked.clone();
            running.spawn(async move { probe.flood(flood, &acked).await });
        }
        let mut sent = 0;
        while let Some(done) = running.join_next().await {
            sent += done??;
        }
        Ok(pairs([
            ("sent", sent as f64),
            ("acked", acked.load(Ordering::Relaxed) as f64),
        ]))
    }

    /// One agent hears a byte per second, one floods.
    async fn misbehave(&mut self, until: Instant) -> anyhow::Result<()> {
        let drip = Drip::to(self.port).await?;
        let id = ledger::probe(ledger::PROBES - 1);
        let mut deaf = self.probe(&id, drip.port, self.intents).await?;
        deaf.quiet(Duration::from_millis(50)).await?;
        drip.slow_down();
        self.misbehaving.spawn(async move {
            let _drip = drip;
            deaf.live(until).await
        });
        let id = ledger::probe(ledger::PROBES - 2);
        let mut loud = self.probe(&id, self.port, self.intents).await?;
        loud.quiet(Duration::from_millis(50)).await?;
        let flood = Flood {
            keys: self.intents,
            each_committed: false,
            until,
        };
        self.misbehaving.spawn(async move {
            loud.flood(flood, &AtomicU64::new(0)).await?;
            Ok(())
        });
        Ok(())
    }
}
