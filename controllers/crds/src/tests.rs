use std::fs;
use std::path::PathBuf;

use upm_proto::kinds::{KINDS, Kind, Scope};

use super::*;

fn chart() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../helm/upm-agent/crds")
}

/// The resources of rules in the agent's chart: lists of names that its templates include.
fn rights() -> String {
    let list = |wanted: &dyn Fn(&Kind) -> bool| {
        let own = KINDS.iter().filter(|kind| kind.is_own() && wanted(kind));
        own.map(|kind| kind.plural).collect::<Vec<_>>()
    };
    let all = list(&|_| true);
    let below = |part: &str| {
        let parts: Vec<String> = all
            .iter()
            .map(|plural| format!("{plural}/{part}"))
            .collect();
        parts.join(", ")
    };
    let lists = [
        ("kinds", all.join(", ")),
        ("kinds.status", below("status")),
        ("kinds.finalizers", below("finalizers")),
        (
            "kinds.project",
            list(&|kind| kind.scope == Scope::Project).join(", "),
        ),
        (
            "kinds.projectIntents",
            list(&|kind| kind.scope == Scope::Project && kind.intent).join(", "),
        ),
    ];
    let mut text = String::from(
        "{{- /* Generated from proto/src/kinds.rs. Do not edit: UPDATE=1 cargo test -p upm-crds */ -}}\n",
    );
    for (name, resources) in lists {
        text += &format!("{{{{- define \"upm-agent.{name}\" -}}}}{resources}{{{{- end -}}}}\n");
    }
    text
}

#[test]
fn the_charts_rights_are_those_of_the_table_of_kinds() {
    let file = chart().join("../templates/_kinds.tpl");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, rights()).unwrap();
    }
    assert!(
        fs::read_to_string(&file).unwrap_or_default() == rights(),
        "{} is stale: run UPDATE=1 cargo test -p upm-crds",
        file.display()
    );
}

#[test]
fn the_table_of_kinds_has_every_definition_and_no_other() {
    let row = |group: &str, version: &str, kind: &str, plural: &str, namespaced: bool| {
        format!("{group}/{version} {kind} {plural} {namespaced}")
    };
    let mut defined: Vec<String> = all()
        .iter()
        .map(|crd| {
            let (spec, names) = (&crd.spec, &crd.spec.names);
            let version = &spec.versions[0].name;
            let namespaced = spec.scope == "Namespaced";
            row(&spec.group, version, &names.kind, &names.plural, namespaced)
        })
        .collect();
    let mut listed: Vec<String> = KINDS
        .iter()
        .filter(|kind| kind.is_own())
        .map(|kind| {
            let namespaced = kind.scope == Scope::Project;
            row(kind.group, kind.version, kind.kind, kind.plural, namespaced)
        })
        .collect();
    defined.sort();
    listed.sort();
    assert_eq!(defined, listed);
}

fn yaml(crd: &CustomResourceDefinition) -> String {
    format!(
        "# Generated from controllers/crds. Do not edit: UPDATE=1 cargo test -p upm-crds\n{}",
        serde_yaml::to_string(&manifest(crd)).unwrap()
    )
}

#[test]
fn the_chart_carries_the_definitions_of_the_types() {
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(chart()).unwrap();
        for crd in all() {
            fs::write(chart().join(file_name(&crd)), yaml(&crd)).unwrap();
        }
    }
    for crd in all() {
        let file = chart().join(file_name(&crd));
        let found = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            found == yaml(&crd),
            "{} is stale: run UPDATE=1 cargo test -p upm-crds",
            file.display()
        );
    }
}

/// Walks a schema and calls `visit` on every object schema with its path.
fn walk(path: &str, schema: &serde_json::Value, visit: &mut impl FnMut(&str, &serde_json::Value)) {
    visit(path, schema);
    if let Some(properties) = schema["properties"].as_object() {
        for (name, property) in properties {
            walk(&format!("{path}.{name}"), property, visit);
        }
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(
            &format!("{path}{{}}"),
            &schema["additionalProperties"],
            visit,
        );
    }
}

fn schemas() -> Vec<(String, serde_json::Value)> {
    all()
        .iter()
        .map(|crd| {
            let manifest = manifest(crd);
            let schema = manifest["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
            (crd.spec.names.kind.clone(), schema)
        })
        .collect()
}

#[test]
fn every_list_of_ours_is_bounded() {
    for (kind, schema) in schemas() {
        walk(&kind, &schema, &mut |path, schema| {
            assert!(
                schema["type"] != "array" || schema["maxItems"].is_number(),
                "{path} has no maxItems"
            );
        });
    }
}

#[test]
fn every_schema_is_structural() {
    for (kind, schema) in schemas() {
        walk(&kind, &schema, &mut |path, schema| {
            for outside in ["$ref", "definitions", "oneOf", "allOf"] {
                assert!(schema.get(outside).is_none(), "{path} uses {outside}");
            }
            assert!(
                schema["type"].is_string() || schema["x-kubernetes-int-or-string"] == true,
                "{path} has no type"
            );
        });
    }
}

#[test]
fn every_definition_has_a_status_subresource_and_columns() {
    for crd in all() {
        let version = &crd.spec.versions[0];
        assert!(version.subresources.as_ref().unwrap().status.is_some());
        assert!(
            version.additional_printer_columns.as_ref().unwrap().len() > 2,
            "{}",
            crd.spec.names.kind
        );
        assert_eq!(crd.spec.group, names::GROUP);
    }
}

#[test]
fn a_set_of_today_is_read_as_it_is() {
    let set: UnitSet = serde_yaml::from_str(
        r"
apiVersion: upm.syntropycloud.io/v1alpha2
kind: UnitSet
metadata: { name: demo, namespace: p1 }
spec:
  type: mysql
  edition: community
  version: 8.0.41
  units: 2
  env: [{ name: ADM_USER, value: radminuser }]
  resources: { limits: { cpu: '1', memory: 1Gi } }
  podAntiAffinityPreset: hard
  updateStrategy: { type: RollingUpdate, rollingUpdate: { partition: 0, maxUnavailable: 1 } }
  externalService: { type: NodePort }
  unitService: { type: ClusterIP }
  storage: [{ name: data, size: 10Gi, mountPath: /DATA_MOUNT }]
  emptyDir: [{ name: log, size: 1Gi, mountPath: /LOG_MOUNT }]
  extraVolume:
    - volume: { name: unit-secret, secret: { secretName: demo-secret } }
      volumeMountPath: /SECRET_MOUNT
  podMonitor: { enable: true, endpoints: [{ port: metrics }] }
",
    )
    .unwrap();
    assert_eq!(set.spec.package_name(), "mysql-community-8.0.41");
    assert!(set.spec.startup, "a set without startup runs");
    assert_eq!(set.spec.storage[0].storage_class_name, None);
    assert_eq!(set.spec.validate(), []);
}

#[test]
fn a_replication_of_today_is_read_as_it_is() {
    let replication: RedisReplication = serde_yaml::from_str(
        r"
apiVersion: upm.syntropycloud.io/v1alpha1
kind: RedisReplication
metadata: { name: demo, namespace: p1 }
spec:
  secret: { name: demo-secret }
  source: { name: demo-0, host: demo-0.demo-headless-svc.p1, port: 6379 }
  replica: [{ name: demo-1, host: demo-1.demo-headless-svc.p1, port: 6379, isolated: true }]
  service: { type: ClusterIP }
",
    )
    .unwrap();
    assert_eq!(replication.spec.secret.redis, "default");
    assert_eq!(
        replication.spec.data_loss_policy,
        redis_replication::DataLossPolicy::Never
    );
    assert_eq!(replication.spec.validate(), []);
}

#[test]
fn a_units_name_gives_its_ordinal_and_nothing_else_does() {
    assert_eq!(names::ordinal("demo", "demo-12"), Some(12));
    for other in [
        "demo", "demo-", "demo-01", "demo-a", "demo-1-x", "other-1", "demo--1",
    ] {
        assert_eq!(names::ordinal("demo", other), None, "{other}");
    }
}

#[test]
fn project_without_a_spec_is_accepted_as_one_with_an_empty_spec() {
    let (_, schema) = schemas().swap_remove(0);
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    assert!(
        !required.contains(&serde_json::json!("spec")),
        "{required:?}"
    );
    assert_eq!(
        schema["properties"]["spec"]["default"],
        serde_json::json!({})
    );
}

#[test]
fn status_of_a_set_without_external_service_is_read() {
    let status: UnitSetStatus =
        serde_json::from_value(serde_json::json!({ "externalService": {} })).unwrap();
    assert_eq!(status.external_service.unwrap().name, "");
}
