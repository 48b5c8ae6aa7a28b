//! `run --config FILE`: everything put together.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use upm_proto::unit::v1::redis_member_service_server::RedisMemberServiceServer;
use upm_proto::unit::v1::unit_service_server::UnitServiceServer;

use crate::config::UnitConfig;
use crate::identity::Identity;
use crate::launch::Launcher;
use crate::link::Endpoint;
use crate::member::Member;
use crate::member::facts::{self, StartFacts};
use crate::member::store::{self, Store};
use crate::passwords::Passwords;
use crate::ready;
use crate::render::AgentSecret;
use crate::serve::{Services, Unit};
use crate::supervise::{Hooks, Launch, Supervisor, reap};
use crate::watch::{Health, Watcher};
use crate::words::{self, LinkWords};

/// The pod's grace period is 60 s; the rest is for the unit agent itself.
const GRACE: Duration = Duration::from_secs(50);

/// How long a snapshot for the return may take of that.
const SAVE: Duration = Duration::from_secs(30);

/// What the supervisor asks, answered.
struct UnitHooks {
    launcher: Arc<Launcher>,
    store: Arc<Store>,
    /// Set once, before the first start.
    member: OnceLock<Member>,
    copies: Arc<AtomicU64>,
    link_error: Arc<LinkWords>,
}

impl Hooks for UnitHooks {
    fn prepare(&self) -> Result<Launch, String> {
        self.launcher.prepare()
    }

    fn line(&self, line: &str) {
        self.link_error.line(line);
        // at once, not in the member's turn: the next start must know of it
        if facts::append_failed(line) {
            self.store.distrust_append_only();
        }
        if let Some(member) = self.member.get()
            && member.line(line)
        {
            self.copies.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn last_words(&self, lines: &[String]) -> String {
        words::shown(lines)
    }

    fn ended(&self, clean: bool) {
        if let Err(error) = self.store.update(|record| record.clean_shutdown = clean) {
            tracing::error!(%error, "the end of the server was not noted");
        }
    }
}

/// Runs a unit until `end` is cancelled; then shuts the server down and returns.
pub async fn run(
    config: UnitConfig,
    env: BTreeMap<String, String>,
    end: CancellationToken,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(&config.run).with_context(|| config.run.display().to_string())?;
    let Some(store) = take_volume(&config.state_dir(), &end).await? else {
        return Ok(());
    };
    let store = Arc::new(store);
    let secret = AgentSecret::default();
    let facts = Arc::new(Mutex::new(StartFacts::default()));
    let launcher = Arc::new(Launcher::new(
        config.clone(),
        env.clone(),
        secret.clone(),
        store.clone(),
        facts.clone(),
    ));
    let copies = Arc::new(AtomicU64::new(0));
    let link_error = Arc::<LinkWords>::default();
    let hooks = Arc::new(UnitHooks {
        launcher: launcher.clone(),
        store: store.clone(),
        member: OnceLock::new(),
        copies: copies.clone(),
        link_error: link_error.clone(),
    });
    let server = Endpoint::new(config.server_socket(), secret);
    let (process, mut keeper) = Supervisor::spawn(hooks.clone(), false);
    let (member, mut role) = Member::spawn(
        store.clone(),
        server.clone(),
        process.clone(),
        &config.secrets,
    );
    // it was empty
    let _ = hooks.member.set(member.clone());
    process.start().await;

    let member_id = store.get().member_id;
    let (health, seen) = watch::channel(Health::default());
    let (lacks, credentials) = watch::channel(String::new());
    let unit = Arc::new(Unit {
        name: env.get("POD_NAME").cloned().unwrap_or_default(),
        instance_id: instance_id(),
        launcher,
        process: process.clone(),
        member: member.clone(),
        store,
        facts,
        health: seen,
        credentials,
        link_error,
        server: server.clone(),
        looking: tokio::sync::Mutex::new(None),
    });
    let leaving = member.clone();
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let passwords = Passwords {
        secrets: config.secrets.clone(),
        member_id,
        server: server.clone(),
        process: process.clone(),
    };
    tasks.spawn(async move {
        passwords.run(lacks).await;
        Ok(())
    });
    let watcher = Watcher {
        server,
        process: process.clone(),
        member,
        data: config.data.clone(),
        store: unit.store.clone(),
        copies,
    };
    tasks.spawn(async move {
        watcher.run(health).await;
        Ok(())
    });
    let (asked, run_dir) = (unit.clone(), config.run.clone());
    tasks.spawn(async move {
        ready::serve(&run_dir, move || asked.unready())
            .await
            .context("readiness socket")
    });
    if std::process::id() == 1 {
        let process = process.watch();
        tasks.spawn(async move { reap::orphans(process).await.context("reaping") });
    }
    let serving = CancellationToken::new();
    tasks.spawn(serve(config.clone(), unit, serving.clone()));

    let outcome = tokio::select! {
        () = end.cancelled() => Ok(()),
        // without them nobody could fence the server: better none at all
        ended = &mut keeper => Err(anyhow::anyhow!("the supervisor ended: {ended:?}")),
        ended = &mut role => Err(anyhow::anyhow!("the keeper of the member's role ended: {ended:?}")),
        Some(ended) = tasks.join_next() => match ended {
            Ok(Ok(())) => Err(anyhow::anyhow!("a part of the unit agent ended")),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(error.into()),
        },
    };
    tracing::info!("ending");
    let begun = Instant::now();
    if outcome.is_ok() {
        leaving.save_for_return(SAVE).await;
    }
    process.end(GRACE.saturating_sub(begun.elapsed())).await;
    // callers hear of the end until the last moment
    serving.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(1), tasks.join_next()).await;
    tasks.shutdown().await;
    if !keeper.is_finished() {
        let _ = keeper.await;
    }
    role.abort();
    outcome
}

/// The record on the volume, once no other unit agent uses it; `None` when `end` came first. After a pod was deleted by force, its
/// container may still run beside that of the next one.
async fn take_volume(
    directory: &Path,
    end: &CancellationToken,
) -> Result<Option<Store>, store::Error> {
    let mut said = false;
    loop {
        match Store::open(directory) {
            Ok(store) => return Ok(Some(store)),
            Err(error @ store::Error::InUse(_)) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, "waiting for the volume");
                }
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = end.cancelled() => return Ok(None),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
}

/// Serves gRPC; until the identity is there, the server runs parked and nobody can call.
async fn serve(config: UnitConfig, unit: Arc<Unit>, end: CancellationToken) -> anyhow::Result<()> {
    let identity = Arc::new(wait_for_identity(&config.identity).await);
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| config.listen.to_string())?;
    tracing::info!(listen = %listener.local_addr()?, "serving");
    let (sender, streams) = mpsc::channel(16);
    let mut parts = JoinSet::new();
    parts.spawn(identity.clone().accept(listener, sender));
    parts.spawn(identity.keep(Duration::from_secs(10)));
    let services = Services(unit);
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(UnitServiceServer::new(services.clone()))
        .add_service(RedisMemberServiceServer::new(services))
        .serve_with_incoming_shutdown(
            ReceiverStream::new(streams).map(Ok::<_, std::io::Error>),
            end.cancelled_owned(),
        )
        .await
        .context("gRPC server")
}

async fn wait_for_identity(directory: &Path) -> Identity {
    let mut said = String::new();
    loop {
        match Identity::open(directory) {
            Ok(identity) => return identity,
            Err(error) => {
                let why = error.to_string();
                if why != said {
                    tracing::warn!(error = %why, "waiting for the certificate");
                    said = why;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn instance_id() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}

#[cfg(test)]
mod tests;
