//! The whole link over TCP with mutual TLS: a real hub on a real store, a real session, a cluster that is a map.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use upm_mesh::{self as mesh, Channel, SpiffeId};
use upm_proto::hub::v1::{
    self as pb, agent_admin_service_client::AgentAdminServiceClient,
    agent_service_client::AgentServiceClient, ledger_service_client::LedgerServiceClient,
    watch_objects_response::Event,
};
use upm_store::{Cache, ModuleContext, Store};

use crate::{
    applier::Worker,
    collector::Seen,
    drive::{self, Parts},
    durable::Durable,
    hub::{
        Hub, Place,
        credential::{Kept, Vault},
    },
    report::Report,
    session::{Done, Facts, Persist, Work},
    simulation::Cluster,
    tunnel::{self, Tunnels},
};

mod accounts;
mod identity;
mod joined;
mod on_api_server;
mod replicas;
mod rotation;
mod tunnels;
mod units;

const OWNER: &str = "projects/p/redisServices/s";
/// Only so that nothing hangs: an agent that waits for approval looks again after up to 15 s, a dead replica is noticed after 10 s.
const PATIENCE: Duration = Duration::from_secs(120);

/// A hub with its agent port and its mesh services.
struct HubSide {
    admin: AgentAdminServiceClient<Channel>,
    ledger: LedgerServiceClient<Channel>,
    identity: mesh::Identity,
    address: String,
    drain: mesh::Drain,
    served: JoinHandle<()>,
    /// Serves other replicas.
    meshed: JoinHandle<()>,
    _tasks: mesh::Tasks,
}

async fn hub(
    folder: &tempfile::TempDir,
    authority: &Arc<mesh::Authority>,
    listener: TcpListener,
) -> HubSide {
    let url = format!("sqlite:{}/hub.db", folder.path().display());
    replica("one", &url, authority, listener).await
}

async fn replica(
    name: &str,
    url: &str,
    authority: &Arc<mesh::Authority>,
    listener: TcpListener,
) -> HubSide {
    let config = upm_hub::Config {
        replica: name.into(),
        ..upm_hub::Config::default()
    };
    hub_of(config, url, authority, listener).await
}

async fn hub_of(
    config: upm_hub::Config,
    url: &str,
    authority: &Arc<mesh::Authority>,
    listener: TcpListener,
) -> HubSide {
    let address = listener.local_addr().unwrap().to_string();
    let mesh_listener = local().await;
    let store = Store::open(url, "hub", upm_hub::MIGRATIONS).await.unwrap();
    let drain = mesh::Drain::new();
    let ctx = ModuleContext {
        name: "hub",
        store,
        cache: Cache::in_process(),
        peers: mesh::Peers::default(),
        drain: drain.clone(),
    };
    let id = SpiffeId::module("hub").unwrap();
    let issued = authority
        .issue(&id, &[], Duration::from_secs(3600))
        .unwrap();
    let identity = mesh::Identity::issued(issued, &authority.certificates()).unwrap();
    let config = upm_hub::Config {
        endpoints: vec![address.clone()],
        advertise: mesh_listener.local_addr().unwrap().to_string(),
        ..config
    };
    let (module, port) = upm_hub::module(ctx, config, authority.clone(), identity.clone())
        .await
        .unwrap();
    let own = identity.clone();
    let stack = mesh::Server::builder("hub", mesh::Verifier::new(), Arc::new(mesh::audit::LogSink))
        .routes(module.routes)
        .build();
    let channel = stack.in_memory(SpiffeId::module("resource").unwrap());
    let engine = stack.in_memory(SpiffeId::module("redis").unwrap());
    let draining = drain.clone();
    let meshed = tokio::spawn(async move {
        let tls = Some((identity, mesh::ClientAuth::Required));
        stack.serve(mesh_listener, tls, draining).await.unwrap();
    });
    let draining = drain.clone();
    let served = tokio::spawn(async move { port.serve(listener, draining).await.unwrap() });
    HubSide {
        admin: AgentAdminServiceClient::new(channel),
        ledger: LedgerServiceClient::new(engine),
        identity: own,
        address,
        drain,
        served,
        meshed,
        _tasks: module.tasks,
    }
}

impl HubSide {
    async fn token(&mut self, auto_approve: bool) -> (String, String) {
        self.token_of("c1", auto_approve).await
    }

    async fn token_of(&mut self, agent: &str, auto_approve: bool) -> (String, String) {
        let answer = self
            .admin
            .create_join_token(pb::CreateJoinTokenRequest {
                agent_id: agent.into(),
                ttl_seconds: 600,
                auto_approve,
            })
            .await
            .unwrap()
            .into_inner();
        (answer.token, answer.ca_pin)
    }

    async fn shown(&mut self) -> pb::Agent {
        let name = "agents/c1".into();
        let request = pb::GetAgentRequest { name };
        self.admin.get_agent(request).await.unwrap().into_inner()
    }

    async fn revoke(&mut self, certificate_serial: &str) -> Result<(), tonic::Status> {
        let request = pb::RevokeAgentRequest {
            name: "agents/c1".into(),
            certificate_serial: certificate_serial.into(),
        };
        self.admin.revoke_agent(request).await.map(drop)
    }

    async fn disconnect(&mut self) {
        let name = "agents/c1".into();
        let request = pb::DisconnectAgentRequest { name };
        self.admin.disconnect_agent(request).await.unwrap();
    }

    async fn apply(&mut self, uid: u8, generation: u64) {
        self.apply_to("c1", uid, generation).await;
    }

    async fn apply_to(&mut self, agent: &str, uid: u8, generation: u64) {
        let body = serde_json::json!({
            "apiVersion": "upm.syntropycloud.io/v1alpha2", "kind": "UnitSet",
            "metadata": {"name": "k0", "namespace": "p"}, "spec": {"units": generation, "note": "x".repeat(200_000)},
        });
        self.ledger
            .apply_objects(pb::ApplyObjectsRequest {
                agent_id: agent.into(),
                writer: Some(pb::Writer {
                    owner: OWNER.into(),
                    epoch: 1,
                }),
                intents: vec![pb::Intent {
                    key: Some(key()),
                    intent_uid: vec![uid; 16].into(),
                    generation,
                    json: serde_json::to_vec(&body).unwrap().into(),
                    ..pb::Intent::default()
                }],
            })
            .await
            .unwrap();
    }

    async fn object(&mut self) -> Result<pb::Object, tonic::Status> {
        let request = pb::GetObjectRequest {
            agent_id: "c1".into(),
            key: Some(key()),
        };
        self.ledger
            .get_object(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Waits until the object is as asked.
    async fn until(
        &mut self,
        what: &str,
        is: impl Fn(&Result<pb::Object, tonic::Status>) -> bool,
    ) -> Option<pb::Object> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let now = self.object().await;
            if is(&now) {
                return now.ok();
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "waiting for {what}: {now:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn settled(&mut self, generation: u64) -> pb::Object {
        self.until("settled", |o| {
            o.as_ref().is_ok_and(|o| {
                o.generation == generation
                    && o.state() == pb::IntentState::Settled
                    && o.result
                        .as_ref()
                        .is_some_and(|r| r.generation == generation)
            })
        })
        .await
        .unwrap()
    }

    async fn stop(self) {
        self.drain.begin();
        self.served.await.unwrap();
        self.meshed.await.unwrap();
    }
}

fn key() -> pb::Key {
    pb::Key {
        group: "upm.syntropycloud.io".into(),
        version: "v1alpha2".into(),
        kind: "UnitSet".into(),
        namespace: "p".into(),
        name: "k0".into(),
    }
}

/// Everything of the agent that survives its process.
#[derive(Clone, Default)]
struct Disk {
    kept: Arc<Mutex<Kept>>,
    ledger: Arc<Mutex<Persist>>,
    cluster: Arc<Mutex<Cluster>>,
    units: Arc<units::Units>,
}

impl Vault for Disk {
    fn load(&self) -> BoxFuture<'_, anyhow::Result<Kept>> {
        async { Ok(self.kept.lock().unwrap().clone()) }.boxed()
    }

    fn save<'a>(&'a self, kept: &'a Kept) -> BoxFuture<'a, anyhow::Result<()>> {
        *self.kept.lock().unwrap() = kept.clone();
        async { Ok(()) }.boxed()
    }
}

impl Durable for Disk {
    fn load(&self) -> BoxFuture<'_, anyhow::Result<Persist>> {
        async { Ok(self.ledger.lock().unwrap().clone()) }.boxed()
    }

    fn save<'a>(&'a self, persist: &'a Persist) -> BoxFuture<'a, anyhow::Result<()>> {
        let mut ledger = self.ledger.lock().unwrap();
        let mut entries = std::mem::take(&mut ledger.entries);
        for (text, stored) in &persist.entries {
            entries.retain(|(t, _)| t != text);
            if stored.is_some() {
                entries.push((text.clone(), stored.clone()));
            }
        }
        *ledger = Persist {
            entries,
            ..persist.clone()
        };
        async { Ok(()) }.boxed()
    }
}

struct Fake {
    cluster: Arc<Mutex<Cluster>>,
    units: Arc<units::Units>,
    seen: mpsc::Sender<Seen>,
}

impl Worker for Fake {
    fn work(&self, work: Work) -> BoxFuture<'static, Done> {
        let (done, observation) = {
            let mut cluster = self.cluster.lock().unwrap();
            let done = cluster.work(&work, false);
            cluster.finalize();
            (done, cluster.observe(work.text()))
        };
        let seen = self.seen.clone();
        async move {
            let _ = seen.send(Seen::Object(key(), Box::new(observation))).await;
            done
        }
        .boxed()
    }
}

impl Tunnels for Fake {
    fn open(
        &self,
        mut tunnel: pb::OpenTunnel,
        client: AgentServiceClient<Channel>,
    ) -> BoxFuture<'static, ()> {
        let (purpose, units) = (tunnel.purpose.take(), self.units.clone());
        let work = move |to, from| async move { units.serve(purpose.unwrap(), to, from).await };
        tunnel::serve(tunnel, client, work).boxed()
    }
}

struct AgentSide {
    report: watch::Receiver<Report>,
    interest: watch::Receiver<Vec<pb::Watch>>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

fn agent(disk: &Disk, address: &str, pin: &str, token: PathBuf) -> AgentSide {
    agent_of(disk, &[address], pin, token)
}

fn agent_of(disk: &Disk, addresses: &[&str], pin: &str, token: PathBuf) -> AgentSide {
    run(disk, place(addresses, pin, token))
}

fn place(addresses: &[&str], pin: &str, token: PathBuf) -> Place {
    Place {
        endpoints: addresses.iter().copied().map(Into::into).collect(),
        ca_pin: pin.into(),
        join_token_file: Some(token),
        cluster_uid: "cluster".into(),
        build: "test".into(),
        accounts: None,
    }
}

fn run(disk: &Disk, place: Place) -> AgentSide {
    run_with(disk, place, None)
}

fn run_with(disk: &Disk, place: Place, worker: Option<Arc<dyn Worker>>) -> AgentSide {
    run_as(disk, place, |parts| {
        if let Some(worker) = worker {
            parts.worker = worker;
        }
    })
}

fn run_as(disk: &Disk, place: Place, change: impl FnOnce(&mut Parts)) -> AgentSide {
    let (seen_sender, seen) = mpsc::channel(64);
    let (interest, wanted) = watch::channel(Vec::new());
    let (report, reported) = watch::channel(Report::default());
    let cancel = CancellationToken::new();
    let fake = Arc::new(Fake {
        cluster: disk.cluster.clone(),
        units: disk.units.clone(),
        seen: seen_sender,
    });
    let mut parts = Parts {
        hub: Hub::new(place, Arc::new(disk.clone())),
        worker: fake.clone(),
        durable: Arc::new(disk.clone()),
        tunnels: fake,
        seen,
        interest,
        report,
        longest_pause: drive::LONGEST_PAUSE,
    };
    change(&mut parts);
    let facts = Facts {
        cluster_uid: "cluster".into(),
        build: "test".into(),
        ..Facts::default()
    };
    let task = tokio::spawn(drive::run(parts, facts, cancel.clone()));
    AgentSide {
        report: reported,
        interest: wanted,
        cancel,
        task,
    }
}

impl AgentSide {
    async fn reason(&mut self, wanted: &str) {
        let seen = tokio::time::timeout(PATIENCE, self.report.wait_for(|r| r.reason == wanted))
            .await
            .is_ok();
        assert!(seen, "wanted {wanted}, is {:?}", *self.report.borrow());
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

fn token_file(folder: &tempfile::TempDir, token: &str) -> PathBuf {
    let path = folder.path().join("token");
    std::fs::write(&path, format!("{token}\n")).unwrap();
    path
}

async fn local() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

#[tokio::test]
async fn enrols_applies_reports_and_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(mesh::Authority::create().unwrap());
    let mut hub = hub(&folder, &authority, local().await).await;
    let (token, pin) = hub.token(true).await;
    let disk = Disk::default();
    let mut one = agent(&disk, &hub.address, &pin, token_file(&folder, &token));
    one.reason("CONNECTED").await;
    assert_eq!(one.report.borrow().agent_id, "c1");
    one.interest
        .wait_for(|w| w.iter().any(|w| w.kind == "Node" && w.inventory))
        .await
        .unwrap();

    // A body that needs fragments, its result, its status.
    hub.apply(1, 1).await;
    let object = hub.settled(1).await;
    assert_eq!(object.result.unwrap().outcome(), pb::Outcome::Applied);
    let object = hub
        .until("status", |o| o.as_ref().is_ok_and(|o| o.status.is_some()))
        .await
        .unwrap();
    assert_eq!(object.status.unwrap().intent_generation, 1);
    assert!(object.agent_connected);

    // A watcher sees the state, a bookmark, then changes.
    let mut watch = hub
        .ledger
        .watch_objects(pb::WatchObjectsRequest {
            agent_id: "c1".into(),
            ..pb::WatchObjectsRequest::default()
        })
        .await
        .unwrap()
        .into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert!(matches!(first.event, Some(Event::Object(o)) if o.generation == 1));
    assert!(matches!(
        watch.message().await.unwrap().unwrap().event,
        Some(Event::Bookmark(_))
    ));

    // The session is cut; what was written meanwhile arrives afterwards.
    hub.admin
        .disconnect_agent(pb::DisconnectAgentRequest {
            name: "agents/c1".into(),
        })
        .await
        .unwrap();
    hub.apply(1, 2).await;
    hub.settled(2).await;
    let next = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(Event::Object(o)) = watch.message().await.unwrap().unwrap().event
                && o.generation == 2
            {
                return o;
            }
        }
    });
    assert_eq!(next.await.unwrap().generation, 2);

    // The agent's process ends and another takes over with what was kept.
    one.stop().await;
    hub.apply(1, 4).await;
    let mut two = agent(
        &disk,
        &hub.address,
        &pin,
        folder.path().join("no-token-any-more"),
    );
    two.reason("CONNECTED").await;
    hub.settled(4).await;

    // Secrets pass through a tunnel.
    let read = |name: &str| pb::ReadSecretRequest {
        agent_id: "c1".into(),
        namespace: "p".into(),
        name: name.into(),
        keys: vec!["default".into()],
    };
    let secret = hub
        .ledger
        .read_secret(read("s-credentials"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(secret.data["default"], "hunter2");
    let missing = hub.ledger.read_secret(read("missing")).await.unwrap_err();
    assert_eq!(
        mesh::status::reason(&missing).as_deref(),
        Some("SECRET_NOT_FOUND")
    );

    // A tombstone deletes, settles and is forgotten.
    hub.ledger
        .delete_objects(pb::DeleteObjectsRequest {
            agent_id: "c1".into(),
            writer: Some(pb::Writer {
                owner: OWNER.into(),
                epoch: 1,
            }),
            keys: vec![key()],
            ..pb::DeleteObjectsRequest::default()
        })
        .await
        .unwrap();
    hub.until("purged", |o| {
        o.as_ref().is_err_and(|s| s.code() == tonic::Code::NotFound)
    })
    .await;
    assert!(disk.cluster.lock().unwrap().objects.is_empty());

    // Revocation cuts the session; the agent says why.
    hub.revoke("").await.unwrap();
    // At once, and not when a heartbeat is missed (15 s); a busy machine may take its time all the same.
    let cut = tokio::time::timeout(
        Duration::from_secs(10),
        two.report.wait_for(|r| !r.connected),
    )
    .await
    .is_ok();
    assert!(cut, "the session was not cut at once");
    two.stop().await;
    hub.stop().await;
}

#[tokio::test]
async fn comes_back_to_a_hub_that_was_away() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(mesh::Authority::create().unwrap());
    // No client of another test is given a port of this address while the hub is away.
    let listener = TcpListener::bind("127.1.0.2:0").await.unwrap();
    let mut first = hub(&folder, &authority, listener).await;
    let (token, pin) = first.token(true).await;
    let address = first.address.clone();
    let disk = Disk::default();
    let mut one = agent(&disk, &address, &pin, token_file(&folder, &token));
    one.reason("CONNECTED").await;
    first.apply(1, 1).await;
    first.settled(1).await;
    first.stop().await;
    one.report.wait_for(|r| !r.connected).await.unwrap();
    let mut second = hub(
        &folder,
        &authority,
        TcpListener::bind(&address).await.unwrap(),
    )
    .await;
    second.apply(1, 2).await;
    second.settled(2).await;
    one.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn an_enrolled_agent_waits_for_approval_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(mesh::Authority::create().unwrap());
    let mut hub = hub(&folder, &authority, local().await).await;
    let (token, pin) = hub.token(false).await;
    let file = token_file(&folder, &token);
    let disk = Disk::default();
    let mut one = agent(&disk, &hub.address, &pin, file.clone());
    one.reason("CLUSTER_NOT_APPROVED").await;
    let shown = hub
        .admin
        .get_agent(pb::GetAgentRequest {
            name: "agents/c1".into(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(shown.state(), pb::AgentState::AwaitingApproval);

    // The token is used up: another cluster cannot come with it.
    let mut thief = agent(&Disk::default(), &hub.address, &pin, file);
    thief.reason("JOIN_TOKEN_INVALID").await;
    thief.stop().await;

    hub.admin
        .approve_agent(pb::ApproveAgentRequest {
            agent_id: "c1".into(),
        })
        .await
        .unwrap();
    one.reason("CONNECTED").await;
    one.stop().await;
    hub.stop().await;
}

#[tokio::test]
async fn does_not_send_its_token_to_a_hub_of_another_authority() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(mesh::Authority::create().unwrap());
    let mut hub = hub(&folder, &authority, local().await).await;
    let (token, _) = hub.token(true).await;
    let wrong = mesh::Authority::create().unwrap().pin();
    let mut one = agent(
        &Disk::default(),
        &hub.address,
        &wrong,
        token_file(&folder, &token),
    );
    one.reason("CONNECT_FAILED").await;
    let shown = hub
        .admin
        .get_agent(pb::GetAgentRequest {
            name: "agents/c1".into(),
        })
        .await;
    assert!(shown.is_err() || shown.unwrap().into_inner().state() == pb::AgentState::Invited);
    one.stop().await;
    hub.stop().await;
}
