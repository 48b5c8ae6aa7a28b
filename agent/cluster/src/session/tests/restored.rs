//! A hub whose store was restored to an earlier state while its name, and the session's epoch, stayed the same.

use super::*;

fn reconnects(hand: &mut Hand) -> bool {
    std::iter::from_fn(|| hand.session.next_action())
        .any(|action| matches!(action, Action::Reconnect(Lost::Protocol(_))))
}

/// The agent has `a` at revision 8; the next session begins with a ledger that ends at `head_rev`.
fn after_a_restore(head_rev: u64) -> Hand {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply("a", 8, 1);
    hand.settle();
    hand.session.disconnect(hand.now);
    assert!(!reconnects(&mut hand));
    hand.connect_to(Resume::Delta, 9, head_rev);
    hand
}

/// The next session asks for everything, and what it does not list is kept.
fn lists_everything_and_keeps_what_it_lacks(mut hand: Hand) {
    hand.session.disconnect(hand.now);
    let hello = hand.connect_to(Resume::Snapshot, 9, 4);
    assert!(hello.hub_incarnation.is_empty());
    assert_eq!(hello.received_rev, 0);
    hand.snapshot(4, &[]);
    assert_eq!(hand.session.held(), 1);
    assert!(!hand.work().iter().any(|w| matches!(w, Work::Delete { .. })));
    // The same revisions mean something else now.
    hand.delete("a", 3, 2);
    assert!(!reconnects(&mut hand));
}

#[test]
fn a_ledger_that_ends_before_what_it_sent_lists_everything() {
    let mut hand = after_a_restore(4);
    assert!(reconnects(&mut hand));
    lists_everything_and_keeps_what_it_lacks(hand);
}

#[test]
fn a_ledger_that_contradicts_what_it_sent_lists_everything() {
    let mut hand = after_a_restore(9);
    assert!(!reconnects(&mut hand), "nothing shows yet");
    hand.delete("a", 4, 2);
    assert!(reconnects(&mut hand));
    lists_everything_and_keeps_what_it_lacks(hand);
}
