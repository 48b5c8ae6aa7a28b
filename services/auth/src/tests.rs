//! The module beside module `user` behind the real mesh, on SQLite and on a real MariaDB.

mod logins;
mod policies;
mod roles;
mod scopes;
mod setups;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tonic::{Request, Status};
use upm_mesh::{Channel, Drain, Peers, Server, SpiffeId, Stack, Tasks, Verifier, status};
use upm_proto::auth::v1 as pb;
use upm_proto::auth::v1::auth_service_client::AuthServiceClient;
use upm_proto::auth::v1::policy_service_client::PolicyServiceClient;
use upm_proto::auth::v1::role_service_client::RoleServiceClient;
use upm_proto::resource::v1::{
    self as resource,
    project_service_server::{ProjectService, ProjectServiceServer},
};
use upm_proto::user::v1 as users;
use upm_proto::user::v1::user_service_client::UserServiceClient;
use upm_store::testing::{self, TestStore};
use upm_store::{Cache, ModuleContext, outbox};

use crate::{Config, MIGRATIONS, SetupToken, module};

const PASSWORD: &str = "correct horse battery staple";

struct World {
    database: &'static str,
    config: Config,
    drain: Drain,
    peers: Peers,
    auth: Stack,
    users: Stack,
    verifier: Verifier,
    token: Option<SetupToken>,
    auth_store: TestStore,
    _user_store: TestStore,
    projects: Projects,
    tasks: Tasks,
}

/// One world on each database, with an administrator `users/root`.
async fn worlds() -> Vec<World> {
    let mut worlds = fresh_worlds(Config::default()).await;
    for world in &mut worlds {
        world.set_up().await;
    }
    worlds
}

/// Worlds without an administrator.
async fn fresh_worlds(config: Config) -> Vec<World> {
    let auth = testing::stores("auth", || MIGRATIONS).await;
    let user = testing::stores("user", || upm_user::MIGRATIONS).await;
    let mut worlds = Vec::new();
    for (auth, user) in auth.into_iter().zip(user) {
        worlds.push(World::new(auth, user, config.clone()).await);
    }
    worlds
}

impl World {
    async fn new(auth_store: TestStore, user_store: TestStore, config: Config) -> Self {
        let (drain, peers, verifier) = (Drain::new(), Peers::new(), Verifier::new());
        let mut tasks = Tasks::new();
        let projects = Projects::default();
        peers.insert("resource", projects.clone().channel());
        let users = start_users(&user_store, &peers, &drain, &verifier, &mut tasks).await;
        peers.insert("user", users.in_memory(SpiffeId::module("auth").unwrap()));
        let (auth, token) =
            start_auth(&auth_store, &config, &peers, &drain, &verifier, &mut tasks).await;
        peers.insert("auth", auth.in_memory(SpiffeId::module("auth").unwrap()));
        tasks.spawn(
            "follow the policy",
            verifier.clone().watch(peers.channel("auth"), drain.clone()),
        );
        timeout(Duration::from_mins(2), verifier.ready())
            .await
            .expect("a policy");
        Self {
            database: auth_store.database,
            config,
            drain,
            peers,
            auth,
            users,
            verifier,
            token,
            auth_store,
            _user_store: user_store,
            projects,
            tasks,
        }
    }

    /// Starts module `auth` once more on the same store, as a new process would.
    async fn restart_auth(&mut self) {
        let (auth, token) = start_auth(
            &self.auth_store,
            &self.config,
            &self.peers,
            &self.drain,
            &self.verifier,
            &mut self.tasks,
        )
        .await;
        self.peers
            .insert("auth", auth.in_memory(SpiffeId::module("auth").unwrap()));
        (self.auth, self.token) = (auth, token);
    }

    async fn set_up(&mut self) -> pb::TokenResponse {
        let token = self.token.take().expect("a set-up token");
        let request = setup_request(token.as_str(), "root", PASSWORD);
        let answer = self
            .client()
            .setup(outside(request))
            .await
            .expect("set up")
            .into_inner();
        self.until(|| self.verifier.may("users/root", "redis.services.get", None))
            .await;
        answer
    }

    fn client(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.auth.in_memory(SpiffeId::module("gateway").unwrap()))
    }

    fn roles(&self) -> RoleServiceClient<Channel> {
        RoleServiceClient::new(self.auth.in_memory(SpiffeId::module("gateway").unwrap()))
    }

    fn policy(&self) -> PolicyServiceClient<Channel> {
        PolicyServiceClient::new(self.auth.in_memory(SpiffeId::module("gateway").unwrap()))
    }

    /// Module `redis`, to which internal methods are open.
    fn inside(&self) -> PolicyServiceClient<Channel> {
        PolicyServiceClient::new(self.auth.in_memory(SpiffeId::module("redis").unwrap()))
    }

    fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.users.in_memory(SpiffeId::module("gateway").unwrap()))
    }

    async fn login(&self, id: &str, password: &str) -> Result<pb::TokenResponse, Status> {
        let request = pb::LoginRequest {
            user_id: id.to_owned(),
            password: password.to_owned(),
        };
        Ok(self.client().login(outside(request)).await?.into_inner())
    }

    async fn refresh(&self, token: &str) -> Result<pb::TokenResponse, Status> {
        let request = pb::RefreshRequest {
            refresh_token: token.to_owned(),
        };
        Ok(self.client().refresh(outside(request)).await?.into_inner())
    }

    async fn root<T>(&self, message: T) -> Request<T> {
        let tokens = self.login("root", PASSWORD).await.expect("log in");
        with_token(&tokens.access_token, message)
    }

    async fn create_user(&self, id: &str) {
        let request = users::CreateUserRequest {
            user_id: id.to_owned(),
            password: PASSWORD.to_owned(),
            ..users::CreateUserRequest::default()
        };
        self.users()
            .create_user(self.root(request).await)
            .await
            .expect("a user");
    }

    async fn bind(&self, user: &str, role: &str, project: &str) -> pb::RoleBinding {
        let request = bind_request(user, role, project);
        let made = self
            .roles()
            .create_role_binding(self.root(request).await)
            .await;
        made.expect("a binding").into_inner()
    }

    /// The records that this module has written.
    async fn records(&self) -> Vec<upm_proto::operatorlog::v1::Entry> {
        let store = &self.auth_store.store;
        store.read("records", outbox::waiting).await.expect("read")
    }

    /// Waits until something is so.
    async fn until(&self, is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_mins(2), waiting)
            .await
            .expect("in time");
    }
}

/// Module `resource` with the projects that a test gives it: names and uids.
#[derive(Clone, Default)]
struct Projects(Arc<std::sync::Mutex<std::collections::BTreeMap<String, String>>>);

impl Projects {
    fn channel(self) -> Channel {
        self.put("projects/shop", "uid-shop");
        Server::builder(
            "resource",
            Verifier::new(),
            Arc::new(upm_mesh::audit::LogSink),
        )
        .routes(tonic::service::Routes::new(ProjectServiceServer::new(self)))
        .build()
        .in_memory(SpiffeId::module("auth").unwrap())
    }

    fn put(&self, name: &str, uid: &str) {
        self.0
            .lock()
            .unwrap()
            .insert(name.to_owned(), uid.to_owned());
    }
}

#[tonic::async_trait]
impl ProjectService for Projects {
    async fn get_project(
        &self,
        request: Request<resource::GetProjectRequest>,
    ) -> Result<tonic::Response<resource::Project>, Status> {
        let name = request.into_inner().name;
        let uid = self.0.lock().unwrap().get(&name).cloned();
        let uid = uid.ok_or_else(|| Status::not_found("no such project"))?;
        Ok(tonic::Response::new(resource::Project {
            name,
            uid,
            ..resource::Project::default()
        }))
    }

    async fn create_project(
        &self,
        _: Request<resource::CreateProjectRequest>,
    ) -> Result<tonic::Response<resource::Project>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn list_projects(
        &self,
        _: Request<resource::ListProjectsRequest>,
    ) -> Result<tonic::Response<resource::ListProjectsResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn update_project(
        &self,
        _: Request<resource::UpdateProjectRequest>,
    ) -> Result<tonic::Response<resource::Project>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn delete_project(
        &self,
        _: Request<resource::DeleteProjectRequest>,
    ) -> Result<tonic::Response<()>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn reserve_service(
        &self,
        _: Request<resource::ReserveServiceRequest>,
    ) -> Result<tonic::Response<()>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn release_service(
        &self,
        _: Request<resource::ReleaseServiceRequest>,
    ) -> Result<tonic::Response<()>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

async fn start_users(
    store: &TestStore,
    peers: &Peers,
    drain: &Drain,
    verifier: &Verifier,
    tasks: &mut Tasks,
) -> Stack {
    let config = upm_user::Config {
        password_cost: upm_user::PasswordCost {
            memory_kib: 64,
            iterations: 1,
            concurrency: 4,
        },
    };
    let module = upm_user::module(context("user", store, peers, drain), config)
        .await
        .unwrap();
    tasks.adopt("user", module.tasks);
    let sink = Arc::new(outbox::Sink(store.store.clone()));
    Server::builder("user", verifier.clone(), sink)
        .routes(module.routes)
        .build()
}

async fn start_auth(
    store: &TestStore,
    config: &Config,
    peers: &Peers,
    drain: &Drain,
    verifier: &Verifier,
    tasks: &mut Tasks,
) -> (Stack, Option<SetupToken>) {
    let ctx = context("auth", store, peers, drain);
    let (module, token) = module(ctx, config.clone()).await.unwrap();
    tasks.adopt("auth", module.tasks);
    let sink = Arc::new(outbox::Sink(store.store.clone()));
    let stack = Server::builder("auth", verifier.clone(), sink)
        .routes(module.routes)
        .build();
    (stack, token)
}

fn context(name: &'static str, store: &TestStore, peers: &Peers, drain: &Drain) -> ModuleContext {
    ModuleContext {
        name,
        store: store.store.clone(),
        cache: Cache::in_process(),
        peers: peers.clone(),
        drain: drain.clone(),
    }
}

/// A call that the gateway passes on for somebody outside.
fn outside<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("x-forwarded-for", "192.0.2.7".parse().unwrap());
    request
}

fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = outside(message);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn setup_request(token: &str, id: &str, password: &str) -> pb::SetupRequest {
    pb::SetupRequest {
        setup_token: token.to_owned(),
        user_id: id.to_owned(),
        password: password.to_owned(),
    }
}

fn bind_request(user: &str, role: &str, project: &str) -> pb::CreateRoleBindingRequest {
    pb::CreateRoleBindingRequest {
        role_binding: Some(pb::RoleBinding {
            role: role.to_owned(),
            user: user.to_owned(),
            project: project.to_owned(),
            ..pb::RoleBinding::default()
        }),
    }
}

fn reason(status: &Status) -> String {
    status::reason(status).unwrap_or_else(|| format!("no reason: {status:?}"))
}
