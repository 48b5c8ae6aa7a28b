//! UnitSet: a number of equal database servers, each with its own name, volumes and configuration.

#![allow(clippy::duplicated_attributes)] // the derive's columns share types

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerResizePolicy, EnvVar, ResourceRequirements, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{names, schema};

/// What a set of units shall be.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "upm.syntropycloud.io",
    version = "v1alpha2",
    kind = "UnitSet",
    plural = "unitsets",
    namespaced,
    shortname = "us",
    category = "upm",
    status = "UnitSetStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A set of equal database servers, each with its own name, volumes and configuration.",
    scale(
        spec_replicas_path = ".spec.units",
        status_replicas_path = ".status.units"
    ),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Expected", type_ = "integer", json_path = ".spec.units"),
    printcolumn(name = "Current", type_ = "integer", json_path = ".status.units"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyUnits"),
    printcolumn(
        name = "Updated",
        type_ = "integer",
        json_path = ".status.updatedUnits"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type=='Ready')].message"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.type == oldSelf.type", "message": "type is immutable: another engine needs another UnitSet" },
    { "rule": "oldSelf.storage.all(old, self.storage.exists(now, now.name == old.name))", "message": "a storage cannot be removed: its volumes hold data" },
    { "rule": "self.storage.all(s, !self.emptyDir.exists(e, e.name == s.name))", "message": "a storage and an emptyDir have the same name" }
]))]
pub struct UnitSetSpec {
    /// Kind of server: name of the main container and key in the package's ConfigMaps. Immutable.
    #[serde(rename = "type")]
    #[schemars(
        length(min = 1, max = 40),
        regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub type_: String,
    /// Edition of the software, e.g. `community`; part of the default package's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub edition: Option<String>,
    /// Version of the software, e.g. `7.0.15`. A change is a rolling update.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// Base name of the package's objects in the system namespace; `<type>[-<edition>]-<version>` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub package: Option<String>,
    /// Number of units, 1 to 64. Scaling in removes the highest ordinals.
    #[schemars(range(min = 1, max = 64))]
    pub units: i32,
    /// Whether the servers shall run. `false` stops them, primary last, and keeps the volumes.
    #[serde(default = "yes")]
    pub startup: bool,
    /// A change of this text restarts every unit, rolling. When it is taken away, or set to an earlier time (RFC 3339), units that were started for a
    /// later one are left as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub restarted_at: Option<String>,
    /// Parameters over the package's values; the key is the value's path below the type, with `/` between levels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 512))]
    pub parameters: BTreeMap<String, String>,
    /// Limits and requests of the main container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::resources")]
    pub resources: Option<ResourceRequirements>,
    /// Resize policy of the main container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub resize_policy: Vec<ContainerResizePolicy>,
    /// Environment of every container, over what the package sets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// A service for the whole set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_service: Option<ServiceTemplate>,
    /// A service for every unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_service: Option<ServiceTemplate>,
    /// How a change reaches the running units.
    #[serde(default)]
    pub update_strategy: UpdateStrategy,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub node_affinity_preset: Vec<NodeAffinityPreset>,
    /// Whether units of the set may share a node: `soft`, the default, prefers not; `hard` forbids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_anti_affinity_preset: Option<PodAntiAffinityPreset>,
    /// Volumes of every unit. Sizes only grow; a storage is never removed.
    #[serde(default)]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub storage: Vec<Storage>,
    /// Volumes that live as long as the pod.
    #[serde(default)]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub empty_dir: Vec<EmptyDir>,
    /// Secrets and ConfigMaps to mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub extra_volume: Vec<ExtraVolume>,
    /// A Secret with random passwords that is made once, in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_secret: Option<GeneratedSecret>,
    /// What deleting the UnitSet, or scaling it in, does to the volumes.
    #[serde(default)]
    pub volume_retention_policy: VolumeRetentionPolicy,
    /// What to do with volumes of an earlier UnitSet of this name.
    #[serde(default)]
    pub retained_volumes: RetainedVolumes,
    /// Certificates by cert-manager. Kept for existing manifests; units get their identity from the cluster's own CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_profile: Option<CertificateProfile>,
    /// A PodMonitor of the Prometheus operator for the exporters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_monitor: Option<PodMonitor>,
}

impl UnitSetSpec {
    /// Paths of the fields that are set and have no effect: accepted for existing manifests.
    pub fn ignored(&self) -> Vec<&'static str> {
        let mut ignored = Vec::new();
        if self.certificate_profile.is_some() {
            ignored.push("spec.certificateProfile");
        }
        if self.pod_monitor.is_some() {
            ignored.push("spec.podMonitor");
        }
        ignored
    }

    /// Base name of the package's objects.
    pub fn package_name(&self) -> String {
        self.package
            .clone()
            .filter(|package| !package.is_empty())
            .unwrap_or_else(|| {
                names::default_package(&self.type_, self.edition.as_deref(), &self.version)
            })
    }
}

fn yes() -> bool {
    true
}

/// Type of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTemplate {
    /// Type of the service.
    #[serde(rename = "type")]
    pub type_: ServiceType,
}

/// How a service is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Inside the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// By a port of every node.
    NodePort,
    /// By a load balancer of the cluster's provider.
    LoadBalancer,
    /// By an alias. Nothing is selected.
    ExternalName,
}

impl ServiceType {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalName => "ExternalName",
        }
    }
}

/// How a change reaches the running units.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStrategy {
    /// Who restarts the units.
    #[serde(rename = "type", default)]
    pub type_: UpdateStrategyType,
    /// Bounds of a rolling update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdate>,
}

/// Who restarts the units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateStrategyType {
    /// The controller, one after the other, primary last.
    #[default]
    RollingUpdate,
    /// The user, by deleting pods.
    OnDelete,
}

/// Bounds of a rolling update.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdate {
    /// Units with a smaller ordinal stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 64))]
    pub partition: Option<i32>,
    /// How many units may be unavailable at a time; 0 counts as 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 64))]
    pub max_unavailable: Option<i32>,
    /// How long a restarted unit may take to be ready before the update is reported as stuck. Default 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 86_400))]
    pub progress_deadline_seconds: Option<i32>,
}

/// Labels that a node must have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeAffinityPreset {
    /// Key of the label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// The label has one of these values.
    #[schemars(length(min = 1, max = 64))]
    pub values: Vec<String>,
}

/// Whether units of a set may share a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PodAntiAffinityPreset {
    /// Rather not.
    Soft,
    /// Never.
    Hard,
}

/// A volume of every unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0", "message": "a volume cannot shrink" },
    { "rule": "self.mountPath == oldSelf.mountPath", "message": "mountPath is immutable: the data would seem to be gone" },
    { "rule": "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)", "message": "storageClassName is immutable: volumes cannot change their class" }
]))]
pub struct Storage {
    /// Name, unique in the set; `data` holds the server's data.
    #[schemars(
        length(min = 1, max = 15),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Size of the volume.
    #[schemars(schema_with = "schema::quantity")]
    pub size: Quantity,
    /// Storage class; the cluster's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Where the containers see it.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^/"))]
    pub mount_path: String,
}

/// A volume that lives as long as the pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDir {
    /// Name, unique in the set.
    #[schemars(
        length(min = 1, max = 15),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Limit of its size.
    #[schemars(schema_with = "schema::quantity")]
    pub size: Quantity,
    /// Where the containers see it.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^/"))]
    pub mount_path: String,
}

/// A Secret or ConfigMap to mount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtraVolume {
    /// The volume; only Secrets and ConfigMaps.
    #[schemars(schema_with = "schema::embedded")]
    pub volume: Volume,
    /// Where the containers see it.
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^/"))]
    pub volume_mount_path: String,
}

/// A Secret with random passwords.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GeneratedSecret {
    /// Name of the Secret. When it exists it is taken as it is.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
    /// Its keys, one password each; by convention the key is the user's name.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 63), regex(pattern = r"^[-._a-zA-Z0-9]+$"))
    )]
    pub keys: Vec<String>,
}

/// What removing units does to their volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VolumeRetentionPolicy {
    /// They stay.
    #[default]
    Retain,
    /// They are deleted after the pods are gone.
    Delete,
}

/// What to do with volumes of an earlier set of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetainedVolumes {
    /// Start nothing and say so.
    #[default]
    Refuse,
    /// Use them.
    Adopt,
    /// Delete them and make new ones.
    Discard,
}

/// Certificates by cert-manager.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateProfile {
    /// Organizations in the subject.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub organizations: Vec<String>,
    /// Secret of the issuing CA.
    #[serde(default)]
    pub root_secret: String,
}

/// A PodMonitor of the Prometheus operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMonitor {
    /// Whether to make one.
    #[serde(default)]
    pub enable: bool,
    /// What to scrape.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub endpoints: Vec<PodMonitorEndpoint>,
}

/// One endpoint of a PodMonitor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMonitorEndpoint {
    /// Name of the port, `metrics` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Changes of labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub relabel_configs: Vec<RelabelConfig>,
}

/// One change of a label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RelabelConfig {
    /// Label to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_label: Option<String>,
    /// What to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<String>,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
}

/// What a set of units is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitSetStatus {
    /// Ready, Progressing, VolumesRetained, PackageFound, Valid.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Units that exist.
    #[serde(default)]
    pub units: i32,
    /// Units whose server answers.
    #[serde(default)]
    pub ready_units: i32,
    /// Units whose pod runs what the spec says.
    #[serde(default)]
    pub updated_units: i32,
    /// The `restartedAt` that all units carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
    /// Whether every volume has the size of the spec.
    #[serde(
        rename = "unitPVCSynced",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub unit_pvc_synced: Option<Synced>,
    /// Whether every unit runs the version of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_image_synced: Option<Synced>,
    /// Whether every unit has the resources of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_resource_synced: Option<Synced>,
    /// Units that are being restarted, separated by commas.
    #[serde(default)]
    pub in_update: String,
    /// The service of the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_service: Option<ServiceName>,
    /// The services of the units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_service: Option<ServiceNames>,
    /// Every unit, by ordinal.
    #[serde(default)]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub unit_statuses: Vec<UnitSummary>,
}

/// A fact and since when it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Synced {
    /// `True` or `False`.
    pub status: String,
    /// Since when.
    pub last_transition_time: Time,
}

/// Name of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceName {
    /// Name of the service; empty, as earlier versions wrote it, when there is none.
    #[serde(default)]
    pub name: String,
}

/// Names of services by unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceNames {
    /// Unit → service.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 64))]
    pub name: BTreeMap<String, String>,
}

/// One unit in the status of its set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnitSummary {
    /// Name of the unit and its pod.
    pub name: String,
    /// Its number in the set.
    pub ordinal: i32,
    /// Pending, Running, Ready, Succeeded, Failed, Unknown, Stopped.
    #[serde(default)]
    pub phase: String,
    /// Whether the server answers.
    #[serde(default)]
    pub ready: bool,
    /// Node of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Address of the pod.
    #[serde(rename = "podIP", default, skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// Version of the software in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `primary` or `replica`, when a topology gave it a role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
