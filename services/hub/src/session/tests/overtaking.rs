//! What overtakes what.

use super::*;

/// I8: at ten times what the window takes, an answer to a ping is the next frame that leaves.
#[test]
fn a_pong_never_waits_behind_a_body() {
    let mut session = live(0);
    let large = |n: u64| Row {
        text: format!("k{n}"),
        rev: n,
        body: Body::Apply(Box::new(pb::Apply {
            rev: n,
            body: Some(pb::apply::Body::Json(vec![b'x'; 1024 * 1024].into())),
            ..pb::Apply::default()
        })),
    };
    session.wake(1);
    commands(&mut session);
    let changed = (1..=20).map(|n| (format!("k{n}"), n, Class::Normal));
    session.reply(
        1,
        Reply::Scanned {
            upto: 20,
            more: false,
            root: Root::default(),
            changed: changed.collect(),
        },
    );
    commands(&mut session);
    session.reply(1, Reply::Fetched((1..=2).map(large).collect()));
    let mut fragments = 0;
    while let Some(frame) = session.next_frame() {
        fragments += u32::from(matches!(
            frame.message,
            Some(hub_frame::Message::Fragment(_))
        ));
        session.frame(2, up(agent_frame::Message::Ping(pb::Ping { nonce: 7 })));
        let next = session.next_frame().and_then(|f| f.message);
        assert!(
            matches!(&next, Some(hub_frame::Message::Pong(pong)) if pong.nonce == 7),
            "{next:?}"
        );
    }
    assert!(fragments > 30, "{fragments}");
}

/// I16: what a later version says and this one does not know is answered, critical or not, and the session goes on.
#[test]
fn a_frame_of_a_later_version_is_answered_and_the_session_lives() {
    use prost::Message as _;
    // Field 29, which no message of the stream has yet, with and without `critical`.
    for critical in [true, false] {
        let mut bytes = vec![0xea, 0x01, 0x03, 1, 2, 3];
        if critical {
            bytes.extend([0xf0, 0x01, 0x01]);
        }
        let frame = pb::AgentFrame::decode(bytes.as_slice()).unwrap();
        assert_eq!((frame.message.is_none(), frame.critical), (true, critical));
        let mut session = live(0);
        session.frame(1, frame);
        let told = frames(&mut session);
        if critical {
            assert!(matches!(&told[..], [hub_frame::Message::Unsupported(u)] if u.was_critical));
        } else {
            assert_eq!(told, []);
        }
        assert_eq!(session.closed(), None);
        session.frame(2, up(agent_frame::Message::Ping(pb::Ping { nonce: 1 })));
        assert!(matches!(
            &frames(&mut session)[..],
            [hub_frame::Message::Pong(_)]
        ));
    }
}
