use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tonic::Code;
use upm_proto::user::v1::{self as pb, user_service_client::UserServiceClient};

use super::*;
use crate::{
    Authority, ClientAuth, status,
    testing::{Port, World, endpoint, get, identity, module, serve, serve_on},
};

fn create(request_id: &str) -> pb::CreateUserRequest {
    pb::CreateUserRequest {
        user_id: "x".into(),
        request_id: request_id.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn an_idempotent_call_is_repeated_after_a_refused_connection() {
    let world = World::new();
    let authority = Authority::create().expect("an authority");
    let port = Port::reserved();
    let (from, to) = (
        identity(&authority, &module("redis")),
        vec![endpoint(port.address)],
    );
    let inner = Arc::new(Inner {
        transport: remote::Remote::new(
            "user".into(),
            to.clone(),
            from.client_config_for(module("user")),
        ),
        budget: RetryBudget::new(),
        instruments: Instruments::new(Side::Client),
    });
    let channel = BoxCloneSyncService::new(Client {
        inner: inner.clone(),
    });
    let refused = UserServiceClient::<Channel>::new(channel)
        .create_user(create(""))
        .await
        .expect_err("nobody there");
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(status::reason(&refused).as_deref(), Some("CONNECT_FAILED"));
    let left = std::iter::from_fn(|| inner.budget.spend().then_some(())).count();
    assert_eq!(left, 10, "not repeated: that would have been paid for");

    let mut waiting = UserServiceClient::new(connect(to, from, module("user")));
    let call = tokio::spawn(async move { waiting.get_user(get("users/x")).await });
    tokio::time::sleep(Duration::from_millis(60)).await;
    let _served = serve_on(
        world.stack.clone(),
        &authority,
        ClientAuth::Required,
        port.listener(),
    );
    call.await
        .expect("no panic")
        .expect("repeated until somebody was there");
    assert_eq!(world.users.reached.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn only_calls_that_may_be_repeated_are() {
    let world = World::new();
    let mut client = world.client("redis");
    let refuse = |times| {
        world.users.refusals.store(times, Ordering::SeqCst);
        world.users.reached.store(0, Ordering::SeqCst);
    };
    let reached = || world.users.reached.load(Ordering::SeqCst);

    refuse(2);
    client
        .get_user(get("users/flaky"))
        .await
        .expect("at the third attempt");
    assert_eq!(reached(), 3);
    refuse(100);
    let refused = client
        .get_user(get("users/flaky"))
        .await
        .expect_err("it gives up");
    assert_eq!((refused.code(), reached()), (Code::Unavailable, 4));
    refuse(1);
    client
        .create_user(create(""))
        .await
        .expect_err("without a request id it could be done twice");
    assert_eq!(reached(), 1);
    refuse(1);
    client
        .create_user(create("7c5b9a52-6a0e-4a34-8f43-1df6f3f0a9b1"))
        .await
        .expect("with one it cannot");
    assert_eq!(reached(), 2);
}

#[tokio::test]
async fn retries_stop_when_the_budget_is_spent() {
    let world = World::new();
    world.users.refusals.store(usize::MAX, Ordering::SeqCst);
    let client = world.client("redis");
    let calls = 30;
    let all = (0..calls).map(|_| {
        let mut client = client.clone();
        async move { client.get_user(get("users/flaky")).await }
    });
    futures::future::join_all(all).await;
    let attempts = world.users.reached.load(Ordering::SeqCst);
    assert!(attempts <= calls + 10 + calls / 5 + 1, "{attempts}");
    assert!(attempts > calls, "{attempts}");
}

#[tokio::test]
async fn with_one_replica_gone_the_others_serve_also_calls_that_are_not_repeated() {
    let world = World::new();
    let authority = Authority::create().expect("an authority");
    let first = serve(world.stack.clone(), &authority, ClientAuth::Required).await;
    let second = serve(world.stack.clone(), &authority, ClientAuth::Required).await;
    let endpoints = vec![endpoint(first.address), endpoint(second.address)];
    let channel = connect(
        endpoints,
        identity(&authority, &module("redis")),
        module("user"),
    );
    let mut client = UserServiceClient::new(channel);
    for _ in 0..10 {
        client.create_user(create("")).await.expect("both there");
    }
    first.drain.begin();
    first.task.await.expect("no panic").expect("served");
    for _ in 0..20 {
        client.create_user(create("")).await.expect("one there");
    }
}

#[tokio::test]
async fn calls_spread_over_the_replicas() {
    let (first, second) = (World::new(), World::new());
    let authority = Authority::create().expect("an authority");
    let one = serve(first.stack.clone(), &authority, ClientAuth::Required).await;
    let two = serve(second.stack.clone(), &authority, ClientAuth::Required).await;
    let endpoints = vec![endpoint(one.address), endpoint(two.address)];
    let channel = connect(
        endpoints,
        identity(&authority, &module("redis")),
        module("user"),
    );
    let mut client = UserServiceClient::new(channel);
    let counts = || [&first, &second].map(|world| world.users.reached.load(Ordering::SeqCst));
    // The second one is dialled while the first one serves.
    let deadline = Instant::now() + Duration::from_mins(1);
    while counts().contains(&0) {
        assert!(Instant::now() < deadline, "one is never asked");
        client.get_user(get("users/x")).await.expect("served");
    }
    let before = counts();
    for _ in 0..100 {
        client.get_user(get("users/x")).await.expect("served");
    }
    let after = counts();
    let reached = [after[0] - before[0], after[1] - before[1]];
    assert_eq!(reached[0] + reached[1], 100);
    assert!(reached.iter().all(|calls| *calls > 15), "{reached:?}");
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let world = World::new();
    let authority = Authority::create().expect("an authority");
    let port = Port::reserved();
    let serve = || {
        serve_on(
            world.stack.clone(),
            &authority,
            ClientAuth::Required,
            port.listener(),
        )
    };
    let served = serve();
    let channel = connect(
        vec![endpoint(port.address)],
        identity(&authority, &module("redis")),
        module("user"),
    );
    let mut client = UserServiceClient::new(channel);
    client.get_user(get("users/x")).await.expect("there");
    served.drain.begin();
    served.task.await.expect("no panic").expect("served");
    client.get_user(get("users/x")).await.expect_err("gone");
    let _again = serve();
    let deadline = Instant::now() + Duration::from_mins(1);
    while client.get_user(get("users/x")).await.is_err() {
        assert!(Instant::now() < deadline, "not found again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_stream_goes_on_after_its_channel_is_dropped() {
    let world = World::new();
    let authority = Authority::create().expect("an authority");
    let served = serve(world.stack.clone(), &authority, ClientAuth::Required).await;
    let channel = connect(
        vec![endpoint(served.address)],
        identity(&authority, &module("auth")),
        module("user"),
    );
    let mut stream = {
        let mut client = UserServiceClient::new(channel);
        let request = pb::WatchDisabledUsersRequest::default();
        client
            .watch_disabled_users(request)
            .await
            .expect("begun")
            .into_inner()
    };
    stream
        .message()
        .await
        .expect("the first message")
        .expect("one");
    let more = tokio::time::timeout(Duration::from_millis(200), stream.message()).await;
    assert!(more.is_err(), "it waits: {more:?}");
}

#[tokio::test]
async fn an_endpoint_without_a_server_name_or_none_at_all_is_unavailable() {
    let authority = Authority::create().expect("an authority");
    for endpoints in [vec![], vec!["/path".parse().expect("a URI")]] {
        let channel = connect(
            endpoints,
            identity(&authority, &module("redis")),
            module("user"),
        );
        let refused = UserServiceClient::new(channel)
            .get_user(get("users/x"))
            .await
            .expect_err("nowhere");
        assert_eq!(refused.code(), Code::Unavailable);
    }
}
