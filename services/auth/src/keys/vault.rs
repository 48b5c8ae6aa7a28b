//! Private keys at rest: sealed with AES-256-GCM under the key of a 0600 file, or as they are when no file is configured.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use upm_store::key_file;

use crate::Error;

/// Seals and opens private keys. Cheap to clone.
#[derive(Clone)]
pub(super) struct Vault {
    key: Option<Arc<RandomizedNonceKey>>,
}

impl Vault {
    /// Reads the key file, or makes it.
    pub(super) async fn open(file: Option<&Path>) -> Result<Self, Error> {
        let Some(file) = file.map(Path::to_owned) else {
            return Ok(Self { key: None });
        };
        let found = tokio::task::spawn_blocking(move || key_file::open_or_make(&file))
            .await
            .map_err(|error| Error::Keys(error.to_string()))?
            .map_err(Error::Keys)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &found.key)
            .map_err(|_| Error::Keys("the key file is damaged".to_owned()))?;
        Ok(Self {
            key: Some(Arc::new(key)),
        })
    }

    /// Whether keys are sealed.
    pub(super) fn seals(&self) -> bool {
        self.key.is_some()
    }

    /// The stored form of a key, and whether it is sealed.
    pub(super) fn seal(&self, private_key: &[u8]) -> Result<(Vec<u8>, bool), Error> {
        let Some(key) = &self.key else {
            return Ok((private_key.to_vec(), false));
        };
        let mut sealed = private_key.to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::empty(), &mut sealed)
            .map_err(|_| Error::Keys("sealing did not work".to_owned()))?;
        Ok(([&nonce.as_ref()[..], &sealed].concat(), true))
    }

    /// The key itself; `None` when it was sealed with another file.
    pub(super) fn open_key(&self, stored: &[u8], sealed: bool) -> Option<Vec<u8>> {
        if !sealed {
            return Some(stored.to_vec());
        }
        let (nonce, sealed) = stored.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut buffer = sealed.to_vec();
        let opened = self
            .key
            .as_ref()?
            .open_in_place(nonce, Aad::empty(), &mut buffer)
            .ok()?;
        Some(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn opens_what_it_sealed_with_the_same_file_only() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let (sealed, is_sealed) = Vault::open(Some(&a))
            .await
            .unwrap()
            .seal(b"private")
            .unwrap();
        assert!(is_sealed && !sealed.windows(7).any(|part| part == b"private"));
        let again = Vault::open(Some(&a)).await.unwrap();
        assert_eq!(
            again.open_key(&sealed, true).as_deref(),
            Some(&b"private"[..])
        );
        let other = Vault::open(Some(&b)).await.unwrap();
        assert_eq!(other.open_key(&sealed, true), None);
        assert_eq!(
            Vault::open(None).await.unwrap().open_key(&sealed, true),
            None
        );
    }
}
