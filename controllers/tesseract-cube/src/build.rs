//! What is made for a set, as pure functions from specs to objects.

pub(crate) mod config_map;
pub(crate) mod disruption;
pub(crate) mod grant;
pub(crate) mod identity;
pub(crate) mod namespace;
pub(crate) mod network;
pub(crate) mod pod;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod unit;
pub(crate) mod volume;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt as _};
use upm_crds::names::{self, label};
use upm_crds::{Unit, UnitSet};

pub(crate) type Map = BTreeMap<String, String>;

/// A reference that makes `owner` the controller of what carries it; deleting the owner deletes that first.
pub(crate) fn owner<K: Resource<DynamicType = ()>>(owner: &K) -> Option<OwnerReference> {
    Some(OwnerReference {
        block_owner_deletion: Some(true),
        ..owner.controller_owner_ref(&())?
    })
}

/// Labels of everything that is made for a set.
pub(crate) fn labels(set: &str) -> Map {
    Map::from([
        (label::UNIT_SET.to_owned(), set.to_owned()),
        (
            label::MANAGED_BY.to_owned(),
            label::TESSERACT_CUBE.to_owned(),
        ),
    ])
}

/// Metadata of an object that belongs to a set and goes with it.
pub(crate) fn set_meta(set: &UnitSet, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: set.namespace(),
        labels: Some(labels(&set.name_any())),
        owner_references: owner(set).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// The set that an object belongs to: by its owner, and by its label for what has none. A label can be changed by anybody.
pub(crate) fn set_of_object<K: Resource>(object: &K) -> Option<String> {
    let owner = |kind: &str| {
        let owners = object.owner_references().iter();
        owners
            .filter(|owner| owner.kind == kind && owner.api_version.starts_with(names::GROUP))
            .map(|owner| owner.name.as_str())
            .next()
    };
    owner("UnitSet")
        .or_else(|| owner("Unit").and_then(names::set_of_unit))
        .or_else(|| object.labels().get(label::UNIT_SET).map(String::as_str))
        .map(str::to_owned)
}

/// The unit that an object belongs to, as [`set_of_object`].
pub(crate) fn unit_of_object<K: Resource>(object: &K) -> Option<String> {
    let owners = object.owner_references().iter();
    owners
        .filter(|owner| owner.kind == "Unit" && owner.api_version.starts_with(names::GROUP))
        .map(|owner| owner.name.clone())
        .next()
        .or_else(|| object.labels().get(label::UNIT).cloned())
}

/// The set of a unit, also for units of earlier versions that name it only in a label.
pub(crate) fn set_of(unit: &Unit) -> String {
    if unit.spec.unit_set.is_empty() {
        unit.labels()
            .get(label::UNIT_SET)
            .cloned()
            .unwrap_or_default()
    } else {
        unit.spec.unit_set.clone()
    }
}

#[cfg(test)]
pub(crate) mod tests;
