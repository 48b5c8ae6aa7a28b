use std::{collections::BTreeSet, time::Duration};

use diesel::prelude::*;

use crate::{
    Error, Failpoints, Life,
    desired::{DesiredState, MAIN, RetainedVolumes, Switchover, Volumes},
    engine::Erased,
    intent::Part,
    journal,
    operation::{self, State},
    schema::operations,
    steps::{Bench, Fault},
    workflows,
    world::{PACE, World, demo, main},
};

const PLACES: [&str; 3] = ["before", "ran", "after"];

/// The objects of the service, each with one identity and the generations that were ever written.
fn lives(world: &World, name: &str) -> (usize, Vec<u64>) {
    let wrote = world.hub.wrote(name);
    let uids: BTreeSet<_> = wrote.iter().map(|wrote| wrote.uid.clone()).collect();
    (
        uids.len(),
        wrote.iter().map(|wrote| wrote.generation).collect(),
    )
}

/// Runs until the failpoint, then lets another replica finish.
async fn killed_at(world: &World, failpoint: &str, operation: &str) -> operation::Operation {
    let failpoints = Failpoints::halt(failpoint);
    let dying = world.replica_with(failpoints.clone());
    let reached = async {
        while !failpoints.halted() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_mins(2), reached).await;
    assert!(reached.is_ok(), "{failpoint} was never reached");
    assert!(!world.operation(operation).await.state.ended());
    dying.kill();
    let _next = world.replica();
    world.ended(operation).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_killed_at_any_journal_point_ends_and_makes_nothing_twice() {
    let plan = workflows::create(&PACE, &demo(), "c", &main(3), RetainedVolumes::Refuse);
    for planned in &plan.steps {
        for place in PLACES {
            let point = format!("operation.toy.create.{}.{place}", planned.step.name);
            let world = World::new().await;
            let services = world.idle(Failpoints::off());
            let accepted = crate::world::create(&services, 3, RetainedVolumes::Refuse, "")
                .await
                .unwrap();
            let ended = killed_at(&world, &point, &accepted.name).await;
            assert_eq!(ended.state, State::Succeeded, "{point}: {ended:#?}");
            assert_eq!(lives(&world, "UnitSet/demo"), (1, vec![1, 2]), "{point}");
            assert_eq!(
                lives(&world, "RedisReplication/demo"),
                (1, vec![1]),
                "{point}"
            );
            assert_eq!(lives(&world, "Project/p"), (1, vec![1]), "{point}");
            assert_eq!(world.service().await.unwrap().life, Life::Active, "{point}");
            let again = ended
                .journal
                .steps
                .iter()
                .find(|record| record.step == planned.step)
                .unwrap();
            let expected = if place == "after" { 1 } else { 2 };
            assert_eq!(again.attempts, expected, "{point}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_killed_at_any_journal_point_ends_and_leaves_nothing() {
    let plan = workflows::delete(&PACE, &demo(), &main(3), Volumes::Delete);
    for planned in &plan.steps {
        for place in PLACES {
            let point = format!("operation.toy.delete.{}.{place}", planned.step.name);
            let world = World::new().await;
            let first = world.replica();
            world.created(&first).await;
            first.kill();
            let asking = crate::world::Replica {
                services: world.idle(Failpoints::off()),
                tasks: mesh::Tasks::new(),
            };
            let accepted = asking.delete(Volumes::Delete).await.unwrap();
            let ended = killed_at(&world, &point, &accepted.name).await;
            assert_eq!(ended.state, State::Succeeded, "{point}: {ended:#?}");
            assert_eq!(world.service().await, None, "{point}");
            assert!(world.resource.all().is_empty(), "{point}");
            let tombstones = world
                .hub
                .log()
                .into_iter()
                .filter(|wrote| wrote.tombstone)
                .count();
            assert_eq!(tombstones, 2, "{point}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_killed_at_any_journal_point_switches_once() {
    let to = Switchover {
        target: "demo-1".into(),
        expected_epoch: 1,
        accept_loss: None,
    };
    let plan = workflows::switchover(&PACE, "demo-0", to);
    for planned in &plan.steps {
        for place in PLACES {
            let point = format!("operation.toy.switchover.{}.{place}", planned.step.name);
            let world = World::new().await;
            let first = world.replica();
            world.created(&first).await;
            first.kill();
            let asking = crate::world::Replica {
                services: world.idle(Failpoints::off()),
                tasks: mesh::Tasks::new(),
            };
            let accepted = asking.switchover("demo-1", 1).await.unwrap();
            let ended = killed_at(&world, &point, &accepted.name).await;
            assert_eq!(ended.state, State::Succeeded, "{point}: {ended:#?}");
            assert_eq!(world.hub.primary().as_deref(), Some("demo-1"), "{point}");
            assert_eq!(
                lives(&world, "RedisReplication/demo"),
                (1, vec![1, 2]),
                "{point}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undoing_killed_at_any_point_ends_undone() {
    for step in [
        "AwaitUnitsReady",
        "ApplyUnitSet",
        "ApplyPackage",
        "ApplyProject",
        "ReserveService",
    ] {
        for place in ["undo_before", "undo_ran", "undo_after"] {
            let point = format!("operation.toy.create.{step}.{place}");
            let world = World::new().await;
            world.hub.play(|play| play.stuck = true);
            let first = world.replica();
            let accepted = first.create(3, RetainedVolumes::Refuse).await.unwrap();
            world
                .until(&accepted.name, |operation| {
                    operation.journal.steps[4].state == journal::State::Running
                })
                .await;
            first.kill();
            let asking = world.idle(Failpoints::off());
            crate::world::cancel(&asking, &accepted.name).await.unwrap();
            let ended = killed_at(&world, &point, &accepted.name).await;
            assert_eq!(ended.state, State::Cancelled, "{point}: {ended:#?}");
            assert_eq!(world.service().await, None, "{point}");
            assert!(world.resource.all().is_empty(), "{point}");
        }
    }
}

#[tokio::test]
async fn a_runner_that_lost_its_lease_can_write_neither_here_nor_there() {
    let world = World::new().await;
    let services = world.idle(Failpoints::off());
    let accepted = crate::world::create(&services, 3, RetainedVolumes::Refuse, "")
        .await
        .unwrap();
    let name = accepted.name.clone();
    // It ends when the test says so, not when the machine is slow.
    let lease = Duration::from_hours(1);
    let acquire = |owner: &'static str| {
        let (name, store) = (name.clone(), world.stored.store.clone());
        async move {
            store
                .transact("test.acquire", move |conn| {
                    operation::model::acquire(conn, &name, owner, lease)
                })
                .await
                .unwrap()
        }
    };
    let stale = acquire("first").await.unwrap();
    assert!(
        acquire("second").await.is_none(),
        "a held lease cannot be taken"
    );
    let ending = name.clone();
    world
        .stored
        .store
        .transact("test.end", move |conn| {
            diesel::update(operations::table.find(&ending))
                .set(operations::lease_until_us.eq(store::time::now_us()))
                .execute(conn)?;
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
    let fresh = acquire("second").await.unwrap();
    assert!(stale.lease_epoch < fresh.lease_epoch);

    let bench = Bench::new(&services.host, &fresh);
    let part = Part::Pool(MAIN.to_owned());
    let units = |units| {
        move |desired: &mut DesiredState| {
            desired.pools.entry(MAIN.to_owned()).or_default().units = units;
        }
    };
    bench.write(&part, units(3)).await.unwrap();
    let bench = Bench::new(&services.host, &stale);
    let refused = bench.write(&part, units(9)).await;
    assert!(matches!(refused, Err(Fault::Fenced)));
    assert_eq!(world.service().await.unwrap().desired.units_of(MAIN), 3);

    // Even a write that passed the check here before the lease was lost is refused by the hub.
    let writer = upm_proto::hub::v1::Writer {
        owner: demo().to_string(),
        epoch: stale.lease_epoch as u64,
    };
    let late = services
        .ledger()
        .delete(&crate::world::ctx(), "c", writer, vec![])
        .await;
    assert!(matches!(late, Err(crate::ledger::Trouble::Fenced)));
    assert_eq!(
        world.hub.epoch_of(&demo().to_string()),
        fresh.lease_epoch as u64
    );
    let renewed = world
        .stored
        .store
        .transact("test.renew", move |conn| {
            operation::model::renew(conn, &name, "first", stale.lease_epoch, lease)
        })
        .await
        .unwrap();
    assert!(!renewed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_do_not_do_the_same_operation() {
    let world = World::new().await;
    let (one, _two) = (world.replica(), world.replica());
    world.created(&one).await;
    assert_eq!(lives(&world, "UnitSet/demo"), (1, vec![1, 2]));
    let epochs = world.hub.epoch_of(&demo().to_string());
    assert!(0 < epochs);
}

#[test]
fn an_engine_is_erased_without_a_value() {
    let erased = Erased::<crate::world::Toy>(std::marker::PhantomData);
    assert_eq!(crate::engine::AnyEngine::kind(&erased), "toy");
}
