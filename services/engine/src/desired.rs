//! What is asked of the cluster for one service now: where its operations have brought it. The spec says what the user wants when they end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::service::Life;

/// The id of the pool whose UnitSet has the service's own name.
pub const MAIN: &str = "";

/// Units by the pools' ids.
pub type Units = BTreeMap<String, u32>;

/// What operations move step by step. Intents are a function of spec and desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredState {
    /// The UnitSets, by the pools' ids.
    pub pools: BTreeMap<String, DesiredPool>,
    /// What makes a service of their units.
    pub topology: DesiredTopology,
}

/// One UnitSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredPool {
    /// How many.
    pub units: u32,
    /// RFC 3339; a change restarts every unit, rolling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
    /// What removing the UnitSet does to its volumes.
    #[serde(default)]
    pub volumes: Volumes,
    /// What to do with volumes of an earlier UnitSet of this name.
    #[serde(default)]
    pub retained: RetainedVolumes,
}

/// Who takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredTopology {
    /// Members by the pools' ids; never more than the pool's units for long.
    pub members: Units,
    /// The last wanted switchover. It stays, because its request id makes it a thing of the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switchover: Option<SwitchoverRequest>,
    /// Whether members were ever told to serve; from then on volumes may hold a user's data.
    #[serde(default)]
    pub served: bool,
    /// Whether the service was open once, or was made of kept volumes: members that are all empty have lost its data.
    #[serde(default)]
    pub begun: bool,
}

impl DesiredState {
    /// Of pools that do not exist yet, with these units, and with these choices about volumes that are found.
    pub fn of(units: &Units, retained: RetainedVolumes) -> Self {
        let pool = |units: &u32| DesiredPool {
            units: *units,
            retained,
            ..DesiredPool::default()
        };
        Self {
            pools: units.iter().map(|(id, n)| (id.clone(), pool(n))).collect(),
            topology: DesiredTopology {
                members: units.clone(),
                ..DesiredTopology::default()
            },
        }
    }

    /// Units of each pool.
    pub fn units(&self) -> Units {
        let pools = self.pools.iter();
        pools.map(|(id, pool)| (id.clone(), pool.units)).collect()
    }

    /// Units of a pool; 0 for one that is not there.
    pub fn units_of(&self, pool: &str) -> u32 {
        self.pools.get(pool).map_or(0, |pool| pool.units)
    }

    /// Members of a pool; 0 for one that is not there.
    pub fn members_of(&self, pool: &str) -> u32 {
        self.topology.members.get(pool).copied().unwrap_or_default()
    }
}

/// What a step changes about a pool. It says what shall be, not by how much: doing it twice is doing it once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolPatch {
    /// Makes the pool when it is not there. A patch without it changes only a pool that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<u32>,
    /// Restarts every unit, rolling; empty to leave those as they are that were not restarted yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
    /// What removing the UnitSet does to its volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Volumes>,
    /// What to do with volumes of an earlier UnitSet of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retained: Option<RetainedVolumes>,
}

impl PoolPatch {
    /// Another number of units.
    pub fn units(units: u32) -> Self {
        Self {
            units: Some(units),
            ..Self::default()
        }
    }

    /// Other consequences for volumes.
    pub fn volumes(volumes: Volumes) -> Self {
        Self {
            volumes: Some(volumes),
            ..Self::default()
        }
    }

    /// Changes the pool of this id.
    pub fn change(&self, pools: &mut BTreeMap<String, DesiredPool>, id: &str) {
        let pool = pools.entry(id.to_owned()).or_default();
        if let Some(units) = self.units {
            pool.units = units;
        }
        if let Some(mark) = &self.restarted_at {
            pool.restarted_at = Some(mark.clone()).filter(|mark| !mark.is_empty());
        }
        if let Some(volumes) = self.volumes {
            pool.volumes = volumes;
        }
        if let Some(retained) = self.retained {
            pool.retained = retained;
        }
    }
}

/// What a step changes about the topology.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopologyPatch {
    /// Who takes part from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Units>,
    /// Another primary. The id of the operation makes it happen once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switchover: Option<Switchover>,
    /// Members are told to serve.
    pub served: bool,
    /// Members that are all empty are refused.
    pub begun: bool,
}

impl TopologyPatch {
    /// Other members.
    pub fn members(members: Units) -> Self {
        Self {
            members: Some(members),
            ..Self::default()
        }
    }

    /// Changes the topology, for the operation of this id.
    pub fn change(&self, topology: &mut DesiredTopology, operation: &str) {
        if let Some(members) = &self.members {
            topology.members.clone_from(members);
        }
        if let Some(switchover) = &self.switchover {
            topology.switchover = Some(switchover.clone().requested(operation));
        }
        topology.served |= self.served;
        topology.begun |= self.begun;
    }
}

/// Another primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switchover {
    /// Unit that becomes primary.
    pub target: String,
    /// The epoch it was decided in; the cluster refuses it in any other.
    pub expected_epoch: i64,
    /// Set for a failover: names the loss of confirmed writes that is accepted with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_loss: Option<String>,
}

impl Switchover {
    /// As it is asked of the cluster, under the id of an operation.
    pub fn requested(self, operation: &str) -> SwitchoverRequest {
        SwitchoverRequest {
            request_id: operation.to_owned(),
            switchover: self,
        }
    }
}

/// A change of the primary that was asked for. Its request id makes it happen once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchoverRequest {
    /// The operation's id.
    pub request_id: String,
    /// To whom.
    #[serde(flatten)]
    pub switchover: Switchover,
}

/// What removing a UnitSet does to its volumes.
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

/// What an operation was asked for, as far as its end needs it. Persisted with the operation; what a step needs is in the step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Units that a creation makes.
    #[serde(default)]
    pub units: Units,
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
    /// What each pool left.
    pub pools: BTreeMap<String, RetainedPool>,
    /// Since when, microseconds UTC.
    pub since_us: i64,
}

/// Volumes that a pool left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetainedPool {
    /// How many units had volumes.
    pub units: u32,
    /// Size of each volume, a Kubernetes quantity.
    pub size: String,
}

impl Retained {
    /// How many units had volumes.
    pub fn members(&self) -> u32 {
        self.pools.values().map(|pool| pool.units).sum()
    }

    /// The volumes' sizes, for people.
    pub fn size(&self) -> String {
        let sizes: std::collections::BTreeSet<&str> =
            self.pools.values().map(|pool| pool.size.as_str()).collect();
        sizes.into_iter().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patch() -> impl Strategy<Value = PoolPatch> {
        let restarted_at = proptest::option::of("[a-c]".prop_map(String::from));
        let units = proptest::option::of(0_u32..9);
        (units, restarted_at, any::<bool>()).prop_map(|(units, restarted_at, adopt)| PoolPatch {
            units,
            restarted_at,
            volumes: None,
            retained: adopt.then_some(RetainedVolumes::Adopt),
        })
    }

    proptest! {
        #[test]
        fn a_patch_done_twice_is_done_once(patch in patch(), units in 0_u32..9) {
            let mut once = DesiredState::of(&[("px".to_owned(), units)].into(), RetainedVolumes::Refuse);
            patch.change(&mut once.pools, "px");
            let mut twice = once.clone();
            patch.change(&mut twice.pools, "px");
            prop_assert_eq!(&once, &twice);
            prop_assert_eq!(once.units_of("px"), patch.units.unwrap_or(units));
        }
    }

    #[test]
    fn what_was_served_stays_so() {
        let mut topology = DesiredTopology {
            served: true,
            begun: true,
            ..DesiredTopology::default()
        };
        TopologyPatch::default().change(&mut topology, "o");
        assert!(topology.served && topology.begun);
    }
}
