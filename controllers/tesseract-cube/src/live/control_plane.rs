//! A control plane of the test's own: etcd, the API server and the controllers for namespaces, garbage and volumes in use. No node, no scheduler.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use kube::{Api, Client};
use serde_json::json;
use tokio::net::TcpSocket;

use super::world::until;

const TOKEN: &str = "of-a-test-on-loopback";

pub(super) struct ControlPlane {
    pub(super) client: Client,
    config: kube::Config,
    // ended in this order
    processes: Vec<Child>,
    directory: tempfile::TempDir,
    _ports: [TcpSocket; 4],
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            // it may have ended by itself
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Where `integration/cluster/programs.sh` puts them.
pub(super) fn program(name: &str) -> PathBuf {
    let bin = std::env::var_os("UPM_TEST_BIN").map_or_else(
        || {
            let home = std::env::var_os("HOME").expect("HOME");
            Path::new(&home).join(".cache/upm/bin")
        },
        PathBuf::from,
    );
    let path = bin.join(name);
    assert!(
        path.exists(),
        "{} is not there: integration/cluster/programs.sh builds it",
        path.display()
    );
    path
}

fn start(directory: &Path, name: &str, arguments: &[String]) -> Child {
    let log = File::create(directory.join(format!("{name}.log"))).unwrap();
    Command::new(program(name))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// A port for a program that is started later. The socket holds it: nobody gets it by chance meanwhile. As it does not listen and
/// allows others on its address, a program that asks for exactly this port, as Go's listeners do, gets it.
fn port() -> TcpSocket {
    let held = TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    held.set_reuseaddr(true).unwrap();
    held
}

fn kubeconfig(port: u16) -> Kubeconfig {
    // The API server makes its certificate itself; nobody else is on its port of the loopback.
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true,
        }}],
        "users": [{ "name": "test", "user": { "token": TOKEN } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
    }))
    .unwrap()
}

impl ControlPlane {
    pub(super) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let held = [(); 4].map(|()| port());
        let [etcd, peers, api, manager] = held
            .each_ref()
            .map(|socket| socket.local_addr().unwrap().port());
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(at.join("sa.key"), key.serialize_pem()).unwrap();
        fs::write(at.join("sa.pub"), key.public_key_pem()).unwrap();
        fs::write(
            at.join("tokens"),
            format!("{TOKEN},test,test,system:masters\n"),
        )
        .unwrap();
        let config = kubeconfig(api);
        fs::write(
            at.join("kubeconfig"),
            serde_json::to_string(&config).unwrap(),
        )
        .unwrap();

        let arguments = |text: String| -> Vec<String> {
            text.split_whitespace().map(ToOwned::to_owned).collect()
        };
        let mut processes = vec![start(
            at,
            "etcd",
            &arguments(format!(
                "--data-dir etcd --unsafe-no-fsync --log-level warn \
                 --listen-client-urls http://127.0.0.1:{etcd} --advertise-client-urls http://127.0.0.1:{etcd} \
                 --listen-peer-urls http://127.0.0.1:{peers} --initial-advertise-peer-urls http://127.0.0.1:{peers} \
                 --initial-cluster default=http://127.0.0.1:{peers}"
            )),
        )];
        processes.push(start(
            at,
            "kube-apiserver",
            &arguments(format!(
                "--etcd-servers http://127.0.0.1:{etcd} --cert-dir certificates \
                 --bind-address 127.0.0.1 --secure-port {api} --endpoint-reconciler-type none \
                 --token-auth-file tokens --authorization-mode RBAC --service-cluster-ip-range 10.0.0.0/24 \
                 --service-account-issuer https://kubernetes.default.svc --service-account-key-file sa.pub \
                 --service-account-signing-key-file sa.key --disable-admission-plugins ServiceAccount --allow-privileged"
            )),
        ));
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default())
            .await
            .unwrap();
        let client = Client::try_from(config.clone()).unwrap();
        let mut plane = Self {
            client: client.clone(),
            config,
            processes,
            directory,
            _ports: held,
        };
        until("the API server is ready", async || {
            plane.nobody_ended();
            let ready = http::Request::get("/readyz").body(Vec::new()).unwrap();
            client.request_text(ready).await.is_ok()
        })
        .await;
        // before the garbage collector looks for kinds: it looks again only after a while
        plane.definitions().await;
        let at = plane.directory.path().to_owned();
        plane.processes.push(start(
            &at,
            "kube-controller-manager",
            &arguments(format!(
                "--kubeconfig kubeconfig --bind-address 127.0.0.1 --secure-port {manager} --leader-elect=false \
                 --controllers disruption-controller,garbage-collector-controller,namespace-controller,persistentvolumeclaim-protection-controller --cert-dir certificates \
                 --concurrent-gc-syncs 2"
            )),
        ));
        plane
    }

    /// How a service account sees the API server: with its rights and no others.
    pub(super) fn client_of(&self, namespace: &str, account: &str) -> Client {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(format!("system:serviceaccount:{namespace}:{account}"));
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ];
        config.auth_info.impersonate_groups = Some(groups.to_vec());
        Client::try_from(config).unwrap()
    }

    /// Shows the log of a program that should be running.
    fn nobody_ended(&mut self) {
        for process in &mut self.processes {
            if let Some(status) = process.try_wait().unwrap() {
                for name in ["etcd", "kube-apiserver", "kube-controller-manager"] {
                    let log = self.directory.path().join(format!("{name}.log"));
                    eprintln!("{name}: {}", fs::read_to_string(log).unwrap_or_default());
                }
                panic!("a part of the control plane ended: {status}");
            }
        }
    }

    async fn definitions(&self) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for definition in upm_crds::all() {
            definitions
                .create(&PostParams::default(), &definition)
                .await
                .unwrap();
        }
        until("the definitions are established", async || {
            let found = definitions.list(&Default::default()).await.unwrap().items;
            found.iter().all(|definition| {
                let conditions = definition
                    .status
                    .as_ref()
                    .and_then(|s| s.conditions.as_ref());
                conditions.is_some_and(|all| {
                    all.iter()
                        .any(|one| one.type_ == "Established" && one.status == "True")
                })
            })
        })
        .await;
        // the API server serves a kind a moment after it says so
        for definition in upm_crds::all() {
            let spec = definition.spec;
            for version in spec.versions.iter().filter(|version| version.served) {
                let path = format!(
                    "/apis/{}/{}/{}",
                    spec.group, version.name, spec.names.plural
                );
                until(&format!("{path} is served"), async || {
                    let list = http::Request::get(&path).body(Vec::new()).unwrap();
                    self.client.request_text(list).await.is_ok()
                })
                .await;
            }
        }
    }
}
