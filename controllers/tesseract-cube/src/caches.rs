//! What is known of the cluster: one watch per kind, shared by the three controllers.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Node, PersistentVolumeClaim, Pod, PodTemplate, Service,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Resource, ResourceExt as _};
use upm_crds::names::{self, label};
use upm_crds::{Project, Unit, UnitSet};
use upm_operator::{Context, Error, Informer, ObjectRef, Trigger, WatchConfig};

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
    keys.extend(
        object
            .labels()
            .get(label::UNIT_SET)
            .map(|set| set_key(&namespace, set)),
    );
    keys
}

fn labelled_set<K: Resource>(object: &K) -> Vec<ObjectRef<UnitSet>> {
    let namespace = object.namespace().unwrap_or_default();
    let set = object.labels().get(label::UNIT_SET);
    set.map(|set| ObjectRef::new(set).within(&namespace))
        .into_iter()
        .collect()
}

fn labelled_unit<K: Resource>(object: &K) -> Vec<ObjectRef<Unit>> {
    let namespace = object.namespace().unwrap_or_default();
    let unit = object.labels().get(label::UNIT);
    unit.map(|unit| ObjectRef::new(unit).within(&namespace))
        .into_iter()
        .collect()
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
            sets: Informer::start_indexed(Api::all(client.clone()), any(), cancel, keys),
            units: Informer::start_indexed(Api::all(client.clone()), any(), cancel, keys),
            projects: Informer::start(Api::all(client.clone()), any(), cancel),
            pods: Informer::start_indexed(Api::all(client.clone()), of_sets(), cancel, keys),
            claims: Informer::start_indexed(Api::all(client.clone()), of_sets(), cancel, keys),
            maps: Informer::start_indexed(Api::all(client.clone()), ours(), cancel, keys),
            services: Informer::start_indexed(Api::all(client.clone()), ours(), cancel, keys),
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
            self.namespaces.ready(FIRST_READ),
            self.nodes.ready(FIRST_READ),
            self.classes.ready(FIRST_READ),
            self.package_maps.ready(FIRST_READ),
            self.package_pods.ready(FIRST_READ),
        )
        .map(drop)
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
        vec![
            self.units.trigger(labelled_set),
            self.pods.trigger(labelled_set),
            self.claims.trigger(labelled_set),
            self.maps.trigger(labelled_set),
            self.services.trigger(labelled_set),
            self.package_maps.trigger(move |map| of_map(map.name_any())),
            self.package_pods
                .trigger(move |pods| of_pods(pods.name_any())),
        ]
    }

    /// What a unit is reconciled for.
    pub(crate) fn unit_triggers(&self) -> Vec<Trigger<Unit>> {
        let pods = self.pods.clone();
        vec![
            self.pods.trigger(labelled_unit),
            self.claims.trigger(labelled_unit),
            self.nodes.trigger(move |node| {
                let name = node.name_any();
                let here = |pod: &&std::sync::Arc<Pod>| {
                    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref())
                        == Some(name.as_str())
                };
                pods.all()
                    .iter()
                    .filter(here)
                    .flat_map(|pod| labelled_unit(pod.as_ref()))
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

    /// Everything of one kind in a namespace.
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
        informer.indexed(&namespace_key(namespace)).len()
    }
}
