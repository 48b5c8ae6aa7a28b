//! Damaged frames: recorded sessions with bytes changed, cut and doubled on their way. Whatever comes of it, nobody panics, and the end
//! after an undamaged session is the right one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use prost::Message as _;
use upm_hub::session::Session as Hub;
use upm_proto::{hub::v1 as pb, ledger::limits};

use super::{
    HubSide, all,
    line::{Line, Step},
    replay::AgentSide,
};
use crate::simulation;

/// What happens to a frame: which one, where, and what.
#[derive(Debug, Clone)]
struct Damage {
    frame: prop::sample::Index,
    place: prop::sample::Index,
    how: How,
}

#[derive(Debug, Clone)]
enum How {
    Change(u8),
    Cut,
    Insert(Vec<u8>),
    Twice,
    Drop,
}

fn damage() -> impl Strategy<Value = Damage> {
    let how = prop_oneof![
        6 => (1u8..).prop_map(How::Change),
        1 => Just(How::Cut),
        2 => prop::collection::vec(any::<u8>(), 1..12).prop_map(How::Insert),
        1 => Just(How::Twice),
        1 => Just(How::Drop),
    ];
    (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        how,
    )
        .prop_map(|(frame, place, how)| Damage { frame, place, how })
}

/// The frames of one side, damaged.
fn damaged(frames: &[String], damages: &[Damage]) -> Vec<Vec<u8>> {
    let mut frames = frames
        .iter()
        .map(|text| vec![STANDARD.decode(text).unwrap()])
        .collect::<Vec<_>>();
    for Damage { frame, place, how } in damages {
        let at = frame.index(frames.len());
        let Some(bytes) = frames[at].first_mut().filter(|bytes| !bytes.is_empty()) else {
            continue;
        };
        let place = place.index(bytes.len());
        match how {
            How::Change(by) => bytes[place] = bytes[place].wrapping_add(*by),
            How::Cut => bytes.truncate(place),
            How::Insert(more) => drop(bytes.splice(place..place, more.iter().copied())),
            How::Twice => {
                let again = bytes.clone();
                frames[at].push(again);
            }
            How::Drop => frames[at].clear(),
        }
    }
    frames.into_iter().flatten().collect()
}

fn frames(of_hub: bool) -> Vec<String> {
    let frame = |line: Line| match line.step {
        Step::Hub { frame } if of_hub => Some(frame),
        Step::Agent { frame } if !of_hub => Some(frame),
        _ => None,
    };
    let lines = all().into_iter().flat_map(|(_, lines)| lines);
    lines.filter_map(frame).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn an_agent_survives_what_a_damaged_hub_says(damages in prop::collection::vec(damage(), 1..12)) {
        let mut agent = AgentSide::new();
        agent.core.connect(0);
        for (at, bytes) in damaged(&frames(true), &damages).iter().enumerate() {
            let now = at as u64;
            if let Ok(frame) = pb::HubFrame::decode(bytes.as_slice()) {
                agent.core.frame(now, frame);
            }
            if agent.gave_up() {
                agent.core.disconnect(now);
                agent.core.connect(now);
            }
            while agent.work(now) {}
            while agent.core.next_frame().is_some() {}
            prop_assert!(agent.core.joining_bytes() <= limits::SESSION_BYTES);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_hub_survives_what_a_damaged_agent_says(damages in prop::collection::vec(damage(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (store, _folder) = simulation::store().await;
            let mut hub = HubSide::new(store).await;
            for (at, bytes) in damaged(&frames(false), &damages).iter().enumerate() {
                let now = at as u64;
                if hub.core.as_ref().is_none_or(|core| core.closed().is_some()) {
                    hub.connect(now);
                }
                if let (Ok(frame), Some(core)) = (pb::AgentFrame::decode(bytes.as_slice()), &mut hub.core) {
                    core.frame(now, frame);
                }
                loop {
                    while hub.core.as_mut().and_then(Hub::next_frame).is_some() {}
                    if !hub.work(now).await {
                        break;
                    }
                }
                let held = hub.core.as_ref().map_or(0, Hub::held_bytes);
                assert!(held <= limits::SESSION_BYTES, "{held}");
            }
        });
    }
}
