//! The fleet of `make bench-agents`: one hub, any number of agents with real sessions, and scenes that measure the link between them.
//! Hub and agents are processes of their own, so that memory and CPU time of the hub can be told apart; the parent asks them line by line.

#[path = "fleet/agents.rs"]
mod agents;
#[path = "fleet/child.rs"]
mod child;
#[path = "fleet/drip.rs"]
mod drip;
#[path = "fleet/fake.rs"]
mod fake;
#[path = "fleet/hub.rs"]
mod hub;
#[path = "fleet/ledger.rs"]
mod ledger;
#[path = "fleet/load.rs"]
mod load;
#[path = "fleet/probe.rs"]
mod probe;
#[path = "fleet/probes.rs"]
mod probes;
#[path = "fleet/real.rs"]
mod real;
#[path = "fleet/scenes.rs"]
mod scenes;
#[path = "fleet/seed.rs"]
mod seed;
#[path = "fleet/tap.rs"]
mod tap;

use std::path::PathBuf;

use anyhow::bail;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const USAGE: &str = "fleet run FOLDER | seed FOLDER AGENTS INTENTS BIG | hub FOLDER PORT | agents FOLDER PORT FIRST COUNT INTENTS | probes FOLDER PORT INTENTS";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let many = || tokio::runtime::Builder::new_multi_thread();
    let one = || tokio::runtime::Builder::new_current_thread();
    match arguments.as_slice() {
        ["run", folder] => one()
            .enable_all()
            .build()?
            .block_on(scenes::run(PathBuf::from(folder))),
        ["seed", folder, agents, intents, big] => {
            many().enable_all().build()?.block_on(seed::seed(
                &PathBuf::from(folder),
                agents.parse()?,
                intents.parse()?,
                big.parse()?,
            ))
        }
        ["hub", folder, port] => many()
            .enable_all()
            .build()?
            .block_on(hub::serve(PathBuf::from(folder), port.parse()?)),
        ["agents", folder, port, first, count, intents] => {
            one().enable_all().build()?.block_on(agents::serve(
                &PathBuf::from(folder),
                port.parse()?,
                first.parse()?,
                count.parse()?,
                intents.parse()?,
            ))
        }
        ["probes", folder, port, intents] => one().enable_all().build()?.block_on(probes::serve(
            PathBuf::from(folder),
            port.parse()?,
            intents.parse()?,
        )),
        _ => bail!(USAGE),
    }
}
