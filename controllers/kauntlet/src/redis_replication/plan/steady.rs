//! The primary leads: keep everybody following, the ackers right, and do what was asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::redis_replication::election::has;
use crate::redis_replication::leave;
use crate::redis_replication::model::{Departed, Group, Live, Standing, State, View, World};

use super::{Action, Change, Decision, Inputs, Phase, everything, switchover};

/// A member that has not answered for so long is not about to come back by itself: it is no longer admitted.
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
            .act([Action::record(Change {
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
        return steady("the source is noted").act([Action::record(change)]);
    }
    // grow first: whoever may acknowledge is on record before it does, with the volume that it has
    let new: Vec<&String> = group
        .voters()
        .filter(|name| {
            name.as_str() != primary
                && world.server(name).is_some_and(|member| {
                    !state.ackers.contains(*name)
                        || (!member.member_id.is_empty()
                            && state.member_id(name) != Some(member.member_id.as_str()))
                })
                && !leave::departs(group, state, world, name)
        })
        .collect();
    let primary_unnamed = !view.member_id.is_empty() && state.member_id(primary).is_none();
    if !new.is_empty() || primary_unnamed {
        let mut change = unchanged(inputs, primary);
        change.ackers.extend(new.iter().copied().cloned());
        change.departed = super::departed(state, world);
        change.member_ids.extend(super::member_ids(
            state,
            world,
            new.iter().copied().chain(state.primary.iter()),
        ));
        change.why = format!("{new:?} may acknowledge from now on");
        return steady("members join").act([Action::record(change)]);
    }
    let excluded = excluded(inputs, primary);
    if excluded != state.excluded {
        let mut change = unchanged(inputs, primary);
        change.why = format!("{excluded:?} may not acknowledge any more");
        change.excluded = excluded;
        return steady("members are excluded, or admitted again").act([Action::record(change)]);
    }
    let admitted = state.admitted();
    let grant = super::grant(inputs, primary, view, super::Position::default());
    if admitted.iter().any(|id| !view.admitted.contains(id)) {
        // before they try to follow
        return steady("members are admitted").act([grant]);
    }
    let mut actions = follow(inputs, primary, view);
    actions.extend(fence_leavers(inputs, primary));
    if covered(inputs) {
        let change = Change {
            must_cover: None,
            why: "an acker has what only the primary had".to_owned(),
            ..unchanged(inputs, primary)
        };
        return steady("an acker has everything again").act([Action::record(change)]);
    }
    if let Some((left, covered)) = shrink(inputs, view) {
        let mut change = unchanged(inputs, primary);
        if !covered {
            // nobody but the primary has what it acknowledged: the next acker needs it before it may lead
            change.must_cover = Some(everything(view));
        }
        if !change.departed.remove(&left) {
            change.ackers.remove(&left.name);
            change.excluded.remove(&left.name);
            change.member_ids.remove(&left.name);
        }
        change.why = format!(
            "{} can no longer acknowledge, and what it acknowledged is on {}",
            left.name,
            if covered {
                "another replica"
            } else {
                "the primary"
            }
        );
        return steady("a member has left").act([Action::record(change)]);
    }
    // with somebody to take off the record, the primary must refuse what an older record admits
    let closing = !(state.excluded.is_empty() && state.departed.is_empty());
    if view.min_replicas != group.min_replicas()
        || view.admitted != admitted
        || view.group != state.group()
        || (closing && view.record_version < state.version)
    {
        actions.push(grant);
    }
    steady("").act(actions)
}

/// Whether an acker has what nobody but the primary had.
fn covered(inputs: Inputs<'_>) -> bool {
    let Inputs { state, world, .. } = inputs;
    state.must_cover.as_ref().is_some_and(|left| {
        state.ackers.iter().any(|name| {
            world.server(name).is_some_and(|view| {
                view.live == Live::Replica
                    && view.grant_epoch == state.epoch
                    && view.standing == Standing::Synced
                    && !state.other_volume(name, view)
                    && has(view, left)
            })
        })
    })
}

/// The ackers that shall not replicate any more: those that no longer take part, and those that have been silent for long, so that they
/// cannot come back and acknowledge unseen. One that is seen again is admitted again.
fn excluded(inputs: Inputs<'_>, primary: &str) -> BTreeSet<String> {
    let Inputs {
        group,
        state,
        world,
        ..
    } = inputs;
    let silent = |name: &str| {
        world.members.get(name).is_some_and(|seen| {
            seen.view.is_none() && (seen.silent >= GONE || state.excluded.contains(name))
        })
    };
    // the only one that is left may be acknowledging unseen: cutting it off would help nobody
    let stands_in = |name: &str| {
        state.ackers.iter().any(|other| {
            other != name
                && world
                    .server(other)
                    .is_some_and(|view| view.live == Live::Replica && view.link_up)
        })
    };
    state
        .ackers
        .iter()
        .filter(|name| name.as_str() != primary)
        .filter(|name| {
            !group.takes_part(name)
                || (silent(name) && stands_in(name))
                || leave::departs(group, state, world, name)
        })
        .cloned()
        .collect()
}

/// What is on record.
pub(super) fn unchanged(inputs: Inputs<'_>, primary: &str) -> Change {
    Change {
        epoch: inputs.state.epoch,
        primary: primary.to_owned(),
        ackers: inputs.state.ackers.clone(),
        member_ids: inputs.state.member_ids.clone(),
        excluded: inputs.state.excluded.clone(),
        departed: inputs.state.departed.clone(),
        must_cover: inputs.state.must_cover.clone(),
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

/// The ackers and departed volumes that can no longer acknowledge: the primary does not admit them, or they promised the next epoch.
pub(super) fn leaving(
    group: &Group,
    state: &State,
    world: &World,
    leader: &View,
) -> BTreeSet<Departed> {
    // an older record may still be on its way to the primary, and admit them again
    let in_force = leader.record_version == state.version;
    let ackers = state.ackers.iter().filter_map(|name| {
        let fenced = world
            .agent(name)
            .is_some_and(|view| view.fenced(state.epoch + 1) && !state.other_volume(name, view));
        let cut_off = in_force
            && state
                .member_id(name)
                .is_some_and(|id| !leader.admitted.contains(id));
        // one that is here and takes part is about to be admitted, not about to leave
        let goes = !group.takes_part(name)
            || world.agent(name).is_none()
            || leave::departs(group, state, world, name);
        (goes && (fenced || cut_off)).then(|| Departed {
            name: name.clone(),
            id: state.member_id(name).unwrap_or_default().to_owned(),
        })
    });
    let departed = state
        .departed
        .iter()
        .filter(|volume| in_force && !leader.admitted.contains(&volume.id))
        .cloned();
    ackers.chain(departed).collect()
}

/// A volume that may be taken off the record, and whether another acker has what it acknowledged: it cannot acknowledge any more, and what
/// the primary had written when that was first seen has reached another acker. The last acker may go only when the group is to have none.
fn shrink(inputs: Inputs<'_>, primary: &View) -> Option<(Departed, bool)> {
    let Inputs {
        group,
        state,
        world,
        memory,
    } = inputs;
    let last_wanted = group.voters().count() <= 1;
    let now = leaving(group, state, world, primary);
    let stays = |name: &String| {
        !now.iter()
            .any(|volume| volume.name == *name && !state.departed.contains(volume))
    };
    memory
        .leaving
        .iter()
        .filter(|(volume, (replid, _))| *replid == primary.replid && now.contains(volume))
        .find_map(|(volume, (replid, offset))| {
            let covered = state
                .ackers
                .iter()
                .filter(|other| stays(other))
                .any(|other| {
                    world.server(other).is_some_and(|view| {
                        view.replid == *replid
                            && view.offset >= *offset
                            && !view.loading
                            && view.live == Live::Replica
                            && view.grant_epoch == state.epoch
                            && !state.other_volume(other, view)
                    })
                });
            let last = !state.departed.contains(volume) && state.ackers.len() == 1;
            let goes = covered || (last_wanted && (last || state.ackers.is_empty()));
            goes.then(|| (volume.clone(), covered))
        })
}
