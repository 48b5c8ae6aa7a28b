//! The primary leads: keep everybody following, the ackers right, and do what was asked for.

use std::time::Duration;

use crate::redis_replication::leave;
use crate::redis_replication::model::{Group, Live, State, View, World};

use super::{Action, Change, Decision, Inputs, Phase, switchover};

/// A member whose pod has not been there for so long is not about to come back by itself.
const GONE: Duration = Duration::from_secs(30);

/// The primary leads and answers.
pub(super) fn plan(inputs: Inputs<'_>, primary: &str, view: &View) -> Decision {
    let Inputs {
        group,
        state,
        world,
        ..
    } = inputs;
    let steady = |message: &str| Decision::new(Phase::Steady, message);
    if let Some(promised) = promised_ahead(inputs) {
        return steady("the primary goes on under a newer epoch, because members have promised it")
            .act([Action::Record(Change {
                epoch: promised,
                why: format!("{primary} goes on as primary of epoch {promised}"),
                ..unchanged(inputs, primary)
            })]);
    }
    if let Some(decision) = switchover::plan(inputs, primary, view) {
        return decision;
    }
    if view.paused {
        return steady("writes go on after a switchover that was not finished").act([
            Action::Resume {
                member: primary.to_owned(),
                epoch: state.epoch,
            },
        ]);
    }
    if state.source.as_deref() != Some(&group.source) {
        let change = Change {
            source: group.source.clone(),
            ..unchanged(inputs, primary)
        };
        return steady("the source is noted").act([Action::Record(change)]);
    }
    // grow first: whoever may acknowledge is on record before it does
    let new: Vec<&String> = group
        .voters()
        .filter(|name| {
            name.as_str() != primary
                && !state.ackers.contains(*name)
                && world.server(name).is_some()
                && !leave::departs(group, state, world, name)
        })
        .collect();
    if !new.is_empty() {
        let mut change = unchanged(inputs, primary);
        change.ackers.extend(new.iter().copied().cloned());
        change.why = format!("{new:?} may acknowledge from now on");
        return steady("members join").act([Action::Record(change)]);
    }
    let mut actions = follow(inputs, primary, view);
    actions.extend(fence_leavers(inputs, primary));
    if let Some(left) = shrink(inputs, view) {
        let mut change = unchanged(inputs, primary);
        change.ackers.remove(&left);
        change.why = format!(
            "{left} can no longer acknowledge, and what it acknowledged is on other replicas"
        );
        return steady("a member has left").act([Action::Record(change)]);
    }
    if view.min_replicas != group.min_replicas() {
        actions.push(Action::Grant {
            member: primary.to_owned(),
            epoch: state.epoch,
            min_replicas: group.min_replicas(),
            at: super::Position::default(),
        });
    }
    steady("").act(actions)
}

/// What is on record.
pub(super) fn unchanged(inputs: Inputs<'_>, primary: &str) -> Change {
    Change {
        epoch: inputs.state.epoch,
        primary: primary.to_owned(),
        ackers: inputs.state.ackers.clone(),
        source: inputs
            .state
            .source
            .clone()
            .unwrap_or_else(|| inputs.group.source.clone()),
        ..Change::default()
    }
}

/// The newest epoch that a member of the group promised beyond the recorded one: an election that did not take place. Members that are
/// left out on purpose, or on their way out, stay parked with their promise.
fn promised_ahead(inputs: Inputs<'_>) -> Option<i64> {
    let Inputs {
        group,
        state,
        world,
        ..
    } = inputs;
    let ahead = group
        .voters()
        .filter(|name| !leave::departs(group, state, world, name))
        .filter_map(|name| world.agent(name))
        .any(|view| view.promised > state.epoch);
    ahead.then(|| super::next_epoch(state, world))
}

fn follow(inputs: Inputs<'_>, primary: &str, view: &View) -> Vec<Action> {
    let Inputs {
        group,
        state,
        world,
        ..
    } = inputs;
    let Some(seen) = world.members.get(primary) else {
        return Vec::new();
    };
    let right = |member: &View| {
        member.live == Live::Replica
            && member.grant_epoch == state.epoch
            && member.follows == (seen.host.clone(), seen.port)
            && member.primary_replid == view.replid
    };
    group
        .voters()
        .filter(|name| name.as_str() != primary && state.ackers.contains(*name))
        .filter(|name| !leave::departs(group, state, world, name))
        .filter(|name| {
            world.server(name).is_some_and(|member| {
                !right(member) && member.promised <= state.epoch && !member.loading
            })
        })
        .map(|name| Action::Follow {
            member: name.clone(),
            epoch: state.epoch,
            host: seen.host.clone(),
            port: seen.port,
            replid: view.replid.clone(),
            // a promotion keeps the id before up to and without this offset; without one, only full copies bring the new id
            offset: (view.second_offset - 1).max(0),
        })
        .collect()
}

/// Members that shall no longer take part promise the next epoch, so that they acknowledge nobody of this one.
fn fence_leavers(inputs: Inputs<'_>, primary: &str) -> Option<Action> {
    let Inputs {
        group,
        state,
        world,
        ..
    } = inputs;
    let leavers: Vec<String> = group
        .members
        .iter()
        .filter(|(name, node)| {
            name.as_str() != primary
                && (node.isolated || node.removed || leave::departs(group, state, world, name))
        })
        .filter(|(name, _)| {
            world.agent(name).is_some_and(|view| {
                view.live != Live::Parked
                    || (state.ackers.contains(*name) && !view.fenced(state.epoch + 1))
            })
        })
        .map(|(name, _)| name.clone())
        .collect();
    (!leavers.is_empty()).then(|| Action::Promise {
        members: Vec::new(),
        besides: leavers,
        epoch: state.epoch + 1,
    })
}

/// Whether an acker that shall go, or is gone, can no longer acknowledge: it is fenced, or its pod is no more (a new one boots parked).
pub(super) fn cannot_acknowledge(group: &Group, state: &State, world: &World, name: &str) -> bool {
    let Some(seen) = world.members.get(name) else {
        return false;
    };
    let gone = !seen.pod.present && seen.pod.absent >= GONE && seen.view.is_none();
    let shall_go = !group.takes_part(name) || leave::departs(group, state, world, name);
    gone || (shall_go
        && (seen
            .view
            .as_ref()
            .is_some_and(|view| view.fenced(state.epoch + 1))
            || !seen.pod.present && seen.view.is_none()))
}

/// An acker that may be taken off the record: it cannot acknowledge any more, and what the primary had written when that was first seen
/// has reached another acker. The last acker may go only when the group is to have none.
fn shrink(inputs: Inputs<'_>, primary: &View) -> Option<String> {
    let Inputs {
        group,
        state,
        world,
        memory,
    } = inputs;
    let last_wanted = group.voters().count() <= 1;
    memory
        .leaving
        .iter()
        .filter(|(name, (replid, _))| {
            *replid == primary.replid && cannot_acknowledge(group, state, world, name)
        })
        .find(|(name, (replid, offset))| {
            let covered = state.ackers.iter().any(|other| {
                other != *name
                    && !memory.leaving.contains_key(other)
                    && world.server(other).is_some_and(|view| {
                        view.replid == *replid && view.offset >= *offset && !view.loading
                    })
            });
            covered || (last_wanted && state.ackers.len() == 1)
        })
        .map(|(name, _)| name.clone())
}
