//! Create through REST, and what can be seen of it.

use crate::road::{
    kubectl::eventually,
    service::{HEALING, LONG, Service, spec},
    world::beside,
};

#[test]
fn one_rest_call_makes_three_running_members_with_roles_addresses_and_versions() {
    let world = beside();
    let project = world.project("create");
    let service = Service::of(&world, &project, "cache");
    let operation = world
        .api()
        .call("POST", &service.creation(""), Some(&spec(3)))
        .ok();
    assert!(
        operation["steps"]
            .as_array()
            .is_some_and(|steps| steps.len() > 3),
        "the operation shows its steps: {operation}"
    );
    let name = operation["name"].as_str().expect("a name");
    let done = world.api().succeeded(name, LONG);
    for step in done["steps"].as_array().expect("steps") {
        assert!(
            matches!(step["state"].as_str(), Some("STEP_DONE" | "STEP_SKIPPED")),
            "{step}"
        );
    }

    // A probe may just have failed on a busy machine.
    service.heals(HEALING);
    let shown = service.get();
    let members = shown["status"]["members"].as_array().expect("members");
    let roles = |role: &str| members.iter().filter(|m| m["role"] == role).count();
    assert_eq!(
        (members.len(), roles("PRIMARY"), roles("REPLICA")),
        (3, 1, 2),
        "{shown}"
    );
    for member in members {
        assert_eq!(member["ready"], true, "{member}");
        assert_eq!(member["linkUp"], true, "{member}");
        assert_eq!(member["version"], "7.0.15", "{member}");
        assert!(
            member["address"]
                .as_str()
                .is_some_and(|a| a.ends_with(":6379")),
            "{member}"
        );
    }
    assert_eq!(shown["status"]["state"], "READY", "{shown}");
    eventually("every pod is ready", HEALING, || {
        for pod in service.objects("pod") {
            let ready = pod["status"]["conditions"].as_array().is_some_and(|all| {
                all.iter()
                    .any(|c| c["type"] == "Ready" && c["status"] == "True")
            });
            if !ready {
                return Err(pod["metadata"]["name"].to_string());
            }
        }
        Ok(())
    });
    service.delete("DELETE_DATA");
    service.is_gone();
}
