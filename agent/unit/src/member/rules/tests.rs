use proptest::prelude::*;

use super::*;

fn info(run: &str, replid: &str, offset: i64) -> Info {
    Info {
        run_id: run.to_owned(),
        replid: replid.to_owned(),
        offset,
        ..Info::default()
    }
}

fn history(replid: &str) -> History {
    History {
        replid: replid.to_owned(),
        ..History::default()
    }
}

fn at_address(replid: &str, host: &str) -> History {
    History {
        host: host.to_owned(),
        port: 6379,
        ..history(replid)
    }
}

fn at(replid: &str, offset: i64) -> Elected {
    Elected {
        replid: replid.to_owned(),
        offset,
        ..Elected::default()
    }
}

/// A grant that tells of nobody else.
fn lead(
    record: &Record,
    epoch: i64,
    min_replicas: i32,
    elected: &Elected,
    leading: bool,
    info: &Info,
) -> Result<Record, Refusal> {
    let alone = BTreeSet::new();
    super::lead(record, epoch, min_replicas, elected, &alone, leading, info)
}

#[test]
fn refuses_everything_of_an_epoch_older_than_the_promise() {
    let record = promise(&Record::default(), 5).unwrap();
    let stale = Refusal::StaleEpoch {
        asked: 4,
        promised: 5,
    };
    assert_eq!(promise(&record, 4), Err(stale.clone()));
    assert_eq!(
        follow(&record, 4, &history("p"), &info("a", "x", 1)),
        Err(stale.clone())
    );
    assert_eq!(
        lead(&record, 4, 1, &Elected::default(), true, &info("a", "x", 1)),
        Err(stale.clone())
    );
    assert_eq!(holds(&record, 4, true), Err(stale));
}

#[test]
fn repeats_a_promise_but_never_promises_an_epoch_that_has_begun() {
    let record = promise(&Record::default(), 5).unwrap();
    assert_eq!(promise(&record, 5).unwrap(), record);
    let leading = lead(
        &record,
        5,
        1,
        &Elected::default(),
        false,
        &info("a", "x", 1),
    )
    .unwrap();
    assert_eq!(promise(&leading, 5), Err(Refusal::EpochBegun(5)));
    let following = follow(&record, 5, &history("p"), &info("a", "x", 1)).unwrap();
    assert_eq!(promise(&following, 5), Err(Refusal::EpochBegun(5)));
    assert!(promise(&leading, 6).is_ok());
}

#[test]
fn gives_a_restarted_primary_its_epoch_not_back() {
    let record = lead(
        &Record::default(),
        3,
        1,
        &Elected::default(),
        false,
        &info("run-1", "x", 1),
    )
    .unwrap();
    let again = |run: &str| {
        lead(
            &record,
            3,
            1,
            &Elected::default(),
            false,
            &info(run, "x", 1),
        )
    };
    assert!(again("run-1").is_ok());
    assert_eq!(again("run-2"), Err(Refusal::Restarted(3)));
    assert!(
        lead(
            &record,
            4,
            1,
            &Elected::default(),
            false,
            &info("run-2", "x", 1)
        )
        .is_ok()
    );
}

#[test]
fn grants_only_at_the_position_of_the_election() {
    let record = promise(&Record::default(), 2).unwrap();
    assert!(lead(&record, 2, 1, &at("x", 10), false, &info("a", "x", 10)).is_ok());
    let refused = lead(&record, 2, 1, &at("x", 10), false, &info("b", "fresh", 0)).unwrap_err();
    assert_eq!(refused.reason(), "POSITION_CHANGED");
    assert_eq!(
        lead(&record, 2, 1, &at("x", 10), false, &info("a", "x", 9))
            .unwrap_err()
            .reason(),
        "POSITION_CHANGED"
    );
    // a primary that goes on under a new epoch is where it is
    assert!(lead(&record, 2, 1, &at("x", 10), true, &info("a", "y", 99)).is_ok());
}

#[test]
fn has_one_role_per_epoch() {
    let leading = lead(
        &Record::default(),
        2,
        1,
        &Elected::default(),
        false,
        &info("a", "x", 1),
    )
    .unwrap();
    assert_eq!(
        follow(&leading, 2, &history("p"), &info("a", "x", 1))
            .unwrap_err()
            .reason(),
        "OTHER_ROLE"
    );
    let following = follow(&Record::default(), 2, &history("p"), &info("a", "x", 1)).unwrap();
    assert_eq!(
        lead(
            &following,
            2,
            1,
            &Elected::default(),
            false,
            &info("a", "x", 1)
        )
        .unwrap_err()
        .reason(),
        "OTHER_ROLE"
    );
}

#[test]
fn only_the_primary_of_the_newest_promise_pauses() {
    let record = lead(
        &Record::default(),
        2,
        1,
        &Elected::default(),
        false,
        &info("a", "x", 1),
    )
    .unwrap();
    assert_eq!(holds(&record, 2, true), Ok(1));
    assert_eq!(holds(&record, 2, false), Err(Refusal::NotPrimary(2)));
    assert_eq!(holds(&record, 3, true), Err(Refusal::NotPrimary(3)));
    let promised = promise(&record, 3).unwrap();
    assert_eq!(
        holds(&promised, 2, true).unwrap_err().reason(),
        "STALE_EPOCH"
    );
}

#[test]
fn tells_a_synchronized_replica_from_one_that_is_not() {
    let record = follow(
        &Record::default(),
        1,
        &history("p"),
        &info("run-1", "own", 0),
    )
    .unwrap();
    assert_eq!(
        standing(&record, &info("run-1", "own", 0)),
        Standing::Unsynced
    );
    assert_eq!(standing(&record, &info("run-1", "p", 50)), Standing::Synced);
    assert_eq!(
        standing(&record, &info("run-2", "p2", 0)),
        Standing::Interrupted
    );
}

#[test]
fn a_replica_that_misses_a_part_of_the_epochs_beginning_is_not_synchronized() {
    let begun = History {
        offset: 100,
        ..history("p")
    };
    let record = follow(&Record::default(), 2, &begun, &info("run-1", "before", 70)).unwrap();
    // a partial synchronization takes over the new id first
    assert_eq!(
        standing(&record, &info("run-1", "p", 70)),
        Standing::Unsynced
    );
    assert_eq!(
        standing(&record, &info("run-1", "p", 100)),
        Standing::Synced
    );
}

#[test]
fn remembers_an_interruption_until_the_next_synchronization() {
    let first = follow(
        &Record::default(),
        1,
        &history("p"),
        &info("run-1", "own", 0),
    )
    .unwrap();
    // restarted after it acknowledged, told again, not synchronized yet
    let second = follow(&first, 1, &history("p"), &info("run-2", "random", 0)).unwrap();
    assert_eq!(
        standing(&second, &info("run-2", "random", 0)),
        Standing::Interrupted
    );
    // even when told once more, or under a new epoch with the same primary
    let third = follow(&second, 1, &history("p"), &info("run-2", "random", 0)).unwrap();
    assert_eq!(
        standing(&third, &info("run-2", "random", 0)),
        Standing::Interrupted
    );
    let renewed = follow(&third, 2, &history("p"), &info("run-2", "random", 0)).unwrap();
    assert_eq!(
        standing(&renewed, &info("run-2", "random", 0)),
        Standing::Interrupted
    );
    assert_eq!(
        standing(&renewed, &info("run-2", "p", 80)),
        Standing::Synced
    );
    // a new primary's history starts from what was elected
    let other = follow(&renewed, 3, &history("q"), &info("run-2", "random", 0)).unwrap();
    assert_eq!(
        standing(&other, &info("run-2", "random", 0)),
        Standing::Unsynced
    );
}

#[test]
fn restart_after_a_silent_reconnect_is_an_interruption() {
    let before = at_address("p", "10.0.0.1");
    let first = follow(&Record::default(), 1, &before, &info("run-1", "own", 0)).unwrap();
    // the primary began a new history where it was; this server copied and acknowledged it before anybody told it to, and restarted
    let renewed = at_address("p2", "10.0.0.1");
    let second = follow(&first, 2, &renewed, &info("run-2", "random", 0)).unwrap();
    assert_eq!(
        standing(&second, &info("run-2", "random", 0)),
        Standing::Interrupted
    );
    assert_eq!(
        standing(&second, &info("run-2", "p2", 10)),
        Standing::Synced
    );
    // nothing was acknowledged to a primary elsewhere
    let elsewhere = at_address("p2", "10.0.0.2");
    let second = follow(&first, 2, &elsewhere, &info("run-2", "random", 0)).unwrap();
    assert_eq!(
        standing(&second, &info("run-2", "random", 0)),
        Standing::Unsynced
    );
}

#[test]
fn late_grant_is_refused_by_another_volume() {
    let record = Record {
        member_id: "new".to_owned(),
        ..Record::default()
    };
    let late = Elected {
        member_id: "old".to_owned(),
        ..Elected::default()
    };
    assert_eq!(
        lead(&record, 3, 1, &late, false, &info("run", "x", 0)),
        Err(Refusal::OtherVolume("old".to_owned()))
    );
}

proptest! {
    #[test]
    fn epochs_and_promises_only_grow(steps in prop::collection::vec((0..3_u8, 0..8_i64, any::<bool>()), 1..60)) {
        let mut record = Record::default();
        for (what, epoch, restarted) in steps {
            let info = info(if restarted { "b" } else { "a" }, "x", 1);
            let next = match what {
                0 => promise(&record, epoch),
                1 => follow(&record, epoch, &history("p"), &info),
                _ => lead(&record, epoch, 1, &Elected::default(), false, &info),
            };
            if let Ok(next) = next {
                prop_assert!(next.promised_epoch >= record.promised_epoch);
                let epoch_of = |record: &Record| record.grant.as_ref().map_or(0, |grant| grant.epoch);
                prop_assert!(epoch_of(&next) >= epoch_of(&record));
                prop_assert!(epoch_of(&next) <= next.promised_epoch);
                if let (Some(before), Some(after)) = (&record.grant, &next.grant) {
                    prop_assert!(before.epoch != after.epoch || before.role == after.role);
                }
                record = next;
            }
        }
    }
}
