//! The send queue of a session: CONTROL goes first, the other lanes share by weight (deficit round robin).

use std::collections::VecDeque;

use prost::{Message, bytes::Bytes};

use super::{fragment, limits};
use crate::hub::v1::{AgentFrame, Fragment, HubFrame, Lane, agent_frame, hub_frame};

/// A frame of either direction.
pub trait Frame: Message + Default + Sized {
    /// A frame that carries a part of another one.
    fn of_fragment(part: Fragment) -> Self;
}

impl Frame for HubFrame {
    fn of_fragment(part: Fragment) -> Self {
        Self {
            message: Some(hub_frame::Message::Fragment(part)),
            critical: true,
            ..Self::default()
        }
    }
}

impl Frame for AgentFrame {
    fn of_fragment(part: Fragment) -> Self {
        Self {
            message: Some(agent_frame::Message::Fragment(part)),
            critical: true,
            ..Self::default()
        }
    }
}

/// DESIRED, RESULT, STATUS, BULK and their weights.
const SHARED: [(Lane, i64); 4] = [
    (Lane::Desired, 4),
    (Lane::Result, 4),
    (Lane::Status, 2),
    (Lane::Bulk, 1),
];
/// Bytes per weight and round.
const QUANTUM: i64 = 16 * 1024;

#[derive(Debug)]
struct Shared<F> {
    queue: VecDeque<(F, usize)>,
    deficit: i64,
}

/// What [`Lanes::pop`] would give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// A control frame: it goes as soon as there is any room.
    Control,
    /// Another frame: it goes when no more than a fragment lies before it on its way out.
    Shared,
}

/// What has left the lanes and may not be on the wire yet. A control frame cannot overtake that, so it must stay small.
#[derive(Debug, Default)]
pub struct Ahead {
    sizes: VecDeque<usize>,
}

impl Ahead {
    /// A frame of so many bytes went out.
    pub fn sent(&mut self, bytes: usize) {
        self.sizes.push_back(bytes);
    }

    /// Whether the next frame may go out, when `queued` frames are still on their way.
    pub fn may(&mut self, next: Next, queued: usize) -> bool {
        match next {
            Next::Nothing => false,
            Next::Control => true,
            Next::Shared => self.has_room(queued),
        }
    }

    /// Whether another frame may follow that is not of the control lane, when `queued` frames are still on their way.
    fn has_room(&mut self, queued: usize) -> bool {
        while self.sizes.len() > queued {
            self.sizes.pop_front();
        }
        self.sizes.iter().sum::<usize>() < limits::FRAME_BYTES
    }
}

/// The send queue.
#[derive(Debug)]
pub struct Lanes<F> {
    control: VecDeque<F>,
    shared: [Shared<F>; 4],
    turn: usize,
    next_fragment: u64,
    bytes: usize,
}

impl<F> Default for Lanes<F> {
    fn default() -> Self {
        Self {
            control: VecDeque::new(),
            shared: std::array::from_fn(|_| Shared {
                queue: VecDeque::new(),
                deficit: 0,
            }),
            turn: 0,
            next_fragment: 1,
            bytes: 0,
        }
    }
}

impl<F: Frame> Lanes<F> {
    /// Queues a frame behind the others of its lane; returns its encoded size. A frame that is too large is queued in parts.
    pub fn push(&mut self, lane: Lane, frame: F) -> usize {
        let size = frame.encoded_len();
        let Some(at) = SHARED.iter().position(|(l, _)| *l == lane) else {
            self.control.push_back(frame);
            return size;
        };
        self.bytes += size;
        let queue = &mut self.shared[at].queue;
        if size <= limits::FRAME_BYTES {
            queue.push_back((frame, size));
            return size;
        }
        let encoded = Bytes::from(frame.encode_to_vec());
        for part in fragment::split(&encoded, self.next_fragment, lane as i32) {
            let len = part.data.len();
            queue.push_back((F::of_fragment(part), len));
        }
        self.next_fragment += 1;
        size
    }

    /// The next frame to send.
    pub fn pop(&mut self) -> Option<F> {
        if let Some(frame) = self.control.pop_front() {
            return Some(frame);
        }
        if self.shared.iter().all(|lane| lane.queue.is_empty()) {
            return None;
        }
        loop {
            let lane = &mut self.shared[self.turn];
            match lane.queue.front() {
                Some((_, size)) if lane.deficit >= *size as i64 => {
                    let (frame, size) = lane.queue.pop_front()?;
                    lane.deficit -= size as i64;
                    self.bytes = self.bytes.saturating_sub(size);
                    return Some(frame);
                }
                Some(_) => self.advance(),
                None => {
                    lane.deficit = 0;
                    self.advance();
                }
            }
        }
    }

    /// What comes next.
    pub fn next_kind(&self) -> Next {
        if !self.control.is_empty() {
            Next::Control
        } else if self.is_empty() {
            Next::Nothing
        } else {
            Next::Shared
        }
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.shared.iter().all(|lane| lane.queue.is_empty())
    }

    /// Frames queued in the control lane, which no credit limits: whoever makes more of them than it takes is to be cut.
    pub fn control_frames(&self) -> usize {
        self.control.len()
    }

    /// Bytes queued outside the control lane.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn advance(&mut self) {
        self.turn = (self.turn + 1) % SHARED.len();
        self.shared[self.turn].deficit += SHARED[self.turn].1 * QUANTUM;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::v1::{Apply, Pong};

    fn apply(bytes: usize) -> HubFrame {
        HubFrame {
            message: Some(hub_frame::Message::Apply(Apply {
                body: Some(crate::hub::v1::apply::Body::Json(vec![1; bytes].into())),
                ..Apply::default()
            })),
            ..HubFrame::default()
        }
    }

    #[test]
    fn a_control_frame_overtakes_the_parts_of_a_large_body() {
        let mut lanes = Lanes::default();
        lanes.push(Lane::Desired, apply(10 * limits::FRAME_BYTES));
        assert!(matches!(
            lanes.pop().and_then(|f: HubFrame| f.message),
            Some(hub_frame::Message::Fragment(_))
        ));
        lanes.push(
            Lane::Control,
            HubFrame {
                message: Some(hub_frame::Message::Pong(Pong {
                    nonce: 1,
                    ..Pong::default()
                })),
                ..HubFrame::default()
            },
        );
        assert!(matches!(
            lanes.pop().and_then(|f| f.message),
            Some(hub_frame::Message::Pong(_))
        ));
        let rest = std::iter::from_fn(|| lanes.pop()).count();
        assert_eq!(rest, 10);
        assert!(lanes.is_empty());
    }

    proptest::proptest! {
        /// I8: whatever is queued, a control frame is the next one to leave, behind what has left already: less than two fragments.
        #[test]
        fn a_control_frame_waits_behind_no_more_than_one_fragment(bodies in proptest::collection::vec((0usize..4, 0usize..3_000_000), 1..8), taken in 0usize..60) {
            let mut lanes = Lanes::<HubFrame>::default();
            for (lane, bytes) in bodies {
                lanes.push(SHARED[lane].0, apply(bytes));
            }
            // Nothing is on the wire yet of what goes out here.
            let mut ahead = Ahead::default();
            let mut out = Vec::new();
            while out.len() < taken && lanes.next_kind() == Next::Shared && ahead.has_room(out.len()) {
                let size = lanes.pop().map_or(0, |f| f.encoded_len());
                ahead.sent(size);
                out.push(size);
            }
            proptest::prop_assert!(out.iter().sum::<usize>() < 2 * limits::FRAME_BYTES + 64, "{out:?}");
            lanes.push(Lane::Control, HubFrame { message: Some(hub_frame::Message::Pong(Pong::default())), ..HubFrame::default() });
            proptest::prop_assert_eq!(lanes.next_kind(), Next::Control);
            let next = lanes.pop().and_then(|f| f.message);
            proptest::prop_assert!(matches!(next, Some(hub_frame::Message::Pong(_))));
        }
    }

    #[test]
    fn there_is_room_again_when_what_went_out_is_on_the_wire() {
        let mut ahead = Ahead::default();
        ahead.sent(limits::FRAME_BYTES);
        assert!(!ahead.has_room(1));
        assert!(ahead.has_room(0));
    }

    #[test]
    fn lanes_share_by_weight() {
        let mut lanes = Lanes::default();
        for _ in 0..200 {
            lanes.push(Lane::Status, apply(1000));
            lanes.push(Lane::Bulk, apply(2000));
        }
        let mut sizes = (0, 0);
        for _ in 0..150 {
            let size = lanes.pop().map_or(0, |f: HubFrame| f.encoded_len());
            if size < 1500 {
                sizes.0 += size;
            } else {
                sizes.1 += size;
            }
        }
        let ratio = f64::from(sizes.0 as u32) / f64::from(sizes.1 as u32);
        assert!((1.5..3.0).contains(&ratio), "{ratio}");
    }
}
