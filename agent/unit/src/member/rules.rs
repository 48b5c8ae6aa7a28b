//! Which requests a member grants, and what they leave on record. Pure: the heart of the fence.

use std::collections::BTreeSet;

use super::record::{Grant, Record, Role};
use crate::info::Info;
use crate::refusal::Refusal;

/// A promise: no primary of an older epoch is acknowledged from here on.
///
/// An epoch that has begun for this member (it was told to lead or follow in it) can no longer be promised: that would park the
/// rightful primary on behalf of somebody who does not know yet that it was elected.
pub fn promise(record: &Record, epoch: i64) -> Result<Record, Refusal> {
    not_stale(record, epoch)?;
    if record
        .grant
        .as_ref()
        .is_some_and(|grant| grant.epoch >= epoch)
    {
        return Err(Refusal::EpochBegun(epoch));
    }
    Ok(Record {
        promised_epoch: epoch,
        ..record.clone()
    })
}

/// The history a replica shall follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Replication id of the primary.
    pub replid: String,
    /// The primary's offset when its epoch began.
    pub offset: i64,
    /// Where the primary is.
    pub host: String,
    /// On which port.
    pub port: i32,
}

/// A replica's part under an epoch.
///
/// What an earlier run of the server acknowledged is known again only once this run has synchronized. That run followed the same history;
/// or it was pointed at the same address, where the primary may have begun this history in the meantime: the server reconnects by itself
/// and acknowledges what it was never told to follow.
pub fn follow(
    record: &Record,
    epoch: i64,
    history: &History,
    info: &Info,
) -> Result<Record, Refusal> {
    not_stale(record, epoch)?;
    if record.leads(epoch) {
        return Err(Refusal::OtherRole {
            epoch,
            was: Role::Primary.as_str(),
        });
    }
    let interrupted = match &record.grant {
        Some(grant)
            if grant.role == Role::Replica
                && (grant.primary_replid == history.replid || grant.followed(history)) =>
        {
            !synchronized(history, info) && (grant.interrupted || grant.run_id != info.run_id)
        }
        _ => false,
    };
    let grant = Grant {
        role: Role::Replica,
        epoch,
        run_id: info.run_id.clone(),
        min_replicas: 0,
        primary_replid: history.replid.clone(),
        primary_offset: history.offset,
        interrupted,
        primary_host: history.host.clone(),
        primary_port: history.port,
        group: BTreeSet::new(),
    };
    Ok(Record {
        promised_epoch: epoch,
        grant: Some(grant),
        aof_intact: true,
        host_restarted: false,
        ..record.clone()
    })
}

/// The position a member was elected with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elected {
    /// Its replication id; empty when it does not matter.
    pub replid: String,
    /// The least offset.
    pub offset: i64,
    /// Whose data; empty when it does not matter.
    pub member_id: String,
}

/// The primary's part under an epoch. `group`: member ids of all that may acknowledge in it, itself included. `leading`: the server leads now, without interruption since an earlier grant.
pub fn lead(
    record: &Record,
    epoch: i64,
    min_replicas: i32,
    elected: &Elected,
    group: &BTreeSet<String>,
    leading: bool,
    info: &Info,
) -> Result<Record, Refusal> {
    not_stale(record, epoch)?;
    // a grant that arrives late must not make an empty volume the primary that goes on
    if !elected.member_id.is_empty() && elected.member_id != record.member_id {
        return Err(Refusal::OtherVolume(elected.member_id.clone()));
    }
    match &record.grant {
        Some(grant) if grant.epoch == epoch && grant.role == Role::Replica => {
            return Err(Refusal::OtherRole {
                epoch,
                was: Role::Replica.as_str(),
            });
        }
        Some(grant) if grant.epoch == epoch && grant.run_id != info.run_id => {
            return Err(Refusal::Restarted(epoch));
        }
        _ => {}
    }
    let there = info.replid == elected.replid && info.offset >= elected.offset;
    if !leading && !record.leads(epoch) && !elected.replid.is_empty() && !there {
        return Err(Refusal::PositionChanged {
            replid: info.replid.clone(),
            offset: info.offset,
            expected_replid: elected.replid.clone(),
            expected_offset: elected.offset,
        });
    }
    let grant = Grant {
        role: Role::Primary,
        epoch,
        run_id: info.run_id.clone(),
        min_replicas,
        group: group.clone(),
        ..Grant::default()
    };
    // a primary copies no data any more: once its append-only file is current, it stays so
    let aof_current = info.aof_current || (leading && record.aof_current);
    Ok(Record {
        promised_epoch: epoch,
        grant: Some(grant),
        aof_current,
        aof_intact: true,
        host_restarted: false,
        ..record.clone()
    })
}

/// Whether the member may pause or resume its writes under this epoch; returns its `min-replicas-to-write`.
pub fn holds(record: &Record, epoch: i64, leading: bool) -> Result<i32, Refusal> {
    not_stale(record, epoch)?;
    match &record.grant {
        Some(grant) if leading && record.leads(epoch) && record.promised_epoch == epoch => {
            Ok(grant.min_replicas)
        }
        _ => Err(Refusal::NotPrimary(epoch)),
    }
}

fn not_stale(record: &Record, epoch: i64) -> Result<(), Refusal> {
    if epoch <= 0 {
        return Err(Refusal::Invalid("the epoch must be positive"));
    }
    if epoch < record.promised_epoch {
        return Err(Refusal::StaleEpoch {
            asked: epoch,
            promised: record.promised_epoch,
        });
    }
    Ok(())
}

/// How the data stand to what the member was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was never told anything.
    Untold,
    /// The granted primary has run without interruption.
    Continuous,
    /// It follows and has not synchronized with that primary yet.
    Unsynced,
    /// It follows, and its offset covers all it acknowledged.
    Synced,
    /// It was restarted: its offset says nothing about what it acknowledged.
    Interrupted,
}

/// Whether a replica has what its primary began the epoch with. It takes over the primary's replication id when a synchronization
/// begins to bring new data, before it acknowledges any of them; in a partial one the rest of the old ones may still be on its way.
fn synchronized(history: &History, info: &Info) -> bool {
    info.replid == history.replid && info.offset >= history.offset
}

/// How the data of the running server stand to the record.
pub fn standing(record: &Record, info: &Info) -> Standing {
    match &record.grant {
        None => Standing::Untold,
        Some(grant) if grant.run_id != info.run_id => Standing::Interrupted,
        Some(Grant {
            role: Role::Primary,
            ..
        }) => Standing::Continuous,
        Some(grant) if synchronized(&grant.history(), info) => Standing::Synced,
        Some(grant) if grant.interrupted => Standing::Interrupted,
        Some(_) => Standing::Unsynced,
    }
}

#[cfg(test)]
mod tests;
