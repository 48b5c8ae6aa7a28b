//! Commands in units, and files out of and into them, as the command line does it.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rand::RngCore as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::road::{
    kubectl::eventually,
    service::{HEALING, RECORDED, Service},
    world::{CLUSTER, SYSTEM, World, text, world},
    writer::say,
};

/// Bytes of the file that is copied.
const SIZE: usize = 24 << 20;
/// What no record may hold.
const ARGUMENT: &str = "an-argument-that-nobody-else-shall-see";

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A unit of the shared service as the command line names it.
struct Unit<'a> {
    world: &'a World,
    project: String,
    pod: String,
    /// Where its volume is mounted.
    volume: String,
}

impl<'a> Unit<'a> {
    fn of(service: &Service<'a>) -> Self {
        let pod = format!("{}-0", service.id);
        let world = service.world;
        let live = world.kubectl.get(&["pod", &pod, "-n", &service.project]);
        let spec = &live["spec"];
        let claimed = spec["volumes"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|volume| volume["persistentVolumeClaim"].is_object())
            .expect("a volume with a claim")["name"]
            .clone();
        let volume = spec["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|container| container["volumeMounts"].as_array().into_iter().flatten())
            .find(|mount| mount["name"] == claimed)
            .expect("it is mounted")["mountPath"]
            .as_str()
            .expect("a path")
            .to_owned();
        Self {
            world,
            project: service.project.clone(),
            pod,
            volume,
        }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.project, self.pod)
    }

    fn upm(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.world.environment.upm);
        command
            .args(["agent"])
            .args(arguments)
            .env("UPM_CONFIG", self.world.folder.join("login.json"));
        command
    }

    /// Runs a command with an input.
    fn exec(&self, command: &[&str], input: &[u8]) -> Output {
        let name = self.name();
        let mut child = self
            .upm(&["exec", CLUSTER, &name, "-i", "--"])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run upm");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        let feeding = thread::spawn(move || {
            // A command need not read its input.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("wait for upm");
        feeding.join().expect("fed");
        output
    }

    fn there(&self, file: &str) -> String {
        format!("{}:{}/{file}", self.name(), self.volume)
    }

    fn copy(&self, from: &str, to: &str) -> Output {
        self.upm(&["cp", CLUSTER, from, to])
            .output()
            .expect("run upm")
    }

    /// SHA-256 of a file, as the container's own program says it.
    fn digest_there(&self, file: &str) -> String {
        let path = format!("{}/{file}", self.volume);
        let said = self
            .world
            .kubectl
            .exec(&self.project, &self.pod, &["sha256sum", &path])
            .expect("sha256sum");
        said.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    fn names_there(&self) -> Vec<String> {
        let said = self
            .world
            .kubectl
            .exec(&self.project, &self.pod, &["ls", "-A", &self.volume])
            .expect("ls");
        said.lines().map(str::to_owned).collect()
    }
}

impl Unit<'_> {
    /// Whether a file that is being written lies beside its target.
    fn has_part(&self, wanted: bool) -> Result<(), String> {
        let names = self.names_there();
        let has = names.iter().any(|name| name.starts_with(".upm-part-"));
        if has == wanted {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

fn denied(output: &Output) {
    let why = said(output);
    assert_eq!(output.status.code(), Some(4), "{why}");
    assert!(why.contains("DENIED_LOCAL_POLICY"), "{why}");
}

/// A file here with random bytes, and its digest.
fn random(world: &World, name: &str, size: usize) -> (PathBuf, String) {
    let mut bytes = vec![0; size];
    rand::rng().fill_bytes(&mut bytes);
    let path = world.folder.join(name);
    fs::write(&path, &bytes).expect("write a file");
    (path, digest(&bytes))
}

#[test]
fn commands_and_files_of_a_unit_pass_when_the_cluster_allows_them_and_not_before() {
    let world = world();
    let service = world.shared();
    let unit = Unit::of(&service);
    let (small, _) = random(&world, "small", 10);
    denied(&unit.exec(&["true"], b""));
    denied(&unit.copy(text(&small), &unit.there("small")));

    world.install_agent(&[
        "tunnels.exec.enabled=true",
        &format!("tunnels.exec.namespaces={{{}}}", unit.project),
        "tunnels.files.enabled=true",
    ]);
    commands(&unit);
    files(&unit);
    cuts(&unit);
    records(&world);

    // Only where it is named; and files alone are no way to commands, whatever the agent asks of the API server.
    world.install_agent(&[
        "tunnels.exec.enabled=true",
        "tunnels.exec.namespaces={elsewhere}",
        "tunnels.files.enabled=true",
    ]);
    denied(&unit.exec(&["true"], b""));
    succeeds(&unit.copy(&unit.there("blob"), text(&world.folder.join("again"))));
    let agent = format!("--as=system:serviceaccount:{SYSTEM}:upm-agent");
    let as_agent = |namespace: &str, pod: &str, command: &[&str]| {
        let mut arguments = vec!["exec", "-n", namespace, pod, &agent, "--"];
        arguments.extend(command);
        world.kubectl.try_to(&arguments)
    };
    let refused = as_agent(&unit.project, &unit.pod, &["true"]).unwrap_err();
    assert!(refused.contains("neither tunnels.exec"), "{refused}");
    let own = world.agent_pods().remove(0);
    let refused = as_agent(SYSTEM, &own, &["true"]).unwrap_err();
    assert!(refused.contains("only units of projects"), "{refused}");

    world.install_agent(&[]);
    denied(&unit.exec(&["true"], b""));
    let refused = as_agent(&unit.project, &unit.pod, &["true"]).unwrap_err();
    assert!(refused.contains("pods/exec"), "no right is left: {refused}");
    let path = format!("{}/blob", unit.volume);
    let removed = world.kubectl.exec(&unit.project, &unit.pod, &["rm", &path]);
    removed.expect("rm");
    service.heals(HEALING);
}

#[test]
fn log_of_a_member_is_shown_and_of_other_pods_not() {
    let world = world();
    let service = world.shared();
    let unit = Unit::of(&service);
    let api = world.api();
    let agents = api.get("/v1/agents");
    let agent = agents["agents"][0]["name"].as_str().expect("an agent");
    let wanted = json!({"namespace": unit.project, "pod": unit.pod, "tailLines": "5"});
    let shown = api.call("POST", &format!("/v1/{agent}:tailLog"), Some(&wanted));
    assert_eq!(shown.status, 200, "{}", shown.body);
    assert!(shown.body.to_string().contains("data"), "{}", shown.body);
    let account = format!("--as=system:serviceaccount:{SYSTEM}:upm-agent");
    let own = world.agent_pods().remove(0);
    let refused = world
        .kubectl
        .try_to(&["logs", &own, "-n", SYSTEM, &account])
        .unwrap_err();
    assert!(refused.contains("forbidden"), "{refused}");
}

fn commands(unit: &Unit<'_>) {
    let script = "cat; echo to-error >&2; exit 3";
    let ended = unit.exec(&["sh", "-c", script, ARGUMENT], b"to-output");
    assert_eq!(ended.status.code(), Some(3), "{}", said(&ended));
    assert_eq!(ended.stdout, b"to-output");
    assert_eq!(said(&ended), "to-error\n");
    // More than all windows on the way, both ways at once.
    let mut bytes = vec![0; 8 << 20];
    rand::rng().fill_bytes(&mut bytes);
    let began = Instant::now();
    let ended = unit.exec(&["cat"], &bytes);
    succeeds(&ended);
    assert_eq!(digest(&ended.stdout), digest(&bytes));
    say(&format!(
        "8 MiB through cat: {} ms",
        began.elapsed().as_millis()
    ));
    let missing = unit.exec(&["a-program-that-is-not-there"], b"");
    assert!(!missing.status.success());
    assert!(
        said(&missing).contains("COMMAND_NOT_STARTED") || missing.status.code() == Some(127),
        "{:?} {}",
        missing.status,
        said(&missing)
    );
    backs_up(unit);
}

/// A reader that does not read stops the command.
fn backs_up(unit: &Unit<'_>) {
    let name = unit.name();
    let mut child = unit
        .upm(&["exec", CLUSTER, &name, "--", "sh", "-c", "exec yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run upm");
    let mut output = child.stdout.take().expect("a pipe");
    let mut first = [0; 4];
    output.read_exact(&mut first).expect("it says yes");
    thread::sleep(Duration::from_secs(5));
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("status");
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .expect("VmRSS");
    say(&format!("upm holds {resident} KiB while nobody reads"));
    assert!(resident < 64 * 1024, "{resident} KiB");
    child.kill().expect("end upm");
    child.wait().expect("upm");
    // As with `kubectl exec`, a command whose output nobody takes any more stands still and is not ended.
    let script =
        "for it in /proc/[0-9]*; do [ \"$(cat $it/comm)\" != yes ] || kill ${it#/proc/}; done";
    unit.world
        .kubectl
        .exec(&unit.project, &unit.pod, &["sh", "-c", script])
        .expect("end yes");
}

fn files(unit: &Unit<'_>) {
    let world = unit.world;
    let (here, wanted) = random(world, "blob", SIZE);
    let began = Instant::now();
    succeeds(&unit.copy(text(&here), &unit.there("blob")));
    let into = began.elapsed();
    assert_eq!(unit.digest_there("blob"), wanted);
    let back = world.folder.join("blob-back");
    let began = Instant::now();
    succeeds(&unit.copy(&unit.there("blob"), text(&back)));
    let out = began.elapsed();
    assert_eq!(digest(&fs::read(&back).expect("read")), wanted);
    say(&format!(
        "{} MiB into a unit: {} ms, out of it: {} ms",
        SIZE >> 20,
        into.as_millis(),
        out.as_millis()
    ));
    let missing = unit.copy(&unit.there("missing"), text(&back));
    assert_eq!(missing.status.code(), Some(3), "{}", said(&missing));
    assert!(said(&missing).contains("FILE_NOT_FOUND"));
    let folder = format!("{}:{}", unit.name(), unit.volume);
    let refused = unit.copy(text(&here), &folder);
    assert!(
        said(&refused).contains("FILE_NOT_REGULAR"),
        "{}",
        said(&refused)
    );
    assert_eq!(digest(&fs::read(&back).expect("read")), wanted);
}

/// A copy whose caller is killed leaves the old file, and no rest.
fn cuts(unit: &Unit<'_>) {
    let before = unit.digest_there("blob");
    let (here, _) = random(unit.world, "other", 200 << 20);
    let there = unit.there("blob");
    let mut child = unit
        .upm(&["cp", CLUSTER, text(&here), &there])
        .spawn()
        .expect("run upm");
    eventually("a part is there", HEALING, || unit.has_part(true));
    child.kill().expect("end upm");
    assert!(!child.wait().expect("upm").success());
    eventually("the part is gone", HEALING, || unit.has_part(false));
    assert_eq!(unit.digest_there("blob"), before);
    fs::remove_file(here).expect("remove");
}

/// Each command and each file is recorded; no argument is.
fn records(world: &World) {
    let wanted = [
        ("ExecInUnit", r#""program":"sh""#),
        ("WriteUnitFile", "/blob"),
        ("ReadUnitFile", "/blob"),
    ];
    eventually("what was done in the unit is recorded", RECORDED, || {
        let page = world.api().get("/v1/operatorLog/entries?pageSize=500");
        let entries = page["entries"].as_array().cloned().unwrap_or_default();
        assert!(
            !page.to_string().contains(ARGUMENT),
            "arguments are recorded"
        );
        for (method, what) in wanted {
            let path = format!("/upm.hub.v1.AgentAdminService/{method}");
            let found = entries.iter().any(|entry| {
                entry["method"] == path.as_str()
                    && format!("{}{}", entry["diff"], entry["request"])
                        .replace('\\', "")
                        .contains(what)
            });
            if !found {
                return Err(format!("no record of {method} with {what}"));
            }
        }
        Ok(())
    });
}
