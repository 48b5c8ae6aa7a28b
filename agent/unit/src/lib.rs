//! The unit agent: PID 1 of a unit's main container. It renders the configuration from the package's template, supervises the server,
//! and is the only one that lifts or lowers a member's rights.
//!
//! What it guarantees to the controller (each is tested against a real server):
//!
//! * **Boot harmless.** The rendered configuration parks the server: no writes, no stale reads, no acknowledgements. Only
//!   `GrantPrimary` and `FollowPrimary` lift that, with an epoch that is not older than the newest promise.
//! * **Durable first.** A promise or a grant is on the data volume (written, synced, renamed) before it takes effect.
//! * **A promise fences.** After `PromiseEpoch` the server is parked, or ended by SIGKILL and comes up parked.
//! * **A restart is never hidden.** A restarted primary does not get its epoch back: its data may have lost what only its replicas
//!   hold, so it needs a new epoch, hence an election.
//!
//! A primary that nobody can reach stops taking writes by itself after `min-replicas-max-lag`, because its replicas are silent or have
//! promised another epoch; no timer of the unit agent takes part in that.

pub mod config;
pub mod durable;
pub mod file;
pub mod identity;
pub mod info;
pub mod install;
pub mod launch;
pub mod link;
pub mod member;
pub mod passwords;
pub mod patience;
pub mod ready;
pub mod refusal;
pub mod render;
#[cfg(any(test, feature = "rig"))]
pub mod rig;
pub mod run;
pub mod serve;
pub mod supervise;
pub mod watch;
pub mod words;

/// `N` random bytes as lower-case hex digits.
pub(crate) fn random_hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    // the system's source fails only in a process that could not do cryptography at all
    let filled = aws_lc_rs::rand::fill(&mut bytes);
    assert!(filled.is_ok(), "the system has no random numbers");
    hex::encode(bytes)
}
