//! Secrets that are handed out once and kept as hashes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const BYTES: usize = 32;

/// 32 random bytes, base64url.
pub(crate) fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; BYTES]>())
}

/// What is stored of a secret: with 256 random bits a plain SHA-256 cannot be guessed back.
pub(crate) fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret))
}

/// The secret after `last`, made with a key that only the store has: the same again, so that a lost answer can be given again, and to be
/// known by nobody who has `last` alone.
pub(crate) fn next(key: &str, last: &str) -> String {
    // With keys and inputs of one length each, and the outer digest, nothing can be appended.
    let inner = Sha256::digest(format!("upm refresh\n{key}\n{last}"));
    let outer = Sha256::new_with_prefix(key).chain_update(inner).finalize();
    URL_SAFE_NO_PAD.encode(outer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_secret_follows_from_both_key_and_last() {
        let (key, last) = (random(), random());
        assert_eq!(next(&key, &last), next(&key, &last));
        assert_ne!(next(&random(), &last), next(&key, &last));
        assert_ne!(next(&key, &random()), next(&key, &last));
    }
}
