//! Module `resource`: projects, clusters with what their agents report, and the software catalogue.
//!
//! It owns the facts that services are made of and no service itself; whether a cluster is alive it asks the hub, each time.

// A variant that is added later must be looked at wherever variants are told apart.
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

mod cluster;
mod error;
mod fields;
mod inventory;
mod project;
mod schema;
mod software;
mod terms;

use upm_mesh as mesh;
use upm_proto::resource::v1::{
    cluster_service_server::ClusterServiceServer, node_service_server::NodeServiceServer,
    project_service_server::ProjectServiceServer, software_service_server::SoftwareServiceServer,
    storage_class_service_server::StorageClassServiceServer,
};
use upm_store as store;

pub use crate::{error::Error, software::seed::built_in};

/// The tables of this module.
pub const MIGRATIONS: store::Migrations = store::Migrations {
    sqlite: diesel_migrations::embed_migrations!("migrations/sqlite"),
    mysql: diesel_migrations::embed_migrations!("migrations/mysql"),
};

/// Builds the module: seeds the software catalogue and follows the inventory of each cluster.
///
/// # Errors
/// When the store cannot be read or a built-in package is malformed.
pub async fn module(ctx: store::ModuleContext) -> Result<mesh::Module, Error> {
    software::seed::run(&ctx.store).await?;
    let inventory = inventory::Handler::new(ctx.store.clone());
    let forgetter = project::Forgetter::new(
        ctx.store.clone(),
        ctx.peers.channel("auth"),
        ctx.peers.channel("hub"),
    );
    let routes = tonic::service::Routes::new(ProjectServiceServer::new(project::Handler::new(
        ctx.store.clone(),
        forgetter.clone(),
    )))
    .add_service(ClusterServiceServer::new(cluster::Handler::new(
        ctx.store.clone(),
        ctx.peers.channel("hub"),
    )))
    .add_service(NodeServiceServer::new(inventory.clone()))
    .add_service(StorageClassServiceServer::new(inventory))
    .add_service(SoftwareServiceServer::new(software::Handler::new(
        ctx.store.clone(),
    )));
    let mut tasks = mesh::Tasks::new();
    tasks.spawn(
        "forget deleted projects",
        forgetter.follow(ctx.drain.clone()),
    );
    tasks.spawn(
        "follow the inventory",
        inventory::follow(ctx.store, ctx.peers.channel("hub"), ctx.drain),
    );
    Ok(mesh::Module {
        name: ctx.name,
        routes,
        tasks,
    })
}

#[cfg(test)]
mod tests;
