use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use upm_proto::{
    redis::v1::{
        GetRedisServiceRequest, ListRedisServicesRequest,
        redis_services_client::RedisServicesClient,
    },
    user::v1 as pb,
};

use super::*;
use crate::{
    status,
    testing::{Keys, World, get, module, with_token},
};

mod sockets;

fn reason(status: &tonic::Status) -> String {
    status::reason(status).unwrap_or_default()
}

#[tokio::test]
async fn a_user_with_a_permission_is_served_and_without_one_is_refused_and_recorded() {
    let world = World::new();
    let mut client = world.client("gateway");
    let answer = client
        .get_user(world.by("users/root", get("users/x")))
        .await
        .expect("allowed");
    assert_eq!(answer.into_inner().display_name, "users/root");
    assert_eq!(world.records.entries(), vec![]);

    let mut request = world.by("users/alice", get("users/x"));
    request
        .metadata_mut()
        .insert("x-forwarded-for", "203.0.113.9".parse().expect("a value"));
    let refused = client.get_user(request).await.expect_err("refused");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "PERMISSION_DENIED")
    );
    let entry = world.records.only();
    assert_eq!(entry.principal, "users/alice");
    assert_eq!(entry.method, "/upm.user.v1.UserService/GetUser");
    assert_eq!(entry.module, "user");
    assert_eq!(entry.source_address, "203.0.113.9");
    assert_eq!(
        (entry.code, entry.reason.as_str()),
        (7, "PERMISSION_DENIED")
    );
    assert_eq!(entry.request, r#"{"name":"users/x"}"#);
    assert_eq!(entry.trace_id.len(), 32);
    assert!(entry.name.starts_with("operatorLog/entries/"));
    assert_eq!(world.users.reached.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_project_scope_is_read_from_the_request() {
    let world = World::new();
    let mut redis = RedisServicesClient::new(world.stack.in_memory(module("gateway")));
    let get = |name: &str| GetRedisServiceRequest { name: name.into() };
    let scope_of = |metadata: &tonic::metadata::MetadataMap| {
        metadata
            .get("x-scope")
            .expect("a scope")
            .to_str()
            .expect("text")
            .to_owned()
    };
    let allowed = redis
        .get_redis_service(world.by("users/alice", get("projects/a/redisServices/x")))
        .await
        .expect("allowed");
    assert_eq!(scope_of(allowed.metadata()), r#"Project("projects/a")"#);
    let refused = redis
        .get_redis_service(world.by("users/alice", get("projects/b/redisServices/x")))
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(status::details(&refused).metadata["project"], "projects/b");
    assert_eq!(world.records.only().resource, "projects/b/redisServices/x");
    let list = ListRedisServicesRequest {
        parent: "projects/-".into(),
        ..Default::default()
    };
    let listed = redis
        .list_redis_services(world.by("users/alice", list))
        .await
        .expect("allowed");
    assert_eq!(scope_of(listed.metadata()), "AnyProject");
}

#[tokio::test]
async fn tokens_that_are_missing_expired_or_of_disabled_users_are_refused() {
    let world = World::new();
    let mut client = world.client("gateway");
    for (request, expected) in [
        (Request::new(get("users/x")), "TOKEN_MISSING"),
        (
            with_token(&world.keys.token("users/root", -60), get("users/x")),
            "TOKEN_EXPIRED",
        ),
        (
            with_token(&Keys::new("k1").token("users/root", 300), get("users/x")),
            "TOKEN_INVALID",
        ),
        (world.by("users/gone", get("users/x")), "USER_DISABLED"),
    ] {
        let refused = client.get_user(request).await.expect_err(expected);
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Unauthenticated, expected)
        );
    }
    assert_eq!(world.users.reached.load(Ordering::SeqCst), 0);
    assert_eq!(world.records.entries().len(), 4);
}

#[tokio::test]
async fn without_a_policy_everything_that_needs_one_is_refused() {
    let world = World::build(Keys::new("k1"), Verifier::new(), Limits::default());
    let mut client = world.client("auth");
    let refused = client
        .get_user(world.by("users/root", get("users/x")))
        .await
        .expect_err("refused");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unavailable, "POLICY_UNAVAILABLE")
    );
    client
        .verify_password(pb::VerifyPasswordRequest::default())
        .await
        .expect("modules need no policy");
    let mut health = HealthClient::new(world.stack.in_memory(module("gateway")));
    health
        .check(HealthCheckRequest::default())
        .await
        .expect("public");
}

#[tokio::test]
async fn a_change_gets_a_redacted_draft_and_its_failure_is_recorded_with_its_reason() {
    let world = World::new();
    let mut client = world.client("gateway");
    let create = |id: &str| pb::CreateUserRequest {
        user_id: id.into(),
        password: "correct horse battery".into(),
        ..Default::default()
    };
    let made = client
        .create_user(world.by("users/root", create("alice")))
        .await
        .expect("made");
    assert_eq!(made.into_inner().display_name, r#"{"userId":"alice"}"#);
    assert_eq!(
        world.records.entries(),
        vec![],
        "the handler's transaction writes it"
    );

    let refused = client
        .create_user(world.by("users/root", create("taken")))
        .await
        .expect_err("taken");
    assert_eq!(refused.code(), Code::AlreadyExists);
    let entry = world.records.only();
    assert_eq!((entry.code, entry.reason.as_str()), (6, "USER_EXISTS"));
    assert_eq!(entry.request, r#"{"userId":"taken"}"#);
    assert!(!format!("{entry:?}").contains("horse"));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_travels_and_its_end_is_deadline_exceeded() {
    let world = World::new();
    let mut client = world.client("gateway");
    let mut request = world.by("users/root", get("users/x"));
    request.set_timeout(Duration::from_millis(900));
    let left = client
        .get_user(request)
        .await
        .expect("in time")
        .into_inner()
        .etag;
    let left: u64 = left.parse().expect("milliseconds");
    assert!((1..=900).contains(&left), "{left}");
    let left = client
        .get_user(world.by("users/root", get("users/x")))
        .await
        .expect("in time")
        .into_inner()
        .etag;
    let left: u64 = left.parse().expect("milliseconds");
    assert!(
        (5_000..=10_000).contains(&left),
        "the policy's 10 s without a deadline of the caller: {left}"
    );

    let begun = Instant::now();
    let mut request = world.by("users/root", get("users/slow"));
    request.set_timeout(Duration::from_millis(200));
    let late = client.get_user(request).await.expect_err("too late");
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert!(begun.elapsed() < Duration::from_secs(5));

    // The server says so itself, to a client that does not watch the time.
    let mut request = http::Request::post("/upm.user.v1.UserService/GetUser")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "100m")
        .header(
            "authorization",
            format!("Bearer {}", world.keys.token("users/root", 300)),
        )
        .body(Body::new(http_body_util::Full::new(frame(&get(
            "users/slow",
        )))))
        .expect("a request");
    request
        .extensions_mut()
        .insert(crate::Peer(Some(module("gateway"))));
    let response = tower::Service::call(&mut world.stack.clone(), request)
        .await
        .expect("an answer");
    assert_eq!(response.headers()["grpc-status"], "4");
}

fn frame(message: &impl prost::Message) -> bytes::Bytes {
    let encoded = message.encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend((encoded.len() as u32).to_be_bytes());
    bytes.extend(encoded);
    bytes.into()
}

#[tokio::test]
async fn a_request_that_is_too_large_never_reaches_its_handler() {
    let world = World::with(Limits {
        max_request: 1024,
        ..Limits::default()
    });
    let mut client = world.client("gateway");
    let refused = client
        .get_user(world.by("users/root", get(&"x".repeat(2048))))
        .await
        .expect_err("too large");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "REQUEST_TOO_LARGE")
    );
    assert_eq!(world.users.reached.load(Ordering::SeqCst), 0);
    client
        .get_user(world.by("users/root", get("users/x")))
        .await
        .expect("small enough");
}

#[tokio::test]
async fn calls_beyond_the_limit_are_shed_with_a_time_to_come_back() {
    let world = World::with(Limits {
        in_flight: 1,
        ..Limits::default()
    });
    let (mut first, mut second) = (world.client("gateway"), world.client("gateway"));
    let request = world.by("users/root", get("users/waits"));
    let running = tokio::spawn(async move { first.get_user(request).await });
    world.users.entered.notified().await;
    let shed = second
        .get_user(world.by("users/root", get("users/x")))
        .await
        .expect_err("shed");
    assert_eq!(
        (shed.code(), reason(&shed).as_str()),
        (Code::ResourceExhausted, "OVERLOADED")
    );
    assert_eq!(
        status::details(&shed).retry_after,
        Some(Duration::from_secs(1))
    );
    world.users.release.notify_one();
    running.await.expect("no panic").expect("answered");
    second
        .get_user(world.by("users/root", get("users/x")))
        .await
        .expect("room again");
}

#[tokio::test]
async fn methods_without_a_policy_are_not_served() {
    let world = World::new();
    let request = http::Request::post("/upm.user.v1.UserService/DropAll")
        .body(Body::empty())
        .expect("a request");
    let response = tower::Service::call(&mut world.stack.clone(), request)
        .await
        .expect("an answer");
    assert_eq!(response.headers()["grpc-status"], "12");
}

#[tokio::test]
async fn a_trace_runs_through_two_modules_and_into_the_record() {
    let (first, second) = (World::new(), World::new());
    // The second module knows the first one's keys.
    let second = World::build(
        first.keys.clone(),
        second.stack.inner.verifier.clone(),
        Limits::default(),
    );
    second
        .stack
        .inner
        .verifier
        .update(&crate::testing::policy(&first.keys));
    *first.users.next.lock().expect("not poisoned") = Some(second.stack.in_memory(module("user")));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let header = format!("00-{trace}-00f067aa0ba902b7-01");
    let mut request = first.by("users/root", get("users/forwards"));
    request
        .metadata_mut()
        .insert("traceparent", header.parse().expect("a value"));
    request
        .metadata_mut()
        .insert("x-forwarded-for", "203.0.113.9".parse().expect("a value"));
    let answer = first
        .client("gateway")
        .get_user(request)
        .await
        .expect("allowed")
        .into_inner();
    assert_eq!(answer.name, "users/there");
    assert_eq!(answer.uid, trace);
    assert_eq!(
        answer.display_name, "users/root",
        "the user's token was forwarded"
    );
    assert_eq!(answer.email, "203.0.113.9", "and the client's address");
    let left: u64 = answer.etag.parse().expect("milliseconds");
    assert!(
        left > 0 && left <= 10_000,
        "and the time that is left: {left}"
    );

    let mut request = first.by("users/alice", get("users/x"));
    request
        .metadata_mut()
        .insert("traceparent", header.parse().expect("a value"));
    first
        .client("gateway")
        .get_user(request)
        .await
        .expect_err("refused");
    assert_eq!(first.records.only().trace_id, trace);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_the_token_of_its_user() {
    let world = World::new();
    let mut client = world.client("auth");
    // The server forgives clocks five seconds, the stream does not.
    let token = world.keys.token("users/root", 60);
    let request = with_token(&token, pb::WatchDisabledUsersRequest::default());
    let mut stream = client
        .watch_disabled_users(request)
        .await
        .expect("begun")
        .into_inner();
    stream
        .message()
        .await
        .expect("the first message")
        .expect("one");
    let ended = tokio::time::timeout(Duration::from_secs(62), stream.message())
        .await
        .expect("in time");
    let ended = ended.expect_err("over");
    assert_eq!(
        (ended.code(), reason(&ended).as_str()),
        (Code::Unauthenticated, "TOKEN_EXPIRED")
    );
}

#[tokio::test(start_paused = true)]
async fn unknown_callers_cannot_flood_the_operation_log() {
    let world = World::new();
    let mut client = world.client("gateway");
    for _ in 0..150 {
        client.get_user(get("users/x")).await.expect_err("no token");
    }
    let recorded = world.records.entries().len();
    assert_eq!(recorded, 10, "one address has its own budget");
    world.stack.recorded().await;
    let entries = world.records.entries();
    let counted = entries.last().expect("the count");
    assert_eq!(counted.reason, "AGGREGATED");
    assert!(counted.diff.contains("140"), "{}", counted.diff);
}

#[tokio::test]
async fn reflection_and_health_name_the_services() {
    let world = World::new();
    let mut health = HealthClient::new(world.stack.in_memory(module("gateway")));
    let service = "upm.user.v1.UserService".to_owned();
    let answer = health
        .check(HealthCheckRequest { service })
        .await
        .expect("known")
        .into_inner();
    assert_eq!(
        answer.status(),
        tonic_health::pb::health_check_response::ServingStatus::Serving
    );

    let mut reflection = ServerReflectionClient::new(world.stack.in_memory(module("gateway")));
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = reflection
        .server_reflection_info(futures::stream::iter([ask]))
        .await
        .expect("public")
        .into_inner();
    let answer = answers.message().await.expect("an answer").expect("one");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("not a list: {answer:?}");
    };
    assert!(
        list.service
            .iter()
            .any(|service| service.name == "upm.user.v1.UserService")
    );
}

#[tokio::test]
async fn reflection_shows_no_internal_method() {
    let world = World::new();
    let mut reflection = ServerReflectionClient::new(world.stack.in_memory(module("gateway")));
    let mut described = async |symbol: &str| {
        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol(symbol.to_owned())),
        };
        let asked = reflection.server_reflection_info(futures::stream::iter([ask]));
        let mut answers = asked.await.expect("public").into_inner();
        // What is not shown is answered with the end of the stream, as what does not exist.
        let Ok(Some(answer)) = answers.message().await else {
            return false;
        };
        matches!(
            answer.message_response,
            Some(MessageResponse::FileDescriptorResponse(_))
        )
    };
    assert!(described("upm.user.v1.UserService.GetUser").await);
    let internal = policy::METHODS
        .iter()
        .filter(|method| method.access == Access::Internal);
    let mut seen = 0;
    for method in internal {
        let symbol = method.path.trim_start_matches('/').replace('/', ".");
        assert!(!described(&symbol).await, "{symbol}");
        seen += 1;
    }
    assert!(seen > 0);
}
