//! The module as a process hosts it.

use engine::Services;
use serde::Deserialize;
use tonic::service::Routes;
use upm_proto::{
    operation::v1::operation_service_server::OperationServiceServer,
    redis::v1::redis_services_server::RedisServicesServer,
};

use crate::{grpc::Handler, redis::Redis};

/// The module's tables: those of every engine.
pub const MIGRATIONS: store::Migrations = engine::MIGRATIONS;

/// What can be set about the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Its operations.
    pub operations: engine::Config,
}

/// Makes the module and starts its background work. Needs a tokio runtime.
#[allow(clippy::unused_async)]
pub async fn module(
    ctx: store::ModuleContext,
    config: Config,
) -> Result<mesh::Module, engine::Error> {
    let services: Services<Redis> = Services::new(&ctx, config.operations);
    let operations = OperationServiceServer::new(services.operations());
    let tasks = services.tasks();
    let routes =
        Routes::new(RedisServicesServer::new(Handler { services })).add_service(operations);
    Ok(mesh::Module {
        name: ctx.name,
        routes,
        tasks,
    })
}
