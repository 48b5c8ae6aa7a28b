//! Conditions with right transition times.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Types of conditions.
pub mod kind {
    /// The object does what its spec says, now.
    pub const READY: &str = "Ready";
    /// A change is under way (True), or is not needed or stuck (False, with the reason).
    pub const PROGRESSING: &str = "Progressing";
    /// Volumes of an earlier set of this name exist and nobody chose what to do with them.
    pub const VOLUMES_RETAINED: &str = "VolumesRetained";
    /// The package's template, values and pod template exist.
    pub const PACKAGE_FOUND: &str = "PackageFound";
    /// The spec holds nothing that cannot be done.
    pub const VALID: &str = "Valid";
    /// The API server, or a policy of the cluster, refused something that the spec needs. Absent while nothing is refused.
    pub const REFUSED: &str = "Refused";
    /// Fields of the spec are accepted for existing manifests and have no effect. Absent when there are none.
    pub const IGNORED_FIELDS: &str = "IgnoredFields";
    /// The namespace belongs to a Project. Absent when it does.
    pub const IN_PROJECT: &str = "InProject";
    /// The topology is what the spec says.
    pub const TOPOLOGY_READY: &str = "TopologyReady";
    /// Labels and services are what the topology says.
    pub const RESOURCE_READY: &str = "ResourceReady";
    /// A primary is elected and takes writes.
    pub const PRIMARY_ELECTED: &str = "PrimaryElected";
    /// A member that asked to leave may go (True), or why it may not yet (False). Absent while nobody asks.
    pub const MEMBER_LEAVE: &str = "MemberLeave";
}

/// Value of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It could not be found out.
    Unknown,
}

impl Status {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// The longest message the API accepts in a condition.
const MAX_MESSAGE: usize = 32_768;

/// Sets a condition; `lastTransitionTime` moves only when the status does. Keeps the list ordered by type.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: impl Into<Status>,
    reason: &str,
    message: impl Into<String>,
    now: Timestamp,
) {
    let status = status.into().as_str();
    let message: String = message.into().chars().take(MAX_MESSAGE / 4).collect();
    // the API stores whole seconds
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    match conditions
        .iter_mut()
        .find(|condition| condition.type_ == type_)
    {
        Some(condition) => {
            if condition.status != status {
                condition.last_transition_time = Time(now);
            }
            status.clone_into(&mut condition.status);
            reason.clone_into(&mut condition.reason);
            condition.message = message;
        }
        None => conditions.push(Condition {
            last_transition_time: Time(now),
            message,
            observed_generation: None,
            reason: reason.to_owned(),
            status: status.to_owned(),
            type_: type_.to_owned(),
        }),
    }
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
}

/// Says that something was refused, in these words, or that nothing is any more.
pub fn refused(conditions: &mut Vec<Condition>, words: Option<String>, now: Timestamp) {
    match words {
        Some(words) => set(conditions, kind::REFUSED, true, "ApiServer", words, now),
        None => remove(conditions, kind::REFUSED),
    }
}

/// Names the fields that have no effect, if there are any.
pub fn ignored(conditions: &mut Vec<Condition>, fields: &[&str], now: Timestamp) {
    if fields.is_empty() {
        remove(conditions, kind::IGNORED_FIELDS);
        return;
    }
    let words = format!("accepted, without effect: {}", fields.join(", "));
    set(
        conditions,
        kind::IGNORED_FIELDS,
        true,
        "NoEffect",
        words,
        now,
    );
}

/// Notes the generation that the conditions were computed from.
pub fn observed(conditions: &mut [Condition], generation: Option<i64>) {
    for condition in conditions {
        condition.observed_generation = generation;
    }
}

/// Removes a condition that no longer applies.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|condition| condition.type_ != type_);
}

/// The condition of this type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition is present and True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn moves_the_transition_time_only_with_the_status() {
        let mut conditions = Vec::new();
        set(
            &mut conditions,
            kind::READY,
            false,
            "Starting",
            "0 of 3",
            at(10),
        );
        set(
            &mut conditions,
            kind::READY,
            false,
            "Starting",
            "1 of 3",
            at(20),
        );
        assert_eq!(conditions[0].last_transition_time.0, at(10));
        assert_eq!(conditions[0].message, "1 of 3");
        set(&mut conditions, kind::READY, true, "UnitsReady", "", at(30));
        assert_eq!(conditions[0].last_transition_time.0, at(30));
        assert!(is_true(&conditions, kind::READY));
    }

    #[test]
    fn keeps_one_entry_per_type_in_order() {
        let mut conditions = Vec::new();
        for type_ in [kind::READY, kind::PACKAGE_FOUND, kind::READY] {
            set(&mut conditions, type_, Status::Unknown, "Asked", "", at(1));
        }
        let types: Vec<_> = conditions
            .iter()
            .map(|condition| condition.type_.as_str())
            .collect();
        assert_eq!(types, [kind::PACKAGE_FOUND, kind::READY]);
    }
}
