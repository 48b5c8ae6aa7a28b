//! Where a pod may run.

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt as _;
use upm_crds::names::label;
use upm_crds::unit_set::PodAntiAffinityPreset;

use super::super::Map;
use super::Inputs;

pub(super) fn set(inputs: Inputs<'_>, spec: &mut PodSpec) {
    let mut affinity = spec.affinity.take().unwrap_or_default();
    nodes(inputs, &mut affinity);
    apart(inputs, &mut affinity);
    spec.affinity = (affinity != Affinity::default()).then_some(affinity);
}

/// All of the presets, on top of what the package asks for. Terms are alternatives, so each gets every requirement.
fn nodes(inputs: Inputs<'_>, affinity: &mut Affinity) {
    let presets = inputs.set.spec.node_affinity_preset.iter();
    let wanted: Vec<_> = presets
        .map(|preset| NodeSelectorRequirement {
            key: preset.key.clone(),
            operator: "In".to_owned(),
            values: Some(preset.values.clone()),
        })
        .collect();
    if wanted.is_empty() {
        return;
    }
    let nodes = affinity.node_affinity.get_or_insert_default();
    let required = nodes
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_with(|| NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm::default()],
        });
    for term in &mut required.node_selector_terms {
        term.match_expressions
            .get_or_insert_default()
            .extend(wanted.iter().cloned());
    }
}

/// Units of a set on different nodes: `hard` always, else if possible.
fn apart(inputs: Inputs<'_>, affinity: &mut Affinity) {
    let term = PodAffinityTerm {
        topology_key: "kubernetes.io/hostname".to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(Map::from([(
                label::UNIT_SET.to_owned(),
                inputs.set.name_any(),
            )])),
            ..LabelSelector::default()
        }),
        ..PodAffinityTerm::default()
    };
    let pods = affinity.pod_anti_affinity.get_or_insert_default();
    match inputs.set.spec.pod_anti_affinity_preset {
        Some(PodAntiAffinityPreset::Hard) => {
            pods.required_during_scheduling_ignored_during_execution
                .get_or_insert_default()
                .push(term);
        }
        Some(PodAntiAffinityPreset::Soft) | None => {
            pods.preferred_during_scheduling_ignored_during_execution
                .get_or_insert_default()
                .push(WeightedPodAffinityTerm {
                    weight: 100,
                    pod_affinity_term: term,
                });
        }
    }
}
