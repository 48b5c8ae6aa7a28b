//! A replica that was let go comes back without a full copy.

use nix::sys::signal::Signal;
use redis::AsyncCommands;
use upm_proto::unit::v1 as pb;

use super::{admitting, confirm, follow, grant, group, lead, promise};
use crate::member::store::Store;
use crate::rig::Rig;

/// A number of `INFO stats`.
async fn stat(rig: &Rig, index: usize, name: &str) -> i64 {
    let mut user = rig.user(index).await.unwrap();
    let text: String = redis::cmd("INFO")
        .arg("stats")
        .query_async(&mut user)
        .await
        .unwrap();
    text.lines()
        .find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
        .and_then(|value| value.parse().ok())
        .unwrap()
}

/// Two units, the second of which was let go, as before a restart, while the first goes on.
async fn let_go() -> (Rig, String) {
    let mut rig = Rig::new(2);
    let granted = group(&rig, 1).await;
    confirm(&rig, 0, "before").await;
    rig.until_whole(1).await;
    promise(&rig, 1, 2).await;
    rig.stop(1).await;
    let left = Store::read(&rig.units[1].config.state_dir()).unwrap();
    assert!(left.snapshot && left.clean_shutdown, "{left:?}");
    let request = admitting_first(&rig);
    lead(&rig, 0, request).await.unwrap();
    let mut user = rig.user(0).await.unwrap();
    let _: () = user.set("meanwhile", "x").await.unwrap();
    (rig, granted.replid)
}

/// The primary goes on under the epoch that the leaver promised, without it.
fn admitting_first(rig: &Rig) -> pb::GrantPrimaryRequest {
    let leaver = Store::read(&rig.units[1].config.state_dir()).unwrap();
    pb::GrantPrimaryRequest {
        admitted_member_ids: vec![leaver.member_id],
        ..grant(2, 0)
    }
}

async fn back(rig: &Rig) -> pb::RedisMember {
    let back = |seen: &pb::RedisMember| seen.reachable && !seen.loading;
    rig.until(1, "it is back", back).await
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_that_was_let_go_returns_without_a_full_copy() {
    let (mut rig, replid) = let_go().await;
    let copies = stat(&rig, 0, "sync_full").await;
    rig.start(1);
    let seen = back(&rig).await;
    assert_eq!(seen.replid, replid, "it knows whose data it has");
    assert_eq!(seen.grant(), pb::RedisGrant::Parked);
    follow(&rig, 1, 2, 0, &replid).await.unwrap();
    let synced = |seen: &pb::RedisMember| {
        seen.standing() == pb::Standing::Synced && seen.link_up && seen.keys == 2
    };
    rig.until(1, "it has caught up", synced).await;
    assert_eq!(stat(&rig, 0, "sync_full").await, copies);
    assert!(stat(&rig, 0, "sync_partial_ok").await >= 1);

    // its append-only file is made anew, and holds everything: also after a crash
    rig.until_whole(1).await;
    confirm(&rig, 0, "after").await;
    rig.signal(1, Signal::SIGKILL).await;
    let loaded = |seen: &pb::RedisMember| {
        seen.reachable && !seen.loading && seen.replid != replid && seen.keys == 3
    };
    rig.until(1, "it has loaded its append-only file", loaded)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_is_good_for_one_start() {
    let (mut rig, replid) = let_go().await;
    rig.start(1);
    back(&rig).await;
    let directory = rig.units[1].config.state_dir();
    assert!(!Store::read(&directory).unwrap().snapshot);
    rig.until_whole(1).await;
    rig.signal(1, Signal::SIGKILL).await;
    let other = |seen: &pb::RedisMember| seen.reachable && !seen.loading && seen.replid != replid;
    let seen = rig.until(1, "it loads its append-only file", other).await;
    assert_eq!(seen.keys, 1);
    assert_eq!(seen.standing(), pb::Standing::Interrupted);
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_that_still_follows_saves_no_snapshot() {
    let mut rig = Rig::new(2);
    let granted = group(&rig, 1).await;
    confirm(&rig, 0, "a").await;
    rig.stop(1).await;
    let directory = rig.units[1].config.state_dir();
    assert!(!Store::read(&directory).unwrap().snapshot);
    rig.start(1);
    let seen = back(&rig).await;
    assert_ne!(seen.replid, granted.replid);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_were_not_followed_in_this_run_are_not_saved() {
    let (mut rig, replid) = let_go().await;
    rig.start(1);
    back(&rig).await;
    // it ends again before it was told to follow
    rig.stop(1).await;
    let directory = rig.units[1].config.state_dir();
    assert!(!Store::read(&directory).unwrap().snapshot);
    rig.start(1);
    assert_ne!(back(&rig).await.replid, replid);
    let request = admitting(&rig, grant(2, 0)).await;
    lead(&rig, 0, request).await.unwrap();
    follow(&rig, 1, 2, 0, &replid).await.unwrap();
    let synced = |seen: &pb::RedisMember| seen.standing() == pb::Standing::Synced;
    rig.until(1, "it has copied the data", synced).await;
}
