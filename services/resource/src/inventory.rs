//! Nodes and storage classes as the agents report them.

mod parse;

use std::{collections::HashMap, time::Duration};

use diesel::prelude::*;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};
use upm_mesh::{Channel, Context, Drain};
use upm_proto::{
    hub::v1::{
        InventoryEvent, WatchInventoryRequest, agent_admin_service_client::AgentAdminServiceClient,
    },
    resource::v1::{
        self as pb, node_service_server::NodeService,
        storage_class_service_server::StorageClassService,
    },
};
use upm_store::{
    Connection, Store, lock,
    page::{PageRequest, Query},
    time,
};

use crate::{Error, cluster, fields, schema::inventory};

/// How often new clusters are looked for.
const CLUSTER_TICK: Duration = Duration::from_secs(2);
/// How long to wait before a broken watch is opened again.
const REOPEN: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = inventory)]
struct Row {
    cluster: String,
    kind: String,
    name: String,
    object: String,
    observe_us: i64,
}

/// Nodes of a cluster, by name.
pub(crate) fn nodes(conn: &mut Connection, cluster: &str) -> Result<Vec<pb::Node>, Error> {
    let rows = after(conn, cluster, "Node", "", i64::MAX)?;
    Ok(rows.iter().map(Row::node).collect())
}

/// Forgets what a cluster reported.
pub(crate) fn forget(conn: &mut Connection, cluster: &str) -> Result<(), Error> {
    diesel::delete(inventory::table.filter(inventory::cluster.eq(cluster))).execute(conn)?;
    Ok(())
}

/// Follows the inventory of every cluster until the drain.
pub(crate) async fn follow(store: Store, hub: Channel, drain: Drain) {
    let mut watches: HashMap<String, JoinHandle<()>> = HashMap::new();
    loop {
        match store
            .read("resource.inventory.clusters", cluster::model::ids)
            .await
        {
            Ok(ids) => {
                watches.retain(|id, task| {
                    let keep = ids.contains(id);
                    if !keep {
                        task.abort();
                    }
                    keep
                });
                for id in ids {
                    watches.entry(id.clone()).or_insert_with(|| {
                        tokio::spawn(follow_one(store.clone(), hub.clone(), id))
                    });
                }
            }
            Err(error) => tracing::warn!(%error, "Could not list the clusters to follow"),
        }
        tokio::select! {
            () = tokio::time::sleep(CLUSTER_TICK) => {}
            () = drain.signalled() => break,
        }
    }
    for (_, task) in watches {
        task.abort();
    }
}

async fn follow_one(store: Store, hub: Channel, cluster: String) {
    loop {
        if let Err(error) = watch(&store, hub.clone(), &cluster).await {
            tracing::debug!(cluster.id = %cluster, %error, "The inventory watch ended");
        }
        tokio::time::sleep(REOPEN).await;
    }
}

async fn watch(store: &Store, hub: Channel, cluster: &str) -> Result<(), Error> {
    let mut stream = AgentAdminServiceClient::new(hub)
        .watch_inventory(
            Context::internal("follow the inventory").forward(WatchInventoryRequest {
                agent_id: cluster.to_owned(),
            }),
        )
        .await
        .map_err(Error::Hub)?
        .into_inner();
    // Until the bookmark everything that exists is told; what was not told is gone.
    let mut told = Some(Vec::new());
    while let Some(event) = stream.message().await.map_err(Error::Hub)? {
        let cluster = cluster.to_owned();
        if event.bookmark {
            if let Some(told) = told.take() {
                store
                    .transact("resource.inventory.sweep", move |conn| {
                        sweep(conn, &cluster, &told)
                    })
                    .await?;
            }
            continue;
        }
        if let (Some(told), Some(key)) = (&mut told, &event.key)
            && !event.gone
        {
            told.push((key.kind.clone(), key.name.clone()));
        }
        store
            .transact("resource.inventory.record", move |conn| {
                record(conn, &cluster, &event)
            })
            .await?;
    }
    Ok(())
}

fn record(conn: &mut Connection, cluster: &str, event: &InventoryEvent) -> Result<(), Error> {
    let Some(key) = &event.key else {
        return Ok(());
    };
    // A cluster that is deleted meanwhile must leave nothing, and another replica may record the same.
    if !lock::row(conn, "clusters", "id", cluster)? {
        return Ok(());
    }
    let place = inventory::table.find((cluster, &key.kind, &key.name));
    if event.gone {
        diesel::delete(place).execute(conn)?;
        return Ok(());
    }
    let row = Row {
        cluster: cluster.to_owned(),
        kind: key.kind.clone(),
        name: key.name.clone(),
        object: String::from_utf8_lossy(&event.object).into_owned(),
        observe_us: time::now_us(),
    };
    if diesel::update(place).set(&row).execute(conn)? == 0 {
        diesel::insert_into(inventory::table)
            .values(&row)
            .execute(conn)?;
    }
    Ok(())
}

fn sweep(conn: &mut Connection, cluster: &str, told: &[(String, String)]) -> Result<(), Error> {
    let known: Vec<(String, String)> = inventory::table
        .filter(inventory::cluster.eq(cluster))
        .select((inventory::kind, inventory::name))
        .load(conn)?;
    for (kind, name) in known.into_iter().filter(|one| !told.contains(one)) {
        diesel::delete(inventory::table.find((cluster, kind, name))).execute(conn)?;
    }
    Ok(())
}

fn after(
    conn: &mut Connection,
    cluster: &str,
    kind: &str,
    name: &str,
    limit: i64,
) -> Result<Vec<Row>, Error> {
    Ok(inventory::table
        .filter(inventory::cluster.eq(cluster))
        .filter(inventory::kind.eq(kind))
        .filter(inventory::name.gt(name))
        .order(inventory::name.asc())
        .limit(limit)
        .select(Row::as_select())
        .load(conn)?)
}

impl Row {
    fn node(&self) -> pb::Node {
        let name = format!("clusters/{}/nodes/{}", self.cluster, self.name);
        parse::node(name, &self.object, time::timestamp(self.observe_us))
    }

    fn storage_class(&self) -> pb::StorageClass {
        let name = format!("clusters/{}/storageClasses/{}", self.cluster, self.name);
        parse::storage_class(name, &self.object, time::timestamp(self.observe_us))
    }
}

/// Serves `NodeService` and `StorageClassService`.
#[derive(Debug, Clone)]
pub(crate) struct Handler {
    store: Store,
}

impl Handler {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    async fn page(
        &self,
        parent: &str,
        kind: &'static str,
        page_size: i32,
        page_token: &str,
    ) -> Result<(Vec<Row>, String), Error> {
        let cluster = fields::id(parent, "clusters", "parent")?.to_owned();
        let query = Query {
            method: kind,
            parent,
            ..Query::default()
        };
        let page = PageRequest::<String>::parse(&self.store, query, page_size, page_token)?;
        let (from, limit) = (page.after().cloned().unwrap_or_default(), page.limit());
        let rows = self
            .store
            .read("resource.inventory.list", move |conn| {
                cluster::model::get(conn, &cluster)?;
                after(conn, &cluster, kind, &from, limit)
            })
            .await?;
        Ok(page.finish(rows, |row| row.name.clone())?)
    }

    async fn one(
        &self,
        name: &str,
        collection: &'static str,
        kind: &'static str,
    ) -> Result<Row, Error> {
        let &["clusters", cluster, found, id] = name.split('/').collect::<Vec<_>>().as_slice()
        else {
            return Err(Error::invalid(
                "name",
                format!("must be `clusters/{{cluster}}/{collection}/{{name}}`"),
            ));
        };
        if found != collection {
            return Err(Error::NotReported(name.to_owned()));
        }
        let (cluster, id) = (cluster.to_owned(), id.to_owned());
        let row: Option<Row> = self
            .store
            .read("resource.inventory.get", move |conn| {
                Ok::<_, Error>(
                    inventory::table
                        .find((&cluster, kind, &id))
                        .select(Row::as_select())
                        .first(conn)
                        .optional()?,
                )
            })
            .await?;
        row.ok_or_else(|| Error::NotReported(name.to_owned()))
    }
}

#[tonic::async_trait]
impl NodeService for Handler {
    async fn list_nodes(
        &self,
        request: Request<pb::ListNodesRequest>,
    ) -> Result<Response<pb::ListNodesResponse>, Status> {
        let request = request.into_inner();
        let (rows, next_page_token) = self
            .page(
                &request.parent,
                "Node",
                request.page_size,
                &request.page_token,
            )
            .await?;
        Ok(Response::new(pb::ListNodesResponse {
            nodes: rows.iter().map(Row::node).collect(),
            next_page_token,
        }))
    }

    async fn get_node(
        &self,
        request: Request<pb::GetNodeRequest>,
    ) -> Result<Response<pb::Node>, Status> {
        let name = request.into_inner().name;
        let row = self.one(&name, "nodes", "Node").await?;
        Ok(Response::new(row.node()))
    }
}

#[tonic::async_trait]
impl StorageClassService for Handler {
    async fn list_storage_classes(
        &self,
        request: Request<pb::ListStorageClassesRequest>,
    ) -> Result<Response<pb::ListStorageClassesResponse>, Status> {
        let request = request.into_inner();
        let (rows, next_page_token) = self
            .page(
                &request.parent,
                "StorageClass",
                request.page_size,
                &request.page_token,
            )
            .await?;
        Ok(Response::new(pb::ListStorageClassesResponse {
            storage_classes: rows.iter().map(Row::storage_class).collect(),
            next_page_token,
        }))
    }

    async fn get_storage_class(
        &self,
        request: Request<pb::GetStorageClassRequest>,
    ) -> Result<Response<pb::StorageClass>, Status> {
        let name = request.into_inner().name;
        let row = self.one(&name, "storageClasses", "StorageClass").await?;
        Ok(Response::new(row.storage_class()))
    }
}
