//! Module `operatorlog`: who did what, when, from where, on what, with which result.
//!
//! The log is append-only; each entry's hash covers the entry and the hash before it, so a change or a gap in the middle shows. What was
//! cut off at the end shows against the head that the store remembers and, when somebody changed that too, against one that was noted elsewhere:
//! `VerifyEntries` returns it, and the module writes it to its own log, which a collector takes out of the reach of who has the store. With a key file
//! heads are signed, and who has only the store can make none.

mod chain;
mod error;
mod grpc;
mod heads;
mod model;
mod schema;
mod seal;

use std::sync::Arc;

use upm_mesh as mesh;
use upm_proto::operatorlog::v1::operator_log_service_server::OperatorLogServiceServer;
use upm_store as store;

pub use crate::error::Error;
pub use crate::seal::Config;

/// The tables of this module.
pub const MIGRATIONS: store::Migrations = store::Migrations {
    sqlite: diesel_migrations::embed_migrations!("migrations/sqlite"),
    mysql: diesel_migrations::embed_migrations!("migrations/mysql"),
};

/// Builds the module.
///
/// # Errors
/// When the key file cannot be used, `adopt_head` is none, or the store cannot be read.
pub async fn module(ctx: store::ModuleContext, config: Config) -> Result<mesh::Module, Error> {
    let seal = match &config.key_file {
        Some(file) => Some(Arc::new(seal::Seal::open(file).await?)),
        None => None,
    };
    let adopt = config.adopt_head.as_deref().map(chain::Head::parse);
    if adopt == Some(None) {
        return Err(Error::Key("adopt-head must be SEQUENCE:HASH".to_owned()));
    }
    let heads = heads::Heads {
        store: ctx.store.clone(),
        seal: seal.clone(),
        adopt: adopt.flatten(),
    };
    heads.begin().await?;
    let mut tasks = mesh::Tasks::new();
    tasks.spawn(
        "write heads of the log down",
        heads.follow(ctx.drain.clone()),
    );
    let handler = grpc::Handler::new(ctx.store, seal, ctx.drain);
    Ok(mesh::Module {
        name: ctx.name,
        routes: tonic::service::Routes::new(OperatorLogServiceServer::new(handler)),
        tasks,
    })
}

#[cfg(test)]
mod tests;
