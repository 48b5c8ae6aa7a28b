//! An API server of the test's own, with etcd behind it and without controllers.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::ServiceAccount,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    discovery,
};
use serde_json::{Value, json};

const TOKEN: &str = "of-a-test-on-loopback";
/// It starts within seconds on an idle machine.
const PATIENCE: Duration = Duration::from_mins(3);

pub(super) struct ControlPlane {
    pub(super) client: Client,
    port: u16,
    // ended in this order
    processes: Vec<Child>,
    directory: tempfile::TempDir,
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
fn program(name: &str) -> PathBuf {
    let bin = std::env::var_os("UPM_TEST_BIN").map_or_else(
        || {
            let home = std::env::var_os("HOME").expect("HOME");
            Path::new(&home).join(".cache/upm/bin")
        },
        PathBuf::from,
    );
    let path = bin.join(name);
    let missing = "is not there: integration/cluster/programs.sh builds it";
    assert!(path.exists(), "{} {missing}", path.display());
    path
}

fn start(directory: &Path, name: &str, arguments: &str) -> Child {
    let log = File::create(directory.join(format!("{name}.log"))).unwrap();
    Command::new(program(name))
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Ports that nobody listens on, all different.
fn ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// A configuration with a token. The API server makes its certificate itself; nobody else is on its port of the loopback.
async fn config(port: u16, token: &str) -> Config {
    let file: Kubeconfig = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true,
        }}],
        "users": [{ "name": "test", "user": { "token": token } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
    }))
    .unwrap();
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .unwrap()
}

impl ControlPlane {
    pub(super) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let [etcd, peers, api] = ports();
        // As most clusters have it.
        let made = Command::new("openssl")
            .args(
                "genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out sa.key"
                    .split(' '),
            )
            .current_dir(at)
            .status();
        assert!(made.unwrap().success(), "openssl makes a key");
        fs::write(
            at.join("tokens"),
            format!("{TOKEN},test,test,system:masters\n"),
        )
        .unwrap();
        let processes = vec![
            start(
                at,
                "etcd",
                &format!(
                    "--data-dir etcd --unsafe-no-fsync --log-level warn \
                     --listen-client-urls http://127.0.0.1:{etcd} --advertise-client-urls http://127.0.0.1:{etcd} \
                     --listen-peer-urls http://127.0.0.1:{peers} --initial-advertise-peer-urls http://127.0.0.1:{peers} \
                     --initial-cluster default=http://127.0.0.1:{peers}"
                ),
            ),
            start(
                at,
                "kube-apiserver",
                &format!(
                    "--etcd-servers http://127.0.0.1:{etcd} --cert-dir certificates \
                     --bind-address 127.0.0.1 --secure-port {api} --endpoint-reconciler-type none \
                     --token-auth-file tokens --authorization-mode RBAC --service-cluster-ip-range 10.0.0.0/24 \
                     --service-account-issuer https://kubernetes.default.svc --service-account-key-file sa.key \
                     --service-account-signing-key-file sa.key --disable-admission-plugins ServiceAccount"
                ),
            ),
        ];
        let client = Client::try_from(config(api, TOKEN).await).unwrap();
        let mut plane = Self {
            client: client.clone(),
            port: api,
            processes,
            directory,
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let ready = || http::Request::get("/readyz").body(Vec::new()).unwrap();
        while client.request_text(ready()).await.is_err() {
            let ended = plane
                .processes
                .iter_mut()
                .any(|process| process.try_wait().unwrap().is_some());
            if ended || tokio::time::Instant::now() > deadline {
                for name in ["etcd", "kube-apiserver"] {
                    let log = plane.directory.path().join(format!("{name}.log"));
                    eprintln!("{name}: {}", fs::read_to_string(log).unwrap_or_default());
                }
                panic!("the API server is not ready");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        plane
    }

    /// Makes the custom resource definitions known.
    pub(super) async fn definitions(&self) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for definition in upm_crds::all() {
            definitions
                .create(&PostParams::default(), &definition)
                .await
                .unwrap();
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = definitions
                .list(&ListParams::default())
                .await
                .unwrap()
                .items;
            let established = found.iter().all(|definition| {
                let conditions = definition
                    .status
                    .as_ref()
                    .and_then(|s| s.conditions.as_ref());
                conditions.is_some_and(|all| {
                    all.iter()
                        .any(|one| one.type_ == "Established" && one.status == "True")
                })
            });
            if established {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "the definitions are not served"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn api(&self, api_version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = GroupVersionKind::gvk(group, version, kind);
        let plural = discovery::ApiResource::from_gvk(&kind);
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), &plural)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &plural)
        }
    }

    /// Makes an object as an administrator.
    pub(super) async fn make(&self, object: Value) {
        let text = |path: &str| {
            object
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let api = self.api(
            text("/apiVersion"),
            text("/kind"),
            text("/metadata/namespace"),
        );
        let params = PatchParams::apply("administrator");
        api.patch(text("/metadata/name"), &params, &Patch::Apply(&object))
            .await
            .unwrap();
    }

    pub(super) async fn exists(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> bool {
        let api = self.api(api_version, kind, namespace);
        api.get_opt(name).await.unwrap().is_some()
    }

    /// A token of a service account; for the API server itself without an audience.
    pub(super) async fn token(
        &self,
        namespace: &str,
        name: &str,
        audience: Option<&str>,
    ) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: audience.map(ToOwned::to_owned).into_iter().collect(),
                expiration_seconds: Some(3600),
                bound_object_ref: None,
            },
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .unwrap();
        answer.status.unwrap().token
    }

    /// How a service account sees the API server.
    pub(super) async fn config_of(&self, namespace: &str, name: &str) -> Config {
        config(self.port, &self.token(namespace, name, None).await).await
    }
}
