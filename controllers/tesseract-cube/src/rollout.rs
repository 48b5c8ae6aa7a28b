//! Which units are restarted now, for a change, a drain, a stop or a start. Pure: a table of units in, steps out.
//!
//! Replicas go first, highest ordinal first; the primary goes last. No unit that serves is taken down while as many as allowed are
//! already unavailable, and none that a topology names before its gatekeeper let it go. Running the plan again and again ends.

mod drain;
mod power;

pub(crate) use power::{Power, power};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How long a restarted unit may be without a role in a set whose members have roles, before the update goes on.
pub(crate) const ROLE_GRACE: SignedDuration = SignedDuration::from_secs(60);
/// How long a gatekeeper may take to let a unit go before that is reported.
pub(crate) const LEAVE_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Part of a unit in its topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Primary,
    Replica,
}

/// Why a unit shall leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It restarts for a change.
    Update,
    /// Its node is being drained.
    Drain,
    /// The set gets smaller.
    ScaleIn,
}

impl Why {
    /// As the request says it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Update => "RollingUpdate",
            Self::Drain => "NodeDrain",
            Self::ScaleIn => "ScaleIn",
        }
    }
}

/// A request to leave that is on the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leave {
    /// Since when.
    pub(crate) since: Timestamp,
    /// Whether the gatekeeper agreed.
    pub(crate) granted: bool,
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
    /// The request to let it go.
    pub(crate) leave: Option<Leave>,
}

/// What the plan needs to know of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitFacts {
    pub(crate) ordinal: i32,
    /// What the next start of the pod will use.
    pub(crate) next: String,
    /// What the next start of the pod shall use.
    pub(crate) target: String,
    /// A topology names it: its gatekeeper is asked before it is taken down.
    pub(crate) gated: bool,
    /// A person works on it: it is left alone.
    pub(crate) maintenance: bool,
    /// The node of its pod is being drained.
    pub(crate) drained: bool,
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

    fn leave(&self) -> Option<Leave> {
        self.pod.as_ref()?.leave
    }

    /// It is asked to leave.
    pub(crate) fn asked(&self) -> bool {
        self.leave().is_some() && self.pod.as_ref().is_some_and(|pod| !pod.terminating())
    }

    /// It may be taken down: nobody keeps a topology with it, it does not serve, or its gatekeeper agreed.
    pub(crate) fn may_leave(&self) -> bool {
        !self.gated || !self.serves() || self.leave().is_some_and(|leave| leave.granted)
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
    /// Delete the pod of the unit: the next one of the same kind starts on another node.
    Move(i32),
    /// Write the target into the unit; its pod stays.
    Write(i32),
    /// Ask the gatekeeper to let this unit go.
    Ask(i32, Why),
    /// Take that back.
    TakeBack(i32),
}

/// Why an update does not go on right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// These units were restarted and are not ready yet.
    Settling(Vec<i32>),
    /// These units are not ready, and no more may be taken down.
    Unavailable(Vec<i32>),
    /// The gatekeeper was asked to let these units go.
    Leave {
        units: Vec<i32>,
        since: Option<Timestamp>,
        overdue: bool,
    },
    /// A restarted unit did not get ready in time.
    Stuck(Vec<i32>),
    /// The user has to delete the pods of these units.
    User(Vec<i32>),
    /// A person works on these units.
    Maintenance(Vec<i32>),
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

/// Decides the next steps of an update, and of the drains of nodes when no update takes anybody down.
pub(crate) fn rollout(units: &[UnitFacts], bounds: &Bounds, now: Timestamp) -> Decision {
    let mut leaving = Vec::new();
    let (mut decision, in_flight) = if bounds.on_delete {
        (on_delete(units, bounds.partition), Vec::new())
    } else {
        update(units, bounds, now, &mut leaving)
    };
    let busy = decision
        .steps
        .iter()
        .any(|step| matches!(step, Step::Restart(_)));
    if !busy && leaving.is_empty() {
        drain::plan(units, now, &mut decision, &mut leaving);
    }
    // nobody but those whose turn it is shall be let go
    for unit in units.iter().filter(|unit| unit.asked()) {
        let ordinal = unit.ordinal;
        let goes = decision
            .steps
            .iter()
            .any(|step| matches!(step, Step::Restart(i) | Step::Move(i) if *i == ordinal));
        if !leaving.contains(&ordinal) && !goes {
            decision.steps.push(Step::TakeBack(ordinal));
        }
    }
    if !decision.in_update.is_empty() || decision.waiting.is_some() {
        decision.again = deadlines(&in_flight, &decision, bounds, now);
    }
    decision
}

fn update<'a>(
    units: &'a [UnitFacts],
    bounds: &Bounds,
    now: Timestamp,
    leaving: &mut Vec<i32>,
) -> (Decision, Vec<&'a UnitFacts>) {
    let roles = units
        .iter()
        .any(|unit| unit.pod.as_ref().is_some_and(|pod| pod.role.is_some()));
    let (held, mine): (Vec<&UnitFacts>, Vec<_>) = units
        .iter()
        .filter(|unit| unit.ordinal >= bounds.partition)
        // a pod that a person works on would go and not come back
        .partition(|unit| unit.maintenance);
    let mut decision = Decision::default();
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
    let held: Vec<i32> = held
        .into_iter()
        .filter(|unit| unit.outdated())
        .map(|unit| unit.ordinal)
        .collect();
    let stuck = overdue(&in_flight, bounds.progress_deadline, now);
    if outdated.is_empty() {
        decision.waiting = if !stuck.is_empty() {
            Some(Waiting::Stuck(stuck))
        } else if !in_flight.is_empty() {
            Some(Waiting::Settling(decision.in_update.clone()))
        } else if !held.is_empty() {
            Some(Waiting::Maintenance(held))
        } else {
            None
        };
    } else if stuck.is_empty() {
        let flying = in_flight.len();
        advance(
            units,
            &outdated,
            flying,
            bounds,
            now,
            &mut decision,
            leaving,
        );
    } else {
        decision.waiting = Some(Waiting::Stuck(stuck));
    }
    (decision, in_flight)
}

/// Chooses units to restart, or to ask for, while the bounds allow it.
fn advance(
    units: &[UnitFacts],
    outdated: &[&UnitFacts],
    mut in_flight: usize,
    bounds: &Bounds,
    now: Timestamp,
    decision: &mut Decision,
    leaving: &mut Vec<i32>,
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
        if unit.may_leave() {
            decision.steps.push(Step::Restart(unit.ordinal));
            decision.in_update.push(unit.ordinal);
        } else {
            ask(unit, Why::Update, decision, leaving);
        }
    }
    let down: Vec<i32> = units
        .iter()
        .filter(|unit| !unit.serves())
        .map(|unit| unit.ordinal)
        .collect();
    if left || in_flight > 0 {
        decision.waiting = Some(if !decision.in_update.is_empty() {
            Waiting::Settling(decision.in_update.clone())
        } else if leaving.is_empty() {
            Waiting::Unavailable(down)
        } else {
            leave(units, leaving, now)
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
    let alone = units.len() == 1 || (!primary.serves() && !somebody_else_serves);
    if !alone && !others_down.is_empty() {
        decision.waiting = Some(Waiting::Unavailable(others_down));
        return;
    }
    // one that does not serve may still lead: its gatekeeper decides, unless nobody could take over
    let ends = primary.pod.as_ref().is_some_and(PodFacts::terminating);
    let granted = primary.leave().is_some_and(|leave| leave.granted);
    let kept = primary.gated && !alone && !granted && !ends;
    if primary.may_leave() && !kept {
        decision.steps.push(Step::Restart(primary.ordinal));
        decision.in_update.push(primary.ordinal);
        decision.waiting = Some(Waiting::Settling(vec![primary.ordinal]));
        return;
    }
    ask(primary, Why::Update, decision, leaving);
    decision.waiting = Some(leave(units, leaving, now));
}

/// Asks for the unit once, and waits for the answer.
fn ask(unit: &UnitFacts, why: Why, decision: &mut Decision, leaving: &mut Vec<i32>) {
    if !unit.asked() {
        decision.steps.push(Step::Ask(unit.ordinal, why));
    }
    leaving.push(unit.ordinal);
}

/// The wait for the gatekeeper to let these units go.
pub(crate) fn leave(units: &[UnitFacts], leaving: &[i32], now: Timestamp) -> Waiting {
    let since = units
        .iter()
        .filter(|unit| leaving.contains(&unit.ordinal))
        .filter_map(|unit| Some(unit.leave()?.since))
        .min();
    Waiting::Leave {
        units: leaving.to_vec(),
        since,
        overdue: since.is_some_and(|since| now.duration_since(since) >= LEAVE_GRACE),
    }
}

fn on_delete(units: &[UnitFacts], partition: i32) -> Decision {
    let mine = || units.iter().filter(|unit| unit.ordinal >= partition);
    let steps = mine()
        .filter(|unit| unit.outdated())
        .map(|unit| Step::Write(unit.ordinal))
        .collect();
    let old: Vec<i32> = mine()
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
    let leave = match &decision.waiting {
        Some(Waiting::Leave { since, .. }) => Some(since.unwrap_or(now) + LEAVE_GRACE),
        _ => None,
    };
    settle.chain(leave).filter(|moment| *moment > now).min()
}

#[cfg(test)]
mod tests;
