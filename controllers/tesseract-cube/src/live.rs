//! The whole life of a set against a real API server, with the rights that the chart grants and no others. Kubelet, volumes and topology
//! are played by [`World`].

mod control_plane;
mod rights;
mod world;

use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Node, PersistentVolumeClaim, Pod, PodTemplate, Secret,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use upm_crds::conditions::{find, is_true, kind};
use upm_crds::names::{annotation, label};
use upm_crds::{Project, UnitSet};

use crate::build::tests::package;
use crate::facts;
use control_plane::ControlPlane;
use world::{NODES, World, until};

const PROJECT: &str = "cube-live";
const SYSTEM: &str = "upm-system";

struct Test {
    client: Client,
    sets: Api<UnitSet>,
    pods: Api<Pod>,
    claims: Api<PersistentVolumeClaim>,
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
}

impl Test {
    async fn set(&self) -> UnitSet {
        self.sets.get("demo").await.unwrap()
    }

    async fn change(&self, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.sets
            .patch("demo", &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Waits until the set says that it is ready and complete for its present spec.
    async fn settled(&self, what: &str) {
        until(what, async || {
            let set = self.set().await;
            let status = set.status.clone().unwrap_or_default();
            let complete =
                find(&status.conditions, kind::PROGRESSING).is_some_and(|c| c.reason == "Complete");
            status.observed_generation == set.metadata.generation
                && complete
                && is_true(&status.conditions, kind::READY)
                && status.units == set.spec.units
        })
        .await;
    }

    async fn reason(&self, type_: &str) -> String {
        let status = self.set().await.status.unwrap_or_default();
        find(&status.conditions, type_)
            .map(|condition| condition.reason.clone())
            .unwrap_or_default()
    }

    async fn create_set(&self, more: Value) {
        let mut set: Value = json!({
            "apiVersion": "upm.syntropycloud.io/v1alpha2", "kind": "UnitSet",
            "metadata": { "name": "demo", "namespace": PROJECT },
            "spec": {
                "type": "redis", "version": "7.0.15", "units": 3,
                "resources": { "limits": { "memory": "64Mi" } },
                "storage": [{ "name": "data", "size": "1Gi", "mountPath": "/data", "storageClassName": "fast" }],
                "generatedSecret": { "name": "demo-credentials", "keys": ["default"] },
            },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            set["spec"][key] = value.clone();
        }
        self.sets
            .create(
                &PostParams::default(),
                &serde_json::from_value(set).unwrap(),
            )
            .await
            .unwrap();
    }

    async fn delete_set(&self) {
        self.sets
            .delete("demo", &DeleteParams::default())
            .await
            .unwrap();
        until("the set is gone", async || {
            self.sets.get_opt("demo").await.unwrap().is_none()
        })
        .await;
        assert!(
            self.pods
                .list(&Default::default())
                .await
                .unwrap()
                .items
                .is_empty(),
            "pods go before the set"
        );
    }

    async fn password(&self) -> Vec<u8> {
        let secret = self.secrets.get("demo-credentials").await.unwrap();
        secret.data.unwrap()["default"].0.clone()
    }

    async fn volumes(&self) -> Vec<String> {
        let claims = self.claims.list(&Default::default()).await.unwrap().items;
        claims.iter().map(kube::ResourceExt::name_any).collect()
    }

    async fn package(&self) {
        let apply = PatchParams::apply("live").force();
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), SYSTEM);
        for (suffix, text) in [("template", package().template), ("value", package().value)] {
            let name = format!("redis-7.0.15-config-{suffix}");
            let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "redis": text } });
            maps.patch(&name, &apply, &Patch::Apply(map)).await.unwrap();
        }
        let templates: Api<PodTemplate> = Api::namespaced(self.client.clone(), SYSTEM);
        templates
            .patch("redis-7.0.15", &apply, &Patch::Apply(package().pod))
            .await
            .unwrap();
    }
}

async fn start() -> (
    ControlPlane,
    Test,
    World,
    CancellationToken,
    tokio::task::JoinHandle<anyhow::Result<()>>,
) {
    let plane = ControlPlane::start().await;
    let client = plane.client.clone();
    let test = Test {
        sets: Api::namespaced(client.clone(), PROJECT),
        pods: Api::namespaced(client.clone(), PROJECT),
        claims: Api::namespaced(client.clone(), PROJECT),
        secrets: Api::namespaced(client.clone(), PROJECT),
        maps: Api::namespaced(client.clone(), PROJECT),
        client: client.clone(),
    };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system: Namespace =
        serde_json::from_value(json!({ "metadata": { "name": SYSTEM } })).unwrap();
    namespaces
        .create(&PostParams::default(), &system)
        .await
        .unwrap();
    let world = World::start(client.clone(), PROJECT).await;
    let secrets = rights::grant(&client).await;
    let agent = plane.client_of(SYSTEM, &secrets.account);
    rights::enforced(&client, &agent, &secrets).await;
    let cancel = CancellationToken::new();
    let settings = crate::Settings {
        secrets: Some(secrets),
        network_policies: true,
        ..crate::Settings::default()
    };
    let cube = tokio::spawn(crate::run(agent, settings, cancel.clone()));
    (plane, test, world, cancel, cube)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_lives_its_whole_life_on_a_real_api_server() {
    let (plane, test, world, cancel, cube) = start().await;
    let projects: Api<Project> = Api::all(test.client.clone());
    let namespaces: Api<Namespace> = Api::all(test.client.clone());

    foreign_namespace(&projects, &namespaces).await;
    // as a manifest of today may be: without a spec
    let manifest = json!({
        "apiVersion": "upm.syntropycloud.io/v1alpha2", "kind": "Project",
        "metadata": { "name": PROJECT },
    });
    projects
        .patch(
            PROJECT,
            &PatchParams::apply("live"),
            &Patch::Apply(&manifest),
        )
        .await
        .unwrap();
    until("the project is active", async || {
        let project = projects.get(PROJECT).await.unwrap();
        project
            .status
            .is_some_and(|status| is_true(&status.conditions, kind::READY))
    })
    .await;

    let agent = plane.client_of(SYSTEM, "upm-agent");
    let role = rights::named(&rights::rendered());
    rights::secrets(&test.client, &agent, &role).await;

    test.create_set(json!({})).await;
    until("a set without its package says so", async || {
        test.reason(kind::PACKAGE_FOUND).await == "PackageNotFound"
    })
    .await;
    test.package().await;
    test.settled("the set is ready").await;
    let password = test.password().await;
    assert_eq!(password.len(), 32);

    changes(&test, &world).await;
    labels(&test).await;
    maintenance(&test, &world).await;
    drain(&test, &world).await;
    network(&test).await;
    scaling(&test).await;
    stopping(&test, &world).await;
    volumes(&test, &password).await;

    namespace_by_hand(&test, &projects, &namespaces).await;
    projects
        .delete(PROJECT, &DeleteParams::default())
        .await
        .unwrap();
    until("the namespace is gone", async || {
        projects.get_opt(PROJECT).await.unwrap().is_none()
            && namespaces.get_opt(PROJECT).await.unwrap().is_none()
    })
    .await;
    cancel.cancel();
    cube.await.unwrap().unwrap();
    world.stop().await;
}

/// Somebody deletes a project's namespace with a set in it. The right to its Secrets goes before them; what is in the way goes all the same, and the
/// project makes the namespace anew.
async fn namespace_by_hand(test: &Test, projects: &Api<Project>, namespaces: &Api<Namespace>) {
    const NAME: &str = "cube-gone";
    projects
        .create(
            &PostParams::default(),
            &Project::new(NAME, Default::default()),
        )
        .await
        .unwrap();
    until("the other project is active", async || {
        let project = projects.get(NAME).await.unwrap();
        project
            .status
            .is_some_and(|status| is_true(&status.conditions, kind::READY))
    })
    .await;
    let sets: Api<UnitSet> = Api::namespaced(test.client.clone(), NAME);
    let secrets: Api<Secret> = Api::namespaced(test.client.clone(), NAME);
    let set = json!({
        "apiVersion": "upm.syntropycloud.io/v1alpha2", "kind": "UnitSet",
        "metadata": { "name": "demo" },
        "spec": {
            "type": "redis", "version": "7.0.15", "units": 1, "startup": false,
            "volumeRetentionPolicy": "Delete",
            "storage": [{ "name": "data", "size": "1Gi", "mountPath": "/data", "storageClassName": "fast" }],
            "generatedSecret": { "name": "demo-credentials", "keys": ["default"] },
        },
    });
    sets.create(
        &PostParams::default(),
        &serde_json::from_value(set).unwrap(),
    )
    .await
    .unwrap();
    until("the set has its Secret", async || {
        let secret = secrets.get_opt("demo-credentials").await.unwrap();
        secret.is_some()
    })
    .await;
    let before = namespaces.get(NAME).await.unwrap().uid();
    namespaces
        .delete(NAME, &DeleteParams::default())
        .await
        .unwrap();
    until("the namespace is made anew", async || {
        let found = namespaces.get_opt(NAME).await.unwrap();
        found.is_some_and(|found| found.uid() != before)
    })
    .await;
    projects
        .delete(NAME, &DeleteParams::default())
        .await
        .unwrap();
    until("the other project is gone", async || {
        projects.get_opt(NAME).await.unwrap().is_none()
    })
    .await;
}

async fn foreign_namespace(projects: &Api<Project>, namespaces: &Api<Namespace>) {
    let foreign: Namespace =
        serde_json::from_value(json!({ "metadata": { "name": "cube-foreign" } })).unwrap();
    let _ = namespaces.create(&PostParams::default(), &foreign).await;
    projects
        .create(
            &PostParams::default(),
            &Project::new("cube-foreign", Default::default()),
        )
        .await
        .unwrap();
    until("a foreign namespace is a conflict", async || {
        let project = projects.get("cube-foreign").await.unwrap();
        let conditions = project.status.unwrap_or_default().conditions;
        find(&conditions, kind::READY)
            .is_some_and(|condition| condition.reason == "NamespaceConflict")
    })
    .await;
    projects
        .delete("cube-foreign", &DeleteParams::default())
        .await
        .unwrap();
    until("its project goes", async || {
        projects.get_opt("cube-foreign").await.unwrap().is_none()
    })
    .await;
    let kept = namespaces.get("cube-foreign").await.unwrap();
    assert!(
        kept.metadata.deletion_timestamp.is_none(),
        "the foreign namespace stays"
    );
}

async fn changes(test: &Test, world: &World) {
    let primary = world.primary().await;
    world.forget().await;
    test.change(json!({ "parameters": { "hz": "50" } })).await;
    test.settled("a parameter is rolled out").await;
    let ended = world.ended().await;
    assert_eq!(ended.len(), 3, "each pod once: {ended:?}");
    assert_eq!(ended.last(), Some(&primary), "the primary last: {ended:?}");
    assert!(world.most_unavailable().await <= 1, "one at a time");
    let map = async || {
        let map = test.maps.get("demo-0-config-value").await.unwrap();
        map.data.unwrap()
    };
    assert!(map().await["redis"].contains("hz"));
    // the pods may be seen before the units that name the old content are
    until(
        "the content that nobody uses any more is gone",
        async || map().await.len() == 2,
    )
    .await;

    world.forget().await;
    test.change(json!({ "restartedAt": "2026-01-01T00:00:00Z" }))
        .await;
    test.settled("a restart").await;
    assert_eq!(world.ended().await.len(), 3);
    assert_eq!(
        test.set().await.status.unwrap().restarted_at.as_deref(),
        Some("2026-01-01T00:00:00Z")
    );

    world.forget().await;
    test.change(json!({ "storage": [{ "name": "data", "size": "2Gi", "mountPath": "/data", "storageClassName": "fast" }] })).await;
    until("the volumes grow", async || {
        let set = test.set().await;
        // it said so of the size before as well
        set.status.is_some_and(|status| {
            status.observed_generation == set.metadata.generation
                && status
                    .unit_pvc_synced
                    .is_some_and(|synced| synced.status == "True")
        })
    })
    .await;
    test.settled("nothing restarts for it").await;
    assert!(world.ended().await.is_empty());

    let broken = test.pods.get("demo-1").await.unwrap().uid();
    world.break_pod("demo-1").await;
    until("a failed pod is replaced", async || {
        test.pods
            .get_opt("demo-1")
            .await
            .unwrap()
            .is_some_and(|pod| pod.uid() != broken && facts::is_ready(&pod))
    })
    .await;
    test.settled("after a failed pod").await;
}

/// Labels that somebody removed from a pod and a volume are put back, and a pod that is deleted without them is made again.
async fn labels(test: &Test) {
    let none: Value = json!({ "metadata": { "labels": null } });
    let without = PatchParams::default();
    test.pods
        .patch("demo-1", &without, &Patch::Merge(&none))
        .await
        .unwrap();
    test.claims
        .patch("demo-1-data", &without, &Patch::Merge(&none))
        .await
        .unwrap();
    until("labels are put back", async || {
        let pod = test.pods.get("demo-1").await.unwrap();
        let claim = test.claims.get("demo-1-data").await.unwrap();
        let of = |labels: &std::collections::BTreeMap<String, String>| {
            labels.get(label::UNIT).is_some_and(|unit| unit == "demo-1")
                && labels.get(label::UNIT_SET).is_some_and(|set| set == "demo")
        };
        of(pod.labels()) && of(claim.labels())
    })
    .await;
    test.pods
        .patch("demo-2", &without, &Patch::Merge(&none))
        .await
        .unwrap();
    let before = test.pods.get("demo-2").await.unwrap().uid();
    let _ = test.pods.delete("demo-2", &DeleteParams::default()).await;
    let begun = std::time::Instant::now();
    until("the pod is made again", async || {
        let pod = test.pods.get_opt("demo-2").await.unwrap();
        pod.is_some_and(|pod| pod.uid() != before && facts::is_ready(&pod))
    })
    .await;
    assert!(
        begun.elapsed() < std::time::Duration::from_mins(1),
        "not only with the resync"
    );
    test.settled("labels and pods are there").await;
}

async fn maintenance(test: &Test, world: &World) {
    let units: Api<upm_crds::Unit> = Api::namespaced(test.client.clone(), PROJECT);
    let held = |value: Value| {
        Patch::Merge(json!({ "metadata": { "annotations": { annotation::MAINTENANCE: value } } }))
    };
    units
        .patch("demo-1", &PatchParams::default(), &held(json!("true")))
        .await
        .unwrap();
    world.forget().await;
    test.change(json!({ "restartedAt": "2026-02-02T00:00:00Z" }))
        .await;
    until("all but the held one restart", async || {
        test.reason(kind::PROGRESSING).await == "Maintenance"
    })
    .await;
    let ended = world.ended().await;
    assert_eq!(ended.len(), 2, "{ended:?}");
    assert!(!ended.contains(&"demo-1".to_owned()), "{ended:?}");
    units
        .patch("demo-1", &PatchParams::default(), &held(Value::Null))
        .await
        .unwrap();
    test.settled("the held one follows").await;
    assert_eq!(world.ended().await.len(), 3);
}

/// A cordoned node gives its pods away one by one, the primary last, each only when it was let go; the budget allows no eviction.
async fn drain(test: &Test, world: &World) {
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(test.client.clone(), PROJECT);
    let budget = budgets.get("demo-pdb").await.unwrap().spec.unwrap();
    let least = serde_json::to_value(budget.min_available).unwrap();
    assert_eq!(least, json!(3), "nobody who serves is evicted");
    until("the budget is counted", async || {
        let budget = budgets.get("demo-pdb").await.unwrap();
        budget.status.is_some_and(|status| {
            status.observed_generation == budget.metadata.generation && status.current_healthy == 3
        })
    })
    .await;
    let before = test.pods.get("demo-0").await.unwrap();
    // the client tries again and again when it is told to come back later
    let patience = std::time::Duration::from_secs(5);
    let params = EvictParams::default();
    let evicted = tokio::time::timeout(patience, test.pods.evict("demo-0", &params)).await;
    assert!(!matches!(evicted, Ok(Ok(_))), "evicted: {evicted:?}");
    let after = test.pods.get("demo-0").await.unwrap();
    assert_eq!(after.uid(), before.uid());
    assert_eq!(after.metadata.deletion_timestamp, None);
    let nodes: Api<Node> = Api::all(test.client.clone());
    let cordon = |yes: bool| Patch::Merge(json!({ "spec": { "unschedulable": yes } }));
    let primary = world.primary().await;
    world.forget().await;
    nodes
        .patch(NODES[0], &PatchParams::default(), &cordon(true))
        .await
        .unwrap();
    until("all pods are on the other node", async || {
        let pods = test.pods.list(&Default::default()).await.unwrap().items;
        pods.len() == 3
            && pods
                .iter()
                .all(|pod| facts::node_name(pod) == Some(NODES[1]) && facts::is_ready(pod))
    })
    .await;
    let ended = world.ended().await;
    assert_eq!(ended.len(), 3, "each once: {ended:?}");
    assert_eq!(ended.last(), Some(&primary), "the primary last: {ended:?}");
    assert!(world.most_unavailable().await <= 1, "one at a time");
    nodes
        .patch(NODES[0], &PatchParams::default(), &cordon(false))
        .await
        .unwrap();
    test.settled("after the drain").await;
}

/// Who is no pod of the agent's namespace does not reach the unit agents.
async fn network(test: &Test) {
    let policies: Api<NetworkPolicy> = Api::namespaced(test.client.clone(), PROJECT);
    let policy = policies.get("demo-network").await.unwrap();
    let spec = serde_json::to_value(policy.spec.unwrap()).unwrap();
    let of_agents = json!([{ "port": 2214, "protocol": "TCP" }]);
    let rules = spec["ingress"].as_array().unwrap();
    let rule = rules.iter().find(|rule| rule["ports"] == of_agents);
    let from = &rule.unwrap()["from"];
    let system = json!({ "kubernetes.io/metadata.name": SYSTEM });
    assert_eq!(from[0]["namespaceSelector"]["matchLabels"], system);
    // nobody else is let in there, and everybody everywhere else
    let opens = |port: i64| {
        rules.iter().any(|rule| {
            let ports = rule["ports"].as_array().unwrap().iter();
            let mut tcp = ports.filter(|one| one["protocol"] == "TCP");
            let holds = |one: &Value| {
                let first = one["port"].as_i64().unwrap();
                (first..=one["endPort"].as_i64().unwrap_or(first)).contains(&port)
            };
            rule.get("from").is_none() && tcp.any(holds)
        })
    };
    assert!(!opens(2214));
    assert!([1, 2213, 2215, 6379, 9121, 65_535].into_iter().all(opens));
    policies
        .delete("demo-network", &DeleteParams::default())
        .await
        .unwrap();
    until("the policy is made again", async || {
        policies.get_opt("demo-network").await.unwrap().is_some()
    })
    .await;
}

async fn scaling(test: &Test) {
    test.change(json!({ "units": 5, "unitService": { "type": "ClusterIP" } }))
        .await;
    test.settled("five units").await;
    test.change(json!({ "units": 2 })).await;
    test.settled("two units").await;
    assert_eq!(test.volumes().await.len(), 5, "volumes stay");
    until("what belonged to the others is gone", async || {
        let maps = test.maps.list(&Default::default()).await.unwrap().items;
        let secrets = test.secrets.list(&Default::default()).await.unwrap().items;
        let of = |name: &str| {
            !["demo-2", "demo-3", "demo-4"]
                .iter()
                .any(|gone| name.starts_with(gone))
        };
        maps.iter().all(|map| of(&map.name_any()))
            && secrets.iter().all(|secret| of(&secret.name_any()))
    })
    .await;
    test.change(json!({ "units": 3, "unitService": null }))
        .await;
    test.settled("three units on their old volumes").await;
}

async fn stopping(test: &Test, world: &World) {
    let primary = world.primary().await;
    world.forget().await;
    test.change(json!({ "startup": false })).await;
    until("it stops", async || {
        test.reason(kind::READY).await == "Stopped"
    })
    .await;
    assert_eq!(
        world.ended().await.last(),
        Some(&primary),
        "the primary stops last"
    );
    assert_eq!(test.volumes().await.len(), 5);
    test.change(json!({ "startup": true })).await;
    test.settled("it starts again").await;
}

async fn volumes(test: &Test, password: &[u8]) {
    assert_eq!(
        test.password().await,
        password,
        "the password never changed"
    );
    test.delete_set().await;
    assert_eq!(test.volumes().await.len(), 5, "volumes outlive the set");
    test.create_set(json!({})).await;
    until("it waits for a choice", async || {
        test.reason(kind::VOLUMES_RETAINED).await == "Refused"
    })
    .await;
    assert!(
        test.pods
            .list(&Default::default())
            .await
            .unwrap()
            .items
            .is_empty(),
        "nothing runs before it"
    );
    test.change(json!({ "retainedVolumes": "Adopt" })).await;
    test.settled("it runs on the adopted volumes").await;
    assert_eq!(test.password().await, password, "the data's password");

    test.delete_set().await;
    test.create_set(
        json!({ "retainedVolumes": "Discard", "units": 1, "volumeRetentionPolicy": "Delete" }),
    )
    .await;
    test.settled("it runs on new volumes").await;
    assert_eq!(test.volumes().await, ["demo-0-data"]);
    assert_ne!(test.password().await, password, "new data, new password");
    test.delete_set().await;
    assert!(
        test.volumes().await.is_empty(),
        "the volumes go when the policy says so"
    );
    assert!(
        test.secrets
            .get_opt("demo-credentials")
            .await
            .unwrap()
            .is_none()
    );
}
