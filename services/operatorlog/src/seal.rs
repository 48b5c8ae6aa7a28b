//! Heads of the chain are signed (Ed25519) with a key that is not in the store: who changes the store cannot make a head.

use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use upm_store::key_file;

use crate::Error;
use crate::chain::Head;

/// Settings of module `operatorlog`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// File (mode 0600, made when missing) with the key that signs heads of the log; replicas share it. Without it heads are not signed.
    pub key_file: Option<PathBuf>,
    /// `SEQUENCE:HASH` of an entry: while the log has it and the chain holds from there on, its end is signed even when it had no signature of
    /// that key. For a log that is older than its key file; take it out again when `VerifyEntries` is content.
    pub adopt_head: Option<String>,
}

/// The key that signs heads.
#[derive(Debug)]
pub(crate) struct Seal {
    pair: Ed25519KeyPair,
    /// The file is new: what the store holds was there before anybody could sign.
    pub(crate) made: bool,
}

impl Seal {
    /// Reads the key file, or makes it.
    pub(crate) async fn open(file: &Path) -> Result<Self, Error> {
        let file = file.to_owned();
        let found = tokio::task::spawn_blocking(move || key_file::open_or_make(&file))
            .await
            .map_err(|error| Error::Key(error.to_string()))?
            .map_err(Error::Key)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&found.key)
            .map_err(|_| Error::Key("it makes no key pair".to_owned()))?;
        Ok(Self {
            pair,
            made: found.made,
        })
    }

    /// Whether a head with this signature is one that this log may go on from: its own, or the beginning.
    pub(crate) fn continues(&self, head: &Head, signature: &str) -> bool {
        head.sequence == 0 || self.is_mine(head, signature)
    }

    fn is_mine(&self, head: &Head, signature: &str) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.pair.public_key().as_ref());
        hex::decode(signature).is_ok_and(|bytes| key.verify(&signed_text(head), &bytes).is_ok())
    }

    /// Hexadecimal, 128 digits.
    pub(crate) fn sign(&self, head: &Head) -> String {
        hex::encode(self.pair.sign(&signed_text(head)).as_ref())
    }

    /// Hexadecimal, 64 digits.
    pub(crate) fn public_key(&self) -> String {
        hex::encode(self.pair.public_key().as_ref())
    }
}

/// As `VerifyEntriesResponse.head_signature` says it.
fn signed_text(head: &Head) -> Vec<u8> {
    format!("upm operation log {head}").into_bytes()
}
