//! A set and a package as tests use them, and what is built from them.

use k8s_openapi::api::core::v1::{ConfigMap, PodTemplate};
use kube::ResourceExt as _;
use serde_json::json;
use upm_crds::names::{annotation, label};
use upm_crds::unit_set::ServiceType;
use upm_crds::{Unit, UnitSet};
use upm_operator::Settings;
use upm_operator::call::covers;

use super::config_map::{Keys, kept, mounted, template_map, value_map};
use super::pod::{Inputs, pod, revision_of, template};
use super::{service, unit, volume};
use crate::package::Package;

const SET: &str = r"
apiVersion: upm.syntropycloud.io/v1alpha2
kind: UnitSet
metadata:
  name: demo
  namespace: p1
  uid: uid-1
  generation: 1
  labels: { team: blue, app.kubernetes.io/managed-by: upm-agent }
  annotations: { upm.syntropycloud.io/traceparent: 00-1-2-01, team/mail: a@b }
spec:
  type: redis
  version: 7.0.15
  units: 3
  resources: { limits: { cpu: '1', memory: 1Gi }, requests: { cpu: 100m, memory: 1Gi } }
  env: [{ name: TZ, value: UTC }]
  storage: [{ name: data, size: 1Gi, mountPath: /data }]
  generatedSecret: { name: demo-credentials, keys: [default] }
";

const POD: &str = r"
apiVersion: v1
kind: PodTemplate
metadata:
  name: redis-7.0.15
  annotations: { upm.syntropycloud.io/unit.yaml: 'type: redis' }
template:
  spec:
    securityContext: { runAsNonRoot: true, runAsUser: 6379, fsGroup: 6379 }
    containers:
    - name: redis
      image: redis:7.0.15
      ports: [{ name: redis, containerPort: 6379 }, { name: unit-agent, containerPort: 2214 }]
      env: [{ name: UNIT_SN, value: '99' }, { name: MODE, value: $(SERVICE_NAME) }]
      securityContext: { allowPrivilegeEscalation: false }
      volumeMounts: [{ name: upm-run, mountPath: /upm/run }]
    - name: exporter
      image: exporter:1
    volumes: [{ name: upm-run, emptyDir: { medium: Memory, sizeLimit: 8Mi } }]
";

pub(crate) fn set() -> UnitSet {
    serde_yaml::from_str(SET).unwrap()
}

pub(crate) fn package() -> Package {
    let pod: PodTemplate = serde_yaml::from_str(POD).unwrap();
    Package {
        name: "redis-7.0.15".into(),
        template: "port 6379".into(),
        value: "redis: {}".into(),
        pod,
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        image_prefix: "upm.local/".into(),
        unit_agent_image: "unit-agent:1".into(),
        ..Settings::default()
    }
}

pub(crate) fn unit_of(set: &UnitSet, package: &Package, ordinal: i32) -> Unit {
    let keys = Keys::of(&set.spec.type_, package, "redis: {}");
    let settings = settings();
    let mut unit = unit::unit(
        set,
        ordinal,
        template(Inputs {
            set,
            package,
            ordinal,
            keys: &keys,
            settings: &settings,
            started_for: None,
        }),
        true,
    );
    unit.metadata.uid = Some(format!("unit-{ordinal}"));
    unit
}

#[test]
fn makes_the_pod_of_the_contract() {
    let (set, package) = (set(), package());
    let pod = pod(&unit_of(&set, &package, 1));
    insta::assert_yaml_snapshot!(pod);
}

#[test]
fn changes_the_revision_with_everything_that_needs_a_restart_and_nothing_else() {
    let (set, package) = (set(), package());
    let revision = |set: &UnitSet, package: &Package| {
        revision_of(&unit_of(set, package, 0).spec.template.annotations)
    };
    let before = revision(&set, &package);
    let changed = |change: &dyn Fn(&mut UnitSet)| {
        let mut other = set.clone();
        change(&mut other);
        revision(&other, &package) != before
    };
    assert!(changed(&|set| set.spec.version = "7.0.16".into()));
    assert!(changed(&|set| set.spec.restarted_at = Some("now".into())));
    assert!(changed(&|set| set.spec.resources = None));
    assert!(changed(&|set| set.spec.env.clear()));
    assert!(changed(&|set| set.spec.pod_anti_affinity_preset =
        Some(upm_crds::unit_set::PodAntiAffinityPreset::Hard)));
    assert!(changed(
        &|set| set.spec.storage[0].mount_path = "/other".into()
    ));
    assert!(!changed(&|set| set.spec.units = 5));
    assert!(!changed(&|set| set.spec.storage[0].size.0 = "2Gi".into()));
    assert!(!changed(
        &|set| _ = set.labels_mut().insert("team".into(), "red".into())
    ));
    assert!(!changed(
        &|set| set.spec.external_service = Some(upm_crds::unit_set::ServiceTemplate::default())
    ));

    let mut config = package.clone();
    config.template.push_str("\nhz 50");
    assert_ne!(revision(&set, &config), before);
    let mut image = package.clone();
    image
        .pod
        .template
        .as_mut()
        .unwrap()
        .spec
        .as_mut()
        .unwrap()
        .containers[0]
        .image = Some("redis:7.0.16".into());
    assert_ne!(revision(&set, &image), before);
}

#[test]
fn an_upgrade_of_the_unit_agent_restarts_nobody() {
    let (set, package) = (set(), package());
    let keys = Keys::of("redis", &package, "");
    let with = |image: &str| {
        let settings = Settings {
            unit_agent_image: image.into(),
            ..settings()
        };
        template(Inputs {
            set: &set,
            package: &package,
            ordinal: 0,
            keys: &keys,
            settings: &settings,
            started_for: None,
        })
    };
    let (old, new) = (with("unit-agent:1"), with("unit-agent:2"));
    assert_ne!(old.spec, new.spec);
    assert_eq!(revision_of(&old.annotations), revision_of(&new.annotations));
}

#[test]
fn requires_every_preset_of_nodes_in_every_alternative_of_the_package() {
    let (mut set, mut package) = (set(), package());
    set.spec.node_affinity_preset = serde_json::from_value(json!([
        { "key": "disk", "values": ["ssd"] }, { "key": "zone", "values": ["a", "b"] }
    ]))
    .unwrap();
    package
        .pod
        .template
        .as_mut()
        .unwrap()
        .spec
        .as_mut()
        .unwrap()
        .affinity = serde_json::from_value(json!({
        "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": "arch", "operator": "In", "values": ["amd64"] }] },
            { "matchExpressions": [{ "key": "arch", "operator": "In", "values": ["arm64"] }] }
        ] } }
    }))
    .unwrap();
    let affinity = unit_of(&set, &package, 0)
        .spec
        .template
        .spec
        .affinity
        .unwrap();
    let required = affinity
        .node_affinity
        .unwrap()
        .required_during_scheduling_ignored_during_execution
        .unwrap();
    for term in required.node_selector_terms {
        let keys: Vec<_> = term
            .match_expressions
            .unwrap()
            .into_iter()
            .map(|expression| expression.key)
            .collect();
        assert_eq!(keys, ["arch", "disk", "zone"]);
    }
}

#[test]
fn leaves_the_storage_class_to_the_cluster_when_none_is_named() {
    let set = set();
    let unit = unit_of(&set, &package(), 0);
    let claim = volume::claim(&unit, &unit.spec.volume_claim_templates[0]);
    let json = serde_json::to_value(&claim).unwrap();
    assert!(json["spec"].get("storageClassName").is_none());
    assert!(
        json["metadata"].get("ownerReferences").is_none(),
        "a volume is nobody's child"
    );
    assert_eq!(claim.name_any(), "demo-0-data");
    assert!(volume::belongs_to(&claim, "uid-1") && !volume::belongs_to(&claim, "uid-2"));
    assert_eq!(claim.labels()[label::UNIT_SET], "demo");
}

#[test]
fn publishes_addresses_that_are_not_ready_only_for_host_names() {
    let (set, package) = (set(), package());
    let publishes = |service: &k8s_openapi::api::core::v1::Service| {
        service.spec.as_ref().unwrap().publish_not_ready_addresses
    };
    assert_eq!(publishes(&service::headless(&set, &package)), Some(true));
    assert_eq!(
        publishes(&service::external(&set, &package, ServiceType::NodePort)),
        None
    );
    let unit = service::unit(&set, &package, 2, ServiceType::ClusterIp);
    assert_eq!(publishes(&unit), None);
    assert!(covers(
        &json!(unit),
        &json!({
            "metadata": { "name": "demo-2-svc" },
            "spec": { "selector": { label::UNIT: "demo-2" }, "ports": [{ "name": "redis", "port": 6379 }] }
        })
    ));
}

#[test]
fn keeps_the_files_of_running_pods_and_drops_those_nobody_uses() {
    let (set, old) = (set(), package());
    let mut new = old.clone();
    new.template = "port 6380".into();
    let running = unit_of(&set, &old, 0).spec.template.spec;
    let used = mounted(&running, "demo-config-template");
    assert_eq!(used.len(), 2, "the template and unit.yaml");

    let first = template_map(&set, &old, super::Map::new());
    let second = template_map(&set, &new, kept(Some(&first), &used, false));
    let old_key = Keys::of("redis", &old, "").template;
    assert_eq!(second.data.as_ref().unwrap()[&old_key], "port 6379");
    assert_eq!(second.data.as_ref().unwrap()["redis"], "port 6380");
    let third = template_map(
        &set,
        &new,
        kept(Some(&second), &mounted(&running, "other"), true),
    );
    assert_eq!(
        third.data, second.data,
        "nothing goes while an update is under way"
    );
    let fourth = template_map(
        &set,
        &new,
        kept(Some(&second), &mounted(&running, "other"), false),
    );
    assert!(!fourth.data.unwrap().contains_key(&old_key));
}

#[test]
fn names_what_a_package_lacks() {
    let set = set();
    let map = |key: &str| -> ConfigMap {
        serde_json::from_value(json!({ "data": { key: "x" } })).unwrap()
    };
    let pods: PodTemplate = package().pod;
    let read =
        |template: Option<&ConfigMap>, value: Option<&ConfigMap>, pods: Option<&PodTemplate>| {
            Package::read(&set.spec, template, value, pods).map_err(|missing| missing.to_string())
        };
    assert!(read(Some(&map("redis")), Some(&map("redis")), Some(&pods)).is_ok());
    assert_eq!(
        read(None, None, None).unwrap_err(),
        "ConfigMap redis-7.0.15-config-template does not exist"
    );
    assert_eq!(
        read(Some(&map("redis")), Some(&map("mysql")), Some(&pods)).unwrap_err(),
        "ConfigMap redis-7.0.15-config-value has no key redis"
    );
    assert_eq!(
        read(Some(&map("redis")), Some(&map("redis")), None).unwrap_err(),
        "PodTemplate redis-7.0.15 does not exist"
    );
}

#[test]
fn hands_down_labels_and_the_trace_but_not_what_others_wrote() {
    let set = set();
    let unit = unit_of(&set, &package(), 0);
    assert_eq!(unit.labels()["team"], "blue");
    assert_eq!(unit.labels()[label::MANAGED_BY], label::TESSERACT_CUBE);
    assert_eq!(unit.annotations()[annotation::TRACEPARENT], "00-1-2-01");
    let template = &unit.spec.template;
    assert_eq!(template.annotations["team/mail"], "a@b");
    assert!(!template.annotations.contains_key(annotation::TRACEPARENT));
}

#[test]
fn gives_one_units_values_a_map_of_their_own() {
    let map = value_map(&set(), 2, "redis: {}", super::Map::new());
    assert_eq!(map.name_any(), "demo-2-config-value");
    assert_eq!(map.data.unwrap().len(), 2);
}

/// The Pod Security Standard `restricted`, by its rules for what these pods have.
#[test]
fn pods_of_the_shipped_package_are_restricted() {
    let shipped = include_str!("../../../../helm/packages/redis-7.0.15/pod-template.yaml");
    let package = Package {
        pod: serde_yaml::from_str(shipped).unwrap(),
        ..package()
    };
    let pod = pod(&unit_of(&set(), &package, 0));
    let spec = serde_json::to_value(pod.spec.unwrap()).unwrap();
    let security = &spec["securityContext"];
    assert_eq!(security["runAsNonRoot"], json!(true));
    assert_eq!(security["seccompProfile"]["type"], json!("RuntimeDefault"));
    let init = spec["initContainers"].as_array().unwrap();
    let main = spec["containers"].as_array().unwrap();
    assert_eq!((init.len(), main.len()), (1, 1));
    for container in init.iter().chain(main) {
        let (name, security) = (&container["name"], &container["securityContext"]);
        let escalates = &security["allowPrivilegeEscalation"];
        assert_eq!(*escalates, json!(false), "{name}");
        assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}), "{name}");
        assert_eq!(security.get("privileged"), None, "{name}");
    }
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        assert_eq!(spec.get(host), None);
    }
    let allowed = [
        "configMap",
        "downwardAPI",
        "emptyDir",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    for volume in spec["volumes"].as_array().unwrap() {
        let kinds = volume.as_object().unwrap().keys();
        let kinds: Vec<_> = kinds.filter(|key| *key != "name").collect();
        assert_eq!(kinds.len(), 1, "{volume}");
        assert!(allowed.contains(&kinds[0].as_str()), "{volume}");
    }
}
