use mesh::Classify;

use crate::{
    Error, Failpoints,
    desired::{Input, MAIN, Retained, RetainedPool, RetainedVolumes, Volumes},
    journal,
    operation::State,
    world::{World, create, main},
};

#[tokio::test]
async fn one_operation_at_a_time_and_the_refusal_names_it() {
    let world = World::new().await;
    let replica = world.replica();
    world.hub.play(|play| play.stuck = true);
    let creating = replica.create(3, RetainedVolumes::Refuse).await.unwrap();
    let refused = replica.delete(Volumes::Retain).await.unwrap_err();
    assert_eq!(refused.reason(), "OPERATION_IN_PROGRESS");
    assert_eq!(refused.details().metadata["operation"], creating.name);
    assert_eq!(
        tonic::Status::from(refused).code(),
        tonic::Code::FailedPrecondition
    );
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    let refused = replica
        .create(3, RetainedVolumes::Refuse)
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), "SERVICE_EXISTS");
}

#[tokio::test]
async fn retained_volumes_are_adopted_where_they_are_and_all() {
    let left = RetainedPool {
        units: 3,
        size: "1Gi".into(),
    };
    let retained = Retained {
        cluster: "a".into(),
        pools: [(MAIN.to_owned(), left)].into(),
        since_us: 1,
    };
    let wanted = |retained, members| Input {
        units: main(members),
        retained,
        ..Input::default()
    };
    let refuse_members = |chosen, members, cluster| {
        let wanted = wanted(chosen, members);
        crate::accept::refuse_retained("projects/p/toyServices/demo", &retained, &wanted, cluster)
    };
    let refuse = |chosen, cluster| refuse_members(chosen, 3, cluster);
    assert_eq!(
        refuse_members(RetainedVolumes::Adopt, 1, "a")
            .unwrap_err()
            .reason(),
        "DATA_LEFT_OUT"
    );
    assert!(refuse_members(RetainedVolumes::Discard, 1, "a").is_ok());
    assert!(refuse(RetainedVolumes::Adopt, "a").is_ok());
    for chosen in [RetainedVolumes::Adopt, RetainedVolumes::Discard] {
        assert_eq!(
            refuse(chosen, "b").unwrap_err().reason(),
            "DATA_ON_OTHER_CLUSTER"
        );
    }
    assert_eq!(
        refuse(RetainedVolumes::Refuse, "b").unwrap_err().reason(),
        "DATA_RETAINED"
    );
}

#[tokio::test]
async fn the_same_request_is_answered_with_the_same_operation() {
    let world = World::new().await;
    let replica = world.replica();
    let id = store::ids::uuid7();
    let first = create(&replica.services, 3, RetainedVolumes::Refuse, &id)
        .await
        .unwrap();
    world.ended(&first.name).await;
    let again = create(&replica.services, 3, RetainedVolumes::Refuse, &id)
        .await
        .unwrap();
    assert_eq!(
        (again.name.as_str(), again.done),
        (first.name.as_str(), true)
    );
    let other = create(&replica.services, 5, RetainedVolumes::Refuse, &id)
        .await
        .unwrap_err();
    assert_eq!(other.reason(), "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn concurrent_repetitions_of_a_request_make_one_operation() {
    let world = World::new().await;
    let services = world.idle(Failpoints::off());
    let id = store::ids::uuid7();
    let attempts = (0..8).map(|_| create(&services, 3, RetainedVolumes::Refuse, &id));
    let answers = futures::future::join_all(attempts).await;
    let names: std::collections::BTreeSet<String> = answers
        .into_iter()
        .filter_map(Result::ok)
        .map(|operation| operation.name)
        .collect();
    assert_eq!(names.len(), 1);
}

#[tokio::test]
async fn what_has_ended_or_gone_too_far_cannot_be_cancelled() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    let ended = replica.delete(Volumes::Delete).await.unwrap();
    world.ended(&ended.name).await;
    assert_eq!(
        replica.cancel(&ended.name).await.unwrap_err().reason(),
        "OPERATION_DONE"
    );

    world.created(&replica).await;
    let leaving = replica.delete(Volumes::Delete).await.unwrap();
    world
        .until(&leaving.name, |operation| {
            operation.journal.steps[2].state != journal::State::Pending
        })
        .await;
    let refused = replica.cancel(&leaving.name).await.unwrap_err();
    assert!(
        ["PAST_POINT_OF_NO_RETURN", "OPERATION_DONE"].contains(&refused.reason()),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_request_that_was_checked_against_another_state_is_refused() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    let seen = replica.services.find(&crate::world::demo()).await.unwrap();
    let changed = replica
        .services
        .update(
            &crate::world::ctx(),
            &crate::world::demo(),
            &seen.etag(),
            false,
            |service| {
                service.description = "new".into();
                Ok(())
            },
        )
        .await
        .unwrap();
    assert_ne!(changed.etag(), seen.etag());
    let stale = replica
        .services
        .update(
            &crate::world::ctx(),
            &crate::world::demo(),
            &seen.etag(),
            false,
            |_| Ok(()),
        )
        .await;
    assert_eq!(stale.unwrap_err().reason(), "STALE_ETAG");
    let refused = replica.begin_seen(seen).await.unwrap_err();
    assert!(matches!(refused, Error::Changed(_)));
}

#[tokio::test]
async fn validation_only_writes_nothing() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    let before = world.service().await.unwrap();
    replica
        .services
        .update(
            &crate::world::ctx(),
            &crate::world::demo(),
            "",
            true,
            |service| {
                service.description = "new".into();
                Ok(())
            },
        )
        .await
        .unwrap();
    assert_eq!(world.service().await.unwrap(), before);
    assert_eq!(
        world.operation(&world_operation(&world).await).await.state,
        State::Succeeded
    );
}

async fn world_operation(world: &World) -> String {
    let page = world.stored.store.read("test.page", |conn| {
        crate::operation::model::page(
            conn,
            "toy",
            &crate::operation::model::Wanted::default(),
            None,
            10,
        )
    });
    let page = page.await.unwrap();
    assert_eq!(page.len(), 1);
    page[0].name.clone()
}
