//! Time to live: what goes when the hub stays away, and comes back with it.

use super::{
    Facts, Hand, Outcome, Persist, Resume, Session, Work, agent_frame, hub_frame, key, key_text,
    pb, results, root,
};

const TTL_S: u32 = 60;
const TTL: u64 = 60_000;

/// `a` may live for a minute, `b` for ever; both are applied and the hub knows it.
fn both() -> (Hand, Vec<pb::Apply>) {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    let mortal = hand.apply_with("a", 1, 1, |apply| apply.ttl_seconds = TTL_S);
    let all = vec![mortal, hand.apply("b", 2, 1)];
    hand.settle();
    hand.bookmark(2, root(&all.iter().collect::<Vec<_>>()));
    (hand, all)
}

fn wait(hand: &mut Hand, until: u64) {
    hand.now = until;
    hand.session.tick(hand.now);
}

fn expires(work: &[Work]) -> bool {
    matches!(work, [Work::Delete { delete, expired: true, .. }] if delete.intent_uid == b"a"[..])
}

#[test]
fn goes_when_the_hub_was_away_for_so_long_and_not_before() {
    let (mut hand, _) = both();
    hand.now = 5_000;
    hand.down(hub_frame::Message::Pong(pb::Pong::default()));
    hand.session.disconnect(9_000);
    wait(&mut hand, 5_000 + TTL - 1);
    assert_eq!(hand.work(), [], "it counts from the last frame of the hub");
    let persist = hand.session.next_persist(hand.now).unwrap();
    hand.session.persisted(hand.now, &persist);
    assert!(hand.session.deadline() <= 5_000 + TTL);
    wait(&mut hand, 5_000 + TTL);
    let work = hand.work();
    assert!(expires(&work), "{work:?}");
    hand.end(&work[0], Outcome::Deleted);
    wait(&mut hand, 3_600_000);
    assert_eq!(hand.work(), [], "what carries no time to live stays");
}

#[test]
fn a_session_that_is_alive_never_lets_anything_expire() {
    let (mut hand, _) = both();
    for now in (5_000..300_000).step_by(5_000) {
        wait(&mut hand, now);
        hand.down(hub_frame::Message::Pong(pb::Pong::default()));
        hand.up();
    }
    assert_eq!(hand.work(), []);
}

#[test]
fn is_reported_expired_and_applied_again_when_the_hub_still_wants_it() {
    let (mut hand, all) = both();
    hand.session.disconnect(hand.now);
    wait(&mut hand, TTL);
    let work = hand.work();
    hand.end(&work[0], Outcome::Deleted);
    assert!(hand.session.revisions().contains_key(&key_text(&key("a"))));
    let hello = hand.connect(Resume::Nothing, 9);
    let wanted = root(&all.iter().collect::<Vec<_>>());
    assert_eq!(
        hello.desired_root,
        wanted.to_bytes()[..],
        "it is still in the copy"
    );
    let told = results(&hand.up());
    assert!(
        matches!(&told[..], [r] if r.outcome() == Outcome::Expired && r.generation == 1),
        "{told:?}"
    );
    assert_eq!(hand.work(), [], "the hub has not said yet that it wants it");
    hand.bookmark(2, wanted);
    let work = hand.work();
    assert!(matches!(&work[..], [Work::Apply { .. }]), "{work:?}");
    hand.end(&work[0], Outcome::Applied);
    let told = results(&hand.up());
    assert_eq!(told.last().unwrap().outcome(), Outcome::Applied);
}

#[test]
fn does_not_come_back_when_the_hub_has_deleted_it_meanwhile() {
    let (mut hand, all) = both();
    hand.session.disconnect(hand.now);
    wait(&mut hand, TTL);
    let work = hand.work();
    hand.end(&work[0], Outcome::Deleted);
    hand.connect(Resume::Delta, 9);
    hand.up();
    hand.delete("a", 3, 2);
    hand.bookmark(3, root(&[&all[1]]));
    let work = hand.work();
    assert!(matches!(&work[..], [Work::Delete { expired: false, .. }]));
    hand.end(&work[0], Outcome::Absent);
    assert_eq!(results(&hand.up())[0].outcome(), Outcome::Absent);
}

#[test]
fn a_removal_that_ends_after_the_hub_came_back_is_made_good() {
    let (mut hand, all) = both();
    hand.session.disconnect(hand.now);
    wait(&mut hand, TTL);
    let removal = hand.work();
    hand.connect(Resume::Nothing, 9);
    hand.bookmark(2, root(&all.iter().collect::<Vec<_>>()));
    assert_eq!(hand.work(), [], "one piece of work per key");
    hand.end(&removal[0], Outcome::Deleted);
    assert_eq!(results(&hand.up()), []);
    assert!(matches!(&hand.work()[..], [Work::Apply { .. }]));
}

#[test]
fn an_application_that_ends_after_the_time_has_run_out_is_taken_back() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply_with("a", 1, 1, |apply| apply.ttl_seconds = TTL_S);
    let slow = hand.work();
    hand.session.disconnect(hand.now);
    wait(&mut hand, TTL);
    assert_eq!(hand.work(), []);
    hand.end(&slow[0], Outcome::Applied);
    assert!(expires(&hand.work()));
}

/// The next process of the agent, that holds what the last one had written.
fn restarted(kept: &[Persist], silent_ms: Option<u64>) -> Hand {
    let mut head = kept.last().unwrap().clone();
    head.entries = kept.iter().flat_map(|p| p.entries.clone()).collect();
    head.silent_ms = silent_ms;
    let mut next = Hand {
        session: Session::new(Facts::default(), 2, 0),
        dseq: 0,
        now: 0,
    };
    next.session.load(head);
    next
}

/// Writes the durable copy whenever it is due up to a time.
fn written(hand: &mut Hand, until: u64) -> Vec<Persist> {
    let mut kept = Vec::new();
    while hand.now < until {
        hand.now += 500;
        hand.session.tick(hand.now);
        if let Some(persist) = hand.session.next_persist(hand.now) {
            hand.session.persisted(hand.now, &persist);
            kept.push(persist);
        }
    }
    kept
}

#[test]
fn a_restart_goes_on_with_the_silence_and_dials_before_it_removes() {
    let (mut hand, _) = both();
    let mut kept = written(&mut hand, 2_000);
    assert_eq!(kept.last().unwrap().silent_ms, None);
    hand.session.disconnect(hand.now);
    kept.extend(written(&mut hand, 50_000));
    let noted = kept.last().unwrap().silent_ms.unwrap();
    assert!((40_000..=50_000).contains(&noted), "{noted}");
    let mut next = restarted(&kept, Some(TTL + 5_000));
    next.work();
    wait(&mut next, 29_999);
    assert_eq!(next.work(), []);
    wait(&mut next, 30_000);
    assert!(expires(&next.work()));
    let mut early = restarted(&kept, Some(20_000));
    early.work();
    wait(&mut early, 39_999);
    assert_eq!(early.work(), []);
    wait(&mut early, 40_000);
    assert!(expires(&early.work()));
}

#[test]
fn the_end_of_a_silence_is_written_at_once() {
    let (mut hand, _) = both();
    hand.session.disconnect(hand.now);
    let kept = written(&mut hand, 30_000);
    assert!(kept.last().unwrap().silent_ms.is_some());
    hand.connect(Resume::Nothing, 9);
    let kept = written(&mut hand, 31_000);
    assert_eq!(kept.last().unwrap().silent_ms, None);
}

#[test]
fn a_silence_is_written_only_for_the_sake_of_what_may_expire() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    let all = [hand.apply("b", 1, 1)];
    hand.settle();
    hand.bookmark(1, root(&all.iter().collect::<Vec<_>>()));
    written(&mut hand, 2_000);
    hand.session.disconnect(hand.now);
    assert_eq!(written(&mut hand, 100_000), []);
}

#[test]
fn what_had_expired_before_a_restart_is_looked_after_and_reported_again() {
    let (mut hand, all) = both();
    let mut kept = written(&mut hand, 2_000);
    hand.session.disconnect(hand.now);
    kept.extend(written(&mut hand, TTL + 4_000));
    let mut next = restarted(&kept, Some(TTL + 4_000));
    let work = next.work();
    assert!(matches!(&work[..], [Work::Verify { .. }, ..]), "{work:?}");
    for work in &work {
        next.end(work, Outcome::Transient);
    }
    wait(&mut next, 30_000);
    let work = next.work();
    let removal = work.iter().find(|w| expires(std::slice::from_ref(w)));
    next.end(removal.unwrap(), Outcome::Absent);
    next.connect(Resume::Nothing, 9);
    assert_eq!(results(&next.up())[0].outcome(), Outcome::Expired);
    next.bookmark(2, root(&all.iter().collect::<Vec<_>>()));
    // Its body went with the process.
    let work = next.work();
    assert!(matches!(&work[..], [Work::Verify { .. }]), "{work:?}");
}

#[test]
fn a_removal_that_is_tried_again_waits_while_there_is_a_session() {
    let (mut hand, _) = both();
    hand.session.disconnect(hand.now);
    wait(&mut hand, TTL);
    let work = hand.work();
    hand.end(&work[0], Outcome::Transient);
    hand.connect(Resume::Nothing, 9);
    wait(&mut hand, TTL + 5_000);
    assert_eq!(
        hand.work(),
        [],
        "the hub has not said yet whether it wants it"
    );
    hand.session.disconnect(hand.now);
    let work = hand.work();
    assert!(
        !expires(&work),
        "and did not come to it: its time begins anew"
    );
    hand.end(&work[0], Outcome::Unchanged);
    wait(&mut hand, 2 * TTL);
    assert!(expires(&hand.work()));
}

#[test]
fn a_list_says_how_long_its_entries_may_live() {
    let mut hand = Hand::live(Resume::Snapshot);
    let mut wanted = pb::Apply {
        rev: 1,
        key: Some(key("a")),
        intent_uid: b"a".to_vec().into(),
        generation: 1,
        digest: vec![1; 32].into(),
        ..pb::Apply::default()
    };
    wanted.ttl_seconds = TTL_S;
    hand.snapshot(1, &[&wanted]);
    let work = hand.work();
    assert!(matches!(&work[..], [Work::Verify { .. }]));
    // The object carries the intent already: its body is never asked for.
    hand.end(&work[0], Outcome::Unchanged);
    assert!(
        !hand
            .up()
            .iter()
            .any(|f| matches!(f, agent_frame::Message::Need(_)))
    );
    hand.session.disconnect(hand.now);
    wait(&mut hand, TTL);
    assert!(expires(&hand.work()));
}
