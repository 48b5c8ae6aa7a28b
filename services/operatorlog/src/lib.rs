//! Module `operatorlog`: who did what, when, from where, on what, with which result.
//!
//! The log is append-only; each entry's hash covers the entry and the hash before it, so a change or a gap in the middle shows. What was
//! cut off at the end shows against the head that the store remembers and, when somebody changed that too, against one that was noted elsewhere:
//! `VerifyEntries` returns it, and the module writes it to its own log, which a collector takes out of the reach of who has the store.

mod chain;
mod error;
mod grpc;
mod heads;
mod model;
mod schema;

use upm_mesh as mesh;
use upm_proto::operatorlog::v1::operator_log_service_server::OperatorLogServiceServer;
use upm_store as store;

pub use crate::error::Error;

/// The tables of this module.
pub const MIGRATIONS: store::Migrations = store::Migrations {
    sqlite: diesel_migrations::embed_migrations!("migrations/sqlite"),
    mysql: diesel_migrations::embed_migrations!("migrations/mysql"),
};

/// Builds the module.
///
/// # Errors
/// Never today; the signature is that of every module.
#[allow(clippy::unused_async)]
pub async fn module(ctx: store::ModuleContext) -> Result<mesh::Module, Error> {
    let mut tasks = mesh::Tasks::new();
    let heads = heads::follow(ctx.store.clone(), ctx.drain.clone());
    tasks.spawn("write heads of the log down", heads);
    let handler = grpc::Handler::new(ctx.store, ctx.drain);
    Ok(mesh::Module {
        name: ctx.name,
        routes: tonic::service::Routes::new(OperatorLogServiceServer::new(handler)),
        tasks,
    })
}

#[cfg(test)]
mod tests;
