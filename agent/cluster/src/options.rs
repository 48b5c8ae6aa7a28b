//! The command line. Nothing secret is ever an argument.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;
use upm_crds::names;
use upm_operator::{SecretsRole, Settings};

use crate::{
    drive,
    policy::{Impersonation, Policy, Reach},
};

/// The agent of one cluster: it dials out to the hub, keeps the cluster as it was told, and hosts the controllers.
#[derive(Debug, Clone, Parser)]
#[command(name = "upm-agent", version)]
pub struct Options {
    /// Addresses of the hub, `host:port`, comma separated.
    #[arg(
        long,
        env = "UPM_HUB_ENDPOINTS",
        value_delimiter = ',',
        required_unless_present = "standalone"
    )]
    pub hub_endpoints: Vec<String>,
    /// Between two dials while the hub is away, at most.
    #[arg(
        long,
        env = "UPM_LONGEST_PAUSE_SECONDS",
        default_value_t = drive::LONGEST_PAUSE.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..=drive::LONGEST_PAUSE.as_secs())
    )]
    pub longest_pause_seconds: u64,
    /// File with the join token; needed until the agent has enrolled.
    #[arg(long, env = "UPM_JOIN_TOKEN_FILE")]
    pub join_token_file: Option<PathBuf>,
    /// SHA-256 of the public key of the hub's CA, hex.
    #[arg(long, env = "UPM_CA_PIN", default_value = "")]
    pub ca_pin: String,
    /// File with a token of the agent's ServiceAccount for the audience `upm-hub`: by it the hub lets the agent in again when its
    /// certificate has ended.
    #[arg(long, env = "UPM_SERVICE_ACCOUNT_TOKEN_FILE")]
    pub service_account_token_file: Option<PathBuf>,
    /// Intents in the namespace of a project are done as a ServiceAccount: `PROJECT=NAMESPACE/NAME`, comma separated.
    #[arg(long, env = "UPM_IMPERSONATE", value_delimiter = ',')]
    pub impersonate: Vec<Impersonation>,
    /// Namespaces of projects in which the platform may run commands in units, comma separated; `*` for all. None when not given.
    #[arg(long, env = "UPM_EXEC_IN", value_delimiter = ',')]
    pub exec_in: Vec<String>,
    /// Namespaces of projects in which the platform may read and write files of units, comma separated; `*` for all. None when not given.
    #[arg(long, env = "UPM_FILES_IN", value_delimiter = ',')]
    pub files_in: Vec<String>,
    /// Namespace of the agent and of packages.
    #[arg(long, env = "UPM_AGENT_NAMESPACE", default_value = names::SYSTEM_NAMESPACE)]
    pub agent_namespace: String,
    /// ClusterRole for Secrets that the agent binds to its account in each project's namespace. Without it the agent has Secrets by other roles.
    #[arg(long, env = "UPM_SECRETS_ROLE", requires = "service_account")]
    pub secrets_role: Option<String>,
    /// Each UnitSet gets a NetworkPolicy that leaves the unit agents' port to pods of the agent's namespace.
    #[arg(long, env = "UPM_NETWORK_POLICIES")]
    pub network_policies: bool,
    /// Name of the agent's ServiceAccount.
    #[arg(long, env = "UPM_SERVICE_ACCOUNT")]
    pub service_account: Option<String>,
    /// Put in front of images that name no registry.
    #[arg(long, env = "UPM_IMAGE_PREFIX", default_value = "")]
    pub image_prefix: String,
    /// Image that carries the unit agent.
    #[arg(
        long,
        env = "UPM_UNIT_AGENT_IMAGE",
        default_value = "upm-unit-agent:latest"
    )]
    pub unit_agent_image: String,
    /// Domain of the cluster's DNS.
    #[arg(long, env = "UPM_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// A kubeconfig file; in the cluster's own pod none is needed.
    #[arg(long, env = "UPM_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Only the controllers, no hub.
    #[arg(long, env = "UPM_STANDALONE")]
    pub standalone: bool,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    #[arg(long, env = "UPM_METRICS_ADDRESS", default_value = "0.0.0.0:9090")]
    pub metrics_address: SocketAddr,
    /// Address of an OTLP/gRPC receiver.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// Where the cluster is, in words.
    #[arg(long, env = "UPM_REGION", default_value = "")]
    pub region: String,
    /// Which logs.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub log: String,
    /// Name of this process among its replicas.
    #[arg(long, env = "POD_NAME", default_value = "")]
    pub identity: String,
}

impl Options {
    /// What the cluster lets the platform do.
    pub fn policy(&self) -> Policy {
        let accounts = self.impersonate.iter();
        Policy {
            system_namespace: self.agent_namespace.clone(),
            accounts: accounts
                .map(|of| (of.project.clone(), of.account.clone()))
                .collect(),
            exec: Reach::of(self.exec_in.iter().map(String::as_str)),
            files: Reach::of(self.files_in.iter().map(String::as_str)),
        }
    }

    /// What the controllers need.
    pub fn settings(&self) -> Settings {
        Settings {
            system_namespace: self.agent_namespace.clone(),
            image_prefix: self.image_prefix.clone(),
            unit_agent_image: self.unit_agent_image.clone(),
            cluster_domain: self.cluster_domain.clone(),
            secrets: self
                .secrets_role
                .clone()
                .zip(self.service_account.clone())
                .map(|(role, account)| SecretsRole { role, account }),
            network_policies: self.network_policies,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_chart_passes() {
        let options = Options::try_parse_from([
            "upm-agent",
            "--hub-endpoints=a:1,b:2",
            "--ca-pin=00",
            "--join-token-file=/var/run/upm/join/token",
            "--service-account-token-file=/var/run/upm/hub/token",
            "--impersonate=p1=upm-system/upm-p1,p2=tenants/two",
            "--exec-in=*",
            "--files-in=p1,p2",
            "--agent-namespace=upm-system",
            "--secrets-role=upm-system-upm-agent-secrets",
            "--service-account=upm-agent",
            "--network-policies",
            "--unit-agent-image=u",
            "--image-prefix=",
            "--cluster-domain=cluster.local",
            "--metrics-address=0.0.0.0:9090",
            "--otlp-endpoint=http://collector:4317",
        ])
        .unwrap();
        assert_eq!(options.hub_endpoints, ["a:1", "b:2"]);
        let secrets = options.settings().secrets.unwrap();
        assert_eq!(secrets.role, "upm-system-upm-agent-secrets");
        assert_eq!(secrets.account, "upm-agent");
        assert!(options.settings().network_policies);
        let policy = options.policy();
        assert_eq!(policy.accounts.len(), 2);
        assert_eq!(policy.account("p2").unwrap().namespace, "tenants");
        assert_eq!(policy.account("p3"), None);
        assert_eq!(policy.exec, Reach::Everywhere);
        assert_eq!(policy.files, Reach::of(["p1", "p2"]));
        assert!(
            Options::try_parse_from(["upm-agent"]).is_err(),
            "a hub or --standalone"
        );
        assert!(Options::try_parse_from(["upm-agent", "--standalone"]).is_ok());
    }
}
