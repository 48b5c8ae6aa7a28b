//! The first primary.

use crate::redis_replication::election::Predicate;
use crate::redis_replication::model::{Live, Role, View};

use super::{Action, Change, Decision, Inputs, Phase, member_ids, next_epoch, position};

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
    if group.has_served
        && views
            .iter()
            .all(|(_, view)| view.keys == 0 && view.recorded.is_none())
    {
        let fact = lacking(
            "DataPresent",
            "",
            "every member is new and empty, and the group has served before: restore a backup, or accept an empty beginning",
        );
        return Decision::new(Phase::Refused, "the data of the group are gone").lacking(vec![fact]);
    }
    if let Some(primary) = still_leading(&views) {
        return primary_found(inputs, primary);
    }
    let chosen = match choose(&group.source, &views) {
        Ok(chosen) => chosen,
        Err(missing) => {
            return Decision::new(
                Phase::Refused,
                "several members have data, and none of them is known to be the newest",
            )
            .lacking(missing);
        }
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
        primary: chosen.to_owned(),
        ackers: group
            .voters()
            .filter(|name| *name != chosen)
            .cloned()
            .collect(),
        member_ids: member_ids(state, world, group.voters()),
        elected,
        source: group.source.clone(),
        why: format!("{chosen} is the first primary"),
        ..Change::default()
    })])
}

fn lacking(name: &'static str, member: &str, detail: &str) -> Predicate {
    Predicate {
        name,
        member: member.to_owned(),
        detail: detail.to_owned(),
    }
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
        source: group.source.clone(),
        why: format!("{name} was found leading in epoch {}", view.grant_epoch),
        ..Change::default()
    })])
}

/// Who leads first: the source when all are empty; with data, who is known to have the newest.
fn choose<'a>(source: &'a str, views: &[(&'a str, &'a View)]) -> Result<&'a str, Vec<Predicate>> {
    let data: Vec<&(&str, &View)> = views.iter().filter(|(_, view)| view.keys > 0).collect();
    if data.is_empty() {
        return Ok(views
            .iter()
            .find(|(name, _)| *name == source)
            .or_else(|| views.first())
            .map_or(source, |(name, _)| name));
    }
    // volumes of an earlier group: its last primary, with all its data
    let last = views
        .iter()
        .filter(|(_, view)| view.recorded == Some(Role::Primary))
        .max_by_key(|(_, view)| view.grant_epoch);
    let newest = views
        .iter()
        .map(|(_, view)| view.grant_epoch)
        .max()
        .unwrap_or(0);
    if let Some((name, view)) = last
        && view.grant_epoch == newest
        && view.keys > 0
        && view.aof_intact
    {
        return Ok(name);
    }
    if let [(name, _)] = data[..] {
        return Ok(name);
    }
    Err(data
        .iter()
        .map(|(name, view)| {
            let detail = format!(
                "{} keys, last told to be {} in epoch {}",
                view.keys,
                if view.recorded == Some(Role::Primary) {
                    "primary"
                } else {
                    "replica"
                },
                view.grant_epoch
            );
            lacking("NewestDataKnown", name, &detail)
        })
        .collect())
}
