//! The same road with every module as its own process.

mod link;

use std::process::Command;

use serde_json::json;

use super::{
    kubectl::eventually,
    service::{HEALING, LONG, Service},
    world::{Form, World, turn},
    writer::Writer,
};

/// Asks a module's port with curl; whether there was an HTTP answer.
fn answers(address: &str, certificate: &[&str]) -> bool {
    Command::new("curl")
        .args(["-sk", "--http2", "--max-time", "60", "-o", "/dev/null"])
        .args(certificate)
        .arg(format!("https://{address}/"))
        .status()
        .expect("run curl")
        .success()
}

#[test]
fn the_road_with_every_module_as_a_process_with_mutual_tls_a_database_and_a_cache() {
    let world = turn(Form::Served);
    for module in ["redis", "hub", "auth"] {
        let address = World::module_address(module);
        let folder = world.folder.join("identities/redis");
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        let known = [
            "--cert",
            super::world::text(&certificate),
            "--key",
            super::world::text(&key),
        ];
        assert!(
            !answers(&address, &[]),
            "{module} does not speak with strangers"
        );
        assert!(answers(&address, &known), "{module} speaks with modules");
    }

    let project = world.project("served");
    let service = Service::create(&world, &project, "cache", 3);
    service.heals(HEALING);
    let writer = Writer::start(service.target(), "modules as processes");
    service.operate(":switchover", &json!({}));

    // A module that dies in an operation goes on where it was.
    let restart = world
        .api()
        .call("POST", &service.path(":restart"), Some(&json!({})))
        .ok();
    world.restart_module("redis");
    let name = restart["name"].as_str().expect("a name");
    eventually("the module answers again", HEALING, || {
        let answer = world.api().call("GET", &format!("/v1/{name}"), None);
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.body.to_string())
        }
    });
    world.api().succeeded(name, LONG);
    // So does the hub.
    world.restart_module("hub");
    world.healthy(HEALING);
    // The module has a way to the hub of its own, and dials again at its own pace.
    service.heals(HEALING);
    service.operate(":switchover", &json!({}));
    service.heals(HEALING);
    writer.finish("modules as processes");

    let databases = mariadb(&world, "SHOW DATABASES");
    for module in ["auth", "user", "resource", "operatorlog", "hub", "redis"] {
        assert!(
            databases
                .lines()
                .any(|line| line == format!("upm_{module}")),
            "{databases}"
        );
    }
    let rows = mariadb(&world, "SELECT COUNT(*) FROM upm_redis.services");
    assert_ne!(rows.trim(), "0", "the services are in the database");
    let socket = world.folder.join("redis/socket");
    let clients = Command::new("redis-cli")
        .args(["-s", super::world::text(&socket), "client", "list"])
        .output()
        .expect("run redis-cli");
    assert!(
        1 < String::from_utf8_lossy(&clients.stdout).lines().count(),
        "the modules use the cache"
    );

    service.delete("DELETE_DATA");
    service.is_gone();
    let verified = world
        .api()
        .call("POST", "/v1/operatorLog/entries:verify", Some(&json!({})))
        .ok();
    assert_eq!(verified["intact"], true, "{verified}");
}

fn mariadb(world: &World, statement: &str) -> String {
    let socket = format!("--socket={}/mariadb/socket", world.folder.display());
    let output = Command::new("mariadb")
        .args([
            "--no-defaults",
            "--user=root",
            "--batch",
            "--skip-column-names",
            &socket,
            "-e",
            statement,
        ])
        .output()
        .expect("run mariadb");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
