//! What the hub observes in every cluster.

use upm_proto::hub::v1 as pb;

const GROUP: &str = "upm.syntropycloud.io";

pub(super) struct Observed {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    namespace: &'static str,
    mask: &'static [&'static str],
    pub(super) inventory: bool,
}

/// Where packages live.
const PACKAGES: &str = "upm-system";
const METADATA: &[&str] = &["metadata.name", "metadata.namespace", "metadata.generation"];

/// Watch ids are positions in this list, from 1: they stay the same over versions, new ones go to the end.
pub(super) const OBSERVED: [Observed; 7] = [
    Observed {
        group: GROUP,
        version: "v1alpha2",
        kind: "UnitSet",
        namespace: "",
        mask: &[],
        inventory: false,
    },
    Observed {
        group: GROUP,
        version: "v1alpha1",
        kind: "RedisReplication",
        namespace: "",
        mask: &[],
        inventory: false,
    },
    Observed {
        group: GROUP,
        version: "v1alpha2",
        kind: "Project",
        namespace: "",
        mask: &[],
        inventory: false,
    },
    Observed {
        group: "",
        version: "v1",
        kind: "ConfigMap",
        namespace: PACKAGES,
        mask: METADATA,
        inventory: false,
    },
    Observed {
        group: "",
        version: "v1",
        kind: "PodTemplate",
        namespace: PACKAGES,
        mask: METADATA,
        inventory: false,
    },
    Observed {
        group: "",
        version: "v1",
        kind: "Node",
        namespace: "",
        mask: &[
            "metadata.name",
            "metadata.labels",
            "metadata.creationTimestamp",
            "spec.unschedulable",
            "spec.taints",
            "status.capacity",
            "status.allocatable",
            "status.addresses",
            "status.conditions",
            "status.nodeInfo",
            // what its pods ask for: the agent adds that up
            "status.requested",
        ],
        inventory: true,
    },
    Observed {
        group: "storage.k8s.io",
        version: "v1",
        kind: "StorageClass",
        namespace: "",
        mask: &[
            "metadata.name",
            "metadata.annotations",
            "provisioner",
            "parameters",
            "reclaimPolicy",
            "volumeBindingMode",
            "allowVolumeExpansion",
        ],
        inventory: true,
    },
];

/// Longest names that Kubernetes has: group and name, namespace.
const NAME: usize = 253;
const NAMESPACE: usize = 63;

impl Observed {
    /// Whether an object of this key is one of the watch.
    pub(super) fn selects(&self, key: &pb::Key) -> bool {
        key.group == self.group
            && key.kind == self.kind
            && (self.namespace.is_empty() || key.namespace == self.namespace)
            && key.namespace.len() <= NAMESPACE
            && (1..=NAME).contains(&key.name.len())
    }
}

/// The inventory watch of this id; `None` when the hub did not ask for such a one.
pub(super) fn inventory(watch_id: u32) -> Option<&'static Observed> {
    let at = usize::try_from(watch_id).ok()?.checked_sub(1)?;
    OBSERVED.get(at).filter(|observed| observed.inventory)
}

/// The interest, with the places where inventory watches resume.
pub(super) fn interest(resume: &[(u32, String)]) -> pb::Interest {
    let add = OBSERVED
        .iter()
        .zip(1u32..)
        .map(|(observed, watch_id)| pb::Watch {
            watch_id,
            group: observed.group.into(),
            version: observed.version.into(),
            kind: observed.kind.into(),
            namespace: observed.namespace.into(),
            selector: String::new(),
            field_mask: observed.mask.iter().map(ToString::to_string).collect(),
            min_interval_ms: 1_000,
            resume_rv: resume
                .iter()
                .find(|(id, _)| *id == watch_id)
                .map(|(_, token)| token.clone())
                .unwrap_or_default(),
            inventory: observed.inventory,
        })
        .collect();
    pb::Interest {
        add,
        remove: Vec::new(),
    }
}
