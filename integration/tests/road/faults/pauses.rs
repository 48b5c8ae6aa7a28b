//! How long writes pause at most. Nothing else runs meanwhile: what others do on the machine is no pause of the service.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::road::{
    kubectl::eventually,
    service::{HEALING, Service},
    world::{World, world},
    writer::{Writer, through},
};

#[test]
fn a_switchover_loses_no_confirmed_write() {
    let report = through(&world().shared(), "switchover", |service| {
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
fn a_primary_that_freezes_for_thirty_seconds_and_wakes_up_loses_no_confirmed_write() {
    let report = through(
        &world().shared(),
        "process of the primary frozen for 30 s",
        |service| {
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
        },
    );
    assert!(
        report.longest_gap < Duration::from_secs(25),
        "another member took over before it woke up"
    );
}

#[test]
fn a_service_goes_on_serving_while_the_agent_is_away() {
    let world = world();
    let service = world.shared();
    let before = service.primary();
    let writer = Writer::start(service.target(), "agent away");
    world.scale_agent(0);
    shows_the_agent_as(&world, &service, false);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(45) {
        writer.goes_on(100, HEALING);
    }
    world.scale_agent(2);
    shows_the_agent_as(&world, &service, true);
    service.heals(HEALING);
    assert_eq!(service.primary(), before, "nobody else became the primary");
    let report = writer.finish("agent away");
    assert!(
        report.longest_gap < Duration::from_secs(3),
        "writes went on all the time"
    );
}

fn shows_the_agent_as(world: &World, service: &Service<'_>, connected: bool) {
    eventually(
        "the platform shows whether the agent is connected",
        HEALING,
        || {
            // `false` is left out.
            let shown = service.get()["status"]["agentConnected"] == true;
            let cluster = world.api().get("/v1/clusters/local")["state"].clone();
            if shown == connected && (cluster == "HEALTHY") == connected {
                Ok(())
            } else {
                Err(format!("agentConnected {shown}, {cluster}"))
            }
        },
    );
}
