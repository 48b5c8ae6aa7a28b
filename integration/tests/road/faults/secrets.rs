//! Secrets stay where they belong.

use std::{collections::BTreeMap, fs, io::ErrorKind, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::road::{
    kubectl::eventually,
    service::{LONG, RECORDED, Service, spec},
    world::{SYSTEM, World, world},
};

/// What must not be found anywhere: a name for each, and how it could be written.
struct Needles(Vec<(&'static str, Vec<String>)>);

impl Needles {
    fn new(secrets: &[(&'static str, &str)]) -> Self {
        let written = |secret: &str| vec![secret.to_owned(), STANDARD.encode(secret)];
        for (name, secret) in secrets {
            assert!(
                10 < secret.len(),
                "{name} is there, and long enough to be looked for"
            );
        }
        Self(
            secrets
                .iter()
                .map(|(name, secret)| (*name, written(secret)))
                .collect(),
        )
    }

    /// Fails with the place and the name of the secret, never with the secret.
    fn are_not_in(&self, place: &str, text: &[u8]) {
        for (name, forms) in &self.0 {
            let found = forms.iter().any(|form| {
                text.windows(form.len())
                    .any(|window| window == form.as_bytes())
            });
            assert!(!found, "{name} is in {place}");
        }
    }
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("list a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Arguments and environment of every process of the machine; the pods' are among them.
fn processes() -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("list processes").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.bytes().all(|c| c.is_ascii_digit()) {
            // Processes end while we look.
            let mut text = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            text.push(b'\n');
            text.extend(fs::read(entry.path().join("environ")).unwrap_or_default());
            all.insert(name, text);
        }
    }
    all
}

/// The passwords inside of the cluster: the user's, and the one that the replicas use.
fn passwords(service: &Service<'_>) -> (String, String) {
    let secret =
        service
            .world
            .kubectl
            .get(&["secret", "cache-credentials", "-n", &service.project]);
    let encoded = secret["data"]["default"].as_str().expect("a password");
    let decoded = STANDARD.decode(encoded).expect("base64");
    let of_replicas = service
        .world
        .kubectl
        .exec(
            &service.project,
            "cache-0",
            &["sed", "-n", "s/^masterauth //p", "/upm/run/redis.conf"],
        )
        .expect("read the server's configuration");
    (
        String::from_utf8(decoded).expect("text"),
        of_replicas.trim().to_owned(),
    )
}

#[test]
fn no_secret_is_in_logs_events_objects_arguments_or_stores() {
    let world = world();
    // Even when everything is logged.
    world.kill();
    world.start(&[("RUST_LOG", "info,upm=trace")]);
    world.install_agent(&["telemetry.logFilter=info\\,upm=trace"]);
    let api = world.api();
    let project = world.project("secrets");
    let service = Service::of(&world, &project, "cache");
    api.operate("POST", &service.creation(""), Some(&spec(2)), LONG);
    service.operate(":switchover", &json!({}));
    let read = api
        .call("POST", &service.path(":getPassword"), Some(&json!({})))
        .ok();
    let shown = world.upm(&[
        "redis",
        "connect",
        "cache",
        "-p",
        &project,
        "--show-password",
    ]);
    let (password, of_replicas) = passwords(&service);
    assert_eq!(read["password"], password.as_str());
    assert!(shown.contains(&password));
    let login: serde_json::Value =
        serde_json::from_slice(&fs::read(world.folder.join("login.json")).expect("the login"))
            .expect("JSON");
    let token = |name: &str| login[name].as_str().unwrap_or_default().to_owned();
    let join = world
        .kubectl
        .get(&["secret", "upm-agent-join", "-n", SYSTEM])["data"]["token"]
        .clone();
    let join = String::from_utf8(
        STANDARD
            .decode(join.as_str().expect("a token"))
            .expect("base64"),
    )
    .expect("text");
    let needles = Needles::new(&[
        ("the password of the service", &password),
        ("the password of the replicas", &of_replicas),
        ("the administrator's password", &world.admin_password),
        ("an access token", api.token()),
        (
            "the access token of the command line",
            &token("access_token"),
        ),
        (
            "the refresh token of the command line",
            &token("refresh_token"),
        ),
        ("the join token", &join),
    ]);

    platform_keeps_them(&world, &needles);
    cluster_keeps_them(&world, &project, &needles);
    for (process, text) in processes() {
        needles.are_not_in(&format!("process {process}"), &text);
    }
    let connection = api.get(&service.path("/connection"));
    needles.are_not_in(
        "the answer to GetConnection",
        connection.to_string().as_bytes(),
    );

    service.delete("DELETE_DATA");
    world.kill();
    world.start(&[]);
    world.install_agent(&[]);
}

/// Logs, files of the stores, the operation log.
fn platform_keeps_them(world: &World, needles: &Needles) {
    for log in world.logs() {
        let text = fs::read(&log).expect("read the log");
        assert!(text.len() > 1000, "{} has something in it", log.display());
        needles.are_not_in(&log.display().to_string(), &text);
    }
    let mut stores = Vec::new();
    files(&world.folder.join("data"), &mut stores);
    assert!(6 <= stores.len(), "the stores are there: {stores:?}");
    for file in stores {
        match fs::read(&file) {
            Ok(text) => needles.are_not_in(&file.display().to_string(), &text),
            // A store removes files that it needs no more.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => panic!("{}: {error}", file.display()),
        }
    }
    eventually(
        "each reading of the password is recorded",
        RECORDED,
        || match readings(world, needles) {
            reads if 2 <= reads => Ok(()),
            reads => Err(format!("{reads} are")),
        },
    );
}

/// Reads the whole operation log; how often it says that a password was read.
fn readings(world: &World, needles: &Needles) -> usize {
    let mut token = String::new();
    let mut reads = 0;
    loop {
        let path = format!("/v1/operatorLog/entries?pageSize=500&pageToken={token}");
        let page = world.api().get(&path);
        needles.are_not_in("the operation log", page.to_string().as_bytes());
        let entries = page["entries"].as_array().cloned().unwrap_or_default();
        reads += entries
            .iter()
            .filter(|entry| entry["method"] == "/upm.redis.v1.RedisServices/GetPassword")
            .count();
        page["nextPageToken"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut token);
        if token.is_empty() {
            return reads;
        }
    }
}

/// Logs, events, and every kind of object but Secrets.
fn cluster_keeps_them(world: &World, project: &str, needles: &Needles) {
    let kubectl = &world.kubectl;
    for namespace in [SYSTEM, project] {
        for pod in kubectl.list("pods", namespace) {
            let pod = pod["metadata"]["name"].as_str().expect("a name");
            let log = kubectl.try_to(&[
                "logs",
                pod,
                "-n",
                namespace,
                "--all-containers",
                "--tail=-1",
            ]);
            let place = format!("the log of {namespace}/{pod}");
            match log {
                Ok(log) => needles.are_not_in(&place, log.as_bytes()),
                // It was on its way out when the pods were listed.
                Err(error) if error.contains("NotFound") => {}
                Err(error) => panic!("{place}: {error}"),
            }
        }
    }
    let ours = kubectl.must(&[
        "api-resources",
        "--api-group=upm.syntropycloud.io",
        "-o",
        "name",
    ]);
    let built_in = [
        "events",
        "configmaps",
        "pods",
        "services",
        "persistentvolumeclaims",
        "podtemplates",
        "leases",
        "namespaces",
        "deployments",
    ];
    for kind in ours.lines().chain(built_in) {
        let text = kubectl.must(&["get", kind, "-A", "-o", "yaml", "--show-managed-fields"]);
        needles.are_not_in(&format!("{kind} of the cluster"), text.as_bytes());
    }
}
