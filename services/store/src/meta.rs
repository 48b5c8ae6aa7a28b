//! The store's own small values.

use aws_lc_rs::hmac;
use diesel::prelude::*;

use crate::Connection;
use crate::schema::upm_meta;
use crate::{Error, lock};

/// The key that signs page tokens; the same for all replicas of a module.
#[derive(Clone)]
pub(crate) struct Secret(hmac::Key);

const KEY_BYTES: usize = 32;
const NAME: &str = "page-token-key";

impl Secret {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Before the stored one is read.
    pub(crate) fn unset() -> Self {
        Self::of(&[0; KEY_BYTES])
    }

    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        hmac::sign(&self.0, bytes).as_ref().to_vec()
    }

    /// In constant time.
    pub(crate) fn verify(&self, bytes: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.0, bytes, signature).is_ok()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The stored key, made at first use.
pub(crate) fn secret(conn: &mut Connection) -> Result<Secret, Error> {
    let stored = |conn: &mut Connection| {
        upm_meta::table
            .find(NAME)
            .select(upm_meta::value)
            .first::<Vec<u8>>(conn)
            .optional()
    };
    if let Some(bytes) = stored(conn)? {
        return Ok(Secret::of(&bytes));
    }
    lock::name(conn, "upm_meta")?;
    if let Some(bytes) = stored(conn)? {
        return Ok(Secret::of(&bytes));
    }
    let bytes: [u8; KEY_BYTES] = rand::random();
    diesel::insert_into(upm_meta::table)
        .values((upm_meta::name.eq(NAME), upm_meta::value.eq(&bytes[..])))
        .execute(conn)?;
    Ok(Secret::of(&bytes))
}
