//! What outlives an acknowledgement, and what is not carried into another ledger.

use super::{
    Hand, Observation, Outcome, Resume, agent_frame, hub_frame, key, key_text, pb, results, root,
};

#[test]
fn a_tombstone_that_is_worked_on_again_outlives_the_acknowledgement_of_its_first_result() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.delete("a", 1, 1);
    let work = hand.work();
    hand.end(&work[0], Outcome::Absent);
    let first = results(&hand.up()).last().unwrap().seq;
    // The watch lists the cluster before the hub's answer is here: it is looked at again, and that fails.
    let gone = Observation {
        gone: true,
        ..Observation::default()
    };
    hand.session.observed(hand.now, key("a"), gone);
    let work = hand.work();
    hand.end(&work[0], Outcome::Transient);
    hand.up();
    hand.down(hub_frame::Message::StatusAck(pb::StatusAck {
        upto_result_seq: first,
        ..pb::StatusAck::default()
    }));
    assert!(hand.session.revisions().contains_key(&key_text(&key("a"))));
    hand.now += 600;
    hand.session.tick(hand.now);
    let work = hand.work();
    hand.end(&work[0], Outcome::Absent);
    let last = results(&hand.up()).last().unwrap().seq;
    hand.down(hub_frame::Message::StatusAck(pb::StatusAck {
        upto_result_seq: last,
        ..pb::StatusAck::default()
    }));
    assert!(hand.session.revisions().is_empty());
}

#[test]
fn what_is_durable_of_one_ledger_is_not_claimed_in_another() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    let all = [hand.apply("a", 1, 1)];
    hand.settle();
    hand.bookmark(1, root(&all.iter().collect::<Vec<_>>()));
    hand.now += 1_000;
    let persist = hand.session.next_persist(hand.now).unwrap();
    hand.session.persisted(hand.now, &persist);
    hand.session.disconnect(hand.now);
    hand.connect(Resume::Snapshot, 8);
    hand.dseq += 1;
    hand.down(hub_frame::Message::SnapshotBegin(pb::SnapshotBegin {
        at_rev: 1,
        count: 1,
        dseq: hand.dseq,
        ..pb::SnapshotBegin::default()
    }));
    hand.now += 60;
    hand.session.tick(hand.now);
    let acks = hand
        .up()
        .into_iter()
        .filter_map(|frame| match frame {
            agent_frame::Message::DesiredAck(ack) => Some(ack.durable_rev),
            _ => None,
        })
        .collect::<Vec<_>>();
    assert_eq!(acks, [0]);
}
