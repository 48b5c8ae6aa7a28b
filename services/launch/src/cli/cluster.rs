//! `upm cluster …`.

use clap::Subcommand;
use comfy_table::Table;
use upm_proto::resource::v1::{
    ApproveClusterRequest, Cluster, CreateClusterRequest, CreateJoinCommandRequest,
    DeleteClusterRequest, GetClusterRequest, ListClustersRequest, ListClustersResponse,
    cluster_service_client::ClusterServiceClient,
};

use super::{
    Globals,
    output::{self, Format},
};

/// Kubernetes clusters.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register a cluster and print the command that installs its agent.
    Join {
        /// Id of the cluster; one that is registered gets a new command.
        cluster: String,
        /// Let the agent work at once; otherwise `upm cluster approve` is needed.
        #[arg(long)]
        auto_approve: bool,
    },
    /// Let an enrolled agent work.
    Approve {
        /// Id of the cluster.
        cluster: String,
    },
    /// Show a cluster.
    Get {
        /// Id of the cluster.
        cluster: String,
    },
    /// Show the link of a cluster's agent: lag, certificate, keys that are not settled and why.
    Describe {
        /// Id of the cluster.
        cluster: String,
    },
    /// List clusters.
    List,
    /// Forget a cluster that has no services. Objects in it stay.
    Delete {
        /// Id of the cluster.
        cluster: String,
        /// Do nothing when there is no such cluster.
        #[arg(long)]
        allow_missing: bool,
    },
}

const CLUSTER: &str = "upm.resource.v1.Cluster";

pub(crate) async fn run(globals: &Globals, command: Command) -> anyhow::Result<()> {
    let mut client = ClusterServiceClient::new(globals.open().await?);
    let show = |cluster: Cluster| {
        output::print(globals.output, CLUSTER, &cluster, |cluster| {
            rows(std::slice::from_ref(cluster))
        })
    };
    match command {
        Command::Join {
            cluster,
            auto_approve,
        } => {
            let created = client
                .create_cluster(CreateClusterRequest {
                    cluster_id: cluster.clone(),
                    cluster: None,
                    auto_approve,
                })
                .await;
            let join = match created {
                Ok(answer) => answer.into_inner().join_command.unwrap_or_default(),
                Err(status) if status.code() == tonic::Code::AlreadyExists => client
                    .create_join_command(CreateJoinCommandRequest {
                        name: format!("clusters/{cluster}"),
                        auto_approve,
                    })
                    .await?
                    .into_inner(),
                Err(status) => return Err(status.into()),
            };
            let full_name = "upm.resource.v1.JoinCommand";
            if globals.output != Format::Table {
                return output::print(globals.output, full_name, &join, |_| output::table([""]));
            }
            output::line("Run this where helm and kubectl reach the cluster:\n")?;
            output::line(&join.command)?;
            output::line("\nThe token for its standard input (it ends within the hour):\n")?;
            output::line(&join.token)
        }
        Command::Approve { cluster } => {
            let name = format!("clusters/{cluster}");
            let answer = client
                .approve_cluster(ApproveClusterRequest { name })
                .await?;
            show(answer.into_inner())
        }
        Command::Get { cluster } => {
            let name = format!("clusters/{cluster}");
            show(
                client
                    .get_cluster(GetClusterRequest { name })
                    .await?
                    .into_inner(),
            )
        }
        Command::Describe { cluster } => super::agent::describe(globals, &cluster).await,
        Command::List => {
            let mut all = ListClustersResponse::default();
            loop {
                let page = client
                    .list_clusters(ListClustersRequest {
                        page_size: 500,
                        page_token: all.next_page_token.clone(),
                        filter: String::new(),
                    })
                    .await?
                    .into_inner();
                all.clusters.extend(page.clusters);
                all.next_page_token = page.next_page_token;
                if all.next_page_token.is_empty() {
                    break;
                }
            }
            let full_name = "upm.resource.v1.ListClustersResponse";
            output::print(globals.output, full_name, &all, |all| rows(&all.clusters))
        }
        Command::Delete {
            cluster,
            allow_missing,
        } => {
            client
                .delete_cluster(DeleteClusterRequest {
                    name: format!("clusters/{cluster}"),
                    etag: String::new(),
                    allow_missing,
                })
                .await?;
            Ok(())
        }
    }
}

fn rows(clusters: &[Cluster]) -> Table {
    let mut table = output::table([
        "CLUSTER",
        "STATE",
        "NODES",
        "KUBERNETES",
        "AGENT",
        "SEEN",
        "MESSAGE",
    ]);
    for cluster in clusters {
        let capacity = cluster.capacity.unwrap_or_default();
        table.add_row([
            output::id(&cluster.name).to_owned(),
            output::word(cluster.state().as_str_name()).to_owned(),
            format!("{}/{}", capacity.ready_nodes, capacity.nodes),
            cluster.kubernetes_version.clone(),
            cluster.agent_version.clone(),
            output::age(cluster.last_seen_time.as_ref()),
            cluster.message.clone(),
        ]);
    }
    table
}
