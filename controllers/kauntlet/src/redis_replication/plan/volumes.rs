//! What the volumes themselves tell of the group: each primary keeps on its own who may have acknowledged in its epoch.

use crate::redis_replication::election::Predicate;
use crate::redis_replication::model::{Departed, State, View, World};

use super::lacking;

/// What the volumes tell of the group that they belonged to: its newest epoch, who led in it, and who may have acknowledged.
pub(super) fn told(world: &World) -> Option<State> {
    let views: Vec<(&str, &View)> = world
        .members
        .iter()
        .filter_map(|(name, seen)| Some((name.as_str(), seen.view.as_ref()?)))
        .collect();
    let newest = views
        .iter()
        .filter(|(_, view)| view.recorded.is_some())
        .map(|(_, view)| view.grant_epoch)
        .max()?;
    let primary = views
        .iter()
        .find(|(_, view)| view.was_granted(newest))
        .map(|(name, view)| ((*name).to_owned(), *view));
    let mut told = State {
        epoch: newest,
        ..State::default()
    };
    let Some((primary, view)) = primary else {
        return Some(told);
    };
    let mut add = |name: &String, id: &str| {
        told.member_ids.insert(name.clone(), id.to_owned());
        if *name != primary {
            told.ackers.insert(name.clone());
        }
    };
    add(&primary, &view.member_id);
    for id in &view.group {
        match world.with_volume(id) {
            Some((name, _)) => add(name, id),
            None => {
                told.departed.insert(Departed {
                    name: String::new(),
                    id: id.clone(),
                });
            }
        }
    }
    if view.group.is_empty() {
        // an earlier unit agent did not keep who belongs to the group
        for (name, view) in &views {
            add(&(*name).to_owned(), &view.member_id);
        }
    }
    told.primary = Some(primary);
    Some(told)
}

/// The last primary, when it is known that nobody led after it: whoever did was an acker of its epoch, and would show it. A volume that is
/// not here may be that of a later primary, whatever epoch those that are here know of.
pub(super) fn last_primary<'a>(
    world: &'a World,
    told: &State,
) -> Result<(String, &'a View), Vec<Predicate>> {
    let Some(name) = &told.primary else {
        let detail = format!(
            "nobody here led in epoch {}, the newest that the volumes know of: the primary's volume is not here",
            told.epoch
        );
        return Err(vec![lacking("LastPrimaryPresent", "", &detail)]);
    };
    let mut missing: Vec<Predicate> = told
        .departed
        .iter()
        .map(|volume| {
            let detail = format!(
                "volume {} belongs to the group of epoch {} and is not here; it may have newer data",
                volume.id, told.epoch
            );
            lacking("VolumePresent", "", &detail)
        })
        .collect();
    let untold = told.ackers.iter().filter(|name| {
        world
            .agent(name)
            .is_some_and(|view| view.recorded.is_none() && view.keys > 0)
    });
    missing.extend(untold.map(|name| {
        lacking(
            "SameHistory",
            name,
            "it has data, and was never told to lead or to follow",
        )
    }));
    match world.agent(name) {
        Some(view) if missing.is_empty() => Ok((name.clone(), view)),
        Some(_) | None => Err(missing),
    }
}
