//! Volumes: who removes them, and who never does.

use std::collections::BTreeMap;

use serde_json::json;

use crate::road::{
    kubectl::eventually,
    service::{HEALING, LONG, Service, spec},
    world::beside,
};

const PVC: &str = "persistentvolumeclaim";

/// What a user wrote.
fn written() -> BTreeMap<String, String> {
    (0..300)
        .map(|n| (format!("key:{n}"), format!("value {n}")))
        .collect()
}

fn write(service: &Service<'_>) {
    let mut connection = service.target().connect_within(HEALING);
    for (key, value) in written() {
        let (ok, replicas): (String, i64) = redis::pipe()
            .cmd("SET")
            .arg(key)
            .arg(value)
            .cmd("WAIT")
            .arg(1)
            .arg(20_000)
            .query(&mut connection)
            .expect("write");
        assert!(ok == "OK" && 1 <= replicas, "confirmed by {replicas}");
    }
}

fn read(service: &Service<'_>) -> BTreeMap<String, String> {
    let mut connection = service.target().connect_within(HEALING);
    let keys: Vec<String> = written().into_keys().collect();
    let values: Vec<Option<String>> = redis::cmd("MGET")
        .arg(&keys)
        .query(&mut connection)
        .expect("read");
    keys.into_iter()
        .zip(values)
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

fn volumes_are_gone(service: &Service<'_>) {
    eventually("the volumes are gone", HEALING, || {
        let claims = service.identities(PVC);
        let volumes = service.world.kubectl.get(&["persistentvolume"]);
        let ours = volumes["items"].as_array().into_iter().flatten();
        let ours = ours
            .filter(|volume| volume["spec"]["claimRef"]["namespace"] == service.project.as_str())
            .count();
        if claims.is_empty() && ours == 0 {
            Ok(())
        } else {
            Err(format!("{claims:?}, {ours} volumes"))
        }
    });
}

#[test]
fn kept_volumes_stay_are_told_of_and_come_back_only_when_the_user_chooses() {
    let world = beside();
    let api = world.api();
    let project = world.project("data");
    let service = Service::create(&world, &project, "cache", 3);
    write(&service);
    let claims = service.identities(PVC);
    assert_eq!(claims.len(), 3, "{claims:?}");

    service.delete("KEEP_DATA");
    service.is_gone();
    assert_eq!(
        service.identities(PVC),
        claims,
        "KEEP_DATA keeps the volumes"
    );

    for more in ["", "&validateOnly=true"] {
        let refused = api.call("POST", &service.creation(more), Some(&spec(3)));
        assert_eq!(
            (refused.status, refused.reason()),
            (400, "DATA_RETAINED"),
            "{}",
            refused.body
        );
    }
    let fewer = api.call(
        "POST",
        &service.creation("&retainedData=ADOPT"),
        Some(&spec(1)),
    );
    assert_eq!(
        (fewer.status, fewer.reason()),
        (400, "DATA_LEFT_OUT"),
        "the newest data may be on any of them: {}",
        fewer.body
    );
    service.is_gone();
    assert_eq!(
        service.identities(PVC),
        claims,
        "a refusal leaves the volumes alone"
    );

    api.operate(
        "POST",
        &service.creation("&retainedData=ADOPT"),
        Some(&spec(3)),
        LONG,
    );
    service.heals(HEALING);
    assert_eq!(service.identities(PVC), claims, "the same volumes are used");
    assert_eq!(
        read(&service),
        written(),
        "everything that was written is there again"
    );

    service.delete("KEEP_DATA");
    api.operate(
        "POST",
        &service.creation("&retainedData=DISCARD"),
        Some(&spec(3)),
        LONG,
    );
    service.heals(HEALING);
    assert!(read(&service).is_empty(), "DISCARD begins anew");
    let anew = service.identities(PVC);
    assert_eq!(anew.len(), 3);
    assert!(
        anew.iter().all(|claim| !claims.contains(claim)),
        "no old volume is in use"
    );

    service.delete("DELETE_DATA");
    service.is_gone();
    volumes_are_gone(&service);
    world.upm(&["project", "delete", &project]);
}

#[test]
fn a_service_that_must_not_be_deleted_is_not_and_by_default_volumes_stay() {
    let world = beside();
    let api = world.api();
    let project = world.project("guard");
    let service = Service::create(&world, &project, "cache", 1);
    let set = |policy: &str| {
        api.call(
            "PATCH",
            &service.path("?updateMask=deletionPolicy"),
            Some(&json!({"deletionPolicy": policy})),
        )
    };
    assert_eq!(set("DO_NOT_DELETE").ok()["deletionPolicy"], "DO_NOT_DELETE");
    for policy in [
        "",
        "?policy=DELETE_DATA",
        "?policy=KEEP_DATA",
        "?policy=DELETE_DATA&validateOnly=true",
    ] {
        let refused = api.call("DELETE", &service.path(policy), None);
        assert_eq!(refused.status, 400, "{policy}: {}", refused.body);
        assert_eq!(
            refused.body["error"]["status"], "FAILED_PRECONDITION",
            "{}",
            refused.body
        );
    }
    service.heals(HEALING);
    let project_refused = world.try_upm(&["project", "delete", &project]);
    assert_eq!(
        project_refused.status.code(),
        Some(5),
        "a project with a service stays"
    );

    set("KEEP_DATA").ok();
    let claims = service.identities(PVC);
    let stale = api.call("DELETE", &service.path("?etag=%22other%22"), None);
    assert_eq!(
        (stale.status, stale.reason()),
        (409, "STALE_ETAG"),
        "{}",
        stale.body
    );
    api.operate("DELETE", &service.path(""), None, LONG);
    service.is_gone();
    assert_eq!(
        service.identities(PVC),
        claims,
        "without a word the volumes stay"
    );

    // The only ways to be rid of them: adopt them and say so, or discard them.
    api.operate(
        "POST",
        &service.creation("&retainedData=ADOPT"),
        Some(&spec(1)),
        LONG,
    );
    service.delete("DELETE_DATA");
    volumes_are_gone(&service);
    let again = api
        .call("DELETE", &service.path("?allowMissing=true"), None)
        .ok();
    assert_eq!(
        (&again["done"], &again["state"]),
        (&json!(true), &json!("SUCCEEDED")),
        "{again}"
    );
    assert_eq!(api.call("DELETE", &service.path(""), None).status, 404);
}
