//! The first primary.

use crate::redis_replication::election::{Election, Evidence, Predicate};
use crate::redis_replication::model::{Group, Live, State, View};

use super::{
    Action, Change, Decision, Inputs, Phase, everything, lacking, member_ids, next_epoch, position,
    volumes,
};

/// No primary is on record: the group is new, or its status was lost, or its volumes come from an earlier group.
pub(super) fn plan(inputs: Inputs<'_>) -> Decision {
    let Inputs {
        group,
        state,
        world,
        ..
    } = inputs;
    let mut views: Vec<(&str, &View)> = Vec::new();
    let mut missing = Vec::new();
    for name in group.voters() {
        match world.server(name) {
            Some(view) if !view.loading => views.push((name, view)),
            Some(_) => missing.push(lacking("DataLoaded", name, "it loads its data")),
            None => {
                let why = world
                    .agent(name)
                    .map_or("its unit agent does not answer", |view| {
                        view.reason.as_str()
                    });
                missing.push(lacking("MemberReachable", name, why));
            }
        }
    }
    // data that is not seen may be the newest: no first primary without a look at every member
    if !missing.is_empty() || views.is_empty() {
        return Decision::new(Phase::SettingUp, "waiting for every member's server")
            .lacking(missing);
    }
    if let Some(primary) = still_leading(&views) {
        return primary_found(inputs, primary);
    }
    let told = volumes::told(world);
    let chosen = match &told {
        Some(told) => match volumes::last_primary(world, told) {
            Ok((name, view)) => return restored(inputs, told, name, view),
            Err(missing) => Err(missing),
        },
        None => choose(group, &views),
    };
    let (chosen, evidence) = match chosen {
        Ok(chosen) => (chosen.to_owned(), None),
        Err(missing) => match accepted_or_refused(inputs, told.unwrap_or_default(), missing) {
            Ok(accepted) => (accepted, Some(Evidence::LossAccepted)),
            Err(refused) => return *refused,
        },
    };
    let next = next_epoch(state, world);
    let elected = views
        .iter()
        .find(|(name, _)| *name == chosen)
        .map(|(_, view)| position(view));
    Decision::new(
        Phase::SettingUp,
        format!("{chosen} becomes the first primary"),
    )
    .act([Action::record(Change {
        epoch: next,
        primary: chosen.clone(),
        ackers: group
            .voters()
            .filter(|name| **name != chosen)
            .cloned()
            .collect(),
        member_ids: member_ids(state, world, group.voters()),
        evidence,
        elected,
        source: group.source.clone(),
        why: format!("{chosen} is the first primary"),
        ..Change::default()
    })])
}

/// A primary of the newest epoch that anybody knows of: the status was lost, the group was not.
fn still_leading<'a>(views: &[(&'a str, &'a View)]) -> Option<(&'a str, &'a View)> {
    let newest = views
        .iter()
        .map(|(_, view)| view.promised.max(view.grant_epoch))
        .max()?;
    views
        .iter()
        .copied()
        .find(|(_, view)| view.live == Live::Primary && view.was_granted(newest))
}

fn primary_found(inputs: Inputs<'_>, (name, view): (&str, &View)) -> Decision {
    let Inputs {
        group,
        state,
        world,
        ..
    } = inputs;
    Decision::new(Phase::SettingUp, format!("{name} leads already")).act([Action::record(Change {
        epoch: view.grant_epoch,
        primary: name.to_owned(),
        // whoever is seen may be following it already
        ackers: group
            .members
            .keys()
            .filter(|member| *member != name)
            .cloned()
            .collect(),
        member_ids: member_ids(state, world, group.members.keys()),
        // the record, which is lost, may have asked for as much
        must_cover: Some(everything(view)),
        source: group.source.clone(),
        why: format!("{name} was found leading in epoch {}", view.grant_epoch),
        ..Change::default()
    })])
}

/// The record as the volumes tell it. What follows is an election like any other.
fn restored(inputs: Inputs<'_>, told: &State, primary: String, view: &View) -> Decision {
    Decision::new(
        Phase::SettingUp,
        format!("{primary} led last, in epoch {}", told.epoch),
    )
    .act([Action::record(Change {
        epoch: told.epoch,
        ackers: told.ackers.clone(),
        member_ids: told.member_ids.clone(),
        elected: Some(position(view)),
        source: inputs.group.source.clone(),
        why: format!(
            "{primary} led last, in epoch {}, as the volumes tell",
            told.epoch
        ),
        primary,
        ..Change::default()
    })])
}

/// Who leads although data may be lost, when exactly that loss was accepted; else the refusal that states it.
fn accepted_or_refused(
    inputs: Inputs<'_>,
    told: State,
    missing: Vec<Predicate>,
) -> Result<String, Box<Decision>> {
    let Inputs {
        group,
        state,
        world,
        ..
    } = inputs;
    let prospect = Election {
        group,
        state: &told,
        world,
        next: next_epoch(state, world),
        prefer: None,
        away: false,
    }
    .prospect();
    let accepted = prospect.as_ref().filter(|prospect| {
        group.acceptance.as_ref().is_some_and(|accepted| {
            accepted.expected_epoch == state.epoch && accepted.loss_id == prospect.loss_id
        })
    });
    if let Some(accepted) = accepted {
        return Ok(accepted.candidate.clone());
    }
    let mut refused = Decision::new(
        Phase::Refused,
        "no member is known to have every confirmed write of before",
    )
    .lacking(missing);
    refused.prospect = prospect;
    Err(Box::new(refused))
}

/// Who leads first of members that were never told anything: the source when all are empty, or the only one with data.
fn choose<'a>(group: &'a Group, views: &[(&'a str, &'a View)]) -> Result<&'a str, Vec<Predicate>> {
    let data: Vec<&(&str, &View)> = views.iter().filter(|(_, view)| view.keys > 0).collect();
    match data[..] {
        [] if group.has_served => Err(vec![lacking(
            "DataPresent",
            "",
            "every member is new and empty, and the group has served before: restore a backup, or accept an empty beginning",
        )]),
        [] => Ok(views
            .iter()
            .find(|(name, _)| *name == group.source)
            .or_else(|| views.first())
            .map_or(group.source.as_str(), |(name, _)| name)),
        [(name, _)] => Ok(name),
        _ => Err(data
            .iter()
            .map(|(name, view)| {
                let detail = format!(
                    "{} keys, and it was never told to lead or to follow",
                    view.keys
                );
                lacking("NewestDataKnown", name, &detail)
            })
            .collect()),
    }
}
