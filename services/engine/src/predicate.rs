//! Named conditions with the fact behind them.

use serde::{Deserialize, Serialize};
use upm_proto::operation::v1 as pb;

/// A named condition: what a step waits for, or what refused it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicate {
    /// UPPER_SNAKE, stable.
    pub name: String,
    /// Whether it holds now.
    pub satisfied: bool,
    /// The fact, and what would satisfy it.
    pub reason: String,
}

impl Predicate {
    /// A predicate with the fact it was decided by.
    pub fn new(name: &str, satisfied: bool, reason: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            satisfied,
            reason: reason.into(),
        }
    }

    /// A predicate that does not hold.
    pub fn unmet(name: &str, reason: impl Into<String>) -> Self {
        Self::new(name, false, reason)
    }

    /// A predicate that holds.
    pub fn met(name: &str, reason: impl Into<String>) -> Self {
        Self::new(name, true, reason)
    }
}

/// Whether all of them hold.
pub fn all_hold(predicates: &[Predicate]) -> bool {
    predicates.iter().all(|predicate| predicate.satisfied)
}

/// What does not hold, in one line.
pub fn unmet_in_words(predicates: &[Predicate]) -> String {
    predicates
        .iter()
        .filter(|predicate| !predicate.satisfied)
        .map(|predicate| format!("{}: {}", predicate.name, predicate.reason))
        .collect::<Vec<_>>()
        .join("; ")
}

impl From<Predicate> for pb::Predicate {
    fn from(predicate: Predicate) -> Self {
        Self {
            name: predicate.name,
            satisfied: predicate.satisfied,
            reason: predicate.reason,
        }
    }
}
