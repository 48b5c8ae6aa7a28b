//! Puts the agent together: one leader among the replicas runs the controllers and, unless it stands alone, the session.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Config, ResourceExt as _, config::KubeConfigOptions, config::Kubeconfig};
use rand::RngCore as _;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use upm_mesh::Drain;
use upm_operator::{Error, call, leader};
use upm_proto::{hub::v1 as pb, kinds::KINDS};

use crate::{
    applier::{Applier, kinds::Kinds},
    collector, controllers, drive,
    durable::ConfigMaps,
    hub::{
        Hub, Place,
        accounts::{self, Accounts},
        credential::SecretVault,
    },
    options::Options,
    report::{self, Report},
    session::Facts,
    tunnel::ClusterTunnels,
};

const LEASE: &str = "upm-agent";
/// Observations that may wait for the session.
const SEEN: usize = 1024;
/// Between two tries to ask the API server what it is.
const ASK: Duration = Duration::from_secs(3);
/// Runs until the process drains.
///
/// # Errors
/// When there is no way to an API server at all: no kubeconfig and not in a cluster.
pub async fn run(options: Options, drain: Drain) -> anyhow::Result<()> {
    let config = config(&options).await?;
    let client = Client::try_from(config.clone())?;
    let identity = if options.identity.is_empty() {
        format!("upm-agent-{:08x}", rand::random::<u32>())
    } else {
        options.identity.clone()
    };
    let lease = leader::Lease {
        client: client.clone(),
        namespace: options.agent_namespace.clone(),
        name: LEASE.into(),
        identity,
    };
    let leading = leader::lead(lease, drain.token(), |lost| {
        led(client.clone(), config.clone(), options.clone(), lost)
    });
    Box::pin(leading).await?;
    Ok(())
}

async fn config(options: &Options) -> anyhow::Result<Config> {
    Ok(match &options.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
        }
        None => Config::incluster()?,
    })
}

/// What the leader does until it does not lead any more.
async fn led(
    client: Client,
    config: Config,
    options: Options,
    lost: CancellationToken,
) -> Result<(), Error> {
    let engine = Box::pin(controllers::run(
        client.clone(),
        options.settings(),
        lost.clone(),
    ));
    if options.standalone {
        engine.await;
        return Ok(());
    }
    tokio::join!(engine, session(client, config, options, lost));
    Ok(())
}

/// Asks until the API server answers; `None` when cancelled.
async fn facts(
    client: &Client,
    kinds: &Kinds,
    options: &Options,
    lost: &CancellationToken,
) -> Option<Facts> {
    let mut nonce = [0; 8];
    rand::rng().fill_bytes(&mut nonce);
    loop {
        let asked = async {
            let namespaces: Api<Namespace> = Api::all(client.clone());
            let system = call::get_opt(&namespaces, "kube-system").await?;
            let version =
                call::within("ask the API server's version", client.apiserver_version()).await?;
            Ok::<_, Error>((system.and_then(|ns| ns.uid()), version.git_version))
        };
        match asked.await {
            Ok((Some(cluster_uid), k8s_version)) => {
                let mut supported = Vec::new();
                for own in KINDS.iter().filter(|kind| kind.is_own()) {
                    if let Ok(found) = kinds.get(own.group, own.version, own.kind).await {
                        supported.push(pb::KindSupport {
                            group: own.group.into(),
                            version: own.version.into(),
                            kind: own.kind.into(),
                            schema_digest: Vec::new().into(),
                            namespaced: found.namespaced,
                        });
                    }
                }
                return Some(Facts {
                    build: env!("CARGO_PKG_VERSION").into(),
                    instance_id: [options.identity.as_bytes(), &nonce].concat(),
                    cluster_uid,
                    k8s_version,
                    kinds: supported,
                    region: options.region.clone(),
                });
            }
            Ok((None, _)) => tracing::warn!("The namespace kube-system has no uid"),
            Err(error) => {
                tracing::warn!(%error, "The API server does not say what it is; asking again");
            }
        }
        tokio::select! {
            () = lost.cancelled() => return None,
            () = tokio::time::sleep(ASK) => {}
        }
    }
}

async fn session(client: Client, config: Config, options: Options, lost: CancellationToken) {
    let kinds = Kinds::new(client.clone());
    let Some(facts) = facts(&client, &kinds, &options, &lost).await else {
        return;
    };
    let policy = options.policy();
    let (issuer_sender, issuer) = watch::channel(None);
    let accounts = options
        .service_account_token_file
        .clone()
        .map(|token_file| Accounts::new(issuer, token_file));
    let looking = accounts::follow(client.clone(), issuer_sender, lost.clone());
    let knowing = async {
        if accounts.is_some() {
            looking.await;
        }
    };
    let worker = Applier::new(client.clone(), kinds.clone(), policy.clone());
    let worker = match worker.clone().impersonating(&config) {
        Ok(worker) => worker,
        Err(error) => {
            tracing::error!(%error, "No client for the ServiceAccounts of projects; their intents wait");
            worker
        }
    };
    let place = Place {
        endpoints: options.hub_endpoints.clone(),
        ca_pin: options.ca_pin.clone(),
        join_token_file: options.join_token_file.clone(),
        cluster_uid: facts.cluster_uid.clone(),
        build: facts.build.clone(),
        accounts: accounts.clone(),
    };
    let (seen_sender, seen) = mpsc::channel(SEEN);
    let (interest, wanted) = watch::channel(Vec::new());
    let (report, reported) = watch::channel(Report::default());
    let parts = drive::Parts {
        hub: Hub::new(
            place,
            Arc::new(SecretVault::new(client.clone(), &options.agent_namespace)),
        ),
        worker: Arc::new(worker),
        durable: Arc::new(ConfigMaps::new(client.clone(), &options.agent_namespace)),
        tunnels: Arc::new(ClusterTunnels::new(client.clone(), policy)),
        seen,
        interest,
        report,
        longest_pause: Duration::from_secs(options.longest_pause_seconds),
    };
    let collecting = collector::collect(client.clone(), kinds, wanted, seen_sender, lost.clone());
    let reporting = report::publish(
        client.clone(),
        options.agent_namespace.clone(),
        reported,
        lost.clone(),
    );
    let driving = drive::run(parts, facts, lost);
    tokio::join!(driving, collecting, reporting, knowing);
}
