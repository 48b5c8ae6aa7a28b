//! The scenes, each bounded in time, and the figures that they print: `name value unit`.

use std::{
    env, fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    child::{Answer, Child, Usage},
    ledger, real,
};

const PORT: u16 = 18_600;
/// Keys of the agent with many keys.
const BIG: usize = 10_000;
/// Agents that the applies are spread over.
const SPREAD: usize = 1_000;
/// Agents that flood the hub with status.
const FLOODERS: usize = 16;
/// Agents per second that are begun before anything is measured.
const ENTRANCE: usize = 80;
/// Rounds with and without misbehaving agents.
const ROUNDS: usize = 3;
const SHORT: Duration = Duration::from_secs(30);
const ALL: [&str; 9] = [
    "idle",
    "apply",
    "fanout",
    "resume",
    "status",
    "isolation",
    "storm",
    "memory",
    "agent",
];

struct Bench {
    folder: PathBuf,
    agents: usize,
    intents: usize,
    scenes: Vec<String>,
    hub: Option<Child>,
    fleet: Vec<Child>,
    probes: Option<Child>,
}

fn number(name: &str, default: usize) -> anyhow::Result<usize> {
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

fn say(name: &str, value: f64, unit: &str) {
    println!("{name} {value:.3} {unit}");
}

fn of(answer: &Answer, name: &str) -> f64 {
    answer.get(name).copied().unwrap_or(f64::NAN)
}

/// Runs the scenes of `SCENES` with `AGENTS` agents that have `INTENTS` intents each.
pub(crate) async fn run(folder: PathBuf) -> anyhow::Result<()> {
    let scenes = env::var("SCENES").unwrap_or_else(|_| ALL.join(","));
    let mut bench = Bench {
        agents: number("AGENTS", 10_000)?,
        intents: number("INTENTS", 100)?,
        scenes: scenes.split(',').map(str::to_owned).collect(),
        hub: None,
        fleet: Vec::new(),
        probes: None,
        folder,
    };
    for scene in &bench.scenes {
        ensure!(
            ALL.contains(&scene.as_str()),
            "no scene `{scene}`; there are {}",
            ALL.join(", ")
        );
    }
    bench.machine()?;
    bench.seed().await?;
    bench.hub = Some(bench.start_hub().await?);
    let empty = bench.hub()?.usage()?;
    bench.enter().await?;
    for scene in bench.scenes.clone() {
        let began = Instant::now();
        match scene.as_str() {
            "idle" => bench.idle(empty).await?,
            "apply" => bench.apply().await?,
            "fanout" => bench.fan_out().await?,
            "resume" => bench.resume().await?,
            "status" => bench.status().await?,
            "isolation" => bench.isolation().await?,
            "storm" => bench.storm().await?,
            "agent" => bench.agent().await?,
            _ => {
                let now = bench.hub()?.usage()?;
                say("hub.rss_after_mib", now.rss / 1024.0, "MiB");
            }
        }
        eprintln!("{scene}: {:.1} s", began.elapsed().as_secs_f64());
    }
    Ok(())
}

impl Bench {
    fn hub(&mut self) -> anyhow::Result<&mut Child> {
        self.hub.as_mut().context("no hub")
    }

    fn path(&self) -> String {
        self.folder.display().to_string()
    }

    /// What it runs on.
    fn machine(&self) -> anyhow::Result<()> {
        let cpu = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .unwrap_or_default()
            .trim_start_matches([' ', '\t', ':']);
        let cores = std::thread::available_parallelism()?;
        println!(
            "# {cores} cores, {model}; {} agents with {} intents",
            self.agents, self.intents
        );
        Ok(())
    }

    async fn seed(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        let status = tokio::process::Command::new(env::current_exe()?)
            .arg("seed")
            .arg(&self.folder)
            .args([self.agents, self.intents, BIG].map(|n| n.to_string()))
            .kill_on_drop(true)
            .status()
            .await?;
        ensure!(status.success(), "the store cannot be seeded");
        eprintln!("seeded in {:.1} s", began.elapsed().as_secs_f64());
        Ok(())
    }

    async fn start_hub(&self) -> anyhow::Result<Child> {
        Child::start(&["hub".into(), self.path(), PORT.to_string()]).await
    }

    async fn probes(&mut self) -> anyhow::Result<&mut Child> {
        if self.probes.is_none() {
            let intents = self.intents.to_string();
            let arguments = ["probes".into(), self.path(), PORT.to_string(), intents];
            self.probes = Some(Child::start(&arguments).await?);
        }
        self.probes.as_mut().context("no probes")
    }

    /// All agents enrol and connect.
    async fn enter(&mut self) -> anyhow::Result<()> {
        let processes = number("PROCESSES", 2)?.max(1);
        let each = self.agents.div_ceil(processes);
        for first in (0..self.agents).step_by(each) {
            let count = each.min(self.agents - first);
            let arguments = [
                "agents".to_owned(),
                self.path(),
                PORT.to_string(),
                first.to_string(),
                count.to_string(),
                self.intents.to_string(),
            ];
            self.fleet.push(Child::start(&arguments).await?);
        }
        let began = Instant::now();
        let rate = ENTRANCE / self.fleet.len();
        for child in &mut self.fleet {
            child.tell(&format!("start {rate}")).await?;
        }
        for child in &mut self.fleet {
            child.answer(Duration::from_secs(600)).await?;
        }
        self.all_live(Duration::from_secs(180)).await?;
        say("enter.all_live_s", began.elapsed().as_secs_f64(), "s");
        Ok(())
    }

    async fn live(&mut self) -> anyhow::Result<usize> {
        let mut live = 0;
        for child in &mut self.fleet {
            live += of(&child.ask("live", SHORT).await?, "live") as usize;
        }
        Ok(live)
    }

    async fn all_live(&mut self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        let mut live = 0;
        while Instant::now() < deadline {
            live = self.live().await?;
            if live == self.agents {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for child in &mut self.fleet {
            child.ask("why", SHORT).await?;
        }
        bail!(
            "{live} of {} agents are connected after {patience:?}",
            self.agents
        )
    }

    /// Memory and CPU time of a hub to which nothing happens.
    async fn idle(&mut self, empty: Usage) -> anyhow::Result<()> {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (began, before) = (Instant::now(), self.hub()?.usage()?);
        tokio::time::sleep(Duration::from_secs(20)).await;
        let (took, after) = (began.elapsed().as_secs_f64(), self.hub()?.usage()?);
        say("agents.live", self.live().await? as f64, "agents");
        say("hub.rss_mib", after.rss / 1024.0, "MiB");
        say("hub.rss_without_agents_mib", empty.rss / 1024.0, "MiB");
        say("hub.idle_cores", (after.cpu - before.cpu) / took, "cores");
        let each = (after.rss - empty.rss) * 1024.0 / self.agents as f64;
        say("hub.bytes_per_idle_agent", each, "bytes");
        Ok(())
    }

    /// 1,000 intents per second over 1,000 agents, or as many as there are.
    async fn apply(&mut self) -> anyhow::Result<()> {
        let spread = SPREAD.min(self.agents);
        // The first seconds warm caches up.
        self.steady(spread, 3, spread).await?;
        let before = self.hub()?.usage()?;
        let answer = self.steady(spread, 15, spread).await?;
        let after = self.hub()?.usage()?;
        say("apply.p50_ms", of(&answer, "p50"), "ms");
        say("apply.p99_ms", of(&answer, "p99"), "ms");
        say("apply.max_ms", of(&answer, "max"), "ms");
        say("apply.settled_p50_ms", of(&answer, "settled_p50"), "ms");
        say("apply.settled_p99_ms", of(&answer, "settled_p99"), "ms");
        say("apply.rate", of(&answer, "rate"), "1/s");
        say("apply.without_result", of(&answer, "late"), "applies");
        let each = (after.cpu - before.cpu) / of(&answer, "sent") * 1e6;
        say("apply.hub_cpu_us", each, "us");
        Ok(())
    }

    async fn steady(&mut self, rate: usize, seconds: u64, spread: usize) -> anyhow::Result<Answer> {
        let patience = Duration::from_secs(seconds + 60);
        self.hub()?
            .ask(&format!("apply {rate} {seconds} 0 {spread}"), patience)
            .await
    }

    /// One change to every agent, three times; the median counts.
    async fn fan_out(&mut self) -> anyhow::Result<()> {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let line = format!("fanout {}", self.agents);
            let answer = self.hub()?.ask(&line, Duration::from_secs(120)).await?;
            ensure!(
                of(&answer, "late") == 0.0,
                "not all results came: {answer:?}"
            );
            rounds.push(answer);
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        let middle = |name: &str| median(rounds.iter().map(|a| of(a, name)).collect());
        say("fanout.all_settled_s", middle("settled"), "s");
        say("fanout.all_written_s", middle("written"), "s");
        say("fanout.unrelated_p99_ms", middle("unrelated_p99"), "ms");
        Ok(())
    }

    /// A session begins with a ledger of 10,000 keys that has not changed.
    async fn resume(&mut self) -> anyhow::Result<()> {
        let line = format!("resume {BIG}");
        let answer = self.probes().await?.ask(&line, SHORT).await?;
        say(
            "resume.unchanged_10k.frames_up",
            of(&answer, "up_frames"),
            "frames",
        );
        say(
            "resume.unchanged_10k.frames_down",
            of(&answer, "down_frames"),
            "frames",
        );
        let bytes = of(&answer, "up_bytes") + of(&answer, "down_bytes");
        say("resume.unchanged_10k.bytes", bytes, "bytes");
        Ok(())
    }

    /// Agents that send status as fast as they may.
    async fn status(&mut self) -> anyhow::Result<()> {
        for (how, keys, counts) in [("memory", 1, "sent"), ("durable", 100, "acked")] {
            let way = if how == "durable" {
                "committed"
            } else {
                "merged"
            };
            // Connects, and warms caches up.
            let line = format!("flood {FLOODERS} {keys} 2 {way}");
            self.probes().await?.ask(&line, SHORT).await?;
            let before = self.hub()?.usage()?;
            let line = format!("flood {FLOODERS} {keys} 10 {way}");
            let answer = self.probes().await?.ask(&line, SHORT).await?;
            let after = self.hub()?.usage()?;
            let each = of(&answer, counts) / (after.cpu - before.cpu);
            say(&format!("status.ingest_per_core.{how}"), each, "updates/s");
            say(
                &format!("status.ingest.{how}"),
                of(&answer, counts) / 10.0,
                "updates/s",
            );
        }
        Ok(())
    }

    /// Applies of well-behaved agents, alone and beside one that hears a byte per second and one that floods.
    async fn isolation(&mut self) -> anyhow::Result<()> {
        let spread = (SPREAD / 5).min(self.agents);
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        self.steady(spread, 3, spread).await?;
        for _ in 0..ROUNDS {
            alone.push(of(&self.steady(spread, 8, spread).await?, "p99"));
            self.probes().await?.ask("misbehave 10", SHORT).await?;
            let deaf = ledger::probe(ledger::PROBES - 1);
            let many = 2 * self.intents;
            self.hub()?
                .ask(&format!("push {deaf} {many}"), SHORT)
                .await?;
            beside.push(of(&self.steady(spread, 8, spread).await?, "p99"));
            self.probes().await?.ask("behave", SHORT).await?;
        }
        let (alone, beside) = (median(alone), median(beside));
        say("isolation.p99_alone_ms", alone, "ms");
        say("isolation.p99_beside_ms", beside, "ms");
        let change = (beside / alone - 1.0) * 100.0;
        say("isolation.p99_change_percent", change, "%");
        Ok(())
    }

    /// The agent's own program on a real API server.
    async fn agent(&mut self) -> anyhow::Result<()> {
        let folder = self.folder.clone();
        let (rss, mcpu) = real::measure(self.hub()?, &folder, PORT).await?;
        say("agent.rss_mib", rss, "MiB");
        say("agent.idle_mcpu", mcpu, "mCPU");
        Ok(())
    }

    /// The hub's process is killed and starts again at once.
    async fn storm(&mut self) -> anyhow::Result<()> {
        // What was applied before is acknowledged and durable by now.
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.all_live(SHORT).await?;
        let began = Instant::now();
        self.hub.take().context("no hub")?.kill().await?;
        while self.live().await? > 0 {
            ensure!(
                began.elapsed() < SHORT,
                "agents do not notice that the hub is gone"
            );
        }
        let hub = self.start_hub().await?;
        let up = began.elapsed();
        let born = hub.usage()?;
        self.hub = Some(hub);
        let mut most: f64 = 0.0;
        let half = self.agents / 2;
        let mut half_live = None;
        loop {
            let live = self.live().await?;
            if half_live.is_none() && live >= half {
                half_live = Some(began.elapsed());
            }
            most = most.max(self.hub()?.usage()?.rss);
            if live == self.agents {
                break;
            }
            if began.elapsed() > Duration::from_secs(120) {
                self.all_live(Duration::ZERO).await?;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let all = began.elapsed();
        let bodies = of(&self.hub()?.ask("bodies", SHORT).await?, "bodies");
        say("storm.all_live_s", all.as_secs_f64(), "s");
        say(
            "storm.half_live_s",
            half_live.unwrap_or(all).as_secs_f64(),
            "s",
        );
        say("storm.hub_away_s", up.as_secs_f64(), "s");
        say("storm.bodies_resent", bodies, "bodies");
        let cpu = self.hub()?.usage()?.cpu - born.cpu;
        say(
            "storm.hub_cpu_ms_per_agent",
            cpu * 1e3 / self.agents as f64,
            "ms",
        );
        say("storm.peak_rss_mib", most / 1024.0, "MiB");
        Ok(())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
