//! The agent's own program on a real API server, with 1,000 intents: ConfigMaps, which need no controller.

use std::{env, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{process::Command, time::Instant};

use crate::{
    child::{Child, usage},
    ledger,
};

const INTENTS: usize = 1_000;
/// What follows the last result: durable copies, status, watches.
const CALM: Duration = Duration::from_secs(20);
const MEASURED: Duration = Duration::from_secs(30);

/// Memory in MiB and thousandths of a core.
pub(crate) async fn measure(
    hub: &mut Child,
    folder: &Path,
    port: u16,
) -> anyhow::Result<(f64, f64)> {
    let program = env::var_os("BENCH_AGENT").context("BENCH_AGENT names the agent's program")?;
    let kubeconfig = env::var_os("BENCH_KUBECONFIG").context("BENCH_KUBECONFIG names a file")?;
    let pin = upm_mesh::Authority::open_or_create(&folder.join("ca"))?.pin();
    let mut process = Command::new(program)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--hub-endpoints", &format!("127.0.0.1:{port}")])
        .args(["--ca-pin", &pin])
        .arg("--join-token-file")
        .arg(folder.join("tokens").join(ledger::REAL))
        .args(["--metrics-address", "127.0.0.1:0", "--log", "error"])
        // As the chart says.
        .env(
            "MALLOC_CONF",
            "narenas:1,background_thread:true,dirty_decay_ms:2000,muzzy_decay_ms:0",
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let line = format!("configmaps {} {INTENTS}", ledger::REAL);
    let answer = hub.ask(&line, Duration::from_secs(180)).await?;
    let late = answer.get("late").copied().unwrap_or(f64::NAN);
    ensure!(late == 0.0, "{late} of {INTENTS} intents have no result");
    tokio::time::sleep(CALM).await;
    let pid = process.id().context("the agent has ended")?;
    let (began, before) = (Instant::now(), usage(pid)?);
    tokio::time::sleep(MEASURED).await;
    let (took, after) = (began.elapsed().as_secs_f64(), usage(pid)?);
    process.kill().await?;
    Ok((after.rss / 1024.0, (after.cpu - before.cpu) / took * 1e3))
}
