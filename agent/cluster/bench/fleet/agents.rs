//! Agents with real sessions, many in one process.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use upm_agent::{
    drive::{self, Parts},
    hub::{Hub, Place},
    report::Report,
    session::Facts,
};

use crate::{
    child::{self, Answer, pairs},
    fake::Fake,
    ledger,
};

/// Observations that may wait.
const SEEN: usize = 16;

/// Where the hub is, for an agent.
pub(crate) fn place(folder: &Path, port: u16, id: &str, pin: &str) -> Place {
    Place {
        endpoints: vec![format!("127.0.0.1:{port}")],
        ca_pin: pin.to_owned(),
        join_token_file: Some(folder.join("tokens").join(id)),
        cluster_uid: format!("cluster-{id}"),
        build: "bench".into(),
        accounts: None,
    }
}

/// What an agent says of itself.
pub(crate) fn facts(id: &str) -> Facts {
    Facts {
        build: "bench".into(),
        instance_id: id.as_bytes().to_vec(),
        cluster_uid: format!("cluster-{id}"),
        k8s_version: "v1.33.0".into(),
        kinds: Vec::new(),
        region: "bench".into(),
    }
}

/// Serves until the parent closes its lines.
pub(crate) async fn serve(
    folder: &Path,
    port: u16,
    first: usize,
    count: usize,
    intents: usize,
) -> anyhow::Result<()> {
    let incarnations = ledger::incarnations(folder)?;
    let pin = upm_mesh::Authority::open_or_create(&folder.join("ca"))?.pin();
    let mut fleet = Fleet::default();
    for n in first..first + count {
        let id = ledger::agent(n);
        let incarnation = incarnations.get(&id).context("an agent without ledger")?;
        let (seen_sender, seen) = mpsc::channel(SEEN);
        let fake = Fake::new(ledger::settled(intents, incarnation)?, seen_sender);
        let (interest, _) = watch::channel(Vec::new());
        let (report, reported) = watch::channel(Report::default());
        let parts = Parts {
            hub: Hub::new(place(folder, port, &id, &pin), fake.clone()),
            worker: fake.clone(),
            durable: fake.clone(),
            tunnels: fake,
            seen,
            interest,
            report,
            longest_pause: drive::LONGEST_PAUSE,
        };
        fleet.waiting.push((parts, facts(&id)));
        fleet.reports.push(reported);
    }
    child::answer_lines(async |words| fleet.ask(words).await).await?;
    fleet.cancel.cancel();
    fleet.running.shutdown().await;
    Ok(())
}

#[derive(Default)]
struct Fleet {
    waiting: Vec<(Parts, Facts)>,
    reports: Vec<watch::Receiver<Report>>,
    running: JoinSet<()>,
    cancel: CancellationToken,
}

impl Fleet {
    async fn ask(&mut self, words: &[&str]) -> anyhow::Result<Answer> {
        Ok(match words {
            // Begins all agents, so many per second.
            ["start", rate] => {
                let pause = Duration::from_secs_f64(1.0 / rate.parse::<f64>()?);
                let mut tick = tokio::time::interval(pause);
                for (parts, facts) in std::mem::take(&mut self.waiting) {
                    tick.tick().await;
                    self.running
                        .spawn(drive::run(parts, facts, self.cancel.clone()));
                }
                pairs([])
            }
            ["live"] => {
                let live = self.reports.iter().filter(|r| r.borrow().connected);
                pairs([("live", live.count() as f64)])
            }
            ["why"] => {
                for report in &self.reports {
                    let report = report.borrow();
                    if !report.connected {
                        eprintln!("{} {}", report.reason, report.message);
                        break;
                    }
                }
                pairs([])
            }
            _ => bail!("what is `{}`?", words.join(" ")),
        })
    }
}
