//! The primary is gone, or may be: suspicion by two observers, promises, election.

use std::time::Duration;

use crate::redis_replication::election::{Election, Evidence, Predicate, Verdict, basis};
use crate::redis_replication::leave;
use crate::redis_replication::model::{Live, Prior, World};

use super::{
    Action, Change, Decision, Inputs, Outcome, Phase, departed, member_ids, next_epoch, position,
    switchover,
};

/// How long a primary may be silent, in the eyes of this controller.
const SILENCE: Duration = Duration::from_millis(1500);
/// The same when its pod is being deleted, or is not there any more.
const SILENCE_LEAVING: Duration = Duration::from_millis(300);
/// Seconds without a byte after which a replica counts its primary as lost.
const STALE: i64 = 2;
/// How long a refused election waits before a loss that the user accepts is taken.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a primary may be silent when no member follows it that could be asked: nobody acknowledges it then.
const SILENCE_ALONE: Duration = Duration::from_secs(5);

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
        let others = world
            .members
            .iter()
            .any(|(name, seen)| name != primary && seen.view.is_some());
        if !others {
            let mut waiting = waiting("no other member answers either".to_owned());
            if seen.silent >= PATIENCE {
                waiting.phase = Phase::Refused;
            }
            return waiting;
        }
        if seen.silent < SILENCE_ALONE {
            return waiting("no replica could be asked".to_owned());
        }
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
        ..
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

    let missing = match election.verdict() {
        Verdict::Winner(winner, evidence) => {
            return electing(why).act([record(inputs, &election, &winner, evidence, why)]);
        }
        Verdict::Nobody(missing) => missing,
    };
    // the recorded epoch never began: the election of before is held again
    if let Some(before) = basis(group, state, world, next) {
        let election = Election {
            state: &before,
            ..election
        };
        if let Verdict::Winner(winner, evidence) = election.verdict() {
            return electing(why).act([record(inputs, &election, &winner, evidence, why)]);
        }
    }
    refuse(inputs, &election, missing, why)
}

/// Nobody can be elected safely: promises that may help, a loss that was accepted, or a refusal with its way out.
fn refuse(
    inputs: Inputs<'_>,
    election: &Election<'_>,
    missing: Vec<Predicate>,
    why: &str,
) -> Decision {
    let Inputs {
        group,
        state,
        world,
        memory,
    } = inputs;
    let next = election.next;
    let primary = state.primary.as_deref().unwrap_or_default();
    let electing = |message: &str| Decision::new(Phase::Electing, message).withdraw();
    let unpromised = unpromised(world, next);
    // parking replicas without the hope of an election would only take a living primary its acknowledgements
    let hope = world.agent(primary).is_some()
        || state.ackers.iter().all(|name| world.agent(name).is_some());
    let prospect = election.prospect();
    let accepted = prospect.as_ref().filter(|prospect| {
        let by_user = group.acceptance.as_ref().is_some_and(|accepted| {
            accepted.expected_epoch == state.epoch && accepted.loss_id == prospect.loss_id
        });
        let by_policy =
            group.bounded_loss && memory.refused.is_some_and(|refused| refused >= PATIENCE);
        by_user || by_policy
    });
    if (hope || accepted.is_some()) && !unpromised.is_empty() {
        let (besides, members) = unpromised
            .into_iter()
            .partition(|name| name == primary && (!state.ackers.is_empty() || accepted.is_some()));
        return electing(why).act([Action::Promise {
            members,
            besides,
            epoch: next,
        }]);
    }
    if let Some(prospect) = accepted
        && world
            .agent(&prospect.candidate)
            .is_some_and(|view| view.fenced(next))
    {
        let why = format!("{why}; {}", prospect.loss);
        return electing(&why).act([record(
            inputs,
            election,
            &prospect.candidate,
            Evidence::LossAccepted,
            &why,
        )]);
    }
    let message = format!("{why}; no member is known to have every confirmed write");
    let mut refused = Decision::new(Phase::Refused, message)
        .withdraw()
        .lacking(missing);
    refused.prospect = prospect;
    refused
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
    let at_risk = evidence
        .at_risk()
        .map(|risk| format!("; {risk}"))
        .unwrap_or_default();
    let mut ackers = election.ackers(winner);
    let mut gone = departed(election.state, world);
    let mut prior = state.prior.clone();
    if election.state.epoch == state.epoch {
        prior = Some(Prior {
            epoch: state.epoch,
            primary: from.clone(),
            ackers: state.ackers.clone(),
            member_ids: state.member_ids.clone(),
            departed: state.departed.clone(),
            must_cover: state.must_cover.clone(),
        });
    } else {
        // of the epoch that never began, those that might still believe in it
        ackers.extend(Election { state, ..*election }.ackers(winner));
        gone.extend(departed(state, world));
    }
    if matches!(evidence, Evidence::LossAccepted) {
        // given up, as was accepted
        gone.clear();
    }
    let leads = winner.to_owned();
    let member_ids = member_ids(state, world, ackers.iter().chain([&leads]));
    Action::record(Change {
        epoch: election.next,
        primary: winner.to_owned(),
        member_ids,
        departed: gone,
        excluded: std::collections::BTreeSet::new(),
        // it has everything, and whoever follows it has synchronized only when it has everything up to this epoch
        must_cover: None,
        least_version: 0,
        prior,
        evidence: Some(evidence),
        ackers,
        outcome,
        elected: world.server(winner).map(position),
        source,
        why: format!(
            "{winner} follows {from} as primary of epoch {} ({evidence:?}): {why}{at_risk}",
            election.next
        ),
    })
}
