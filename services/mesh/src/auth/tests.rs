use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use tokio_stream::{StreamExt as _, wrappers::WatchStream};
use tonic::{Request, Response};
use upm_proto::auth::v1::{self as pb, policy_service_server};

use super::*;
use crate::testing::{Keys, Recorder, claims, module, policy};

fn reason(result: Result<Verified, Status>) -> String {
    let status = result.expect_err("refused");
    status::reason(&status).expect("a reason")
}

#[test]
fn a_good_token_stands_for_its_user_until_it_ends() {
    let keys = Keys::new("k1");
    let verifier = Verifier::fixed(&policy(&keys));
    let token = keys.token("users/alice", 300);
    for _ in 0..2 {
        let verified = verifier.verify(&token).expect("good");
        assert_eq!(verified.user, "users/alice");
        assert!(verified.expires > SystemTime::now() + Duration::from_secs(200));
    }
}

#[test]
fn expired_foreign_unsigned_and_misdirected_tokens_are_refused() {
    let keys = Keys::new("k1");
    let verifier = Verifier::fixed(&policy(&keys));
    assert_eq!(
        reason(verifier.verify(&keys.token("users/alice", -60))),
        "TOKEN_EXPIRED"
    );
    // Another key under the same id, and a key nobody knows.
    assert_eq!(
        reason(verifier.verify(&Keys::new("k1").token("users/root", 300))),
        "TOKEN_INVALID"
    );
    assert_eq!(
        reason(verifier.verify(&Keys::new("k2").token("users/root", 300))),
        "TOKEN_INVALID"
    );
    assert_eq!(reason(verifier.verify("no.jwt.at-all")), "TOKEN_INVALID");
    assert_eq!(
        reason(verifier.verify(&"x".repeat(100_000))),
        "TOKEN_INVALID"
    );

    let good = keys.token("users/alice", 300);
    let (signed, _) = good.rsplit_once('.').expect("three parts");
    assert_eq!(
        reason(verifier.verify(&format!("{signed}."))),
        "TOKEN_INVALID"
    );
    let (_, payload) = signed.split_once('.').expect("two parts");
    // {"alg":"none","kid":"k1"}
    let unsigned = format!("eyJhbGciOiJub25lIiwia2lkIjoiazEifQ.{payload}.");
    assert_eq!(reason(verifier.verify(&unsigned)), "TOKEN_INVALID");

    for change in [
        |claims: &mut Claims| claims.aud = "another".into(),
        |claims: &mut Claims| claims.iss = "another".into(),
        |claims: &mut Claims| claims.sub = "modules/redis".into(),
    ] {
        let mut claims = claims("users/root", 300);
        change(&mut claims);
        assert_eq!(
            reason(verifier.verify(&keys.signed(&claims))),
            "TOKEN_INVALID"
        );
    }
}

#[test]
fn a_disabled_user_is_refused_at_once_although_the_token_was_verified_before() {
    let keys = Keys::new("k1");
    let mut snapshot = policy(&keys);
    let verifier = Verifier::fixed(&snapshot);
    assert_eq!(
        reason(verifier.verify(&keys.token("users/gone", 300))),
        "USER_DISABLED"
    );
    let token = keys.token("users/root", 300);
    verifier.verify(&token).expect("not disabled yet");
    assert!(verifier.may("users/root", "redis.services.get", None));

    snapshot.revision = 2;
    snapshot.disabled_users.push("users/root".into());
    verifier.update(&snapshot);
    assert_eq!(reason(verifier.verify(&token)), "USER_DISABLED");
    assert!(!verifier.may("users/root", "redis.services.get", None));
}

#[test]
fn a_token_whose_key_was_withdrawn_is_refused_although_it_was_verified_before() {
    let keys = Keys::new("k1");
    let mut snapshot = policy(&keys);
    let verifier = Verifier::fixed(&snapshot);
    let token = keys.token("users/alice", 300);
    verifier.verify(&token).expect("good");
    snapshot.revision = 2;
    snapshot.jwks = None;
    verifier.update(&snapshot);
    assert_eq!(reason(verifier.verify(&token)), "TOKEN_INVALID");
}

#[test]
fn without_a_snapshot_nobody_is_anybody() {
    let keys = Keys::new("k1");
    let verifier = Verifier::new();
    let refused = verifier
        .verify(&keys.token("users/root", 300))
        .expect_err("refused");
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert_eq!(
        status::reason(&refused).as_deref(),
        Some("POLICY_UNAVAILABLE")
    );
    assert!(!verifier.may("users/root", "redis.services.get", None));
    assert!(
        verifier
            .projects("users/root", "redis.services.get")
            .is_empty()
    );
}

#[test]
fn project_bindings_count_in_their_project_and_platform_bindings_everywhere() {
    let verifier = Verifier::fixed(&policy(&Keys::new("k1")));
    let (a, b) = (Some("projects/a"), Some("projects/b"));
    assert!(verifier.may("users/alice", "redis.services.create", a));
    assert!(!verifier.may("users/alice", "redis.services.create", b));
    assert!(!verifier.may("users/alice", "redis.services.create", None));
    assert!(!verifier.may("users/alice", "resource.projects.get", a));
    assert!(verifier.may("users/bob", "redis.services.get", b));
    assert!(!verifier.may("users/bob", "redis.services.delete", b));
    assert!(verifier.may("users/root", "redis.services.delete", b));
    assert!(!verifier.may("users/unknown", "redis.services.get", a));
    assert_eq!(
        verifier.projects("users/root", "redis.services.get"),
        Projects::All
    );
    let only = verifier.projects("users/alice", "redis.services.get");
    assert!(only.contains("projects/a") && !only.contains("projects/b"));
}

#[test]
fn an_older_snapshot_does_not_replace_a_newer_one() {
    let mut snapshot = policy(&Keys::new("k1"));
    snapshot.revision = 7;
    let verifier = Verifier::fixed(&snapshot);
    snapshot.revision = 6;
    snapshot.role_bindings.clear();
    verifier.update(&snapshot);
    assert_eq!(verifier.revision(), Some(7));
    assert!(verifier.may("users/root", "redis.services.get", None));
}

proptest! {
    #[test]
    fn a_pattern_covers_what_differs_only_in_its_stars(
        parts in proptest::collection::vec("[a-zA-Z]{1,8}", 3), stars in proptest::collection::vec(any::<bool>(), 3),
    ) {
        let asked = parts.join(".");
        let granted: Vec<_> = parts.iter().zip(&stars).map(|(part, star)| if *star { "*" } else { part }).collect();
        prop_assert!(matches(&granted.join("."), &asked));
        let another = format!("{asked}x");
        prop_assert_eq!(matches(&granted.join("."), &another), stars[2]);
        let shorter = granted[..2].join(".");
        let longer = format!("{asked}.more");
        prop_assert!(!matches(&shorter, &asked));
        prop_assert!(!matches(&granted.join("."), &longer));
    }
}

/// Streams what a channel holds; breaks once when asked.
struct Policies {
    snapshots: watch::Receiver<PolicySnapshot>,
    breaks: Arc<AtomicBool>,
}

#[tonic::async_trait]
impl policy_service_server::PolicyService for Policies {
    async fn forget_project(
        &self,
        _: Request<pb::ForgetProjectRequest>,
    ) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn test_permissions(
        &self,
        _: Request<pb::TestPermissionsRequest>,
    ) -> Result<Response<pb::TestPermissionsResponse>, Status> {
        Err(Status::unimplemented("not part of the test"))
    }

    type WatchPolicyStream =
        std::pin::Pin<Box<dyn futures::Stream<Item = Result<PolicySnapshot, Status>> + Send>>;

    async fn watch_policy(
        &self,
        _: Request<WatchPolicyRequest>,
    ) -> Result<Response<Self::WatchPolicyStream>, Status> {
        if self.breaks.swap(false, Ordering::SeqCst) {
            return Err(Status::unavailable("once"));
        }
        Ok(Response::new(Box::pin(
            WatchStream::new(self.snapshots.clone()).map(Ok),
        )))
    }
}

#[tokio::test]
async fn the_policy_is_followed_through_a_break_and_ends_with_the_drain() {
    let mut snapshot = policy(&Keys::new("k1"));
    let (sender, snapshots) = watch::channel(snapshot.clone());
    let breaks = Arc::new(AtomicBool::new(true));
    let service = policy_service_server::PolicyServiceServer::new(Policies { snapshots, breaks });
    // The module that serves the policy starts without one.
    let stack = crate::Server::builder("auth", Verifier::new(), Arc::new(Recorder::default()))
        .routes(tonic::service::Routes::new(service))
        .build();
    let (verifier, drain) = (Verifier::new(), Drain::new());
    let following = tokio::spawn(
        verifier
            .clone()
            .watch(stack.in_memory(module("user")), drain.clone()),
    );
    let soon = |ready| tokio::time::timeout(Duration::from_mins(1), ready);
    soon(Box::pin(verifier.ready()))
        .await
        .expect("the first snapshot");
    assert!(verifier.may("users/root", "redis.services.get", None));

    snapshot.revision = 2;
    snapshot.role_bindings.clear();
    sender.send_replace(snapshot);
    let mut revision = verifier.inner.revision.subscribe();
    let second = revision.wait_for(|revision| *revision == Some(2));
    tokio::time::timeout(Duration::from_mins(1), second)
        .await
        .expect("in time")
        .expect("open");
    assert!(!verifier.may("users/root", "redis.services.get", None));
    drain.begin();
    tokio::time::timeout(Duration::from_mins(1), following)
        .await
        .expect("in time")
        .expect("no panic");
}

#[test]
fn who_holds_more_is_found_in_projects_and_while_disabled() {
    let verifier = Verifier::fixed(&policy(&Keys::new("k1")));
    let beyond = |user: &str, other: &str| {
        verifier
            .first_beyond(&format!("users/{user}"), &format!("users/{other}"))
            .expect("a policy")
    };
    assert_eq!(beyond("root", "alice"), None);
    assert_eq!(beyond("root", "root"), None);
    assert_eq!(beyond("alice", "nobody"), None);
    let more = beyond("alice", "root").expect("root holds more");
    assert_eq!(more.project, None);
    assert!(beyond("bob", "alice").is_some_and(|more| more.project.is_some()));
    assert!(
        Verifier::new().first_beyond("users/a", "users/b").is_err(),
        "nobody is compared without a policy"
    );
}
