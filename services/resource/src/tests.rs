//! The module behind the real mesh, on SQLite and on a real MariaDB. The hub is a double.

mod auth;
mod clusters;
mod hub;
mod projects;
mod reports;
mod software;
mod updates;

use std::{collections::HashMap, sync::Arc, time::Duration};

use prost_types::FieldMask;
use tonic::{Code, Request, Status};
use upm_mesh::audit::LogSink;
use upm_mesh::{Channel, Drain, Peers, Server, SpiffeId, Tasks, status};
use upm_proto::resource::v1::{
    self as pb, cluster_service_client::ClusterServiceClient,
    node_service_client::NodeServiceClient, project_service_client::ProjectServiceClient,
    software_service_client::SoftwareServiceClient,
    storage_class_service_client::StorageClassServiceClient,
};
use upm_store::testing::{self, People, TestStore};
use upm_store::{Cache, ModuleContext};

use self::hub::Hub;
use crate::{MIGRATIONS, module};

const ADMIN: &str = "users/root";
/// Has what `roles/project-admin` gives in project `ours`.
const OWNER: &str = "users/owner";
const OWNED: &[&str] = &[
    "*.services.*",
    "resource.projects.get",
    "resource.projects.list",
    "resource.projects.update",
];
/// May register clusters, and nothing else.
const CREATOR: &str = "users/creator";
/// May let agents join again, and nothing else.
const REJOINER: &str = "users/rejoiner";
/// May read what is in project `ours`, and nothing else.
const MEMBER: &str = "users/member";

struct World {
    database: &'static str,
    hub: Hub,
    auth: auth::Auth,
    people: People,
    stack: upm_mesh::Stack,
    drain: Drain,
    test: TestStore,
    _tasks: Tasks,
}

/// One world on each database.
async fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    for test in testing::stores("resource", || MIGRATIONS).await {
        worlds.push(World::new(test).await);
    }
    worlds
}

impl Drop for World {
    fn drop(&mut self) {
        self.drain.begin();
    }
}

impl World {
    async fn new(test: TestStore) -> Self {
        let hub = Hub::default();
        let peers = Peers::new();
        peers.insert("hub", hub.clone().channel());
        let auth = auth::Auth::default();
        peers.insert("auth", auth.clone().channel());
        let drain = Drain::new();
        let module = module(ModuleContext {
            name: "resource",
            store: test.store.clone(),
            cache: Cache::in_process(),
            peers,
            drain: drain.clone(),
        })
        .await
        .expect("the module starts");
        let people = People::new()
            .may(ADMIN, &["*.*.*"], None)
            .may(MEMBER, &["resource.projects.get"], Some("projects/ours"))
            .may(OWNER, OWNED, Some("projects/ours"))
            .may(CREATOR, &["resource.clusters.create"], None)
            .may(REJOINER, &["resource.clusters.rejoin"], None);
        let stack = Server::builder("resource", people.verifier(), Arc::new(LogSink))
            .routes(module.routes)
            .build();
        Self {
            database: test.database,
            hub,
            auth,
            people,
            stack,
            drain,
            test,
            _tasks: module.tasks,
        }
    }

    /// A channel through which people come: only their token counts.
    fn channel(&self) -> Channel {
        self.stack
            .in_memory(SpiffeId::module("gateway").expect("a module"))
    }

    fn projects(&self) -> ProjectServiceClient<Channel> {
        ProjectServiceClient::new(self.channel())
    }

    fn clusters(&self) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.channel())
    }

    fn software(&self) -> SoftwareServiceClient<Channel> {
        SoftwareServiceClient::new(self.channel())
    }

    fn nodes(&self) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel())
    }

    fn storage_classes(&self) -> StorageClassServiceClient<Channel> {
        StorageClassServiceClient::new(self.channel())
    }

    /// The module that makes services.
    fn redis(&self) -> ProjectServiceClient<Channel> {
        ProjectServiceClient::new(
            self.stack
                .in_memory(SpiffeId::module("redis").expect("a module")),
        )
    }

    fn admin<T>(&self, message: T) -> Request<T> {
        self.people.request(ADMIN, message)
    }
}

fn reason(status: &Status) -> String {
    status::reason(status).unwrap_or_else(|| format!("no reason: {status:?}"))
}

fn field(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status::details(status).fields[0].field.clone()
}

fn mask(paths: &[&str]) -> FieldMask {
    FieldMask {
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
    }
}

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// Waits at most two minutes.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_mins(2), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited too long: {what}");
}
