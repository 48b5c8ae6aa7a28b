//! What may wait for a moment goes along with what may not.

use super::*;

#[test]
fn status_and_acks_go_along_with_a_result() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    let apply = hand.apply("a", 1, 1);
    hand.bookmark(1, root(&[&apply]));
    let work = hand.work();
    hand.session.observed(hand.now, key("a"), seen(1, "1"));
    assert_eq!(hand.up(), [], "nothing is in a hurry");
    hand.end(&work[0], Outcome::Applied);
    let sent = hand.up();
    assert!(
        matches!(
            &sent[..],
            [
                agent_frame::Message::DesiredAck(_),
                agent_frame::Message::Result(_),
                agent_frame::Message::Status(_),
            ]
        ),
        "{sent:?}"
    );
    hand.now += 100;
    hand.session.tick(hand.now);
    assert_eq!(hand.up(), [], "once");
}

#[test]
fn what_finds_no_company_goes_alone_after_a_moment() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    let first = hand.apply("a", 1, 1);
    hand.settle();
    hand.session.observed(hand.now, key("a"), seen(1, "1"));
    hand.now += 20;
    hand.session.tick(hand.now);
    assert_eq!(statuses(&hand.up()).len(), 1);
    let apply = hand.apply("b", 2, 1);
    hand.bookmark(2, root(&[&first, &apply]));
    hand.now += 49;
    hand.session.tick(hand.now);
    assert_eq!(hand.up(), []);
    hand.now += 1;
    hand.session.tick(hand.now);
    assert!(matches!(
        &hand.up()[..],
        [agent_frame::Message::DesiredAck(_)]
    ));
}
