//! TLS 1.3 tickets: who comes back proves by a ticket that it was here with its certificate, which spares both sides signatures. Servers
//! keep nothing: the ticket holds the session, sealed with a key that every replica derives from the authority's, so tickets outlive
//! restarts and work with other replicas. Who resumes is still checked: the listener verifies the certificates in the ticket as in a full
//! handshake (chain, validity, SPIFFE id), and what asks for more, such as revocation, is asked of each session.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;
use sha2::{Digest as _, Sha256};

/// A key seals tickets for this long, and opens them for as long again.
const TURN: Duration = Duration::from_secs(6 * 3600);
/// Bytes of the number of the turn before a ticket.
const TURN_LEN: usize = 8;

/// Seals and opens tickets.
pub struct Tickets {
    /// Replaced with the authority's key.
    secret: Arc<ArcSwap<[u8; 32]>>,
}

impl Tickets {
    /// Tickets of all servers that know this secret.
    pub(super) fn of(secret: Arc<ArcSwap<[u8; 32]>>) -> Self {
        Self { secret }
    }

    fn turn_at(time: SystemTime) -> u64 {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs() / TURN.as_secs()
    }

    fn key(&self, turn: u64) -> Option<RandomizedNonceKey> {
        let mut digest = Sha256::new();
        digest.update(b"upm tls ticket ");
        digest.update(**self.secret.load());
        digest.update(turn.to_be_bytes());
        RandomizedNonceKey::new(&AES_256_GCM, &digest.finalize()).ok()
    }

    fn seal(&self, turn: u64, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let number = turn.to_be_bytes();
        let nonce = self
            .key(turn)?
            .seal_in_place_append_tag(Aad::from(&number), &mut sealed)
            .ok()?;
        Some([&number[..], nonce.as_ref(), &sealed].concat())
    }

    fn open(&self, now: u64, ticket: &[u8]) -> Option<Vec<u8>> {
        let (number, rest) = ticket.split_at_checked(TURN_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let number: [u8; TURN_LEN] = number.try_into().ok()?;
        let turn = u64::from_be_bytes(number);
        if turn != now && turn + 1 != now {
            return None;
        }
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self
            .key(turn)?
            .open_in_place(nonce, Aad::from(&number), &mut sealed)
            .ok()?
            .len();
        sealed.truncate(plain);
        Some(sealed)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TURN.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(Self::turn_at(SystemTime::now()), plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(Self::turn_at(SystemTime::now()), cipher)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
