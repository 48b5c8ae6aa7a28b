//! The hash chain. Pure.

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use upm_proto::operatorlog::v1::Entry;

/// Longest stored text of `request` and `diff`, in bytes.
const TEXT_LIMIT: usize = 8 * 1024;

/// The end of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Sequence number of the newest entry; 0 for an empty log.
    pub(crate) sequence: i64,
    /// Its hash; empty for an empty log.
    pub(crate) hash: String,
}

impl Head {
    /// `SEQUENCE:HASH`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (sequence, hash) = text.split_once(':')?;
        let sequence = sequence.parse().ok().filter(|sequence| *sequence > 0)?;
        Some(Self {
            sequence,
            hash: hash.to_ascii_lowercase(),
        })
    }
}

/// As `upm log verify --noted` takes it.
impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.sequence, self.hash)
    }
}

/// Brings an entry into the form in which it is stored: texts within their limits, time in microseconds.
pub(crate) fn normalize(mut entry: Entry) -> Entry {
    for text in [&mut entry.request, &mut entry.diff] {
        truncate(text, TEXT_LIMIT);
    }
    for text in [
        &mut entry.principal,
        &mut entry.source_address,
        &mut entry.method,
        &mut entry.resource,
        &mut entry.reason,
    ] {
        truncate(text, 255);
    }
    truncate(&mut entry.module, 64);
    truncate(&mut entry.trace_id, 32);
    if let Some(time) = &mut entry.event_time {
        time.nanos -= time.nanos % 1000;
    }
    entry
}

/// Puts an entry behind the head and returns the new head.
pub(crate) fn link(head: &Head, entry: Entry) -> (Entry, Head) {
    let mut entry = normalize(entry);
    entry.sequence = head.sequence + 1;
    entry.previous_hash.clone_from(&head.hash);
    entry.hash = hash(&entry);
    let head = Head {
        sequence: entry.sequence,
        hash: entry.hash.clone(),
    };
    (entry, head)
}

/// Says what is wrong with an entry that should follow the head.
pub(crate) fn check(head: &Head, entry: &Entry) -> Result<Head, String> {
    if entry.sequence != head.sequence + 1 {
        return Err(format!(
            "sequence {} follows {}",
            entry.sequence, head.sequence
        ));
    }
    if entry.previous_hash != head.hash {
        return Err("the hash of the entry before it does not match".to_owned());
    }
    if entry.hash != hash(entry) {
        return Err("the entry does not match its hash".to_owned());
    }
    Ok(Head {
        sequence: entry.sequence,
        hash: entry.hash.clone(),
    })
}

/// SHA-256 over the entry's encoding without its own hash. The encoding leaves empty fields out, so later fields change no old hash.
fn hash(entry: &Entry) -> String {
    let bare = Entry {
        hash: String::new(),
        ..entry.clone()
    };
    Sha256::digest(bare.encode_to_vec())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn truncate(text: &mut String, limit: usize) {
    text.truncate(text.floor_char_boundary(limit));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chain(resources: &[String]) -> Vec<Entry> {
        let mut head = empty();
        resources
            .iter()
            .map(|resource| {
                let (entry, next) = link(
                    &head,
                    Entry {
                        resource: resource.clone(),
                        ..Entry::default()
                    },
                );
                head = next;
                entry
            })
            .collect()
    }

    fn empty() -> Head {
        Head {
            sequence: 0,
            hash: String::new(),
        }
    }

    fn verify(entries: &[Entry]) -> Result<Head, String> {
        entries
            .iter()
            .try_fold(empty(), |head, entry| check(&head, entry))
    }

    proptest! {
        #[test]
        fn an_untouched_chain_verifies(resources in prop::collection::vec(".{0,20}", 0..20)) {
            prop_assert!(verify(&chain(&resources)).is_ok());
        }

        #[test]
        fn a_changed_removed_or_swapped_entry_is_found(
            resources in prop::collection::vec("[a-z]{1,8}", 3..12), at in 0usize..12, how in 0..3,
        ) {
            let mut entries = chain(&resources);
            let at = at % (entries.len() - 1);
            match how {
                0 => entries[at].code += 1,
                1 => { entries.remove(at); }
                _ => entries.swap(at, at + 1),
            }
            prop_assert!(verify(&entries).is_err());
        }

        #[test]
        fn long_texts_are_cut_at_a_character(text in "\\PC{0,9000}") {
            let entry = normalize(Entry { request: text, ..Entry::default() });
            prop_assert!(entry.request.len() <= TEXT_LIMIT);
        }
    }
}
