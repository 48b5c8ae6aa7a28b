//! Optimistic locking as the API shows it.

use sha2::{Digest, Sha256};

use crate::Error;

/// The etag of a version of a resource: opaque, different for each version and for each resource.
pub fn of(uid: &str, version: i64) -> String {
    let digest = Sha256::new()
        .chain_update(uid)
        .chain_update([0])
        .chain_update(version.to_be_bytes())
        .finalize();
    hex::encode(&digest[..12])
}

/// Refuses a stale etag; an empty one means that the caller does not care.
pub fn check(given: &str, current: &str) -> Result<(), Error> {
    if given.is_empty() || given == current {
        Ok(())
    } else {
        Err(Error::StaleEtag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differs_for_each_version_and_each_resource() {
        assert_ne!(of("a", 1), of("a", 2));
        assert_ne!(of("a", 1), of("b", 1));
        assert_eq!(of("a", 1), of("a", 1));
    }

    #[test]
    fn refuses_only_an_etag_of_another_version() {
        assert!(check("", &of("a", 2)).is_ok());
        assert!(check(&of("a", 2), &of("a", 2)).is_ok());
        assert!(matches!(
            check(&of("a", 1), &of("a", 2)),
            Err(Error::StaleEtag)
        ));
    }
}
