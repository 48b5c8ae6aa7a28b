//! Dependencies point one way.

use std::collections::{BTreeMap, BTreeSet};

use super::members;

/// What the module of an engine may depend on: every other folder below `services`.
const ENGINE: [&str; 5] = [
    "proto",
    "services/mesh",
    "services/store",
    "services/engine",
    "controllers/crds",
];

/// What each other folder may depend on, directly.
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("proto/codegen", &[]),
    ("services/mesh", &["proto"]),
    ("services/store", &["proto", "services/mesh"]),
    (
        "services/hub",
        &["proto", "services/mesh", "services/store"],
    ),
    (
        "services/auth",
        &["proto", "services/mesh", "services/store"],
    ),
    (
        "services/user",
        &["proto", "services/mesh", "services/store"],
    ),
    (
        "services/resource",
        &["proto", "services/mesh", "services/store"],
    ),
    (
        "services/operatorlog",
        &["proto", "services/mesh", "services/store"],
    ),
    (
        "services/engine",
        &[
            "proto",
            "services/mesh",
            "services/store",
            "controllers/crds",
        ],
    ),
    (
        "services/launch",
        &[
            "proto",
            "services/mesh",
            "services/store",
            "services/hub",
            "services/engine",
            "services/auth",
            "services/user",
            "services/resource",
            "services/operatorlog",
            "gateway",
        ],
    ),
    ("controllers/crds", &["proto"]),
    ("controllers/operator", &["controllers/crds"]),
    (
        "controllers/tesseract-cube",
        &["proto", "controllers/crds", "controllers/operator"],
    ),
    (
        "controllers/kauntlet",
        &["proto", "controllers/crds", "controllers/operator"],
    ),
    (
        "agent/cluster",
        &[
            "proto",
            "services/mesh",
            "controllers/crds",
            "controllers/operator",
            "controllers/tesseract-cube",
            "controllers/kauntlet",
        ],
    ),
    ("agent/unit", &["proto"]),
    ("gateway/transcode", &[]),
    ("gateway", &["proto", "services/mesh", "gateway/transcode"]),
    ("integration", &[]),
];

#[test]
fn every_crate_depends_only_on_what_the_architecture_allows() {
    let members = members();
    let folders: BTreeMap<&str, &str> = members
        .iter()
        .map(|(folder, manifest)| {
            let name = manifest["package"]["name"]
                .as_str()
                .expect("a crate has a name");
            (name, folder.as_str())
        })
        .collect();
    let arrows: BTreeMap<_, BTreeSet<_>> = ARROWS
        .iter()
        .map(|(folder, allowed)| (*folder, allowed.iter().copied().collect()))
        .collect();
    let is_engine = |folder: &str| folder.starts_with("services/") && !arrows.contains_key(folder);
    let engine = BTreeSet::from(ENGINE);
    for (folder, manifest) in &members {
        let allowed = match arrows.get(folder.as_str()) {
            Some(allowed) => allowed,
            None if is_engine(folder) => &engine,
            None => panic!("{folder} has no place in the architecture"),
        };
        for section in ["dependencies", "build-dependencies"] {
            for name in manifest
                .get(section)
                .and_then(|d| d.as_table())
                .into_iter()
                .flat_map(toml::Table::keys)
            {
                if let Some(target) = folders.get(name.as_str()) {
                    let hosted = folder == "services/launch" && is_engine(target);
                    assert!(
                        allowed.contains(target) || hosted,
                        "{folder} must not depend on {target}"
                    );
                }
            }
        }
    }
}

#[test]
fn versions_and_features_are_written_once() {
    for (folder, manifest) in members() {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in manifest
                .get(section)
                .and_then(|d| d.as_table())
                .into_iter()
                .flatten()
            {
                let inherited = value.get("workspace").and_then(toml::Value::as_bool);
                assert_eq!(
                    inherited,
                    Some(true),
                    "{folder}: {name} is not `workspace = true`"
                );
            }
        }
        let lints = manifest.get("lints").and_then(|l| l.get("workspace"));
        assert!(
            lints.is_some(),
            "{folder} does not take the workspace's lints"
        );
    }
}
