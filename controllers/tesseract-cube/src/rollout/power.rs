//! Stopping and starting all units: the primary stops last.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Role, UnitFacts};

/// A pod that is still there so long after its end was due does not hold up the others: its node is lost.
const LOST: SignedDuration = SignedDuration::from_mins(5);

/// Which units shall have a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Power {
    /// Ordinals of the units that shall run.
    pub(crate) on: Vec<i32>,
    /// When to look again without a change.
    pub(crate) again: Option<Timestamp>,
}

/// Decides which units run. Stopping takes the replicas first and the primary when they are gone.
pub(crate) fn power(units: &[UnitFacts], startup: bool, now: Timestamp) -> Power {
    if startup {
        return Power {
            on: units.iter().map(|unit| unit.ordinal).collect(),
            again: None,
        };
    }
    let primary = |unit: &&UnitFacts| {
        unit.pod
            .as_ref()
            .is_some_and(|pod| pod.role == Some(Role::Primary))
    };
    let mut again = None;
    let mut replicas_left = false;
    for pod in units
        .iter()
        .filter(|unit| !primary(unit))
        .filter_map(|unit| unit.pod.as_ref())
    {
        let Some(ends) = pod.ends else {
            replicas_left = true;
            continue;
        };
        let lost = ends + LOST;
        if now < lost {
            replicas_left = true;
            again = Some(again.map_or(lost, |again: Timestamp| again.min(lost)));
        }
    }
    let on = if replicas_left {
        units
            .iter()
            .filter(primary)
            .map(|unit| unit.ordinal)
            .collect()
    } else {
        Vec::new()
    };
    Power { on, again }
}
