//! A word of the command line with the commands below it, such as `upm redis create`. Modules bring theirs ([`crate::hosted`]).

use std::{fmt, process::ExitCode};

use clap::{ArgMatches, Subcommand};
use futures::future::LocalBoxFuture;

use crate::cli::Globals;

/// A word with commands below it.
pub(crate) struct Noun {
    /// As it is typed.
    pub(crate) name: &'static str,
    /// What it is about, for `--help`.
    pub(crate) about: &'static str,
    /// Adds its commands.
    pub(crate) commands: fn(clap::Command) -> clap::Command,
    /// Runs the one that was typed. Fails as the calls do that it makes.
    pub(crate) run: Run,
}

type Run = for<'a> fn(&'a Globals, &'a ArgMatches) -> LocalBoxFuture<'a, anyhow::Result<ExitCode>>;

/// The noun of a module of [`crate::cli`] that has an enum `Command` and a function `run`.
macro_rules! noun {
    ($module:ident, $about:literal) => {
        Noun {
            name: stringify!($module),
            about: $about,
            commands: crate::noun::commands::<cli::$module::Command>,
            run: |globals, matches| {
                Box::pin(async move {
                    let command = clap::FromArgMatches::from_arg_matches(matches)?;
                    let ended = cli::$module::run(globals, command).await?;
                    Ok(std::process::Termination::report(ended))
                })
            },
        }
    };
}
pub(crate) use noun;

/// Adds the commands of an enum; one of them must be typed.
pub(crate) fn commands<C: Subcommand>(command: clap::Command) -> clap::Command {
    C::augment_subcommands(command)
        .subcommand_required(true)
        .arg_required_else_help(true)
}

impl Noun {
    /// As clap knows it.
    pub(crate) fn command(&self) -> clap::Command {
        (self.commands)(clap::Command::new(self.name).about(self.about))
    }
}

impl fmt::Debug for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Noun").field(&self.name).finish()
    }
}
