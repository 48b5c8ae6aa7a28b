//! Unit: one database server of a set: a pod with a stable name and its volumes.

#![allow(clippy::duplicated_attributes)] // the derive's columns share types

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{PersistentVolumeClaimSpec, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// What a unit shall be. Written by the set's controller.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "upm.syntropycloud.io",
    version = "v1alpha2",
    kind = "Unit",
    plural = "units",
    namespaced,
    shortname = "un",
    category = "upm",
    status = "UnitStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "One database server of a UnitSet: a pod with a stable name and its volumes.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Role", type_ = "string", json_path = ".status.role"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(
        name = "Process State",
        type_ = "string",
        json_path = ".status.processState"
    ),
    printcolumn(name = "Node Name", type_ = "string", json_path = ".status.nodeName"),
    printcolumn(name = "Node Ready", type_ = "string", json_path = ".status.nodeReady"),
    printcolumn(name = "Task", type_ = "string", json_path = ".status.task"),
    printcolumn(
        name = "Host IP",
        type_ = "string",
        priority = 1,
        json_path = ".status.hostIP"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "oldSelf.unitSet == '' || (self.unitSet == oldSelf.unitSet && self.ordinal == oldSelf.ordinal)", "message": "a unit keeps its set and its ordinal" }
]))]
pub struct UnitSpec {
    /// Name of the set.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub unit_set: String,
    /// Number in the set.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub ordinal: i32,
    /// Whether the pod shall exist.
    #[serde(default = "yes")]
    pub startup: bool,
    /// ConfigMap with the template of the configuration.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub config_template_name: String,
    /// ConfigMap with the values of this unit's configuration.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub config_value_name: String,
    /// The volumes.
    #[serde(default)]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
    /// The pod.
    #[serde(default)]
    pub template: PodTemplate,
    /// What to do with a pod that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_pod_recovery_policy: Option<FailedPodRecoveryPolicy>,
}

fn yes() -> bool {
    true
}

/// A volume of a unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaimTemplate {
    /// Name of the storage; the claim is `<unit>-<name>`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Labels of the claim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the claim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The claim.
    #[schemars(schema_with = "schema::embedded")]
    pub spec: PersistentVolumeClaimSpec,
}

/// The pod of a unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Name of the pod: the unit's.
    #[serde(default)]
    pub name: String,
    /// Namespace of the pod: the unit's.
    #[serde(default)]
    pub namespace: String,
    /// Labels of the pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The pod's spec; the API server validates it when the pod is made.
    #[serde(default)]
    #[schemars(schema_with = "schema::embedded")]
    pub spec: PodSpec,
}

/// What to do with a pod that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedPodRecoveryPolicy {
    /// Whether to replace it.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// How many times ten seconds to wait first.
    #[serde(default)]
    #[schemars(range(min = 0, max = 360))]
    pub reconcile_threshold: i32,
}

/// State of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// No pod runs yet.
    #[default]
    Pending,
    /// The pod runs, the server does not answer yet.
    Running,
    /// The server answers.
    Ready,
    /// The pod ended by itself.
    Succeeded,
    /// The pod ended with an error.
    Failed,
    /// The node does not report.
    Unknown,
    /// `startup: false`: there is no pod.
    Stopped,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Ready => "Ready",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
            Self::Stopped => "Stopped",
        })
    }
}

/// What a unit is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitStatus {
    /// Ready.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// State of the unit.
    #[serde(default)]
    pub phase: Phase,
    /// Whether the server answers.
    #[serde(default)]
    pub ready: bool,
    /// `True`, `False` or `Unknown`: whether the pod's node reports.
    #[serde(default)]
    pub node_ready: String,
    /// Node of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// What is being done with the unit, or what it waits for.
    #[serde(default)]
    pub task: String,
    /// State of the server's container: `stopped`, `starting`, `running` or `crashed`.
    #[serde(default)]
    pub process_state: String,
    /// Address of the node.
    #[serde(rename = "hostIP", default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
    /// Addresses of the pod.
    #[serde(rename = "podIPs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub pod_ips: Vec<PodIp>,
    /// Version of the software in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Digest of what the pod was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// `primary` or `replica`, when a topology gave it a role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Whether the pod was started with the unit's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_sync_status: Option<ConfigSyncStatus>,
    /// The volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub persistent_volume_claim: Vec<ClaimStatus>,
}

/// An address of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

/// Whether the configuration is the wanted one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigSyncStatus {
    /// `True` or `False`.
    pub status: String,
    /// Since when.
    pub last_transition_time: Time,
}

/// One volume of a unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimStatus {
    /// Name of the claim.
    pub name: String,
    /// Name of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_name: Option<String>,
    /// How it may be mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub access_modes: Vec<String>,
    /// Its size.
    #[serde(default)]
    pub capacity: ClaimCapacity,
    /// Pending, Bound or Lost.
    #[serde(default)]
    pub phase: String,
}

/// Size of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimCapacity {
    /// As the volume reports it, e.g. `10Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
}
