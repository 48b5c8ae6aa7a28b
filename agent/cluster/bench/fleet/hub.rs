//! The hub under test: the module as `upm serve hub` runs it, with its agent port on mutual TLS and its store on SQLite.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::bail;
use tokio::net::TcpSocket;
use tracing_subscriber::layer::SubscriberExt as _;
use upm_mesh as mesh;
use upm_store::{Cache, ModuleContext};

use crate::{
    child::{self, Answer, pairs},
    load::Load,
    seed,
    tap::Tap,
};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4_096;

/// Serves until the parent closes its lines.
pub(crate) async fn serve(folder: PathBuf, port: u16) -> anyhow::Result<()> {
    let tap = Tap::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(tap.clone()))?;
    let authority = Arc::new(mesh::Authority::open_or_create(&folder.join("ca"))?);
    let issued = authority.issue(
        &mesh::SpiffeId::module("hub")?,
        &[],
        Duration::from_secs(24 * 3600),
    )?;
    let identity = mesh::Identity::issued(issued, &authority.certificates())?;
    let drain = mesh::Drain::new();
    let ctx = ModuleContext {
        name: "hub",
        store: seed::store(&folder).await?,
        cache: Cache::in_process(),
        peers: mesh::Peers::default(),
        drain: drain.clone(),
    };
    let config = upm_hub::Config {
        replica: "one".into(),
        endpoints: vec![format!("127.0.0.1:{port}")],
        sessions: 60_000,
        // The whole fleet enrols at once before anything is measured.
        enrolments_per_second: 100_000,
        ..upm_hub::Config::default()
    };
    let (module, agent_port) = upm_hub::module(ctx, config, authority, identity).await?;
    let load = Load::new(agent_port.hub().clone(), tap);
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    let listener = socket.listen(BACKLOG)?;
    let served = tokio::spawn(agent_port.serve(listener, drain.clone()));
    child::answer_lines(async |words| ask(&load, words).await).await?;
    drain.begin();
    served.abort();
    drop(module);
    Ok(())
}

async fn ask(load: &Load, words: &[&str]) -> anyhow::Result<Answer> {
    Ok(match words {
        ["apply", rate, seconds, first, count] => {
            load.steady(
                rate.parse()?,
                seconds.parse()?,
                first.parse()?,
                count.parse()?,
                2,
            )
            .await
        }
        ["fanout", agents] => load.fan_out(agents.parse()?).await,
        ["push", agent, count] => load.push(agent, count.parse()?).await,
        ["configmaps", agent, count] => load.config_maps(agent, count.parse()?).await,
        ["bodies"] => pairs([("bodies", load.tap.bodies() as f64)]),
        _ => bail!("what is `{}`?", words.join(" ")),
    })
}
