//! The session as a state machine, by hand.

use upm_proto::{
    hub::v1::{self as pb, agent_frame, hub_frame, welcome::Resume},
    ledger::{Root, limits},
};

mod fresh;
mod level;
mod overtaking;
mod patches;

use super::{Body, Claim, Class, Close, Command, Committed, Reply, Row, Session, Settings};

fn session() -> Session {
    Session::new(
        Settings {
            replica: "r".into(),
            certificate_ends: u64::MAX,
            max_age: u64::MAX,
            wall_us: 0,
            reconnect_spread_ms: 200,
        },
        0,
    )
}

fn up(message: agent_frame::Message) -> pb::AgentFrame {
    pb::AgentFrame {
        message: Some(message),
        ..pb::AgentFrame::default()
    }
}

fn hello() -> pb::Hello {
    pb::Hello {
        proto_min: 1,
        proto_max: 1,
        hub_incarnation: vec![1; 16].into(),
        desired_root: vec![0; 16].into(),
        ..pb::Hello::default()
    }
}

fn frames(session: &mut Session) -> Vec<hub_frame::Message> {
    std::iter::from_fn(|| session.next_frame())
        .filter_map(|f| f.message)
        .collect()
}

fn commands(session: &mut Session) -> Vec<Command> {
    std::iter::from_fn(|| session.next_command()).collect()
}

fn claimed(head: u64) -> Claim {
    Claim {
        epoch: 7,
        incarnation: vec![1; 16],
        head_rev: head,
        ..Claim::default()
    }
}

/// A live session whose agent holds everything up to `head`.
fn live(head: u64) -> Session {
    let mut session = session();
    let hello = pb::Hello {
        received_rev: head,
        ..hello()
    };
    session.frame(0, up(agent_frame::Message::Hello(hello)));
    commands(&mut session);
    session.reply(0, Reply::Claimed(Box::new(claimed(head))));
    frames(&mut session);
    let ack = pb::DesiredAck {
        dseq: 1,
        durable_rev: head,
    };
    session.frame(0, up(agent_frame::Message::DesiredAck(ack)));
    commands(&mut session);
    session.reply(0, Reply::Committed(Committed::Received));
    session
}

fn row(name: &str, rev: u64) -> Row {
    Row {
        text: name.into(),
        rev,
        body: Body::Apply(Box::new(pb::Apply {
            rev,
            body: Some(pb::apply::Body::Json(vec![b'x'; 100].into())),
            ..pb::Apply::default()
        })),
    }
}

fn scanned(upto: u64, changed: &[(&str, u64)]) -> Reply {
    Reply::Scanned {
        upto,
        more: false,
        root: Root::default(),
        changed: changed
            .iter()
            .map(|(text, rev)| ((*text).to_owned(), *rev, Class::Normal))
            .collect(),
    }
}

fn bookmarks(frames: &[hub_frame::Message]) -> Vec<(u64, bool)> {
    frames
        .iter()
        .filter_map(|f| match f {
            hub_frame::Message::Bookmark(b) => Some((b.rev, b.complete)),
            _ => None,
        })
        .collect()
}

#[test]
fn decides_between_nothing_changes_and_everything() {
    let of = |hello: pb::Hello, claim: Claim| super::resume::decide(&hello, &claim);
    assert_eq!(of(hello(), claimed(0)), Resume::Nothing);
    assert_eq!(of(hello(), claimed(5)), Resume::Delta);
    let compacted = Claim {
        compacted_rev: 3,
        ..claimed(5)
    };
    assert_eq!(of(hello(), compacted), Resume::Snapshot);
    let other = Claim {
        incarnation: vec![2; 16],
        ..claimed(0)
    };
    assert_eq!(of(hello(), other), Resume::Snapshot);
    let ahead = pb::Hello {
        received_rev: 9,
        ..hello()
    };
    assert_eq!(of(ahead, claimed(5)), Resume::Snapshot);
    let differs = pb::Hello {
        desired_root: vec![9; 16].into(),
        ..hello()
    };
    assert_eq!(of(differs, claimed(0)), Resume::Delta);
    let nothing_known = pb::Hello {
        hub_incarnation: Vec::new().into(),
        ..hello()
    };
    assert_eq!(of(nothing_known, claimed(0)), Resume::Snapshot);
}

#[test]
fn an_unchanged_resume_is_three_frames() {
    let mut session = session();
    session.frame(0, up(agent_frame::Message::Hello(hello())));
    assert!(matches!(commands(&mut session)[..], [Command::Claim(_)]));
    session.reply(0, Reply::Claimed(Box::new(claimed(0))));
    let sent = frames(&mut session);
    assert!(matches!(
        sent[..],
        [
            hub_frame::Message::Welcome(_),
            hub_frame::Message::Interest(_),
            hub_frame::Message::Bookmark(_)
        ]
    ));
    assert_eq!(commands(&mut session), []);
}

#[test]
fn a_bookmark_never_covers_what_was_not_handed_over() {
    let mut session = live(0);
    session.wake(1);
    assert!(matches!(
        commands(&mut session)[..],
        [Command::Scan { after: 0 }]
    ));
    session.reply(1, scanned(2, &[("a", 1), ("b", 2)]));
    assert!(
        matches!(&commands(&mut session)[..], [Command::Fetch { keys, .. }] if keys.len() == 2)
    );
    session.tick(5_000);
    assert_eq!(
        bookmarks(&frames(&mut session)),
        [],
        "nothing was handed over yet"
    );
    // The store had room for the first body only; the other one was changed meanwhile.
    session.reply(5_000, Reply::Fetched(vec![row("a", 1)]));
    session.tick(6_001);
    assert_eq!(bookmarks(&frames(&mut session)), [(1, false)]);
    session.reply(6_001, Reply::Fetched(vec![row("b", 3)]));
    let sent = frames(&mut session);
    assert!(matches!(&sent[..], [hub_frame::Message::Apply(a)] if a.rev == 3));
    // Revision 3 was not seen by a scan: the bookmark waits for one.
    let given = commands(&mut session);
    assert!(given.contains(&Command::Scan { after: 2 }), "{given:?}");
    session.reply(6_002, scanned(3, &[("b", 3)]));
    assert_eq!(
        bookmarks(&frames(&mut session)),
        [(3, true)],
        "and it is not sent again"
    );
    assert!(
        !commands(&mut session)
            .iter()
            .any(|c| matches!(c, Command::Fetch { .. }))
    );
}

#[test]
fn sends_no_more_than_the_agent_granted() {
    let mut session = session();
    let windows = pb::Windows {
        desired_messages: 2,
        desired_bytes: 1_000_000,
        ..pb::Windows::default()
    };
    session.frame(
        0,
        up(agent_frame::Message::Hello(pb::Hello {
            windows: Some(windows),
            ..hello()
        })),
    );
    commands(&mut session);
    session.reply(0, Reply::Claimed(Box::new(claimed(3))));
    frames(&mut session);
    commands(&mut session);
    session.reply(0, scanned(3, &[("a", 1), ("b", 2), ("c", 3)]));
    commands(&mut session);
    session.reply(0, Reply::Fetched(vec![row("a", 1), row("b", 2)]));
    assert_eq!(frames(&mut session).len(), 2);
    assert_eq!(commands(&mut session), [], "no body is read without credit");
    session.frame(
        1,
        up(agent_frame::Message::DesiredAck(pb::DesiredAck {
            dseq: 1,
            durable_rev: 0,
        })),
    );
    assert!(matches!(&commands(&mut session)[..], [Command::Fetch { keys, .. }] if *keys == ["c"]));
}

#[test]
fn an_agent_that_does_not_acknowledge_is_wedged_and_a_silent_one_dead() {
    let mut session = live(0);
    session.wake(0);
    commands(&mut session);
    session.reply(0, scanned(1, &[("a", 1)]));
    commands(&mut session);
    session.reply(0, Reply::Fetched(vec![row("a", 1)]));
    for now in (5_000..30_000).step_by(5_000) {
        session.frame(
            now,
            up(agent_frame::Message::Heartbeat(pb::Heartbeat::default())),
        );
        session.tick(now);
        assert_eq!(session.closed(), None);
    }
    session.frame(
        30_000,
        up(agent_frame::Message::Heartbeat(pb::Heartbeat::default())),
    );
    session.tick(30_000);
    assert_eq!(session.closed(), Some(&Close::Wedged));
    let mut silent = live(0);
    silent.tick(limits::DEAD_MS - 1);
    assert_eq!(silent.closed(), None);
    silent.tick(limits::DEAD_MS);
    assert_eq!(silent.closed(), Some(&Close::Dead));
}

#[test]
fn acknowledges_only_what_is_committed() {
    let mut session = live(0);
    let result = |seq| {
        up(agent_frame::Message::Result(pb::ApplyResult {
            seq,
            key: Some(pb::Key {
                name: "a".into(),
                ..pb::Key::default()
            }),
            ..pb::ApplyResult::default()
        }))
    };
    session.frame(1, result(1));
    session.frame(1, result(2));
    assert_eq!(frames(&mut session), []);
    let given = commands(&mut session);
    assert!(
        matches!(&given[..], [Command::Results { upto: 1, .. }]),
        "one group at a time"
    );
    session.reply(2, Reply::Committed(Committed::Results(1)));
    assert_eq!(frames(&mut session), [], "an ack waits for company");
    session.tick(52);
    let sent = frames(&mut session);
    assert!(matches!(&sent[..], [hub_frame::Message::StatusAck(a)] if a.upto_result_seq == 1));
    assert!(matches!(
        &commands(&mut session)[..],
        [Command::Results { upto: 2, .. }]
    ));
}

#[test]
fn one_frame_acknowledges_result_and_status_and_half_of_the_credit_comes_back_at_once() {
    let mut session = live(0);
    session.reply(1, Reply::Committed(Committed::Results(3)));
    let statuses = |upto, messages| {
        Reply::Committed(Committed::Statuses {
            upto,
            resend: Vec::new(),
            credit: (messages, 10),
        })
    };
    session.reply(30, statuses(4, 1));
    assert_eq!(frames(&mut session), []);
    assert_eq!(session.deadline(), 51);
    session.tick(51);
    let sent = frames(&mut session);
    assert!(
        matches!(
            &sent[..],
            [hub_frame::Message::StatusAck(a), hub_frame::Message::Credit(c)]
                if (a.upto_result_seq, a.upto_seq, c.messages) == (3, 4, 1)
        ),
        "{sent:?}"
    );
    session.reply(60, statuses(600, limits::STATUS_MESSAGES / 2));
    assert_eq!(frames(&mut session).len(), 2);
}

#[test]
fn a_slow_store_grants_no_credit_and_a_greedy_agent_is_cut() {
    let mut session = live(0);
    let mut seq = 0;
    let batch = |seq: u64| {
        up(agent_frame::Message::Status(pb::StatusBatch {
            updates: vec![pb::StatusUpdate {
                seq,
                key: Some(pb::Key {
                    name: format!("k{}", seq % 3),
                    ..pb::Key::default()
                }),
                ..pb::StatusUpdate::default()
            }],
        }))
    };
    for _ in 0..limits::STATUS_MESSAGES {
        seq += 1;
        session.frame(1, batch(seq));
    }
    assert_eq!(session.closed(), None);
    assert!(
        !frames(&mut session)
            .iter()
            .any(|f| matches!(f, hub_frame::Message::Credit(_)))
    );
    let given = commands(&mut session);
    assert!(matches!(&given[..], [Command::Statuses { updates, .. }] if updates.len() == 1));
    session.frame(1, batch(seq + 1));
    assert_eq!(session.closed(), Some(&Close::Overrun));
    assert!(frames(&mut session).iter().any(
        |f| matches!(f, hub_frame::Message::Drain(d) if d.reason() == pb::drain::Reason::Overrun)
    ));
}

#[test]
fn a_fenced_session_says_so_and_does_nothing_more() {
    let mut session = live(0);
    session.wake(1);
    commands(&mut session);
    session.reply(1, Reply::Fenced);
    assert_eq!(session.closed(), Some(&Close::Fenced));
    assert!(
        matches!(&frames(&mut session)[..], [hub_frame::Message::Drain(d)] if d.reason() == pb::drain::Reason::Fenced)
    );
    session.wake(2);
    assert_eq!(commands(&mut session), []);
}

#[test]
fn refuses_what_is_no_protocol() {
    let mut first = session();
    first.frame(0, up(agent_frame::Message::Ping(pb::Ping { nonce: 1 })));
    assert!(matches!(first.closed(), Some(Close::Protocol(_))));
    let mut version = session();
    version.frame(
        0,
        up(agent_frame::Message::Hello(pb::Hello {
            proto_min: 2,
            proto_max: 3,
            ..hello()
        })),
    );
    assert_eq!(version.closed(), Some(&Close::VersionIncompatible));
    let mut ack = live(0);
    ack.frame(
        0,
        up(agent_frame::Message::DesiredAck(pb::DesiredAck {
            dseq: 99,
            durable_rev: 0,
        })),
    );
    assert!(matches!(ack.closed(), Some(Close::Protocol(_))));
    let mut unknown = live(0);
    unknown.frame(
        0,
        pb::AgentFrame {
            critical: true,
            ..pb::AgentFrame::default()
        },
    );
    assert!(
        matches!(&frames(&mut unknown)[..], [hub_frame::Message::Unsupported(u)] if u.was_critical)
    );
    assert_eq!(unknown.closed(), None, "the session lives");
}

#[test]
fn drains_with_a_spread_and_ends_at_goodbye() {
    let mut session = live(0);
    session.drain(10, pb::drain::Reason::Shutdown, 200, 5_000);
    assert!(
        matches!(&frames(&mut session)[..], [hub_frame::Message::Drain(d)] if d.spread_ms == 5_000)
    );
    session.frame(
        20,
        up(agent_frame::Message::Goodbye(pb::Goodbye::default())),
    );
    assert_eq!(session.closed(), Some(&Close::Goodbye));
    let mut deaf = live(0);
    deaf.drain(10, pb::drain::Reason::Shutdown, 0, 0);
    deaf.tick(5_010);
    assert_eq!(deaf.closed(), Some(&Close::Drained));
}

proptest::proptest! {
    /// Whatever frames come in whatever order: no panic, bounded queues.
    #[test]
    fn survives_any_frames(bytes in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..64), 0..40)) {
        let mut session = live(0);
        for (now, bytes) in bytes.iter().enumerate() {
            if let Ok(frame) = <pb::AgentFrame as prost::Message>::decode(bytes.as_slice()) {
                session.frame(now as u64, frame);
            }
        }
        proptest::prop_assert!(frames(&mut session).len() <= 2 * bytes.len() + 2);
    }
}

fn key(name: &str) -> pb::Key {
    pb::Key {
        kind: "K".into(),
        version: "v1".into(),
        name: name.into(),
        ..pb::Key::default()
    }
}

#[test]
fn an_agent_that_asks_and_does_not_read_the_answers_is_cut() {
    let mut session = live(0);
    for nonce in 0..=limits::CONTROL_FRAMES as u64 {
        session.frame(1, up(agent_frame::Message::Ping(pb::Ping { nonce })));
    }
    assert_eq!(session.closed(), Some(&Close::Overrun));
}

#[test]
fn what_a_guard_keeps_is_a_register_and_not_a_queue() {
    let mut session = live(0);
    for count in 1..=100 {
        session.frame(
            1,
            up(agent_frame::Message::PruneHeld(pb::PruneHeld {
                count,
                keys: vec![key("a")],
                ..pb::PruneHeld::default()
            })),
        );
    }
    let first = commands(&mut session);
    assert!(matches!(&first[..], [Command::PruneHeld(held)] if held.count == 1));
    session.reply(1, Reply::Committed(Committed::PruneHeld));
    let last = commands(&mut session);
    assert!(matches!(&last[..], [Command::PruneHeld(held)] if held.count == 100));
    assert_eq!(session.held(), [key("a")]);
}

#[test]
fn takes_only_inventory_that_it_asked_for() {
    let mut session = live(0);
    let watch_id = upm_proto::kinds::KINDS
        .iter()
        .filter_map(|kind| kind.watch)
        .find(|watch| watch.inventory)
        .unwrap()
        .id;
    let node = pb::Key {
        version: "v1".into(),
        kind: "Node".into(),
        name: "n1".into(),
        ..pb::Key::default()
    };
    let secret = pb::Key {
        kind: "Secret".into(),
        ..node.clone()
    };
    let batch = |watch_id| pb::WatchBatch {
        watch_id,
        events: [node.clone(), secret.clone()]
            .map(|key| pb::WatchEvent {
                key: Some(key),
                ..pb::WatchEvent::default()
            })
            .to_vec(),
        ..pb::WatchBatch::default()
    };
    session.frame(1, up(agent_frame::Message::Watch(batch(watch_id))));
    let committed = commands(&mut session);
    let [Command::Inventory { batch: kept, .. }] = &committed[..] else {
        panic!("{committed:?}")
    };
    assert_eq!(kept.events.len(), 1);
    session.frame(1, up(agent_frame::Message::Watch(batch(1))));
    assert!(matches!(session.closed(), Some(Close::Protocol(_))));
}

#[test]
fn a_list_that_is_older_than_what_was_sent_is_read_again_and_waits_for_bodies_under_way() {
    let mut session = live(3);
    session.wake(1);
    commands(&mut session);
    session.reply(1, scanned(4, &[("a", 4)]));
    assert!(matches!(
        &commands(&mut session)[..],
        [Command::Fetch { .. }]
    ));
    session.frame(
        1,
        up(agent_frame::Message::Buckets(pb::BucketReport {
            at_rev: 3,
            digests: vec![1; limits::BUCKETS * 16].into(),
        })),
    );
    assert_eq!(commands(&mut session), [], "a body is under way");
    session.reply(1, Reply::Fetched(vec![row("a", 5)]));
    assert!(commands(&mut session).contains(&Command::Index));
    let list = |at_rev| Reply::Indexed {
        at_rev,
        root: Root::default(),
        entries: Vec::new(),
        tombstones: Vec::new(),
    };
    session.reply(1, list(4));
    assert!(commands(&mut session).contains(&Command::Index));
    session.reply(1, list(5));
    assert!(!commands(&mut session).contains(&Command::Index));
}

#[test]
fn tombstones_that_are_not_settled_are_sent_with_every_connection() {
    let mut session = session();
    let hello = pb::Hello {
        received_rev: 9,
        ..hello()
    };
    session.frame(0, up(agent_frame::Message::Hello(hello)));
    commands(&mut session);
    let claim = Claim {
        tombstones: vec![("gone".into(), 4)],
        ..claimed(9)
    };
    session.reply(0, Reply::Claimed(Box::new(claim)));
    assert!(
        commands(&mut session)
            .iter()
            .any(|c| matches!(c, Command::Fetch { keys, .. } if *keys == ["gone"]))
    );
}

mod any {
    //! Frames that an agent could send, well-formed or not.

    use proptest::prelude::*;
    use prost::bytes::Bytes;
    use upm_proto::hub::v1::{self as pb, agent_frame::Message};

    fn any_key() -> impl Strategy<Value = Option<pb::Key>> {
        proptest::option::of("[a-z]{0,9}").prop_map(|name| {
            name.map(|name| pb::Key {
                kind: name.clone(),
                name,
                ..pb::Key::default()
            })
        })
    }

    fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
        (0..most).prop_map(|len| vec![7; len].into())
    }

    pub(super) fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            (any::<u64>(), any::<u64>()).prop_map(|(dseq, durable_rev)| Message::DesiredAck(
                pb::DesiredAck { dseq, durable_rev }
            )),
            (any_key(), 0u64..3000, any::<u64>()).prop_map(|(key, seq, generation)| {
                Message::Result(pb::ApplyResult {
                    key,
                    seq,
                    generation,
                    ..pb::ApplyResult::default()
                })
            }),
            proptest::collection::vec(any::<u64>(), 0..2000)
                .prop_map(|rev| Message::Need(pb::Need { rev })),
            bytes(8000)
                .prop_map(|digests| Message::Buckets(pb::BucketReport { at_rev: 0, digests })),
            (any_key(), any::<u64>(), bytes(60_000)).prop_map(|(key, seq, body)| {
                Message::Status(pb::StatusBatch {
                    updates: vec![pb::StatusUpdate {
                        key,
                        seq,
                        body: Some(pb::status_update::Body::Full(body)),
                        ..pb::StatusUpdate::default()
                    }],
                })
            }),
            (0u32..9, any_key(), bytes(60_000)).prop_map(|(watch_id, key, object)| {
                Message::Watch(pb::WatchBatch {
                    watch_id,
                    events: vec![pb::WatchEvent {
                        key,
                        object,
                        ..pb::WatchEvent::default()
                    }],
                    ..pb::WatchBatch::default()
                })
            }),
            (0i32..7, any::<u32>(), any::<u64>()).prop_map(|(lane, messages, bytes)| {
                Message::Credit(pb::Credit {
                    lane,
                    messages,
                    bytes,
                })
            }),
            any::<u64>().prop_map(|nonce| Message::Ping(pb::Ping { nonce })),
            bytes(9000).prop_map(|csr| Message::Csr(pb::CertRequest {
                csr,
                ..pb::CertRequest::default()
            })),
            any_key().prop_map(|key| Message::PruneHeld(pb::PruneHeld {
                keys: key.into_iter().collect(),
                ..pb::PruneHeld::default()
            })),
            (0u64..4, 0u32..3, any::<bool>(), bytes(70_000)).prop_map(|(id, index, last, data)| {
                Message::Fragment(pb::Fragment {
                    id,
                    index,
                    last,
                    lane: 3,
                    data,
                })
            }),
        ]
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Well-formed frames with any content: no panic, and what the session holds stays below the cap of a session.
    #[test]
    fn holds_no_more_than_its_cap_whatever_an_agent_sends(messages in proptest::collection::vec(any::message(), 0..300)) {
        let mut session = live(0);
        for message in messages {
            session.frame(1, up(message));
            proptest::prop_assert!(session.held_bytes() <= limits::SESSION_BYTES, "{}", session.held_bytes());
        }
    }
}
