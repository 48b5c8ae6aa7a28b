//! Faults of the cluster under writers of every kind, one and two at once: `make ledger` runs them, on three nodes.

use std::{fs, process::Command, thread, time::Duration};

use super::{
    kubectl::eventually,
    mixed_writer::{Ledger, MixedWriter},
    service::{HEALING, LONG, Service, spec},
    world::{World, world},
    writer::Writer,
};

/// Disturbs a service of its own under the writers; afterwards it is well again, and nothing that was confirmed is missing: neither at once, nor
/// after each member has led, nor after all processes were killed.
fn through(what: &str, disturb: impl FnOnce(&World, &Service<'_>)) {
    let world = world();
    let project = world.project("faults");
    let service = Service::of(&world, &project, "cache");
    world
        .api()
        .operate("POST", &service.creation(""), Some(&spec(3)), LONG);
    service.heals(HEALING);
    let writer = Writer::start(service.target(), what);
    let mixed = [0, 1].map(|n| MixedWriter::start(service.target(), &format!("{what} {n}")));
    disturb(&world, &service);
    service.heals(LONG);
    writer.finish(what);
    let ledgers = mixed.map(MixedWriter::finish);
    survives(&service, &ledgers);
    service.delete("DELETE_DATA");
    world.upm(&["project", "delete", &project]);
}

fn survives(service: &Service<'_>, ledgers: &[Ledger]) {
    for member in service.members() {
        if service.primary().0 != member {
            service.operate(":switchover", &serde_json::json!({"target": member}));
            service.heals(HEALING);
        }
        for ledger in ledgers {
            ledger.check(&format!("with {member} as the primary"));
        }
    }
    for member in service.members() {
        service.signal(&member, "KILL").expect("kill a member");
    }
    service.heals(HEALING);
    for ledger in ledgers {
        ledger.check("after all processes were killed");
    }
}

/// Waits until somebody leads who is not this member.
fn leads(service: &Service<'_>, not: Option<&str>) {
    eventually("somebody leads", HEALING, || {
        match service.primary_in_cluster() {
            (next, _, true) if Some(next.as_str()) != not => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

fn cluster(world: &World, arguments: &[&str]) {
    let script = world
        .environment
        .root
        .join("integration/cluster/cluster.sh");
    let status = Command::new(script).args(arguments).status();
    assert!(
        status.expect("run cluster.sh").success(),
        "cluster.sh {arguments:?}"
    );
}

fn node_of(service: &Service<'_>, member: &str) -> String {
    let pod = service
        .world
        .kubectl
        .get(&["pod", member, "-n", &service.project]);
    let node = pod["spec"]["nodeName"].as_str().expect("a node");
    node.trim_start_matches(|letter: char| !letter.is_ascii_digit())
        .to_owned()
}

/// Fills the volume of a member until nothing more fits.
fn fill(service: &Service<'_>, member: &str) {
    let script = "dd if=/dev/zero of=/data/fill bs=1M 2>/dev/null; dd if=/dev/zero of=/data/fill2 bs=4k 2>/dev/null; true";
    service
        .world
        .kubectl
        .exec(&service.project, member, &["sh", "-c", script])
        .expect("fill the volume");
}

fn empty(service: &Service<'_>, member: &str) {
    eventually("the volume has room again", HEALING, || {
        service.world.kubectl.exec(
            &service.project,
            member,
            &["rm", "-f", "/data/fill", "/data/fill2"],
        )
    });
}

#[test]
#[ignore = "a fault of the whole cluster: make ledger"]
fn full_volume_of_the_primary_loses_nothing() {
    through("volume of the primary full", |_, service| {
        let (primary, _) = service.primary();
        fill(service, &primary);
        thread::sleep(Duration::from_secs(15));
        // in whatever state it is: killed with a full disk
        service.signal(&primary, "KILL").ok();
        thread::sleep(Duration::from_secs(15));
        empty(service, &primary);
    });
}

#[test]
#[ignore = "a fault of the whole cluster: make ledger"]
fn full_volumes_of_all_members_lose_nothing() {
    through("all volumes full", |_, service| {
        let members = service.members();
        for member in &members {
            fill(service, member);
        }
        thread::sleep(Duration::from_secs(10));
        service.signal(&service.primary().0, "KILL").ok();
        thread::sleep(Duration::from_secs(10));
        for member in &members {
            empty(service, member);
        }
    });
}

#[test]
#[ignore = "a fault of the whole cluster: make ledger"]
fn replaced_volume_of_a_replica_loses_nothing() {
    through("volume of a replica replaced", |world, service| {
        let member = service.replica();
        let claims = service.identities("persistentvolumeclaim");
        let (claim, _) = claims
            .iter()
            .find(|(name, _)| name.contains(member.as_str()))
            .expect("the member's claim");
        world.kubectl.must(&[
            "delete",
            "pvc",
            claim,
            "-n",
            &service.project,
            "--wait=false",
        ]);
        service.kill_pods(std::slice::from_ref(&member));
        eventually("the member has another volume", HEALING, || {
            match service.identities("persistentvolumeclaim") {
                now if now.len() == 3 && now != claims => Ok(()),
                now => Err(format!("{now:?}")),
            }
        });
    });
}

#[test]
#[ignore = "a fault of the whole cluster: make ledger"]
fn primary_killed_while_the_api_server_is_away_loses_nothing() {
    through("API server away, primary killed", |world, service| {
        let (primary, _) = service.primary();
        let pid = server_of(&primary);
        cluster(world, &["freeze", "apiserver"]);
        thread::sleep(Duration::from_secs(5));
        kill(pid);
        thread::sleep(Duration::from_secs(25));
        cluster(world, &["thaw", "apiserver"]);
    });
}

#[test]
#[ignore = "a fault of the whole cluster: make ledger"]
fn primary_killed_under_a_frozen_kubelet_loses_nothing() {
    through("kubelet frozen, primary killed", |world, service| {
        let (primary, _) = service.primary();
        let kubelet = format!("n{}-kubelet", node_of(service, &primary));
        let pid = server_of(&primary);
        cluster(world, &["freeze", &kubelet]);
        thread::sleep(Duration::from_secs(60));
        kill(pid);
        thread::sleep(Duration::from_secs(20));
        cluster(world, &["thaw", &kubelet]);
    });
}

#[test]
#[ignore = "a fault of the whole cluster: make ledger"]
fn primary_cut_off_from_the_network_loses_nothing() {
    through("node of the primary cut off", |world, service| {
        let (primary, _) = service.primary();
        let node = node_of(service, &primary);
        cluster(world, &["node", "cut", &node]);
        leads(service, Some(&primary));
        thread::sleep(Duration::from_secs(10));
        cluster(world, &["node", "heal", &node]);
    });
}

#[test]
#[ignore = "a fault of the whole cluster: make ledger"]
fn two_nodes_that_lose_power_one_after_the_other_lose_nothing() {
    through("power of two nodes lost", |world, service| {
        let (primary, _) = service.primary();
        let other = service.replica();
        let (first, second) = (node_of(service, &primary), node_of(service, &other));
        cluster(world, &["node", "stop", &first]);
        if first != second {
            cluster(world, &["node", "stop", &second]);
        }
        thread::sleep(Duration::from_secs(10));
        cluster(world, &["node", "start", &first]);
        if first != second {
            cluster(world, &["node", "start", &second]);
        }
    });
}

#[test]
#[ignore = "a fault of the whole cluster: make ledger"]
fn controller_that_freezes_and_wakes_up_loses_nothing() {
    through("controller frozen, primary killed", |world, service| {
        let (primary, _) = service.primary();
        let agents: Vec<i32> = world
            .agent_pods()
            .iter()
            .filter_map(|pod| process(pod, "upm-agent"))
            .collect();
        assert!(!agents.is_empty(), "no agent runs");
        let server = server_of(&primary);
        for agent in &agents {
            signal(*agent, "STOP");
        }
        kill(server);
        thread::sleep(Duration::from_secs(10));
        // the first one leads, whichever it was; the other wakes up with what it knew before
        signal(agents[0], "CONT");
        leads(service, None);
        for agent in &agents {
            signal(*agent, "CONT");
        }
    });
}

/// The server in a pod: the child of its unit agent. It writes over its environment, which names the pod.
fn server_of(pod: &str) -> i32 {
    let agent = process(pod, "upm-unit-agent").unwrap_or_else(|| panic!("{pod} does not run"));
    let child_of_agent = format!("PPid:\t{agent}");
    pids()
        .find(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line == child_of_agent)
                && status.lines().next() == Some("Name:\tredis-server")
        })
        .unwrap_or_else(|| panic!("no server runs in {pod}"))
}

fn kill(pid: i32) {
    signal(pid, "KILL");
}

fn signal(pid: i32, signal: &str) {
    // it may have ended by itself meanwhile
    Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .status()
        .expect("run kill");
}

fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .expect("read /proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// A process of a container of the test cluster, by the name of its pod; needs neither kubelet nor API server.
fn process(pod: &str, program: &str) -> Option<i32> {
    let named = format!("HOSTNAME={pod}");
    pids().find(|pid| {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("comm").trim_ascii() == program.as_bytes()
            && read("environ")
                .split(|byte| *byte == 0)
                .any(|variable| variable == named.as_bytes())
    })
}
