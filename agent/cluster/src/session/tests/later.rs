//! What a later version says.

use prost::Message as _;

use super::{Hand, Resume, agent_frame, hub_frame, pb};

/// I16.
#[test]
fn a_frame_of_a_later_version_is_answered_and_the_session_lives() {
    // Field 29, which no message of the stream has yet, with and without `critical`.
    for critical in [true, false] {
        let mut bytes = vec![0xea, 0x01, 0x03, 1, 2, 3];
        if critical {
            bytes.extend([0xf0, 0x01, 0x01]);
        }
        let frame = pb::HubFrame::decode(bytes.as_slice()).unwrap();
        assert_eq!((frame.message.is_none(), frame.critical), (true, critical));
        let mut hand = Hand::live(Resume::Snapshot);
        hand.session.frame(hand.now, frame);
        let told = hand.up();
        if critical {
            assert!(matches!(&told[..], [agent_frame::Message::Unsupported(u)] if u.was_critical));
        } else {
            assert_eq!(told, []);
        }
        hand.down(hub_frame::Message::Ping(pb::Ping { nonce: 1 }));
        assert!(matches!(&hand.up()[..], [agent_frame::Message::Pong(_)]));
        assert_eq!(hand.lost(), None);
    }
}
