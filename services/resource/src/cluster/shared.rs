//! What the services of a cluster shared there: namespaces of projects, software packages.

use std::collections::BTreeMap;
use std::time::Duration;

use upm_mesh::{Channel, Context};
use upm_proto::hub::v1::{
    DeleteObjectsRequest, Key, ListAgentsRequest, ListObjectsRequest, Object, Writer,
    agent_admin_service_client::AgentAdminServiceClient,
    ledger_service_client::LedgerServiceClient,
};

use crate::Error;

/// Nobody takes a shared object over from somebody else, so its writers all have the same epoch.
const SHARED_EPOCH: u64 = 1;
/// The hub's limit for one call.
const BATCH: usize = 100;
/// How long a connected agent may take.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Whether an object belongs to no service: `projects/{project}`, `packages/{package}`.
fn is_shared(owner: &str) -> bool {
    matches!(
        owner.split('/').collect::<Vec<_>>().as_slice(),
        ["projects" | "packages", _]
    )
}

/// Lets the hub forget what services shared in a cluster. The objects themselves stay, as volumes may be in a project's namespace.
///
/// Waits for an agent that is connected: one that was not told would make the objects again when somebody deletes them.
///
/// # Errors
/// [`Error::Hub`].
pub(super) async fn forget(hub: Channel, ctx: &Context, cluster: &str) -> Result<(), Error> {
    let mut ledger = LedgerServiceClient::new(hub);
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut found = list(&mut ledger, ctx, cluster).await?;
        found.retain(|object| is_shared(&object.owner));
        for (owner, keys) in by_owner(&found) {
            orphan(&mut ledger, ctx, cluster, owner, &keys).await?;
        }
        let told = found.iter().all(|object| !object.agent_connected);
        if told || tokio::time::Instant::now() > until {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Lets the hub forget what a project that is gone had in all clusters: its namespace and its custom resource. Without an intent nobody
/// makes them again when they are deleted by hand. They stay themselves, as volumes that were kept may be in the namespace.
///
/// # Errors
/// [`Error::Hub`].
pub(crate) async fn forget_project(hub: Channel, ctx: &Context, id: &str) -> Result<(), Error> {
    let owner = format!("projects/{id}");
    let mut ledger = LedgerServiceClient::new(hub.clone());
    for cluster in agents(hub, ctx).await? {
        let mut found = list(&mut ledger, ctx, &cluster).await?;
        found.retain(|object| object.owner == owner);
        for (owner, keys) in by_owner(&found) {
            orphan(&mut ledger, ctx, &cluster, owner, &keys).await?;
        }
    }
    Ok(())
}

/// Ids of all agents.
async fn agents(hub: Channel, ctx: &Context) -> Result<Vec<String>, Error> {
    let mut admin = AgentAdminServiceClient::new(hub);
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ctx.forward(ListAgentsRequest {
            page_size: 1000,
            page_token,
        });
        let page = admin.list_agents(request).await.map_err(Error::Hub)?;
        let page = page.into_inner();
        let names = page.agents.into_iter().map(|agent| agent.name);
        ids.extend(names.map(|name| name.trim_start_matches("agents/").to_owned()));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(ids);
        }
    }
}

async fn orphan(
    ledger: &mut LedgerServiceClient<Channel>,
    ctx: &Context,
    cluster: &str,
    owner: &str,
    keys: &[Key],
) -> Result<(), Error> {
    for keys in keys.chunks(BATCH) {
        let request = ctx.forward(DeleteObjectsRequest {
            agent_id: cluster.to_owned(),
            writer: Some(Writer {
                owner: owner.to_owned(),
                epoch: SHARED_EPOCH,
            }),
            keys: keys.to_vec(),
            orphan: true,
            ..DeleteObjectsRequest::default()
        });
        ledger.delete_objects(request).await.map_err(Error::Hub)?;
    }
    Ok(())
}

/// Live objects by owner.
fn by_owner(objects: &[Object]) -> BTreeMap<&str, Vec<Key>> {
    let mut owners: BTreeMap<&str, Vec<Key>> = BTreeMap::new();
    for object in objects.iter().filter(|object| !object.tombstone) {
        owners
            .entry(&object.owner)
            .or_default()
            .extend(object.key.clone());
    }
    owners
}

async fn list(
    ledger: &mut LedgerServiceClient<Channel>,
    ctx: &Context,
    cluster: &str,
) -> Result<Vec<Object>, Error> {
    let mut objects = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ctx.forward(ListObjectsRequest {
            agent_id: cluster.to_owned(),
            page_size: 1000,
            page_token,
            ..ListObjectsRequest::default()
        });
        let page = match ledger.list_objects(request).await {
            Ok(page) => page.into_inner(),
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(objects),
            Err(status) => return Err(Error::Hub(status)),
        };
        objects.extend(page.objects);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(objects);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_service_is_not_shared() {
        assert!(is_shared("projects/shop"));
        assert!(is_shared("packages/redis-7.0.15"));
        for owner in ["projects/shop/redisServices/cache", "", "projects", "x/y"] {
            assert!(!is_shared(owner), "{owner}");
        }
    }
}
