//! Processes of the fleet: started with this program, asked line by line, measured by what the kernel says of them.

use std::{collections::BTreeMap, fmt::Write as _, fs, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child as Process, ChildStdin, ChildStdout, Command},
    sync::mpsc,
    time::timeout,
};

/// What a process answers: numbers by name.
pub(crate) type Answer = BTreeMap<String, f64>;

/// Kernel ticks per second, as `/proc` counts CPU time.
const TICKS: f64 = 100.0;

/// A process of the fleet. It ends with its owner.
pub(crate) struct Child {
    name: String,
    process: Process,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Seconds of CPU.
    pub(crate) cpu: f64,
    /// Resident memory, in KiB.
    pub(crate) rss: f64,
}

impl Child {
    /// Starts this program with other arguments and waits until it is ready.
    pub(crate) async fn start(arguments: &[String]) -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = process.stdin.take().context("no input")?;
        let output = process.stdout.take().context("no output")?;
        let mut child = Self {
            name: arguments.join(" "),
            process,
            input,
            output: BufReader::new(output).lines(),
        };
        child.answer(Duration::from_secs(60)).await?;
        Ok(child)
    }

    /// Asks something.
    pub(crate) async fn ask(&mut self, line: &str, patience: Duration) -> anyhow::Result<Answer> {
        self.tell(line).await?;
        self.answer(patience).await
    }

    /// Asks something whose answer [`Child::answer`] waits for.
    pub(crate) async fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        self.input.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(())
    }

    /// Waits for an answer.
    pub(crate) async fn answer(&mut self, patience: Duration) -> anyhow::Result<Answer> {
        let line = timeout(patience, self.output.next_line())
            .await
            .with_context(|| format!("`{}` does not answer in {patience:?}", self.name))??
            .with_context(|| format!("`{}` has ended", self.name))?;
        let Some(rest) = line.strip_prefix("ok") else {
            bail!("`{}` answers: {line}", self.name);
        };
        Ok(rest
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect())
    }

    /// Ends it as a power cut would, and waits until it is gone.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill().await?;
        Ok(())
    }

    /// What it has used.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        usage(self.process.id().context("it has ended")?)
    }
}

/// What a process has used.
pub(crate) fn usage(pid: u32) -> anyhow::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program may hold blanks; what follows it does not.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok());
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse().ok())
        .context("no VmRSS")?;
    Ok(Usage {
        cpu: (ticks(11).context("utime")? + ticks(12).context("stime")?) / TICKS,
        rss,
    })
}

/// Answers the lines of the parent until it closes them.
pub(crate) async fn answer_lines<H>(mut handle: H) -> anyhow::Result<()>
where
    H: AsyncFnMut(&[&str]) -> anyhow::Result<Answer>,
{
    let (sender, mut lines) = mpsc::channel(1);
    // It ends with the parent's lines or with the process.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    println!("ok");
    while let Some(line) = lines.recv().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        match handle(&words).await {
            Ok(answer) => {
                let mut text = "ok".to_owned();
                for (name, value) in answer {
                    write!(text, " {name}={value}")?;
                }
                println!("{text}");
            }
            Err(error) => println!("error {error:#}"),
        }
    }
    Ok(())
}

/// An answer of pairs.
pub(crate) fn pairs<const N: usize>(pairs: [(&str, f64); N]) -> Answer {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
