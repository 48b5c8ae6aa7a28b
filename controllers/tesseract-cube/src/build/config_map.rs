//! The configuration's inputs. Every content has a key of its own, named by its digest, and pods name the key they use:
//! a running pod keeps its files until it is restarted, and a restart in the middle of an update finds the old ones.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ConfigMap, PodSpec};
use kube::ResourceExt as _;
use serde_json::json;
use upm_crds::UnitSet;
use upm_crds::names::{self, label};
use upm_operator::call::digest;

use super::{Map, set_meta};
use crate::package::Package;

/// Keys that a pod's configuration consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) template: String,
    pub(crate) unit_yaml: Option<String>,
    pub(crate) value: String,
}

impl Keys {
    /// The keys of these contents.
    pub(crate) fn of(type_: &str, package: &Package, value: &str) -> Self {
        Self {
            template: key(type_, &package.template),
            unit_yaml: package.unit_yaml().map(|text| key("unit.yaml", text)),
            value: key(type_, value),
        }
    }
}

fn key(prefix: &str, content: &str) -> String {
    format!("{prefix}.{}", digest(&json!(content)))
}

/// The template and `unit.yaml`, one map per set. `kept` are contents that pods still use.
pub(crate) fn template_map(set: &UnitSet, package: &Package, kept: Map) -> ConfigMap {
    let mut data = kept;
    let keys = Keys::of(&set.spec.type_, package, "");
    data.insert(keys.template, package.template.clone());
    // under its plain key the newest content, for people
    data.insert(set.spec.type_.clone(), package.template.clone());
    if let (Some(key), Some(text)) = (keys.unit_yaml, package.unit_yaml()) {
        data.insert(key, text.to_owned());
    }
    ConfigMap {
        metadata: set_meta(set, names::config_template(&set.name_any())),
        data: Some(data),
        ..ConfigMap::default()
    }
}

/// The values of one unit.
pub(crate) fn value_map(set: &UnitSet, ordinal: i32, value: &str, kept: Map) -> ConfigMap {
    let unit = names::unit_name(&set.name_any(), ordinal);
    let mut data = kept;
    data.insert(key(&set.spec.type_, value), value.to_owned());
    data.insert(set.spec.type_.clone(), value.to_owned());
    let mut metadata = set_meta(set, names::config_value(&unit));
    metadata
        .labels
        .get_or_insert_default()
        .insert(label::UNIT.to_owned(), unit);
    ConfigMap {
        metadata,
        data: Some(data),
        ..ConfigMap::default()
    }
}

/// What must stay in a map: everything while an update is under way, else only what pods mount.
pub(crate) fn kept(found: Option<&ConfigMap>, mounted: &BTreeSet<String>, updating: bool) -> Map {
    let data = found.and_then(|map| map.data.clone()).unwrap_or_default();
    // plain keys are written anew
    let revisioned = data.into_iter().filter(|(key, _)| {
        key.rsplit_once('.')
            .is_some_and(|(_, digest)| is_digest(digest))
    });
    revisioned
        .filter(|(key, _)| updating || mounted.contains(key))
        .collect()
}

fn is_digest(text: &str) -> bool {
    text.len() == 16
        && text
            .bytes()
            .all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}

/// The keys of the map that a pod mounts.
pub(crate) fn mounted(spec: &PodSpec, map: &str) -> BTreeSet<String> {
    let volumes = spec.volumes.iter().flatten();
    let sources = volumes
        .filter_map(|volume| volume.projected.as_ref()?.sources.as_ref())
        .flatten();
    let maps = sources
        .filter_map(|source| source.config_map.as_ref())
        .filter(|source| source.name == map);
    maps.flat_map(|source| source.items.iter().flatten())
        .map(|item| item.key.clone())
        .collect()
}
