//! A planned change of the primary: writes are paused, the target catches up, the primary promises the next epoch; from there on it is
//! an election with the target preferred, and nobody lost a byte.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::redis_replication::leave;
use crate::redis_replication::model::{Group, Live, Request, State, View, World};

use super::steady::unchanged;
use super::{Action, Change, Decision, Inputs, Outcome, Phase, next_epoch};

/// A target that has not caught up after so long is given up.
const CATCH_UP: Duration = Duration::from_secs(4);
/// Bytes a target may be behind before writes are paused.
const MAX_LAG: i64 = 16 * 1024 * 1024;
/// A move of the role for a leave that failed is tried again after this time.
const AGAIN: Duration = Duration::from_secs(10);

/// Begins the id of a move that a leaving primary asks for.
const LEAVE: &str = "leave/";
/// Begins the id of a move that an edit of `spec.source` asks for.
const SOURCE: &str = "source/";

/// The answered requests with one more. Of each kind the last one counts; a leave is asked for again until it was granted.
pub(in crate::redis_replication) fn answer(
    answered: &BTreeSet<String>,
    id: &str,
) -> BTreeSet<String> {
    let mut answered = answered.clone();
    answered.retain(|other| !other.starts_with(LEAVE));
    if !id.starts_with(LEAVE) {
        answered.retain(|other| other.starts_with(SOURCE) != id.starts_with(SOURCE));
        answered.insert(id.to_owned());
    }
    answered
}

/// What is asked for and not answered yet.
pub(super) fn pending(group: &Group, state: &State, world: &World) -> Option<Request> {
    let answered = |id: &str| state.answered.contains(id);
    if let Some(request) = &group.request
        && !answered(&request.id)
    {
        return Some(request.clone());
    }
    let primary = state.primary.as_deref()?;
    let pod = &world.members.get(primary)?.pod;
    if let Some(asked) = &pod.leave
        && leave::moves_primary(group, state, world, primary)
    {
        let id = format!("{LEAVE}{}/{}", pod.uid, asked.reason);
        let waits = state
            .last
            .as_ref()
            .is_some_and(|last| last.id == id && !last.succeeded && last.ago < AGAIN);
        if !waits {
            return Some(Request {
                id,
                target: String::new(),
                expected_epoch: None,
            });
        }
    }
    if state
        .source
        .as_ref()
        .is_some_and(|source| *source != group.source)
        && group.source != primary
    {
        let id = format!("{SOURCE}{}/{}", group.source, group.generation);
        if !answered(&id) {
            return Some(Request {
                id,
                target: group.source.clone(),
                expected_epoch: None,
            });
        }
    }
    None
}

/// The next step of what is asked for; `None` when nothing is.
pub(super) fn plan(inputs: Inputs<'_>, primary: &str, view: &View) -> Option<Decision> {
    let Inputs {
        group,
        state,
        world,
        memory,
    } = inputs;
    let request = pending(group, state, world)?;
    if request
        .expected_epoch
        .is_some_and(|expected| expected != state.epoch)
    {
        let why = format!(
            "the request was made in epoch {}, the group is in epoch {}",
            request.expected_epoch.unwrap_or(0),
            state.epoch
        );
        return Some(end(
            inputs,
            primary,
            &request,
            &request.target,
            Err(("StaleEpoch", why)),
        ));
    }
    if request.target == primary {
        return Some(end(inputs, primary, &request, primary, Ok(())));
    }
    let target = match target(inputs, primary, view, &request) {
        Ok(target) => target,
        Err(why) => return Some(end(inputs, primary, &request, &request.target, Err(why))),
    };
    if !view.paused
        && let Some(name) = copying(inputs, primary, target)
    {
        let why = format!(
            "{name} copies the data of {primary}, which would begin anew: wait until it follows, or isolate it"
        );
        return Some(end(
            inputs,
            primary,
            &request,
            target,
            Err(("CopyUnderWay", why)),
        ));
    }
    let going = |message: String| Decision::new(Phase::SwitchingOver, message);
    let seen = world.server(target)?;
    if !view.paused {
        return Some(
            going(format!("writes at {primary} are paused for {target}")).act([Action::Pause {
                member: primary.to_owned(),
                epoch: state.epoch,
            }]),
        );
    }
    if seen.offset >= view.offset {
        return Some(
            going(format!("{primary} hands over to {target}"))
                .withdraw()
                .act([Action::Promise {
                    members: vec![primary.to_owned()],
                    besides: Vec::new(),
                    epoch: next_epoch(state, world),
                }]),
        );
    }
    if memory.paused.is_some_and(|paused| paused > CATCH_UP) {
        let why = format!(
            "{target} is {} bytes behind and did not catch up",
            view.offset - seen.offset
        );
        return Some(end(
            inputs,
            primary,
            &request,
            target,
            Err(("TargetTooSlow", why)),
        ));
    }
    Some(going(format!("{target} catches up")).act([Action::Await {
        member: target.to_owned(),
        replid: view.replid.clone(),
        offset: view.offset,
    }]))
}

/// Whoever copies the data of the primary: a primary that steps down ends the links of its replicas, and half a copy is good for nothing.
fn copying<'a>(inputs: Inputs<'a>, primary: &str, target: &str) -> Option<&'a String> {
    inputs
        .group
        .voters()
        .filter(|name| name.as_str() != primary && name.as_str() != target)
        .find(|name| {
            inputs
                .world
                .server(name)
                .is_some_and(|view| view.live == Live::Replica && view.syncing)
        })
}

/// The outcome. Writes that are paused go on with the next step, when nothing is asked for any more.
fn end(
    inputs: Inputs<'_>,
    primary: &str,
    request: &Request,
    to: &str,
    result: Result<(), (&'static str, String)>,
) -> Decision {
    let (succeeded, reason, message) = match result {
        Ok(()) => (
            true,
            "AlreadyPrimary".to_owned(),
            format!("{to} is the primary already"),
        ),
        Err((reason, message)) => (false, reason.to_owned(), message),
    };
    let outcome = Outcome {
        id: request.id.clone(),
        from: primary.to_owned(),
        to: to.to_owned(),
        succeeded,
        reason,
        message: message.clone(),
    };
    Decision::new(Phase::Steady, message.clone()).act([Action::record(Change {
        outcome: Some(outcome),
        why: message,
        ..unchanged(inputs, primary)
    })])
}

/// Who takes over: the wanted one if it can, or the best replica that can.
fn target<'a>(
    inputs: Inputs<'a>,
    primary: &str,
    view: &View,
    request: &'a Request,
) -> Result<&'a str, (&'static str, String)> {
    let group = inputs.group;
    if !request.target.is_empty() {
        if !group.takes_part(&request.target) {
            return Err((
                "UnknownTarget",
                format!("{} is not a member, or is isolated", request.target),
            ));
        }
        return able(inputs, view, &request.target).map(|()| request.target.as_str());
    }
    let mut why = ("NoReplica", "there is no other member".to_owned());
    let mut best: Option<(&str, (bool, i64))> = None;
    for name in group.voters().filter(|name| name.as_str() != primary) {
        match able(inputs, view, name) {
            Ok(()) => {
                let offset = inputs.world.server(name).map_or(0, |seen| seen.offset);
                // not to one that wants to leave itself: its role would move again at once
                let rank = (!leave::asks(inputs.world, name), offset);
                if best.is_none_or(|(_, most)| rank > most) {
                    best = Some((name, rank));
                }
            }
            Err(reason) => why = reason,
        }
    }
    best.map(|(name, _)| name).ok_or(why)
}

/// The pre-flight predicates of one target.
fn able(inputs: Inputs<'_>, primary: &View, name: &str) -> Result<(), (&'static str, String)> {
    let refuse = |reason: &'static str, what: String| Err((reason, format!("{name} {what}")));
    let Some(seen) = inputs.world.server(name) else {
        return refuse("TargetNotReachable", "does not answer".to_owned());
    };
    if seen.live != Live::Replica
        || !seen.link_up
        || seen.replid != primary.replid
        || seen.loading
        || seen.syncing
    {
        return refuse(
            "TargetNotSynchronized",
            "does not follow the primary, or has not synchronized with it".to_owned(),
        );
    }
    if !seen.persistence_healthy {
        return refuse(
            "TargetPersistence",
            "cannot write its data to its volume".to_owned(),
        );
    }
    if seen.max_memory > 0 && seen.max_memory < primary.used_memory {
        return refuse(
            "TargetMemory",
            format!(
                "has a limit of {} bytes, the primary uses {}",
                seen.max_memory, primary.used_memory
            ),
        );
    }
    let lag = primary.offset - seen.offset;
    if lag > MAX_LAG {
        return refuse("TargetLag", format!("is {lag} bytes behind"));
    }
    Ok(())
}
