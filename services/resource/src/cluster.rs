//! Clusters.

pub(crate) mod model;
pub(crate) mod shared;
mod view;

use std::collections::HashMap;

use tonic::{Request, Response, Status};
use upm_mesh::{Channel, Context};
use upm_proto::{
    hub::v1::{
        Agent, ApproveAgentRequest, CreateJoinTokenRequest, DeleteAgentRequest, ListAgentsRequest,
        agent_admin_service_client::AgentAdminServiceClient,
    },
    resource::v1::{self as pb, cluster_service_server::ClusterService},
};
use upm_store::{
    self as store, Diff, Store, etag, filter, ids, labels, mask,
    page::{PageRequest, Query},
    time,
};

use self::model::ClusterRow;
use crate::{Error, fields, inventory, project, terms};

const COLLECTION: &str = "clusters";
/// What approval beforehand needs as much as approval.
const APPROVE: &str = "resource.clusters.approve";
/// Life of a join token.
const JOIN_TOKEN_SECONDS: u32 = 3600;

/// Serves `ClusterService`.
#[derive(Debug, Clone)]
pub(crate) struct Handler {
    store: Store,
    hub: Channel,
}

impl Handler {
    pub(crate) fn new(store: Store, hub: Channel) -> Self {
        Self { store, hub }
    }

    fn hub(&self) -> AgentAdminServiceClient<Channel> {
        AgentAdminServiceClient::new(self.hub.clone())
    }

    /// All agents by cluster id; a hub that is away is a fact to show, not an error.
    async fn agents(&self) -> Result<HashMap<String, Agent>, String> {
        let ctx = Context::internal("join clusters with their agents");
        let mut agents = HashMap::new();
        let mut page_token = String::new();
        loop {
            let page = self
                .hub()
                .list_agents(ctx.forward(ListAgentsRequest {
                    page_size: 1000,
                    page_token,
                }))
                .await
                .map_err(|status| format!("the hub cannot be asked: {}", status.message()))?
                .into_inner();
            for agent in page.agents {
                let id = agent.name.trim_start_matches("agents/").to_owned();
                agents.insert(id, agent);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(agents);
            }
        }
    }

    async fn show(&self, id: String) -> Result<pb::Cluster, Error> {
        let agents = self.agents().await;
        let (row, nodes) = self
            .store
            .read("resource.cluster.get", move |conn| {
                Ok::<_, Error>((model::get(conn, &id)?, inventory::nodes(conn, &id)?))
            })
            .await?;
        Ok(view(row, &agents, &nodes))
    }

    async fn join_command(
        &self,
        ctx: &Context,
        id: &str,
        auto_approve: bool,
    ) -> Result<pb::JoinCommand, Error> {
        let token = self
            .hub()
            .create_join_token(ctx.forward(CreateJoinTokenRequest {
                agent_id: id.to_owned(),
                ttl_seconds: JOIN_TOKEN_SECONDS,
                auto_approve,
            }))
            .await
            .map_err(Error::Hub)?
            .into_inner();
        Ok(pb::JoinCommand {
            command: join_command(&token.endpoints, &token.ca_pin),
            token: token.token,
            ca_pin: token.ca_pin,
            endpoints: token.endpoints,
            expire_time: token.expire_time,
        })
    }

    /// Changes a cluster's row and shows the result.
    async fn change<F>(
        &self,
        op: &'static str,
        ctx: Context,
        id: String,
        change: F,
    ) -> Result<pb::Cluster, Error>
    where
        F: Fn(&mut ClusterRow) -> Result<serde_json::Value, Error> + Send + 'static,
    {
        let changed = id.clone();
        self.store
            .transact(op, move |conn| {
                let mut row = model::get(conn, &changed)?;
                let seen = row.version;
                let diff = change(&mut row)?;
                row.version += 1;
                row.update_us = time::now_us();
                model::update(conn, seen, &row)?;
                store::audited(conn, &ctx, &format!("clusters/{changed}"), diff)?;
                Ok::<_, Error>(())
            })
            .await?;
        self.show(id).await
    }
}

/// Whether a cluster meets all terms of a filter over labels and state.
fn meets(terms: &[filter::Term], cluster: &pb::Cluster) -> Result<bool, Error> {
    for term in terms {
        let holds = if term.field == "state" {
            terms::equals(term, cluster.state().as_str_name())?
        } else {
            labels::holds(term, &cluster.labels)?
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn view(
    row: ClusterRow,
    agents: &Result<HashMap<String, Agent>, String>,
    nodes: &[pb::Node],
) -> pb::Cluster {
    let agent = agents
        .as_ref()
        .map(|agents| agents.get(&row.id))
        .map_err(String::as_str);
    view::cluster(row, agent, nodes)
}

/// The token comes by standard input, so that no process list shows it.
fn join_command(endpoints: &[String], ca_pin: &str) -> String {
    format!(
        "kubectl create namespace upm-system --dry-run=client -o yaml | kubectl apply -f - && \
         kubectl -n upm-system create secret generic upm-agent-join --from-file=token=/dev/stdin && \
         helm upgrade --install upm-agent upm-agent --namespace upm-system \
         --set hub.endpoints='{{{}}}' --set hub.caPin={ca_pin}",
        endpoints.join(",")
    )
}

#[tonic::async_trait]
impl ClusterService for Handler {
    async fn create_cluster(
        &self,
        request: Request<pb::CreateClusterRequest>,
    ) -> Result<Response<pb::CreateClusterResponse>, Status> {
        let ctx = Context::of(&request)?;
        let request = request.into_inner();
        if request.auto_approve {
            ctx.require(APPROVE, None)?;
        }
        let cluster = request.cluster.unwrap_or_default();
        let id = fields::id_or_random(request.cluster_id, "cluster", "cluster_id")?;
        fields::display_name(&cluster.display_name, "cluster.display_name")?;
        let now = time::now_us();
        let row = ClusterRow {
            id: id.clone(),
            uid: ids::uuid7(),
            version: 1,
            labels: fields::labels(&cluster.labels, "cluster.labels")?,
            display_name: cluster.display_name,
            cordoned: false,
            create_us: now,
            update_us: now,
        };
        let audited = ctx.clone();
        self.store
            .transact("resource.cluster.create", move |conn| {
                if model::find(conn, &row.id)?.is_some() {
                    return Err(Error::ClusterExists(row.id.clone()));
                }
                model::insert(conn, &row)?;
                let name = format!("clusters/{}", row.id);
                store::audited(
                    conn,
                    &audited,
                    &name,
                    serde_json::json!({"created": row.id}),
                )?;
                Ok(())
            })
            .await?;
        // A failure from here on leaves a registered cluster; `CreateJoinCommand` goes on from there.
        let join_command = self.join_command(&ctx, &id, request.auto_approve).await?;
        Ok(Response::new(pb::CreateClusterResponse {
            cluster: Some(self.show(id).await?),
            join_command: Some(join_command),
        }))
    }

    async fn create_join_command(
        &self,
        request: Request<pb::CreateJoinCommandRequest>,
    ) -> Result<Response<pb::JoinCommand>, Status> {
        let ctx = Context::of(&request)?;
        let request = request.into_inner();
        if request.auto_approve {
            ctx.require(APPROVE, None)?;
        }
        let id = fields::id(&request.name, COLLECTION, "name")?.to_owned();
        let audited = ctx.clone();
        let registered = id.clone();
        self.store
            .transact("resource.cluster.join", move |conn| {
                model::get(conn, &registered)?;
                let diff = serde_json::json!({"joinCommand": "created"});
                store::audited(conn, &audited, &format!("clusters/{registered}"), diff)?;
                Ok::<_, Error>(())
            })
            .await?;
        let command = self.join_command(&ctx, &id, request.auto_approve).await?;
        Ok(Response::new(command))
    }

    async fn approve_cluster(
        &self,
        request: Request<pb::ApproveClusterRequest>,
    ) -> Result<Response<pb::Cluster>, Status> {
        let ctx = Context::of(&request)?;
        let name = request.into_inner().name;
        let id = fields::id(&name, COLLECTION, "name")?.to_owned();
        let approve = ctx.forward(ApproveAgentRequest {
            agent_id: id.clone(),
        });
        let diff = serde_json::json!({"approved": true});
        // The record is written first: an approval that nobody knows of must not happen.
        self.change("resource.cluster.approve", ctx, id.clone(), move |_| {
            Ok(diff.clone())
        })
        .await?;
        self.hub().approve_agent(approve).await.map_err(|status| {
            if status.code() == tonic::Code::FailedPrecondition {
                status
            } else {
                Error::Hub(status).into()
            }
        })?;
        Ok(Response::new(self.show(id).await?))
    }

    async fn get_cluster(
        &self,
        request: Request<pb::GetClusterRequest>,
    ) -> Result<Response<pb::Cluster>, Status> {
        let name = request.into_inner().name;
        let id = fields::id(&name, COLLECTION, "name")?.to_owned();
        Ok(Response::new(self.show(id).await?))
    }

    async fn list_clusters(
        &self,
        request: Request<pb::ListClustersRequest>,
    ) -> Result<Response<pb::ListClustersResponse>, Status> {
        let request = request.into_inner();
        let terms = filter::parse(&request.filter, &["labels.*", "state"]).map_err(Error::from)?;
        let query = Query {
            method: "resource.clusters",
            filter: &request.filter,
            ..Query::default()
        };
        let page = PageRequest::<String>::parse(
            &self.store,
            query,
            request.page_size,
            &request.page_token,
        )
        .map_err(Error::from)?;
        let (after, limit) = (page.after().cloned().unwrap_or_default(), page.limit());
        let agents = self.agents().await;
        let rows = self
            .store
            .read("resource.cluster.list", move |conn| {
                let mut found = Vec::new();
                for row in model::page(conn, &after, limit)? {
                    let nodes = inventory::nodes(conn, &row.id)?;
                    found.push((row, nodes));
                }
                Ok::<_, Error>(found)
            })
            .await?;
        let (rows, next_page_token) = page
            .finish(rows, |(row, _)| row.id.clone())
            .map_err(Error::from)?;
        let mut clusters = Vec::new();
        for (row, nodes) in rows {
            let cluster = view(row, &agents, &nodes);
            if meets(&terms, &cluster)? {
                clusters.push(cluster);
            }
        }
        Ok(Response::new(pb::ListClustersResponse {
            clusters,
            next_page_token,
        }))
    }

    async fn update_cluster(
        &self,
        request: Request<pb::UpdateClusterRequest>,
    ) -> Result<Response<pb::Cluster>, Status> {
        let ctx = Context::of(&request)?;
        let request = request.into_inner();
        let cluster = request.cluster.unwrap_or_default();
        let changed = mask::fields(
            request.update_mask.as_ref(),
            "upm.resource.v1.Cluster",
            &["display_name", "labels"],
            |field| match field {
                "display_name" => !cluster.display_name.is_empty(),
                _ => !cluster.labels.is_empty(),
            },
        )
        .map_err(Error::from)?;
        let id = fields::id(&cluster.name, COLLECTION, "cluster.name")?.to_owned();
        let mut new_labels = None;
        if changed.contains("display_name") {
            fields::display_name(&cluster.display_name, "cluster.display_name")?;
        }
        if changed.contains("labels") {
            new_labels = Some(fields::labels(&cluster.labels, "cluster.labels")?);
        }
        let updated = self
            .change("resource.cluster.update", ctx, id, move |row| {
                etag::check(&cluster.etag, &row.etag())?;
                let mut diff = Diff::new();
                if changed.contains("display_name") {
                    diff = diff.field("displayName", &row.display_name, &cluster.display_name);
                    row.display_name.clone_from(&cluster.display_name);
                }
                if let Some(labels) = &new_labels {
                    let before = fields::parse_labels(&row.labels);
                    diff = diff.field("labels", &before, &cluster.labels);
                    row.labels.clone_from(labels);
                }
                Ok(diff.into())
            })
            .await?;
        Ok(Response::new(updated))
    }

    async fn delete_cluster(
        &self,
        request: Request<pb::DeleteClusterRequest>,
    ) -> Result<Response<()>, Status> {
        let ctx = Context::of(&request)?;
        let request = request.into_inner();
        let id = fields::id(&request.name, COLLECTION, "name")?.to_owned();
        let forget = ctx.forward(DeleteAgentRequest {
            agent_id: id.clone(),
            force: false,
        });
        let checked = request.clone();
        let known = {
            let id = id.clone();
            self.store
                .read("resource.cluster.delete", move |conn| {
                    let Some(row) = model::find(conn, &id)? else {
                        return if checked.allow_missing {
                            Ok(false)
                        } else {
                            Err(Error::NoCluster(id.clone()))
                        };
                    };
                    etag::check(&checked.etag, &row.etag())?;
                    let services = project::model::services_on(conn, &id)?;
                    if services > 0 {
                        return Err(Error::ClusterNotEmpty {
                            cluster: id.clone(),
                            services,
                        });
                    }
                    Ok(true)
                })
                .await?
        };
        if !known {
            return Ok(Response::new(()));
        }
        shared::forget(self.hub.clone(), &ctx, &id).await?;
        match self.hub().delete_agent(forget).await {
            Ok(_) => {}
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) if status.code() == tonic::Code::FailedPrecondition => return Err(status),
            Err(status) => return Err(Error::Hub(status).into()),
        }
        self.store
            .transact("resource.cluster.delete", move |conn| {
                model::delete(conn, &id)?;
                inventory::forget(conn, &id)?;
                store::audited(
                    conn,
                    &ctx,
                    &request.name,
                    serde_json::json!({"deleted": id}),
                )?;
                Ok::<_, Error>(())
            })
            .await?;
        Ok(Response::new(()))
    }

    async fn cordon_cluster(
        &self,
        request: Request<pb::CordonClusterRequest>,
    ) -> Result<Response<pb::Cluster>, Status> {
        let ctx = Context::of(&request)?;
        let name = request.into_inner().name;
        Ok(Response::new(self.cordon(ctx, &name, true).await?))
    }

    async fn uncordon_cluster(
        &self,
        request: Request<pb::UncordonClusterRequest>,
    ) -> Result<Response<pb::Cluster>, Status> {
        let ctx = Context::of(&request)?;
        let name = request.into_inner().name;
        Ok(Response::new(self.cordon(ctx, &name, false).await?))
    }
}

impl Handler {
    async fn cordon(&self, ctx: Context, name: &str, cordoned: bool) -> Result<pb::Cluster, Error> {
        let id = fields::id(name, COLLECTION, "name")?.to_owned();
        self.change("resource.cluster.cordon", ctx, id, move |row| {
            let diff = Diff::new().field("cordoned", &row.cordoned, &cordoned);
            row.cordoned = cordoned;
            Ok(diff.into())
        })
        .await
    }
}
