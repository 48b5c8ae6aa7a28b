//! What a cluster does besides the API server: pods are scheduled, start and end, volumes bind and grow, one pod is the primary.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;
use upm_crds::leave;
use upm_crds::names::{annotation, label};
use upm_crds::{RedisReplication, UnitSet};

use crate::build::{config_map, volume};
use crate::facts;

/// The nodes; a pod is put on the first one that takes pods.
pub(super) const NODES: [&str; 2] = ["cube-live-a", "cube-live-b"];
/// Only keeps the test from hanging: on a busy machine everything takes its time.
const PATIENCE: Duration = Duration::from_mins(5);

#[derive(Default)]
struct Seen {
    ended: Vec<String>,
    most_unavailable: usize,
}

pub(super) struct World {
    client: Client,
    namespace: String,
    seen: Arc<Mutex<Seen>>,
    /// How many turns have ended.
    turns: watch::Receiver<u64>,
    task: tokio::task::JoinHandle<()>,
}

/// Waits until it holds, or has not for too long.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited too long: {what}");
}

impl World {
    pub(super) async fn start(client: Client, namespace: &str) -> Self {
        let nodes: Api<Node> = Api::all(client.clone());
        for name in NODES {
            let node = json!({ "metadata": { "name": name } });
            let node: Node = serde_json::from_value(node).unwrap();
            nodes.create(&PostParams::default(), &node).await.unwrap();
            let ready =
                json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
            nodes
                .patch_status(name, &PatchParams::default(), &Patch::Merge(ready))
                .await
                .unwrap();
        }
        let classes: Api<StorageClass> = Api::all(client.clone());
        let fast = json!({ "metadata": { "name": "fast" }, "provisioner": "x", "allowVolumeExpansion": true });
        classes
            .create(
                &PostParams::default(),
                &serde_json::from_value(fast).unwrap(),
            )
            .await
            .unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (ended, turns) = watch::channel(0);
        let task = tokio::spawn(turn_for_ever(
            client.clone(),
            namespace.to_owned(),
            Arc::clone(&seen),
            ended,
        ));
        Self {
            client,
            namespace: namespace.to_owned(),
            seen,
            turns,
            task,
        }
    }

    pub(super) async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// What others see of a turn they may see before it is noted: waits until the turn under way has ended.
    async fn noted(&self) {
        let mut turns = self.turns.clone();
        let next = *turns.borrow() + 1;
        let ended = tokio::time::timeout(PATIENCE, turns.wait_for(|turn| *turn >= next)).await;
        assert!(
            matches!(ended, Ok(Ok(_))),
            "the world does not turn any more"
        );
    }

    /// Names of the pods that ended, in order.
    pub(super) async fn ended(&self) -> Vec<String> {
        self.noted().await;
        self.seen.lock().unwrap().ended.clone()
    }

    pub(super) async fn most_unavailable(&self) -> usize {
        self.noted().await;
        self.seen.lock().unwrap().most_unavailable
    }

    pub(super) async fn forget(&self) {
        self.noted().await;
        *self.seen.lock().unwrap() = Seen::default();
    }

    /// The primary. A set may be ready before its roles are written.
    pub(super) async fn primary(&self) -> String {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut primaries = Vec::new();
        until("exactly one pod is the primary", async || {
            let found = pods.list(&Default::default()).await.unwrap().items;
            let leads = |pod: &&Pod| facts::role(pod) == Some(crate::rollout::Role::Primary);
            primaries = found
                .iter()
                .filter(leads)
                .map(kube::ResourceExt::name_any)
                .collect();
            primaries.len() == 1
        })
        .await;
        primaries.remove(0)
    }

    pub(super) async fn break_pod(&self, name: &str) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let failed =
            json!({ "status": { "phase": "Failed", "reason": "Evicted", "conditions": [] } });
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(failed))
            .await
            .unwrap();
    }
}

async fn turn_for_ever(
    client: Client,
    namespace: String,
    seen: Arc<Mutex<Seen>>,
    ended: watch::Sender<u64>,
) {
    loop {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let Ok(found) = pods.list(&Default::default()).await else {
            continue;
        };
        let serving = found
            .items
            .iter()
            .filter(|pod| facts::is_ready(pod))
            .count();
        {
            let mut seen = seen.lock().unwrap();
            seen.most_unavailable = seen.most_unavailable.max(3_usize.saturating_sub(serving));
        }
        for pod in &found.items {
            one_pod(&client, &namespace, &pods, pod, &seen).await;
        }
        let wanted = topology(&client, &namespace).await;
        roles(&pods, &found.items, wanted).await;
        bind(&client, &namespace).await;
        ended.send_modify(|turns| *turns += 1);
    }
}

async fn one_pod(client: &Client, namespace: &str, pods: &Api<Pod>, pod: &Pod, seen: &Mutex<Seen>) {
    let name = pod.name_any();
    let merge = PatchParams::default();
    if pod.metadata.deletion_timestamp.is_some() {
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        if pods.delete(&name, &now).await.is_ok() {
            seen.lock().unwrap().ended.push(name);
        }
        return;
    }
    if facts::node_name(pod).is_none() {
        let nodes: Api<Node> = Api::all(client.clone());
        let mut free = None;
        for name in NODES {
            let node = nodes.get(name).await.ok();
            let cordoned = node.and_then(|node| node.spec?.unschedulable) == Some(true);
            free = free.or((!cordoned).then_some(name));
        }
        let Some(node) = free else { return };
        let binding =
            json!({ "metadata": { "name": name }, "target": { "kind": "Node", "name": node } });
        let _ = pods
            .create_subresource::<serde_json::Value, serde_json::Value>(
                "binding",
                &name,
                &PostParams::default(),
                &binding,
            )
            .await;
        return;
    }
    if facts::is_ready(pod) || facts::is_over(pod) || !files_are_there(client, namespace, pod).await
    {
        return;
    }
    let status = json!({ "status": {
        "phase": "Running", "podIP": "10.1.1.1", "podIPs": [{ "ip": "10.1.1.1" }],
        "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": k8s_openapi::jiff::Timestamp::now().to_string() }],
    }});
    let _ = pods
        .patch_status(&name, &merge, &Patch::Merge(status))
        .await;
}

/// A kubelet starts no container before every key that the pod mounts exists.
async fn files_are_there(client: &Client, namespace: &str, pod: &Pod) -> bool {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let spec = pod.spec.as_ref().unwrap();
    let set = &pod.labels()[label::UNIT_SET];
    for map in [
        format!("{set}-config-template"),
        format!("{}-config-value", pod.name_any()),
    ] {
        let Ok(found) = maps.get(&map).await else {
            return false;
        };
        let data = found.data.unwrap_or_default();
        if !config_map::mounted(spec, &map)
            .iter()
            .all(|key| data.contains_key(key))
        {
            return false;
        }
    }
    for volume in spec.volumes.iter().flatten() {
        let secret = volume
            .secret
            .as_ref()
            .and_then(|secret| secret.secret_name.as_deref());
        if let Some(secret) = secret
            && secrets.get(secret).await.is_err()
        {
            return false;
        }
        let claim = volume
            .persistent_volume_claim
            .as_ref()
            .map(|claim| claim.claim_name.as_str());
        if let Some(claim) = claim
            && claims.get(claim).await.is_err()
        {
            return false;
        }
    }
    true
}

/// Whether exactly this pod was asked for, and not let go yet.
fn asked(pod: &Pod) -> bool {
    let uid = pod.uid().unwrap_or_default();
    leave::requested(pod.annotations(), &uid).is_some() && !leave::granted(pod.annotations(), &uid)
}

/// The gatekeeper: exactly one ready pod is the primary; one that is asked for hands over first, and is let go when all others serve.
/// `wanted` is how many there must be: a pod that was deleted and is not yet made anew is missing too.
async fn roles(pods: &Api<Pod>, found: &[Pod], wanted: usize) {
    let ready: Vec<&Pod> = found.iter().filter(|pod| facts::is_ready(pod)).collect();
    let is_primary = |pod: &Pod| facts::role(pod) == Some(crate::rollout::Role::Primary);
    let primary = ready.iter().find(|pod| is_primary(pod));
    let heir = ready
        .iter()
        .find(|pod| Some(pod.name_any()) != primary.map(|pod| pod.name_any()));
    let chosen = match (primary, heir) {
        (Some(primary), Some(heir)) if asked(primary) => heir.name_any(),
        (Some(primary), _) => primary.name_any(),
        (None, _) => match ready.first() {
            Some(first) => first.name_any(),
            None => return,
        },
    };
    for pod in &ready {
        let role = if pod.name_any() == chosen {
            label::ROLE_PRIMARY
        } else {
            label::ROLE_REPLICA
        };
        if pod.labels().get(label::ROLE).map(String::as_str) != Some(role) {
            let patch = json!({ "metadata": { "labels": { label::ROLE: role } } });
            let _ = pods
                .patch(
                    &pod.name_any(),
                    &PatchParams::default(),
                    &Patch::Merge(patch),
                )
                .await;
        }
    }
    let all_serve = ready.len() == found.len() && ready.len() >= wanted;
    let next = ready
        .iter()
        .find(|pod| asked(pod) && (!is_primary(pod) || ready.len() == 1));
    if let Some(pod) = next.filter(|_| all_serve) {
        let patch =
            json!({ "metadata": { "annotations": { annotation::LEAVE_GRANTED: pod.uid() } } });
        let _ = pods
            .patch(
                &pod.name_any(),
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await;
    }
}

/// Every set has a topology that names its units.
async fn topology(client: &Client, namespace: &str) -> usize {
    let sets: Api<UnitSet> = Api::namespaced(client.clone(), namespace);
    let topologies: Api<RedisReplication> = Api::namespaced(client.clone(), namespace);
    let Ok(found) = sets.list(&Default::default()).await else {
        // it is not known: nobody goes
        return usize::MAX;
    };
    let mut wanted = 0;
    for set in found.items {
        wanted += usize::try_from(set.spec.units).unwrap_or_default();
        let node = |ordinal: i32| {
            let name = format!("{}-{ordinal}", set.name_any());
            json!({ "name": name, "host": format!("{name}.svc"), "port": 6379 })
        };
        let replicas: Vec<_> = (1..set.spec.units).map(node).collect();
        let object = json!({
            "apiVersion": "upm.syntropycloud.io/v1alpha1", "kind": "RedisReplication",
            "metadata": { "name": set.name_any(), "ownerReferences": set.controller_owner_ref(&()) .map(|owner| vec![owner]) },
            "spec": { "source": node(0), "replica": replicas, "secret": { "name": "demo-credentials" } },
        });
        let apply = PatchParams::apply("world").force();
        let _ = topologies
            .patch(&set.name_any(), &apply, &Patch::Apply(object))
            .await;
    }
    wanted
}

async fn bind(client: &Client, namespace: &str) {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let Ok(found) = claims.list(&Default::default()).await else {
        return;
    };
    for claim in found.items {
        let wanted = volume::requested_size(&claim);
        if volume::capacity(&claim) != wanted {
            let status =
                json!({ "status": { "phase": "Bound", "capacity": { "storage": wanted } } });
            let _ = claims
                .patch_status(
                    &claim.name_any(),
                    &PatchParams::default(),
                    &Patch::Merge(status),
                )
                .await;
        }
    }
}
