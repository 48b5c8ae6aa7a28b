//! What a member must not forget, on its data volume. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What a member must not forget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Form of this record; see [`VERSION`]. 0 is one that an agent before it wrote.
    #[serde(default)]
    pub version: u32,
    /// Born with the volume and never changed: tells these data from those of another volume under the same name. 32 hex digits.
    #[serde(default)]
    pub member_id: String,
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
    /// Whether the last run of the server had every write on the disk before it answered (`appendfsync always`).
    #[serde(default)]
    pub synced_writes: bool,
    /// Whether `dump.rdb` holds exactly the data of the last run, which was parked, with their position; good for one start.
    #[serde(default)]
    pub snapshot: bool,
    /// What a later version of the unit agent wrote; kept, so that going back and forth between versions forgets nothing.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// The newest form of the record that this agent knows.
pub const VERSION: u32 = 1;

/// What a member was told to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Of a replica: an earlier run of the server followed the same history, or the same address, and what it acknowledged may be gone.
    #[serde(default)]
    pub interrupted: bool,
    /// Of a replica: where its primary was. A server that reconnects by itself to a primary that began a new history there
    /// acknowledges a history that `primary_replid` does not name.
    #[serde(default)]
    pub primary_host: String,
    /// Of a replica: on which port.
    #[serde(default)]
    pub primary_port: i32,
    /// Of a primary: member ids of itself and of everybody who may have acknowledged in the epoch. Empty when it was not told.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub group: BTreeSet<String>,
}

/// Lead or follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It accepts writes.
    Primary,
    /// It follows.
    #[default]
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
            version: VERSION,
            member_id: String::new(),
            promised_epoch: 0,
            grant: None,
            aof_current: false,
            aof_intact: true,
            host_restarted: false,
            boot_id: String::new(),
            clean_shutdown: false,
            synced_writes: false,
            snapshot: false,
            unknown: serde_json::Map::new(),
        }
    }
}

impl Grant {
    /// Of a replica: the history it shall follow.
    pub fn history(&self) -> super::rules::History {
        super::rules::History {
            replid: self.primary_replid.clone(),
            offset: self.primary_offset,
            host: self.primary_host.clone(),
            port: self.primary_port,
        }
    }

    /// Whether it was told to follow the address of this history.
    pub fn followed(&self, history: &super::rules::History) -> bool {
        !self.primary_host.is_empty()
            && (self.primary_host.as_str(), self.primary_port)
                == (history.host.as_str(), history.port)
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
