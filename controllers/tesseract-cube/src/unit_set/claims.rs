//! Volumes of an earlier set of the same name. Pure.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use upm_crds::UnitSet;
use upm_crds::names::{self, label};
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
    /// How many units the set needs to adopt all volumes that may have the newest data, when it has fewer.
    pub(crate) too_few: Option<i32>,
    /// They are being deleted.
    pub(crate) ending: Vec<String>,
    /// The Secret, by its uid, goes with volumes that are discarded.
    pub(crate) discard_secret: Option<String>,
    /// The Secret stays and gets the set's uid.
    pub(crate) adopt_secret: bool,
}

impl Retained {
    /// Why nothing is made, and the way out.
    pub(crate) fn refusal(&self) -> String {
        let claims = self.refused.join(", ");
        match self.too_few {
            None => format!(
                "volumes of an earlier set of this name exist ({claims}): set retainedVolumes to Adopt or Discard"
            ),
            Some(units) => format!(
                "volumes of an earlier set of {units} units exist ({claims}), and any of them may have the newest data: set units to \
                 {units}, and scale in afterwards; or delete the claims whose data are not needed"
            ),
        }
    }

    /// Whether no new unit may be made now.
    pub(crate) fn blocks(&self) -> bool {
        !(self.adopt.is_empty()
            && self.discard.is_empty()
            && self.refused.is_empty()
            && self.ending.is_empty())
    }
}

/// The least number of units of a set that adopts this claim.
fn units_needed(set: &UnitSet, claim: &PersistentVolumeClaim) -> i32 {
    let ordinal = || {
        let unit = claim.labels().get(label::UNIT)?;
        names::ordinal(&set.name_any(), unit)
    };
    volume::kept_of(claim)
        .or_else(|| ordinal().map(|ordinal| ordinal + 1))
        .unwrap_or(0)
}

/// Decides by `retainedVolumes` about every claim with the set's name that was not made for this set.
pub(crate) fn retained(set: &UnitSet, observed: &Observed) -> Retained {
    let uid = set.uid().unwrap_or_default();
    let mut retained = Retained::default();
    let mut needed = 0;
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
            RetainedVolumes::Adopt => {
                needed = needed.max(units_needed(set, claim));
                retained.adopt.push(name);
            }
            RetainedVolumes::Discard => retained.discard.push((name, claim.uid())),
        }
    }
    if needed > set.spec.units {
        // a unit that is left out may be the one with the newest data
        retained.too_few = Some(needed);
        retained.refused = std::mem::take(&mut retained.adopt);
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
