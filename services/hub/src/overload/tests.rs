use std::sync::Arc;

use tokio::sync::mpsc;
use upm_proto::hub::v1::drain::Reason;

use super::*;
use crate::{
    Config,
    commit::tests::World,
    drive::Certificate,
    hub::{Control, Live},
};

fn commit(seconds: u64) -> Readings {
    Readings {
        commit: Duration::from_secs(seconds),
        ..Readings::default()
    }
}

#[test]
fn goes_up_a_step_with_each_reading_and_down_a_step_after_calm() {
    let mut judge = Judge::default();
    assert_eq!(judge.hear(commit(0)), Level::Green);
    assert_eq!(judge.hear(commit(20)), Level::Yellow, "it may be one pause");
    assert_eq!(judge.hear(commit(20)), Level::Red);
    for _ in 1..HOLD {
        assert_eq!(judge.hear(commit(0)), Level::Red);
    }
    assert_eq!(judge.hear(commit(0)), Level::Yellow);
    for _ in 1..HOLD {
        assert_eq!(judge.hear(commit(0)), Level::Yellow);
    }
    assert_eq!(judge.hear(commit(0)), Level::Green);
}

#[test]
fn one_bad_reading_among_calm_ones_keeps_the_level() {
    let mut judge = Judge::default();
    judge.hear(commit(20));
    judge.hear(commit(20));
    for round in 0..100 {
        let seconds = if round % 5 == 4 { 9 } else { 0 };
        assert_eq!(judge.hear(commit(seconds)), Level::Red);
    }
}

#[test]
fn each_of_lag_commits_and_memory_is_enough() {
    let lag = |ms| Readings {
        lag: Duration::from_millis(ms),
        ..Readings::default()
    };
    let memory = |part| Readings {
        memory: part,
        ..Readings::default()
    };
    for (readings, level) in [
        (lag(50), Level::Green),
        (lag(150), Level::Yellow),
        (lag(1_500), Level::Red),
        (memory(0.5), Level::Green),
        (memory(0.8), Level::Yellow),
        (memory(0.95), Level::Red),
    ] {
        let mut judge = Judge::default();
        judge.hear(readings);
        assert_eq!(judge.hear(readings), level, "{readings:?}");
    }
}

#[test]
fn who_is_refused_gets_a_slot_within_the_time_that_the_backlog_takes() {
    let admission = Admission::new(100.0);
    let now = Instant::now();
    for _ in 0..100 {
        assert_eq!(admission.enter(now, false, 0.5), Ok(()));
    }
    for n in 1..=1_000 {
        let slot = admission.enter(now, false, 1.0).unwrap_err();
        let backlog = Duration::from_secs_f64((f64::from(n) / 100.0).max(1.0));
        assert_eq!(slot, LEAST_SLOT + backlog);
        assert!(admission.enter(now, false, 0.0).unwrap_err() >= LEAST_SLOT);
        // The second one of each round is owed a turn as well.
        admission.state.lock().unwrap().owed -= 1.0;
    }
    let later = now + Duration::from_millis(100);
    for _ in 0..10 {
        assert_eq!(admission.enter(later, false, 0.5), Ok(()));
    }
    assert!(admission.enter(later, false, 0.5).is_err());
}

#[test]
fn while_it_is_closed_nobody_enters_and_the_slots_grow() {
    let admission = Admission::new(1_000.0);
    let now = Instant::now();
    let first = admission.enter(now, true, 1.0).unwrap_err();
    for _ in 0..10_000 {
        assert!(admission.enter(now, true, 0.5).is_err());
    }
    let last = admission.enter(now, true, 1.0).unwrap_err();
    assert!(last > first + Duration::from_secs(8), "{first:?} {last:?}");
    assert_eq!(admission.enter(now, false, 0.5), Ok(()));
}

proptest::proptest! {
    #[test]
    fn no_more_sessions_begin_than_the_rate_allows(rate in 1u32..2_000, dials in proptest::collection::vec(0u64..50, 1..400)) {
        let admission = Admission::new(f64::from(rate));
        let begin = Instant::now();
        let mut now = begin;
        let mut entered = 0u32;
        for pause in dials {
            now += Duration::from_millis(pause);
            entered += u32::from(admission.enter(now, false, 0.5).is_ok());
        }
        let most = f64::from(rate) * (1.0 + now.duration_since(begin).as_secs_f64()) + 1.0;
        proptest::prop_assert!(f64::from(entered) <= most);
    }
}

#[tokio::test]
async fn with_too_little_memory_nobody_new_comes_in_and_the_newest_are_asked_to_go() {
    let config = Config {
        memory_mib: 1,
        ..Config::default()
    };
    let world = World::new(config).await;
    let mut controls = Vec::new();
    for n in 0..3 {
        let (control, heard) = mpsc::channel(4);
        let session = Live {
            epoch: 1,
            since: Instant::now() + Duration::from_millis(n),
            shared: Arc::default(),
            control,
            certificate: Arc::new(Certificate {
                fingerprint: String::new(),
                serial: String::new(),
                expire_us: 0,
                chain: upm_mesh::identity::PeerCertificates(Arc::default()),
            }),
        };
        world.hub.register(&format!("a{n}"), session);
        controls.push(heard);
    }
    let newest = controls.last_mut().unwrap();
    let heard = tokio::time::timeout(Duration::from_mins(2), newest.recv()).await;
    assert!(
        matches!(heard, Ok(Some(Control::Drain(Reason::Rebalance, AWAY_MS)))),
        "{heard:?}"
    );
    assert_eq!(world.hub.inner.overload.level(), Level::Red);
    let slot = world.hub.inner.overload.enter().unwrap_err();
    assert!(slot >= LEAST_SLOT, "{slot:?}");
    // A hundredth per second of three is one with each reading, and never the oldest first.
    assert!(controls[0].try_recv().is_err());
}

#[tokio::test]
async fn a_store_that_is_away_keeps_new_sessions_out_and_the_live_ones_in() {
    let overload = Overload::new(100);
    assert_eq!(overload.commit_lag(), Duration::ZERO);
    overload.committing(true);
    overload.committing(true);
    let readings = Readings {
        commit: Duration::from_secs(60),
        ..Readings::default()
    };
    let mut judge = Judge::default();
    judge.hear(readings);
    assert_eq!(judge.hear(readings), Level::Red);
    assert!(
        readings.of_memory().share(Level::Red) < 1.0,
        "nobody is asked to go"
    );
    overload.committing(false);
    assert_eq!(overload.commit_lag(), Duration::ZERO);
}
