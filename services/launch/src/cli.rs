//! The command line: `upm serve`, `upm dev`, and the client commands. The client speaks gRPC to the gateway and keeps no state but the login.

mod account;
mod agent;
mod cluster;
pub mod exit;
mod log;
mod operation;
mod output;
mod project;
mod redis;
mod role;
mod session;
mod software;
mod user;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::{ca, dev, serve};

/// Unified Platform Management: databases on many Kubernetes clusters, from one place.
#[derive(Debug, Parser)]
#[command(name = "upm", version)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// What every client command takes.
#[derive(Debug, Args)]
pub(crate) struct Globals {
    /// The form of the answer.
    #[arg(long, short, global = true, value_enum, default_value_t)]
    pub(crate) output: output::Format,
    /// The file that keeps the login.
    #[arg(long, global = true, env = "UPM_CONFIG")]
    config: Option<PathBuf>,
}

impl Globals {
    pub(crate) fn login_file(&self) -> anyhow::Result<PathBuf> {
        session::Login::path(self.config.clone())
    }

    /// With the login in a file, for tests.
    #[cfg(test)]
    pub(crate) fn of(config: PathBuf) -> Self {
        Self {
            output: output::Format::Table,
            config: Some(config),
        }
    }

    pub(crate) async fn open(&self) -> anyhow::Result<session::Authorized> {
        session::open(&self.login_file()?, session::RENEW_BEFORE).await
    }

    /// As [`Self::open`], where a password is sent.
    pub(crate) async fn open_with_password(&self) -> anyhow::Result<session::Authorized> {
        session::Login::load(&self.login_file()?)?.check_password_may_go()?;
        self.open().await
    }

    /// The same with a token that has most of its life before it.
    pub(crate) async fn open_fresh(&self) -> anyhow::Result<session::Authorized> {
        session::open(&self.login_file()?, session::FRESH).await
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run modules of the platform as one process.
    Serve(serve::Serve),
    /// Run the whole platform in one process on SQLite files.
    Dev(dev::Dev),
    /// The built-in CA as files.
    #[command(subcommand)]
    Ca(ca::Command),
    /// Create the first administrator with the one-time setup token.
    Setup(account::Setup),
    /// Log in.
    Login(account::Account),
    /// Log out.
    Logout,
    /// Show who you are and what roles you have.
    Whoami,
    /// Projects.
    #[command(subcommand)]
    Project(project::Command),
    /// Kubernetes clusters.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Agents: the link of each cluster.
    #[command(subcommand)]
    Agent(agent::Command),
    /// Redis replication services.
    #[command(subcommand)]
    Redis(redis::Command),
    /// Durable operations.
    #[command(subcommand)]
    Operation(operation::Command),
    /// People and programs that use the platform.
    #[command(subcommand)]
    User(user::Command),
    /// Roles, and who has them.
    #[command(subcommand)]
    Role(role::Command),
    /// The software catalogue.
    #[command(subcommand)]
    Software(software::Command),
    /// The operation log: who did what.
    #[command(subcommand)]
    Log(log::Command),
    /// Print the completion script of a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Runs the command; an error is printed to standard error and becomes an exit code (see [`exit::Exit`]).
    pub async fn run(self) -> ExitCode {
        let Self { globals, command } = self;
        let ended = match command {
            Command::Serve(serve) => serve.run().await,
            Command::Dev(dev) => dev.run().await,
            Command::Ca(command) => command.run(),
            Command::Setup(setup) => account::setup(&globals, setup).await,
            Command::Login(login) => account::login(&globals, login).await,
            Command::Logout => account::logout(&globals).await,
            Command::Whoami => account::whoami(&globals).await,
            Command::Project(command) => project::run(&globals, command).await,
            Command::Cluster(command) => cluster::run(&globals, command).await,
            Command::Agent(command) => return exit_code(agent::run(&globals, command).await),
            Command::Redis(command) => redis::run(&globals, command).await,
            Command::Operation(command) => operation::run(&globals, command).await,
            Command::User(command) => user::run(&globals, command).await,
            Command::Role(command) => role::run(&globals, command).await,
            Command::Software(command) => software::run(&globals, command).await,
            Command::Log(command) => log::run(&globals, command).await,
            Command::Completion { shell } => {
                // Written at once and through the one door: a reader who has seen enough closes the pipe, and that is no error.
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "upm", &mut script);
                output::bytes(&script)
            }
        };
        exit_code(ended.map(|()| ExitCode::SUCCESS))
    }
}

fn exit_code(ended: anyhow::Result<ExitCode>) -> ExitCode {
    ended.unwrap_or_else(|error| {
        eprintln!("upm: {}", exit::describe(&error));
        exit::of(&error).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_argument_takes_a_secret() {
        let mut commands = vec![Cli::command()];
        let mut seen = 0;
        while let Some(command) = commands.pop() {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                assert!(
                    !(id.contains("password") || id.contains("token"))
                        || id.ends_with("_file")
                        || id.starts_with("show_"),
                    "{} takes {id} on the command line",
                    command.get_name()
                );
                seen += 1;
            }
            commands.extend(command.get_subcommands().cloned());
        }
        assert!(seen > 50, "{seen}");
    }
}
