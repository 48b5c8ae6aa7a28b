//! Tesseract Cube: projects, sets of database servers, and the servers themselves as Kubernetes objects.
//!
//! * A Project becomes a namespace. An existing namespace is never adopted.
//! * A UnitSet becomes Units, configuration, services and passwords; it decides the order of every restart.
//! * A Unit becomes volumes, a certificate and a pod. It never restarts a running pod by itself.
//!
//! **Invariant:** volumes have no owner. They are deleted by `volumeRetentionPolicy: Delete` and
//! `retainedVolumes: Discard` of a UnitSet, and by nothing else.

mod build;
mod caches;
mod facts;
mod gatekeeper;
#[cfg(test)]
mod live;
mod package;
mod project;
mod rollout;
mod unit;
mod unit_set;
mod values;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use upm_operator::authority::ClusterAuthority;
use upm_operator::{Context, Options};

pub use upm_operator::{SecretsRole, Settings};

/// Runs the controllers of Project, UnitSet and Unit until `drain` is cancelled. The caller holds the leader lease.
///
/// # Errors
/// When the cluster cannot be read at the start, when its CA is unusable, or when running reconciles do not end in time.
pub async fn run(
    client: kube::Client,
    settings: Settings,
    drain: CancellationToken,
) -> anyhow::Result<()> {
    // one controller that fails ends the others
    let cancel = drain.child_token();
    let _ends_with_this = cancel.clone().drop_guard();
    let authority = ClusterAuthority::open(client.clone(), &settings.system_namespace).await?;
    let system_namespace = settings.system_namespace.clone();
    let context = Context::new(client.clone(), settings, "tesseract-cube", cancel);
    let caches = caches::Caches::start(&context).await?;

    let sets = Arc::new(unit_set::UnitSets {
        context: context.clone(),
        caches: caches.clone(),
    });
    let projects = Arc::new(project::Projects {
        context: context.clone(),
        caches: caches.clone(),
    });
    let units = Arc::new(unit::Units {
        context: context.clone(),
        caches: caches.clone(),
        authority: authority.clone(),
    });
    let options = Options::default();
    let controllers = async {
        tokio::try_join!(
            upm_operator::run(
                projects,
                context.clone(),
                &caches.projects,
                caches.project_triggers(),
                options
            ),
            upm_operator::run(
                sets,
                context.clone(),
                &caches.sets,
                caches.set_triggers(),
                options
            ),
            upm_operator::run(
                units,
                context.clone(),
                &caches.units,
                caches.unit_triggers(),
                options
            ),
        )
    };
    tokio::select! {
        ended = controllers => ended.map(drop).map_err(Into::into),
        () = authority.keep(&client, &system_namespace) => Ok(()),
    }
}
