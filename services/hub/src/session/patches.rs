//! Bodies that the agent was sent in this session and has acknowledged: against these a change can go as a patch.

use std::collections::HashMap;

use prost::bytes::Bytes;
use upm_proto::{
    hub::v1 as pb,
    ledger::{limits, merge_patch},
};

/// Bytes of bodies that a session keeps for patches.
const KEPT: usize = 64 * 1024;
/// They are given back when nothing was sent for so many milliseconds: most sessions are quiet most of the time.
const QUIET_MS: u64 = 60_000;

#[derive(Debug)]
struct Base {
    dseq: u64,
    rev: u64,
    digest: Bytes,
    body: Bytes,
}

/// The latest body of each key, as far as there is room.
#[derive(Debug, Default)]
pub(super) struct Bases {
    keys: HashMap<String, Base>,
    bytes: usize,
    used: u64,
}

impl Bases {
    /// The patch that makes this intent of what the agent holds of its key for certain, if that is smaller than the intent.
    pub(super) fn patch(
        &self,
        text: &str,
        body: &[u8],
        acknowledged: u64,
    ) -> Option<pb::MergePatch> {
        let base = self.keys.get(text)?;
        if base.dseq > acknowledged {
            return None;
        }
        Some(pb::MergePatch {
            base_digest: base.digest.clone(),
            patch: merge_patch(&base.body, body)?.into(),
        })
    }

    /// The agent is sent this intent now.
    pub(super) fn sent(&mut self, now: u64, dseq: u64, text: &str, apply: &pb::Apply, body: Bytes) {
        self.forget(text);
        if !(limits::PATCH_BYTES..=KEPT).contains(&body.len()) {
            return;
        }
        self.used = now;
        while self.bytes + body.len() > KEPT {
            let oldest = self.keys.iter().min_by_key(|(_, base)| base.dseq);
            let Some(oldest) = oldest.map(|(text, _)| text.clone()) else {
                break;
            };
            self.forget(&oldest);
        }
        self.bytes += body.len();
        let base = Base {
            dseq,
            rev: apply.rev,
            digest: apply.digest.clone(),
            body,
        };
        self.keys.insert(text.to_owned(), base);
    }

    /// The agent does not hold the body of this key any more.
    pub(super) fn forget(&mut self, text: &str) {
        if let Some(base) = self.keys.remove(text) {
            self.bytes -= base.body.len();
        }
    }

    /// The agent asks for these bodies, so it does not hold them.
    pub(super) fn missing(&mut self, revs: &[u64]) {
        let missing = self
            .keys
            .iter()
            .filter(|(_, base)| revs.contains(&base.rev))
            .map(|(text, _)| text.clone())
            .collect::<Vec<_>>();
        for text in missing {
            self.forget(&text);
        }
    }

    /// Gives everything back after a while without use.
    pub(super) fn rest(&mut self, now: u64) {
        if !self.keys.is_empty() && now >= self.used + QUIET_MS {
            *self = Self::default();
        }
    }

    /// Bytes of the bodies.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(units: u32) -> Bytes {
        let filler = "x".repeat(1_000);
        format!("{{\"filler\":\"{filler}\",\"units\":{units}}}").into()
    }

    fn sent(bases: &mut Bases, dseq: u64, text: &str, units: u32) {
        let apply = pb::Apply {
            rev: dseq * 10,
            digest: vec![units as u8].into(),
            ..pb::Apply::default()
        };
        bases.sent(0, dseq, text, &apply, body(units));
    }

    #[test]
    fn a_patch_is_made_against_the_last_body_once_it_is_acknowledged() {
        let mut bases = Bases::default();
        sent(&mut bases, 1, "a", 1);
        assert_eq!(bases.patch("a", &body(2), 0), None);
        let patch = bases.patch("a", &body(2), 1).unwrap();
        assert_eq!(
            (&patch.base_digest[..], &patch.patch[..]),
            (&[1][..], &br#"{"units":2}"#[..])
        );
        sent(&mut bases, 2, "a", 2);
        assert_eq!(
            bases.patch("a", &body(3), 1),
            None,
            "it holds another one by now"
        );
        bases.missing(&[20]);
        assert_eq!(bases.patch("a", &body(3), 2), None, "it asked for that one");
    }

    #[test]
    fn bodies_are_kept_within_bounds_and_not_for_ever() {
        let mut bases = Bases::default();
        for n in 1..200 {
            sent(&mut bases, n, &format!("k{n}"), 1);
            assert!(bases.held_bytes() <= KEPT);
        }
        assert!(
            bases.patch("k1", &body(2), 999).is_none(),
            "the oldest went"
        );
        assert!(bases.patch("k199", &body(2), 999).is_some());
        bases.rest(QUIET_MS - 1);
        assert!(bases.held_bytes() > 0);
        bases.rest(QUIET_MS);
        assert_eq!(bases.held_bytes(), 0);
    }
}
