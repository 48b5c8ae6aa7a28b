//! The end of a set: units and pods first, then, only if asked for, the volumes. Pure.

use kube::ResourceExt as _;
use upm_crds::UnitSet;
use upm_crds::unit_set::VolumeRetentionPolicy;

use super::{Observed, SecretState};
use crate::build::volume;

/// What is deleted next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Teardown {
    /// Units to delete with their pods: name and uid.
    pub(crate) units: Vec<(String, Option<String>)>,
    /// Claims that stay and do not say yet of how many units they were kept.
    pub(crate) keep: Vec<String>,
    /// Claims to delete: name and uid.
    pub(crate) claims: Vec<(String, Option<String>)>,
    /// The generated Secret: its uid.
    pub(crate) secret: Option<String>,
    /// Nothing is left: the set may go.
    pub(crate) done: bool,
    /// What is still there.
    pub(crate) waiting: String,
}

/// Decides the next step of the end of a set.
pub(crate) fn teardown(set: &UnitSet, observed: &Observed) -> Teardown {
    let mut teardown = Teardown::default();
    let left = observed
        .units
        .values()
        .filter(|unit| unit.metadata.deletion_timestamp.is_none());
    teardown.units = left.map(|unit| (unit.name_any(), unit.uid())).collect();
    if !observed.units.is_empty() || !observed.pods.is_empty() {
        let mut names: Vec<String> = observed
            .units
            .values()
            .map(|unit| unit.name_any())
            .collect();
        names.extend(observed.pods.values().map(|pod| pod.name_any()));
        names.sort();
        names.dedup();
        teardown.waiting = format!("waits until the units are gone: {}", names.join(", "));
        return teardown;
    }
    let uid = set.uid().unwrap_or_default();
    let ours: Vec<_> = observed
        .claims
        .values()
        .filter(|claim| volume::belongs_to(claim, &uid))
        .collect();
    if set.spec.volume_retention_policy == VolumeRetentionPolicy::Retain {
        let unmarked = ours.iter().filter(|claim| {
            claim.metadata.deletion_timestamp.is_none()
                && volume::kept_of(claim) != Some(set.spec.units)
        });
        teardown.keep = unmarked.map(|claim| claim.name_any()).collect();
        teardown.done = teardown.keep.is_empty();
        if !teardown.done {
            teardown.waiting = format!("keeps the volumes {}", teardown.keep.join(", "));
        }
        return teardown;
    }
    let to_delete = ours
        .iter()
        .filter(|claim| claim.metadata.deletion_timestamp.is_none());
    teardown.claims = to_delete
        .map(|claim| (claim.name_any(), claim.uid()))
        .collect();
    if let SecretState::Present {
        generated_for: Some(generated),
        uid: secret_uid,
        ..
    } = &observed.secret
        && *generated == uid
    {
        teardown.secret = Some(secret_uid.clone());
    }
    if !ours.is_empty() {
        let names: Vec<String> = ours.iter().map(|claim| claim.name_any()).collect();
        teardown.waiting = format!("waits until the volumes are gone: {}", names.join(", "));
        return teardown;
    }
    teardown.done = teardown.secret.is_none();
    teardown
}
