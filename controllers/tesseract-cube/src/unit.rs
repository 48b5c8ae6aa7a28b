//! The controller of a unit: its volumes, its certificate, its pod.

mod plan;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use serde_json::json;
use upm_crds::conditions;
use upm_crds::names::{self, finalizer};
use upm_crds::{Unit, UnitStatus};
use upm_operator::authority::ClusterAuthority;
use upm_operator::call::{self, Propagation};
use upm_operator::{Context, Controller, Error, Next};

use crate::build::{identity, pod, set_of, volume};
use crate::caches::{Caches, set_key};
use crate::facts;
pub(crate) use plan::{ClaimStep, Plan, PodStep};

/// Reconciles units.
#[derive(Debug)]
pub(crate) struct Units {
    pub(crate) context: Context,
    pub(crate) caches: Caches,
    pub(crate) authority: ClusterAuthority,
}

/// What a unit is reconciled from.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) now: Timestamp,
    pub(crate) pod: Option<Arc<Pod>>,
    /// The watch does not show the pod: nothing will tell when it changes.
    pub(crate) unwatched: bool,
    /// The claims of the unit by name.
    pub(crate) claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    /// Storage classes that let volumes grow.
    pub(crate) growing_classes: Vec<String>,
    /// When the certificate has to be renewed.
    pub(crate) renew_at: Timestamp,
    /// `True`, `False` or `Unknown`.
    pub(crate) node_ready: String,
    /// What the readiness probe said last of a server that does not answer.
    pub(crate) unready: Option<String>,
}

impl Controller for Units {
    const NAME: &'static str = "tesseract-cube";
    type Object = Unit;
    type Observed = Observed;
    type Plan = Plan;

    async fn observe(&self, unit: &Unit) -> Result<Observed, Error> {
        let namespace = unit.namespace().unwrap_or_default();
        let name = unit.name_any();
        let secrets: Api<Secret> = Api::namespaced(self.context.client.clone(), &namespace);
        let now = Timestamp::now();
        let secret = if self.caches.is_ending(&namespace) {
            None
        } else {
            call::get_opt(&secrets, &names::identity_secret(&name)).await?
        };
        let watched = self.caches.pods.get(&namespace, &name);
        let pod = if let Some(pod) = &watched {
            Some(Arc::clone(pod))
        } else {
            // a pod whose labels somebody removed is outside the watch's filter; it is there all the same
            let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &namespace);
            call::get_opt(&pods, &name).await?.map(Arc::new)
        };
        let node = pod
            .as_deref()
            .and_then(facts::node_name)
            .and_then(|node| self.caches.nodes.get("", node));
        let claims = self
            .caches
            .claims
            .indexed(&set_key(&namespace, &set_of(unit)));
        let classes = self.caches.classes.all();
        let unready = match pod.as_deref() {
            Some(pod) if facts::runs_unready(pod, now) => self.probe_words(pod).await,
            Some(_) | None => None,
        };
        Ok(Observed {
            unready,
            now,
            node_ready: facts::node_ready(node.as_deref()).to_owned(),
            unwatched: pod.is_some() && watched.is_none(),
            pod,
            claims: claims
                .into_iter()
                .map(|claim| (claim.name_any(), claim))
                .collect(),
            growing_classes: classes
                .iter()
                .filter(|class| class.allow_volume_expansion == Some(true))
                .map(|class| class.name_any())
                .collect(),
            renew_at: identity::renew_at(secret.as_ref(), &self.authority.trusted_pem(), now),
        })
    }

    fn plan(&self, unit: &Unit, observed: &Observed) -> Result<Plan, Error> {
        Ok(plan::plan(unit, observed))
    }

    fn status(&self, unit: &Unit, observed: &Observed, plan: &Plan) -> Option<UnitStatus> {
        Some(status::status(unit, observed, plan))
    }

    fn outcome(&self, status: &mut UnitStatus, failure: Option<&Error>, now: Timestamp) {
        let words = failure.and_then(Error::refusal);
        if let Some(words) = &words {
            // the set's status quotes it
            status.task.clone_from(words);
        }
        conditions::refused(&mut status.conditions, words, now);
        conditions::observed(&mut status.conditions, status.observed_generation);
    }

    async fn apply(&self, unit: &Unit, plan: Plan) -> Result<Next, Error> {
        let namespace = unit.namespace().unwrap_or_default();
        for step in &plan.claims {
            self.apply_claim(unit, step, &namespace).await?;
        }
        if plan.issue_identity {
            self.issue_identity(unit, &namespace).await?;
        }
        self.apply_pod(unit, &plan.pod, &namespace).await?;
        if plan.drop_finalizers {
            let api: Api<Unit> = Api::namespaced(self.context.client.clone(), &namespace);
            upm_operator::finalizer::remove(&api, unit, &finalizer::LEGACY).await?;
        }
        Ok(plan.next)
    }
}

impl Units {
    /// The last answer of the readiness probe, from the node's events: the server's own words when it ends by itself. They only make the
    /// status clearer, so a failure to read them is not one of the reconciliation.
    async fn probe_words(&self, pod: &Pod) -> Option<String> {
        let namespace = pod.namespace().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.context.client.clone(), &namespace);
        let about = format!(
            "involvedObject.uid={},reason=Unhealthy",
            pod.uid().unwrap_or_default()
        );
        match call::list_where(&api, &about).await {
            Ok(events) => facts::probe_words(&events.items),
            Err(error) => {
                tracing::debug!(%error, "the probe's words cannot be read");
                None
            }
        }
    }

    async fn apply_claim(
        &self,
        unit: &Unit,
        step: &ClaimStep,
        namespace: &str,
    ) -> Result<(), Error> {
        let api: Api<PersistentVolumeClaim> =
            Api::namespaced(self.context.client.clone(), namespace);
        match step {
            ClaimStep::Create(claim) => {
                if call::create(&api, claim).await?.is_some() {
                    return Ok(());
                }
                // the watch did not know it: look at the claim itself before any pod may use it
                let name = claim.name_any();
                let found = call::get(&api, &name).await?;
                let uid = claim
                    .annotations()
                    .get(names::annotation::UNIT_SET_UID)
                    .cloned()
                    .unwrap_or_default();
                if volume::belongs_to(&found, &uid) {
                    // it was there and not seen: its labels were removed
                    let labels = json!({ "metadata": { "labels": claim.metadata.labels } });
                    call::patch_merge(&api, &name, &labels).await.map(drop)
                } else {
                    let why =
                        format!("claim {name} was not made for this set; no pod is started on it");
                    self.context
                        .events
                        .warning(unit, "VolumeRefused", "Start", why.clone())
                        .await;
                    Err(Error::Refused(why))
                }
            }
            ClaimStep::Label { name, labels } => {
                let patch = json!({ "metadata": { "labels": labels } });
                call::patch_merge(&api, name, &patch).await.map(drop)
            }
            ClaimStep::Grow { name, size } => {
                let patch = json!({ "spec": { "resources": { "requests": { "storage": size } } } });
                call::patch_merge(&api, name, &patch).await?;
                let note = format!("volume {name} grows to {}", size.0);
                self.context
                    .events
                    .normal(unit, "VolumeGrows", "Resize", note)
                    .await;
                Ok(())
            }
        }
    }

    async fn issue_identity(&self, unit: &Unit, namespace: &str) -> Result<(), Error> {
        let spiffe = names::unit_spiffe(namespace, &unit.name_any());
        let hosts = identity::hosts(unit, &self.context.settings.cluster_domain);
        let issued = self.authority.issue(&spiffe, &hosts, identity::LIFETIME)?;
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), namespace);
        call::apply(&api, None, &identity::secret(unit, &issued), Self::NAME)
            .await
            .map(drop)
    }

    async fn apply_pod(&self, unit: &Unit, step: &PodStep, namespace: &str) -> Result<(), Error> {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let events = &self.context.events;
        let name = unit.name_any();
        match step {
            PodStep::Leave => Ok(()),
            PodStep::Create => {
                // the watch may be behind: a pod made from an old unit would be restarted at once
                let units: Api<Unit> = Api::namespaced(self.context.client.clone(), namespace);
                let Some(live) = call::get_opt(&units, &name).await? else {
                    return Ok(());
                };
                if live.uid() != unit.uid()
                    || live.metadata.deletion_timestamp.is_some()
                    || !live.spec.startup
                {
                    return Ok(());
                }
                if call::create(&api, &pod::pod(&live)).await?.is_some() {
                    events
                        .normal(unit, "PodCreated", "Create", format!("made pod {name}"))
                        .await;
                }
                Ok(())
            }
            PodStep::Delete { uid, reason, note } => {
                call::delete(&api, &name, uid.clone(), Propagation::Background).await?;
                events.normal(unit, reason, "Delete", note.clone()).await;
                Ok(())
            }
            PodStep::Label {
                labels,
                annotations,
            } => {
                let patch = json!({ "metadata": { "labels": labels, "annotations": annotations } });
                match call::patch_merge(&api, &name, &patch).await {
                    Err(error) if error.is_not_found() => Ok(()),
                    done => done.map(drop),
                }
            }
        }
    }
}

/// Whether a person works on the unit: it is neither started, stopped nor restarted.
pub(crate) fn in_maintenance(unit: &Unit) -> bool {
    unit.annotations()
        .get(names::annotation::MAINTENANCE)
        .is_some_and(|value| value == "true")
}

/// How long a pod must have lived before one that ended at once is replaced.
const REPLACE_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
