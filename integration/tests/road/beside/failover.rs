//! What happens to a client while the primary goes, in every way in which it can go.

use std::thread;

use serde_json::json;

use crate::road::{service::HEALING, world::beside, writer::through};

#[test]
fn a_switchover_to_a_named_member_is_done_and_a_stale_epoch_is_refused() {
    let world = beside();
    let service = world.shared();
    let (primary, epoch) = service.primary();
    let target = service.replica();
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
    through(
        &beside().shared(),
        "pod of the primary deleted",
        |service| {
            let (primary, _) = service.primary();
            service.kill_pods(&[primary]);
        },
    );
}

#[test]
fn killing_the_process_of_the_primary_loses_no_confirmed_write() {
    through(
        &beside().shared(),
        "process of the primary killed",
        |service| {
            let (primary, _) = service.primary();
            service.signal(&primary, "KILL").expect("kill the primary");
        },
    );
}

#[test]
fn killing_all_three_processes_at_once_loses_no_confirmed_write() {
    through(
        &beside().shared(),
        "all three processes killed at once",
        |service| {
            let members = service.members();
            thread::scope(|scope| {
                for member in &members {
                    scope.spawn(move || service.signal(member, "KILL").expect("kill a member"));
                }
            });
        },
    );
}

#[test]
fn deleting_all_three_pods_at_once_loses_no_confirmed_write() {
    through(
        &beside().shared(),
        "all three pods deleted at once",
        |service| {
            service.kill_pods(&service.members());
        },
    );
}
