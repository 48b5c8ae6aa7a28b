//! What is said of status, and when.

use super::*;

#[test]
fn status_goes_at_once_then_at_most_once_a_second_and_bad_news_do_not_wait() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply("a", 1, 1);
    hand.settle();
    hand.session.observed(hand.now, key("a"), seen(1, "1"));
    hand.now += 25;
    hand.session.tick(hand.now);
    assert_eq!(statuses(&hand.up()).len(), 1);
    for body in ["2", "3", "4"] {
        hand.session.observed(hand.now, key("a"), seen(1, body));
    }
    hand.now += 500;
    hand.session.tick(hand.now);
    assert_eq!(statuses(&hand.up()), []);
    hand.now += 600;
    hand.session.tick(hand.now);
    let sent = statuses(&hand.up());
    assert_eq!((sent.len(), sent[0].coalesced), (1, 2));
    assert_eq!(
        sent[0].body,
        Some(pb::status_update::Body::Full("4".into()))
    );
    hand.session.observed(
        hand.now,
        key("a"),
        Observation {
            urgent: true,
            ..seen(1, "5")
        },
    );
    assert_eq!(statuses(&hand.up()).len(), 1);
    hand.session.observed(hand.now, key("a"), seen(1, "5"));
    hand.now += 5_000;
    hand.session.tick(hand.now);
    assert_eq!(statuses(&hand.up()), [], "what is equal is not sent");
}

#[test]
fn acknowledged_status_is_not_sent_again_and_lost_status_is() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    let apply = hand.apply("a", 1, 1);
    hand.settle();
    hand.bookmark(1, root(&[&apply]));
    hand.session.observed(hand.now, key("a"), seen(1, "1"));
    hand.now += 25;
    hand.session.tick(hand.now);
    assert_eq!(statuses(&hand.up()).len(), 1);
    hand.session.disconnect(hand.now);
    hand.connect(Resume::Nothing, 9);
    // The pace of a key outlives the connection.
    hand.now += 1_100;
    hand.session.tick(hand.now);
    let again = statuses(&hand.up());
    assert_eq!((again.len(), again[0].seq), (1, 1));
    hand.down(hub_frame::Message::StatusAck(pb::StatusAck {
        upto_seq: 1,
        ..pb::StatusAck::default()
    }));
    hand.session.disconnect(hand.now);
    let hello = hand.connect(Resume::Nothing, 9);
    assert_ne!(hello.status_root, vec![0; 16]);
    hand.now += 5_000;
    hand.session.tick(hand.now);
    assert_eq!(statuses(&hand.up()), []);
}

#[test]
fn status_without_credit_waits_and_merges() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply("a", 1, 1);
    hand.settle();
    let mut sent = 0;
    for i in 0..40u64 {
        let body: &'static str = Box::leak(i.to_string().into_boxed_str());
        hand.session.observed(hand.now, key("a"), seen(1, body));
        hand.now += 1_100;
        hand.session.tick(hand.now);
        // The hub lives; it only does not grant anything.
        hand.down(hub_frame::Message::Pong(pb::Pong::default()));
        sent += statuses(&hand.up()).len();
    }
    assert_eq!(sent, 10, "the window of Welcome");
    hand.down(hub_frame::Message::Credit(pb::Credit {
        lane: pb::Lane::Status.into(),
        messages: 1,
        bytes: 1 << 20,
    }));
    let last = statuses(&hand.up());
    assert_eq!(
        last[0].body,
        Some(pb::status_update::Body::Full("39".into()))
    );
}
