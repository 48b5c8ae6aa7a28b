//! The binary `upm`: the platform's modules, and the command line that talks to them.

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    upm::cli::Cli::parse().run().await
}
