//! What holds for the charts without rendering them; `make check` renders them.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

const CHARTS: [&str; 2] = ["upm-agent", "upm-platform"];

fn file(path: &str) -> String {
    let path: PathBuf = super::root().join("helm").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(path: &str) -> Value {
    serde_yaml::from_str(&file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn charts_have_the_version_of_the_workspace() {
    let manifest: toml::Table = fs::read_to_string(super::root().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let version = manifest["workspace"]["package"]["version"].as_str();
    for chart in CHARTS {
        let chart = yaml(&format!("{chart}/Chart.yaml"));
        assert_eq!(chart["version"].as_str(), version);
        assert_eq!(chart["appVersion"].as_str(), version);
    }
}

#[test]
fn every_value_is_in_the_schema_and_every_property_has_a_default() {
    for chart in CHARTS {
        let schema: Value =
            serde_json::from_str(&file(&format!("{chart}/values.schema.json"))).unwrap();
        let values = yaml(&format!("{chart}/values.yaml"));
        let keys = |value: &Value| -> BTreeSet<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        let mut properties = keys(&schema["properties"]);
        properties.remove("global"); // of helm itself
        assert_eq!(keys(&values), properties, "{chart}");
        assert_eq!(schema["additionalProperties"], false, "{chart}");
    }
}

#[test]
fn the_agent_may_write_every_custom_resource_and_its_status() {
    let role = file("upm-agent/templates/cluster-role.yaml");
    for list in ["kinds", "kinds.status", "kinds.finalizers"] {
        let included = format!("resources: [{{{{ include \"upm-agent.{list}\" . }}}}]");
        assert!(role.contains(&included), "{included}");
    }
    let role = file("upm-agent/templates/_kinds.tpl");
    let folder = super::root().join("helm/upm-agent/crds");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let crd = yaml(&format!("upm-agent/crds/{name}"));
        let plural = crd["spec"]["names"]["plural"].as_str().unwrap();
        for resource in [
            plural.to_owned(),
            format!("{plural}/status"),
            format!("{plural}/finalizers"),
        ] {
            let granted = role
                .split(['}', '{', ',', ' '])
                .any(|word| word == resource);
            assert!(granted, "the agent's cluster role lacks {resource}");
        }
    }
}
