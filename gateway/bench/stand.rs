//! The test stand of `make bench-gateway`: an upstream, the gateway, a load generator that checks every answer, and keys and descriptors for
//! both gateways. Each is a process of its own, so that the CPU time of the gateway under test can be told apart.

#[path = "stand/api.rs"]
mod api;
#[path = "stand/case.rs"]
mod case;
#[path = "stand/load.rs"]
mod load;
#[path = "stand/process.rs"]
mod process;
#[path = "stand/upstream.rs"]
mod upstream;

use std::{error::Error, path::PathBuf};

use upm_gateway::{AccessLog, Authentication, Config, Descriptors, Rate, Standalone};
use upm_mesh::Drain;

const USAGE: &str = "stand upstream ADDR | stand files FOLDER | stand gateway ADDR UPSTREAM FOLDER bare|full | stand load ADDR CASE SECONDS PID [TOKEN] | \
                     stand open ADDR CASE SECONDS RATE [TOKEN] | stand idle ADDR COUNT PID";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match arguments.as_slice() {
        ["upstream", address] => runtime.block_on(upstream::serve(address.parse()?)),
        ["files", folder] => api::files(&PathBuf::from(folder)),
        ["gateway", address, server, folder, tier] => runtime.block_on(gateway(
            address,
            server,
            &PathBuf::from(folder),
            *tier == "full",
        )),
        ["load", address, case, seconds, pid, rest @ ..] => runtime.block_on(load::run(
            address.parse()?,
            case,
            seconds.parse()?,
            pid.parse()?,
            rest.first().copied(),
        )),
        ["open", address, case, seconds, rate, rest @ ..] => runtime.block_on(load::open(
            address.parse()?,
            case,
            seconds.parse()?,
            rate.parse()?,
            rest.first().copied(),
        )),
        ["idle", address, count, pid] => {
            runtime.block_on(load::idle(address.parse()?, count.parse()?, pid.parse()?))
        }
        _ => Err(USAGE.into()),
    }
}

async fn gateway(
    address: &str,
    server: &str,
    folder: &std::path::Path,
    full: bool,
) -> Result<(), Box<dyn Error>> {
    let mut config = Config {
        spans: false,
        ..Config::default()
    };
    let mut authentication = Authentication::Anonymous;
    if full {
        authentication = Authentication::Tokens {
            keys: folder.join("jwks.json"),
            issuer: Some("bench".to_owned()),
            audience: None,
        };
        config.access_log = Some(AccessLog::File(folder.join("ours.log")));
        let enough = Rate {
            per_second: 1e6,
            burst: 1_000_000,
        };
        (config.rate_per_address, config.rate_per_principal) = (Some(enough), Some(enough));
    }
    let gateway = Standalone {
        listen: address.parse()?,
        upstreams: vec![format!("demo.bench.Books=http://{server}").parse()?],
        descriptors: Descriptors::File(folder.join("api.pb")),
        authentication,
        workers: 1,
        admin: None,
        config,
    };
    gateway.run(Drain::on_signals()?, |_| {}).await?;
    Ok(())
}
