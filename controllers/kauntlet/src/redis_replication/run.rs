//! The controller's life.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;
use upm_crds::names::{controller_spiffe, label};
use upm_crds::redis_replication::RedisReplication;
use upm_operator::authority::ClusterAuthority;
use upm_operator::{Context, Informer, ObjectRef, Options, Settings, WatchConfig};

use super::agents::{Agents, Credentials};
use super::apply::Replications;

/// How long reading everything may take at the start.
const READY: Duration = Duration::from_mins(1);
/// Certificates live so long, and are renewed after a third of that.
const LIFETIME: Duration = Duration::from_hours(24);
/// How often it is looked whether another CA signs.
const LOOK: Duration = Duration::from_mins(1);
/// Groups looked after at the same time; most of the time of each is waiting.
const CONCURRENCY: u16 = 64;

fn credentials(authority: &ClusterAuthority) -> anyhow::Result<Credentials> {
    let issued = authority.issue(&controller_spiffe("kauntlet"), &[], LIFETIME)?;
    Ok(Credentials {
        certificate: issued.certificate_pem,
        key: issued.key_pem,
        authority: issued.ca_pem,
    })
}

/// Keeps every RedisReplication of the cluster until the token is cancelled.
pub async fn run(
    client: Client,
    settings: Settings,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let system_namespace = settings.system_namespace.clone();
    let authority = ClusterAuthority::open(client.clone(), &settings.system_namespace).await?;
    let agents = Arc::new(Agents::new(credentials(&authority)?));
    let context = Context::new(client.clone(), settings, "kauntlet", cancel.clone());
    let replications: Informer<RedisReplication> = Informer::start_indexed(
        Api::all(client.clone()),
        WatchConfig::default(),
        &cancel,
        members,
    );
    let pods: Informer<Pod> = Informer::start(
        Api::all(client.clone()),
        WatchConfig::default().labels(label::UNIT),
        &cancel,
    );
    let owned = format!("{}={}", label::MANAGED_BY, label::KAUNTLET);
    let services: Informer<Service> = Informer::start(
        Api::all(client.clone()),
        WatchConfig::default().labels(&owned),
        &cancel,
    );
    replications.ready(READY).await?;
    pods.ready(READY).await?;
    services.ready(READY).await?;

    let index = replications.clone();
    let of_pods = pods.trigger(move |pod: &Pod| {
        let key = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        index
            .indexed(&key)
            .iter()
            .map(|object| ObjectRef::from_obj(object.as_ref()))
            .collect()
    });
    let controller = Arc::new(Replications {
        context: context.clone(),
        pods,
        services,
        agents: agents.clone(),
        held: Mutex::default(),
    });
    let renewal = async {
        let (mut trusted, mut renewed) = (authority.trusted_pem(), Instant::now());
        loop {
            tokio::time::sleep(LOOK).await;
            // the cube's controller rotates it; what cannot be read just now is read the next time
            let _ = authority.refresh(&client, &system_namespace).await;
            if authority.trusted_pem() == trusted && renewed.elapsed() < LIFETIME / 3 {
                continue;
            }
            match credentials(&authority) {
                Ok(credentials) => {
                    agents.renew(credentials);
                    (trusted, renewed) = (authority.trusted_pem(), Instant::now());
                }
                Err(error) => tracing::error!(%error, "The certificate was not renewed"),
            }
        }
    };
    let options = Options {
        concurrency: CONCURRENCY,
        ..Options::default()
    };
    tokio::select! {
        ended = upm_operator::run(controller, context, &replications, vec![of_pods], options) => Ok(ended?),
        () = renewal => Ok(()),
    }
}

/// The pods that a replication is about, by namespace and name.
fn members(object: &RedisReplication) -> Vec<String> {
    let namespace = object.namespace().unwrap_or_default();
    let names = std::iter::once(&object.spec.source.name)
        .chain(object.spec.replica.iter().map(|replica| &replica.name));
    names.map(|name| format!("{namespace}/{name}")).collect()
}
