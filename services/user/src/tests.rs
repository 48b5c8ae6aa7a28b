//! The module behind the real mesh, on SQLite and on a real MariaDB.

mod access;
mod crud;
mod passwords;
mod standing;

use std::sync::Arc;

use tonic::{Request, Status};
use upm_mesh::audit::LogSink;
use upm_mesh::{Channel, Drain, Peers, Server, SpiffeId, status};
use upm_proto::user::v1 as pb;
use upm_proto::user::v1::user_service_client::UserServiceClient;
use upm_store::testing::{self, People, TestStore};
use upm_store::{Cache, ModuleContext};

use crate::{Config, MIGRATIONS, PasswordCost, module};

const PASSWORD: &str = "correct horse battery staple";
const ADMIN: &str = "users/root";
const READER: &str = "users/reader";
/// Changes accounts, and may nothing else.
const DESK: &str = "users/desk";
/// The administrators of the platform.
const BOSSES: [&str; 2] = ["users/boss", "users/chief"];

struct World {
    database: &'static str,
    drain: Drain,
    people: People,
    stack: upm_mesh::Stack,
    test: TestStore,
    _tasks: upm_mesh::Tasks,
}

/// One world on each database.
async fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    for test in testing::stores("user", || MIGRATIONS).await {
        worlds.push(World::new(test).await);
    }
    worlds
}

impl World {
    async fn new(test: TestStore) -> Self {
        let drain = Drain::new();
        let ctx = ModuleContext {
            name: "user",
            store: test.store.clone(),
            cache: Cache::in_process(),
            peers: Peers::new(),
            drain: drain.clone(),
        };
        let cost = PasswordCost {
            memory_kib: 64,
            iterations: 1,
            concurrency: 4,
        };
        let module = module(
            ctx,
            Config {
                password_cost: cost,
            },
        )
        .await
        .expect("the module starts");
        let people = People::new()
            .may(ADMIN, &["*.*.*"], None)
            .may(READER, &["user.users.get", "user.users.list"], None)
            .may(
                DESK,
                &[
                    "user.users.delete",
                    "user.users.disable",
                    "user.users.enable",
                    "user.users.resetPassword",
                    "user.users.update",
                ],
                None,
            )
            .may(
                "users/member",
                &["redis.services.delete"],
                Some("projects/p"),
            )
            .administers(BOSSES[0])
            .administers(BOSSES[1]);
        let stack = Server::builder("user", people.verifier(), Arc::new(LogSink))
            .routes(module.routes)
            .build();
        Self {
            database: test.database,
            drain,
            people,
            stack,
            test,
            _tasks: module.tasks,
        }
    }

    /// A client that comes through the gateway: only its token counts.
    fn client(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.stack.in_memory(SpiffeId::module("gateway").unwrap()))
    }

    /// Module `auth` as the client.
    fn auth(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.stack.in_memory(SpiffeId::module("auth").unwrap()))
    }

    fn admin<T>(&self, message: T) -> Request<T> {
        self.people.request(ADMIN, message)
    }

    async fn create(&self, id: &str) -> pb::User {
        let request = pb::CreateUserRequest {
            user_id: id.to_owned(),
            password: PASSWORD.to_owned(),
            ..pb::CreateUserRequest::default()
        };
        self.client()
            .create_user(self.admin(request))
            .await
            .expect("created")
            .into_inner()
    }

    async fn can_log_in(&self, id: &str, password: &str) -> bool {
        let request = pb::VerifyPasswordRequest {
            user_id: id.to_owned(),
            password: password.to_owned(),
        };
        match self.auth().verify_password(request).await {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(reason(&status), "BAD_CREDENTIALS");
                false
            }
        }
    }
}

fn reason(status: &Status) -> String {
    status::reason(status).unwrap_or_else(|| format!("no reason: {status:?}"))
}
