//! Restarts, more and fewer members, plans, repeated requests, and what an administrator sees in the cluster.

use serde_json::{Value, json};

use crate::road::{
    kubectl::eventually,
    service::{HEALING, LONG, Service, spec},
    world::beside,
    writer::Writer,
};

const PVC: &str = "persistentvolumeclaim";

fn created(pod: &Value) -> String {
    pod["metadata"]["creationTimestamp"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_restart_renews_every_member_the_primary_last_and_loses_no_confirmed_write() {
    let world = beside();
    let service = world.shared();
    let (primary, epoch) = service.primary();
    let before = service.identities("pod");
    let claims = service.identities(PVC);
    let writer = Writer::start(service.target(), "restart");
    service.operate(":restart", &json!({}));
    service.heals(HEALING);
    writer.finish("restart");

    let after = service.identities("pod");
    assert_eq!(after.len(), 3);
    for pod in &after {
        assert!(!before.contains(pod), "{} was restarted", pod.0);
    }
    assert_eq!(service.identities(PVC), claims);
    let (next, later) = service.primary();
    assert_ne!(
        next, primary,
        "the primary moved before its member was restarted"
    );
    assert!(epoch < later);
    let pods = service.objects("pod");
    let times: Vec<_> = pods
        .iter()
        .map(|pod| {
            (
                created(pod),
                pod["metadata"]["name"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    let last = times.iter().max().expect("pods");
    let (old, _) = times
        .iter()
        .find(|(_, name)| *name == primary)
        .expect("the old primary");
    assert_eq!(*old, last.0, "the old primary came last: {times:?}");
}

#[test]
fn members_come_and_go_under_a_writer_and_volumes_stay() {
    let world = beside();
    // Not a shared one: a fourth volume stays behind.
    let project = world.project("scale");
    let service = Service::create(&world, &project, "cache", 3);
    service.heals(HEALING);
    let writer = Writer::start(service.target(), "scale 3 to 4 to 3");
    service.operate(":horizontalScale", &json!({"members": 4}));
    service.heals(HEALING);
    assert_eq!(service.members().len(), 4);
    let claims = service.identities(PVC);
    assert_eq!(claims.len(), 4);

    // The member that will go is made the primary: it has to move first.
    let last = service.members().pop().expect("members");
    if service.primary().0 != last {
        service.operate(":switchover", &json!({"target": last}));
    }
    service.operate(":horizontalScale", &json!({"members": 3}));
    service.heals(HEALING);
    assert!(!service.members().contains(&last), "{last} is gone");
    eventually(
        &format!("the pod of {last} is gone"),
        HEALING,
        || match service.identities("pod") {
            pods if pods.len() == 3 => Ok(()),
            pods => Err(format!("{pods:?}")),
        },
    );
    assert_eq!(
        service.identities(PVC),
        claims,
        "the volume of {last} stays"
    );
    assert_eq!(service.get()["spec"]["members"], 3);
    writer.finish("scale 3 to 4 to 3");

    for members in [0, 10] {
        let refused = world.api().call(
            "POST",
            &service.path(":horizontalScale"),
            Some(&json!({"members": members})),
        );
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert_eq!(refused.fields(), ["members"]);
    }
    service.delete("DELETE_DATA");
}

#[test]
fn a_plan_changes_nothing() {
    let world = beside();
    let api = world.api();
    let project = world.project("plan");
    let service = Service::of(&world, &project, "cache");
    let plan = api
        .call(
            "POST",
            &service.creation("&validateOnly=true"),
            Some(&spec(3)),
        )
        .ok();
    assert!(
        plan["name"].as_str().is_none_or(str::is_empty),
        "a plan has no name: {plan}"
    );
    let steps = plan["steps"].as_array().expect("steps");
    assert!(3 < steps.len());
    for step in steps {
        assert!(
            step["state"]
                .as_str()
                .is_none_or(|state| state == "STEP_PENDING"),
            "{step}"
        );
        assert!(
            step["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{step}"
        );
    }
    assert!(plan["expectedDuration"].is_string(), "{plan}");
    assert_eq!(service.try_get().status, 404);
    assert!(api.operations(&service.name()).is_empty());
    assert!(world.kubectl.list("unitset", &project).is_empty());
    world.upm(&["project", "delete", &project]);

    let shared = world.shared();
    let (before, operations) = (shared.get(), api.operations(&shared.name()).len());
    for verb in [":restart", ":switchover", ":horizontalScale"] {
        let body = if verb == ":horizontalScale" {
            json!({"members": 5, "validateOnly": true})
        } else {
            json!({"validateOnly": true})
        };
        let plan = api.call("POST", &shared.path(verb), Some(&body)).ok();
        assert!(
            plan["steps"]
                .as_array()
                .is_some_and(|steps| !steps.is_empty()),
            "{plan}"
        );
    }
    assert_eq!(shared.get()["etag"], before["etag"]);
    assert_eq!(api.operations(&shared.name()).len(), operations);
    assert_eq!(shared.object("unitset")["spec"]["units"], 3);
}

#[test]
fn the_same_request_twice_is_done_once() {
    let world = beside();
    let service = world.shared();
    let api = world.api();
    let epoch = service.primary().1;
    let request_id = uuid::Uuid::new_v4().to_string();
    let body = json!({"requestId": request_id});
    let first = api
        .call("POST", &service.path(":switchover"), Some(&body))
        .ok();
    let name = first["name"].as_str().expect("a name");
    let second = api
        .call("POST", &service.path(":switchover"), Some(&body))
        .ok();
    assert_eq!(second["name"], name);
    api.succeeded(name, LONG);
    let third = api
        .call("POST", &service.path(":switchover"), Some(&body))
        .ok();
    assert_eq!(
        (&third["name"], &third["done"]),
        (&json!(name), &json!(true))
    );
    service.heals(HEALING);
    assert_eq!(service.primary().1, epoch + 1, "it was done once");

    let other = json!({"requestId": request_id, "target": "cache-0"});
    let refused = api.call("POST", &service.path(":switchover"), Some(&other));
    assert_eq!(refused.reason(), "REQUEST_ID_REUSED", "{}", refused.body);
}

#[test]
fn an_administrator_understands_the_columns_in_the_cluster() {
    let world = beside();
    let service = world.shared();
    let (primary, epoch) = service.primary();
    let table = |kind: &str| {
        let text = world.kubectl.must(&["get", kind, "-n", &service.project]);
        let mut lines = text.lines().map(|line| {
            line.split_whitespace()
                .map(ToOwned::to_owned)
                .collect::<Vec<_>>()
        });
        let header = lines.next().unwrap_or_default().join(" ");
        (header, lines.collect::<Vec<_>>())
    };
    let (header, _) = table("unitset");
    assert_eq!(
        header,
        "NAME TYPE VERSION EXPECTED CURRENT READY UPDATED STATUS AGE"
    );
    let (header, _) = table("unit");
    assert!(header.starts_with("NAME PHASE ROLE VERSION"), "{header}");
    let (header, _) = table("redisreplication");
    assert_eq!(header, "NAME PHASE PRIMARY EPOCH WRITABLE READY AGE");
    // Objects take over from each other what they show, one after the other.
    let shows = |kind: &str, is: &dyn Fn(&[Vec<String>]) -> bool| {
        eventually(&format!("each {kind} shows how it is"), HEALING, || {
            let (_, rows) = table(kind);
            if is(&rows) {
                Ok(())
            } else {
                Err(format!("{rows:?}"))
            }
        });
    };
    shows("unitset", &|rows| {
        let [row] = rows else { return false };
        let shown = row.get(..7);
        shown.is_some_and(|row| *row == ["cache", "redis", "7.0.15", "3", "3", "3", "3"])
    });
    shows("unit", &|rows| {
        let fits = |row: &Vec<String>| {
            let role = if row[0] == primary {
                "primary"
            } else {
                "replica"
            };
            row.get(2..4)
                .is_some_and(|shown| *shown == [role, "7.0.15"])
        };
        rows.len() == 3 && rows.iter().all(fits)
    });
    let epoch = epoch.to_string();
    shows("redisreplication", &|rows| {
        let wanted = ["cache", "Healthy", &primary, &epoch, "true", "true"];
        let row = rows.first().and_then(|row| row.get(..6));
        row.is_some_and(|row| *row == wanted)
    });
    // The short names work, too.
    world
        .kubectl
        .must(&["get", "us,un,rr", "-n", &service.project]);
}

#[test]
fn the_command_line_can_be_used_in_scripts() {
    let world = beside();
    let service = world.shared();
    let project = service.project.as_str();
    let code = |arguments: &[&str]| world.try_upm(arguments).status.code();
    assert_eq!(
        code(&["redis", "get", "nobody", "-p", project]),
        Some(3),
        "not found"
    );
    assert_eq!(
        code(&["redis", "create", "cache", "-p", project]),
        Some(5),
        "it exists"
    );
    assert_eq!(
        code(&["redis", "create", "cache2", "-p", project, "--members", "0"]),
        Some(8),
        "a wrong field"
    );
    assert_eq!(
        code(&["redis", "frobnicate"]),
        Some(2),
        "a wrong command line"
    );
    let nowhere = world.folder.join("nowhere.json");
    assert_eq!(
        world.upm_as(&nowhere, &["whoami"]).status.code(),
        Some(4),
        "no login"
    );
    let password = world.folder.join("admin-password");
    let password = password.to_str().expect("text");
    let unreachable = [
        "login",
        "--server",
        "http://127.0.0.1:9",
        "--password-file",
        password,
    ];
    assert_eq!(
        world.upm_as(&nowhere, &unreachable).status.code(),
        Some(6),
        "unreachable"
    );
    let wrong = world.try_upm(&[
        "redis", "create", "cache2", "-p", project, "--memory", "abc",
    ]);
    assert!(
        String::from_utf8_lossy(&wrong.stderr).contains("redis_service.spec.memory"),
        "{wrong:?}"
    );

    let read = |arguments: &[&str]| -> Value {
        serde_json::from_str(&world.upm(arguments)).expect("JSON")
    };
    let shown = read(&["redis", "get", "cache", "-p", project, "-o", "json"]);
    assert_eq!(shown["name"], service.name());
    assert_eq!(shown["status"]["primary"], service.primary().0);
    let listed = read(&["redis", "list", "-p", project, "-o", "json"]);
    assert_eq!(
        listed["redisServices"].as_array().map(Vec::len),
        Some(1),
        "{listed}"
    );
    let connection = read(&["redis", "connect", "cache", "-p", project, "-o", "json"]);
    assert_eq!(
        connection["passwordSecret"],
        format!("{project}/cache-credentials"),
        "{connection}"
    );
    let plan = read(&[
        "redis",
        "restart",
        "cache",
        "-p",
        project,
        "--dry-run",
        "-o",
        "json",
    ]);
    assert!(plan["steps"].is_array(), "{plan}");
    let done = read(&["redis", "switchover", "cache", "-p", project, "-o", "json"]);
    assert_eq!(done["state"], "SUCCEEDED", "{done}");
    let name = done["name"].as_str().expect("a name");
    assert_eq!(
        read(&["operation", "watch", name, "-o", "json"])["done"],
        true
    );
    let yaml = world.upm(&["redis", "get", "cache", "-p", project, "-o", "yaml"]);
    let yaml: Value = serde_yaml::from_str(&yaml).expect("YAML");
    assert_eq!(yaml["name"], service.name());

    let table = world.upm(&["redis", "get", "cache", "-p", project]);
    for word in ["MEMBER", "ROLE", "PRIMARY", "REPLICA", "cache-0", "7.0.15"] {
        assert!(table.contains(word), "{word} is in the table:\n{table}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            world.upm(&["completion", shell]).contains("switchover"),
            "{shell}"
        );
    }
    service.heals(HEALING);
}
