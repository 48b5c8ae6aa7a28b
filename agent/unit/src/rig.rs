//! Real units on the loopback interface: real Redis servers under real unit agents with mutual TLS. For tests only.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test tool ends its test when something is wrong"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use upm_proto::unit::v1 as pb;
use upm_proto::unit::v1::redis_member_service_client::RedisMemberServiceClient;
use upm_proto::unit::v1::unit_service_client::UnitServiceClient;

use crate::config::UnitConfig;
use crate::member::store::Store;

/// The password of the users' user.
pub const PASSWORD: &str = "rig pass/word";
/// The password with which members follow each other.
pub const REPLICATION_PASSWORD: &str = "of the replicas";

/// Only keeps a test from hanging: on a busy machine everything takes its time.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// A certificate authority.
#[derive(Debug)]
pub struct Authority {
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// Certificate and key, PEM.
    pub fn issue(&self, spiffe: &str, dns: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec![dns.to_owned()]).unwrap();
        params
            .subject_alt_names
            .push(SanType::URI(spiffe.try_into().unwrap()));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        (
            params.signed_by(&key, &self.issuer).unwrap().pem(),
            key.serialize_pem(),
        )
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// Who calls.
const CONTROLLER: &str = "spiffe://upm/controller/kauntlet";
/// How long one question may take before it is asked again.
const ANSWER: Duration = Duration::from_secs(20);

/// One unit.
#[derive(Debug)]
pub struct RigUnit {
    pub name: String,
    pub config: UnitConfig,
    pub running: Option<(CancellationToken, JoinHandle<anyhow::Result<()>>)>,
    /// The way of a controller.
    channel: Channel,
    _ports: [TcpSocket; 2],
}

/// Some units that know nothing of each other.
#[derive(Debug)]
pub struct Rig {
    pub authority: Authority,
    pub units: Vec<RigUnit>,
    directory: tempfile::TempDir,
    mounts: Vec<PathBuf>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        for mount in &self.mounts {
            // lazily: servers that are ended with the test may still have files open
            let _ = std::process::Command::new("umount")
                .arg("-l")
                .arg(mount)
                .status();
        }
    }
}

/// A port below those that connections get by themselves and that Kubernetes gives to services. The socket holds it for a server that is
/// started later: as it does not listen and allows others on its address, that server gets it; the next look for a port does not.
fn port() -> (u16, TcpSocket) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 1000) as u16 * 10;
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let held = TcpSocket::new_v4().unwrap();
        if held.bind(([127, 0, 0, 1], port).into()).is_ok() {
            held.set_reuseaddr(true).unwrap();
            return (port, held);
        }
    }
}

/// In memory where there is such a place: a disk that others keep busy would hold up a server that syncs its files, until it counts as
/// silent.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn package(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../helm/packages/redis-7.0.15")
        .join(name)
}

impl Rig {
    /// Units `redis-0` and so on, started.
    pub fn new(count: usize) -> Self {
        Self::start_all(count, None)
    }

    /// The same, with a data volume of so many MiB for each unit. Mounting it takes root.
    pub fn with_small_volumes(count: usize, mib: u32) -> Self {
        Self::start_all(count, Some(mib))
    }

    fn start_all(count: usize, volume_mib: Option<u32>) -> Self {
        let mut rig = Self {
            authority: Authority::new(),
            units: Vec::new(),
            directory: directory(),
            mounts: Vec::new(),
        };
        for index in 0..count {
            rig.add(index, volume_mib);
        }
        rig
    }

    fn add(&mut self, index: usize, volume_mib: Option<u32>) {
        let name = format!("redis-{index}");
        let at = self.directory.path().join(&name);
        for directory in ["run", "secrets", "identity", "data"] {
            std::fs::create_dir_all(at.join(directory)).unwrap();
        }
        if let Some(mib) = volume_mib {
            let mounted = std::process::Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "upm-rig"])
                .arg(at.join("data"))
                .status();
            assert!(mounted.unwrap().success(), "a tmpfs could not be mounted");
            self.mounts.push(at.join("data"));
        }
        std::fs::write(at.join("secrets/default"), PASSWORD).unwrap();
        std::fs::write(at.join("secrets/upm-replica"), REPLICATION_PASSWORD).unwrap();
        let (certificate, key) = self
            .authority
            .issue(&format!("spiffe://upm/unit/test/{name}"), &host(&name));
        std::fs::write(at.join("identity/tls.crt"), certificate).unwrap();
        std::fs::write(at.join("identity/tls.key"), key).unwrap();
        std::fs::write(at.join("identity/ca.crt"), &self.authority.certificate).unwrap();
        let mut config = UnitConfig::read(&package("unit.yaml")).unwrap();
        let ((server, holds_server), (agent, holds_agent)) = (port(), port());
        config.port = server;
        config.listen = ([127, 0, 0, 1], agent).into();
        config.config.template = package("config.tmpl");
        config.config.value = package("values.yaml");
        config.config.output = at.join("run/redis.conf");
        config.secrets = at.join("secrets");
        config.identity = at.join("identity");
        config.run = at.join("run");
        config.data = at.join("data");
        let channel = self.way(&name, &config, CONTROLLER);
        self.units.push(RigUnit {
            name,
            config,
            running: None,
            channel,
            _ports: [holds_server, holds_agent],
        });
        self.start(index);
    }

    /// Starts a unit, as kubelet starts a container.
    pub fn start(&mut self, index: usize) {
        let unit = &mut self.units[index];
        let end = CancellationToken::new();
        let env = BTreeMap::from([
            ("POD_NAME".to_owned(), unit.name.clone()),
            ("UNIT_HOST".to_owned(), host(&unit.name)),
        ]);
        let task = tokio::spawn(crate::run::run(unit.config.clone(), env, end.clone()));
        unit.running = Some((end, task));
    }

    /// Ends a unit politely, as kubelet does.
    pub async fn stop(&mut self, index: usize) {
        let (end, task) = self.units[index].running.take().unwrap();
        end.cancel();
        task.await.unwrap().unwrap();
    }

    /// The way of a controller to a unit agent.
    pub fn channel(&self, index: usize) -> Channel {
        self.units[index].channel.clone()
    }

    pub fn channel_as(&self, index: usize, spiffe: &str) -> Channel {
        let unit = &self.units[index];
        self.way(&unit.name, &unit.config, spiffe)
    }

    fn way(&self, name: &str, config: &UnitConfig, spiffe: &str) -> Channel {
        let (certificate, key) = self.authority.issue(spiffe, "controller");
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.authority.certificate))
            .identity(Identity::from_pem(certificate, key))
            .domain_name(host(name));
        Endpoint::from_shared(format!("https://{}", config.listen))
            .unwrap()
            .tls_config(tls)
            .unwrap()
            .connect_lazy()
    }

    pub fn member(&self, index: usize) -> RedisMemberServiceClient<Channel> {
        RedisMemberServiceClient::new(self.channel(index))
    }

    pub fn unit(&self, index: usize) -> UnitServiceClient<Channel> {
        UnitServiceClient::new(self.channel(index))
    }

    pub fn port(&self, index: usize) -> i32 {
        i32::from(self.units[index].config.port)
    }

    /// Pid of the server, once it runs: a signal to 0 would be one to this process and its siblings.
    pub async fn pid(&self, index: usize) -> i32 {
        let runs = |state: &pb::UnitState| state.pid > 0;
        self.until_state(index, "it runs", runs).await.pid
    }

    /// Sends a signal to the server.
    pub async fn signal(&self, index: usize, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid(index).await), signal).unwrap();
    }

    /// A user's connection.
    pub async fn user(
        &self,
        index: usize,
    ) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        self.user_with(index, PASSWORD).await
    }

    /// A user's connection with this password.
    pub async fn user_with(
        &self,
        index: usize,
        password: &str,
    ) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        use redis::IntoConnectionInfo;
        let address =
            redis::ConnectionAddr::Tcp("127.0.0.1".to_owned(), self.units[index].config.port);
        let settings = redis::RedisConnectionInfo::default().set_password(password);
        redis::Client::open(address.into_connection_info()?.set_redis_settings(settings))?
            .get_multiplexed_async_connection_with_config(
                &redis::AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(PATIENCE))
                    .set_response_timeout(Some(PATIENCE)),
            )
            .await
    }

    /// Waits until a member's view satisfies the condition.
    pub async fn until(
        &self,
        index: usize,
        what: &str,
        condition: impl Fn(&pb::RedisMember) -> bool,
    ) -> pb::RedisMember {
        let until = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < until {
            let mut member = self.member(index);
            let seen = member.observe_member(pb::ObserveMemberRequest {});
            if let Ok(Ok(seen)) = tokio::time::timeout(ANSWER, seen).await {
                let seen = seen.into_inner();
                if condition(&seen) {
                    return seen;
                }
                last = Some(seen);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what} did not come true for unit {index}: {last:#?}");
    }

    /// Waits until a unit says that it is ready.
    pub async fn until_ready(&self, index: usize) -> pb::UnitState {
        self.until_state(index, "it is ready", |state| state.ready)
            .await
    }

    async fn until_state(
        &self,
        index: usize,
        what: &str,
        condition: impl Fn(&pb::UnitState) -> bool,
    ) -> pb::UnitState {
        let until = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < until {
            let mut unit = self.unit(index);
            let state = unit.get_unit(pb::GetUnitRequest {});
            if let Ok(Ok(state)) = tokio::time::timeout(ANSWER, state).await {
                let state = state.into_inner();
                if condition(&state) {
                    return state;
                }
                last = Some(state);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what} did not come true for unit {index}: {last:#?}");
    }

    /// Waits until the append-only file of a member is on record as whole; of one that is killed before, no election trusts the data.
    pub async fn until_whole(&self, index: usize) {
        let directory = self.units[index].config.state_dir();
        let until = Instant::now() + PATIENCE;
        while !Store::read(&directory).is_ok_and(|record| record.aof_current) {
            assert!(
                Instant::now() < until,
                "the append-only file of unit {index} is not whole"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The stable name of a unit.
pub fn host(name: &str) -> String {
    format!("{name}.redis-headless-svc.test.svc")
}
