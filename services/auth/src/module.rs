//! Putting the module together.

use diesel_migrations::embed_migrations;
use tonic::service::Routes;
use upm_mesh::{Module, Tasks};
use upm_proto::auth::v1::auth_service_server::AuthServiceServer;
use upm_proto::auth::v1::policy_service_server::PolicyServiceServer;
use upm_proto::auth::v1::role_service_server::RoleServiceServer;
use upm_store::{Migrations, ModuleContext};

use crate::bindings::Bindings;
use crate::grpc::{AuthHandler, PolicyHandler, RoleHandler};
use crate::keys::Keys;
use crate::login::Logins;
use crate::peer::{Projects, Users};
use crate::policy::Policy;
use crate::roles::Roles;
use crate::sessions::Sessions;
use crate::setup::{Setup, SetupToken, offer};
use crate::throttle::Throttle;
use crate::{Config, Error, blocked, maintenance};

/// Tables of the module.
pub const MIGRATIONS: Migrations = Migrations {
    sqlite: embed_migrations!("migrations/sqlite"),
    mysql: embed_migrations!("migrations/mysql"),
};

/// Starts the module on a store that was opened with [`MIGRATIONS`]. The token comes while there is no administrator, a new one with
/// each start: show it to who starts the platform, and to nobody else.
pub async fn module(
    ctx: ModuleContext,
    config: Config,
) -> Result<(Module, Option<SetupToken>), Error> {
    let store = ctx.store;
    let keys = Keys::open(store.clone(), &config).await?;
    let token = offer(&store).await?;
    let policy = Policy::new(store.clone(), ctx.drain.clone());
    let users = Users::new(&ctx.peers);
    let sessions = Sessions::new(store.clone(), keys.clone(), &config);
    let bindings = Bindings {
        store: store.clone(),
        policy: policy.clone(),
        users: users.clone(),
        projects: Projects::new(&ctx.peers),
    };
    let auth = AuthHandler {
        store: store.clone(),
        setup: Setup {
            store: store.clone(),
            policy: policy.clone(),
            users: users.clone(),
            sessions: sessions.clone(),
        },
        logins: Logins {
            sessions,
            users: users.clone(),
            throttle: Throttle::new(&ctx.cache, &config),
        },
        bindings: bindings.clone(),
    };
    let roles = Roles {
        store: store.clone(),
        policy: policy.clone(),
    };
    let routes = Routes::new(AuthServiceServer::new(auth))
        .add_service(RoleServiceServer::new(RoleHandler {
            roles,
            bindings: bindings.clone(),
        }))
        .add_service(PolicyServiceServer::new(PolicyHandler {
            bindings,
            policy: policy.clone(),
        }));
    let mut tasks = Tasks::new();
    let drain = ctx.drain;
    tasks.spawn(
        "follow disabled users",
        blocked::follow(store.clone(), policy.clone(), users, drain.clone()),
    );
    tasks.spawn(
        "maintain keys and sessions",
        maintenance::run(store, keys, policy, drain),
    );
    Ok((
        Module {
            name: ctx.name,
            routes,
            tasks,
        },
        token,
    ))
}
