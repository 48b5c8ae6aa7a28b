//! The names, labels and annotations that the parts of the engine agree on.

/// API group of every kind.
pub use upm_proto::kinds::GROUP;
/// Where packages, the cluster CA and the agent live.
pub use upm_proto::kinds::PACKAGES as SYSTEM_NAMESPACE;
/// The longest name of a set: `<set>-headless-svc`, `<set>-<i>-config-value` must stay within 63.
pub const MAX_SET_NAME: usize = 45;
/// The most units of one set.
pub const MAX_UNITS: i32 = 64;

/// Labels.
pub mod label {
    /// Name of the UnitSet, on everything made for it.
    pub const UNIT_SET: &str = "unit-operator/unitset.name";
    /// Name of the Unit, on everything made for it.
    pub const UNIT: &str = "unit-operator/unit.name";
    /// Ordinal of the Unit in its set.
    pub const UNIT_SN: &str = "unit-operator/unit.sn";
    /// How many units the set has.
    pub const UNIT_COUNT: &str = "unit-operator/unitset.units.count";
    /// On PVCs: the name of the storage in the UnitSet.
    pub const STORAGE: &str = "upm.syntropycloud.io/storage";
    /// On namespaces: the Project they belong to. A namespace without it is never adopted.
    pub const PROJECT: &str = "upm.syntropycloud.io/project";
    /// `unit-operator/owner`, as earlier versions labelled the children of a Project.
    pub const OWNER: &str = "unit-operator/owner";
    /// `unit-operator/namespace`, as earlier versions labelled the children of a Project.
    pub const NAMESPACE: &str = "unit-operator/namespace";
    /// `primary` or `replica`; set by the controller of the topology, read for the order of updates.
    pub const ROLE: &str = "upm.syntropycloud.io/role";
    /// On Secrets that the platform may read through its tunnel: `"true"`.
    pub const READABLE: &str = "upm.syntropycloud.io/readable";
    /// Name of the RedisReplication a pod takes part in.
    pub const REDIS_REPLICATION: &str = "compose-operator/redis-replication.name";
    /// `"false"` on the writable member, `"true"` on those that serve reads only.
    pub const REDIS_READONLY: &str = "compose-operator/redis-replication.readonly";
    /// What wrote the object.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// Value of [`ROLE`] for the member that takes writes.
    pub const ROLE_PRIMARY: &str = "primary";
    /// Value of [`ROLE`] for a member that follows.
    pub const ROLE_REPLICA: &str = "replica";
    /// Value of [`MANAGED_BY`] for what the cube makes.
    pub const TESSERACT_CUBE: &str = "tesseract-cube";
    /// Value of [`MANAGED_BY`] for what the controller of topologies makes.
    pub const KAUNTLET: &str = "kauntlet";
    /// Value of [`MANAGED_BY`] for what the agent keeps for itself.
    pub const AGENT: &str = "upm-agent";
}

/// Annotations.
pub mod annotation {
    /// Intent of the platform that wrote the object.
    pub const INTENT_UID: &str = "upm.syntropycloud.io/intent-uid";
    /// Generation of that intent.
    pub const INTENT_GENERATION: &str = "upm.syntropycloud.io/intent-generation";
    /// Digest of that intent's object.
    pub const INTENT_DIGEST: &str = "upm.syntropycloud.io/intent-digest";
    /// W3C trace context of the request that led to the object's present state.
    pub const TRACEPARENT: &str = "upm.syntropycloud.io/traceparent";
    /// On a pod: its gatekeeper is asked to let it go; `<reason>, <uid of the pod>`. See [`crate::leave`].
    pub const LEAVE_REQUESTED: &str = "upm.syntropycloud.io/leave-requested";
    /// On a pod: since when (RFC 3339) that is asked for.
    pub const LEAVE_REQUESTED_AT: &str = "upm.syntropycloud.io/leave-requested-at";
    /// On a pod: the gatekeeper's agreement; the uid of the pod.
    pub const LEAVE_GRANTED: &str = "upm.syntropycloud.io/leave-granted";
    /// On Units and pods: digest of everything that needs a restart when it changes.
    pub const REVISION: &str = "upm.syntropycloud.io/revision";
    /// On Units and pods: the `restartedAt` they were started for.
    pub const RESTARTED_AT: &str = "upm.syntropycloud.io/restarted-at";
    /// On PVCs and generated Secrets: uid of the UnitSet they were made for.
    pub const UNIT_SET_UID: &str = "upm.syntropycloud.io/unitset-uid";
    /// On PVCs that were kept: how many units the deleted UnitSet had. A UnitSet that adopts them needs as many: a part of the volumes
    /// may be the part without the newest data.
    pub const KEPT_OF_UNITS: &str = "upm.syntropycloud.io/kept-of-units";
    /// On a namespace: uid of the Project it was made for.
    pub const PROJECT_UID: &str = "upm.syntropycloud.io/project-uid";
    /// On a package's PodTemplate: the unit agent's `unit.yaml`.
    pub const UNIT_YAML: &str = "upm.syntropycloud.io/unit.yaml";
    /// On a certificate's Secret: end of validity (RFC 3339).
    pub const NOT_AFTER: &str = "upm.syntropycloud.io/not-after";
    /// On a certificate's Secret: begin of validity (RFC 3339).
    pub const NOT_BEFORE: &str = "upm.syntropycloud.io/not-before";
    /// On objects that are applied: digest of what was applied.
    pub const APPLIED: &str = "upm.syntropycloud.io/applied-digest";
    /// `"true"` on a Unit: neither start, stop nor restart it.
    pub const MAINTENANCE: &str = "unit-operator/maintenance";
    /// Present and not `"false"`: topology is left alone; status, labels and services go on.
    pub const SKIP_RECONCILE: &str = "compose-operator/skip.reconcile";
    /// Name of the main container.
    pub const MAIN_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
    /// Version that the object was last brought to.
    pub const MAIN_VERSION: &str = "kubectl.kubernetes.io/default-container-version";

    /// Mount path of a storage or emptyDir, read by templates through the downward API.
    pub fn mount_path(volume: &str) -> String {
        format!("unit-operator/storage.volume.{volume}.mountPath")
    }

    /// One fact (`secretName`, `configMapName`, `volumeMountPath`) of an extra volume.
    pub fn extra_volume(volume: &str, fact: &str) -> String {
        format!("unit-operator/extraVolume.volume.{volume}.{fact}")
    }
}

/// Finalizers.
pub mod finalizer {
    /// On a UnitSet: its units, pods and (if asked for) volumes are still there.
    pub const UNIT_SET: &str = "unit-operator/unit-delete";
    /// On a Project: its namespace is still there.
    pub const PROJECT: &str = "upm.syntropycloud.io/namespace-delete";
    /// Finalizers of earlier versions that nobody else removes any more.
    pub const LEGACY: [&str; 3] = [
        "unit-operator/configmap-delete",
        "unit-operator/pod-delete",
        "unit-operator/pvc-delete",
    ];
}

/// Name of the cluster CA's Secret in [`SYSTEM_NAMESPACE`].
pub const CLUSTER_CA: &str = "upm-cluster-ca";
/// gRPC port of the unit agent.
pub const UNIT_AGENT_PORT: i32 = 2214;

/// `<type>[-<edition>]-<version>`: the name of a package that was installed by hand.
pub fn default_package(type_: &str, edition: Option<&str>, version: &str) -> String {
    match edition.filter(|edition| !edition.is_empty()) {
        Some(edition) => format!("{type_}-{edition}-{version}"),
        None => format!("{type_}-{version}"),
    }
}

const PACKAGE_TEMPLATE: &str = "-config-template";
const PACKAGE_VALUE: &str = "-config-value";

/// ConfigMap with a package's template.
pub fn package_template(package: &str) -> String {
    format!("{package}{PACKAGE_TEMPLATE}")
}

/// ConfigMap with a package's default values.
pub fn package_value(package: &str) -> String {
    format!("{package}{PACKAGE_VALUE}")
}

/// Whether a ConfigMap of this name may be a package's.
pub fn is_of_package(name: &str) -> bool {
    [PACKAGE_TEMPLATE, PACKAGE_VALUE]
        .iter()
        .any(|end| name.ends_with(end))
}

/// Unit and pod number `ordinal` of a set.
pub fn unit_name(set: &str, ordinal: i32) -> String {
    format!("{set}-{ordinal}")
}

/// The ordinal of a unit's name, when the unit belongs to the set.
pub fn ordinal(set: &str, unit: &str) -> Option<i32> {
    let digits = unit.strip_prefix(set)?.strip_prefix('-')?;
    let ordinal: i32 = digits.parse().ok()?;
    (ordinal >= 0 && unit_name(set, ordinal) == unit).then_some(ordinal)
}

/// The set that a unit of this name belongs to, when it is a unit's name.
pub fn set_of_unit(unit: &str) -> Option<&str> {
    let (set, _) = unit.rsplit_once('-')?;
    ordinal(set, unit).map(|_| set)
}

/// The service that gives pods their host names.
pub fn headless_service(set: &str) -> String {
    format!("{set}-headless-svc")
}

/// The service of the whole set.
pub fn external_service(set: &str) -> String {
    format!("{set}-svc")
}

/// The service of one unit.
pub fn unit_service(unit: &str) -> String {
    format!("{unit}-svc")
}

/// Host name of a unit, complete up to `.svc`.
pub fn unit_host(set: &str, ordinal: i32, namespace: &str) -> String {
    format!(
        "{}.{}.{namespace}.svc",
        unit_name(set, ordinal),
        headless_service(set)
    )
}

/// Claim of one storage of one unit.
pub fn pvc(unit: &str, storage: &str) -> String {
    format!("{unit}-{storage}")
}

/// Copy of the configuration template and of `unit.yaml`, one per set.
pub fn config_template(set: &str) -> String {
    format!("{set}-config-template")
}

/// Values of one unit's configuration.
pub fn config_value(unit: &str) -> String {
    format!("{unit}-config-value")
}

/// Copy of the package's PodTemplate, as earlier versions made it.
pub fn pod_template(set: &str) -> String {
    format!("{set}-podtemplate")
}

/// Name of the policy for who may connect to a set's pods.
pub fn network_policy(set: &str) -> String {
    format!("{set}-network")
}

/// PodDisruptionBudget of a set.
pub fn disruption_budget(set: &str) -> String {
    format!("{set}-pdb")
}

/// Secret with a unit's certificate.
pub fn identity_secret(unit: &str) -> String {
    format!("{unit}-identity")
}

/// Secret with the passwords of a service, by convention.
pub fn credentials(set: &str) -> String {
    format!("{set}-credentials")
}

/// Service that leads to the member that takes writes.
pub fn readwrite_service(replication: &str) -> String {
    format!("{replication}-readwrite")
}

/// Service that leads to the members that serve reads.
pub fn readonly_service(replication: &str) -> String {
    format!("{replication}-readonly")
}

/// SPIFFE id of a unit agent.
pub fn unit_spiffe(namespace: &str, unit: &str) -> String {
    format!("spiffe://upm/unit/{namespace}/{unit}")
}

/// SPIFFE id of a controller towards unit agents.
pub fn controller_spiffe(controller: &str) -> String {
    format!("spiffe://upm/controller/{controller}")
}
