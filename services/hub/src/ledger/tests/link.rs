//! Time to live, and status as patches.

use upm_proto::ledger::merge_patch;

use super::*;

#[test]
fn a_time_to_live_is_long_enough_to_dial_again_and_at_most_a_month() {
    let with = |ttl_seconds| pb::Intent {
        ttl_seconds,
        ..intent("a", 1, 1)
    };
    for fits in [0, 60, 2_592_000] {
        assert!(write::prepare(vec![with(fits)], OWNER).is_ok());
    }
    for refused in [1, 59, 2_592_001] {
        let error = write::prepare(vec![with(refused)], OWNER).unwrap_err();
        assert!(error.to_string().contains("ttl_seconds"), "{error}");
    }
}

#[tokio::test]
async fn a_time_to_live_is_told_with_the_intent_and_in_a_list_and_changes_with_a_generation() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        let with = |generation, ttl_seconds| pb::Intent {
            ttl_seconds,
            ..intent("a", 1, generation)
        };
        apply(store, 1, vec![with(1, 90)]).await.unwrap();
        let same = apply(store, 1, vec![with(1, 60)]).await;
        assert!(matches!(same, Err(Error::StaleGeneration { .. })));
        apply(store, 1, vec![with(2, 60)]).await.unwrap();
        let epoch = epoch(store).await;
        let asked = store
            .read("read", move |conn| {
                let keys = vec![key_text(&key("a"))];
                let fetch = Command::Fetch { keys, bytes: 1 };
                Ok::<_, Error>((
                    session::read(conn, "c1", epoch, &fetch)?,
                    session::read(conn, "c1", epoch, &Command::Index)?,
                ))
            })
            .await
            .unwrap();
        let (Reply::Fetched(rows), Reply::Indexed { entries, .. }) = asked else {
            panic!("{asked:?}")
        };
        let crate::session::Body::Apply(apply) = &rows[0].body else {
            panic!("{rows:?}")
        };
        assert_eq!((apply.ttl_seconds, entries[0].ttl_seconds), (60, 60));
        assert_eq!(shown_ttl(store).await, 60);
        delete(store, &["a"]).await.unwrap();
        assert_eq!(shown_ttl(store).await, 0);
    }
}

/// What the API says of the time to live.
async fn shown_ttl(store: &Store) -> u32 {
    let (_, (intent, status)) = store
        .read("get", |conn| read::get(conn, "c1", &key("a")))
        .await
        .unwrap();
    crate::ledger::object(intent, status, crate::ledger::Link::default()).ttl_seconds
}

#[tokio::test]
async fn an_expired_intent_is_not_settled_and_goes_on_by_itself() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        apply(store, 1, vec![intent("a", 1, 1)]).await.unwrap();
        let epoch = epoch(store).await;
        commit(store, epoch, result("a", 1, 1, Outcome::Expired)).await;
        let (row, status) = get(store, "a").await.unwrap();
        let object = crate::ledger::object(row, status, crate::ledger::Link::default());
        assert_eq!(object.state(), pb::IntentState::TransientFail);
    }
}

fn body(units: u64) -> String {
    format!("{{\"filler\":\"{}\",\"units\":{units}}}", "f".repeat(600))
}

/// The change from one body to another as status.
fn patch(seq: u64, from: &str, to: &str) -> Command {
    let mut command = status("a", 1, seq, to);
    if let Command::Statuses { updates, .. } = &mut command {
        updates[0].body = Some(status_update::Body::Patch(pb::MergePatch {
            base_digest: content_digest(from.as_bytes()).to_vec().into(),
            patch: merge_patch(from.as_bytes(), to.as_bytes()).unwrap().into(),
        }));
    }
    command
}

fn resent(reply: Reply) -> Vec<Vec<u8>> {
    match reply {
        Reply::Committed(Committed::Statuses { resend, .. }) => {
            resend.iter().map(|digest| digest.to_vec()).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_patch_of_the_kept_status_is_kept_and_any_other_is_asked_for_in_full() {
    for test in stores().await {
        let store = &test.store;
        agent(store).await;
        apply(store, 1, vec![intent("a", 1, 1)]).await.unwrap();
        let epoch = epoch(store).await;
        let digest = |units| content_digest(body(units).as_bytes()).to_vec();
        let missing = commit(store, epoch, patch(1, &body(1), &body(2))).await;
        assert_eq!(resent(missing), [digest(2)], "nothing is kept yet");
        assert!(get(store, "a").await.unwrap().1.is_none());
        commit(store, epoch, status("a", 1, 2, &body(2))).await;
        let kept = commit(store, epoch, patch(3, &body(2), &body(3))).await;
        assert!(resent(kept).is_empty());
        let (_, seen) = get(store, "a").await.unwrap();
        let seen = seen.unwrap();
        assert_eq!((&seen.body, seen.seq), (&body(3), 3), "{}", test.database);
        let other = commit(store, epoch, patch(4, &body(2), &body(4))).await;
        assert_eq!(resent(other), [digest(4)]);
        let mut forged = patch(5, &body(3), &body(5));
        if let Command::Statuses { updates, .. } = &mut forged {
            updates[0].digest = vec![7; 32].into();
        }
        assert_eq!(resent(commit(store, epoch, forged).await), [vec![7; 32]]);
        assert_eq!(get(store, "a").await.unwrap().1.unwrap().body, body(3));
    }
}
