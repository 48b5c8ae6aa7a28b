//! Volumes of an earlier set of the same name. Pure.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use upm_crds::UnitSet;
use upm_crds::unit_set::RetainedVolumes;

use super::{Observed, SecretState};
use crate::build::volume;

/// What happens to volumes that another set left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retained {
    /// They get the set's uid.
    pub(crate) adopt: Vec<String>,
    /// They are deleted: name and uid.
    pub(crate) discard: Vec<(String, Option<String>)>,
    /// They are in the way until the user chooses.
    pub(crate) refused: Vec<String>,
    /// They are being deleted.
    pub(crate) ending: Vec<String>,
    /// The Secret, by its uid, goes with volumes that are discarded.
    pub(crate) discard_secret: Option<String>,
    /// The Secret stays and gets the set's uid.
    pub(crate) adopt_secret: bool,
}

impl Retained {
    /// Whether no new unit may be made now.
    pub(crate) fn blocks(&self) -> bool {
        !(self.adopt.is_empty()
            && self.discard.is_empty()
            && self.refused.is_empty()
            && self.ending.is_empty())
    }
}

/// Decides by `retainedVolumes` about every claim with the set's name that was not made for this set.
pub(crate) fn retained(set: &UnitSet, observed: &Observed) -> Retained {
    let uid = set.uid().unwrap_or_default();
    let mut retained = Retained::default();
    let foreign = observed
        .claims
        .values()
        .filter(|claim| !volume::belongs_to(claim, &uid));
    for claim in foreign {
        let claim: &PersistentVolumeClaim = claim;
        let name = claim.name_any();
        if claim.metadata.deletion_timestamp.is_some() {
            retained.ending.push(name);
            continue;
        }
        match set.spec.retained_volumes {
            RetainedVolumes::Refuse => retained.refused.push(name),
            RetainedVolumes::Adopt => retained.adopt.push(name),
            RetainedVolumes::Discard => retained.discard.push((name, claim.uid())),
        }
    }
    // passwords go the way of their data; one that a user made is not ours
    if let SecretState::Present {
        generated_for: Some(earlier),
        uid: secret_uid,
        ..
    } = &observed.secret
        && *earlier != uid
    {
        if retained.discard.is_empty() {
            retained.adopt_secret = retained.refused.is_empty() && retained.ending.is_empty();
        } else {
            retained.discard_secret = Some(secret_uid.clone());
        }
    }
    retained
}
