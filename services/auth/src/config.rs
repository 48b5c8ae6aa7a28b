//! Settings of the module.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of module `auth`. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Life of an access token.
    pub access_token_seconds: u64,
    /// Life of a refresh token that is not used.
    pub refresh_token_seconds: u64,
    /// Longest time from a login to the next, however often it is refreshed.
    pub session_seconds: u64,
    /// How long a key signs before the next takes over.
    pub key_rotation_seconds: u64,
    /// File (mode 0600, made when missing) with the key that seals the private signing keys in the store. Without it they lie in the
    /// store as they are, and who can read the store can make tokens.
    pub key_file: Option<PathBuf>,
    /// Wrong passwords of one user from one address before the first lockout.
    pub login_failures: u32,
    /// The first lockout; each further failure doubles it.
    pub lockout_seconds: u64,
    /// The longest lockout.
    pub longest_lockout_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            access_token_seconds: 5 * 60,
            refresh_token_seconds: 7 * DAY,
            session_seconds: 30 * DAY,
            key_rotation_seconds: 30 * DAY,
            key_file: None,
            login_failures: 5,
            lockout_seconds: 10,
            longest_lockout_seconds: 15 * 60,
        }
    }
}

impl Config {
    pub(crate) fn access_token(&self) -> Duration {
        Duration::from_secs(self.access_token_seconds)
    }

    pub(crate) fn refresh_token(&self) -> Duration {
        Duration::from_secs(self.refresh_token_seconds)
    }

    pub(crate) fn session(&self) -> Duration {
        Duration::from_secs(self.session_seconds)
    }

    pub(crate) fn key_rotation(&self) -> Duration {
        Duration::from_secs(self.key_rotation_seconds)
    }
}
