//! What the running server is allowed to do.

use std::collections::BTreeSet;

use super::NO_WRITES;
use super::record::Role;

/// What the running server is allowed to do; kept in memory, because the next start is parked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// The role that was lifted; `None` is parked.
    pub role: Option<Role>,
    /// For which start of the process; any other start is parked.
    pub starts: i32,
    /// Whether writes are paused.
    pub paused: bool,
    /// `min-replicas-to-write` in force.
    pub min_replicas: i32,
    /// Who may replicate from this one.
    pub admission: Admission,
}

/// Who may replicate from a primary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Their member ids.
    pub members: BTreeSet<String>,
    /// Member ids of the primary and of everybody who may have acknowledged, admitted or not.
    pub group: BTreeSet<String>,
    /// Version of the group's record that this was decided from.
    pub record_version: i64,
}

impl Live {
    /// What holds for this start of the process.
    pub fn of(&self, starts: i32) -> Self {
        if self.starts == starts {
            self.clone()
        } else {
            Self {
                role: None,
                starts,
                min_replicas: NO_WRITES,
                ..Self::default()
            }
        }
    }
}
