//! A data service as the module keeps it.

pub(crate) mod model;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    desired::{DesiredState, Retained, Volumes},
    intent::{Mark, Marks, Part},
    names::ServiceName,
};

/// A data service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Resource name.
    pub name: ServiceName,
    /// The engine's kind.
    pub engine: String,
    /// Never used again for another service.
    pub uid: String,
    /// Counts changes that a user can see; makes the etag.
    pub version: i64,
    /// The engine's spec.
    pub spec: Value,
    /// Version of the spec's form.
    pub spec_version: i32,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// For people.
    pub description: String,
    /// What deleting does by default.
    pub deletion_policy: DeletionPolicy,
    /// Cluster id, which is the agent's id.
    pub cluster: String,
    /// Where it is in its life.
    pub life: Life,
    /// Why, in words; empty when there is nothing to say.
    pub message: String,
    /// The operation that works on it; empty for none.
    pub operation: String,
    /// Name of its software package in the cluster.
    pub package: String,
    /// Where its operations have brought it.
    pub desired: DesiredState,
    /// Its intents.
    pub marks: Marks,
    /// What it left behind, when it is only that.
    pub retained: Option<Retained>,
    /// When it was accepted, microseconds UTC.
    pub create_us: i64,
    /// When it was changed last, microseconds UTC.
    pub update_us: i64,
}

/// Where a service is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Life {
    /// Its first operation has not ended.
    Creating,
    /// It was created.
    Active,
    /// Its creation failed.
    Failed,
    /// It is being deleted, or deleting it failed.
    Deleting,
    /// It is gone, its volumes are not.
    Retained,
}

/// What deleting a service does to its volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeletionPolicy {
    /// They stay.
    #[default]
    KeepData,
    /// They go.
    DeleteData,
    /// The service cannot be deleted.
    DoNotDelete,
}

impl Service {
    /// The etag of this version.
    pub fn etag(&self) -> String {
        store::etag::of(&self.uid, self.version)
    }

    /// The marks of a part that are wanted, not deleted.
    pub fn wanted(&self, part: &Part) -> impl Iterator<Item = &Mark> {
        self.marked(part).filter(|mark| !mark.deleted)
    }

    /// Every mark of a part.
    pub fn marked(&self, part: &Part) -> impl Iterator<Item = &Mark> {
        self.marks.values().filter(move |mark| mark.part == *part)
    }
}

impl DeletionPolicy {
    /// What it means for volumes; `None` when it forbids deleting.
    pub fn volumes(self) -> Option<Volumes> {
        match self {
            Self::KeepData => Some(Volumes::Retain),
            Self::DeleteData => Some(Volumes::Delete),
            Self::DoNotDelete => None,
        }
    }
}
