//! What a gigabyte changes: copies take their time, and no member may leave before the one before it is whole again. `make ledger` runs it.

use serde_json::json;

use super::{
    service::{HEALING, LONG, Service},
    world::world,
    writer::{Writer, say},
};

/// 100,000 values of 10 kB: 1 GB, beside what the server needs for itself.
const VALUES: usize = 100_000;
const BYTES: usize = 10_000;
const AT_ONCE: usize = 200;

fn fill(service: &Service<'_>) {
    let mut connection = service.target().connect_within(HEALING);
    let value = "x".repeat(BYTES);
    for first in (0..VALUES).step_by(AT_ONCE) {
        let mut pipe = redis::pipe();
        for n in first..(first + AT_ONCE).min(VALUES) {
            pipe.cmd("SET")
                .arg(format!("large:{n}"))
                .arg(&value)
                .ignore();
        }
        pipe.exec(&mut connection).expect("fill");
    }
    let confirmed: i64 = redis::cmd("WAIT")
        .arg(2)
        .arg(60_000)
        .query(&mut connection)
        .expect("wait");
    assert!(1 <= confirmed, "{confirmed} replicas");
}

#[test]
#[ignore = "needs 12 GiB of memory and ten minutes: make ledger"]
fn gigabyte_goes_through_every_change_without_loss() {
    let world = world();
    let project = world.project("large");
    let service = Service::of(&world, &project, "big");
    let spec = json!({"spec": {"members": 3, "cpu": "250m", "memory": "2560Mi", "storage": {"size": "6Gi"}}});
    world
        .api()
        .operate("POST", &service.creation(""), Some(&spec), LONG);
    fill(&service);
    say(&format!(
        "    every line below with {VALUES} values of {BYTES} bytes"
    ));
    let beside = |what: &str, change: &dyn Fn()| {
        let writer = Writer::start(service.target(), what);
        change();
        service.heals(LONG);
        writer.finish(what);
    };
    beside("1 GB, switchover", &|| {
        service.operate(":switchover", &json!({"target": service.replica()}));
    });
    beside("1 GB, process of the primary killed", &|| {
        let primary = service.primary().0;
        service.signal(&primary, "KILL").expect("kill the primary");
    });
    beside("1 GB, pod of the primary deleted", &|| {
        let primary = service.primary().0;
        world
            .kubectl
            .must(&["delete", "pod", &primary, "-n", &project, "--wait=false"]);
    });
    beside("1 GB, rolling restart", &|| {
        service.operate(":restart", &json!({}));
    });
    beside("1 GB, scale 3 to 4 to 3", &|| {
        service.operate(":horizontalScale", &json!({"members": 4}));
        service.operate(":horizontalScale", &json!({"members": 3}));
    });
    let mut connection = service.target().connect_within(HEALING);
    let keys: i64 = redis::cmd("EXISTS")
        .arg(
            (0..VALUES)
                .map(|n| format!("large:{n}"))
                .collect::<Vec<_>>(),
        )
        .query(&mut connection)
        .expect("count");
    assert_eq!(keys as usize, VALUES, "every value is there");
    service.delete("DELETE_DATA");
    world.upm(&["project", "delete", &project]);
}
