//! What happens to a client while the primary goes, in every way in which it can go.

use std::{thread, time::Duration};

use serde_json::json;

use super::{
    kubectl::eventually,
    service::{HEALING, Service},
    world::world,
    writer::{Report, Writer},
};

/// Disturbs a service under a writer; afterwards it is well again and no confirmed write is missing.
fn through(what: &str, disturb: impl FnOnce(&Service<'_>)) -> Report {
    let world = world();
    let service = world.shared();
    let writer = Writer::start(service.target(), what);
    disturb(&service);
    writer.goes_on(200, HEALING);
    service.heals(HEALING);
    writer.finish(what)
}

#[test]
fn a_switchover_loses_no_confirmed_write() {
    let report = through("switchover", |service| {
        let (primary, epoch) = service.primary();
        let done = service.operate(":switchover", &json!({}));
        let (next, later) = service.primary();
        assert_ne!(next, primary, "another member is the primary");
        assert!(later > epoch, "the epoch rose from {epoch}, it is {later}");
        assert_eq!(
            done["response"]["status"]["primary"],
            next.as_str(),
            "{done}"
        );
    });
    assert!(
        report.longest_gap < Duration::from_secs(5),
        "writes pause for a moment only"
    );
}

#[test]
fn a_switchover_to_a_named_member_is_done_and_a_stale_epoch_is_refused() {
    let world = world();
    let service = world.shared();
    let (primary, epoch) = service.primary();
    let target = service
        .members()
        .into_iter()
        .find(|member| *member != primary)
        .expect("a replica");
    let stale = json!({"target": target, "expectedEpoch": (epoch + 7).to_string()});
    let answer = world
        .api()
        .call("POST", &service.path(":switchover"), Some(&stale));
    assert_eq!(
        (answer.status, answer.reason()),
        (400, "STALE_EPOCH"),
        "{}",
        answer.body
    );
    let wrong = json!({"target": "nobody-9"});
    let answer = world
        .api()
        .call("POST", &service.path(":switchover"), Some(&wrong));
    assert!(
        400 <= answer.status && answer.status < 500,
        "{}",
        answer.body
    );
    assert_eq!(
        service.primary(),
        (primary, epoch),
        "a refusal changes nothing"
    );

    service.operate(
        ":switchover",
        &json!({"target": target, "expectedEpoch": epoch.to_string()}),
    );
    assert_eq!(service.primary().0, target);
    service.heals(HEALING);
}

#[test]
fn deleting_the_pod_of_the_primary_loses_no_confirmed_write() {
    through("pod of the primary deleted", |service| {
        let (primary, _) = service.primary();
        service.kill_pods(&[primary]);
    });
}

#[test]
fn killing_the_process_of_the_primary_loses_no_confirmed_write() {
    through("process of the primary killed", |service| {
        let (primary, _) = service.primary();
        service.signal(&primary, "KILL").expect("kill the primary");
    });
}

#[test]
fn a_primary_that_freezes_for_thirty_seconds_and_wakes_up_loses_no_confirmed_write() {
    let report = through("process of the primary frozen for 30 s", |service| {
        let (primary, epoch) = service.primary();
        service
            .signal(&primary, "STOP")
            .expect("freeze the primary");
        thread::sleep(Duration::from_secs(30));
        eventually("another one took over", HEALING, || {
            match service.primary_in_cluster() {
                (next, later, true) if next != primary && later > epoch => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        // Its unit agent may have ended it meanwhile, and started another one.
        service.signal(&primary, "CONT").ok();
    });
    assert!(
        report.longest_gap < Duration::from_secs(25),
        "another member took over before it woke up"
    );
}

#[test]
fn killing_all_three_processes_at_once_loses_no_confirmed_write() {
    through("all three processes killed at once", |service| {
        let members = service.members();
        thread::scope(|scope| {
            for member in &members {
                scope.spawn(move || service.signal(member, "KILL").expect("kill a member"));
            }
        });
    });
}

#[test]
fn deleting_all_three_pods_at_once_loses_no_confirmed_write() {
    through("all three pods deleted at once", |service| {
        service.kill_pods(&service.members());
    });
}
