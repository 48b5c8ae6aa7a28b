//! Identity and digests of ledger entries.

use sha2::{Digest as _, Sha256};

use crate::hub::v1::Key;

/// `group/kind/namespace/name`: what makes two keys the same object. The API version does not.
pub fn key_text(key: &Key) -> String {
    format!("{}/{}/{}/{}", key.group, key.kind, key.namespace, key.name)
}

/// Which of the 256 buckets a key lies in.
pub fn bucket(key: &Key) -> u8 {
    Sha256::digest(key_text(key).as_bytes())[0]
}

/// SHA-256 of a body.
pub fn content_digest(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

/// One live entry: what a root counts. Tombstones are not live; they leave the root.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The object.
    pub key: &'a Key,
    /// Identity of the intent.
    pub intent_uid: &'a [u8],
    /// Its generation.
    pub generation: u64,
    /// SHA-256 of its body.
    pub digest: &'a [u8],
}

impl Entry<'_> {
    fn hash(&self) -> u128 {
        let mut hash = Sha256::new();
        let generation = self.generation.to_be_bytes();
        for part in [
            self.key.group.as_bytes(),
            self.key.version.as_bytes(),
            self.key.kind.as_bytes(),
            self.key.namespace.as_bytes(),
            self.key.name.as_bytes(),
            self.intent_uid,
            &generation,
            self.digest,
        ] {
            hash.update((part.len() as u32).to_be_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        u128::from_be_bytes(first)
    }
}

/// A 128-bit additive multiset digest: adding and removing an entry costs the same whatever the set holds, and order does not matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Root(u128);

impl Root {
    /// Counts an entry in.
    pub fn add(&mut self, entry: Entry<'_>) {
        self.0 = self.0.wrapping_add(entry.hash());
    }

    /// Counts an entry out.
    pub fn remove(&mut self, entry: Entry<'_>) {
        self.0 = self.0.wrapping_sub(entry.hash());
    }

    /// 16 bytes, big endian.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// From 16 bytes; `None` for another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key {
            group: "g".into(),
            version: "v1".into(),
            kind: "K".into(),
            namespace: "n".into(),
            name: name.into(),
        }
    }

    proptest::proptest! {
        #[test]
        fn a_root_does_not_depend_on_the_order(names in proptest::collection::vec("[a-z]{1,4}", 0..20), generation in 0u64..9) {
            let keys = names.iter().map(|n| key(n)).collect::<Vec<_>>();
            let entry = |key| Entry { key, intent_uid: b"u", generation, digest: b"d" };
            let (mut forward, mut backward) = (Root::default(), Root::default());
            for k in &keys { forward.add(entry(k)); }
            for k in keys.iter().rev() { backward.add(entry(k)); }
            proptest::prop_assert_eq!(forward, backward);
            for k in &keys { forward.remove(entry(k)); }
            proptest::prop_assert_eq!(forward, Root::default());
        }
    }

    #[test]
    fn every_field_counts() {
        let (a, b) = (key("a"), key("b"));
        let base = Entry {
            key: &a,
            intent_uid: b"u",
            generation: 1,
            digest: b"d",
        };
        let root = |entry| {
            let mut root = Root::default();
            root.add(entry);
            root
        };
        for other in [
            Entry { key: &b, ..base },
            Entry {
                intent_uid: b"v",
                ..base
            },
            Entry {
                generation: 2,
                ..base
            },
            Entry {
                digest: b"e",
                ..base
            },
        ] {
            assert_ne!(root(base), root(other));
        }
    }
}
