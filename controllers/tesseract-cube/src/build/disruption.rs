//! The budget that evictions of a set's pods have to keep to.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use upm_crds::UnitSet;
use upm_crds::names::{self, label};

use super::{Map, set_meta};

/// The budget of a set. With a gatekeeper no pod that serves may be evicted: whoever is on a drained node is asked for instead, and
/// ended when it was let go. Without one, one pod at a time.
///
/// A number, not a percentage: the pods' owners are Units, which the disruption controller cannot count.
pub(crate) fn budget(set: &UnitSet, exist: usize, gated: bool) -> PodDisruptionBudget {
    let name = set.name_any();
    let exist = i32::try_from(exist).unwrap_or(names::MAX_UNITS);
    let least = if gated {
        set.spec.units.max(exist)
    } else {
        set.spec.units - 1
    };
    PodDisruptionBudget {
        metadata: set_meta(set, names::disruption_budget(&name)),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(least)),
            selector: Some(LabelSelector {
                match_labels: Some(Map::from([(label::UNIT_SET.to_owned(), name)])),
                ..LabelSelector::default()
            }),
            // one that does not serve is missed by nobody
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
