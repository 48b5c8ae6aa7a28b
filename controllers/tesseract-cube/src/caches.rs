//! What is known of the cluster: one watch per kind, shared by the three controllers.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Node, PersistentVolumeClaim, Pod, PodTemplate, Service,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Resource, ResourceExt as _};
use upm_crds::names::{self, label};
use upm_crds::{Project, RedisReplication, Unit, UnitSet};
use upm_operator::{Context, Error, Informer, ObjectRef, Trigger, WatchConfig};

use crate::build::{set_of_object, unit_of_object};
use crate::{facts, gatekeeper};

/// How long the first reading of all kinds may take.
const FIRST_READ: Duration = Duration::from_mins(2);

/// The informers.
#[derive(Clone, Debug)]
pub(crate) struct Caches {
    pub(crate) sets: Informer<UnitSet>,
    pub(crate) units: Informer<Unit>,
    pub(crate) projects: Informer<Project>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) claims: Informer<PersistentVolumeClaim>,
    pub(crate) maps: Informer<ConfigMap>,
    pub(crate) services: Informer<Service>,
    pub(crate) budgets: Informer<PodDisruptionBudget>,
    /// `None` where no policies are made: the agent may have no right to them.
    pub(crate) policies: Option<Informer<NetworkPolicy>>,
    pub(crate) topologies: Informer<RedisReplication>,
    pub(crate) namespaces: Informer<Namespace>,
    pub(crate) nodes: Informer<Node>,
    pub(crate) classes: Informer<StorageClass>,
    pub(crate) package_maps: Informer<ConfigMap>,
    pub(crate) package_pods: Informer<PodTemplate>,
}

/// Key of everything that belongs to a set.
pub(crate) fn set_key(namespace: &str, set: &str) -> String {
    format!("{namespace}/{set}")
}

/// Key of everything in a namespace.
fn namespace_key(namespace: &str) -> String {
    format!("{namespace}/")
}

fn keys<K: Resource>(object: &K) -> Vec<String> {
    let namespace = object.namespace().unwrap_or_default();
    let mut keys = vec![namespace_key(&namespace)];
    keys.extend(set_of_object(object).map(|set| set_key(&namespace, &set)));
    keys
}

fn no_keys<K>(_: &K) -> Vec<String> {
    Vec::new()
}

fn of_set<K: Resource>(object: &K) -> Vec<ObjectRef<UnitSet>> {
    let namespace = object.namespace().unwrap_or_default();
    let set = set_of_object(object);
    set.map(|set| ObjectRef::new(&set).within(&namespace))
        .into_iter()
        .collect()
}

fn of_unit<K: Resource>(object: &K) -> Vec<ObjectRef<Unit>> {
    let namespace = object.namespace().unwrap_or_default();
    let unit = unit_of_object(object);
    unit.map(|unit| ObjectRef::new(&unit).within(&namespace))
        .into_iter()
        .collect()
}

/// The sets that a topology names, when it names others than before. Its status, which says a lot and often, is none of their business.
fn named_sets() -> impl Fn(&RedisReplication) -> Vec<ObjectRef<UnitSet>> + Send + 'static {
    let seen: Mutex<HashMap<String, BTreeSet<String>>> = Mutex::default();
    move |topology| {
        let namespace = topology.namespace().unwrap_or_default();
        let uid = topology.uid().unwrap_or_default();
        let now = gatekeeper::sets(topology);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.insert(uid.clone(), now.clone()).unwrap_or_default();
        if now.is_empty() {
            seen.remove(&uid);
        }
        now.symmetric_difference(&before)
            .map(|set| ObjectRef::new(set).within(&namespace))
            .collect()
    }
}

fn project_of<K: Resource>(object: &K) -> Vec<ObjectRef<Project>> {
    object
        .namespace()
        .map(|namespace| ObjectRef::new(&namespace))
        .into_iter()
        .collect()
}

impl Caches {
    /// Starts the watches and waits until each has read its objects once: a decision on half of them would be a wrong one.
    pub(crate) async fn start(context: &Context) -> Result<Self, Error> {
        let client = &context.client;
        let cancel = &context.cancel;
        let system = &context.settings.system_namespace;
        let of_sets = || WatchConfig::default().labels(label::UNIT_SET);
        let ours = || {
            let selector = format!(
                "{}={},{}",
                label::MANAGED_BY,
                label::TESSERACT_CUBE,
                label::UNIT_SET
            );
            WatchConfig::default().labels(&selector)
        };
        let projects = WatchConfig::default().labels(label::PROJECT);
        // The agent's own ledger lies in the same namespace, is large, and changes with every intent.
        let packages = || {
            let selector = format!("{}!={}", label::MANAGED_BY, label::AGENT);
            WatchConfig::default().labels(&selector)
        };
        let any = WatchConfig::default;
        let caches = Self {
            sets: Informer::start_computed(Api::all(client.clone()), any(), cancel, keys),
            units: Informer::start_computed(Api::all(client.clone()), any(), cancel, keys),
            projects: Informer::start_computed(Api::all(client.clone()), any(), cancel, no_keys),
            pods: Informer::start_indexed(Api::all(client.clone()), of_sets(), cancel, keys),
            claims: Informer::start_indexed(Api::all(client.clone()), of_sets(), cancel, keys),
            maps: Informer::start_indexed(Api::all(client.clone()), ours(), cancel, keys),
            services: Informer::start_indexed(Api::all(client.clone()), ours(), cancel, keys),
            budgets: Informer::start_indexed(Api::all(client.clone()), ours(), cancel, keys),
            policies: context
                .settings
                .network_policies
                .then(|| Informer::start_indexed(Api::all(client.clone()), ours(), cancel, keys)),
            topologies: Informer::start_indexed(
                Api::all(client.clone()),
                any(),
                cancel,
                gatekeeper::keys,
            ),
            namespaces: Informer::start(Api::all(client.clone()), projects, cancel),
            nodes: Informer::start(Api::all(client.clone()), any(), cancel),
            classes: Informer::start(Api::all(client.clone()), any(), cancel),
            package_maps: Informer::start_named(
                Api::namespaced(client.clone(), system),
                packages(),
                cancel,
                names::is_of_package,
            ),
            package_pods: Informer::start(Api::namespaced(client.clone(), system), any(), cancel),
        };
        caches.ready().await?;
        Ok(caches)
    }

    async fn ready(&self) -> Result<(), Error> {
        tokio::try_join!(
            self.sets.ready(FIRST_READ),
            self.units.ready(FIRST_READ),
            self.projects.ready(FIRST_READ),
            self.pods.ready(FIRST_READ),
            self.claims.ready(FIRST_READ),
            self.maps.ready(FIRST_READ),
            self.services.ready(FIRST_READ),
            self.budgets.ready(FIRST_READ),
            self.topologies.ready(FIRST_READ),
            self.namespaces.ready(FIRST_READ),
            self.nodes.ready(FIRST_READ),
            self.classes.ready(FIRST_READ),
            self.package_maps.ready(FIRST_READ),
            self.package_pods.ready(FIRST_READ),
        )
        .map(drop)?;
        match &self.policies {
            Some(policies) => policies.ready(FIRST_READ).await.map(drop),
            None => Ok(()),
        }
    }

    /// What a set is reconciled for.
    pub(crate) fn set_triggers(&self) -> Vec<Trigger<UnitSet>> {
        let by_package = |sets: Informer<UnitSet>| {
            move |object: String| -> Vec<ObjectRef<UnitSet>> {
                let uses = |set: &UnitSet| {
                    let package = set.spec.package_name();
                    object == package
                        || object == names::package_template(&package)
                        || object == names::package_value(&package)
                };
                let all = sets.all();
                all.iter()
                    .filter(|set| uses(set))
                    .map(|set| ObjectRef::from_obj(set.as_ref()))
                    .collect()
            }
        };
        let of_map = by_package(self.sets.clone());
        let of_pods = by_package(self.sets.clone());
        let on_nodes = self.pods.clone();
        let in_namespaces = self.sets.clone();
        let policies = self
            .policies
            .iter()
            .map(|policies| policies.trigger(of_set));
        let mut triggers = vec![
            self.units.trigger(of_set),
            self.pods.trigger(of_set),
            self.claims.trigger(of_set),
            self.maps.trigger(of_set),
            self.services.trigger(of_set),
            self.budgets.trigger(of_set),
            self.topologies.trigger(named_sets()),
            // the sets of a namespace that became a project's
            self.namespaces.trigger(move |namespace| {
                let key = namespace_key(&namespace.name_any());
                let sets = in_namespaces.indexed(&key);
                sets.iter()
                    .map(|set| ObjectRef::from_obj(set.as_ref()))
                    .collect()
            }),
            self.nodes.trigger(move |node| {
                let cordoned = node
                    .spec
                    .as_ref()
                    .is_some_and(|spec| spec.unschedulable == Some(true));
                if !cordoned {
                    return Vec::new();
                }
                let name = node.name_any();
                let all = on_nodes.all();
                all.iter()
                    .filter(|pod| facts::node_name(pod) == Some(name.as_str()))
                    .flat_map(|pod| of_set(pod.as_ref()))
                    .collect()
            }),
            self.package_maps.trigger(move |map| of_map(map.name_any())),
            self.package_pods
                .trigger(move |pods| of_pods(pods.name_any())),
        ];
        triggers.extend(policies);
        triggers
    }

    /// What a unit is reconciled for.
    pub(crate) fn unit_triggers(&self) -> Vec<Trigger<Unit>> {
        let pods = self.pods.clone();
        vec![
            self.pods.trigger(of_unit),
            self.claims.trigger(of_unit),
            self.nodes.trigger(move |node| {
                let name = node.name_any();
                let here = |pod: &&std::sync::Arc<Pod>| {
                    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref())
                        == Some(name.as_str())
                };
                pods.all()
                    .iter()
                    .filter(here)
                    .flat_map(|pod| of_unit(pod.as_ref()))
                    .collect()
            }),
        ]
    }

    /// What a project is reconciled for.
    pub(crate) fn project_triggers(&self) -> Vec<Trigger<Project>> {
        vec![
            self.namespaces
                .trigger(|namespace| vec![ObjectRef::new(&namespace.name_any())]),
            // a project that is deleted waits for these to go
            self.sets.trigger(project_of),
            self.units.trigger(project_of),
            self.claims.trigger(project_of),
        ]
    }

    /// Whether a project's namespace is being deleted. Then the right to its Secrets may have gone before them, and before what is in the way of
    /// the deletion.
    pub(crate) fn is_ending(&self, namespace: &str) -> bool {
        let found = self.namespaces.get("", namespace);
        found.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    /// Everything of one kind in a namespace, also what cannot be read.
    pub(crate) fn in_namespace<K>(informer: &Informer<K>, namespace: &str) -> usize
    where
        K: Resource<DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let unreadable = informer.unreadable();
        let here = unreadable
            .iter()
            .filter(|object| object.metadata.namespace.as_deref() == Some(namespace));
        informer.indexed(&namespace_key(namespace)).len() + here.count()
    }
}
