//! Rows as the API shows them.

use prost::Message as _;
use upm_proto::hub::v1::{self as pb, Outcome};
use upm_store::time;

use super::rows::{IntentRow, StatusRow, is_settled, unhex};

/// What is known of an agent's connection when an object is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// Whether it has a session here.
    pub connected: bool,
    /// What it has received.
    pub received_rev: u64,
    /// What was handed over to it.
    pub handed_rev: u64,
}

/// Whether an outcome waits for a newer generation.
pub(super) fn is_latched(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Rejected
            | Outcome::Conflict
            | Outcome::DeniedLocalPolicy
            | Outcome::UidMismatch
            | Outcome::UnsupportedKind
    )
}

/// Where an intent is. Pure.
fn state(row: &IntentRow, result: &pb::ApplyResult, link: Link) -> pb::IntentState {
    let rev = row.rev as u64;
    if row.result_generation == row.generation {
        match Outcome::try_from(row.outcome).unwrap_or_default() {
            outcome if is_settled(outcome) => return pb::IntentState::Settled,
            _ if result.retry_in_ms > 0 => return pb::IntentState::TransientFail,
            outcome if is_latched(outcome) => return pb::IntentState::Latched,
            Outcome::Transient
            | Outcome::BlockedOnDependency
            | Outcome::Deleting
            | Outcome::Expired => {
                return pb::IntentState::TransientFail;
            }
            // No result yet; and what was answered above.
            Outcome::Unspecified
            | Outcome::Applied
            | Outcome::Unchanged
            | Outcome::Superseded
            | Outcome::Deleted
            | Outcome::Absent
            | Outcome::Rejected
            | Outcome::Conflict
            | Outcome::DeniedLocalPolicy
            | Outcome::UidMismatch
            | Outcome::UnsupportedKind => {}
        }
    }
    if rev <= link.received_rev {
        pb::IntentState::Received
    } else if link.connected && rev <= link.handed_rev {
        pb::IntentState::InFlight
    } else {
        pb::IntentState::Dirty
    }
}

/// The time to live of an intent; 0 without one. Pure.
fn ttl_seconds(row: &IntentRow) -> u32 {
    // A tombstone's options are of another kind.
    if row.tombstone {
        return 0;
    }
    pb::Apply::decode(row.options.as_slice()).map_or(0, |apply| apply.ttl_seconds)
}

/// An object of the API. Pure.
pub fn object(row: IntentRow, status: Option<StatusRow>, link: Link) -> pb::Object {
    let result = pb::ApplyResult::decode(row.result.as_slice()).unwrap_or_default();
    let state = state(&row, &result, link);
    let status = status.filter(|s| s.intent_uid == row.intent_uid).map(|s| {
        let edges = pb::StatusUpdate::decode(s.edges.as_slice())
            .map(|u| u.edges)
            .unwrap_or_default();
        pb::ObjectStatus {
            json: s.body.into(),
            intent_generation: s.intent_generation as u64,
            observed_generation: s.observed_generation,
            gone: s.gone,
            update_time: Some(time::timestamp(s.update_us)),
            edges,
        }
    });
    pb::Object {
        agent_id: row.agent.clone(),
        key: Some(row.key()),
        intent_uid: unhex(&row.intent_uid).into(),
        generation: row.generation as u64,
        rev: row.rev as u64,
        tombstone: row.tombstone,
        state: state.into(),
        result: (row.outcome != 0).then(|| pb::ObjectResult {
            generation: row.result_generation as u64,
            outcome: row.outcome,
            error: result.error,
            conflicts: result.conflicts,
            live_uid: result.live_uid,
            update_time: Some(time::timestamp(row.result_us)),
        }),
        status,
        agent_connected: link.connected,
        ttl_seconds: ttl_seconds(&row),
        owner: row.owner,
        json: row.body.into(),
    }
}
