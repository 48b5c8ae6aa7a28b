use store::testing::{mariadb, migrates_down_and_up, stores};

use crate::{
    Life, MIGRATIONS,
    desired::{MAIN, RetainedVolumes, Volumes},
    intent::Part,
    journal,
    operation::State,
    world::World,
};

#[tokio::test]
async fn creates_a_service_step_by_step() {
    let world = World::new().await;
    let replica = world.replica();
    let accepted = replica.create(3, RetainedVolumes::Refuse).await.unwrap();
    assert!(accepted.name.starts_with("operations/toy/") && !accepted.done);
    let ended = world.ended(&accepted.name).await;
    assert_eq!(ended.state, State::Succeeded, "{ended:#?}");
    assert!(
        ended
            .journal
            .steps
            .iter()
            .all(|record| record.state == journal::State::Done && record.attempts == 1)
    );
    let service = world.service().await.unwrap();
    assert_eq!(
        (service.life, service.operation.as_str()),
        (Life::Active, "")
    );
    assert!(service.desired.topology.served);
    assert_eq!(world.resource.all()["projects/p/toyServices/demo"], 3);
    assert_eq!(
        world.hub.alive(),
        [
            "ConfigMap/toy-1-0123456789ab-config-template",
            "ConfigMap/toy-1-0123456789ab-config-value",
            "PodTemplate/toy-1-0123456789ab",
            "Project/p",
            "RedisReplication/demo",
            "UnitSet/demo",
        ]
    );
    let response = String::from_utf8(ended.response.unwrap().value).unwrap();
    assert_eq!(response, "projects/p/toyServices/demo Active 2");
    let shown = world.operation(&accepted.name).await.to_pb(0);
    assert_eq!(
        (shown.progress_percent, shown.done, shown.kind.as_str()),
        (100, true, "toy.create")
    );
}

#[tokio::test]
async fn volumes_are_the_service_s_own_from_the_moment_they_are_there() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    let wrote = world.hub.wrote("UnitSet/demo");
    let policies: Vec<_> = wrote
        .iter()
        .map(|wrote| wrote.json["spec"]["retainedVolumes"].clone())
        .collect();
    assert_eq!(policies, ["Refuse", "Adopt"]);
}

#[tokio::test]
async fn waits_for_an_agent_that_is_away_and_goes_on_when_it_comes_back() {
    let world = World::new().await;
    let replica = world.replica();
    world.hub.play(|play| play.away = true);
    let accepted = replica.create(3, RetainedVolumes::Refuse).await.unwrap();
    let waiting = world
        .until(&accepted.name, |operation| {
            let record = &operation.journal.steps[4];
            record.step.name == "AwaitUnitsReady"
                && record
                    .predicates
                    .iter()
                    .any(|predicate| predicate.name == "AGENT_CONNECTED" && !predicate.satisfied)
        })
        .await;
    assert_eq!(waiting.state, State::Running);
    world.hub.play(|play| play.away = false);
    assert_eq!(world.ended(&accepted.name).await.state, State::Succeeded);
}

#[tokio::test]
async fn waits_for_a_hub_that_does_not_answer() {
    let world = World::new().await;
    let replica = world.replica();
    world.hub.play(|play| play.down = true);
    let accepted = replica.create(3, RetainedVolumes::Refuse).await.unwrap();
    world
        .until(&accepted.name, |operation| {
            operation.journal.steps.iter().any(|record| {
                record
                    .predicates
                    .iter()
                    .any(|predicate| predicate.name == "HUB_AVAILABLE" && !predicate.satisfied)
            })
        })
        .await;
    world.hub.play(|play| play.down = false);
    assert_eq!(world.ended(&accepted.name).await.state, State::Succeeded);
}

#[tokio::test]
async fn removes_data_only_after_the_cluster_knows_that_it_shall() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    let deleting = replica.delete(Volumes::Delete).await.unwrap();
    assert_eq!(world.service().await.unwrap().life, Life::Deleting);
    let ended = world.ended(&deleting.name).await;
    assert_eq!(ended.state, State::Succeeded, "{ended:#?}");
    assert_eq!(world.service().await, None);
    assert!(world.resource.all().is_empty());
    let own: Vec<_> = world
        .hub
        .alive()
        .into_iter()
        .filter(|name| name.ends_with("/demo"))
        .collect();
    assert_eq!(own, Vec::<String>::new());
    let last: Vec<_> = world
        .hub
        .wrote("UnitSet/demo")
        .into_iter()
        .rev()
        .take(2)
        .collect();
    assert!(last[0].tombstone);
    assert_eq!(last[1].json["spec"]["volumeRetentionPolicy"], "Delete");
}

#[tokio::test]
async fn keeps_data_and_asks_before_the_name_is_used_again() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    let deleting = replica.delete(Volumes::Retain).await.unwrap();
    assert_eq!(world.ended(&deleting.name).await.state, State::Succeeded);
    assert!(
        world
            .hub
            .wrote("UnitSet/demo")
            .iter()
            .all(|wrote| wrote.json["spec"]["volumeRetentionPolicy"] == "Retain")
    );
    let left = world.service().await.unwrap();
    let retained = left.retained.clone().unwrap();
    assert_eq!(
        (left.life, retained.members(), retained.size().as_str()),
        (Life::Retained, 3, "1Gi")
    );

    let refused = replica
        .create(3, RetainedVolumes::Refuse)
        .await
        .unwrap_err();
    assert_eq!(mesh::Classify::reason(&refused), "DATA_RETAINED");
    let details = mesh::Classify::details(&refused);
    assert_eq!(
        (
            details.metadata["members"].as_str(),
            details.metadata["size"].as_str()
        ),
        ("3", "1Gi")
    );
    assert!(details.metadata.contains_key("since"));

    let adopting = replica.create(3, RetainedVolumes::Adopt).await.unwrap();
    assert_eq!(world.ended(&adopting.name).await.state, State::Succeeded);
    let again = world.service().await.unwrap();
    assert_eq!((again.life, again.retained.clone()), (Life::Active, None));
    assert_ne!(again.uid, left.uid);
    let lives: std::collections::BTreeSet<_> = world
        .hub
        .wrote("UnitSet/demo")
        .into_iter()
        .map(|wrote| wrote.uid)
        .collect();
    assert_eq!(
        lives.len(),
        2,
        "each life of the object has an identity of its own"
    );
}

#[tokio::test]
async fn restarts_and_waits_until_every_unit_was_restarted() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    world.hub.play(|play| play.stuck = true);
    let restarting = replica.restart("2026-01-01T00:00:00Z").await.unwrap();
    world
        .until(&restarting.name, |operation| {
            !operation.journal.steps[1].predicates.is_empty()
        })
        .await;
    world.hub.play(|play| play.stuck = false);
    assert_eq!(world.ended(&restarting.name).await.state, State::Succeeded);
    assert_eq!(
        world.service().await.unwrap().desired.pools[MAIN]
            .restarted_at
            .as_deref(),
        Some("2026-01-01T00:00:00Z")
    );
}

#[tokio::test]
async fn switches_over_once_under_the_operation_s_own_id() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    let switching = replica.switchover("demo-2", 1).await.unwrap();
    assert_eq!(world.ended(&switching.name).await.state, State::Succeeded);
    assert_eq!(world.hub.primary().as_deref(), Some("demo-2"));
    let wish = world
        .service()
        .await
        .unwrap()
        .desired
        .topology
        .switchover
        .unwrap();
    assert_eq!(
        Some(wish.request_id.as_str()),
        switching.name.rsplit('/').next()
    );
}

#[tokio::test]
async fn a_switchover_that_the_cluster_gave_up_tells_its_reason() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    world.hub.play(|play| play.keeps_primary = true);
    let switching = replica.switchover("demo-2", 1).await.unwrap();
    let ended = world.ended(&switching.name).await;
    assert_eq!(ended.state, State::RolledBack);
    let status = mesh::status::from_rpc(&ended.error.unwrap());
    assert_eq!(
        mesh::status::reason(&status).as_deref(),
        Some("SWITCHOVER_FAILED")
    );
    assert_eq!(
        mesh::status::details(&status).preconditions[0].kind,
        "REPLICA_BEHIND"
    );
    assert_eq!(world.hub.primary().as_deref(), Some("demo-0"));
    assert_eq!(world.service().await.unwrap().life, Life::Active);
}

#[tokio::test]
async fn scales_out_units_first_and_in_replication_first() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    let out = replica.scale(3, 5).await.unwrap();
    assert_eq!(world.ended(&out.name).await.state, State::Succeeded);
    assert_eq!(world.service().await.unwrap().spec["members"], 5);
    assert_eq!(world.resource.all()["projects/p/toyServices/demo"], 5);

    // The primary is one of those that go.
    let switching = replica.switchover("demo-4", 1).await.unwrap();
    assert_eq!(world.ended(&switching.name).await.state, State::Succeeded);
    let before = world.hub.log().len();
    let inward = replica.scale(5, 2).await.unwrap();
    let ended = world.ended(&inward.name).await;
    assert_eq!(ended.state, State::Succeeded, "{ended:#?}");
    assert_eq!(world.hub.primary().as_deref(), Some("demo-0"));
    let order: Vec<String> = world.hub.log()[before..]
        .iter()
        .map(|wrote| wrote.name.clone())
        .collect();
    assert_eq!(
        order,
        [
            "RedisReplication/demo",
            "RedisReplication/demo",
            "UnitSet/demo"
        ]
    );
    let service = world.service().await.unwrap();
    assert_eq!(
        (
            service.desired.units_of(MAIN),
            service.desired.members_of(MAIN),
            service.spec["members"].clone()
        ),
        (2, 2, 2.into())
    );
}

#[tokio::test]
async fn leaves_a_primary_alone_that_stays() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    let inward = replica.scale(3, 2).await.unwrap();
    let ended = world.ended(&inward.name).await;
    assert_eq!(ended.state, State::Succeeded);
    assert_eq!(ended.journal.steps[0].state, journal::State::Skipped);
    assert_eq!(world.hub.primary().as_deref(), Some("demo-0"));
}

#[tokio::test]
async fn cancels_a_creation_and_leaves_nothing() {
    let world = World::new().await;
    let replica = world.replica();
    world.hub.play(|play| play.stuck = true);
    let accepted = replica.create(3, RetainedVolumes::Refuse).await.unwrap();
    world
        .until(&accepted.name, |operation| {
            operation.journal.steps[4].state == journal::State::Running
        })
        .await;
    replica.cancel(&accepted.name).await.unwrap();
    let ended = world.ended(&accepted.name).await;
    assert_eq!(ended.state, State::Cancelled, "{ended:#?}");
    let said = &ended.error.as_ref().unwrap().message;
    assert!(!said.contains("stay"), "nothing is left: {said}");
    assert_eq!(world.service().await, None);
    assert!(world.resource.all().is_empty());
    let wrote = world.hub.wrote("UnitSet/demo");
    assert!(wrote.last().unwrap().tombstone);
    assert_eq!(
        wrote[wrote.len() - 2].json["spec"]["volumeRetentionPolicy"],
        "Delete"
    );
}

#[tokio::test]
async fn a_cancelled_creation_never_touches_volumes_that_it_found() {
    let world = World::new().await;
    let replica = world.replica();
    world.hub.play(|play| play.stuck = true);
    let accepted = replica.create(3, RetainedVolumes::Adopt).await.unwrap();
    world
        .until(&accepted.name, |operation| {
            operation.journal.steps[4].state == journal::State::Running
        })
        .await;
    replica.cancel(&accepted.name).await.unwrap();
    let ended = world.ended(&accepted.name).await;
    assert_eq!(ended.state, State::Cancelled);
    let said = ended.error.unwrap().message;
    assert!(
        said.contains("volumes of demo-0, demo-1, demo-2"),
        "it names what it leaves: {said}"
    );
    assert!(
        world
            .hub
            .wrote("UnitSet/demo")
            .iter()
            .all(|wrote| wrote.json["spec"]["volumeRetentionPolicy"] == "Retain")
    );
    assert_eq!(world.service().await.unwrap().life, Life::Retained);
}

#[tokio::test]
async fn a_cancelled_restart_leaves_the_other_units_alone() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    world.hub.play(|play| play.stuck = true);
    let restarting = replica.restart("2026-01-01T00:00:00Z").await.unwrap();
    world
        .until(&restarting.name, |operation| {
            operation.journal.steps[1].state == journal::State::Running
        })
        .await;
    replica.cancel(&restarting.name).await.unwrap();
    let ended = world.ended(&restarting.name).await;
    assert_eq!(ended.state, State::Cancelled, "{ended:#?}");
    let said = ended.error.unwrap().message;
    assert!(said.contains("restarted stay so"), "{said}");
    let wrote = world.hub.wrote("UnitSet/demo");
    assert_eq!(
        wrote[wrote.len() - 2].json["spec"]["restartedAt"],
        "2026-01-01T00:00:00Z"
    );
    assert!(wrote.last().unwrap().json["spec"]["restartedAt"].is_null());
    world.hub.play(|play| play.stuck = false);
    let service = world.service().await.unwrap();
    assert_eq!(
        (service.life, service.operation.as_str()),
        (Life::Active, "")
    );
    let deleted = replica.delete(Volumes::Delete).await.unwrap();
    let deleted = world.ended(&deleted.name).await;
    assert_eq!(deleted.state, State::Succeeded, "it blocks nothing");
}

#[tokio::test]
async fn volumes_that_only_the_cluster_knows_undo_the_creation_and_stay() {
    let world = World::new().await;
    let replica = world.replica();
    world.hub.play(|play| play.foreign = true);
    let accepted = replica.create(3, RetainedVolumes::Refuse).await.unwrap();
    let ended = world.ended(&accepted.name).await;
    assert_eq!(ended.state, State::RolledBack, "{ended:#?}");
    let status = mesh::status::from_rpc(&ended.error.unwrap());
    assert_eq!(
        mesh::status::reason(&status).as_deref(),
        Some("DATA_RETAINED")
    );
    assert!(
        world
            .hub
            .wrote("UnitSet/demo")
            .iter()
            .all(|wrote| wrote.json["spec"]["volumeRetentionPolicy"] == "Retain")
    );
    assert_eq!(world.service().await, None);
    assert!(world.resource.all().is_empty());
    let adopting = replica.create(3, RetainedVolumes::Adopt).await.unwrap();
    assert_eq!(world.ended(&adopting.name).await.state, State::Succeeded);
}

#[tokio::test]
async fn gives_up_at_the_deadline_and_says_what_was_missing() {
    let mut world = World::new().await;
    world.config.deadline_percent = 0;
    let replica = world.replica();
    let accepted = replica.create(3, RetainedVolumes::Refuse).await.unwrap();
    let ended = world.ended(&accepted.name).await;
    assert_eq!(ended.state, State::Failed);
    let status = mesh::status::from_rpc(&ended.error.unwrap());
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert_eq!(
        mesh::status::reason(&status).as_deref(),
        Some("OPERATION_DEADLINE")
    );
    let service = world.service().await.unwrap();
    assert_eq!(
        (service.life, service.operation.as_str()),
        (Life::Failed, "")
    );
    assert!(service.message.contains("deadline"));
}

#[tokio::test]
async fn an_intent_that_the_cluster_refuses_fails_the_creation_and_it_can_be_deleted() {
    let world = World::new().await;
    let replica = world.replica();
    world.hub.play(|play| play.refuses = true);
    let accepted = replica.create(3, RetainedVolumes::Refuse).await.unwrap();
    let ended = world.ended(&accepted.name).await;
    assert_eq!(ended.state, State::Failed);
    let status = mesh::status::from_rpc(&ended.error.unwrap());
    assert_eq!(
        mesh::status::reason(&status).as_deref(),
        Some("INTENT_REFUSED")
    );
    assert_eq!(world.service().await.unwrap().life, Life::Failed);
    world.hub.play(|play| play.refuses = false);
    let deleting = replica.delete(Volumes::Delete).await.unwrap();
    assert_eq!(world.ended(&deleting.name).await.state, State::Succeeded);
    assert_eq!(world.service().await, None);
}

#[tokio::test]
async fn an_id_that_another_engine_took_meanwhile_leaves_nothing() {
    let world = World::new().await;
    let replica = world.replica();
    world.resource.take();
    let accepted = replica.create(3, RetainedVolumes::Refuse).await.unwrap();
    let ended = world.ended(&accepted.name).await;
    assert_eq!(ended.state, State::RolledBack);
    let status = mesh::status::from_rpc(&ended.error.unwrap());
    assert_eq!(
        mesh::status::reason(&status).as_deref(),
        Some("SERVICE_EXISTS")
    );
    assert_eq!(world.service().await, None);
    assert!(world.hub.log().is_empty());
}

#[tokio::test]
async fn the_same_on_both_databases() {
    for stored in stores("toy", || MIGRATIONS).await {
        let world = World::on(stored);
        let replica = world.replica();
        world.created(&replica).await;
        assert_eq!(
            world
                .service()
                .await
                .unwrap()
                .wanted(&Part::Pool(MAIN.to_owned()))
                .count(),
            1
        );
        let deleting = replica.delete(Volumes::Delete).await.unwrap();
        assert_eq!(world.ended(&deleting.name).await.state, State::Succeeded);
        assert_eq!(world.service().await, None);
    }
}

#[tokio::test]
async fn migrations_run_down_and_up() {
    for stored in [
        store::testing::sqlite("toy", MIGRATIONS).await,
        mariadb("toy", MIGRATIONS).await,
    ] {
        migrates_down_and_up(&stored, || MIGRATIONS).await;
    }
}
