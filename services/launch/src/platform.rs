//! Modules, their channels to each other, and the gateway in front: what `upm dev` and `upm serve` have in common.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::net::TcpListener;
use upm_mesh::{
    Authority, ClientAuth, Drain, Identity, Peers, Server, SpiffeId, Stack, Tasks, Telemetry,
    Verifier, identity::Anchors,
};
use upm_store::{Cache, ModuleContext, Store, outbox};

use crate::hosted::{Hosted, Settings};

/// Life of the hub's own certificate. It is renewed long before.
const HUB_CERTIFICATE: Duration = Duration::from_hours(30 * 24);
/// How long running calls may take after a drain began.
const GRACE: Duration = Duration::from_secs(25);

/// Where a module keeps its data.
pub(crate) struct Place {
    /// `sqlite:{path}` or `mysql://…`.
    pub(crate) store: String,
    /// `redis://…`; in the process when left out.
    pub(crate) cache: Option<String>,
}

/// What the hub needs beside its data.
pub(crate) struct Agents {
    /// Signs the agents' certificates.
    pub(crate) authority: Arc<Authority>,
    /// Its folder: rotations by `upm ca rotate` are seen there.
    pub(crate) authority_directory: PathBuf,
    /// The hub's identity on the agent port.
    pub(crate) identity: Identity,
    /// Where agents dial.
    pub(crate) listen: SocketAddr,
    /// Under which addresses they find it.
    pub(crate) endpoints: Vec<String>,
    /// Where other replicas of the hub reach this one; empty when it is alone.
    pub(crate) advertise: String,
    /// For whom their service-account tokens may be; `None` for what is usual.
    pub(crate) audiences: Option<Vec<String>>,
}

/// Files that the authentication module keeps secrets in.
#[derive(Default)]
pub(crate) struct AuthSecrets {
    /// For the one-time setup token, written while there is no administrator.
    pub(crate) setup_token: Option<PathBuf>,
    /// For the key that seals the signing keys in the store; made when missing.
    pub(crate) key_file: Option<PathBuf>,
}

/// A process of the platform while it is put together.
pub(crate) struct Platform {
    drain: Drain,
    tasks: Tasks,
    stacks: BTreeMap<&'static str, Stack>,
    verifiers: Vec<(&'static str, Verifier)>,
    /// Channels of each module that runs here, by its name: a channel says who calls.
    peers: BTreeMap<&'static str, Peers>,
    /// Identities that were read, by folder; each is followed.
    identities: BTreeMap<PathBuf, Identity>,
    /// With which all of them verify their peers, instead of with the roots in their folders.
    anchors: Option<Anchors>,
    operations: upm_engine::Config,
    log: upm_operatorlog::Config,
    failures: tokio::sync::mpsc::UnboundedSender<anyhow::Error>,
    failed: tokio::sync::mpsc::UnboundedReceiver<anyhow::Error>,
}

impl Platform {
    pub(crate) fn new(drain: Drain) -> Self {
        let (failures, failed) = tokio::sync::mpsc::unbounded_channel();
        Self {
            drain,
            tasks: Tasks::new(),
            stacks: BTreeMap::new(),
            verifiers: Vec::new(),
            peers: BTreeMap::new(),
            identities: BTreeMap::new(),
            anchors: None,
            operations: upm_engine::Config::default(),
            log: upm_operatorlog::Config::default(),
            failures,
            failed,
        }
    }

    /// Says that no other process works on these stores: what a process that died has begun is then taken up after two seconds.
    pub(crate) fn alone(mut self) -> Self {
        self.operations.lease_ms = 2_000;
        self.operations.tick_ms = 1_000;
        self
    }

    /// How the operation log signs its heads.
    pub(crate) fn log(mut self, config: upm_operatorlog::Config) -> Self {
        self.log = config;
        self
    }

    pub(crate) fn log_config(&self) -> upm_operatorlog::Config {
        self.log.clone()
    }

    /// The channels of a module; they find modules that are added later, too.
    pub(crate) fn peers(&mut self, module: &'static str) -> Peers {
        self.peers.entry(module).or_default().clone()
    }

    /// Verifies peers with these roots from now on, whatever is in the identities' folders: what the authority trusts no more is trusted no
    /// more at once, and no folder needs to be written for that. The first call counts.
    pub(crate) fn trust(&mut self, anchors: &Anchors) {
        let anchors = self.anchors.get_or_insert_with(|| anchors.clone());
        for identity in self.identities.values() {
            identity.trust(anchors.clone());
        }
    }

    /// The same with the roots of a file, as they change.
    pub(crate) fn trust_file(&mut self, file: &Path) -> anyhow::Result<()> {
        let anchors = Anchors::from_file(file)?;
        self.trust(&anchors);
        let (file, drain) = (file.to_owned(), self.drain.clone());
        self.tasks.spawn("follow the roots", async move {
            anchors.follow(&file, &drain).await;
        });
        Ok(())
    }

    /// The identity in a folder. Renewed files take effect without a restart.
    pub(crate) fn identity(&mut self, directory: &Path) -> anyhow::Result<Identity> {
        if let Some(identity) = self.identities.get(directory) {
            return Ok(identity.clone());
        }
        let identity = Identity::from_directory(directory)?;
        if let Some(anchors) = &self.anchors {
            identity.trust(anchors.clone());
        }
        self.identities
            .insert(directory.to_owned(), identity.clone());
        let (followed, directory, drain) =
            (identity.clone(), directory.to_owned(), self.drain.clone());
        self.tasks.spawn("follow an identity", async move {
            followed.follow(&directory, &drain).await;
        });
        Ok(identity)
    }

    /// The hub's identity for agents and other replicas, of the authority of this process, which renews it, and replaces it at once when its
    /// key is replaced.
    pub(crate) fn hub_identity(&mut self, authority: &Arc<Authority>) -> anyhow::Result<Identity> {
        let id = SpiffeId::module("hub")?;
        let issued = authority.issue(&id, &[], HUB_CERTIFICATE)?;
        let identity = Identity::issued(issued, &authority.certificates())?;
        let (authority, renewed) = (authority.clone(), identity.clone());
        let drain = self.drain.clone();
        self.tasks.spawn("renew an identity", async move {
            authority
                .renew(&renewed, &id, &[], HUB_CERTIFICATE, &drain)
                .await;
        });
        Ok(identity)
    }

    /// How operations are worked on.
    pub(crate) fn operations(&self) -> upm_engine::Config {
        self.operations.clone()
    }

    /// Starts a module in this process.
    pub(crate) async fn add(
        &mut self,
        hosted: &'static Hosted,
        place: &Place,
        settings: &dyn Settings,
    ) -> anyhow::Result<()> {
        let name = hosted.name;
        let store = Store::open(&place.store, name, (hosted.migrations)())
            .await
            .with_context(|| format!("open the store of {name}"))?;
        let cache = match &place.cache {
            Some(url) => Cache::redis(url).await.context("open the cache")?,
            None => Cache::in_process(),
        };
        let peers = self.peers(name);
        let ctx = ModuleContext {
            name,
            store: store.clone(),
            cache,
            peers: peers.clone(),
            drain: self.drain.clone(),
        };
        let module = (hosted.start)(self, ctx, settings).await?;
        let verifier = Verifier::new();
        let stack = Server::builder(
            name,
            verifier.clone(),
            Arc::new(outbox::Sink(store.clone())),
        )
        .routes(module.routes)
        .build();
        self.tasks.spawn(
            "forward the audit outbox",
            outbox::forward(store, peers.channel("operatorlog"), self.drain.clone()),
        );
        self.tasks.adopt(name, module.tasks);
        self.stacks.insert(name, stack);
        self.verifiers.push((name, verifier));
        self.connect_within()
    }

    /// Connects the modules of this process with each other, without sockets.
    fn connect_within(&self) -> anyhow::Result<()> {
        for (caller, peers) in &self.peers {
            for (name, stack) in &self.stacks {
                peers.insert(*name, stack.in_memory(SpiffeId::module(caller)?));
            }
        }
        Ok(())
    }

    /// Connects the modules of this process with one that runs elsewhere.
    pub(crate) fn connect_to(
        &mut self,
        name: &str,
        endpoints: &[String],
        identities: &Path,
    ) -> anyhow::Result<()> {
        let uris = endpoints
            .iter()
            .map(|endpoint| format!("https://{endpoint}").parse())
            .collect::<Result<Vec<http::Uri>, _>>()
            .with_context(|| format!("endpoints of {name}"))?;
        for (caller, peers) in self.peers.clone() {
            let identity = self.identity(&identities.join(caller))?;
            peers.insert(
                name,
                upm_mesh::connect(uris.clone(), identity, SpiffeId::module(name)?),
            );
        }
        Ok(())
    }

    /// Serves a module of this process to the others with mutual TLS.
    pub(crate) async fn expose(
        &mut self,
        name: &'static str,
        address: SocketAddr,
        identities: &Path,
    ) -> anyhow::Result<()> {
        let stack = self
            .stacks
            .get(name)
            .context("the module runs here")?
            .clone();
        let identity = self.identity(&identities.join(name))?;
        let listener = listen(address).await?;
        let drain = self.drain.clone();
        self.serve("serve a module", async move {
            Ok(stack
                .serve(listener, Some((identity, ClientAuth::Required)), drain)
                .await?)
        });
        Ok(())
    }

    /// Serves the gateway.
    pub(crate) async fn gateway(
        &mut self,
        address: SocketAddr,
        settings: upm_gateway::Config,
    ) -> anyhow::Result<SocketAddr> {
        let peers = self.peers(crate::config::GATEWAY);
        self.connect_within()?;
        let gateway = upm_gateway::Gateway::new(settings, peers)?;
        let listener = listen(address).await?;
        let bound = listener.local_addr()?;
        let drain = self.drain.clone();
        self.serve("serve the gateway", async move {
            Ok(gateway.serve(listener, drain).await?)
        });
        Ok(bound)
    }

    /// Serves metrics and probes.
    pub(crate) async fn metrics(
        &mut self,
        telemetry: &Telemetry,
        address: SocketAddr,
    ) -> anyhow::Result<()> {
        let listener = listen(address).await?;
        let verifiers = self.verifiers.clone();
        let ready = move || {
            let waiting = verifiers.iter().find(|(_, v)| v.revision().is_none());
            waiting.map_or(Ok(()), |(name, _)| Err(format!("{name} has no policy yet")))
        };
        let work = telemetry.serve_metrics(listener, Arc::new(ready), self.drain.clone());
        self.tasks.spawn("serve metrics", work);
        Ok(())
    }

    /// Runs a task that the platform owns.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tasks.spawn(name, work);
    }

    /// The same with one that ends the platform when it fails.
    pub(crate) fn serve(
        &mut self,
        name: &'static str,
        work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let failures = self.failures.clone();
        self.tasks.spawn(name, async move {
            if let Err(error) = work.await {
                failures.send(error.context(name)).ok();
            }
        });
    }

    /// Runs until the drain, or until a listener fails.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        for (name, verifier) in std::mem::take(&mut self.verifiers) {
            let auth = self.peers(name).channel("auth");
            self.tasks.spawn(
                "follow the policy",
                verifier.watch(auth, self.drain.clone()),
            );
        }
        let ended = tokio::select! {
            () = self.drain.signalled() => Ok(()),
            Some(error) = self.failed.recv() => Err(error),
        };
        self.drain.begin();
        if !self.tasks.finished_within(GRACE).await {
            tracing::warn!(
                grace_s = GRACE.as_secs(),
                "Ended tasks that did not end by themselves"
            );
        }
        ended
    }
}

/// Listens on an address.
pub(crate) async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address}"))
}

/// Writes a file that only its owner reads.
pub(crate) fn write_secret(path: &Path, secret: &str) -> anyhow::Result<()> {
    if path.exists() {
        fs::remove_file(path)?;
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("write {}", path.display()))?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    Ok(())
}
