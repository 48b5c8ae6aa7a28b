//! Intents as patches against what the agent holds.

use super::*;

fn body(units: u64) -> String {
    format!("{{\"filler\":\"{}\",\"units\":{units}}}", "f".repeat(600))
}

fn intent(rev: u64, units: u64) -> Row {
    Row {
        text: "a".into(),
        rev,
        body: Body::Apply(Box::new(pb::Apply {
            rev,
            digest: vec![units as u8].into(),
            body: Some(pb::apply::Body::Json(body(units).into())),
            ..pb::Apply::default()
        })),
    }
}

/// A live session with an agent that can do so much.
fn with(capabilities: &[pb::Capability]) -> Session {
    let mut session = session();
    let hello = pb::Hello {
        capabilities: capabilities.iter().map(|c| (*c).into()).collect(),
        ..hello()
    };
    session.frame(0, up(agent_frame::Message::Hello(hello)));
    commands(&mut session);
    session.reply(0, Reply::Claimed(Box::new(claimed(0))));
    let sent = frames(&mut session);
    let Some(hub_frame::Message::Welcome(welcome)) = sent.first() else {
        panic!("{sent:?}")
    };
    let agreed = welcome.capabilities.contains(&pb::Capability::Patch.into());
    assert_eq!(agreed, capabilities.contains(&pb::Capability::Patch));
    ack(&mut session, 1);
    session
}

fn ack(session: &mut Session, dseq: u64) {
    let ack = pb::DesiredAck {
        dseq,
        durable_rev: 0,
    };
    session.frame(0, up(agent_frame::Message::DesiredAck(ack)));
    commands(session);
    session.reply(0, Reply::Committed(Committed::Received));
}

/// Sends a row; what went, and where it stands in the lane.
fn send(session: &mut Session, row: Row) -> (pb::apply::Body, u64) {
    let (text, rev) = (row.text.clone(), row.rev);
    session.wake(0);
    commands(session);
    session.reply(0, scanned(rev, &[(&text, rev)]));
    commands(session);
    session.reply(0, Reply::Fetched(vec![row]));
    last_apply(&frames(session))
}

fn last_apply(frames: &[hub_frame::Message]) -> (pb::apply::Body, u64) {
    frames
        .iter()
        .find_map(|f| match f {
            hub_frame::Message::Apply(apply) => Some((apply.body.clone().unwrap(), apply.dseq)),
            _ => None,
        })
        .unwrap()
}

fn is_full(body: &pb::apply::Body) -> bool {
    matches!(body, pb::apply::Body::Json(_))
}

#[test]
fn a_change_goes_as_a_patch_once_the_body_before_it_is_acknowledged() {
    let mut session = with(&[pb::Capability::Patch]);
    let (first, _) = send(&mut session, intent(1, 1));
    let (second, at) = send(&mut session, intent(2, 2));
    assert!(
        is_full(&first) && is_full(&second),
        "nothing is acknowledged"
    );
    ack(&mut session, at);
    let (third, _) = send(&mut session, intent(3, 3));
    let pb::apply::Body::Patch(patch) = third else {
        panic!("{third:?}")
    };
    assert_eq!(
        (&patch.base_digest[..], &patch.patch[..]),
        (&[2][..], &br#"{"units":3}"#[..])
    );
}

#[test]
fn an_agent_that_does_not_know_patches_gets_none() {
    let mut session = with(&[]);
    let (_, at) = send(&mut session, intent(1, 1));
    ack(&mut session, at);
    assert!(is_full(&send(&mut session, intent(2, 2)).0));
}

#[test]
fn an_agent_that_needs_a_body_gets_the_body_and_is_not_taken_to_hold_it_before() {
    let mut session = with(&[pb::Capability::Patch]);
    let (_, at) = send(&mut session, intent(1, 1));
    ack(&mut session, at);
    let (patch, at) = send(&mut session, intent(2, 2));
    assert!(!is_full(&patch));
    ack(&mut session, at);
    let need = pb::Need { rev: vec![2] };
    session.frame(0, up(agent_frame::Message::Need(need)));
    assert!(
        commands(&mut session)
            .iter()
            .any(|c| matches!(c, Command::FetchRevisions { revs, .. } if *revs == [2]))
    );
    // Another change comes first: against the body that the agent asks for nothing is patched.
    session.reply(0, Reply::Fetched(vec![intent(2, 2)]));
    let (answer, at) = last_apply(&frames(&mut session));
    assert!(is_full(&answer));
    assert!(
        is_full(&send(&mut session, intent(3, 3)).0),
        "not acknowledged"
    );
    ack(&mut session, at + 2);
    assert!(!is_full(&send(&mut session, intent(4, 4)).0));
}

#[test]
fn a_new_life_of_a_key_is_no_patch_of_the_old_one() {
    let mut session = with(&[pb::Capability::Patch]);
    let (_, at) = send(&mut session, intent(1, 1));
    ack(&mut session, at);
    session.wake(0);
    commands(&mut session);
    session.reply(0, scanned(2, &[("a", 2)]));
    commands(&mut session);
    let tombstone = Row {
        text: "a".into(),
        rev: 2,
        body: Body::Delete(Box::default()),
    };
    session.reply(0, Reply::Fetched(vec![tombstone]));
    frames(&mut session);
    ack(&mut session, at + 2);
    assert!(is_full(&send(&mut session, intent(3, 3)).0));
}
