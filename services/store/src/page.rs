//! Keyset pages. A token says after which key the next page begins; it is signed and only good for the query that made it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::{Error, Store};

/// Page size when the request has none.
pub const DEFAULT_SIZE: i64 = 50;
/// Largest page.
pub const MAX_SIZE: i64 = 1000;
const TAG_BYTES: usize = 32;

/// What a token is bound to: everything of the request that decides which rows come in which order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Query<'a> {
    /// Full name of the method.
    pub method: &'a str,
    /// Parent of a nested collection.
    pub parent: &'a str,
    /// The filter as it was given.
    pub filter: &'a str,
    /// The order as it was given.
    pub order_by: &'a str,
}

/// One page of a query whose keys are `K`: a value or tuple that serializes, in the order of the query.
#[derive(Debug, Clone)]
pub struct PageRequest<K> {
    size: i64,
    after: Option<K>,
    fingerprint: [u8; 32],
    store: Store,
}

/// The token of the next page; empty on the last one.
pub type PageToken = String;

/// The size that a request means: 0 is 50, more than 1000 is 1000, negative is refused.
pub fn size(asked: i32) -> Result<i64, Error> {
    match asked {
        ..0 => Err(Error::field("page_size", "must not be negative")),
        0 => Ok(DEFAULT_SIZE),
        more => Ok(i64::from(more).min(MAX_SIZE)),
    }
}

impl<K: Serialize + DeserializeOwned> PageRequest<K> {
    /// Reads a request's `page_size` and `page_token`.
    pub fn parse(
        store: &Store,
        query: Query<'_>,
        page_size: i32,
        page_token: &str,
    ) -> Result<Self, Error> {
        let size = size(page_size)?;
        let fingerprint = fingerprint(query);
        let after = match page_token {
            "" => None,
            token => Some(open(store, &fingerprint, token)?),
        };
        Ok(Self {
            size,
            after,
            fingerprint,
            store: store.clone(),
        })
    }

    /// How many rows to read: one more than the page, to see whether another page follows.
    pub fn limit(&self) -> i64 {
        self.size + 1
    }

    /// The key after which the page begins: `filter(key.gt(after))`.
    pub fn after(&self) -> Option<&K> {
        self.after.as_ref()
    }

    /// Cuts the rows to the page and makes the token of the next one.
    pub fn finish<R>(
        &self,
        mut rows: Vec<R>,
        key: impl FnOnce(&R) -> K,
    ) -> Result<(Vec<R>, PageToken), Error> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if rows.len() <= size {
            return Ok((rows, String::new()));
        }
        rows.truncate(size);
        let token = match rows.last() {
            Some(last) => seal(&self.store, &self.fingerprint, &key(last))?,
            None => String::new(),
        };
        Ok((rows, token))
    }
}

fn fingerprint(query: Query<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [query.method, query.parent, query.filter, query.order_by] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn seal<K: Serialize>(store: &Store, fingerprint: &[u8; 32], key: &K) -> Result<String, Error> {
    let key = serde_json::to_vec(key).map_err(|_| Error::Corrupt { what: "page key" })?;
    let mut token = store.secret().sign(&signed(fingerprint, &key));
    token.extend_from_slice(&key);
    Ok(URL_SAFE_NO_PAD.encode(token))
}

fn open<K: DeserializeOwned>(
    store: &Store,
    fingerprint: &[u8; 32],
    token: &str,
) -> Result<K, Error> {
    let bytes = URL_SAFE_NO_PAD
        .decode(token)
        .map_err(|_| Error::PageToken)?;
    let (tag, key) = bytes.split_at_checked(TAG_BYTES).ok_or(Error::PageToken)?;
    if !store.secret().verify(&signed(fingerprint, key), tag) {
        return Err(Error::PageToken);
    }
    serde_json::from_slice(key).map_err(|_| Error::PageToken)
}

fn signed(fingerprint: &[u8; 32], key: &[u8]) -> Vec<u8> {
    [fingerprint, key].concat()
}
