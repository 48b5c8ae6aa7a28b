//! Who a token stands for and what that user may do, decided locally from a snapshot of the policy.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tonic::Status;
use upm_proto::auth::v1::{PolicySnapshot, WatchPolicyRequest, policy_service_client};

use crate::{Channel, drain::Drain, error::Kind, status};

mod policy;
mod token;

pub use self::policy::{Beyond, Projects, matches};
pub use self::token::{AUDIENCE, Claims, ISSUER};

use self::policy::Policy;

/// A verified token is trusted this long before its signature is checked again.
const CACHE_FOR: Duration = Duration::from_mins(1);
/// At most this many verified tokens are remembered.
const CACHE_SIZE: usize = 10_000;

/// Verifies tokens and decides permissions. Clones share the snapshot. Without a snapshot it refuses (UNAVAILABLE `POLICY_UNAVAILABLE`).
#[derive(Clone)]
pub struct Verifier {
    inner: Arc<Inner>,
}

struct Inner {
    policy: ArcSwapOption<Policy>,
    verified: Mutex<HashMap<[u8; 32], Cached>>,
    revision: watch::Sender<Option<i64>>,
}

#[derive(Clone)]
struct Cached {
    user: Arc<str>,
    expires: SystemTime,
    until: SystemTime,
    /// Of the policy whose keys verified it: a later one may have dropped them.
    revision: i64,
}

/// Who a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// `users/{user}`.
    pub user: String,
    /// When the token ends.
    pub expires: SystemTime,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Verifier {
    /// A verifier without a snapshot: see [`Verifier::watch`] and [`Verifier::update`].
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                policy: ArcSwapOption::empty(),
                verified: Mutex::default(),
                revision: watch::Sender::new(None),
            }),
        }
    }

    /// A verifier with a snapshot that nobody replaces.
    pub fn fixed(snapshot: &PolicySnapshot) -> Self {
        let verifier = Self::new();
        verifier.update(snapshot);
        verifier
    }

    /// Takes a snapshot, unless a newer one is there.
    pub fn update(&self, snapshot: &PolicySnapshot) {
        if self
            .revision()
            .is_some_and(|known| known > snapshot.revision)
        {
            return;
        }
        self.inner
            .policy
            .store(Some(Arc::new(Policy::new(snapshot))));
        self.verified().clear();
        self.inner.revision.send_replace(Some(snapshot.revision));
    }

    /// Revision of the snapshot, `None` while there is none.
    pub fn revision(&self) -> Option<i64> {
        *self.inner.revision.borrow()
    }

    /// Waits for the first snapshot.
    pub async fn ready(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self
            .inner
            .revision
            .subscribe()
            .wait_for(Option::is_some)
            .await;
    }

    /// Follows the policy of `auth` until the process drains. Reconnects with growing pauses and keeps the last good snapshot
    /// meanwhile. The task's owner spawns it.
    pub async fn watch(self, auth: Channel, drain: Drain) {
        let mut pause = Pause::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            let ended = tokio::select! {
                () = drain.signalled() => return,
                ended = self.follow(auth.clone(), &mut pause) => ended,
            };
            let wait = pause.next();
            match ended {
                Ok(()) => tracing::debug!(?wait, "the policy stream ended"),
                Err(error) => tracing::warn!(
                    code = ?error.code(), message = error.message(), ?wait, revision = ?self.revision(),
                    "cannot follow the policy"
                ),
            }
            tokio::select! {
                () = drain.signalled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn follow(&self, auth: Channel, pause: &mut Pause) -> Result<(), Status> {
        let mut client = policy_service_client::PolicyServiceClient::new(auth);
        let request = WatchPolicyRequest {
            known_revision: self.revision().unwrap_or(0),
        };
        let mut snapshots = client.watch_policy(request).await?.into_inner();
        while let Some(snapshot) = snapshots.message().await? {
            tracing::debug!(revision = snapshot.revision, "policy");
            self.update(&snapshot);
            pause.reset();
        }
        Ok(())
    }

    /// Verifies an access token. Errors: UNAUTHENTICATED `TOKEN_INVALID`, `TOKEN_EXPIRED`, `USER_DISABLED`; UNAVAILABLE `POLICY_UNAVAILABLE`.
    pub fn verify(&self, token: &str) -> Result<Verified, Status> {
        let policy = self.inner.policy.load_full().ok_or_else(unavailable)?;
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = SystemTime::now();
        let cached = self
            .verified()
            .get(&hash)
            .filter(|cached| cached.until > now && cached.revision == policy.revision())
            .cloned();
        let found = match cached {
            Some(cached) => cached,
            None => self.verify_signature(&policy, token, hash, now)?,
        };
        if policy.is_disabled(&found.user) {
            return Err(status::own(
                Kind::Unauthenticated,
                "USER_DISABLED",
                "the user is disabled",
            ));
        }
        Ok(Verified {
            user: found.user.to_string(),
            expires: found.expires,
        })
    }

    fn verify_signature(
        &self,
        policy: &Policy,
        token: &str,
        hash: [u8; 32],
        now: SystemTime,
    ) -> Result<Cached, Status> {
        let claims = token::decode(token, policy.keys())?;
        let expires = claims.expires();
        let cached = Cached {
            user: claims.sub.into(),
            expires,
            until: expires.min(now + CACHE_FOR),
            revision: policy.revision(),
        };
        let mut verified = self.verified();
        if verified.len() >= CACHE_SIZE {
            verified.retain(|_, old| old.until > now);
        }
        if verified.len() >= CACHE_SIZE {
            verified.clear();
        }
        verified.insert(hash, cached.clone());
        Ok(cached)
    }

    /// Whether a user has a permission in a project, or on the platform. False without a snapshot and for disabled users.
    pub fn may(&self, user: &str, permission: &str, project: Option<&str>) -> bool {
        self.inner
            .policy
            .load()
            .as_ref()
            .is_some_and(|policy| policy.may(user, permission, project))
    }

    /// In which projects a user has a permission.
    pub fn projects(&self, user: &str, permission: &str) -> Projects {
        self.inner
            .policy
            .load()
            .as_ref()
            .map_or_else(Projects::none, |policy| policy.projects(user, permission))
    }

    /// The first permission that `other` has and `user` has not, see [`crate::Context::require_no_less`].
    ///
    /// # Errors
    /// UNAVAILABLE `POLICY_UNAVAILABLE`.
    pub fn first_beyond(&self, user: &str, other: &str) -> Result<Option<Beyond>, Status> {
        let policy = self.inner.policy.load_full().ok_or_else(unavailable)?;
        Ok(policy.first_beyond(user, other))
    }

    /// Who has a role (`roles/{role}`) on the platform, disabled or not: `users/{user}`.
    ///
    /// # Errors
    /// UNAVAILABLE `POLICY_UNAVAILABLE`.
    pub fn holders(&self, role: &str) -> Result<std::collections::BTreeSet<String>, Status> {
        let policy = self.inner.policy.load_full().ok_or_else(unavailable)?;
        Ok(policy.holders(role))
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Cached>> {
        self.inner
            .verified
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn unavailable() -> Status {
    status::own_later(
        Kind::Unavailable,
        "POLICY_UNAVAILABLE",
        "the policy is not known yet",
        Duration::from_secs(1),
    )
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

/// Growing pauses with jitter.
#[derive(Debug)]
pub(crate) struct Pause {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pause {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// Between half and all of the current pause; the one after is twice as long.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
pub(crate) mod tests;
