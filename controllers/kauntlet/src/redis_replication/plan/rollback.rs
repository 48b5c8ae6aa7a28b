//! The record is older than what the members know: a status that was restored from a backup, or that a controller read late.

use crate::redis_replication::election::Predicate;
use crate::redis_replication::model::{Live, Role, View};

use super::{Action, Change, Decision, Inputs, Phase, everything, member_ids, volumes};

/// A newer epoch that has begun is taken over as it is. Its primary may be taking writes: no member is fenced on behalf of an older record.
/// Taking it over is a compare-and-swap, so a controller that only reads late changes nothing.
pub(super) fn plan(inputs: Inputs<'_>) -> Option<Decision> {
    let Inputs {
        group,
        state,
        world,
        ..
    } = inputs;
    // volumes of an earlier group may know higher epochs, which say nothing about this one
    let known: Vec<(&String, &View)> = world
        .members
        .iter()
        .filter_map(|(name, seen)| Some((name, seen.view.as_ref()?)))
        .filter(|(_, view)| {
            !view.member_id.is_empty() && state.member_ids.values().any(|id| *id == view.member_id)
        })
        .collect();
    let newest = known.iter().map(|(_, view)| view.grant_epoch).max()?;
    let in_force = known
        .iter()
        .filter(|(_, view)| view.leads(newest))
        .map(|(_, view)| view.record_version)
        .max()
        .unwrap_or(0);
    if newest < state.epoch || (newest == state.epoch && in_force <= state.version) {
        return None;
    }
    let of_it = || known.iter().filter(|(_, view)| view.grant_epoch == newest);
    let leader = of_it()
        .find(|(_, view)| view.live == Live::Primary && view.recorded == Some(Role::Primary))
        .or_else(|| of_it().find(|(_, view)| view.recorded == Some(Role::Primary)))
        .map(|(name, _)| (*name).clone())
        .or_else(|| {
            // or one that the record does not know yet, whose history a member that it knows was told to follow
            let followed = |replid: &str| of_it().any(|(_, view)| view.primary_replid == replid);
            world.members.iter().find_map(|(name, seen)| {
                let view = seen.view.as_ref()?;
                (view.was_granted(newest) && followed(&view.replid)).then(|| name.clone())
            })
        })
        .or_else(|| {
            // or one that restarted since: its volume tells who belonged to the group, and the record knows one of them
            let told = volumes::told(world).filter(|told| told.epoch == newest)?;
            let ours = |id: &String| state.member_ids.values().any(|known| known == id);
            let (name, _) = volumes::last_primary(world, &told).ok()?;
            told.member_ids.values().any(ours).then_some(name)
        })
        .or_else(|| {
            // nobody who led is seen: those who follow know where it is
            of_it().find_map(|(_, view)| {
                let at = |seen: &super::super::model::Seen| {
                    (seen.host.as_str(), seen.port) == (view.follows.0.as_str(), view.follows.1)
                };
                let found = world.members.iter().find(|(_, seen)| at(seen))?;
                Some(found.0.clone())
            })
        });
    let why = format!(
        "members know epoch {newest} and record {in_force}, the record is of epoch {} and {}",
        state.epoch, state.version
    );
    let Some(primary) = leader else {
        let fact = Predicate {
            name: "PrimaryOfNewestEpochKnown",
            member: String::new(),
            detail: format!("{why}, and nobody who is seen knows who leads in it"),
        };
        return Some(Decision::new(Phase::Refused, why).lacking(vec![fact]));
    };
    // whoever is a member may be following already
    let ackers: std::collections::BTreeSet<String> = group
        .members
        .keys()
        .filter(|member| **member != primary)
        .cloned()
        .collect();
    let change = Change {
        epoch: newest,
        member_ids: member_ids(state, world, group.members.keys()),
        ackers,
        departed: state.departed.clone(),
        // the newer record, which is lost, may have asked for as much
        must_cover: world.agent(&primary).map(everything),
        least_version: in_force + 1,
        source: group.source.clone(),
        why: format!("{primary} leads in epoch {newest}; {why}"),
        primary,
        ..Change::default()
    };
    Some(Decision::new(Phase::Electing, why).act([Action::record(change)]))
}
