//! The program `upm-unit-agent`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use upm_unit_agent::config::UnitConfig;
use upm_unit_agent::member::store::Store;
use upm_unit_agent::render::AgentSecret;
use upm_unit_agent::{file, install, launch, ready, run};

/// The unit agent: renders a unit's configuration, supervises its server, guards its role.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copies this program into a directory.
    Install {
        /// The directory.
        directory: PathBuf,
    },
    /// Runs the unit; meant to be PID 1.
    Run {
        /// The unit's configuration.
        #[arg(long, default_value = "/upm/config/unit.yaml")]
        config: PathBuf,
    },
    /// Exits with 0 when the unit's server is ready.
    Ready {
        /// Directory for what runs.
        #[arg(long, default_value = "/upm/run")]
        run: PathBuf,
    },
    /// A file of the container as frames in standard output or input; the cluster's agent runs it.
    #[command(hide = true)]
    File {
        /// What is done with it.
        #[command(subcommand)]
        verb: FileVerb,
    },
    /// Prints what would be rendered, with masked secrets.
    Render {
        /// The unit's configuration.
        #[arg(long, default_value = "/upm/config/unit.yaml")]
        config: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum FileVerb {
    /// Reads it.
    Read {
        /// Absolute.
        path: String,
    },
    /// Writes it.
    Write {
        /// Absolute.
        path: String,
    },
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    match dispatch(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Install { directory } => install::install(&directory)?,
        Command::File { verb } => {
            let done = match &verb {
                FileVerb::Read { path } => file::run(file::Verb::Read, path),
                FileVerb::Write { path } => file::run(file::Verb::Write, path),
            };
            // The refusal is in the answer.
            return Ok(done.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS));
        }
        Command::Ready { run } => {
            let answer = ready::ask(&run)?;
            println!("{answer}");
            return Ok(if answer == "ready" {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        Command::Render { config } => {
            let config = UnitConfig::read(&config)?;
            print!(
                "{}",
                launch::render_configuration(
                    &config,
                    &environment(),
                    &Store::read(&config.state_dir())?.member_id,
                    &AgentSecret::default(),
                    true
                )?
            );
        }
        Command::Run { config } => {
            let config = UnitConfig::read(&config)?;
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?
                .block_on(async {
                    let end = CancellationToken::new();
                    let signals = tokio::spawn(await_signal(end.clone()));
                    let outcome = run::run(config, environment(), end).await;
                    signals.abort();
                    outcome
                })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn await_signal(end: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    end.cancel();
    Ok(())
}

fn environment() -> BTreeMap<String, String> {
    std::env::vars().collect()
}
