//! What the status of a UnitSet means, for every engine.

use std::fmt::Write as _;

use crds::{UnitSetStatus, conditions};

use crate::{Predicate, desired::DesiredPool, intent::Mark, observed::Observed};

/// Name of the UnitSet's kind.
pub const KIND: &str = "UnitSet";

/// What became of volumes of an earlier set of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// The set was not looked at yet.
    Unknown,
    /// There are none, or they were chosen to be used or removed.
    No,
    /// There are some, and the set refuses to start.
    Yes,
}

/// Whether all units of the pool exist, run what is wanted and are ready.
pub(crate) fn ready(pool: &DesiredPool, mark: &Mark, observed: &Observed) -> Vec<Predicate> {
    let Some(status) = observed.current_status::<UnitSetStatus>(mark) else {
        return vec![Predicate::unmet(
            "UNITS_READY",
            format!(
                "the cluster has not looked at the newest {KIND} {} yet",
                mark.key.name
            ),
        )];
    };
    let mut predicates = Vec::new();
    for (type_, name) in [
        (conditions::kind::VALID, "UNITSET_VALID"),
        (conditions::kind::PACKAGE_FOUND, "PACKAGE_FOUND"),
    ] {
        if let Some(condition) = conditions::find(&status.conditions, type_) {
            let words = format!("{}: {}", condition.reason, condition.message);
            predicates.push(Predicate::new(name, condition.status == "True", words));
        }
    }
    let wanted = i64::from(pool.units);
    let exist = i64::from(status.units) == wanted;
    let all = i64::from(status.ready_units) == wanted && i64::from(status.updated_units) == wanted;
    predicates.push(Predicate::new(
        "UNITS_READY",
        exist && all,
        in_words(pool, &status),
    ));
    if !(exist && all) {
        predicates.extend(causes(&status.conditions));
    }
    if let Some(restarted_at) = &pool.restarted_at {
        let restarted = status.restarted_at.as_ref() == Some(restarted_at);
        let words = if restarted {
            format!("all units were restarted for {restarted_at}")
        } else {
            format!(
                "not all units were restarted for {restarted_at}{}",
                in_update(&status)
            )
        };
        predicates.push(Predicate::new("UNITS_RESTARTED", restarted, words));
    }
    predicates
}

/// What the set says keeps its units from being made: something that the API server or a policy refused, a namespace that is not the
/// project's. The cluster leaves these conditions out while all is well.
fn causes(conditions: &[crds::Condition]) -> Vec<Predicate> {
    let bad = [
        (conditions::kind::REFUSED, "True", "NOTHING_REFUSED"),
        (
            conditions::kind::IN_PROJECT,
            "False",
            "NAMESPACE_OF_PROJECT",
        ),
    ];
    let unmet = bad.iter().filter_map(|(type_, status, name)| {
        let condition = conditions::find(conditions, type_)?;
        (condition.status == *status)
            .then(|| Predicate::unmet(name, format!("{}: {}", condition.reason, condition.message)))
    });
    unmet.collect()
}

/// Whether the set has shrunk to the pool.
pub(crate) fn shrunk(pool: &DesiredPool, mark: &Mark, observed: &Observed) -> Predicate {
    match observed.current_status::<UnitSetStatus>(mark) {
        Some(status) => Predicate::new(
            "UNITS_REMOVED",
            i64::from(status.units) == i64::from(pool.units),
            format!("{} units exist, {} are wanted", status.units, pool.units),
        ),
        None => Predicate::unmet(
            "UNITS_REMOVED",
            format!(
                "the cluster has not looked at the newest {KIND} {} yet",
                mark.key.name
            ),
        ),
    }
}

/// Whether the set met volumes of an earlier one, and what it says about them.
pub(crate) fn foreign_volumes(mark: &Mark, observed: &Observed) -> (Foreign, String) {
    let Some(status) = observed.current_status::<UnitSetStatus>(mark) else {
        return (Foreign::Unknown, String::new());
    };
    match conditions::find(&status.conditions, conditions::kind::VOLUMES_RETAINED) {
        Some(condition) if condition.status == "True" => (Foreign::Yes, condition.message.clone()),
        Some(condition) if condition.status == "Unknown" => (Foreign::Unknown, String::new()),
        Some(_) | None => (Foreign::No, String::new()),
    }
}

/// How many units exist and are ready, and what the others wait for.
fn in_words(pool: &DesiredPool, status: &UnitSetStatus) -> String {
    let mut words = format!("{} of {} units ready", status.ready_units, pool.units);
    if status.updated_units < status.ready_units {
        let _ = write!(words, ", {} up to date", status.updated_units);
    }
    for unit in status.unit_statuses.iter().filter(|unit| !unit.ready) {
        let why = unit
            .message
            .as_deref()
            .filter(|message| !message.is_empty())
            .unwrap_or(&unit.phase);
        let _ = write!(words, "; {}: {why}", unit.name);
    }
    if i64::from(pool.units) < i64::from(status.units) {
        let _ = write!(words, "; {} exist", status.units);
    }
    words
}

fn in_update(status: &UnitSetStatus) -> String {
    if status.in_update.is_empty() {
        String::new()
    } else {
        format!("; {} is being restarted", status.in_update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cluster_refuses_is_a_cause_in_its_words() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut found = Vec::new();
        conditions::set(
            &mut found,
            conditions::kind::IN_PROJECT,
            false,
            "NoProject",
            "namespace p1 has no label of a Project",
            now,
        );
        conditions::refused(&mut found, Some("create ConfigMap: denied".into()), now);
        let causes = causes(&found);
        let words: Vec<&str> = causes.iter().map(|one| one.reason.as_str()).collect();
        assert_eq!(
            words,
            [
                "ApiServer: create ConfigMap: denied",
                "NoProject: namespace p1 has no label of a Project"
            ]
        );
        assert!(causes.iter().all(|one| !one.satisfied));
        conditions::refused(&mut found, None, now);
        conditions::remove(&mut found, conditions::kind::IN_PROJECT);
        assert!(super::causes(&found).is_empty());
    }
}
