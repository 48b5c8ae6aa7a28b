//! What writers commit reaches the session without a look into the store, and what does not fit is looked up.

use super::*;
use crate::session::Fresh;

fn fresh(after: u64, rows: &[(&str, u64)]) -> Fresh {
    Fresh {
        epoch: 7,
        after,
        head: rows.last().map_or(after, |(_, rev)| *rev),
        root: Root::default(),
        rows: rows
            .iter()
            .map(|(name, rev)| (Class::Normal, row(name, *rev)))
            .collect(),
    }
}

fn applied(frames: &[hub_frame::Message]) -> Vec<u64> {
    frames
        .iter()
        .filter_map(|f| match f {
            hub_frame::Message::Apply(apply) => Some(apply.rev),
            _ => None,
        })
        .collect()
}

#[test]
fn what_was_just_committed_is_sent_without_asking_the_store() {
    let mut session = live(5);
    session.fresh(1, fresh(5, &[("a", 6), ("b", 7)]));
    assert_eq!(commands(&mut session), []);
    let sent = frames(&mut session);
    assert_eq!(applied(&sent), [6, 7]);
    assert_eq!(bookmarks(&sent), [(7, true)]);
    assert_eq!(session.scanned_rev(), 7);
}

#[test]
fn what_comes_out_of_order_or_for_another_epoch_is_looked_up() {
    for late in [
        fresh(8, &[("a", 9)]),
        Fresh {
            epoch: 8,
            ..fresh(5, &[("a", 6)])
        },
    ] {
        let mut session = live(5);
        session.fresh(1, late);
        assert_eq!(commands(&mut session), [Command::Scan { after: 5 }]);
        assert!(applied(&frames(&mut session)).is_empty());
    }
}

#[test]
fn what_comes_twice_is_sent_once_and_asks_nothing() {
    let mut session = live(5);
    session.fresh(1, fresh(5, &[("a", 6)]));
    assert_eq!(applied(&frames(&mut session)), [6]);
    session.fresh(2, fresh(5, &[("a", 6)]));
    assert!(applied(&frames(&mut session)).is_empty());
    assert_eq!(commands(&mut session), []);
}

#[test]
fn what_comes_beside_a_scan_is_left_to_the_scan() {
    let mut session = live(5);
    session.wake(1);
    assert_eq!(commands(&mut session), [Command::Scan { after: 5 }]);
    session.fresh(2, fresh(5, &[("a", 6)]));
    assert!(applied(&frames(&mut session)).is_empty());
    // The scan was made before the commit, so another one is.
    session.reply(3, scanned(5, &[]));
    assert_eq!(commands(&mut session), [Command::Scan { after: 5 }]);
}

#[test]
fn what_was_just_committed_waits_for_credit_like_everything_else() {
    let mut session = session();
    let hello = pb::Hello {
        windows: Some(pb::Windows {
            desired_messages: 1,
            desired_bytes: 1_000_000,
            ..pb::Windows::default()
        }),
        ..hello()
    };
    session.frame(0, up(agent_frame::Message::Hello(hello)));
    commands(&mut session);
    session.reply(0, Reply::Claimed(Box::new(claimed(0))));
    frames(&mut session);
    // The bookmark of the resume has taken the only message that was granted.
    session.fresh(1, fresh(0, &[("a", 1)]));
    assert!(applied(&frames(&mut session)).is_empty());
    let ack = pb::DesiredAck {
        dseq: 1,
        durable_rev: 0,
    };
    session.frame(2, up(agent_frame::Message::DesiredAck(ack)));
    let asked = commands(&mut session);
    assert!(
        matches!(&asked[..], [Command::Fetch { keys, .. }] if keys == &["a"]),
        "{asked:?}"
    );
}

#[test]
fn the_store_learns_late_what_the_agent_holds_and_at_once_when_it_is_written_anyway() {
    let mut session = live(5);
    let ack = |session: &mut Session, now, dseq, durable_rev| {
        let ack = pb::DesiredAck { dseq, durable_rev };
        session.frame(now, up(agent_frame::Message::DesiredAck(ack)));
    };
    session.tick(3_000);
    commands(&mut session);
    session.reply(3_000, Reply::Committed(Committed::Received));
    session.fresh(3_000, fresh(5, &[("a", 6)]));
    frames(&mut session);
    ack(&mut session, 3_100, 3, 6);
    assert_eq!(commands(&mut session), []);
    assert!(session.deadline() <= 5_100);
    session.tick(5_100);
    let received = Command::Received {
        received: 6,
        durable: 6,
    };
    assert_eq!(commands(&mut session), [received]);
    session.reply(5_200, Reply::Committed(Committed::Received));
    session.fresh(5_200, fresh(6, &[("a", 7)]));
    frames(&mut session);
    ack(&mut session, 5_300, 5, 7);
    assert_eq!(commands(&mut session), []);
    let result = pb::ApplyResult {
        seq: 1,
        key: Some(pb::Key::default()),
        ..pb::ApplyResult::default()
    };
    session.frame(5_400, up(agent_frame::Message::Result(result)));
    let written = commands(&mut session);
    assert!(
        matches!(
            &written[..],
            [Command::Results { .. }, Command::Received { .. }]
        ),
        "{written:?}"
    );
}
