//! The controller of a set: package, configuration, services, passwords, units, and the order of restarts.

mod apply;
mod claims;
mod plan;
mod status;
mod teardown;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use upm_crds::conditions;
use upm_crds::names::{self, label};
use upm_crds::{FieldError, RedisReplication, Unit, UnitSet, UnitSetStatus, Validate as _};
use upm_operator::call;
use upm_operator::{Context, Controller, Error, Next, Settings};

use crate::build::secret;
use crate::caches::{Caches, set_key};
use crate::facts;
use crate::gatekeeper::{self, Gate};
use crate::package::{Missing, Package};
use crate::values;
pub(crate) use plan::Plan;

/// Reconciles sets.
#[derive(Debug)]
pub(crate) struct UnitSets {
    pub(crate) context: Context,
    pub(crate) caches: Caches,
}

/// The Secret with the set's passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum SecretState {
    /// None is wanted.
    #[default]
    NotWanted,
    /// It has to be made.
    Absent,
    /// It is there; these keys are missing; it was generated for the set with this uid, or by a user.
    Present {
        missing: Vec<String>,
        generated_for: Option<String>,
        uid: String,
    },
}

/// What a set is reconciled from.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) now: Timestamp,
    pub(crate) errors: Vec<FieldError>,
    pub(crate) package: Result<Package, Missing>,
    /// The values of every unit: the package's with the parameters.
    pub(crate) value: Result<String, values::Malformed>,
    pub(crate) settings: Arc<Settings>,
    /// The units of the set by ordinal, also those that are too many.
    pub(crate) units: BTreeMap<i32, Arc<Unit>>,
    /// The pods of these units by ordinal.
    pub(crate) pods: BTreeMap<i32, Arc<Pod>>,
    /// Every claim that carries the set's name, by name.
    pub(crate) claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    pub(crate) maps: BTreeMap<String, Arc<ConfigMap>>,
    pub(crate) services: BTreeMap<String, Arc<Service>>,
    /// Whether the namespace is a project's: in others the agent may be refused whatever it makes.
    pub(crate) in_project: bool,
    /// Which units a topology names.
    pub(crate) gate: Gate,
    /// Ordinals of the pods whose nodes are being drained.
    pub(crate) drained: BTreeSet<i32>,
    pub(crate) secret: SecretState,
}

/// Where units and pods are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// From the watches.
    Watched,
    /// From the API server, before something that serves is taken down.
    Live,
}

impl Controller for UnitSets {
    const NAME: &'static str = "tesseract-cube";
    type Object = UnitSet;
    type Observed = Observed;
    type Plan = Plan;

    async fn observe(&self, set: &UnitSet) -> Result<Observed, Error> {
        self.look(set, Source::Watched).await
    }

    fn plan(&self, set: &UnitSet, observed: &Observed) -> Result<Plan, Error> {
        Ok(plan::plan(set, observed))
    }

    fn status(&self, set: &UnitSet, observed: &Observed, plan: &Plan) -> Option<UnitSetStatus> {
        Some(status::status(set, observed, plan))
    }

    fn outcome(&self, status: &mut UnitSetStatus, failure: Option<&Error>, now: Timestamp) {
        let words = failure.and_then(Error::refusal);
        conditions::refused(&mut status.conditions, words, now);
        conditions::observed(&mut status.conditions, status.observed_generation);
    }

    async fn apply(&self, set: &UnitSet, plan: Plan) -> Result<Next, Error> {
        self.carry_out(set, plan).await
    }
}

fn by_ordinal<K: kube::Resource>(set: &str, objects: Vec<Arc<K>>) -> BTreeMap<i32, Arc<K>> {
    let with = objects
        .into_iter()
        .filter_map(|object| Some((names::ordinal(set, &object.name_any())?, object)));
    with.collect()
}

impl UnitSets {
    async fn look(&self, set: &UnitSet, source: Source) -> Result<Observed, Error> {
        let namespace = set.namespace().unwrap_or_default();
        let name = set.name_any();
        let key = set_key(&namespace, &name);
        let system = &self.context.settings.system_namespace;
        let package_name = set.spec.package_name();
        let template = self
            .caches
            .package_maps
            .get(system, &names::package_template(&package_name));
        let value = self
            .caches
            .package_maps
            .get(system, &names::package_value(&package_name));
        let pods = self.caches.package_pods.get(system, &package_name);
        let package = Package::read(
            &set.spec,
            template.as_deref(),
            value.as_deref(),
            pods.as_deref(),
        );
        let value = package.as_ref().map_or_else(
            |_| Ok(String::new()),
            |p| values::merged(&p.value, &set.spec.type_, &set.spec.parameters),
        );
        let (units, pods, topologies) = match source {
            Source::Watched => (
                self.caches.units.indexed(&key),
                self.caches.pods.indexed(&key),
                self.caches.topologies.indexed(&key),
            ),
            Source::Live => self.live(&namespace, &name).await?,
        };
        let pods = by_ordinal(&name, pods);
        let on_drained_node = |pod: &Pod| {
            let node = facts::node_name(pod).and_then(|node| self.caches.nodes.get("", node));
            node.is_some_and(|node| facts::is_drained(pod, &node))
        };
        let drained = pods.iter().filter(|(_, pod)| on_drained_node(pod));
        Ok(Observed {
            drained: drained.map(|(ordinal, _)| *ordinal).collect(),
            in_project: self.caches.namespaces.get("", &namespace).is_some(),
            gate: Gate::of(&topologies),
            now: Timestamp::now(),
            errors: set.spec.validate(),
            package,
            value,
            settings: Arc::clone(&self.context.settings),
            units: by_ordinal(&name, units),
            pods,
            claims: named(self.caches.claims.indexed(&key)),
            maps: named(self.caches.maps.indexed(&key)),
            services: named(self.caches.services.indexed(&key)),
            secret: self.secret(set, &namespace).await?,
        })
    }

    async fn live(
        &self,
        namespace: &str,
        set: &str,
    ) -> Result<(Vec<Arc<Unit>>, Vec<Arc<Pod>>, Vec<Arc<RedisReplication>>), Error> {
        let selector = format!("{}={set}", label::UNIT_SET);
        let units: Api<Unit> = Api::namespaced(self.context.client.clone(), namespace);
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let topologies: Api<RedisReplication> =
            Api::namespaced(self.context.client.clone(), namespace);
        let (units, pods, topologies) = tokio::try_join!(
            call::list(&units, &selector),
            call::list(&pods, &selector),
            call::list(&topologies, ""),
        )?;
        let topologies = topologies
            .items
            .into_iter()
            .filter(|topology| gatekeeper::sets(topology).contains(set));
        Ok((
            units.items.into_iter().map(Arc::new).collect(),
            pods.items.into_iter().map(Arc::new).collect(),
            topologies.map(Arc::new).collect(),
        ))
    }

    async fn secret(&self, set: &UnitSet, namespace: &str) -> Result<SecretState, Error> {
        let Some(wanted) = &set.spec.generated_secret else {
            return Ok(SecretState::NotWanted);
        };
        if self.caches.is_ending(namespace) {
            return Ok(SecretState::NotWanted);
        }
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), namespace);
        Ok(match call::get_opt(&api, &wanted.name).await? {
            None => SecretState::Absent,
            Some(found) => SecretState::Present {
                missing: secret::missing_keys(&found, wanted),
                generated_for: secret::generated_for(&found).map(str::to_owned),
                uid: found.uid().unwrap_or_default(),
            },
        })
    }
}

fn named<K: kube::Resource>(objects: Vec<Arc<K>>) -> BTreeMap<String, Arc<K>> {
    objects
        .into_iter()
        .map(|object| (object.name_any(), object))
        .collect()
}

#[cfg(test)]
mod tests;
