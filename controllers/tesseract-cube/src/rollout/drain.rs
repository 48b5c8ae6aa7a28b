//! Units whose node is being drained: they go through the same door as those that restart for a change.
//!
//! The budget of a set with a gatekeeper refuses every eviction of a member that serves, so that whoever drains has to wait; here the
//! members are asked for one after the other, and those that were let go are ended. One that does not serve may be evicted.

use k8s_openapi::jiff::Timestamp;

use super::{Decision, Step, UnitFacts, Waiting, Why, ask, leave};

/// Moves one unit, or asks for it. Units without a gatekeeper are left to the eviction and its budget.
pub(super) fn plan(
    units: &[UnitFacts],
    now: Timestamp,
    decision: &mut Decision,
    leaving: &mut Vec<i32>,
) {
    let next = units
        .iter()
        .filter(|unit| unit.gated && unit.drained && !unit.maintenance && unit.serves())
        .min_by_key(|unit| {
            // one that was asked for may be parked already: it is not kept waiting for another
            let asked = unit.asked();
            (!asked, unit.is_primary(), std::cmp::Reverse(unit.ordinal))
        });
    let Some(unit) = next else { return };
    if unit.may_leave() {
        decision.steps.push(Step::Move(unit.ordinal));
    } else {
        ask(unit, Why::Drain, decision, leaving);
        decision
            .waiting
            .get_or_insert_with(|| leave(units, leaving, now));
    }
    if decision.waiting.is_none() {
        decision.waiting = Some(Waiting::Settling(vec![unit.ordinal]));
    }
}
