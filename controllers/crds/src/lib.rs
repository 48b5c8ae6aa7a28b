//! The custom resources of the engine as Rust types, their names, conditions and validation.
//!
//! Everything here is a value: no client, no clock. The YAML in `helm/upm-agent/crds` is generated from these types.

pub mod conditions;
pub mod leave;
pub mod names;
pub mod project;
pub mod quantity;
pub mod redis_replication;
mod schema;
pub mod unit;
pub mod unit_set;
pub mod validate;

pub use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
pub use project::{Project, ProjectSpec, ProjectStatus};
pub use redis_replication::{RedisReplication, RedisReplicationSpec, RedisReplicationStatus};
pub use unit::{Unit, UnitSpec, UnitStatus};
pub use unit_set::{UnitSet, UnitSetSpec, UnitSetStatus};
pub use validate::{FieldError, Validate};

use kube::CustomResourceExt as _;
use serde_json::json;

/// Every definition of the group, in the order in which they are applied.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        schema::optional_spec(schema::finish(
            Project::crd(),
            &[schema::rule(
                "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",
                "a project's name is the name of its namespace: a letter, then letters, digits and '-', at most 63",
            )],
        )),
        schema::finish(
            UnitSet::crd(),
            &[schema::rule(
                &format!(
                    "self.metadata.name.size() <= {} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                    names::MAX_SET_NAME
                ),
                "names of services and pods are made from it: a letter, then letters, digits and '-', at most 45",
            )],
        ),
        schema::finish(Unit::crd(), &[]),
        schema::finish(
            RedisReplication::crd(),
            &[schema::rule(
                &format!("self.metadata.name.size() <= {}", names::MAX_SET_NAME),
                "names of services are made from it: at most 45 characters",
            )],
        ),
    ]
}

/// The file of one definition in the chart: a comment that it is generated, then the YAML.
pub fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}.yaml", crd.spec.names.plural)
}

/// The definition as the chart carries it (without the empty status that the types make).
pub fn manifest(crd: &CustomResourceDefinition) -> serde_json::Value {
    let mut value = json!(crd);
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    value
}

#[cfg(test)]
mod tests;
