use std::time::Duration;

use futures::StreamExt;
use mesh::SpiffeId;
use upm_proto::operation::v1::{
    self as pb, operation_service_client::OperationServiceClient,
    operation_service_server::OperationServiceServer,
};

use crate::{
    Told,
    desired::{RetainedVolumes, Volumes},
    services::ListQuery,
    world::{Replica, World, ctx},
};

/// The module's operations as another module calls them.
fn client(replica: &Replica) -> OperationServiceClient<mesh::Channel> {
    let routes =
        tonic::service::Routes::new(OperationServiceServer::new(replica.services.operations()));
    let sink = std::sync::Arc::new(mesh::audit::LogSink);
    let stack = mesh::Server::builder("toy", mesh::Verifier::new(), sink)
        .routes(routes)
        .build();
    OperationServiceClient::new(stack.in_memory(SpiffeId::module("other").unwrap()))
}

#[tokio::test]
async fn a_watcher_sees_the_operation_grow_until_it_ends() {
    let world = World::new().await;
    let replica = world.replica();
    let accepted = replica.create(3, RetainedVolumes::Refuse).await.unwrap();
    let request = ctx().forward(pb::WatchOperationRequest {
        name: accepted.name.clone(),
    });
    let mut updates = client(&replica)
        .watch_operation(request)
        .await
        .unwrap()
        .into_inner();
    let mut seen: Vec<pb::Operation> = Vec::new();
    while let Some(update) = updates.message().await.unwrap() {
        seen.push(update);
    }
    assert!(
        seen.windows(2)
            .all(|pair| pair[0].revision < pair[1].revision)
    );
    let last = seen.last().unwrap();
    assert!(last.done && last.progress_percent == 100, "{last:#?}");
    assert_eq!(last.trace_id.len(), 32);
}

#[tokio::test]
async fn waiting_returns_when_it_has_ended_or_the_time_is_over() {
    let world = World::new().await;
    let replica = world.replica();
    world.hub.play(|play| play.stuck = true);
    let accepted = replica.create(3, RetainedVolumes::Refuse).await.unwrap();
    let wait = |timeout: Duration| {
        ctx().forward(pb::WaitOperationRequest {
            name: accepted.name.clone(),
            timeout: Some(prost_types::Duration::try_from(timeout).unwrap()),
        })
    };
    let early = client(&replica)
        .wait_operation(wait(Duration::from_millis(50)))
        .await
        .unwrap()
        .into_inner();
    assert!(!early.done);
    world.hub.play(|play| play.stuck = false);
    let late = client(&replica)
        .wait_operation(wait(Duration::from_mins(2)))
        .await
        .unwrap()
        .into_inner();
    assert!(late.done);
}

#[tokio::test]
async fn operations_are_listed_newest_first_and_filtered() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    let deleting = replica.delete(Volumes::Delete).await.unwrap();
    world.ended(&deleting.name).await;
    let list = |filter: &str, page_size, page_token: String| {
        ctx().forward(pb::ListOperationsRequest {
            name: "operations/toy".into(),
            filter: filter.into(),
            page_size,
            page_token,
        })
    };
    let all = client(&replica)
        .list_operations(list("", 0, String::new()))
        .await
        .unwrap()
        .into_inner()
        .operations;
    assert_eq!(
        all.iter()
            .map(|operation| operation.kind.as_str())
            .collect::<Vec<_>>(),
        ["toy.delete", "toy.create"]
    );
    let first = client(&replica)
        .list_operations(list("state=SUCCEEDED", 1, String::new()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (first.operations.len(), first.next_page_token.is_empty()),
        (1, false)
    );
    let second = list("state=SUCCEEDED", 1, first.next_page_token);
    let second = client(&replica)
        .list_operations(second)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(second.operations[0].kind, "toy.create");
    let none = client(&replica)
        .list_operations(list("state=FAILED", 0, String::new()))
        .await
        .unwrap()
        .into_inner();
    assert!(none.operations.is_empty());
    let wrong = client(&replica)
        .list_operations(list("state=ODD", 0, String::new()))
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), tonic::Code::InvalidArgument);
    let nothing = ctx().forward(pb::GetOperationRequest {
        name: "operations/toy/x".into(),
    });
    let missing = client(&replica).get_operation(nothing).await.unwrap_err();
    assert_eq!(
        mesh::status::reason(&missing).as_deref(),
        Some("OPERATION_NOT_FOUND")
    );
}

#[tokio::test]
async fn services_are_listed_by_label_and_page() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    let query = |filter: &'static str| ListQuery {
        method: "/toy/List",
        permission: "toy.services.list",
        parent: "projects/-",
        page_size: 10,
        page_token: "",
        filter,
        order_by: "create_time desc",
    };
    let count = |filter| {
        let (services, query) = (replica.services.clone(), query(filter));
        async move {
            services
                .list(&ctx(), query, |_, _, _| Ok(true))
                .await
                .unwrap()
                .0
                .len()
        }
    };
    assert_eq!(count("").await, 1);
    assert_eq!(count("labels.team=db").await, 1);
    assert_eq!(count("labels.team=web").await, 0);
    assert_eq!(count("labels.team!=web").await, 1);
}

#[tokio::test]
async fn a_watch_tells_what_is_then_what_changes_then_what_is_gone() {
    let world = World::new().await;
    let replica = world.replica();
    world.created(&replica).await;
    let told = replica
        .services
        .watch(&ctx(), "toy.services.list", "projects/p", "")
        .unwrap();
    let mut told = Box::pin(told);
    let mut next = async || {
        let next = tokio::time::timeout(Duration::from_mins(2), told.next());
        next.await.unwrap().unwrap().unwrap()
    };
    assert!(
        matches!(next().await, Told::Service((service, Some(_))) if service.name.service == "demo")
    );
    let Told::Bookmark(token) = next().await else {
        panic!("a bookmark follows")
    };
    let deleting = replica.delete(Volumes::Delete).await.unwrap();
    world.ended(&deleting.name).await;
    loop {
        match next().await {
            Told::Deleted(name) => {
                assert_eq!(name, "projects/p/toyServices/demo");
                break;
            }
            Told::Service(_) | Told::Bookmark(_) => {}
        }
    }
    let resumed = replica
        .services
        .watch(&ctx(), "toy.services.list", "projects/p", &token)
        .unwrap();
    let first = Box::pin(resumed).next().await.unwrap().unwrap();
    assert!(matches!(first, Told::Deleted(name) if name == "projects/p/toyServices/demo"));
    assert!(
        replica
            .services
            .watch(&ctx(), "toy.services.list", "projects/p", "odd")
            .is_err()
    );
}
