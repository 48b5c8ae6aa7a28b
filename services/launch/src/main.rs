//! The binary `upm`: the platform's modules, and the command line that talks to them.

use std::process::ExitCode;

use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    upm::cli::Cli::parse().run().await
}
