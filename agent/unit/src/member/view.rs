//! What is told of a member. Pure.

use upm_proto::unit::v1 as pb;

use super::Live;
use super::facts::StartFacts;
use super::record::{Record, Role};
use super::rules::{self, Standing};
use crate::info::Info;
use crate::supervise::{Phase, Process};

/// Everything that a member's view is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Name of the unit.
    pub unit: &'a str,
    /// The record on the volume.
    pub record: &'a Record,
    /// What the running server may do.
    pub live: &'a Live,
    /// What its start found.
    pub facts: &'a StartFacts,
    /// The process.
    pub process: &'a Process,
    /// Whether it was seen to answer since its start.
    pub answered: bool,
    /// Its answer, or why there is none.
    pub info: Result<&'a Info, String>,
    /// Why the server does not have its passwords.
    pub credentials_reason: String,
    /// What the server said last about its link.
    pub link_error: String,
}

/// The member, as the controllers see it.
pub fn member(parts: &Parts<'_>) -> pb::RedisMember {
    let (record, facts) = (parts.record, parts.facts);
    let grant = record.grant.as_ref();
    let mut told = pb::RedisMember {
        unit: parts.unit.to_owned(),
        reachable: parts.info.is_ok(),
        grant: match parts.live.role {
            None => pb::RedisGrant::Parked,
            Some(Role::Replica) => pb::RedisGrant::Replica,
            Some(Role::Primary) => pb::RedisGrant::Primary,
        }
        .into(),
        grant_epoch: grant.map_or(0, |grant| grant.epoch),
        promised_epoch: record.promised_epoch,
        aof_intact: record.aof_intact,
        starts: parts.process.starts,
        writes_paused: parts.live.paused,
        min_replicas_to_write: parts.live.min_replicas,
        recorded_replid: facts.position.replid.clone(),
        recorded_offset: facts.position.offset,
        was_primary: facts.was_primary,
        member_id: record.member_id.clone(),
        admitted_member_ids: parts.live.admission.members.iter().cloned().collect(),
        group_member_ids: grant
            .map(|grant| grant.group.iter().cloned().collect())
            .unwrap_or_default(),
        record_version: parts.live.admission.record_version,
        host_restarted: record.host_restarted,
        recorded_grant: match grant.map(|grant| grant.role) {
            None => pb::RedisGrant::Unspecified,
            Some(Role::Replica) => pb::RedisGrant::Replica,
            Some(Role::Primary) => pb::RedisGrant::Primary,
        }
        .into(),
        primary_replid: grant
            .map(|grant| grant.primary_replid.clone())
            .unwrap_or_default(),
        credentials_reason: parts.credentials_reason.clone(),
        process: process(parts.process, parts.answered, parts.info.is_ok()).into(),
        second_repl_offset: -1,
        seconds_since_io: -1,
        ..pb::RedisMember::default()
    };
    match &parts.info {
        Err(why) => told.reason.clone_from(why),
        Ok(info) => {
            describe(&mut told, info, rules::standing(record, info));
            // a parked server tries in vain to reach nobody
            if !info.master && !info.link_up && !info.parked() {
                told.link_error.clone_from(&parts.link_error);
            }
        }
    }
    told
}

fn describe(told: &mut pb::RedisMember, info: &Info, standing: Standing) {
    if info.master { "master" } else { "slave" }.clone_into(&mut told.role);
    told.replid.clone_from(&info.replid);
    told.replid2.clone_from(&info.replid2);
    told.second_repl_offset = info.second_offset;
    told.offset = info.offset;
    if !info.master {
        told.primary_host.clone_from(&info.primary_host);
        told.primary_port = info.primary_port;
        told.link_up = info.link_up;
        told.sync_in_progress = info.sync_in_progress;
        told.seconds_since_io = info.seconds_since_io;
    }
    told.replicas = info
        .replicas
        .iter()
        .map(|replica| pb::ConnectedReplica {
            host: replica.host.clone(),
            port: replica.port,
            state: replica.state.clone(),
            offset: replica.offset,
            lag_seconds: replica.lag,
        })
        .collect();
    told.loading = info.loading;
    told.keys = info.keys;
    told.persistence_healthy = info.persistence_healthy;
    told.used_memory = info.used_memory;
    told.max_memory = info.max_memory;
    told.version.clone_from(&info.version);
    told.run_id.clone_from(&info.run_id);
    told.standing = match standing {
        Standing::Untold => pb::Standing::Untold,
        Standing::Continuous => pb::Standing::Continuous,
        Standing::Unsynced => pb::Standing::Unsynced,
        Standing::Synced => pb::Standing::Synced,
        Standing::Interrupted => pb::Standing::Interrupted,
    }
    .into();
}

/// Where the process is.
pub fn process(process: &Process, answered: bool, answers: bool) -> pb::ProcessState {
    match process.phase {
        Phase::Stopped => pb::ProcessState::Stopped,
        Phase::Stopping => pb::ProcessState::Stopping,
        Phase::Backoff => pb::ProcessState::Backoff,
        Phase::Up if answers => pb::ProcessState::Running,
        Phase::Up if answered => pb::ProcessState::Unresponsive,
        Phase::Up => pb::ProcessState::Starting,
    }
}
