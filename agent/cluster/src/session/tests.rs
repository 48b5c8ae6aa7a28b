//! The session as a state machine, by hand.

mod company;
mod expiry;
mod later;
mod patches;
mod restored;
mod status;
mod tombstones;

use prost::bytes::Bytes;
use upm_proto::{
    hub::v1::{self as pb, Outcome, agent_frame, hub_frame, welcome::Resume},
    ledger::{Entry, Root, content_digest, key_text, limits},
};

use super::{Action, Done, Facts, Lost, Observation, Persist, Session, Verdict, Work};

fn key(name: &str) -> pb::Key {
    pb::Key {
        group: "g".into(),
        version: "v1".into(),
        kind: "K".into(),
        namespace: "n".into(),
        name: name.into(),
    }
}

/// A session with its frames counted in the desired lane.
struct Hand {
    session: Session,
    dseq: u64,
    now: u64,
}

impl Hand {
    fn live(resume: Resume) -> Self {
        let mut hand = Self {
            session: Session::new(Facts::default(), 1, 0),
            dseq: 0,
            now: 0,
        };
        hand.connect(resume, 9);
        hand
    }

    fn connect(&mut self, resume: Resume, incarnation: u8) -> pb::Hello {
        self.connect_to(resume, incarnation, 1_000)
    }

    /// Connects to a hub whose ledger ends at `head_rev`.
    fn connect_to(&mut self, resume: Resume, incarnation: u8, head_rev: u64) -> pb::Hello {
        self.session.connect(self.now);
        self.dseq = 0;
        let Some(agent_frame::Message::Hello(hello)) = self.up().into_iter().next() else {
            panic!("no Hello")
        };
        self.down(hub_frame::Message::Welcome(pb::Welcome {
            proto: 1,
            session_epoch: 5,
            hub_incarnation: vec![incarnation; 16].into(),
            resume: resume.into(),
            head_rev,
            compacted_rev: 21,
            capabilities: hello.capabilities.clone(),
            status_root: hello.status_root.clone(),
            windows: Some(pb::Windows {
                status_messages: 10,
                status_bytes: 1 << 20,
                bulk_messages: 10,
                bulk_bytes: 1 << 20,
                ..pb::Windows::default()
            }),
            ..pb::Welcome::default()
        }));
        hello
    }

    fn down(&mut self, message: hub_frame::Message) {
        let frame = pb::HubFrame {
            message: Some(message),
            ..pb::HubFrame::default()
        };
        self.session.frame(self.now, frame);
    }

    fn up(&mut self) -> Vec<agent_frame::Message> {
        std::iter::from_fn(|| self.session.next_frame())
            .filter_map(|f| f.message)
            .collect()
    }

    fn apply(&mut self, name: &str, rev: u64, generation: u64) -> pb::Apply {
        self.apply_with(name, rev, generation, |_| {})
    }

    fn apply_with(
        &mut self,
        name: &str,
        rev: u64,
        generation: u64,
        change: impl FnOnce(&mut pb::Apply),
    ) -> pb::Apply {
        self.dseq += 1;
        let body = format!("{{\"generation\":{generation}}}");
        let mut apply = pb::Apply {
            rev,
            key: Some(key(name)),
            intent_uid: name.as_bytes().to_vec().into(),
            generation,
            digest: content_digest(body.as_bytes()).to_vec().into(),
            body: Some(pb::apply::Body::Json(body.into())),
            dseq: self.dseq,
            ..pb::Apply::default()
        };
        change(&mut apply);
        self.down(hub_frame::Message::Apply(apply.clone()));
        apply
    }

    fn delete(&mut self, name: &str, rev: u64, generation: u64) {
        self.dseq += 1;
        self.down(hub_frame::Message::Delete(pb::Delete {
            rev,
            key: Some(key(name)),
            intent_uid: name.as_bytes().to_vec().into(),
            generation,
            dseq: self.dseq,
            ..pb::Delete::default()
        }));
    }

    fn snapshot(&mut self, at_rev: u64, entries: &[&pb::Apply]) {
        self.dseq += 1;
        self.down(hub_frame::Message::SnapshotBegin(pb::SnapshotBegin {
            at_rev,
            count: entries.len() as u32,
            dseq: self.dseq,
            ..pb::SnapshotBegin::default()
        }));
        for apply in entries {
            self.dseq += 1;
            self.down(hub_frame::Message::SnapshotEntry(pb::SnapshotEntry {
                rev: apply.rev,
                key: apply.key.clone(),
                intent_uid: apply.intent_uid.clone(),
                generation: apply.generation,
                digest: apply.digest.clone(),
                dseq: self.dseq,
                ttl_seconds: apply.ttl_seconds,
            }));
        }
        self.dseq += 1;
        self.down(hub_frame::Message::SnapshotEnd(pb::SnapshotEnd {
            at_rev,
            desired_root: root(entries).to_bytes().to_vec().into(),
            dseq: self.dseq,
        }));
    }

    fn bookmark(&mut self, rev: u64, root: Root) {
        self.dseq += 1;
        self.down(hub_frame::Message::Bookmark(pb::Bookmark {
            dseq: self.dseq,
            rev,
            expected_root: root.to_bytes().to_vec().into(),
            complete: true,
        }));
    }

    fn work(&mut self) -> Vec<Work> {
        std::iter::from_fn(|| self.session.next_work(self.now)).collect()
    }

    fn end(&mut self, work: &Work, outcome: Outcome) {
        let (uid, generation) = work.intent();
        let done = Done {
            text: work.text().to_owned(),
            intent_uid: uid.to_vec(),
            generation,
            verdict: Verdict::Outcome(Box::new(pb::ApplyResult {
                outcome: outcome.into(),
                ..pb::ApplyResult::default()
            })),
            throttled: false,
        };
        self.session.done(self.now, done);
    }

    /// Does all work well and has the results acknowledged.
    fn settle(&mut self) {
        for work in self.work() {
            let outcome = match work {
                Work::Delete { .. } => Outcome::Deleted,
                _ => Outcome::Applied,
            };
            self.end(&work, outcome);
        }
        let last = results(&self.up()).last().map_or(0, |r| r.seq);
        self.down(hub_frame::Message::StatusAck(pb::StatusAck {
            upto_result_seq: last,
            ..pb::StatusAck::default()
        }));
    }

    fn lost(&mut self) -> Option<Lost> {
        while let Some(action) = self.session.next_action() {
            if let Action::Reconnect(lost) = action {
                return Some(lost);
            }
        }
        None
    }
}

fn root(entries: &[&pb::Apply]) -> Root {
    let mut root = Root::default();
    for apply in entries {
        root.add(Entry {
            key: apply.key.as_ref().unwrap(),
            intent_uid: &apply.intent_uid,
            generation: apply.generation,
            digest: &apply.digest,
        });
    }
    root
}

fn results(frames: &[agent_frame::Message]) -> Vec<pb::ApplyResult> {
    frames
        .iter()
        .filter_map(|f| match f {
            agent_frame::Message::Result(r) => Some(r.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn applies_reports_and_only_a_bookmark_moves_the_point_of_resume() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    let apply = hand.apply("a", 3, 1);
    assert_eq!(hand.session.received_rev(), 0);
    let work = hand.work();
    assert!(matches!(&work[..], [Work::Apply { attempt: 0, .. }]));
    hand.end(&work[0], Outcome::Applied);
    let sent = results(&hand.up());
    assert_eq!(
        (
            sent.len(),
            sent[0].outcome(),
            sent[0].generation,
            sent[0].seq
        ),
        (1, Outcome::Applied, 1, 1)
    );
    hand.bookmark(3, root(&[&apply]));
    assert_eq!(hand.session.received_rev(), 3);
    assert_eq!(hand.up(), [], "an ack may wait for company");
    hand.now += 50;
    hand.session.tick(hand.now);
    let sent = hand.up();
    assert!(
        matches!(&sent[..], [agent_frame::Message::DesiredAck(a)] if a.durable_rev == 0),
        "durable only when written"
    );
    hand.now = 600;
    let persist = hand.session.next_persist(hand.now).unwrap();
    assert_eq!(persist.received_rev, 3);
    hand.session.persisted(hand.now, &persist);
    hand.now += 50;
    hand.session.tick(hand.now);
    assert!(matches!(&hand.up()[..], [agent_frame::Message::DesiredAck(a)] if a.durable_rev == 3));
}

#[test]
fn finishes_a_running_generation_reports_it_superseded_and_starts_the_newer_one() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply("a", 1, 1);
    let first = hand.work();
    hand.apply("a", 2, 2);
    assert_eq!(hand.work(), [], "one piece of work per key");
    hand.end(&first[0], Outcome::Applied);
    let sent = results(&hand.up());
    assert_eq!(
        (sent[0].outcome(), sent[0].generation),
        (Outcome::Superseded, 1)
    );
    assert!(matches!(&hand.work()[..], [Work::Apply { apply, .. }] if apply.generation == 2));
}

#[test]
fn a_rejected_generation_is_latched_and_a_failing_one_is_tried_again_later() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply("a", 1, 1);
    hand.apply("b", 2, 1);
    let work = hand.work();
    hand.end(&work[0], Outcome::Rejected);
    hand.end(&work[1], Outcome::Transient);
    let sent = results(&hand.up());
    assert!(
        sent.iter()
            .any(|r| r.outcome() == Outcome::Transient && (500..=501).contains(&r.retry_in_ms))
    );
    assert_eq!(hand.session.pending(), (1, 1));
    hand.now = 400;
    hand.session.tick(hand.now);
    assert_eq!(hand.work(), []);
    hand.now = 14_000;
    hand.session.tick(hand.now);
    assert!(
        matches!(&hand.work()[..], [Work::Apply { attempt: 1, text, .. }] if text.ends_with("/b"))
    );
    hand.apply("a", 3, 2);
    assert_eq!(hand.work().len(), 1, "a newer generation opens the latch");
}

#[test]
fn works_on_no_more_keys_than_workers_and_backs_off_when_the_api_server_is_throttling() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    for i in 0..100 {
        hand.apply(&format!("k{i}"), i + 1, 1);
    }
    let work = hand.work();
    assert_eq!(work.len(), limits::APPLY_WORKERS as usize);
    for work in &work {
        let (uid, generation) = work.intent();
        let done = Done {
            text: work.text().into(),
            intent_uid: uid.to_vec(),
            generation,
            verdict: Verdict::Outcome(Box::new(pb::ApplyResult {
                outcome: Outcome::Transient.into(),
                ..pb::ApplyResult::default()
            })),
            throttled: true,
        };
        hand.session.done(hand.now, done);
    }
    assert_eq!(hand.work().len(), 1);
}

#[test]
fn a_later_wave_waits_for_the_earlier_one_of_its_scope() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    let scope = |wave| {
        move |apply: &mut pb::Apply| {
            apply.wave = wave;
            apply.wave_scope = "s".into();
        }
    };
    hand.apply_with("late", 1, 1, scope(1));
    hand.apply_with("early", 2, 1, scope(0));
    let work = hand.work();
    // What is ready is looked at in order; `late` finds `early` not settled.
    assert!(
        matches!(&work[..], [Work::Apply { text, .. }] if text.ends_with("/early")),
        "{work:?}"
    );
    let sent = results(&hand.up());
    hand.session.tick(hand.now);
    assert!(
        sent.iter()
            .all(|r| r.outcome() == Outcome::BlockedOnDependency)
    );
    hand.end(&work[0], Outcome::Applied);
    assert!(matches!(&hand.work()[..], [Work::Apply { text, .. }] if text.ends_with("/late")));
}

#[test]
fn what_was_not_acknowledged_is_reported_again_after_a_break() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    let apply = hand.apply("a", 1, 1);
    let work = hand.work();
    hand.end(&work[0], Outcome::Applied);
    hand.bookmark(1, root(&[&apply]));
    assert_eq!(results(&hand.up()).len(), 1);
    hand.session.disconnect(hand.now);
    let hello = hand.connect(Resume::Nothing, 9);
    assert_eq!(
        (hello.received_rev, &hello.desired_root[..]),
        (1, &root(&[&apply]).to_bytes()[..])
    );
    assert_eq!(results(&hand.up()).len(), 1);
    hand.down(hub_frame::Message::StatusAck(pb::StatusAck {
        upto_result_seq: 1,
        ..pb::StatusAck::default()
    }));
    hand.session.disconnect(hand.now);
    hand.connect(Resume::Nothing, 9);
    assert_eq!(results(&hand.up()), []);
}

#[test]
fn a_new_life_looks_before_it_asks_for_a_body() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    let apply = hand.apply("a", 4, 1);
    hand.bookmark(4, root(&[&apply]));
    let persist = hand.session.next_persist(hand.now).unwrap();
    let mut next = Hand {
        session: Session::new(Facts::default(), 2, 0),
        dseq: 0,
        now: 0,
    };
    next.session.load(persist);
    let hello = next.connect(Resume::Nothing, 9);
    assert_eq!((hello.received_rev, hello.durable_rev), (4, 4));
    let work = next.work();
    assert!(matches!(&work[..], [Work::Verify { generation: 1, .. }]));
    next.session.done(
        0,
        Done {
            text: key_text(&key("a")),
            intent_uid: b"a".to_vec(),
            generation: 1,
            verdict: Verdict::BodyNeeded,
            throttled: false,
        },
    );
    assert!(matches!(&next.up()[..], [agent_frame::Message::Need(n)] if n.rev == [4]));
    next.apply("a", 4, 1);
    assert!(matches!(&next.work()[..], [Work::Apply { .. }]));
}

#[test]
fn absence_deletes_only_what_a_verified_list_of_the_same_ledger_lacks_and_not_too_much() {
    let live = |count: u64| {
        let mut hand = Hand::live(Resume::Snapshot);
        hand.snapshot(0, &[]);
        let all = (0..count)
            .map(|i| hand.apply(&format!("k{i}"), i + 1, 1))
            .collect::<Vec<_>>();
        hand.settle();
        hand.bookmark(count, root(&all.iter().collect::<Vec<_>>()));
        hand.session.disconnect(hand.now);
        (hand, all)
    };
    let deletes = |hand: &mut Hand| {
        hand.work()
            .iter()
            .filter(|w| matches!(w, Work::Delete { .. }))
            .count()
    };
    // The same ledger, a few missing: pruned.
    let (mut hand, all) = live(30);
    hand.connect(Resume::Snapshot, 9);
    hand.snapshot(40, &all[5..].iter().collect::<Vec<_>>());
    assert_eq!((deletes(&mut hand), hand.session.held()), (5, 0));
    // The same ledger, too many missing: held.
    let (mut hand, all) = live(30);
    hand.connect(Resume::Snapshot, 9);
    hand.snapshot(40, &all[11..].iter().collect::<Vec<_>>());
    assert_eq!((deletes(&mut hand), hand.session.held()), (0, 11));
    // The same ledger, something missing whose tombstone the hub cannot have forgotten: held.
    let (mut hand, all) = live(30);
    hand.connect(Resume::Snapshot, 9);
    hand.snapshot(40, &all[..28].iter().collect::<Vec<_>>());
    assert_eq!((deletes(&mut hand), hand.session.held()), (0, 2));
    // A list that is older than what was sent beside it: neither deleted nor held.
    let (mut hand, all) = live(30);
    hand.connect(Resume::Snapshot, 9);
    hand.snapshot(29, &all[..29].iter().collect::<Vec<_>>());
    assert_eq!((deletes(&mut hand), hand.session.held()), (0, 0));
    assert_eq!(hand.session.desired().count(), 30);
    // Another ledger: held, until somebody confirms.
    let (mut hand, all) = live(3);
    hand.connect(Resume::Snapshot, 8);
    hand.snapshot(1, &all[1..].iter().collect::<Vec<_>>());
    assert_eq!((deletes(&mut hand), hand.session.held()), (0, 1));
    assert!(
        hand.up()
            .iter()
            .any(|f| matches!(f, agent_frame::Message::PruneHeld(h) if h.count == 1))
    );
    hand.down(hub_frame::Message::ConfirmPrune(pb::ConfirmPrune {
        at_rev: 1,
        keys: vec![key("k0")],
    }));
    assert_eq!((deletes(&mut hand), hand.session.held()), (1, 0));
}

#[test]
fn a_bookmark_that_does_not_match_makes_it_report_its_buckets_once() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply("a", 1, 1);
    hand.bookmark(1, Root::default());
    hand.bookmark(2, Root::default());
    let reports = hand
        .up()
        .into_iter()
        .filter(|f| matches!(f, agent_frame::Message::Buckets(_)))
        .count();
    assert_eq!(reports, 1);
}

#[test]
fn a_tombstone_is_kept_until_the_hub_knows_that_it_is_done() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply("a", 1, 1);
    hand.settle();
    hand.delete("a", 2, 2);
    assert_eq!(hand.session.desired().count(), 0);
    let work = hand.work();
    hand.end(&work[0], Outcome::Deleting);
    hand.up();
    // The watch says that it is gone: no need to wait for the next look.
    hand.session.observed(
        hand.now,
        key("a"),
        Observation {
            gone: true,
            ..Observation::default()
        },
    );
    let work = hand.work();
    assert!(matches!(&work[..], [Work::Delete { attempt: 1, .. }]));
    hand.end(&work[0], Outcome::Deleted);
    assert!(hand.session.revisions().contains_key(&key_text(&key("a"))));
    let seq = results(&hand.up()).last().unwrap().seq;
    hand.down(hub_frame::Message::StatusAck(pb::StatusAck {
        upto_result_seq: seq,
        ..pb::StatusAck::default()
    }));
    assert!(hand.session.revisions().is_empty());
}

#[test]
fn a_deleted_object_is_made_again_without_the_hub() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply("a", 1, 1);
    hand.settle();
    hand.session.disconnect(hand.now);
    hand.session.observed(
        hand.now,
        key("a"),
        Observation {
            gone: true,
            ..Observation::default()
        },
    );
    assert!(matches!(&hand.work()[..], [Work::Apply { .. }]));
}

#[test]
fn edited_object_is_compared_with_its_intent_after_a_moment() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply("a", 1, 1);
    hand.settle();
    let edited = || Observation {
        edited: true,
        ..seen(1, "1")
    };
    hand.session.observed(hand.now, key("a"), seen(1, "1"));
    hand.now += 2_000;
    hand.session.tick(hand.now);
    assert_eq!(hand.work(), [], "nobody edited it");
    hand.session.observed(hand.now, key("a"), edited());
    assert_eq!(hand.work(), [], "not at once: somebody may fight for it");
    hand.session.disconnect(hand.now);
    hand.now += 1_100;
    hand.session.tick(hand.now);
    assert!(
        matches!(&hand.work()[..], [Work::Apply { .. }]),
        "also while the hub is away"
    );
}

#[test]
fn edit_without_the_body_at_hand_asks_the_hub_for_it() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(0, &[]);
    hand.apply("a", 1, 1);
    hand.settle();
    let of = |generation| Observation {
        edited: true,
        ..seen(generation, "1")
    };
    hand.session.observed(hand.now, key("a"), of(2));
    hand.now += 2_000;
    hand.session.tick(hand.now);
    assert_eq!(hand.work(), []);
    hand.up();
    hand.session.forget_body(&key_text(&key("a")));
    hand.session.observed(hand.now, key("a"), of(1));
    hand.now += 2_000;
    hand.session.tick(hand.now);
    let asks = hand
        .up()
        .iter()
        .any(|message| matches!(message, agent_frame::Message::Need(_)));
    assert!(asks, "the hub has it");
}

#[test]
fn inventory_that_the_hub_has_is_not_sent_again() {
    let mut hand = Hand::live(Resume::Snapshot);
    let node = |body: &'static str| pb::WatchEvent {
        key: Some(key("node")),
        object: Bytes::from_static(body.as_bytes()),
        ..pb::WatchEvent::default()
    };
    let interest = |resume: &str| {
        hub_frame::Message::Interest(pb::Interest {
            add: vec![pb::Watch {
                watch_id: 6,
                inventory: true,
                resume_rv: resume.into(),
                ..pb::Watch::default()
            }],
            remove: Vec::new(),
        })
    };
    let batches = |frames: Vec<agent_frame::Message>| {
        frames
            .into_iter()
            .filter_map(|f| match f {
                agent_frame::Message::Watch(batch) => Some(batch),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    hand.down(interest(""));
    hand.session.inventory(hand.now, 6, vec![node("1")], true);
    let first = batches(hand.up());
    assert!(first.len() == 1 && first[0].resync && first[0].events.len() == 1);
    hand.session.inventory(hand.now, 6, vec![node("2")], false);
    assert_eq!(batches(hand.up()), [], "at most every few seconds");
    hand.now += 5_000;
    hand.session.tick(hand.now);
    let second = batches(hand.up());
    assert!(second.len() == 1 && !second[0].resync);
    hand.session.disconnect(hand.now);
    hand.connect(Resume::Snapshot, 9);
    hand.down(interest(&second[0].bookmark_rv));
    assert_eq!(batches(hand.up()), []);
}

#[test]
fn notices_a_dead_hub_a_gap_and_a_false_body() {
    let mut dead = Hand::live(Resume::Snapshot);
    dead.now = limits::DEAD_MS;
    dead.session.tick(dead.now);
    assert_eq!(dead.lost(), Some(Lost::Dead));
    let mut gap = Hand::live(Resume::Snapshot);
    gap.dseq = 3;
    gap.apply("a", 1, 1);
    assert!(matches!(gap.lost(), Some(Lost::Protocol(_))));
    let mut forged = Hand::live(Resume::Snapshot);
    forged.apply_with("a", 1, 1, |apply| apply.digest = vec![0; 32].into());
    assert!(matches!(forged.lost(), Some(Lost::Protocol(_))));
    assert_eq!(forged.work(), []);
}

#[test]
fn a_damaged_persist_is_not_said_to_be_durable() {
    let mut hand = Hand::live(Resume::Snapshot);
    hand.snapshot(7, &[]);
    hand.session.next_persist(hand.now).unwrap();
    // A write of an older ledger ends late.
    let late = Persist {
        incarnation: vec![1],
        received_rev: 99,
        ..Persist::default()
    };
    hand.session.persisted(hand.now, &late);
    assert!(
        !hand
            .up()
            .iter()
            .any(|f| matches!(f, agent_frame::Message::DesiredAck(a) if a.durable_rev > 0))
    );
}

proptest::proptest! {
    #[test]
    fn survives_any_frames(bytes in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..64), 0..40)) {
        let mut hand = Hand::live(Resume::Snapshot);
        for bytes in bytes {
            if let Ok(frame) = <pb::HubFrame as prost::Message>::decode(bytes.as_slice()) {
                hand.session.frame(0, frame);
            }
        }
        hand.up();
    }
}

fn seen(generation: u64, body: &'static str) -> Observation {
    Observation {
        intent_uid: b"a".to_vec(),
        intent_generation: generation,
        body: Bytes::from_static(body.as_bytes()),
        ..Observation::default()
    }
}

fn statuses(frames: &[agent_frame::Message]) -> Vec<pb::StatusUpdate> {
    frames
        .iter()
        .filter_map(|f| match f {
            agent_frame::Message::Status(batch) => Some(batch.updates.clone()),
            _ => None,
        })
        .flatten()
        .collect()
}
