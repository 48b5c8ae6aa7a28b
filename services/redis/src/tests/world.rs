use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use engine::Services;
use futures::Stream;
use mesh::SpiffeId;
use store::testing::{TestStore, sqlite};
use tonic::{Request, Response, Status, service::Routes};
use upm_proto::{
    hub::v1::{self as hub, ledger_service_server as ledger},
    operation::v1::{
        operation_service_client::OperationServiceClient,
        operation_service_server::OperationServiceServer,
    },
    redis::v1::{
        self as pb, redis_services_client::RedisServicesClient,
        redis_services_server::RedisServicesServer,
    },
    resource::v1::{
        self as resource, cluster_service_server as clusters, project_service_server as projects,
        software_service_server as software,
    },
};

use crate::{MIGRATIONS, grpc::Handler, redis::Redis};

/// The module behind its stack, and what it asks.
pub(crate) struct World {
    pub(crate) redis: RedisServicesClient<mesh::Channel>,
    pub(crate) operations: OperationServiceClient<mesh::Channel>,
    pub(crate) resource: Resource,
    _stored: TestStore,
}

impl World {
    pub(crate) async fn new() -> Self {
        let stored = sqlite("redis", MIGRATIONS).await;
        let resource = Resource::default();
        let peers = mesh::Peers::new();
        let routes = Routes::new(projects::ProjectServiceServer::new(resource.clone()))
            .add_service(clusters::ClusterServiceServer::new(resource.clone()))
            .add_service(software::SoftwareServiceServer::new(resource.clone()));
        peers.insert("resource", stack("resource", routes, "redis"));
        peers.insert(
            "hub",
            stack(
                "hub",
                Routes::new(ledger::LedgerServiceServer::new(Hub)),
                "redis",
            ),
        );
        let ctx = store::ModuleContext {
            name: "redis",
            store: stored.store.clone(),
            cache: store::Cache::in_process(),
            peers,
            drain: mesh::Drain::new(),
        };
        let services: Services<Redis> = Services::new(&ctx, engine::Config::default());
        let operations = OperationServiceServer::new(services.operations());
        let routes =
            Routes::new(RedisServicesServer::new(Handler { services })).add_service(operations);
        let channel = stack("redis", routes, "other");
        Self {
            redis: RedisServicesClient::new(channel.clone()),
            operations: OperationServiceClient::new(channel),
            resource,
            _stored: stored,
        }
    }

    /// How many services and operations are stored.
    pub(crate) async fn stored(&self) -> (usize, usize) {
        let list = pb::ListRedisServicesRequest {
            parent: "projects/-".into(),
            ..Default::default()
        };
        let services = self
            .redis
            .clone()
            .list_redis_services(ask(list))
            .await
            .unwrap()
            .into_inner();
        let list = upm_proto::operation::v1::ListOperationsRequest {
            name: "operations/redis".into(),
            ..Default::default()
        };
        let operations = self
            .operations
            .clone()
            .list_operations(ask(list))
            .await
            .unwrap()
            .into_inner();
        (services.redis_services.len(), operations.operations.len())
    }
}

/// A request that is right.
pub(crate) fn creation() -> pb::CreateRedisServiceRequest {
    pb::CreateRedisServiceRequest {
        parent: "projects/p".into(),
        redis_service_id: "demo".into(),
        redis_service: Some(pb::RedisService {
            spec: Some(pb::RedisSpec {
                members: 3,
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A request of another module.
pub(crate) fn ask<T>(message: T) -> Request<T> {
    mesh::Context::internal("other").forward(message)
}

fn stack(module: &'static str, routes: Routes, caller: &str) -> mesh::Channel {
    let sink = Arc::new(mesh::audit::LogSink);
    let stack = mesh::Server::builder(module, mesh::Verifier::new(), sink)
        .routes(routes)
        .build();
    stack.in_memory(SpiffeId::module(caller).expect("a module's name"))
}

/// Module `resource`: project `p`, the clusters it is given, two versions of Redis.
#[derive(Clone)]
pub(crate) struct Resource {
    pub(crate) clusters: Arc<Mutex<Vec<resource::Cluster>>>,
    pub(crate) full: Arc<Mutex<bool>>,
}

impl Default for Resource {
    fn default() -> Self {
        Self {
            clusters: Arc::new(Mutex::new(vec![cluster("c")])),
            full: Arc::default(),
        }
    }
}

pub(crate) fn cluster(id: &str) -> resource::Cluster {
    resource::Cluster {
        name: format!("clusters/{id}"),
        state: resource::ClusterState::Healthy.into(),
        ..Default::default()
    }
}

fn packages() -> Vec<resource::Software> {
    ["7.0.15", "7.0.9"]
        .into_iter()
        .map(|version| resource::Software {
            name: format!("software/redis-{version}"),
            r#type: "redis".into(),
            version: version.into(),
            digest: "0123456789abcdef".into(),
            enabled: true,
            parameters: vec![resource::Parameter {
                key: "hz".into(),
                r#type: "Integer".into(),
                minimum: "1".into(),
                maximum: "500".into(),
                ..Default::default()
            }],
            content: Some(resource::PackageContent::default()),
            ..crate::spec::tests::software()
        })
        .collect()
}

fn missing(reason: &str) -> Status {
    mesh::status::build(
        mesh::Kind::NotFound,
        "resource.upm",
        reason,
        reason,
        &mesh::Details::default(),
    )
}

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not needed here"))
}

#[tonic::async_trait]
impl projects::ProjectService for Resource {
    async fn create_project(
        &self,
        _: Request<resource::CreateProjectRequest>,
    ) -> Result<Response<resource::Project>, Status> {
        unused()
    }

    async fn get_project(
        &self,
        request: Request<resource::GetProjectRequest>,
    ) -> Result<Response<resource::Project>, Status> {
        let name = request.into_inner().name;
        if name != "projects/p" {
            return Err(missing("PROJECT_NOT_FOUND"));
        }
        Ok(Response::new(resource::Project {
            name,
            ..Default::default()
        }))
    }

    async fn list_projects(
        &self,
        _: Request<resource::ListProjectsRequest>,
    ) -> Result<Response<resource::ListProjectsResponse>, Status> {
        unused()
    }

    async fn update_project(
        &self,
        _: Request<resource::UpdateProjectRequest>,
    ) -> Result<Response<resource::Project>, Status> {
        unused()
    }

    async fn delete_project(
        &self,
        _: Request<resource::DeleteProjectRequest>,
    ) -> Result<Response<()>, Status> {
        unused()
    }

    async fn reserve_service(
        &self,
        _: Request<resource::ReserveServiceRequest>,
    ) -> Result<Response<()>, Status> {
        if *self.full.lock().unwrap() {
            return Err(mesh::status::build(
                mesh::Kind::ResourceExhausted,
                "resource.upm",
                "QUOTA_EXCEEDED",
                "projects/p has its services",
                &mesh::Details::default(),
            ));
        }
        Ok(Response::new(()))
    }

    async fn release_service(
        &self,
        _: Request<resource::ReleaseServiceRequest>,
    ) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }
}

#[tonic::async_trait]
impl clusters::ClusterService for Resource {
    async fn create_cluster(
        &self,
        _: Request<resource::CreateClusterRequest>,
    ) -> Result<Response<resource::CreateClusterResponse>, Status> {
        unused()
    }

    async fn create_join_command(
        &self,
        _: Request<resource::CreateJoinCommandRequest>,
    ) -> Result<Response<resource::JoinCommand>, Status> {
        unused()
    }

    async fn approve_cluster(
        &self,
        _: Request<resource::ApproveClusterRequest>,
    ) -> Result<Response<resource::Cluster>, Status> {
        unused()
    }

    async fn get_cluster(
        &self,
        request: Request<resource::GetClusterRequest>,
    ) -> Result<Response<resource::Cluster>, Status> {
        let name = request.into_inner().name;
        let clusters = self.clusters.lock().unwrap();
        let found = clusters
            .iter()
            .find(|cluster| cluster.name == name)
            .cloned();
        found
            .map(Response::new)
            .ok_or_else(|| missing("CLUSTER_NOT_FOUND"))
    }

    async fn list_clusters(
        &self,
        _: Request<resource::ListClustersRequest>,
    ) -> Result<Response<resource::ListClustersResponse>, Status> {
        Ok(Response::new(resource::ListClustersResponse {
            clusters: self.clusters.lock().unwrap().clone(),
            next_page_token: String::new(),
        }))
    }

    async fn update_cluster(
        &self,
        _: Request<resource::UpdateClusterRequest>,
    ) -> Result<Response<resource::Cluster>, Status> {
        unused()
    }

    async fn delete_cluster(
        &self,
        _: Request<resource::DeleteClusterRequest>,
    ) -> Result<Response<()>, Status> {
        unused()
    }

    async fn cordon_cluster(
        &self,
        _: Request<resource::CordonClusterRequest>,
    ) -> Result<Response<resource::Cluster>, Status> {
        unused()
    }

    async fn uncordon_cluster(
        &self,
        _: Request<resource::UncordonClusterRequest>,
    ) -> Result<Response<resource::Cluster>, Status> {
        unused()
    }
}

#[tonic::async_trait]
impl software::SoftwareService for Resource {
    async fn list_software(
        &self,
        _: Request<resource::ListSoftwareRequest>,
    ) -> Result<Response<resource::ListSoftwareResponse>, Status> {
        Ok(Response::new(resource::ListSoftwareResponse {
            software: packages(),
            next_page_token: String::new(),
        }))
    }

    async fn get_software(
        &self,
        request: Request<resource::GetSoftwareRequest>,
    ) -> Result<Response<resource::Software>, Status> {
        let name = request.into_inner().name;
        let found = packages().into_iter().find(|package| package.name == name);
        found
            .map(Response::new)
            .ok_or_else(|| missing("SOFTWARE_NOT_FOUND"))
    }

    async fn import_software(
        &self,
        _: Request<resource::ImportSoftwareRequest>,
    ) -> Result<Response<resource::Software>, Status> {
        unused()
    }

    async fn update_software(
        &self,
        _: Request<resource::UpdateSoftwareRequest>,
    ) -> Result<Response<resource::Software>, Status> {
        unused()
    }
}

/// A hub without objects that has one password.
struct Hub;

type Changes = Pin<Box<dyn Stream<Item = Result<hub::WatchObjectsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ledger::LedgerService for Hub {
    async fn apply_objects(
        &self,
        _: Request<hub::ApplyObjectsRequest>,
    ) -> Result<Response<hub::ApplyObjectsResponse>, Status> {
        unused()
    }

    async fn delete_objects(
        &self,
        _: Request<hub::DeleteObjectsRequest>,
    ) -> Result<Response<hub::DeleteObjectsResponse>, Status> {
        unused()
    }

    async fn get_object(
        &self,
        _: Request<hub::GetObjectRequest>,
    ) -> Result<Response<hub::Object>, Status> {
        unused()
    }

    async fn list_objects(
        &self,
        _: Request<hub::ListObjectsRequest>,
    ) -> Result<Response<hub::ListObjectsResponse>, Status> {
        Ok(Response::new(hub::ListObjectsResponse::default()))
    }

    type WatchObjectsStream = Changes;

    async fn watch_objects(
        &self,
        _: Request<hub::WatchObjectsRequest>,
    ) -> Result<Response<Changes>, Status> {
        unused()
    }

    async fn read_secret(
        &self,
        request: Request<hub::ReadSecretRequest>,
    ) -> Result<Response<hub::ReadSecretResponse>, Status> {
        let request = request.into_inner();
        assert_eq!(
            (request.agent_id.as_str(), request.namespace.as_str()),
            ("c", "p")
        );
        assert_eq!(
            (request.name.as_str(), request.keys.as_slice()),
            ("demo-credentials", &["default".to_owned()][..])
        );
        let data = [("default".to_owned(), b"s3cret".to_vec().into())].into();
        Ok(Response::new(hub::ReadSecretResponse { data }))
    }
}
