//! Passwords: what is accepted, how they are kept and checked.

use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use upm_mesh::FieldViolation;

use crate::{Error, PasswordCost};

/// Fewest characters.
pub(crate) const MIN_CHARS: usize = 12;
/// Most bytes: hashing must not be a way to waste memory.
pub(crate) const MAX_BYTES: usize = 1024;
const SALT_BYTES: usize = 16;
const WAIT_LIMIT: Duration = Duration::from_secs(5);

/// A password that was accepted. `Debug` hides it.
#[derive(Clone)]
pub(crate) struct Password(Arc<str>);

impl Password {
    /// Accepts 12 characters to 1024 bytes; `field` is the request field that holds it.
    pub(crate) fn parse(field: &str, text: &str) -> Result<Self, FieldViolation> {
        let refuse = |description: String| {
            Err(FieldViolation {
                field: field.to_owned(),
                description,
            })
        };
        if text.chars().count() < MIN_CHARS {
            return refuse(format!("must have at least {MIN_CHARS} characters"));
        }
        if MAX_BYTES < text.len() {
            return refuse(format!("must have at most {MAX_BYTES} bytes"));
        }
        Ok(Self(Arc::from(text)))
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Hashes and checks passwords, a few at a time, off the async threads.
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    hasher: Argon2<'static>,
    /// What an unknown user's password is compared with, so that the answer takes as long.
    nobody: Arc<str>,
    permits: Arc<Semaphore>,
}

impl Passwords {
    pub(crate) async fn new(cost: PasswordCost) -> Result<Self, Error> {
        let params = Params::new(cost.memory_kib, cost.iterations, 1, None)
            .map_err(|error| Error::Hash(error.to_string()))?;
        let mut passwords = Self {
            hasher: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            nobody: Arc::from(""),
            permits: Arc::new(Semaphore::new(cost.concurrency.max(1))),
        };
        let unknown = Password(Arc::from(uuid::Uuid::new_v4().to_string()));
        passwords.nobody = passwords.hash(&unknown).await?.into();
        Ok(passwords)
    }

    /// The PHC string of a password.
    pub(crate) async fn hash(&self, password: &Password) -> Result<String, Error> {
        let (hasher, password) = (self.hasher.clone(), password.clone());
        self.work(move || {
            let salt = SaltString::encode_b64(&rand::random::<[u8; SALT_BYTES]>())
                .map_err(|error| Error::Hash(error.to_string()))?;
            hasher
                .hash_password(password.0.as_bytes(), &salt)
                .map(|hash| hash.to_string())
                .map_err(|error| Error::Hash(error.to_string()))
        })
        .await
    }

    /// Whether a password belongs to a hash. Without a hash it takes as long and is false.
    pub(crate) async fn verify(&self, given: &str, hash: Option<String>) -> Result<bool, Error> {
        // No longer password can have been set.
        let given: String = if MAX_BYTES < given.len() {
            String::new()
        } else {
            given.to_owned()
        };
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.to_string());
        let hasher = self.hasher.clone();
        self.work(move || {
            let hash = PasswordHash::new(&hash).map_err(|error| Error::Hash(error.to_string()))?;
            Ok(hasher.verify_password(given.as_bytes(), &hash).is_ok() && known)
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit: OwnedSemaphorePermit =
            timeout(WAIT_LIMIT, Arc::clone(&self.permits).acquire_owned())
                .await
                .map_err(|_| Error::PasswordsBusy)?
                .map_err(|error| Error::Hash(error.to_string()))?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
        .map_err(|error| Error::Hash(error.to_string()))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_characters_and_not_bytes() {
        assert!(Password::parse("password", "elf Zeichen").is_err());
        assert!(Password::parse("password", "zwölf Zeichn").is_ok());
        assert!(Password::parse("password", "éééééé").is_err());
        assert!(Password::parse("password", &"x".repeat(1025)).is_err());
    }

    #[test]
    fn never_prints_a_password() {
        let password = Password::parse("password", "correct horse battery").unwrap();
        assert_eq!(format!("{password:?}"), "Password(..)");
    }

    #[tokio::test]
    async fn verifies_only_the_password_that_was_hashed() {
        let cost = PasswordCost {
            memory_kib: 64,
            iterations: 1,
            concurrency: 1,
        };
        let passwords = Passwords::new(cost).await.unwrap();
        let password = Password::parse("password", "correct horse battery").unwrap();
        let hash = passwords.hash(&password).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert!(
            passwords
                .verify("correct horse battery", Some(hash.clone()))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify("correct horse batter", Some(hash))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify("correct horse battery", None)
                .await
                .unwrap()
        );
    }
}
