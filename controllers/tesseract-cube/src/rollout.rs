//! Which units are restarted now, for a change, a stop or a start. Pure: a table of units in, steps out.
//!
//! Replicas go first, highest ordinal first; the primary goes last, after its role was moved away. No unit that serves is
//! taken down while as many as allowed are already unavailable. Running the plan again and again ends.

mod power;

pub(crate) use power::{Power, power};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How long a restarted unit may be without a role in a set whose members have roles, before the update goes on.
pub(crate) const ROLE_GRACE: SignedDuration = SignedDuration::from_secs(60);
/// How long a primary may take to hand over its role before that is reported.
pub(crate) const STEP_DOWN_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Part of a unit in its topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Primary,
    Replica,
}

/// What the plan needs to know of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodFacts {
    /// What it was started with.
    pub(crate) revision: String,
    /// Whether its server answers, and since when.
    pub(crate) ready_since: Option<Timestamp>,
    /// When its graceful end is due, if it is being deleted.
    pub(crate) ends: Option<Timestamp>,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// Its part in the topology.
    pub(crate) role: Option<Role>,
    /// Since when it is asked to hand over its role.
    pub(crate) step_down: Option<Timestamp>,
}

/// What the plan needs to know of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitFacts {
    pub(crate) ordinal: i32,
    /// What the next start of the pod will use.
    pub(crate) next: String,
    /// What the next start of the pod shall use.
    pub(crate) target: String,
    /// Its pod.
    pub(crate) pod: Option<PodFacts>,
}

impl PodFacts {
    fn terminating(&self) -> bool {
        self.ends.is_some()
    }
}

impl UnitFacts {
    /// The server answers and the pod is not being deleted.
    pub(crate) fn serves(&self) -> bool {
        self.pod
            .as_ref()
            .is_some_and(|pod| pod.ready_since.is_some() && !pod.terminating())
    }

    /// Its running pod, or the one that will be made, is not what it shall be. A unit that was written but whose pod
    /// was not deleted yet counts as well: its turn is decided anew.
    fn outdated(&self) -> bool {
        match self.pod.as_ref().filter(|pod| !pod.terminating()) {
            Some(pod) => pod.revision != self.target,
            None => self.next != self.target,
        }
    }

    pub(crate) fn updated(&self) -> bool {
        self.pod
            .as_ref()
            .is_some_and(|pod| pod.revision == self.target && !pod.terminating())
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.pod
            .as_ref()
            .is_some_and(|pod| pod.role == Some(Role::Primary))
    }
}

/// Bounds of an update.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Units with a smaller ordinal stay as they are.
    pub(crate) partition: i32,
    /// How many units may be unavailable, at least 1.
    pub(crate) max_unavailable: usize,
    /// How long a restarted unit may take to be ready.
    pub(crate) progress_deadline: SignedDuration,
    /// Whether the user deletes the pods.
    pub(crate) on_delete: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Write the target into the unit and delete its pod, if that is of another revision.
    Restart(i32),
    /// Write the target into the unit; its pod stays.
    Write(i32),
    /// Ask for the role to be moved away from this unit.
    HandOver(i32),
    /// Take that back.
    KeepRole(i32),
}

/// Why an update does not go on right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// These units were restarted and are not ready yet.
    Settling(Vec<i32>),
    /// These units are not ready, and no more may be taken down.
    Unavailable(Vec<i32>),
    /// The primary was asked to hand over its role.
    Handover {
        primary: i32,
        since: Option<Timestamp>,
        overdue: bool,
    },
    /// A restarted unit did not get ready in time.
    Stuck(Vec<i32>),
    /// The user has to delete the pods of these units.
    User(Vec<i32>),
}

/// What to do, and what is being waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) steps: Vec<Step>,
    pub(crate) waiting: Option<Waiting>,
    /// Units that are being restarted.
    pub(crate) in_update: Vec<i32>,
    /// When to look again without a change.
    pub(crate) again: Option<Timestamp>,
}

/// Decides the next steps of an update.
pub(crate) fn rollout(units: &[UnitFacts], bounds: &Bounds, now: Timestamp) -> Decision {
    let roles = units
        .iter()
        .any(|unit| unit.pod.as_ref().is_some_and(|pod| pod.role.is_some()));
    let (mine, _kept): (Vec<&UnitFacts>, Vec<_>) = units
        .iter()
        .partition(|unit| unit.ordinal >= bounds.partition);
    let mut decision = Decision::default();
    if bounds.on_delete {
        return on_delete(&mine);
    }
    let in_flight: Vec<&UnitFacts> = mine
        .iter()
        .copied()
        .filter(|unit| !unit.outdated() && !settled(unit, roles, now))
        .collect();
    decision.in_update = in_flight.iter().map(|unit| unit.ordinal).collect();
    let outdated: Vec<&UnitFacts> = mine
        .iter()
        .copied()
        .filter(|unit| unit.outdated())
        .collect();
    let stuck = overdue(&in_flight, bounds.progress_deadline, now);
    if outdated.is_empty() {
        decision.waiting = match (stuck.is_empty(), in_flight.is_empty()) {
            (false, _) => Some(Waiting::Stuck(stuck)),
            (true, false) => Some(Waiting::Settling(decision.in_update.clone())),
            (true, true) => None,
        };
    } else if stuck.is_empty() {
        advance(
            units,
            &outdated,
            in_flight.len(),
            bounds,
            now,
            &mut decision,
        );
    } else {
        decision.waiting = Some(Waiting::Stuck(stuck));
    }
    // nobody but the one whose turn it is shall hand over its role
    let asked = units.iter().filter(|unit| {
        unit.pod
            .as_ref()
            .is_some_and(|pod| pod.step_down.is_some() && !pod.terminating())
    });
    for unit in asked {
        let wanted = matches!(decision.waiting, Some(Waiting::Handover { primary, .. }) if primary == unit.ordinal);
        let goes = decision.steps.contains(&Step::Restart(unit.ordinal));
        if !wanted && !goes {
            decision.steps.push(Step::KeepRole(unit.ordinal));
        }
    }
    if !decision.in_update.is_empty() || decision.waiting.is_some() {
        decision.again = deadlines(&in_flight, &decision, bounds, now);
    }
    decision
}

/// Chooses units to restart while the bounds allow it.
fn advance(
    units: &[UnitFacts],
    outdated: &[&UnitFacts],
    mut in_flight: usize,
    bounds: &Bounds,
    now: Timestamp,
    decision: &mut Decision,
) {
    let mut unavailable = units.iter().filter(|unit| !unit.serves()).count();
    let mut order: Vec<&UnitFacts> = outdated
        .iter()
        .copied()
        .filter(|unit| !unit.is_primary())
        .collect();
    // those that do not serve first: restarting them costs nothing
    order.sort_by_key(|unit| (unit.serves(), std::cmp::Reverse(unit.ordinal)));
    let mut left = false;
    for unit in order {
        let costs = unit.serves();
        if in_flight >= bounds.max_unavailable || (costs && unavailable >= bounds.max_unavailable) {
            left = true;
            continue;
        }
        in_flight += 1;
        unavailable += usize::from(costs);
        decision.steps.push(Step::Restart(unit.ordinal));
        decision.in_update.push(unit.ordinal);
    }
    let down: Vec<i32> = units
        .iter()
        .filter(|unit| !unit.serves())
        .map(|unit| unit.ordinal)
        .collect();
    if left || in_flight > 0 {
        decision.waiting = Some(if decision.in_update.is_empty() {
            Waiting::Unavailable(down)
        } else {
            Waiting::Settling(decision.in_update.clone())
        });
        return;
    }
    // only primaries are left
    let Some(primary) = outdated
        .iter()
        .copied()
        .filter(|unit| unit.is_primary())
        .max_by_key(|unit| unit.ordinal)
    else {
        return;
    };
    let others_down: Vec<i32> = down
        .iter()
        .copied()
        .filter(|ordinal| *ordinal != primary.ordinal)
        .collect();
    let somebody_else_serves = units
        .iter()
        .any(|unit| unit.ordinal != primary.ordinal && unit.serves());
    if units.len() == 1 || (!primary.serves() && !somebody_else_serves) {
        // nobody can take over: in place
        decision.steps.push(Step::Restart(primary.ordinal));
        decision.in_update.push(primary.ordinal);
        decision.waiting = Some(Waiting::Settling(vec![primary.ordinal]));
        return;
    }
    if !others_down.is_empty() {
        decision.waiting = Some(Waiting::Unavailable(others_down));
        return;
    }
    decision.waiting = Some(handover(primary, now));
    if primary
        .pod
        .as_ref()
        .is_some_and(|pod| pod.step_down.is_none())
    {
        decision.steps.push(Step::HandOver(primary.ordinal));
    }
}

/// The wait for a primary to hand over its role.
pub(crate) fn handover(primary: &UnitFacts, now: Timestamp) -> Waiting {
    let since = primary.pod.as_ref().and_then(|pod| pod.step_down);
    let overdue = since.is_some_and(|since| now.duration_since(since) >= STEP_DOWN_GRACE);
    Waiting::Handover {
        primary: primary.ordinal,
        since,
        overdue,
    }
}

fn on_delete(mine: &[&UnitFacts]) -> Decision {
    let steps = mine
        .iter()
        .filter(|unit| unit.outdated())
        .map(|unit| Step::Write(unit.ordinal))
        .collect();
    let old: Vec<i32> = mine
        .iter()
        .filter(|unit| unit.pod.is_some() && !unit.updated())
        .map(|u| u.ordinal)
        .collect();
    Decision {
        steps,
        waiting: (!old.is_empty()).then_some(Waiting::User(old)),
        ..Decision::default()
    }
}

/// The unit runs its target, serves, and has its part again.
fn settled(unit: &UnitFacts, roles: bool, now: Timestamp) -> bool {
    let Some(pod) = unit.pod.as_ref().filter(|_| unit.updated()) else {
        return false;
    };
    pod.ready_since.is_some_and(|since| {
        !roles || pod.role.is_some() || now.duration_since(since) >= ROLE_GRACE
    })
}

fn overdue(in_flight: &[&UnitFacts], deadline: SignedDuration, now: Timestamp) -> Vec<i32> {
    let late = in_flight.iter().filter(|unit| {
        unit.pod.as_ref().is_some_and(|pod| {
            pod.ready_since.is_none()
                && unit.updated()
                && now.duration_since(pod.created) >= deadline
        })
    });
    late.map(|unit| unit.ordinal).collect()
}

/// The next moment at which the decision may be another one without any change.
fn deadlines(
    in_flight: &[&UnitFacts],
    decision: &Decision,
    bounds: &Bounds,
    now: Timestamp,
) -> Option<Timestamp> {
    let pods = in_flight.iter().filter_map(|unit| unit.pod.as_ref());
    let settle = pods.map(|pod| match pod.ready_since {
        Some(since) => since + ROLE_GRACE,
        None => pod.created + bounds.progress_deadline,
    });
    let handover = match &decision.waiting {
        Some(Waiting::Handover { since, .. }) => Some(since.unwrap_or(now) + STEP_DOWN_GRACE),
        _ => None,
    };
    settle.chain(handover).filter(|moment| *moment > now).min()
}

#[cfg(test)]
mod tests;
