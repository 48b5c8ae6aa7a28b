//! The kinds of Kubernetes objects that platform and agents speak about: one row each. What the hub asks to see, what an agent lets the
//! platform write, what it tells the hub of and the rights that the agent's chart asks for are made from this table.

/// API group of the engine's own kinds.
pub const GROUP: &str = "upm.syntropycloud.io";
/// The namespace that packages live in, unless an agent is told otherwise.
pub const PACKAGES: &str = "upm-system";

/// One kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version, such as `v1alpha2`.
    pub version: &'static str,
    /// Its name in manifests, such as `UnitSet`.
    pub kind: &'static str,
    /// Its name in paths and in rights, such as `unitsets`.
    pub plural: &'static str,
    /// Where its objects live.
    pub scope: Scope,
    /// Whether the platform may write it through the ledger.
    pub intent: bool,
    /// How the hub observes it; `None` for what stays in the cluster.
    pub watch: Option<Watch>,
}

/// Where the objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In no namespace.
    Cluster,
    /// In the namespaces of projects.
    Project,
    /// In the namespace of packages, as far as the platform is concerned.
    Packages,
}

/// How the hub observes a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Names the watch on the line, from 1. It stays the same over versions, and that of a kind that is gone is never used again.
    pub id: u32,
    /// Paths of the fields that travel; empty for all.
    pub mask: &'static [&'static str],
    /// Whether every object of the kind is reported, not only those that intents made.
    pub inventory: bool,
}

impl Watch {
    /// Of whole objects that intents made.
    const fn of_intents(id: u32) -> Self {
        Self {
            id,
            mask: &[],
            inventory: false,
        }
    }
}

const METADATA: &[&str] = &["metadata.name", "metadata.namespace", "metadata.generation"];

/// Every kind, by the id of its watch; those without one at the end.
pub const KINDS: &[Kind] = &[
    Kind {
        group: GROUP,
        version: "v1alpha2",
        kind: "UnitSet",
        plural: "unitsets",
        scope: Scope::Project,
        intent: true,
        watch: Some(Watch::of_intents(1)),
    },
    Kind {
        group: GROUP,
        version: "v1alpha1",
        kind: "RedisReplication",
        plural: "redisreplications",
        scope: Scope::Project,
        intent: true,
        watch: Some(Watch::of_intents(2)),
    },
    Kind {
        group: GROUP,
        version: "v1alpha2",
        kind: "Project",
        plural: "projects",
        scope: Scope::Cluster,
        intent: true,
        watch: Some(Watch::of_intents(3)),
    },
    Kind {
        group: "",
        version: "v1",
        kind: "ConfigMap",
        plural: "configmaps",
        scope: Scope::Packages,
        intent: true,
        watch: Some(Watch {
            id: 4,
            mask: METADATA,
            inventory: false,
        }),
    },
    Kind {
        group: "",
        version: "v1",
        kind: "PodTemplate",
        plural: "podtemplates",
        scope: Scope::Packages,
        intent: true,
        watch: Some(Watch {
            id: 5,
            mask: METADATA,
            inventory: false,
        }),
    },
    Kind {
        group: "",
        version: "v1",
        kind: "Node",
        plural: "nodes",
        scope: Scope::Cluster,
        intent: false,
        watch: Some(Watch {
            id: 6,
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
        }),
    },
    Kind {
        group: "storage.k8s.io",
        version: "v1",
        kind: "StorageClass",
        plural: "storageclasses",
        scope: Scope::Cluster,
        intent: false,
        watch: Some(Watch {
            id: 7,
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
        }),
    },
    // A Unit carries a whole pod: only the controller of UnitSets writes one, and the status of the UnitSet says all that is asked for.
    Kind {
        group: GROUP,
        version: "v1alpha2",
        kind: "Unit",
        plural: "units",
        scope: Scope::Project,
        intent: false,
        watch: None,
    },
];

impl Kind {
    /// The row of a kind in whatever version.
    pub fn find(group: &str, kind: &str) -> Option<&'static Self> {
        KINDS
            .iter()
            .find(|row| row.group == group && row.kind == kind)
    }

    /// Whether it is a kind of the engine.
    pub fn is_own(&self) -> bool {
        self.group == GROUP
    }

    /// The only namespace that the hub asks for; empty for all.
    pub fn namespace(&self) -> &'static str {
        match self.scope {
            Scope::Packages => PACKAGES,
            Scope::Cluster | Scope::Project => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_one_row_and_every_watch_an_id_of_its_own() {
        let kinds: BTreeSet<_> = KINDS.iter().map(|row| (row.group, row.kind)).collect();
        assert_eq!(kinds.len(), KINDS.len());
        let watches: Vec<u32> = KINDS
            .iter()
            .filter_map(|row| row.watch)
            .map(|watch| watch.id)
            .collect();
        let ids: BTreeSet<u32> = watches.iter().copied().collect();
        assert_eq!(ids.len(), watches.len());
        assert!(!ids.contains(&0));
    }

    #[test]
    fn watch_ids_are_those_of_every_release() {
        for (kind, id) in [
            ("UnitSet", 1),
            ("RedisReplication", 2),
            ("Project", 3),
            ("ConfigMap", 4),
            ("PodTemplate", 5),
            ("Node", 6),
            ("StorageClass", 7),
        ] {
            let row = KINDS.iter().find(|row| row.kind == kind);
            assert_eq!(row.and_then(|row| row.watch).map(|w| w.id), Some(id));
        }
    }

    #[test]
    fn what_the_platform_writes_is_observed_and_no_inventory() {
        for row in KINDS.iter().filter(|row| row.intent) {
            assert!(row.watch.is_some_and(|watch| !watch.inventory), "{row:?}");
        }
    }
}
