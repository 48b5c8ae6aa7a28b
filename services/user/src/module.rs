//! Putting the module together.

use diesel_migrations::embed_migrations;
use tonic::service::Routes;
use upm_mesh::{Module, Tasks};
use upm_proto::user::v1::user_service_server::UserServiceServer;
use upm_store::{Migrations, ModuleContext};

use crate::grpc::Handler;
use crate::password::Passwords;
use crate::users::Users;
use crate::{Config, Error};

/// Tables of the module.
pub const MIGRATIONS: Migrations = Migrations {
    sqlite: embed_migrations!("migrations/sqlite"),
    mysql: embed_migrations!("migrations/mysql"),
};

/// Starts the module on a store that was opened with [`MIGRATIONS`].
pub async fn module(ctx: ModuleContext, config: Config) -> Result<Module, Error> {
    let passwords = Passwords::new(config.password_cost).await?;
    let users = Users::new(ctx.store, passwords, &ctx.cache.scoped("user"));
    let handler = Handler {
        users,
        drain: ctx.drain,
    };
    Ok(Module {
        name: ctx.name,
        routes: Routes::new(UserServiceServer::new(handler)),
        tasks: Tasks::new(),
    })
}
