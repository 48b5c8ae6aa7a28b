//! What the status of a UnitSet means, for every engine.

use std::fmt::Write as _;

use crds::{UnitSetStatus, conditions};

use crate::{Predicate, intent::Mark, observed::Observed, shape::Shape};

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

/// Whether all units of the shape exist, run what is wanted and are ready.
pub(crate) fn ready(shape: &Shape, mark: &Mark, observed: &Observed) -> Vec<Predicate> {
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
    let wanted = i64::from(shape.units);
    let exist = i64::from(status.units) == wanted;
    let all = i64::from(status.ready_units) == wanted && i64::from(status.updated_units) == wanted;
    predicates.push(Predicate::new(
        "UNITS_READY",
        exist && all,
        in_words(shape, &status),
    ));
    if let Some(restarted_at) = &shape.restarted_at {
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

/// Whether the set has shrunk to the shape.
pub(crate) fn shrunk(shape: &Shape, mark: &Mark, observed: &Observed) -> Predicate {
    match observed.current_status::<UnitSetStatus>(mark) {
        Some(status) => Predicate::new(
            "UNITS_REMOVED",
            i64::from(status.units) == i64::from(shape.units),
            format!("{} units exist, {} are wanted", status.units, shape.units),
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
fn in_words(shape: &Shape, status: &UnitSetStatus) -> String {
    let mut words = format!("{} of {} units ready", status.ready_units, shape.units);
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
    if i64::from(shape.units) < i64::from(status.units) {
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
