//! Merge patches, both ways.

use upm_proto::ledger::merge_patch;

use super::{
    Bytes, Hand, Lost, Observation, Outcome, Resume, Work, agent_frame, content_digest, hub_frame,
    key, key_text, pb, statuses,
};

fn body(units: u64) -> String {
    format!("{{\"filler\":\"{}\",\"units\":{units}}}", "f".repeat(600))
}

fn full(apply: &mut pb::Apply) {
    let json = body(apply.generation);
    apply.digest = content_digest(json.as_bytes()).to_vec().into();
    apply.body = Some(pb::apply::Body::Json(json.into()));
}

/// The change from one generation to the one of the intent.
fn patch_from(generation: u64) -> impl Fn(&mut pb::Apply) {
    move |apply| {
        full(apply);
        let (before, after) = (body(generation), body(apply.generation));
        apply.body = Some(pb::apply::Body::Patch(pb::MergePatch {
            base_digest: content_digest(before.as_bytes()).to_vec().into(),
            patch: merge_patch(before.as_bytes(), after.as_bytes())
                .unwrap()
                .into(),
        }));
    }
}

fn applies(work: &[Work], units: u64) -> bool {
    matches!(work, [Work::Apply { apply, .. }] if apply.body == Some(pb::apply::Body::Json(body(units).into())))
}

#[test]
fn a_patch_against_the_body_that_is_held_makes_the_next_one() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply_with("a", 1, 1, full);
    hand.settle();
    hand.apply_with("a", 2, 2, patch_from(1));
    assert!(applies(&hand.work(), 2));
}

#[test]
fn a_patch_against_another_body_is_answered_by_need() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply_with("a", 1, 1, full);
    hand.settle();
    hand.apply_with("a", 3, 3, patch_from(2));
    let work = hand.work();
    assert!(
        matches!(&work[..], [Work::Verify { generation: 3, .. }]),
        "{work:?}"
    );
    let (uid, generation) = work[0].intent();
    hand.session.done(
        hand.now,
        super::Done {
            text: key_text(&key("a")),
            intent_uid: uid.to_vec(),
            generation,
            verdict: super::Verdict::BodyNeeded,
            throttled: false,
        },
    );
    let sent = hand.up();
    assert!(
        sent.iter()
            .any(|f| matches!(f, agent_frame::Message::Need(n) if n.rev == [3])),
        "{sent:?}"
    );
    assert_eq!(hand.work(), []);
    hand.apply_with("a", 3, 3, full);
    assert!(applies(&hand.work(), 3));
}

#[test]
fn a_patch_that_does_not_make_what_it_says_is_not_applied() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply_with("a", 1, 1, full);
    hand.settle();
    hand.apply_with("a", 2, 2, |apply| {
        patch_from(1)(apply);
        apply.digest = vec![7; 32].into();
    });
    assert!(matches!(&hand.work()[..], [Work::Verify { .. }]));
}

#[test]
fn a_patch_of_what_is_held_already_does_not_take_its_body() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply_with("a", 2, 2, full);
    let work = hand.work();
    hand.apply_with("a", 2, 2, patch_from(1));
    hand.end(&work[0], Outcome::Transient);
    hand.now = 60_000;
    hand.session.tick(hand.now);
    assert!(applies(&hand.work(), 2));
}

#[test]
fn a_patch_that_was_not_agreed_on_ends_the_connection() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.session.disconnect(0);
    hand.session.connect(0);
    hand.up();
    hand.dseq = 0;
    hand.down(hub_frame::Message::Welcome(pb::Welcome {
        proto: 1,
        session_epoch: 6,
        hub_incarnation: vec![9; 16].into(),
        resume: Resume::Delta.into(),
        ..pb::Welcome::default()
    }));
    hand.apply_with("a", 2, 2, patch_from(1));
    assert!(matches!(hand.lost(), Some(Lost::Protocol(_))));
}

fn seen(units: u64) -> Observation {
    Observation {
        intent_uid: b"a".to_vec(),
        intent_generation: 1,
        body: body(units).into(),
        ..Observation::default()
    }
}

fn tell(hand: &mut Hand, units: u64) -> pb::StatusUpdate {
    hand.session.observed(hand.now, key("a"), seen(units));
    hand.now += 1_100;
    hand.session.tick(hand.now);
    hand.down(hub_frame::Message::Pong(pb::Pong::default()));
    statuses(&hand.up()).pop().unwrap()
}

fn ack(hand: &mut Hand, upto_seq: u64, resend: &[Bytes]) {
    hand.down(hub_frame::Message::StatusAck(pb::StatusAck {
        upto_seq,
        resend_digest: resend.to_vec(),
        ..pb::StatusAck::default()
    }));
}

fn is_full(update: &pb::StatusUpdate) -> bool {
    matches!(update.body, Some(pb::status_update::Body::Full(_)))
}

#[test]
fn status_goes_as_a_patch_of_what_the_hub_has_acknowledged_in_this_session() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply("a", 1, 1);
    hand.settle();
    assert!(is_full(&tell(&mut hand, 1)));
    assert!(
        is_full(&tell(&mut hand, 2)),
        "the first is not acknowledged"
    );
    ack(&mut hand, 2, &[]);
    let third = tell(&mut hand, 3);
    let Some(pb::status_update::Body::Patch(patch)) = &third.body else {
        panic!("{third:?}")
    };
    assert_eq!(patch.base_digest, content_digest(body(2).as_bytes())[..]);
    assert_eq!(patch.patch, br#"{"units":3}"#[..]);
    ack(&mut hand, 3, &[]);
    hand.session.disconnect(hand.now);
    hand.connect(Resume::Nothing, 9);
    assert!(is_full(&tell(&mut hand, 4)), "another session, another hub");
}

#[test]
fn status_whose_base_the_hub_lacks_is_sent_in_full_with_all_its_edges() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply("a", 1, 1);
    hand.settle();
    tell(&mut hand, 1);
    ack(&mut hand, 1, &[]);
    let edge = pb::Transition {
        r#type: "Ready".into(),
        ..pb::Transition::default()
    };
    let bad = Observation {
        edges: vec![edge.clone()],
        ..seen(2)
    };
    hand.session.observed(hand.now, key("a"), bad);
    hand.now += 1_100;
    hand.session.tick(hand.now);
    hand.down(hub_frame::Message::Pong(pb::Pong::default()));
    let patch = statuses(&hand.up()).pop().unwrap();
    assert!(!is_full(&patch));
    ack(&mut hand, patch.seq, std::slice::from_ref(&patch.digest));
    hand.now += 1_100;
    hand.session.tick(hand.now);
    let again = statuses(&hand.up()).pop().unwrap();
    assert!(is_full(&again));
    assert_eq!((again.digest, again.edges), (patch.digest, vec![edge]));
}
