//! The link between hub and agent, with a module's own identity at the ledger.

use std::{
    path::Path,
    process::{Child, Command},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tonic::{Code, Status};
use upm_mesh::{Channel, Context, Identity, SpiffeId};
use upm_proto::hub::v1::{
    ApplyObjectsRequest, DeleteObjectsRequest, GetObjectRequest, Intent, Key, Object, ObjectResult,
    Outcome, Writer, ledger_service_client::LedgerServiceClient,
};

use super::super::{
    kubectl::eventually,
    world::{CLUSTER, Form, SYSTEM, World, dying_with_us, spawn_from_lasting_thread, turn},
    writer::say,
};

const GROUP: &str = "upm.syntropycloud.io";
/// Project of these tests; also their namespace.
const PROJECT: &str = "linked";
const OWNER: &str = "projects/linked/redisServices/t";
/// Namespace of a second agent.
const TWIN: &str = "upm-twin";
const OUTAGE: Duration = Duration::from_mins(1);
const SOON: Duration = Duration::from_mins(3);

/// The ledger of the test cluster's agent, as a module of the platform has it.
struct Ledger<'a> {
    world: &'a World,
    runtime: tokio::runtime::Runtime,
    client: LedgerServiceClient<Channel>,
    generation: AtomicU64,
}

fn key(kind: &str, version: &str, namespace: &str, name: &str) -> Key {
    let group = if kind == "Secret" { "" } else { GROUP };
    Key {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn set(name: &str) -> Key {
    key("UnitSet", "v1alpha2", PROJECT, name)
}

/// A set that makes no pods.
fn stopped(units: i64) -> Value {
    json!({ "type": "redis", "version": "7.0.15", "units": units, "startup": false })
}

impl<'a> Ledger<'a> {
    fn of(world: &'a World) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let guard = runtime.enter();
        let folder = world.folder.join("identities/redis");
        let identity = Identity::from_directory(&folder).expect("the identity of a module");
        let address = format!("https://{}", World::module_address("hub"));
        let channel = upm_mesh::connect(
            vec![address.parse().expect("an address")],
            identity,
            SpiffeId::module("hub").expect("a module"),
        );
        drop(guard);
        Self {
            world,
            runtime,
            client: LedgerServiceClient::new(channel),
            generation: AtomicU64::new(1),
        }
    }

    /// Writes the next generation of an object and returns it.
    fn try_apply(&self, key: &Key, spec: &Value, force: bool) -> Result<u64, Status> {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let mut uid = [0_u8; 16];
        let text = format!("{}/{}", key.kind, key.name);
        uid.iter_mut()
            .zip(text.bytes().cycle())
            .for_each(|(to, from)| *to = from);
        let api_version = [&key.group, "/", &key.version].concat();
        let mut json = json!({
            "apiVersion": api_version.trim_start_matches('/'), "kind": key.kind,
            "metadata": { "name": key.name }, "spec": spec,
        });
        if !key.namespace.is_empty() {
            json["metadata"]["namespace"] = json!(key.namespace);
        }
        let intent = Intent {
            key: Some(key.clone()),
            intent_uid: uid.to_vec().into(),
            generation,
            json: json.to_string().into(),
            force,
            ..Intent::default()
        };
        let request = ApplyObjectsRequest {
            agent_id: CLUSTER.to_owned(),
            writer: Some(writer()),
            intents: vec![intent],
        };
        let mut client = self.client.clone();
        let request = Context::internal("test").forward(request);
        self.runtime.block_on(client.apply_objects(request))?;
        Ok(generation)
    }

    fn apply(&self, key: &Key, spec: &Value) -> u64 {
        self.try_apply(key, spec, false)
            .unwrap_or_else(|status| panic!("{key:?}: {status:?}"))
    }

    fn get(&self, key: &Key) -> Result<Object, Status> {
        let request = GetObjectRequest {
            agent_id: CLUSTER.to_owned(),
            key: Some(key.clone()),
        };
        let mut client = self.client.clone();
        let request = Context::internal("test").forward(request);
        let object = self.runtime.block_on(client.get_object(request))?;
        Ok(object.into_inner())
    }

    /// Waits for the outcome of a generation.
    fn comes_to(&self, key: &Key, generation: u64, wanted: Outcome) -> ObjectResult {
        let what = format!("{} {} comes to {wanted:?}", key.kind, key.name);
        eventually(&what, SOON, || {
            let object = self.get(key).map_err(|status| format!("{status:?}"))?;
            let result = object.result.ok_or("no result")?;
            if result.generation == generation && result.outcome() == wanted {
                Ok(result)
            } else {
                Err(format!("{result:?}"))
            }
        })
    }

    /// Applies and waits until the cluster has it.
    fn settle(&self, key: &Key, spec: &Value) {
        let generation = self.apply(key, spec);
        self.comes_to(key, generation, Outcome::Applied);
    }

    /// Deletes objects, or with `orphan` only lets go of them, and waits until the ledger has forgotten them.
    fn delete(&self, keys: &[Key], orphan: bool) {
        let request = DeleteObjectsRequest {
            agent_id: CLUSTER.to_owned(),
            writer: Some(writer()),
            keys: keys.to_vec(),
            orphan,
            ..DeleteObjectsRequest::default()
        };
        let mut client = self.client.clone();
        let request = Context::internal("test").forward(request);
        self.runtime
            .block_on(client.delete_objects(request))
            .expect("deleted");
        for key in keys {
            eventually("the ledger forgets it", SOON, || match self.get(key) {
                Err(status) if status.code() == Code::NotFound => Ok(()),
                other => Err(format!("{other:?}")),
            });
        }
    }

    /// `spec.units` in the cluster.
    fn units(&self, name: &str) -> Option<i64> {
        let live = self.world.kubectl.get(&["unitset", name, "-n", PROJECT]);
        live["spec"]["units"].as_i64()
    }
}

fn writer() -> Writer {
    Writer {
        owner: OWNER.to_owned(),
        epoch: 1,
    }
}

#[test]
fn what_the_cluster_refuses_has_a_typed_outcome_and_the_next_generation_converges() {
    let world = turn(Form::Served);
    let ledger = Ledger::of(&world);
    let project = key("Project", "v1alpha2", "", PROJECT);
    let homeless = key("UnitSet", "v1alpha2", "linked-nowhere", "homeless");
    let generation = ledger.apply(&homeless, &stopped(1));
    let blocked = ledger.comes_to(&homeless, generation, Outcome::BlockedOnDependency);
    assert_eq!(blocked.error.unwrap().reason, "NAMESPACE_MISSING");

    ledger.settle(&project, &json!({}));
    eventually("the namespace is there", SOON, || {
        match world.kubectl.get(&["namespace", PROJECT]) {
            Value::Null => Err("not yet".to_owned()),
            _ => Ok(()),
        }
    });
    ledger.settle(&set("one"), &stopped(1));

    let unknown = key("UnitSet", "v9", PROJECT, "one");
    let generation = ledger.apply(&unknown, &stopped(1));
    ledger.comes_to(&unknown, generation, Outcome::UnsupportedKind);
    let secret = key("Secret", "v1", SYSTEM, "stolen");
    let generation = ledger.apply(&secret, &json!({}));
    ledger.comes_to(&secret, generation, Outcome::DeniedLocalPolicy);

    let huge = json!({ "type": "x".repeat(1 << 20) });
    let refused = ledger.try_apply(&set("one"), &huge, false).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");

    let generation = ledger.apply(&set("one"), &stopped(-1));
    let rejected = ledger.comes_to(&set("one"), generation, Outcome::Rejected);
    let error = rejected.error.unwrap();
    assert_eq!((error.http_status, error.reason.as_str()), (422, "INVALID"));
    assert!(error.message.contains("spec.units"), "{}", error.message);
    ledger.settle(&set("one"), &stopped(2));

    world.kubectl.must(&[
        "patch",
        "unitset",
        "one",
        "-n",
        PROJECT,
        "--field-manager=somebody",
        "--type=merge",
        "-p",
        r#"{"spec": {"units": 5}}"#,
    ]);
    let generation = ledger.apply(&set("one"), &stopped(3));
    let conflict = ledger.comes_to(&set("one"), generation, Outcome::Conflict);
    assert_eq!(
        (
            conflict.conflicts[0].field.as_str(),
            conflict.conflicts[0].manager.as_str()
        ),
        (".spec.units", "somebody")
    );
    assert_eq!(ledger.units("one"), Some(5), "nothing was overwritten");
    let generation = ledger.try_apply(&set("one"), &stopped(3), true).unwrap();
    ledger.comes_to(&set("one"), generation, Outcome::Applied);
    assert_eq!(ledger.units("one"), Some(3));

    let before = world.kubectl.get(&["unitset", "one", "-n", PROJECT]);
    world
        .kubectl
        .must(&["delete", "namespace", PROJECT, "--wait=false"]);
    eventually("namespace and set are back", Duration::from_mins(3), || {
        let now = world.kubectl.get(&["unitset", "one", "-n", PROJECT]);
        let (old, new) = (&before["metadata"]["uid"], &now["metadata"]["uid"]);
        if new.is_string() && old != new && now["metadata"]["deletionTimestamp"].is_null() {
            Ok(())
        } else {
            Err(now["metadata"].to_string())
        }
    });
    assert_eq!(ledger.units("one"), Some(3));
    ledger.delete(&[set("one"), unknown, homeless], false);
    // What the cluster does not allow the platform cannot delete; but it can let go of it.
    ledger.delete(&[secret], true);
    ledger.delete(&[project], false);
}

/// Something goes wrong between hub and agent for a minute, in which the ledger changes; afterwards the last generation is applied.
fn survives<U>(what: &str, world: &World, begin: impl FnOnce() -> U) {
    let ledger = Ledger::of(world);
    let project = key("Project", "v1alpha2", "", PROJECT);
    ledger.settle(&project, &json!({}));
    ledger.settle(&set("two"), &stopped(1));
    let undo = begin();
    let began = Instant::now();
    // The hub may be what is stopped.
    let during =
        (2..=4).filter_map(|units| ledger.try_apply(&set("two"), &stopped(units), false).ok());
    let written = during.count();
    thread::sleep(OUTAGE.saturating_sub(began.elapsed()));
    drop(undo);
    let healed = Instant::now();
    let generation = eventually("the hub takes the next generation", SOON, || {
        ledger
            .try_apply(&set("two"), &stopped(5), false)
            .map_err(|status| format!("{status:?}"))
    });
    ledger.comes_to(&set("two"), generation, Outcome::Applied);
    assert_eq!(ledger.units("two"), Some(5));
    say(&format!(
        "{what}: {written} generations written meanwhile, the last one applied {} ms after the end",
        healed.elapsed().as_millis()
    ));
    world.healthy(SOON);
    ledger.delete(&[set("two")], false);
    ledger.delete(&[project], false);
}

/// Runs a command when dropped, also when a test fails.
struct Undo(Vec<Vec<String>>);

impl Drop for Undo {
    fn drop(&mut self) {
        for command in &self.0 {
            run(command);
        }
    }
}

fn run(command: &[String]) {
    let done = Command::new(&command[0]).args(&command[1..]).status();
    assert!(done.expect("run a program").success(), "{command:?}");
}

fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(ToOwned::to_owned).collect()
}

#[test]
fn a_network_that_swallows_packets_for_a_minute_costs_nothing() {
    let world = turn(Form::Served);
    let port = world.hub_address().rsplit(':').next().unwrap().to_owned();
    survives("network cut", &world, || {
        run(&words("nft add table inet upm_link_test"));
        let undo = Undo(vec![words("nft delete table inet upm_link_test")]);
        run(&words(
            "nft add chain inet upm_link_test input { type filter hook input priority -300 ; }",
        ));
        run(&words(&format!(
            "nft add rule inet upm_link_test input iifname upm0 tcp dport {port} drop"
        )));
        undo
    });
}

#[test]
fn a_hub_that_stands_still_for_a_minute_costs_nothing() {
    let world = turn(Form::Served);
    let hub = world.module_pid("hub");
    survives("hub stopped", &world, || {
        run(&words(&format!("kill -STOP {hub}")));
        Undo(vec![words(&format!("kill -CONT {hub}"))])
    });
}

#[test]
fn an_agent_that_stands_still_for_a_minute_is_replaced_and_does_no_harm_when_it_wakes_up() {
    let world = turn(Form::Served);
    let pid = eventually("somebody leads", SOON, || {
        let lease = world.kubectl.get(&["lease", "upm-agent", "-n", SYSTEM]);
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        process_of(holder)
    });
    survives("leading agent stopped", &world, || {
        run(&words(&format!("kill -STOP {pid}")));
        Undo(vec![words(&format!("kill -CONT {pid}"))])
    });
}

#[test]
fn two_agents_with_one_identity_take_turns_and_do_no_harm() {
    let world = turn(Form::Served);
    survives("two agents with one identity", &world, || {
        let twin = Twin::start(&world);
        // Each turn ends with the other's claim, and lasts for some ten seconds.
        for namespace in [SYSTEM, TWIN, SYSTEM] {
            eventually(&format!("{namespace} is fenced"), SOON, || {
                let status = world
                    .kubectl
                    .get(&["configmap", "upm-agent-status", "-n", namespace]);
                match status["data"]["reason"].as_str() {
                    Some("FENCED" | "DRAINED_FENCED") => Ok(()),
                    _ => Err(status["data"].to_string()),
                }
            });
        }
        twin
    });
}

/// Another process with the agent's identity, and a namespace, a Lease and a durable copy of its own.
struct Twin<'a> {
    world: &'a World,
    process: Child,
}

impl<'a> Twin<'a> {
    fn start(world: &'a World) -> Self {
        let identity = world
            .kubectl
            .get(&["secret", "upm-agent-identity", "-n", SYSTEM]);
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": TWIN } });
        world.kubectl.apply(&namespace.to_string());
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": identity["type"], "data": identity["data"],
            "metadata": { "name": "upm-agent-identity", "namespace": TWIN },
        });
        world.kubectl.apply(&secret.to_string());
        let program = world.environment.root.join("target/debug/upm-agent");
        let log = std::fs::File::create(world.folder.join("twin.log")).expect("a log");
        let mut command = dying_with_us(&program);
        command
            .arg("--kubeconfig")
            .arg(&world.environment.kubeconfig)
            .arg(format!("--agent-namespace={TWIN}"))
            .arg(format!("--hub-endpoints={}", world.hub_address()))
            .arg(format!("--ca-pin={}", world.pin()))
            .arg("--metrics-address=127.0.0.1:0")
            .stdout(log.try_clone().expect("the log"))
            .stderr(log);
        Self {
            world,
            process: spawn_from_lasting_thread(command),
        }
    }
}

impl Drop for Twin<'_> {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        self.world
            .kubectl
            .must(&["delete", "namespace", TWIN, "--wait=false"]);
    }
}

/// The agent's process in a pod, by the pod's host name.
fn process_of(pod: &str) -> Result<u32, String> {
    let found = Command::new("pgrep")
        .args(["-x", "upm-agent"])
        .output()
        .expect("run pgrep");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    found
        .lines()
        .find(|pid| {
            std::fs::read_to_string(Path::new("/proc").join(pid).join("root/etc/hostname"))
                .is_ok_and(|name| pod.starts_with(name.trim()))
        })
        .and_then(|pid| pid.parse().ok())
        .ok_or_else(|| format!("no process of {pod:?} among {found:?}"))
}
