//! RedisReplication: one writable Redis server and its replicas.

#![allow(clippy::duplicated_attributes)] // the derive's columns share types

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;
use crate::unit_set::ServiceTemplate;

/// What the replication shall be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "upm.syntropycloud.io",
    version = "v1alpha1",
    kind = "RedisReplication",
    plural = "redisreplications",
    namespaced,
    shortname = "rr",
    category = "upm",
    status = "RedisReplicationStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "One writable Redis server and its replicas.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Primary", type_ = "string", json_path = ".status.primary"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch"),
    printcolumn(name = "Writable", type_ = "boolean", json_path = ".status.writable"),
    printcolumn(name = "Ready", type_ = "boolean", json_path = ".status.ready"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type=='PrimaryElected')].message"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.secret.name == oldSelf.secret.name", "message": "secret.name is immutable" },
    { "rule": "self.replica.all(r, r.name != self.source.name)", "message": "the source is also a replica" },
    { "rule": "self.replica.all(r, r.host != self.source.host || r.port != self.source.port)", "message": "the source's address is also a replica's" }
]))]
pub struct RedisReplicationSpec {
    /// The member that is the primary until an election or switchover names another. A later edit is a switchover, honoured once.
    pub source: Node,
    /// The other members.
    #[serde(default)]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub replica: Vec<ReplicaNode>,
    /// Where the password is. Immutable.
    pub secret: RedisSecret,
    /// Type of the services `<name>-readwrite` and `<name>-readonly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceTemplate>,
    /// A wanted change of the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switchover: Option<Switchover>,
    /// Whether an election may lose writes that were not confirmed by enough members.
    #[serde(default)]
    pub data_loss_policy: DataLossPolicy,
    /// The way out of a refused election: accepts exactly the loss that `status.refusal` states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,
    /// Whether a group in which every member is new and empty may begin.
    #[serde(default)]
    pub bootstrap: Bootstrap,
    /// Pods of Sentinels, for existing manifests. They have no effect, and the condition `IgnoredFields` says so: members serve only what is granted
    /// to them, which Sentinels cannot do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 253)))]
    pub sentinel: Vec<String>,
    /// Key of encrypted passwords, for Secrets of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aes_secret: Option<AesSecret>,
}

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Name of the unit.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Host of the server.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9:]+$"))]
    pub host: String,
    /// Port of the server.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// Host that clients are told; `host` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub announce_host: Option<String>,
    /// Port that clients are told; `port` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub announce_port: Option<i32>,
}

/// A member that follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaNode {
    /// Name of the unit.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Host of the server.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9:]+$"))]
    pub host: String,
    /// Port of the server.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// Left out of routes and elections.
    #[serde(default)]
    pub isolated: bool,
    /// Host that clients are told; `host` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub announce_host: Option<String>,
    /// Port that clients are told; `port` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub announce_port: Option<i32>,
}

/// Where the password is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its key, which is also the user's name.
    #[serde(default = "default_user")]
    #[schemars(length(min = 1, max = 63))]
    pub redis: String,
}

fn default_user() -> String {
    "default".to_owned()
}

/// Key of encrypted passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AesSecret {
    /// Name of the Secret.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its key.
    #[schemars(length(max = 253))]
    pub key: String,
}

/// A wanted change of the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Switchover {
    /// Unique name of the request; its outcome is reported once under this name.
    #[schemars(length(min = 1, max = 128))]
    pub request_id: String,
    /// Name of the wanted primary; empty: the best replica.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub target: String,
    /// The epoch the request was made in; in another epoch it is refused.
    #[schemars(range(min = 0))]
    pub expected_epoch: i64,
}

/// The acceptance of a stated loss.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failover {
    /// Unique name of the request.
    #[schemars(length(min = 1, max = 128))]
    pub request_id: String,
    /// The epoch that the refusal was stated in; in another epoch nothing is accepted.
    #[schemars(range(min = 0))]
    pub expected_epoch: i64,
    /// `status.refusal.lossId`: names the member that will lead and the data that are given up. Another loss is not accepted.
    #[schemars(length(min = 1, max = 64))]
    pub accept_loss: String,
}

/// Whether a group may begin empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Bootstrap {
    /// Members that are all new and empty begin a new group.
    #[default]
    Allow,
    /// The group has served: members that are all new and empty mean that its data are gone, and nobody is elected.
    Refuse,
}

/// Whether an election may lose writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DataLossPolicy {
    /// Rather no primary than a lost write.
    #[default]
    Never,
    /// An election may go on when not enough members are reachable; the bytes at risk are reported.
    Bounded,
}

/// State of a replication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The first primary is being made.
    #[default]
    SettingUp,
    /// Every member does its part.
    Healthy,
    /// Writes work, some member does not.
    Degraded,
    /// A new primary is being elected.
    Electing,
    /// The primary is being changed as asked for.
    SwitchingOver,
    /// Nothing safe can be done; the conditions say which fact would help.
    Refused,
}

/// What the replication is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisReplicationStatus {
    /// TopologyReady, ResourceReady, PrimaryElected.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The members by name.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub topology: BTreeMap<String, Member>,
    /// Name of the member that may take writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Grows by one with every change of the primary.
    #[serde(default)]
    pub epoch: i64,
    /// The replicas whose acknowledgement may count.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub ackers: Vec<String>,
    /// State of the whole.
    #[serde(default)]
    pub phase: Phase,
    /// Whether the primary takes writes now.
    #[serde(default)]
    pub writable: bool,
    /// Name of the service for writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readwrite_service: Option<String>,
    /// Name of the service for reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readonly_service: Option<String>,
    /// Whether every member that is not isolated does its part.
    #[serde(default)]
    pub ready: bool,
    /// `spec.source.name` when it was last acted on; an edit of it is a switchover, honoured once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_source: Option<String>,
    /// Outcome of the last switchover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_switchover: Option<LastSwitchover>,
    /// Ids of the last `spec.switchover` and the last edit of `spec.source` that were answered. Moves of the primary that nobody asked for there
    /// replace [`Self::last_switchover`], and must not bring an answered request back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 8))]
    pub answered_requests: Vec<String>,
    /// Member ids of the primary and the ackers by name: born with their volumes, so that another volume under the same name is not
    /// taken for the one that acknowledged.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub member_ids: BTreeMap<String, String>,
    /// Ackers that the primary does not admit any more: they are about to be taken off the ackers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub excluded: Vec<String>,
    /// Grows with every change of epoch, primary, ackers, and what belongs to them: the primary refuses what an older record admits.
    #[serde(default)]
    pub record_version: i64,
    /// Volumes that may have acknowledged in this epoch and whose members are not here any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub departed: Vec<DepartedVolume>,
    /// What whoever leads next must have, besides what the ackers have: set when the last acker left and nobody but the primary had its
    /// data; removed when an acker has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub must_cover: Option<HistoryPosition>,
    /// Who counted in the epoch before, until the recorded one is known to have begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<PriorEpoch>,
    /// Why the last primary was elected, and what may have been lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_election: Option<LastElection>,
    /// Why nobody can be elected, and the way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// The last known position of every member, for an election after a full outage.
    #[serde(default)]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub positions: Vec<Position>,
}

/// A volume that may have acknowledged and is not here.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct DepartedVolume {
    /// Name of the member that had it.
    #[serde(default)]
    pub name: String,
    /// Its member id; empty when it never told one.
    #[serde(default)]
    pub member_id: String,
}

/// Who counted in an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PriorEpoch {
    /// The epoch.
    #[serde(default)]
    pub epoch: i64,
    /// Its primary.
    #[serde(default)]
    pub primary: String,
    /// The replicas whose acknowledgement counted.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub ackers: Vec<String>,
    /// Member ids of all of them by name.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub member_ids: BTreeMap<String, String>,
    /// Volumes that were not here any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub departed: Vec<DepartedVolume>,
    /// What whoever led next had to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub must_cover: Option<HistoryPosition>,
}

/// A position in a history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryPosition {
    /// Id of the history.
    #[serde(default)]
    pub replid: String,
    /// Replication offset in bytes.
    #[serde(default)]
    pub offset: i64,
}

/// Why a primary was elected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastElection {
    /// The epoch that began.
    #[serde(default)]
    pub epoch: i64,
    /// Who leads in it.
    #[serde(default)]
    pub primary: String,
    /// What shows that nothing confirmed is lost, a CamelCase word.
    #[serde(default)]
    pub evidence: String,
    /// What may have been lost; absent when nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_risk: Option<String>,
}

/// Why nobody can be elected, and the way out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The member that would lead after `spec.failover`; absent when no member with data is reachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
    /// What would be lost then.
    #[serde(default)]
    pub loss: String,
    /// Names exactly this candidate and this loss; `spec.failover.acceptLoss` repeats it. Empty without a candidate.
    #[serde(default)]
    pub loss_id: String,
    /// Each of these facts would help.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub missing: Vec<MissingFact>,
}

/// A fact that is missing for a safe election.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MissingFact {
    /// Its name, a CamelCase word.
    #[serde(default)]
    pub predicate: String,
    /// About which member; empty for the group.
    #[serde(default)]
    pub member: String,
    /// What is the case.
    #[serde(default)]
    pub detail: String,
}

/// What a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    /// It takes writes.
    Source,
    /// It follows.
    Replica,
    /// It does neither, or is not reachable.
    #[default]
    None,
}

/// Whether a member does its part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Health {
    /// It does.
    Healthy,
    /// It does not.
    #[default]
    Failed,
}

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Host of the server.
    #[serde(default)]
    pub host: String,
    /// Port of the server.
    #[serde(default)]
    pub port: i32,
    /// Host that clients are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announce_host: Option<String>,
    /// Port that clients are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announce_port: Option<i32>,
    /// What it is.
    #[serde(default)]
    pub role: Role,
    /// Whether it does its part.
    #[serde(default)]
    pub status: Health,
    /// Whether it may get traffic.
    #[serde(default)]
    pub ready: bool,
    /// Replication offset in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// Id of the history that the offset counts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replid: Option<String>,
    /// How many bytes it is behind the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_bytes: Option<i64>,
    /// `up` or `down`, as the replica reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_link_status: Option<String>,
    /// Whether the replica copies the whole data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_sync_in_progress: Option<bool>,
    /// Host the replica follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_host: Option<String>,
    /// Port the replica follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<i32>,
    /// Version of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Number of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<i64>,
}

/// Outcome of a switchover.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastSwitchover {
    /// Name of the request.
    pub request_id: String,
    /// The primary before.
    #[serde(default)]
    pub from: String,
    /// The wanted primary.
    #[serde(default)]
    pub to: String,
    /// The epoch after it.
    #[serde(default)]
    pub epoch: i64,
    /// How it ended.
    #[serde(default)]
    pub result: SwitchoverResult,
    /// Why it failed, as a CamelCase word.
    #[serde(default)]
    pub reason: String,
    /// The same for people.
    #[serde(default)]
    pub message: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
}

/// How a switchover ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SwitchoverResult {
    /// The target is the primary.
    Succeeded,
    /// The primary did not change.
    #[default]
    Failed,
}

/// The last known position of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// Name of the member.
    pub name: String,
    /// Id of the history.
    #[serde(default)]
    pub replid: String,
    /// Replication offset in bytes.
    #[serde(default)]
    pub offset: i64,
    /// Number of keys.
    #[serde(default)]
    pub keys: i64,
}
