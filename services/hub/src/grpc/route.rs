//! Calls that only the replica with an agent's session can answer: the replica that was called finds it, asks it, and once more when the
//! session has moved meanwhile. The other one never passes a call on.

use std::time::Duration;

use futures::future::BoxFuture;
use tonic::{Request, Status, metadata::MetadataValue};
use upm_mesh::{self as mesh, Channel};

use crate::{Error, Hub, hub::Live, ledger};

/// Says that a call was passed on already.
const HOP: &str = "x-upm-hop";
/// Time for a session that moves to be where the store says.
const MOVING: Duration = Duration::from_millis(300);

/// Where an agent's session is.
enum Place {
    Here(Live),
    There(Channel),
}

/// Whether a call comes from another replica.
pub(super) fn is_hop<T>(request: &Request<T>) -> bool {
    request.metadata().contains_key(HOP)
}

/// The call for another replica, on behalf of the same caller.
pub(super) fn hop<T>(ctx: &mesh::Context, message: T) -> Request<T> {
    let mut request = ctx.forward(message);
    request
        .metadata_mut()
        .insert(HOP, MetadataValue::from_static("1"));
    request
}

async fn place(hub: &Hub, agent: &str, hopped: bool) -> Result<Place, Error> {
    if let Some(live) = hub.session(agent) {
        return Ok(Place::Here(live));
    }
    let id = agent.to_owned();
    let row = hub
        .inner
        .store
        .read("find an agent's replica", move |conn| {
            ledger::AgentRow::read(conn, &id)?.ok_or_else(|| Error::AgentNotFound(id.clone()))
        })
        .await?;
    if hopped {
        return Err(Error::NotOwner {
            agent: agent.to_owned(),
            epoch: row.epoch as u64,
        });
    }
    hub.inner
        .replicas
        .channel(&row.replica)
        .filter(|_| row.replica != hub.inner.replica)
        .map(Place::There)
        .ok_or_else(|| Error::NotConnected(agent.to_owned()))
}

/// What came of asking where a session is.
pub(super) enum Routed<T> {
    /// It is here.
    Here(Live),
    /// It is elsewhere, and this is the answer from there.
    Answer(T),
}

/// Finds an agent's session; `there` asks the replica that has it, and must be safe to repeat when that one did nothing.
pub(super) async fn route<T>(
    hub: &Hub,
    agent: &str,
    hopped: bool,
    there: impl Fn(Channel) -> BoxFuture<'static, Result<T, Status>>,
) -> Result<Routed<T>, Status> {
    let mut again = true;
    loop {
        let channel = match place(hub, agent, hopped).await? {
            Place::Here(live) => return Ok(Routed::Here(live)),
            Place::There(channel) => channel,
        };
        match there(channel).await {
            Err(status) if again && is_elsewhere(&status) => {
                again = false;
                tokio::time::sleep(MOVING).await;
            }
            answer => return answer.map(Routed::Answer),
        }
    }
}

/// The replica that was asked did nothing: it does not have the session, or cannot be reached.
fn is_elsewhere(status: &Status) -> bool {
    matches!(
        mesh::status::reason(status).as_deref(),
        Some("NOT_OWNER" | "CONNECT_FAILED")
    )
}
