//! Which units a topology names: they are taken down only when its controller, the gatekeeper, let them go. Pure.
//!
//! The cube knows of a topology only whom it names and what it answers; what it takes to let somebody go is the gatekeeper's.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt as _;
use upm_crds::conditions::{self, kind};
use upm_crds::{RedisReplication, names};

use crate::caches::set_key;

/// What the topologies of a namespace say about the units of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gate {
    /// Names of the units that a topology names.
    members: BTreeSet<String>,
    /// What the topologies answer those that asked to leave, in words.
    says: Vec<String>,
}

impl Gate {
    /// The gate that these topologies make.
    pub(crate) fn of(topologies: &[Arc<RedisReplication>]) -> Self {
        let mut gate = Self::default();
        for topology in topologies {
            gate.members.extend(members(topology));
            let status = topology.status.as_ref();
            let answer = status
                .and_then(|status| conditions::find(&status.conditions, kind::MEMBER_LEAVE))
                .filter(|condition| condition.status != "True");
            gate.says
                .extend(answer.map(|condition| condition.message.clone()));
        }
        gate
    }

    /// Whether a topology names this unit.
    pub(crate) fn keeps(&self, unit: &str) -> bool {
        self.members.contains(unit)
    }

    /// Whether a topology names any unit.
    pub(crate) fn is_kept(&self) -> bool {
        !self.members.is_empty()
    }

    /// Why nobody was let go yet; empty when nothing is said.
    pub(crate) fn answer(&self) -> String {
        self.says.join("; ")
    }
}

/// The units that a topology counts on: those of its spec, and those that its status still counts on.
fn members(topology: &RedisReplication) -> BTreeSet<String> {
    let spec = &topology.spec;
    if topology.metadata.deletion_timestamp.is_some() {
        return BTreeSet::new();
    }
    let named = std::iter::once(&spec.source.name).chain(spec.replica.iter().map(|r| &r.name));
    let counted = topology.status.iter().flat_map(|status| {
        let primary = status.primary.iter();
        primary.chain(&status.ackers)
    });
    named.chain(counted).cloned().collect()
}

/// Keys of the sets whose units the topology names, see [`set_key`].
pub(crate) fn keys(topology: &RedisReplication) -> Vec<String> {
    let namespace = topology.namespace().unwrap_or_default();
    sets(topology)
        .iter()
        .map(|set| set_key(&namespace, set))
        .collect()
}

/// Names of the sets whose units the topology names.
pub(crate) fn sets(topology: &RedisReplication) -> BTreeSet<String> {
    let members = members(topology);
    members
        .iter()
        .filter_map(|unit| names::set_of_unit(unit))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn topology(more: &serde_json::Value) -> RedisReplication {
        let mut value = json!({
            "apiVersion": "upm.syntropycloud.io/v1alpha1", "kind": "RedisReplication",
            "metadata": { "name": "demo", "namespace": "p1" },
            "spec": {
                "source": { "name": "demo-0", "host": "a", "port": 6379 },
                "replica": [{ "name": "demo-1", "host": "b", "port": 6379 }],
                "secret": { "name": "s" },
            },
        });
        for (key, more) in more.as_object().into_iter().flatten() {
            value["spec"][key] = more.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn keeps_whom_spec_and_status_name() {
        let mut object = topology(&json!({}));
        let mut status = upm_crds::RedisReplicationStatus {
            primary: Some("demo-2".into()),
            ackers: vec!["demo-1".into(), "old-10".into()],
            ..Default::default()
        };
        conditions::set(
            &mut status.conditions,
            kind::MEMBER_LEAVE,
            false,
            "MemberInSync",
            "demo-2 copies",
            Timestamp::UNIX_EPOCH,
        );
        object.status = Some(status);
        assert_eq!(keys(&object), ["p1/demo", "p1/old"]);
        let gate = Gate::of(&[Arc::new(object)]);
        for (unit, kept) in [
            ("demo-0", true),
            ("demo-1", true),
            ("demo-2", true),
            ("old-10", true),
            ("demo-3", false),
        ] {
            assert_eq!(gate.keeps(unit), kept, "{unit}");
        }
        assert_eq!(gate.answer(), "demo-2 copies");
    }

    #[test]
    fn nobody_keeps_what_an_ending_topology_names() {
        let sentinels = topology(&json!({ "sentinel": ["s-0"] }));
        assert!(Gate::of(&[Arc::new(sentinels)]).is_kept());
        let mut ends = topology(&json!({}));
        ends.metadata.deletion_timestamp = Some(
            k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
        );
        assert!(!Gate::of(&[Arc::new(ends)]).is_kept());
    }
}
