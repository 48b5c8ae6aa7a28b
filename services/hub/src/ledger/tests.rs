//! The ledger on real databases.

use upm_proto::{
    hub::v1::{self as pb, Outcome, status_update},
    ledger::{Entry, Root, content_digest, key_text},
};
use upm_store::{Store, testing};

mod certificates;
mod link;

use super::{AgentRow, agents, enrol, read, session, write};
use crate::{
    Error, MIGRATIONS,
    session::{Command, Committed, Refusal, Reply},
};

const OWNER: &str = "projects/p/redisServices/s";

fn key(name: &str) -> pb::Key {
    pb::Key {
        group: "upm.syntropycloud.io".into(),
        version: "v1alpha2".into(),
        kind: "UnitSet".into(),
        namespace: "p".into(),
        name: name.into(),
    }
}

fn intent(name: &str, uid: u8, generation: u64) -> pb::Intent {
    let body = serde_json::json!({
        "apiVersion": "upm.syntropycloud.io/v1alpha2", "kind": "UnitSet",
        "metadata": {"name": name, "namespace": "p"}, "spec": {"units": generation},
    });
    pb::Intent {
        key: Some(key(name)),
        intent_uid: vec![uid; 16].into(),
        generation,
        json: serde_json::to_vec(&body).unwrap().into(),
        ..pb::Intent::default()
    }
}

fn writer(owner: &str, epoch: u64) -> write::Writer {
    write::writer(
        Some(pb::Writer {
            owner: owner.into(),
            epoch,
        }),
        "00-trace",
    )
    .unwrap()
}

async fn stores() -> [testing::TestStore; 2] {
    testing::stores("hub", || MIGRATIONS).await
}

async fn agent(store: &Store) {
    store
        .transact("invite", |conn| {
            agents::invite(conn, "c1", &agents::random_token(), true, 60_000_000)?;
            agents::approve(conn, "c1")
        })
        .await
        .unwrap();
}

async fn apply(
    store: &Store,
    epoch: u64,
    intents: Vec<pb::Intent>,
) -> Result<Vec<pb::Written>, Error> {
    apply_as(store, OWNER, epoch, intents).await
}

async fn apply_as(
    store: &Store,
    owner: &str,
    epoch: u64,
    intents: Vec<pb::Intent>,
) -> Result<Vec<pb::Written>, Error> {
    let writer = writer(owner, epoch);
    let prepared = write::prepare(intents, owner)?;
    store
        .transact("apply", move |conn| {
            write::apply_objects(conn, "c1", &writer, &prepared)
        })
        .await
        .map(|(written, _)| written)
}

async fn delete(store: &Store, names: &[&str]) -> Result<Vec<pb::Written>, Error> {
    let keys = names.iter().map(|n| key(n)).collect::<Vec<_>>();
    let writer = writer(OWNER, 1);
    store
        .transact("delete", move |conn| {
            write::delete_objects(conn, "c1", &writer, &keys, write::How::default())
        })
        .await
        .map(|(written, _)| written)
}

async fn claim(store: &Store, hello: pb::Hello) -> Reply {
    store
        .transact("claim", move |conn| session::claim(conn, "c1", &hello, "r"))
        .await
        .unwrap()
}

async fn epoch(store: &Store) -> u64 {
    match claim(store, hello()).await {
        Reply::Claimed(claim) => claim.epoch,
        other => panic!("{other:?}"),
    }
}

fn hello() -> pb::Hello {
    pb::Hello {
        cluster_uid: "cluster".into(),
        ..pb::Hello::default()
    }
}

async fn commit(store: &Store, epoch: u64, command: Command) -> Reply {
    store
        .transact("commit", move |conn| {
            session::commit(conn, "c1", epoch, &[&command]).map(|mut r| r.remove(0))
        })
        .await
        .unwrap()
}

fn result(name: &str, uid: u8, generation: u64, outcome: Outcome) -> Command {
    Command::Results {
        results: vec![pb::ApplyResult {
            key: Some(key(name)),
            intent_uid: vec![uid; 16].into(),
            generation,
            outcome: outcome.into(),
            ..pb::ApplyResult::default()
        }],
        upto: 1,
    }
}

fn status(name: &str, uid: u8, seq: u64, body: &str) -> Command {
    Command::Statuses {
        updates: vec![pb::StatusUpdate {
            seq,
            key: Some(key(name)),
            intent_uid: vec![uid; 16].into(),
            intent_generation: 1,
            digest: content_digest(body.as_bytes()).to_vec().into(),
            body: Some(status_update::Body::Full(body.to_owned().into())),
            edges: vec![pb::Transition {
                r#type: "Ready".into(),
                status: "True".into(),
                at_us: 7,
                ..pb::Transition::default()
            }],
            ..pb::StatusUpdate::default()
        }],
        upto: seq,
        credit: (1, 1),
    }
}

async fn row(store: &Store) -> AgentRow {
    store
        .read("row", |conn| AgentRow::read(conn, "c1"))
        .await
        .unwrap()
        .unwrap()
}

async fn get(store: &Store, name: &str) -> Result<read::Pair, Error> {
    let key = key(name);
    store
        .read("get", move |conn| read::get(conn, "c1", &key))
        .await
        .map(|(_, pair)| pair)
}

#[tokio::test]
async fn migrations_can_be_undone() {
    for test in stores().await {
        testing::migrates_down_and_up(&test, || MIGRATIONS).await;
    }
}

#[tokio::test]
async fn writes_all_or_none_and_allots_one_revision_per_change() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        let written = apply(store, 1, vec![intent("a", 1, 1), intent("b", 2, 1)])
            .await
            .unwrap();
        assert_eq!(written.iter().map(|w| w.rev).collect::<Vec<_>>(), [1, 2]);
        let again = apply(store, 1, vec![intent("a", 1, 1), intent("b", 2, 1)])
            .await
            .unwrap();
        assert!(again.iter().all(|w| !w.changed), "{}", test.database);
        // The second intent is stale, so the first is not written either.
        let refused = apply(store, 1, vec![intent("a", 1, 2), intent("b", 3, 1)]).await;
        assert!(matches!(refused, Err(Error::IntentExists { .. })));
        assert_eq!(get(store, "a").await.unwrap().0.generation, 1);
        assert_eq!(row(store).await.head_rev, 2);
    }
}

#[tokio::test]
async fn fences_by_owner_lease_epoch_identity_and_generation() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        apply(store, 5, vec![intent("a", 1, 3)]).await.unwrap();
        let other = apply_as(
            store,
            "projects/p/redisServices/t",
            9,
            vec![intent("a", 1, 4)],
        )
        .await;
        assert!(matches!(other, Err(Error::IntentExists { .. })));
        let stale_writer = apply(store, 4, vec![intent("a", 1, 4)]).await;
        assert!(matches!(
            stale_writer,
            Err(Error::StaleWriter { current: 5, .. })
        ));
        let older = apply(store, 5, vec![intent("a", 1, 2)]).await;
        assert!(matches!(
            older,
            Err(Error::StaleGeneration { current: 3, .. })
        ));
        let mut differs = intent("a", 1, 3);
        differs.force = true;
        let differs = apply(store, 5, vec![differs]).await;
        assert!(
            matches!(differs, Err(Error::StaleGeneration { .. })),
            "the same generation with other options"
        );
        let nobody = store
            .transact("apply", |conn| {
                let prepared = write::prepare(vec![intent("a", 1, 1)], OWNER)?;
                write::apply_objects(conn, "nobody", &writer(OWNER, 1), &prepared)
            })
            .await;
        assert!(matches!(nobody, Err(Error::AgentNotFound(_))));
    }
}

#[tokio::test]
async fn a_new_life_waits_for_the_end_of_the_old_one() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        apply(store, 1, vec![intent("a", 1, 1)]).await.unwrap();
        assert_eq!(delete(store, &["a", "unknown"]).await.unwrap().len(), 1);
        assert!(
            !delete(store, &["a"]).await.unwrap()[0].changed,
            "a tombstone stays as it is"
        );
        let pending = apply(store, 1, vec![intent("a", 2, 1)]).await;
        assert!(matches!(pending, Err(Error::DeletePending(_))));
        let epoch = epoch(store).await;
        commit(store, epoch, result("a", 1, 2, Outcome::Deleted)).await;
        let reused = apply(store, 1, vec![intent("a", 1, 3)]).await;
        assert!(matches!(reused, Err(Error::IntentUidReused(_))));
        apply(store, 1, vec![intent("a", 2, 1)]).await.unwrap();
        let (live, status) = get(store, "a").await.unwrap();
        assert!(!live.tombstone && live.result_generation == 0 && status.is_none());
    }
}

#[tokio::test]
async fn a_settled_tombstone_is_purged_when_the_agent_holds_it_durably_in_either_order() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        for (i, result_first) in [true, false].into_iter().enumerate() {
            apply(store, 1, vec![intent("a", i as u8, 1)])
                .await
                .unwrap();
            let rev = delete(store, &["a"]).await.unwrap()[0].rev;
            let epoch = epoch(store).await;
            let durable = Command::Received {
                received: rev,
                durable: rev,
            };
            let result = result("a", i as u8, 2, Outcome::Absent);
            let (first, second) = if result_first {
                (result, durable)
            } else {
                (durable, result)
            };
            commit(store, epoch, first).await;
            assert!(get(store, "a").await.is_ok());
            commit(store, epoch, second).await;
            assert!(
                matches!(get(store, "a").await, Err(Error::ObjectNotFound(_))),
                "{}",
                test.database
            );
            let row = row(store).await;
            assert_eq!((row.compacted_rev as u64, row.key_count), (rev, 0));
        }
    }
}

#[tokio::test]
async fn the_roots_are_what_the_rows_add_up_to() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        apply(store, 1, vec![intent("a", 1, 1), intent("b", 2, 1)])
            .await
            .unwrap();
        apply(store, 1, vec![intent("a", 1, 2)]).await.unwrap();
        let epoch = epoch(store).await;
        commit(store, epoch, status("a", 1, 1, "{}")).await;
        commit(store, epoch, status("b", 2, 2, "{\"x\":1}")).await;
        commit(store, epoch, status("a", 1, 3, "{\"y\":1}")).await;
        delete(store, &["b"]).await.unwrap();
        let (mut root, mut status_root) = (Root::default(), Root::default());
        let (live, seen) = get(store, "a").await.unwrap();
        live.count(&mut root, true);
        seen.unwrap().count(&key("a"), &mut status_root, true);
        let row = row(store).await;
        assert_eq!(
            (row.root(), row.status_root()),
            (root, status_root),
            "{}",
            test.database
        );
        let mut by_hand = Root::default();
        by_hand.add(Entry {
            key: &key("a"),
            intent_uid: &[1; 16],
            generation: 2,
            digest: &hex::decode(&live.digest).unwrap(),
        });
        assert_eq!(root, by_hand);
    }
}

#[tokio::test]
async fn status_never_goes_back_and_never_crosses_lives() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        apply(store, 1, vec![intent("a", 1, 1)]).await.unwrap();
        let first = epoch(store).await;
        commit(store, first, status("a", 1, 9, "{\"n\":9}")).await;
        commit(store, first, status("a", 1, 8, "{\"n\":8}")).await;
        commit(store, first, status("a", 2, 10, "{\"n\":10}")).await;
        assert_eq!(get(store, "a").await.unwrap().1.unwrap().body, "{\"n\":9}");
        // A newer session counts from one again.
        let second = epoch(store).await;
        commit(store, second, status("a", 1, 1, "{\"n\":11}")).await;
        let status = get(store, "a").await.unwrap().1.unwrap();
        assert_eq!(status.body, "{\"n\":11}");
        let edges = super::object::object(
            get(store, "a").await.unwrap().0,
            Some(status),
            super::Link::default(),
        );
        assert_eq!(
            edges.status.unwrap().edges.len(),
            1,
            "an edge that comes twice is kept once"
        );
    }
}

#[tokio::test]
async fn an_older_session_writes_nothing() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        apply(store, 1, vec![intent("a", 1, 1)]).await.unwrap();
        let (old, new) = (epoch(store).await, epoch(store).await);
        assert!(new > old);
        assert_eq!(
            commit(store, old, result("a", 1, 1, Outcome::Applied)).await,
            Reply::Fenced
        );
        assert_eq!(get(store, "a").await.unwrap().0.outcome, 0);
        let reply = commit(store, new, result("a", 1, 1, Outcome::Applied)).await;
        assert_eq!(reply, Reply::Committed(Committed::Results(1)));
        let scan = store
            .read("scan", move |conn| {
                session::read(conn, "c1", old, &Command::Scan { after: 0 })
            })
            .await
            .unwrap();
        assert_eq!(scan, Reply::Fenced);
    }
}

#[tokio::test]
async fn a_store_that_is_behind_its_agent_begins_a_new_incarnation() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        let Reply::Claimed(first) = claim(store, hello()).await else {
            panic!()
        };
        let ahead = pb::Hello {
            hub_incarnation: first.incarnation.clone().into(),
            received_rev: 99,
            last_session_epoch: 50,
            ..hello()
        };
        let Reply::Claimed(second) = claim(store, ahead).await else {
            panic!()
        };
        assert_ne!(first.incarnation, second.incarnation);
        assert_eq!(second.epoch, 51, "no epoch twice");
    }
}

#[tokio::test]
async fn admits_only_approved_agents_of_the_same_cluster() {
    for test in stores().await {
        let store = &test.store;
        assert_eq!(
            claim(store, hello()).await,
            Reply::Refused(Refusal::Unknown)
        );
        store
            .transact("invite", |conn| {
                agents::invite(conn, "c1", "t", false, 60_000_000)
            })
            .await
            .unwrap();
        assert_eq!(
            claim(store, hello()).await,
            Reply::Refused(Refusal::NotApproved)
        );
        store
            .transact("approve", |conn| agents::approve(conn, "c1"))
            .await
            .unwrap();
        assert!(matches!(claim(store, hello()).await, Reply::Claimed(_)));
        let elsewhere = pb::Hello {
            cluster_uid: "other".into(),
            ..pb::Hello::default()
        };
        assert_eq!(
            claim(store, elsewhere).await,
            Reply::Refused(Refusal::OtherCluster)
        );
        store
            .transact("revoke", |conn| agents::revoke(conn, "c1"))
            .await
            .unwrap();
        assert_eq!(
            claim(store, hello()).await,
            Reply::Refused(Refusal::Revoked)
        );
    }
}

#[tokio::test]
async fn a_join_token_is_good_once_for_one_request() {
    for test in stores().await {
        let store = &test.store;
        let token = agents::random_token();
        let given = token.clone();
        store
            .transact("invite", move |conn| {
                agents::invite(conn, "c1", &given, true, 60_000_000)
            })
            .await
            .unwrap();
        let redeem = |csr: &'static [u8], token: String| async move {
            let request = pb::EnrollRequest {
                join_token: token,
                csr: csr.into(),
                cluster_uid: "cluster".into(),
                ..pb::EnrollRequest::default()
            };
            store
                .transact("redeem", move |conn| enrol::redeem(conn, &request, None))
                .await
        };
        assert!(redeem(b"one", token.clone()).await.unwrap().approved);
        assert!(
            redeem(b"one", token.clone()).await.is_ok(),
            "a lost answer is asked for again"
        );
        assert!(matches!(
            redeem(b"two", token.clone()).await,
            Err(Error::JoinTokenInvalid)
        ));
        assert!(matches!(
            redeem(b"one", "upmjoin_x".into()).await,
            Err(Error::JoinTokenInvalid)
        ));
        let late = agents::random_token();
        let given = late.clone();
        store
            .transact("invite", move |conn| {
                agents::invite(conn, "c1", &given, true, -1)
            })
            .await
            .unwrap();
        assert!(matches!(
            redeem(b"one", late).await,
            Err(Error::JoinTokenInvalid)
        ));
        // A certificate is good until it is revoked.
        store
            .transact("certify", |conn| {
                enrol::certified(conn, "c1", &certificates::issued(b"leaf", "k1"), None)
            })
            .await
            .unwrap();
        let admitted = |agent: &'static str| {
            store.read("admit", move |conn| {
                enrol::admitted(conn, agent, &enrol::fingerprint(b"leaf"))
            })
        };
        assert!(admitted("c1").await.is_ok());
        assert!(admitted("c2").await.is_err());
        store
            .transact("revoke", |conn| agents::revoke(conn, "c1"))
            .await
            .unwrap();
        assert!(matches!(admitted("c1").await, Err(Error::Revoked(_))));
    }
}

#[tokio::test]
async fn each_enrolment_is_approved_by_itself() {
    for test in stores().await {
        let store = &test.store;
        let join = |auto_approve: bool, csr: &'static [u8]| async move {
            let token = agents::random_token();
            let given = token.clone();
            let request = pb::EnrollRequest {
                join_token: token,
                csr: csr.into(),
                cluster_uid: "cluster".into(),
                ..pb::EnrollRequest::default()
            };
            store
                .transact("join", move |conn| {
                    agents::invite(conn, "c1", &given, auto_approve, 60_000_000)?;
                    let row = enrol::redeem(conn, &request, None)?;
                    enrol::certified(conn, "c1", &certificates::issued(csr, "k1"), None)?;
                    Ok::<_, Error>(row.approved)
                })
                .await
                .unwrap()
        };
        let here = pb::Hello {
            cluster_uid: "cluster".into(),
            ..hello()
        };
        let opens = |leaf: &'static [u8]| {
            store.read("admit", move |conn| {
                Ok::<_, Error>(enrol::admitted(conn, "c1", &enrol::fingerprint(leaf)).is_ok())
            })
        };
        assert!(join(true, b"first").await, "approved with its token");
        assert!(matches!(
            claim(store, here.clone()).await,
            Reply::Claimed(_)
        ));
        assert!(
            !join(false, b"second").await,
            "the approval of the first says nothing of it"
        );
        let refused = Reply::Refused(Refusal::NotApproved);
        assert_eq!(claim(store, here.clone()).await, refused);
        assert!(
            !opens(b"first").await.unwrap(),
            "it opens no session beside the second"
        );
        assert!(opens(b"second").await.unwrap());
        store
            .transact("approve", |conn| agents::approve(conn, "c1"))
            .await
            .unwrap();
        assert!(matches!(
            claim(store, here.clone()).await,
            Reply::Claimed(_)
        ));
        store
            .transact("revoke", |conn| agents::revoke(conn, "c1"))
            .await
            .unwrap();
        assert!(
            !join(false, b"third").await,
            "an approval does not outlive a revocation"
        );
        assert_eq!(claim(store, here).await, refused);
    }
}

#[tokio::test]
async fn nobody_is_approved_before_they_enrol() {
    for test in stores().await {
        let store = &test.store;
        let refused = store
            .transact("approve", |conn| {
                agents::invite(conn, "c1", &agents::random_token(), false, 60_000_000)?;
                agents::require_enrolled(conn, "c1")
            })
            .await;
        assert!(matches!(refused, Err(Error::NotEnrolled(_))));
    }
}

#[tokio::test]
async fn changes_are_told_from_any_point_and_everything_after_a_purge() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        apply(store, 1, vec![intent("a", 1, 1), intent("b", 2, 1)])
            .await
            .unwrap();
        let changes =
            |after| store.read("changes", move |conn| read::changes(conn, "c1", "", after));
        let all = changes(None).await.unwrap();
        assert_eq!(all.objects.len(), 2);
        assert!(changes(Some(all.upto)).await.unwrap().objects.is_empty());
        let epoch = epoch(store).await;
        commit(store, epoch, status("b", 2, 1, "{}")).await;
        let next = changes(Some(all.upto)).await.unwrap();
        assert_eq!(next.objects.len(), 1);
        assert_eq!(next.objects[0].0.key_text, key_text(&key("b")));
        let rev = delete(store, &["a"]).await.unwrap()[0].rev;
        commit(
            store,
            epoch,
            Command::Received {
                received: rev,
                durable: rev,
            },
        )
        .await;
        commit(store, epoch, result("a", 1, 2, Outcome::Deleted)).await;
        let rest = changes(Some(all.upto)).await.unwrap();
        assert_eq!(
            rest.objects.len(),
            1,
            "who missed a purge is told everything that is"
        );
    }
}

#[test]
fn refuses_a_body_that_is_not_the_object_of_its_key() {
    let mut wrong = intent("a", 1, 1);
    wrong.key = Some(key("b"));
    assert!(
        matches!(write::prepare(vec![wrong], OWNER), Err(Error::Field(f)) if f.field == "intents[0].json")
    );
    let mut zero = intent("a", 1, 1);
    zero.generation = 0;
    assert!(
        matches!(write::prepare(vec![zero], OWNER), Err(Error::Field(f)) if f.field == "intents[0].generation")
    );
    let twice = vec![intent("a", 1, 1), intent("a", 1, 2)];
    assert!(
        matches!(write::prepare(twice, OWNER), Err(Error::Field(f)) if f.field == "intents[1].key")
    );
}
