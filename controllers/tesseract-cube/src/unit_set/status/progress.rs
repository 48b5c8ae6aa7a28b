//! Where a set stands, in conditions with reasons. Pure.

use kube::ResourceExt as _;
use upm_crds::UnitSet;
use upm_crds::conditions::kind;
use upm_crds::names as crd_names;
use upm_crds::unit_set::UpdateStrategyType;

use super::super::plan::Converge;
use super::{Observed, Plan};
use crate::rollout::{LEAVE_GRACE, Waiting};

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) kind: &'static str,
    pub(super) holds: bool,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// All conditions of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) lines: Vec<Line>,
}

impl Report {
    fn line(
        &mut self,
        kind: &'static str,
        holds: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.lines.push(Line {
            kind,
            holds,
            reason,
            message: message.into(),
        });
    }
}

/// The names of the units with these ordinals, separated by commas.
pub(super) fn names(set: &UnitSet, ordinals: &[i32]) -> String {
    let name = set.name_any();
    ordinals
        .iter()
        .map(|ordinal| crd_names::unit_name(&name, *ordinal))
        .collect::<Vec<_>>()
        .join(",")
}

pub(super) fn report(set: &UnitSet, observed: &Observed, plan: &Plan, ready: i32) -> Report {
    let mut report = Report::default();
    let problems = problems(observed);
    let valid = problems.is_empty();
    report.line(
        kind::VALID,
        valid,
        if valid { "Valid" } else { "Invalid" },
        problems.clone(),
    );
    match &observed.package {
        Ok(package) => report.line(kind::PACKAGE_FOUND, true, "Found", package.name.clone()),
        Err(missing) => report.line(
            kind::PACKAGE_FOUND,
            false,
            "PackageNotFound",
            missing.to_string(),
        ),
    }
    let (progressing, reason, message) = match plan {
        Plan::AddFinalizer => (true, "Preparing", String::new()),
        Plan::Blocked if !valid => (false, "Invalid", problems),
        Plan::Blocked => (
            false,
            "PackageNotFound",
            observed
                .package
                .as_ref()
                .err()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        Plan::Teardown(teardown) => (true, "Deleting", teardown.waiting.clone()),
        Plan::Converge(converge) => {
            let retained = &converge.retained;
            if retained.refused.is_empty() {
                report.line(kind::VOLUMES_RETAINED, false, "None", "");
            } else {
                report.line(kind::VOLUMES_RETAINED, true, "Refused", retained.refusal());
            }
            progress(set, observed, converge, ready)
        }
    };
    report.line(kind::PROGRESSING, progressing, reason, message.clone());
    let (is_ready, reason, message) = readiness(set, observed, plan, ready, reason, message);
    report.line(kind::READY, is_ready, reason, message);
    report
}

fn problems(observed: &Observed) -> String {
    let mut problems: Vec<String> = observed.errors.iter().map(ToString::to_string).collect();
    problems.extend(observed.value.as_ref().err().map(ToString::to_string));
    problems.join("; ")
}

fn readiness(
    set: &UnitSet,
    observed: &Observed,
    plan: &Plan,
    ready: i32,
    reason: &'static str,
    message: String,
) -> (bool, &'static str, String) {
    let count = format!("{ready} of {} units are ready", set.spec.units);
    let complete = ready == set.spec.units;
    match plan {
        // blocked: what runs goes on running with the spec of before
        Plan::Teardown(_) | Plan::AddFinalizer | Plan::Blocked => (false, reason, message),
        Plan::Converge(_) if !set.spec.startup => {
            let gone = observed.pods.is_empty();
            (
                false,
                if gone { "Stopped" } else { "Stopping" },
                "startup is false".to_owned(),
            )
        }
        Plan::Converge(converge) if !converge.retained.refused.is_empty() && !complete => {
            (false, "VolumesRetained", message)
        }
        Plan::Converge(_) if complete => (true, "UnitsReady", count),
        Plan::Converge(_) => {
            let first = observed
                .units
                .values()
                .filter_map(|unit| unit.status.as_ref().map(|status| (unit.name_any(), status)))
                .find(|(_, status)| !status.ready && !status.task.is_empty());
            let detail = first
                .map(|(name, status)| format!("; {name}: {}", status.task))
                .unwrap_or_default();
            (false, "UnitsNotReady", format!("{count}{detail}"))
        }
    }
}

fn progress(
    set: &UnitSet,
    observed: &Observed,
    converge: &Converge,
    ready: i32,
) -> (bool, &'static str, String) {
    let wanted = set.spec.units;
    let exist = i32::try_from(observed.units.range(..wanted).count()).unwrap_or(i32::MAX);
    if exist < wanted
        && let Some(blocked) = blocked(converge)
    {
        return blocked;
    }
    if !set.spec.startup {
        return match observed.pods.len() {
            0 => (false, "Stopped", String::new()),
            left => (true, "Stopping", format!("{left} pods are left")),
        };
    }
    if let Some(waiting) = &converge.decision.waiting {
        return updating(set, observed, waiting);
    }
    if !converge.decision.steps.is_empty() {
        return (
            true,
            "RollingUpdate",
            format!("restarts {}", names(set, &converge.decision.in_update)),
        );
    }
    if exist < wanted {
        return (
            true,
            "ScalingOut",
            format!("{exist} of {wanted} units exist"),
        );
    }
    if let Some(waiting) = &converge.surplus.waiting {
        return updating(set, observed, waiting);
    }
    if observed.units.len() > usize::try_from(wanted).unwrap_or(0) {
        return (
            true,
            "ScalingIn",
            format!("{} units exist", observed.units.len()),
        );
    }
    if ready < wanted {
        return (
            true,
            "Starting",
            format!("{ready} of {wanted} units are ready"),
        );
    }
    let held = set.spec.update_strategy.type_ == UpdateStrategyType::RollingUpdate
        && i32::try_from(converge.updated.len()).unwrap_or(i32::MAX) < wanted;
    if held {
        let partition = set
            .spec
            .update_strategy
            .rolling_update
            .as_ref()
            .and_then(|rolling| rolling.partition);
        return (
            false,
            "Partitioned",
            format!("units below {} are not updated", partition.unwrap_or(0)),
        );
    }
    (false, "Complete", String::new())
}

/// Why volumes of an earlier set keep units from being made.
fn blocked(converge: &Converge) -> Option<(bool, &'static str, String)> {
    let retained = &converge.retained;
    if !retained.refused.is_empty() {
        let message = format!("waits for a decision about {}", retained.refused.join(", "));
        return Some((false, "VolumesRetained", message));
    }
    let mut all: Vec<&str> = retained
        .adopt
        .iter()
        .chain(&retained.ending)
        .map(String::as_str)
        .collect();
    all.extend(retained.discard.iter().map(|(name, _)| name.as_str()));
    retained.blocks().then(|| {
        (
            true,
            "SettlingVolumes",
            format!("adopts or discards {}", all.join(", ")),
        )
    })
}

fn updating(set: &UnitSet, observed: &Observed, waiting: &Waiting) -> (bool, &'static str, String) {
    let answer = || match observed.gate.answer() {
        said if said.is_empty() => String::new(),
        said => format!(": {said}"),
    };
    match waiting {
        Waiting::Settling(units) => (
            true,
            "RollingUpdate",
            format!("waits until {} serves", names(set, units)),
        ),
        Waiting::Unavailable(units) => (
            true,
            "UnitsUnavailable",
            format!(
                "takes no further unit down while {} is not ready",
                names(set, units)
            ),
        ),
        Waiting::Leave {
            units,
            overdue: false,
            ..
        } => (
            true,
            "LeaveRequested",
            format!(
                "waits until its topology lets {} go{}",
                names(set, units),
                answer()
            ),
        ),
        Waiting::Leave {
            units,
            overdue: true,
            ..
        } => (
            false,
            "LeavePending",
            format!(
                "the topology has not let {} go within {} s; it is not taken down before{}",
                names(set, units),
                LEAVE_GRACE.as_secs(),
                answer()
            ),
        ),
        Waiting::Maintenance(units) => (
            false,
            "Maintenance",
            format!("{} is left alone: maintenance", names(set, units)),
        ),
        Waiting::Stuck(units) => (
            false,
            "ProgressDeadlineExceeded",
            format!(
                "{} did not get ready in time; the other units are left as they are",
                names(set, units)
            ),
        ),
        Waiting::User(units) => (
            false,
            "OnDelete",
            format!("delete the pods of {} to update them", names(set, units)),
        ),
    }
}
