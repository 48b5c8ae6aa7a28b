//! The primary is gone, or may be: suspicion by two observers, promises, election.

use std::time::Duration;

use crate::redis_replication::election::{Election, Evidence, Predicate, Verdict};
use crate::redis_replication::leave;
use crate::redis_replication::model::{Live, World};

use super::{Action, Change, Decision, Inputs, Outcome, Phase, next_epoch, position, switchover};

/// How long a primary may be silent, in the eyes of this controller.
const SILENCE: Duration = Duration::from_millis(1500);
/// The same when its pod is being deleted, or is not there any more.
const SILENCE_LEAVING: Duration = Duration::from_millis(300);
/// Seconds without a byte after which a replica counts its primary as lost.
const STALE: i64 = 2;
/// How long a refused election waits before a loss that the user accepts is taken.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the replicas say of their primary.
#[derive(Clone, Copy, Debug, Default)]
struct Votes {
    lost: usize,
    alive: usize,
}

fn votes(inputs: Inputs<'_>, primary: &str) -> Votes {
    let mut votes = Votes::default();
    for name in inputs
        .group
        .members
        .keys()
        .filter(|name| name.as_str() != primary)
    {
        let Some(view) = inputs.world.server(name) else {
            continue;
        };
        if view.live != Live::Replica {
            continue;
        }
        // writes that are paused bring no bytes, and no pings either
        if !view.link_up || view.io_age >= STALE {
            votes.lost += 1;
        } else if !view.syncing {
            votes.alive += 1;
        }
    }
    votes
}

/// The primary does not answer: the group acts when the replicas say the same.
pub(super) fn suspect(inputs: Inputs<'_>, primary: &str, why: &str) -> Decision {
    let Inputs {
        group,
        state,
        world,
        ..
    } = inputs;
    // an election that has begun is finished: whoever promised waits for it
    if group
        .voters()
        // one that asked to leave is parked for that
        .filter(|name| !leave::asks(world, name))
        .filter_map(|name| world.agent(name))
        .any(|view| view.fenced(state.epoch + 1))
    {
        return elect(inputs, "an election has begun");
    }
    let Some(seen) = world.members.get(primary) else {
        return Decision::new(Phase::Electing, "the primary is not observed yet");
    };
    let patience = if seen.pod.leaving || !seen.pod.present {
        SILENCE_LEAVING
    } else {
        SILENCE
    };
    let votes = votes(inputs, primary);
    let waiting = |detail: String| {
        Decision::new(Phase::Electing, format!("{primary} is silent: {why}")).lacking(vec![
            Predicate {
                name: "PrimaryLost",
                member: primary.to_owned(),
                detail,
            },
        ])
    };
    if seen.silent < patience {
        return waiting(format!("silent for {:?}", seen.silent));
    }
    if votes.alive > 0 {
        return waiting(format!("{} replicas still hear from it", votes.alive));
    }
    // when everybody promised, nobody is left to say so
    let promised = || {
        group
            .voters()
            .filter_map(|name| world.agent(name))
            .any(|view| view.fenced(state.epoch + 1))
    };
    if votes.lost == 0 && !promised() {
        return waiting("no replica could be asked".to_owned());
    }
    elect(
        inputs,
        &format!(
            "{primary} is lost: {why}; {} replicas say the same",
            votes.lost
        ),
    )
}

/// Promises, then the verdict.
pub(super) fn elect(inputs: Inputs<'_>, why: &str) -> Decision {
    let Inputs {
        group,
        state,
        world,
        memory,
    } = inputs;
    let next = next_epoch(state, world);
    let primary = state.primary.as_deref().unwrap_or_default();
    let request = switchover::pending(group, state, world);
    let away = request.is_some()
        || world
            .members
            .get(primary)
            .is_some_and(|seen| seen.pod.leaving);
    let prefer = request
        .as_ref()
        .map(|request| request.target.as_str())
        .filter(|target| !target.is_empty());
    let election = Election {
        group,
        state,
        world,
        next,
        prefer,
        away,
    };
    let electing = |message: &str| Decision::new(Phase::Electing, message).withdraw();

    match election.verdict() {
        Verdict::Winner(winner, evidence) => {
            electing(why).act([record(inputs, &election, &winner, evidence, why)])
        }
        Verdict::Nobody(missing) => {
            let unpromised = unpromised(world, next);
            // parking replicas without the hope of an election would only take a living primary its acknowledgements
            let hope = world.agent(primary).is_some()
                || state.ackers.iter().all(|name| world.agent(name).is_some());
            if hope && !unpromised.is_empty() {
                let (besides, members) = unpromised
                    .into_iter()
                    .partition(|name| name == primary && !state.ackers.is_empty());
                return electing(why).act([Action::Promise {
                    members,
                    besides,
                    epoch: next,
                }]);
            }
            if group.bounded_loss
                && memory.refused.is_some_and(|refused| refused >= PATIENCE)
                && let Some(winner) = election.with_loss()
            {
                return electing(why).act([record(
                    inputs,
                    &election,
                    &winner,
                    Evidence::LossAccepted,
                    why,
                )]);
            }
            let message = format!("{why}; no member is known to have every confirmed write");
            Decision::new(Phase::Refused, message)
                .withdraw()
                .lacking(missing)
        }
    }
}

/// Whose promise is still to be asked for.
fn unpromised(world: &World, next: i64) -> Vec<String> {
    world
        .members
        .iter()
        .filter(|(_, seen)| seen.view.as_ref().is_some_and(|view| !view.fenced(next)))
        .map(|(name, _)| name.clone())
        .collect()
}

fn record(
    inputs: Inputs<'_>,
    election: &Election<'_>,
    winner: &str,
    evidence: Evidence,
    why: &str,
) -> Action {
    let Inputs {
        group,
        state,
        world,
        ..
    } = inputs;
    let from = state.primary.clone().unwrap_or_default();
    let request = switchover::pending(group, state, world);
    let source = match (&request, &state.source) {
        (Some(request), Some(source)) if !request.id.starts_with("source/") => source.clone(),
        _ => group.source.clone(),
    };
    let outcome = request.map(|request| {
        let wanted = if request.target.is_empty() {
            winner != from
        } else {
            request.target == winner
        };
        Outcome {
            id: request.id,
            from: from.clone(),
            to: if request.target.is_empty() {
                winner.to_owned()
            } else {
                request.target
            },
            succeeded: wanted,
            reason: if wanted {
                "SwitchedOver"
            } else {
                "OtherMemberElected"
            }
            .to_owned(),
            message: format!("{winner} leads in epoch {}", election.next),
        }
    });
    let at_risk = match evidence {
        Evidence::LossAccepted => "; confirmed writes may be lost, as dataLossPolicy accepts",
        _ => "",
    };
    Action::Record(Change {
        epoch: election.next,
        primary: winner.to_owned(),
        ackers: election.ackers(winner),
        outcome,
        elected: world.server(winner).map(position),
        source,
        why: format!(
            "{winner} follows {from} as primary of epoch {} ({evidence:?}): {why}{at_risk}",
            election.next
        ),
    })
}
