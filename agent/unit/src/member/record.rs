//! What a member must not forget, on its data volume. Pure.

use serde::{Deserialize, Serialize};

/// What a member must not forget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The newest epoch it promised; it never goes down.
    pub promised_epoch: i64,
    /// What it was last told to be.
    pub grant: Option<Grant>,
    /// Whether the append-only file holds all data.
    #[serde(default)]
    pub aof_current: bool,
    /// Whether every start since the grant found an append-only file with all data of the run before.
    #[serde(default = "yes")]
    pub aof_intact: bool,
    /// Whether the machine was restarted, or the volume moved, under a running server since the grant.
    #[serde(default)]
    pub host_restarted: bool,
    /// Which run of the kernel the server last ran under.
    #[serde(default)]
    pub boot_id: String,
    /// Whether the server was shut down cleanly.
    #[serde(default)]
    pub clean_shutdown: bool,
}

/// What a member was told to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Lead or follow.
    pub role: Role,
    /// Under which epoch.
    pub epoch: i64,
    /// The run of the server that was told; another run has to be told anew.
    pub run_id: String,
    /// Of a primary: `min-replicas-to-write`.
    #[serde(default)]
    pub min_replicas: i32,
    /// Of a replica: the replication id of its primary.
    #[serde(default)]
    pub primary_replid: String,
    /// Of a replica: the offset of its primary when the epoch began.
    #[serde(default)]
    pub primary_offset: i64,
    /// Of a replica: an earlier run of the server followed the same history, and what it acknowledged may be gone.
    #[serde(default)]
    pub interrupted: bool,
}

/// Lead or follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It accepts writes.
    Primary,
    /// It follows.
    Replica,
}

impl Role {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

fn yes() -> bool {
    true
}

impl Default for Record {
    fn default() -> Self {
        Self {
            promised_epoch: 0,
            grant: None,
            aof_current: false,
            aof_intact: true,
            host_restarted: false,
            boot_id: String::new(),
            clean_shutdown: false,
        }
    }
}

impl Grant {
    /// Of a replica: the history it shall follow.
    pub fn history(&self) -> super::rules::History {
        super::rules::History {
            replid: self.primary_replid.clone(),
            offset: self.primary_offset,
        }
    }
}

impl Record {
    /// Whether it was last told to lead, in this epoch.
    pub fn leads(&self, epoch: i64) -> bool {
        self.grant
            .as_ref()
            .is_some_and(|grant| grant.role == Role::Primary && grant.epoch == epoch)
    }
}
