//! Module `resource` as the engine uses it: projects, clusters, software.

use std::time::Duration;

use tonic::{Code, Status};
use upm_proto::resource::v1::{
    self as resource, cluster_service_client::ClusterServiceClient,
    node_service_client::NodeServiceClient, project_service_client::ProjectServiceClient,
    software_service_client::SoftwareServiceClient,
    storage_class_service_client::StorageClassServiceClient,
};

use crate::{Error, ledger::bounded};

const CALL: Duration = Duration::from_secs(10);

/// A client of module `resource`. Cheap to clone.
#[derive(Clone)]
#[allow(missing_debug_implementations)]
pub struct Catalogue {
    channel: mesh::Channel,
}

impl Catalogue {
    /// A client over the peers of a module.
    pub fn new(peers: &mesh::Peers) -> Self {
        Self {
            channel: peers.channel("resource"),
        }
    }

    /// A project; `None` when it does not exist.
    pub async fn project(
        &self,
        ctx: &mesh::Context,
        project: &str,
    ) -> Result<Option<resource::Project>, Error> {
        let request = resource::GetProjectRequest {
            name: format!("projects/{project}"),
        };
        let mut client = ProjectServiceClient::new(self.channel.clone());
        match bounded(CALL, client.get_project(ctx.forward(request))).await {
            Ok(project) => Ok(Some(project)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// Records a service and how many units it has; `validate_only` only asks whether that could be done.
    pub async fn reserve(
        &self,
        ctx: &mesh::Context,
        service: &str,
        cluster: &str,
        units: u32,
        validate_only: bool,
    ) -> Result<(), Status> {
        let request = resource::ReserveServiceRequest {
            service: service.to_owned(),
            cluster: format!("clusters/{cluster}"),
            units: i32::try_from(units).unwrap_or(i32::MAX),
            validate_only,
        };
        let mut client = ProjectServiceClient::new(self.channel.clone());
        bounded(CALL, client.reserve_service(ctx.forward(request))).await
    }

    /// Ends a reservation.
    pub async fn release(&self, ctx: &mesh::Context, service: &str) -> Result<(), Status> {
        let request = resource::ReleaseServiceRequest {
            service: service.to_owned(),
        };
        let mut client = ProjectServiceClient::new(self.channel.clone());
        bounded(CALL, client.release_service(ctx.forward(request))).await
    }

    /// A cluster; `None` when it does not exist.
    pub async fn cluster(
        &self,
        ctx: &mesh::Context,
        cluster: &str,
    ) -> Result<Option<resource::Cluster>, Error> {
        let request = resource::GetClusterRequest {
            name: format!("clusters/{cluster}"),
        };
        let mut client = ClusterServiceClient::new(self.channel.clone());
        match bounded(CALL, client.get_cluster(ctx.forward(request))).await {
            Ok(cluster) => Ok(Some(cluster)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// All clusters, by name.
    pub async fn clusters(&self, ctx: &mesh::Context) -> Result<Vec<resource::Cluster>, Error> {
        let mut client = ClusterServiceClient::new(self.channel.clone());
        let mut clusters = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = resource::ListClustersRequest {
                page_size: 1000,
                page_token,
                filter: String::new(),
            };
            let page = bounded(CALL, client.list_clusters(ctx.forward(request))).await?;
            clusters.extend(page.clusters);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(clusters);
            }
        }
    }

    /// The nodes of a cluster as its agent reported them last; none when that cannot be learned now, which is no reason to refuse anything.
    pub async fn nodes(&self, ctx: &mesh::Context, cluster: &str) -> Vec<resource::Node> {
        let mut client = NodeServiceClient::new(self.channel.clone());
        let mut nodes = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = resource::ListNodesRequest {
                parent: format!("clusters/{cluster}"),
                page_size: 1000,
                page_token,
            };
            match bounded(CALL, client.list_nodes(ctx.forward(request))).await {
                Ok(page) => {
                    nodes.extend(page.nodes);
                    page_token = page.next_page_token;
                }
                Err(status) => {
                    tracing::debug!(cluster, %status, "The nodes of a cluster are not known");
                    return Vec::new();
                }
            }
            if page_token.is_empty() {
                return nodes;
            }
        }
    }

    /// The storage classes of a cluster as its agent reported them last; none when that cannot be learned now.
    pub async fn storage_classes(
        &self,
        ctx: &mesh::Context,
        cluster: &str,
    ) -> Vec<resource::StorageClass> {
        let mut client = StorageClassServiceClient::new(self.channel.clone());
        let request = resource::ListStorageClassesRequest {
            parent: format!("clusters/{cluster}"),
            page_size: 1000,
            page_token: String::new(),
        };
        match bounded(CALL, client.list_storage_classes(ctx.forward(request))).await {
            // With more classes than one page has, there is no claim either.
            Ok(page) if page.next_page_token.is_empty() => page.storage_classes,
            Ok(_) => Vec::new(),
            Err(status) => {
                tracing::debug!(cluster, %status, "The storage classes are not known");
                Vec::new()
            }
        }
    }

    /// The packages of these types, without content.
    pub async fn software(
        &self,
        ctx: &mesh::Context,
        types: &[&str],
    ) -> Result<Vec<resource::Software>, Error> {
        let mut client = SoftwareServiceClient::new(self.channel.clone());
        let mut software = Vec::new();
        for type_ in types {
            let mut page_token = String::new();
            loop {
                let request = resource::ListSoftwareRequest {
                    page_size: 1000,
                    page_token,
                    filter: format!("type=\"{type_}\""),
                };
                let page = bounded(CALL, client.list_software(ctx.forward(request))).await?;
                software.extend(page.software);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
        }
        Ok(software)
    }

    /// One package with its content.
    pub async fn package(
        &self,
        ctx: &mesh::Context,
        name: &str,
    ) -> Result<resource::Software, Error> {
        let request = resource::GetSoftwareRequest {
            name: name.to_owned(),
        };
        let mut client = SoftwareServiceClient::new(self.channel.clone());
        Ok(bounded(CALL, client.get_software(ctx.forward(request))).await?)
    }
}
