//! The status of a RedisReplication. Pure.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use upm_crds::conditions::{self, kind};
use upm_crds::redis_replication::{
    DepartedVolume, Health, HistoryPosition, LastElection, LastSwitchover, Member, MissingFact,
    Phase as StatusPhase, Position, PriorEpoch, RedisReplicationStatus, Refusal, Role,
    SwitchoverResult,
};

use super::leave;
use super::model::{Departed, History, Live, Node, Seen, View};
use super::plan::{Change, Decision, Inputs, Phase, switchover};

/// What the status is made from.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The inputs of the decision.
    pub inputs: Inputs<'a>,
    /// The decision.
    pub decision: &'a Decision,
    /// The status before.
    pub before: &'a RedisReplicationStatus,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// Names of the services, when they exist.
    pub services: Option<(&'a str, &'a str)>,
    /// What went wrong with services or labels.
    pub trouble: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

/// The status.
pub fn build(parts: &Parts<'_>) -> RedisReplicationStatus {
    let Parts {
        inputs,
        decision,
        before,
        ..
    } = *parts;
    let (group, state, world) = (inputs.group, inputs.state, inputs.world);
    let mut status = before.clone();
    let leader = state
        .primary
        .as_deref()
        .and_then(|name| world.server(name))
        .filter(|view| view.leads(state.epoch));
    let writable =
        leader.is_some_and(|view| !view.paused && (view.min_replicas == 0 || view.online > 0));
    status.topology = group
        .members
        .iter()
        .map(|(name, node)| {
            let seen = world.members.get(name);
            (name.clone(), member(inputs, name, node, seen, leader))
        })
        .collect();
    let wanted = || {
        status
            .topology
            .iter()
            .filter(|(name, _)| group.takes_part(name))
    };
    let all = wanted().all(|(_, member)| member.status == Health::Healthy);
    status.writable = writable;
    status.ready = writable && all;
    status.phase = match decision.phase {
        Phase::SettingUp => StatusPhase::SettingUp,
        Phase::Electing => StatusPhase::Electing,
        Phase::SwitchingOver => StatusPhase::SwitchingOver,
        Phase::Refused => StatusPhase::Refused,
        Phase::Steady if status.ready => StatusPhase::Healthy,
        Phase::Steady => StatusPhase::Degraded,
    };
    status.observed_generation = parts.generation;
    if let Some((readwrite, readonly)) = parts.services {
        status.readwrite_service = Some(readwrite.to_owned());
        status.readonly_service = Some(readonly.to_owned());
    }
    status.refusal = refusal(decision);
    positions(&mut status, inputs);
    leave::condition(&mut status.conditions, group, state, world, parts.now);
    conditions(&mut status, parts, writable, all);
    status
}

/// Writes a change into a status that was built; this is what is compared and swapped.
pub fn record(status: &mut RedisReplicationStatus, change: &Change, now: Timestamp) {
    status.epoch = change.epoch;
    status.primary = Some(change.primary.clone());
    status.ackers = change.ackers.iter().cloned().collect();
    status.member_ids = change.member_ids.clone();
    status.excluded = change.excluded.iter().cloned().collect();
    status.record_version = (status.record_version + 1).max(change.least_version);
    status.departed = departed(&change.departed);
    status.must_cover = change.must_cover.as_ref().map(must_cover);
    status.prior = change.prior.as_ref().map(|prior| PriorEpoch {
        epoch: prior.epoch,
        primary: prior.primary.clone(),
        ackers: prior.ackers.iter().cloned().collect(),
        member_ids: prior.member_ids.clone(),
        departed: departed(&prior.departed),
        must_cover: prior.must_cover.as_ref().map(must_cover),
    });
    if let Some(evidence) = change.evidence {
        status.last_election = Some(LastElection {
            epoch: change.epoch,
            primary: change.primary.clone(),
            evidence: format!("{evidence:?}"),
            at_risk: evidence
                .at_risk()
                .map(|risk| format!("{risk}; {}", change.why)),
        });
    }
    status.observed_source = Some(change.source.clone());
    if let Some(at) = &change.elected {
        status
            .positions
            .retain(|position| position.name != change.primary);
        status.positions.push(Position {
            name: change.primary.clone(),
            replid: at.replid.clone(),
            offset: at.offset,
            keys: at.keys,
        });
        status.positions.sort_by(|a, b| a.name.cmp(&b.name));
    }
    if let Some(outcome) = &change.outcome {
        let answered = status
            .answered_requests
            .iter()
            .chain(status.last_switchover.iter().map(|last| &last.request_id));
        let answered = answered.cloned().collect();
        status.answered_requests = switchover::answer(&answered, &outcome.id)
            .into_iter()
            .collect();
        status.last_switchover = Some(LastSwitchover {
            request_id: outcome.id.clone(),
            from: outcome.from.clone(),
            to: outcome.to.clone(),
            epoch: change.epoch,
            result: if outcome.succeeded {
                SwitchoverResult::Succeeded
            } else {
                SwitchoverResult::Failed
            },
            reason: outcome.reason.clone(),
            message: outcome.message.clone(),
            completion_time: Some(Time(now)),
        });
    }
}

fn must_cover(history: &History) -> HistoryPosition {
    HistoryPosition {
        replid: history.replid.clone(),
        offset: history.offset,
    }
}

fn departed(volumes: &BTreeSet<Departed>) -> Vec<DepartedVolume> {
    volumes
        .iter()
        .map(|volume| DepartedVolume {
            name: volume.name.clone(),
            member_id: volume.id.clone(),
        })
        .collect()
}

/// Why nobody can be elected, and the way out.
fn refusal(decision: &Decision) -> Option<Refusal> {
    if decision.phase != Phase::Refused {
        return None;
    }
    let prospect = decision.prospect.clone().unwrap_or_default();
    Some(Refusal {
        candidate: Some(prospect.candidate).filter(|name| !name.is_empty()),
        loss: prospect.loss,
        loss_id: prospect.loss_id,
        missing: decision
            .missing
            .iter()
            .take(64)
            .map(|fact| MissingFact {
                predicate: fact.name.to_owned(),
                member: fact.member.clone(),
                detail: fact.detail.clone(),
            })
            .collect(),
    })
}

fn member(
    inputs: Inputs<'_>,
    name: &str,
    node: &Node,
    seen: Option<&Seen>,
    leader: Option<&View>,
) -> Member {
    let state = inputs.state;
    let mut told = Member {
        host: node.host.clone(),
        port: node.port,
        ..Member::default()
    };
    let Some(view) = seen.and_then(|seen| seen.view.as_ref()) else {
        let why = seen.and_then(|seen| seen.distrust.as_ref());
        told.message = Some(why.map_or_else(
            || "the unit agent does not answer".to_owned(),
            |why| format!("no connection with the unit agent: {why}"),
        ));
        return told;
    };
    let leads = state.primary.as_deref() == Some(name) && view.leads(state.epoch);
    let follows = view.live == Live::Replica && view.grant_epoch == state.epoch && view.link_up;
    told.role = match view.live {
        Live::Primary if leads => Role::Source,
        Live::Replica => Role::Replica,
        Live::Primary | Live::Parked => Role::None,
    };
    told.ready = view.reachable && !view.loading && (leads || follows);
    told.status = if told.ready {
        Health::Healthy
    } else {
        Health::Failed
    };
    told.message = message(view, node, leads, follows);
    if !view.reachable {
        return told;
    }
    told.offset = Some(view.offset);
    told.replid = Some(view.replid.clone());
    told.version = Some(view.version.clone()).filter(|version| !version.is_empty());
    told.keys = Some(view.keys);
    if view.live == Live::Replica {
        told.lag_bytes = leader
            .filter(|leader| leader.replid == view.replid)
            .map(|leader| (leader.offset - view.offset).max(0));
        told.master_link_status = Some(if view.link_up { "up" } else { "down" }.to_owned());
        told.master_sync_in_progress = Some(view.syncing);
        told.source_host = Some(view.follows.0.clone());
        told.source_port = Some(view.follows.1);
    }
    told
}

fn message(view: &View, node: &Node, leads: bool, follows: bool) -> Option<String> {
    let text = if !view.reachable {
        view.reason.clone()
    } else if node.removed {
        "no longer in the spec".to_owned()
    } else if node.isolated {
        "isolated".to_owned()
    } else if view.loading {
        "loads its data".to_owned()
    } else if view.syncing {
        "copies the data of the primary".to_owned()
    } else if view.live == Live::Parked {
        format!("parked, promised epoch {}", view.promised)
    } else if view.paused {
        "writes are paused".to_owned()
    } else if !view.persistence_healthy {
        "cannot write its data to its volume".to_owned()
    } else if !leads && !follows {
        match view.link_error.as_str() {
            "" => "does not follow the primary yet".to_owned(),
            why => format!("does not follow the primary yet: {why}"),
        }
    } else if !view.credentials_reason.is_empty() {
        format!(
            "does not have the passwords of the Secret: {}",
            view.credentials_reason
        )
    } else {
        return None;
    };
    Some(text)
}

/// The last known position of every member; of the elected one, from its election until it leads.
fn positions(status: &mut RedisReplicationStatus, inputs: Inputs<'_>) {
    let (state, world) = (inputs.state, inputs.world);
    for name in inputs.group.members.keys() {
        let Some(view) = world.server(name) else {
            continue;
        };
        let elected = state.primary.as_deref() == Some(name) && !view.was_granted(state.epoch);
        if view.live == Live::Parked || elected {
            continue;
        }
        status.positions.retain(|position| position.name != *name);
        status.positions.push(Position {
            name: name.clone(),
            replid: view.replid.clone(),
            offset: view.offset,
            keys: view.keys,
        });
    }
    let members = &inputs.group.members;
    status
        .positions
        .retain(|position| members.contains_key(&position.name));
    status.positions.sort_by(|a, b| a.name.cmp(&b.name));
}

fn conditions(status: &mut RedisReplicationStatus, parts: &Parts<'_>, writable: bool, all: bool) {
    let decision = parts.decision;
    let mut detail = decision.message.clone();
    for fact in &decision.missing {
        let about = if fact.member.is_empty() {
            String::new()
        } else {
            format!(" ({})", fact.member)
        };
        detail.push_str(&format!("; {}{about}: {}", fact.name, fact.detail));
    }
    let (elected, why) = match decision.phase {
        _ if writable => (true, "PrimaryLeads"),
        Phase::Refused => (false, "NoSafeElection"),
        Phase::SettingUp => (false, "SettingUp"),
        Phase::Electing => (false, "Electing"),
        Phase::SwitchingOver => (false, "SwitchingOver"),
        Phase::Steady => (false, "WaitingForReplica"),
    };
    let primary = parts.inputs.state.primary.as_deref().unwrap_or("nobody");
    let said = match (elected, detail.is_empty()) {
        (true, true) => format!("{primary} leads in epoch {}", parts.inputs.state.epoch),
        (true, false) => format!(
            "{primary} leads in epoch {}; {detail}",
            parts.inputs.state.epoch
        ),
        (false, true) => "the primary waits for a replica".to_owned(),
        (false, false) => detail,
    };
    conditions::set(
        &mut status.conditions,
        kind::PRIMARY_ELECTED,
        elected,
        why,
        said,
        parts.now,
    );
    let failed: Vec<&str> = status
        .topology
        .iter()
        .filter(|(name, member)| {
            parts.inputs.group.takes_part(name) && member.status == Health::Failed
        })
        .map(|(name, _)| name.as_str())
        .collect();
    let removed: Vec<&str> = parts
        .inputs
        .group
        .members
        .iter()
        .filter(|(name, node)| node.removed && parts.inputs.state.primary.as_ref() == Some(*name))
        .map(|(name, _)| name.as_str())
        .collect();
    let (reason, said) = if !removed.is_empty() {
        (
            "PrimaryRemoved",
            format!(
                "{} leads and is no longer in the spec: switch over before removing it",
                removed.join(", ")
            ),
        )
    } else if all {
        (
            "SyncTopologySucceed",
            "every member does its part".to_owned(),
        )
    } else {
        (
            "SyncTopologyFailed",
            format!("not in place: {}", failed.join(", ")),
        )
    };
    conditions::set(
        &mut status.conditions,
        kind::TOPOLOGY_READY,
        all && removed.is_empty(),
        reason,
        said,
        parts.now,
    );
    let (reason, said) = match parts.trouble {
        None => ("SyncResourceSucceed", "services and labels are in place"),
        Some(trouble) => ("SyncResourceFailed", trouble),
    };
    conditions::set(
        &mut status.conditions,
        kind::RESOURCE_READY,
        parts.trouble.is_none(),
        reason,
        said,
        parts.now,
    );
    conditions::observed(&mut status.conditions, parts.generation);
}

/// Whether two statuses differ in something that people or other controllers act on; offsets and key counts alone do not count.
pub fn differs(a: &RedisReplicationStatus, b: &RedisReplicationStatus) -> bool {
    let plain = |status: &RedisReplicationStatus| {
        let mut status = status.clone();
        status.positions.clear();
        for member in status.topology.values_mut() {
            member.offset = None;
            member.lag_bytes = None;
            member.keys = None;
        }
        status
    };
    plain(a) != plain(b)
}
