//! Frames that are too large travel in parts, so that a control frame never waits for a body.

use std::collections::HashMap;

use prost::bytes::{Bytes, BytesMut};

use super::limits;
use crate::hub::v1::Fragment;

/// Frames that may be open at the same time: one per lane.
const OPEN: usize = 5;

/// Why parts do not make a frame. The session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FragmentError {
    /// A part is missing, or came twice.
    OutOfOrder,
    /// The frame is larger than any may be.
    TooLarge,
    /// Too many frames are open.
    TooMany,
}

impl std::fmt::Display for FragmentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::OutOfOrder => "a fragment is out of order",
            Self::TooLarge => "a fragmented frame is too large",
            Self::TooMany => "too many fragmented frames are open",
        })
    }
}

impl std::error::Error for FragmentError {}

/// Parts of `encoded`, each at most one frame long.
pub(super) fn split(encoded: &Bytes, id: u64, lane: i32) -> Vec<Fragment> {
    let count = encoded.len().div_ceil(limits::FRAME_BYTES).max(1);
    (0..count)
        .map(|index| {
            let from = index * limits::FRAME_BYTES;
            let to = (from + limits::FRAME_BYTES).min(encoded.len());
            Fragment {
                id,
                index: index as u32,
                last: index + 1 == count,
                lane,
                data: encoded.slice(from..to),
            }
        })
        .collect()
}

/// Joins parts.
#[derive(Debug, Default)]
pub struct Joiner {
    open: HashMap<u64, (u32, BytesMut)>,
}

impl Joiner {
    /// Bytes of the frames that are open.
    pub fn held_bytes(&self) -> usize {
        self.open.values().map(|(_, data)| data.len()).sum()
    }

    /// Takes a part; returns the encoded frame when it was the last one.
    ///
    /// # Errors
    /// When the parts do not make a frame, or more memory would be needed than a session may have.
    pub fn push(&mut self, part: Fragment) -> Result<Option<Bytes>, FragmentError> {
        let (next, mut data) = match self.open.remove(&part.id) {
            Some(open) => open,
            None if self.open.len() >= OPEN => return Err(FragmentError::TooMany),
            None => (0, BytesMut::new()),
        };
        if part.index != next {
            return Err(FragmentError::OutOfOrder);
        }
        let open = self.held_bytes() + data.len() + part.data.len();
        if open > limits::JOINING_BYTES || data.len() + part.data.len() > limits::JOINED_BYTES {
            return Err(FragmentError::TooLarge);
        }
        data.extend_from_slice(&part.data);
        if part.last {
            return Ok(Some(data.freeze()));
        }
        self.open.insert(part.id, (next + 1, data));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_what_was_split() {
        let body = Bytes::from(vec![7u8; 3 * limits::FRAME_BYTES + 5]);
        let parts = split(&body, 9, 2);
        assert_eq!(parts.len(), 4);
        let mut joiner = Joiner::default();
        let mut joined = None;
        for part in parts {
            joined = joiner.push(part).unwrap();
        }
        assert_eq!(joined.unwrap(), body);
    }

    #[test]
    fn refuses_a_missing_part_and_a_frame_without_end() {
        let part = |index, last| Fragment {
            id: 1,
            index,
            last,
            lane: 2,
            data: Bytes::from(vec![0; limits::FRAME_BYTES]),
        };
        assert_eq!(
            Joiner::default().push(part(1, false)),
            Err(FragmentError::OutOfOrder)
        );
        let mut joiner = Joiner::default();
        let mut index = 0;
        let error = loop {
            if let Err(e) = joiner.push(part(index, false)) {
                break e;
            }
            index += 1;
        };
        assert_eq!(error, FragmentError::TooLarge);
    }

    proptest::proptest! {
        #[test]
        fn never_holds_more_than_its_cap(parts in proptest::collection::vec((0u64..9, 0u32..4, proptest::bool::ANY, 0usize..70_000), 0..200)) {
            let mut joiner = Joiner::default();
            for (id, index, last, len) in parts {
                let _ = joiner.push(Fragment { id, index, last, lane: 2, data: Bytes::from(vec![0; len]) });
                proptest::prop_assert!(joiner.open.len() <= OPEN);
                proptest::prop_assert!(joiner.open.values().all(|(_, d)| d.len() <= limits::JOINED_BYTES));
                proptest::prop_assert!(joiner.held_bytes() <= limits::JOINING_BYTES);
            }
        }
    }
}
