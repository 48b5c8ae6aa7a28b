//! Carries out what was planned for a set, in an order in which a crash at any point does no harm.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tracing::{debug, info};
use upm_crds::leave;
use upm_crds::names::{self, annotation, finalizer, label};
use upm_crds::unit_set::VolumeRetentionPolicy;
use upm_crds::{Unit, UnitSet};
use upm_operator::call::{self, Propagation};
use upm_operator::{Controller as _, Error, Next};

use super::claims::Retained;
use super::plan::{Converge, Plan};
use super::teardown::Teardown;
use super::{Source, UnitSets};
use crate::build::{secret, volume};
use crate::rollout::{Step, Why};

/// Name and uid of something to delete.
type Named = (String, Option<String>);

impl UnitSets {
    pub(super) async fn carry_out(&self, set: &UnitSet, plan: Plan) -> Result<Next, Error> {
        match plan {
            Plan::AddFinalizer => {
                let api: Api<UnitSet> = self.api(set);
                upm_operator::finalizer::add(&api, set, finalizer::UNIT_SET).await?;
                Ok(Next::Await)
            }
            Plan::Blocked => Ok(Next::Await),
            Plan::Teardown(teardown) => self.tear_down(set, teardown).await,
            Plan::Converge(converge) => self.converge(set, *converge).await,
        }
    }

    fn api<K>(&self, set: &UnitSet) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(
            self.context.client.clone(),
            &set.namespace().unwrap_or_default(),
        )
    }

    async fn converge(&self, set: &UnitSet, plan: Converge) -> Result<Next, Error> {
        self.settle_retained(set, &plan.retained).await?;
        if plan.retained.discard_secret.is_none() {
            self.make_secret(set, plan.make_secret, &plan.add_keys)
                .await?;
        }
        let namespace = set.namespace().unwrap_or_default();
        let maps: Api<ConfigMap> = self.api(set);
        for map in &plan.maps {
            let current = self.caches.maps.get(&namespace, &map.name_any());
            call::apply(&maps, current.as_deref(), map, Self::NAME).await?;
        }
        let services: Api<Service> = self.api(set);
        for service in &plan.services {
            let current = self.caches.services.get(&namespace, &service.name_any());
            call::apply(&services, current.as_deref(), service, Self::NAME).await?;
        }
        let budgets: Api<PodDisruptionBudget> = self.api(set);
        let budget = self.caches.budgets.get(&namespace, &plan.budget.name_any());
        call::apply(&budgets, budget.as_deref(), &plan.budget, Self::NAME).await?;
        if let (Some(policy), Some(known)) = (&plan.policy, &self.caches.policies) {
            let policies: Api<NetworkPolicy> = self.api(set);
            let current = known.get(&namespace, &policy.name_any());
            call::apply(&policies, current.as_deref(), policy, Self::NAME).await?;
        }
        let units: Api<Unit> = self.api(set);
        let restarts: Vec<i32> = plan
            .decision
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Restart(ordinal) => Some(*ordinal),
                Step::Move(_) | Step::Write(_) | Step::Ask(..) | Step::TakeBack(_) => None,
            })
            .collect();
        let set_name = set.name_any();
        let waits = |unit: &Unit| ordinal_in(&set_name, unit, &restarts);
        for unit in plan.units.iter().filter(|unit| !waits(unit)) {
            self.apply_unit(&units, unit, &namespace).await?;
        }
        self.requests(set, &plan).await?;
        self.take_down(set, &plan, &units, &namespace).await?;
        self.delete_all(&services, &plan.drop_services).await?;
        self.delete_all(&maps, &plan.drop_maps).await?;
        let claims: Api<PersistentVolumeClaim> = self.api(set);
        self.delete_all(&claims, &plan.drop_claims).await?;
        Ok(plan.next.unwrap_or(Next::Await))
    }

    async fn apply_unit(&self, api: &Api<Unit>, unit: &Unit, namespace: &str) -> Result<(), Error> {
        let current = self.caches.units.get(namespace, &unit.name_any());
        call::apply(api, current.as_deref(), unit, Self::NAME)
            .await
            .map(drop)
    }

    /// Ends the pods and removes the units whose turn it is, where the API server's own view, not only the watch's, still allows it.
    async fn take_down(
        &self,
        set: &UnitSet,
        plan: &Converge,
        units: &Api<Unit>,
        namespace: &str,
    ) -> Result<(), Error> {
        let goes = |step: &&Step| matches!(step, Step::Restart(_) | Step::Move(_));
        let wanted: Vec<&Step> = plan.decision.steps.iter().filter(goes).collect();
        if wanted.is_empty() && plan.surplus.delete.is_none() {
            return Ok(());
        }
        let live = Box::pin(self.look(set, Source::Live)).await?;
        let Plan::Converge(again) = super::plan::plan(set, &live) else {
            return Ok(());
        };
        let set_name = set.name_any();
        for step in wanted {
            if !again.decision.steps.contains(step) {
                debug!(?step, "The API server knows more than the watch: not due");
                continue;
            }
            let (Step::Restart(ordinal) | Step::Move(ordinal)) = step else {
                continue;
            };
            let unit = again
                .units
                .iter()
                .find(|unit| ordinal_in(&set_name, unit, &[*ordinal]));
            let Some(unit) = unit else { continue };
            let pod = live.pods.get(ordinal).map(AsRef::as_ref);
            let note = match step {
                Step::Move(_) => "its node is being drained",
                _ => "",
            };
            self.restart(set, units, unit, pod, namespace, note).await?;
        }
        if let Some((name, uid)) = &plan.surplus.delete {
            if again.surplus.delete != plan.surplus.delete {
                debug!(name, "The API server knows more than the watch: not due");
                return Ok(());
            }
            call::delete(units, name, uid.clone(), Propagation::Foreground).await?;
            self.context
                .events
                .normal(set, "ScaledIn", "Scale", format!("removes unit {name}"))
                .await;
        }
        Ok(())
    }

    /// Writes what the unit shall be and ends its pod; a crash in between is found and finished.
    async fn restart(
        &self,
        set: &UnitSet,
        api: &Api<Unit>,
        unit: &Unit,
        pod: Option<&Pod>,
        namespace: &str,
        why: &str,
    ) -> Result<(), Error> {
        self.apply_unit(api, unit, namespace).await?;
        let name = unit.name_any();
        let Some(pod) = pod.filter(|pod| pod.metadata.deletion_timestamp.is_none()) else {
            return Ok(());
        };
        info!(unit = name, why, "Restarts a unit");
        let pods: Api<Pod> = self.api(set);
        call::delete(&pods, &name, pod.uid(), Propagation::Background).await?;
        let (reason, action, note) = if why.is_empty() {
            let note = format!("restarts {name} with version {}", set.spec.version);
            ("UnitRestarted", "Update", note)
        } else {
            ("UnitMoved", "Drain", format!("moves {name}: {why}"))
        };
        self.context.events.normal(set, reason, action, note).await;
        Ok(())
    }

    /// Asks gatekeepers to let units go, or takes that back.
    async fn requests(&self, set: &UnitSet, plan: &Converge) -> Result<(), Error> {
        for step in &plan.decision.steps {
            match step {
                Step::Ask(ordinal, why) => self.ask(set, *ordinal, *why).await?,
                Step::TakeBack(ordinal) => self.take_back(set, *ordinal).await?,
                Step::Restart(_) | Step::Move(_) | Step::Write(_) => {}
            }
        }
        if let Some(ordinal) = plan.surplus.ask {
            self.ask(set, ordinal, Why::ScaleIn).await?;
        }
        for ordinal in &plan.surplus.take_back {
            self.take_back(set, *ordinal).await?;
        }
        Ok(())
    }

    async fn ask(&self, set: &UnitSet, ordinal: i32, why: Why) -> Result<(), Error> {
        let unit = names::unit_name(&set.name_any(), ordinal);
        let namespace = set.namespace().unwrap_or_default();
        let pod = self.caches.pods.get(&namespace, &unit);
        let Some(uid) = pod.and_then(|pod| pod.uid()) else {
            return Ok(());
        };
        let keys = json!({
            annotation::LEAVE_REQUESTED: leave::request(why.as_str(), &uid),
            annotation::LEAVE_REQUESTED_AT: Timestamp::now().to_string(),
        });
        self.annotate(set, &unit, &keys).await?;
        let note = format!("asks the topology to let {unit} go");
        self.context
            .events
            .normal(set, "LeaveRequested", why.as_str(), note)
            .await;
        Ok(())
    }

    async fn take_back(&self, set: &UnitSet, ordinal: i32) -> Result<(), Error> {
        let unit = names::unit_name(&set.name_any(), ordinal);
        let keys = json!({
            annotation::LEAVE_REQUESTED: null,
            annotation::LEAVE_REQUESTED_AT: null,
        });
        self.annotate(set, &unit, &keys).await
    }

    async fn annotate(
        &self,
        set: &UnitSet,
        pod: &str,
        keys: &serde_json::Value,
    ) -> Result<(), Error> {
        let pods: Api<Pod> = self.api(set);
        let patch = json!({ "metadata": { "annotations": keys } });
        match call::patch_merge(&pods, pod, &patch).await {
            Err(error) if error.is_not_found() => Ok(()),
            done => done.map(drop),
        }
    }

    async fn delete_secret(&self, set: &UnitSet, name: &str, uid: &str) -> Result<(), Error> {
        let secrets: Api<Secret> = self.api(set);
        call::delete(
            &secrets,
            name,
            Some(uid.to_owned()),
            Propagation::Background,
        )
        .await
    }

    async fn settle_retained(&self, set: &UnitSet, retained: &Retained) -> Result<(), Error> {
        // the Secret first: after a crash the volumes still tell what was chosen
        if let (Some(uid), Some(wanted)) = (&retained.discard_secret, &set.spec.generated_secret) {
            self.delete_secret(set, &wanted.name, uid).await?;
        }
        if let (true, Some(wanted)) = (retained.adopt_secret, &set.spec.generated_secret) {
            let secrets: Api<Secret> = self.api(set);
            let patch =
                json!({ "metadata": { "annotations": { annotation::UNIT_SET_UID: set.uid() } } });
            call::patch_merge(&secrets, &wanted.name, &patch).await?;
        }
        let claims: Api<PersistentVolumeClaim> = self.api(set);
        for name in &retained.adopt {
            let patch = json!({ "metadata": {
                "labels": { label::UNIT_SET: set.name_any(), label::MANAGED_BY: label::TESSERACT_CUBE },
                "annotations": { annotation::UNIT_SET_UID: set.uid(), annotation::KEPT_OF_UNITS: null },
            }});
            call::patch_merge(&claims, name, &patch).await?;
            self.context
                .events
                .normal(
                    set,
                    "VolumeAdopted",
                    "Adopt",
                    format!("uses volume {name} of an earlier set"),
                )
                .await;
        }
        for (name, uid) in &retained.discard {
            call::delete(&claims, name, uid.clone(), Propagation::Background).await?;
            let note = format!("deletes volume {name} of an earlier set, as retainedVolumes says");
            self.context
                .events
                .warning(set, "VolumeDiscarded", "Discard", note)
                .await;
        }
        if !retained.refused.is_empty() {
            let note = retained.refusal();
            self.context
                .events
                .warning(set, "VolumesRetained", "Start", note)
                .await;
        }
        Ok(())
    }

    async fn make_secret(
        &self,
        set: &UnitSet,
        make: bool,
        add_keys: &[String],
    ) -> Result<(), Error> {
        let Some(wanted) = &set.spec.generated_secret else {
            return Ok(());
        };
        let api: Api<Secret> = self.api(set);
        if make
            && call::create(&api, &secret::generated(set, wanted))
                .await?
                .is_some()
        {
            let events = &self.context.events;
            // its servers take the new passwords, and connections that are open go on: people have to hear of it
            if set
                .status
                .as_ref()
                .is_some_and(|status| status.ready_units > 0)
            {
                let note = format!(
                    "Secret {} was gone; its passwords were made anew, the old ones are valid no more",
                    wanted.name
                );
                events.warning(set, "SecretMadeAnew", "Create", note).await;
            } else {
                let note = format!("generated the passwords in Secret {}", wanted.name);
                events.normal(set, "SecretGenerated", "Create", note).await;
            }
        }
        if add_keys.is_empty() {
            return Ok(());
        }
        // only what is missing now; the resource version keeps a password that appeared meanwhile
        let found = call::get(&api, &wanted.name).await?;
        let missing = secret::missing_keys(&found, wanted);
        let data: serde_json::Map<_, _> = missing
            .into_iter()
            .map(|key| (key, json!(secret::password())))
            .collect();
        let patch =
            json!({ "metadata": { "resourceVersion": found.resource_version() }, "data": data });
        call::patch_merge(&api, &wanted.name, &patch)
            .await
            .map(drop)
    }

    async fn tear_down(&self, set: &UnitSet, teardown: Teardown) -> Result<Next, Error> {
        let units: Api<Unit> = self.api(set);
        for (name, uid) in &teardown.units {
            call::delete(&units, name, uid.clone(), Propagation::Foreground).await?;
        }
        let claims: Api<PersistentVolumeClaim> = self.api(set);
        for name in &teardown.keep {
            let patch = json!({ "metadata": { "annotations": {
                annotation::KEPT_OF_UNITS: set.spec.units.to_string(),
            }}});
            call::patch_merge(&claims, name, &patch).await?;
        }
        for (name, uid) in &teardown.claims {
            call::delete(&claims, name, uid.clone(), Propagation::Background).await?;
            self.context
                .events
                .normal(
                    set,
                    "VolumeDeleted",
                    "Delete",
                    format!("deletes volume {name}"),
                )
                .await;
        }
        if !teardown.keep.is_empty() {
            return Ok(Next::After(std::time::Duration::from_secs(1)));
        }
        if let (Some(uid), Some(wanted)) = (&teardown.secret, &set.spec.generated_secret) {
            self.delete_secret(set, &wanted.name, uid).await?;
            return Ok(Next::After(std::time::Duration::from_secs(1)));
        }
        if teardown.done && self.nothing_left(set).await? {
            let api: Api<UnitSet> = self.api(set);
            let mut ours = finalizer::LEGACY.to_vec();
            ours.push(finalizer::UNIT_SET);
            upm_operator::finalizer::remove(&api, set, &ours).await?;
        }
        Ok(Next::After(std::time::Duration::from_secs(5)))
    }

    /// Asks the API server itself: what the watch does not know yet must not outlive the set.
    async fn nothing_left(&self, set: &UnitSet) -> Result<bool, Error> {
        let live = Box::pin(self.look(set, Source::Live)).await?;
        if !live.units.is_empty() || !live.pods.is_empty() {
            return Ok(false);
        }
        if set.spec.volume_retention_policy == VolumeRetentionPolicy::Retain {
            return Ok(true);
        }
        let claims: Api<PersistentVolumeClaim> = self.api(set);
        let found = call::list(&claims, &format!("{}={}", label::UNIT_SET, set.name_any())).await?;
        let uid = set.uid().unwrap_or_default();
        Ok(!found
            .items
            .iter()
            .any(|claim| volume::belongs_to(claim, &uid)))
    }

    async fn delete_all<K>(&self, api: &Api<K>, objects: &[Named]) -> Result<(), Error>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        for (name, uid) in objects {
            call::delete(api, name, uid.clone(), Propagation::Background).await?;
        }
        Ok(())
    }
}

fn ordinal_in(set: &str, unit: &Unit, ordinals: &[i32]) -> bool {
    names::ordinal(set, &unit.name_any()).is_some_and(|ordinal| ordinals.contains(&ordinal))
}
