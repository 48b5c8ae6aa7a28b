//! The command line: `upm serve`, `upm dev`, and the client commands. The client speaks gRPC to the gateway and keeps no state but the login.

mod account;
pub(crate) mod agent;
pub(crate) mod cluster;
pub mod exit;
pub(crate) mod log;
mod operation;
mod output;
pub(crate) mod project;
pub(crate) mod redis;
pub(crate) mod role;
mod session;
pub(crate) mod software;
pub(crate) mod user;

use std::{path::PathBuf, process::ExitCode};

use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches, Parser, Subcommand};

use crate::{ca, dev, hosted::HOSTED, noun::Noun, serve};

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
enum Own {
    /// Run modules of the platform as one process.
    Serve(Box<serve::Serve>),
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
    /// Durable operations.
    #[command(subcommand)]
    Operation(operation::Command),
    /// Print the completion script of a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// What was typed: a command of the program, or one of a module.
#[derive(Debug)]
enum Command {
    Own(Own),
    Of(&'static Noun, ArgMatches),
}

fn nouns() -> impl Iterator<Item = &'static Noun> {
    HOSTED.iter().flat_map(|module| module.nouns)
}

impl Subcommand for Command {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        let command = Own::augment_subcommands(command);
        nouns().fold(command, |command, noun| command.subcommand(noun.command()))
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        Own::has_subcommand(name) || nouns().any(|noun| noun.name == name)
    }
}

impl FromArgMatches for Command {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = matches.subcommand().and_then(|(name, below)| {
            let noun = nouns().find(|noun| noun.name == name)?;
            Some(Self::Of(noun, below.clone()))
        });
        match typed {
            Some(command) => Ok(command),
            None => Own::from_arg_matches(matches).map(Self::Own),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Cli {
    /// Runs the command; an error is printed to standard error and becomes an exit code (see [`exit::Exit`]).
    pub async fn run(self) -> ExitCode {
        let Self { globals, command } = self;
        let ended = match command {
            Command::Own(command) => {
                let ended = command.run(&globals).await;
                ended.map(|()| ExitCode::SUCCESS)
            }
            Command::Of(noun, matches) => (noun.run)(&globals, &matches).await,
        };
        ended.unwrap_or_else(|error| {
            eprintln!("upm: {}", exit::describe(&error));
            exit::of(&error).into()
        })
    }
}

impl Own {
    async fn run(self, globals: &Globals) -> anyhow::Result<()> {
        match self {
            Self::Serve(serve) => serve.run().await,
            Self::Dev(dev) => dev.run().await,
            Self::Ca(command) => command.run(),
            Self::Setup(setup) => account::setup(globals, setup).await,
            Self::Login(login) => account::login(globals, login).await,
            Self::Logout => account::logout(globals).await,
            Self::Whoami => account::whoami(globals).await,
            Self::Operation(command) => operation::run(globals, command).await,
            Self::Completion { shell } => {
                // Written at once and through the one door: a reader who has seen enough closes the pipe, and that is no error.
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "upm", &mut script);
                output::bytes(&script)
            }
        }
    }
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
