//! What is asked of the cluster for one service beyond its spec: where its operations have brought it.

use serde::{Deserialize, Serialize};

use crate::service::Life;

/// The part of the desired state that operations move step by step. Intents are a function of spec and shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Units of the UnitSet.
    pub units: u32,
    /// Members of the replication resource; never more than `units` for long.
    pub members: u32,
    /// RFC 3339; a change restarts every unit, rolling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
    /// What removing the UnitSet does to its volumes.
    #[serde(default)]
    pub volumes: Volumes,
    /// What to do with volumes of an earlier UnitSet of this name.
    #[serde(default)]
    pub retained: RetainedVolumes,
    /// The last wanted switchover. It stays, because its request id makes it a thing of the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switchover: Option<SwitchoverWish>,
    /// Whether members were ever told to serve; from then on volumes may hold a user's data.
    #[serde(default)]
    pub served: bool,
    /// Whether the service was open once, or was made of kept volumes: members that are all empty have lost its data.
    #[serde(default)]
    pub begun: bool,
}

/// What removing the UnitSet does to its volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Volumes {
    /// They stay.
    #[default]
    Retain,
    /// They go.
    Delete,
}

/// What to do with volumes of an earlier UnitSet of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetainedVolumes {
    /// Refuse when there are any.
    #[default]
    Refuse,
    /// Use them.
    Adopt,
    /// Remove them first.
    Discard,
}

/// A wanted change of the primary. Its request id makes it happen once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchoverWish {
    /// The operation's id.
    pub request_id: String,
    /// Unit that becomes primary.
    pub target: String,
    /// The epoch it was decided in; the cluster refuses it in any other.
    pub expected_epoch: i64,
    /// Set for a failover: names the loss of confirmed writes that is accepted with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_loss: Option<String>,
}

/// What an operation was asked for, as its steps need it. Persisted with the operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Members after the operation; 0 when it does not change them.
    #[serde(default)]
    pub members: u32,
    /// Members before it.
    #[serde(default)]
    pub previous_members: u32,
    /// The restart's mark, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
    /// The switchover that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switchover: Option<SwitchoverWish>,
    /// What a deletion does to volumes.
    #[serde(default)]
    pub volumes: Volumes,
    /// What a creation does with volumes that it finds.
    #[serde(default)]
    pub retained: RetainedVolumes,
    /// What was kept of the earlier service of this name, so that an undone creation keeps knowing it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Retained>,
    /// Where the service was in its life before; `None` for a creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_life: Option<Life>,
}

/// Volumes that a deleted service left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// Cluster id.
    pub cluster: String,
    /// How many members had volumes.
    pub members: u32,
    /// Size of each volume, a Kubernetes quantity.
    pub size: String,
    /// Since when, microseconds UTC.
    pub since_us: i64,
}
