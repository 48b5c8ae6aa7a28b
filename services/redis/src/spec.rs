//! What the user wants, parsed. What does not parse names its field.

use std::collections::BTreeMap;

use crds::quantity;
use engine::{Access, Manifest, parameters, pool::Placement};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use mesh::FieldViolation;
use serde::{Deserialize, Serialize};
use upm_proto::{redis::v1 as pb, resource::v1::Software};

use crate::memory;

/// Where a spec is in a request.
pub(crate) const FIELD: &str = "redis_service.spec";
/// The most members.
pub(crate) const MAX_MEMBERS: i32 = 9;

const DEFAULT_CPU: &str = "500m";
const DEFAULT_MEMORY: &str = "256Mi";
const DEFAULT_VOLUME: &str = "1Gi";

/// A spec that can be run, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RedisSpec {
    /// Cluster id.
    pub(crate) cluster: String,
    /// For example `7.0.15`.
    pub(crate) version: String,
    /// 1 to 9.
    pub(crate) members: u32,
    /// A Kubernetes quantity.
    pub(crate) cpu: String,
    /// A Kubernetes quantity.
    pub(crate) memory: String,
    /// A Kubernetes quantity.
    pub(crate) volume_size: String,
    /// `None` for the cluster's default.
    pub(crate) storage_class: Option<String>,
    /// Over the package's defaults.
    pub(crate) parameters: BTreeMap<String, String>,
    /// What an unplanned failover may lose.
    pub(crate) data_loss: DataLoss,
    /// Where members may run.
    pub(crate) placement: Placement,
    /// What clients need, as the package says.
    pub(crate) access: Access,
}

/// What an unplanned failover may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DataLoss {
    Never,
    Bounded,
}

/// A spec as far as it can be understood without the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wish {
    /// Cluster id; `None` for the only one.
    pub(crate) cluster: Option<String>,
    /// `None` for the newest.
    pub(crate) version: Option<String>,
    pub(crate) members: u32,
    cpu: String,
    memory: String,
    volume_size: String,
    storage_class: Option<String>,
    parameters: BTreeMap<String, String>,
    data_loss: DataLoss,
    placement: Placement,
}

impl Wish {
    /// Reads a spec; all that is wrong with it at once.
    pub(crate) fn parse(spec: Option<&pb::RedisSpec>) -> Result<Self, Vec<FieldViolation>> {
        let Some(spec) = spec else {
            return Err(vec![violation(FIELD, "is required")]);
        };
        let mut wrong = Vec::new();
        let storage = spec.storage.clone().unwrap_or_default();
        let wish = Self {
            cluster: cluster(&spec.cluster, &mut wrong),
            version: Some(spec.version.clone()).filter(|version| !version.is_empty()),
            members: members(spec.members, &field("members"), &mut wrong),
            cpu: amount(
                &spec.cpu,
                DEFAULT_CPU,
                "50m",
                "128",
                &field("cpu"),
                &mut wrong,
            ),
            memory: amount(
                &spec.memory,
                DEFAULT_MEMORY,
                "64Mi",
                "4Ti",
                &field("memory"),
                &mut wrong,
            ),
            volume_size: amount(
                &storage.size,
                DEFAULT_VOLUME,
                "100Mi",
                "64Ti",
                &field("storage.size"),
                &mut wrong,
            ),
            storage_class: storage_class(&storage.storage_class, &mut wrong),
            parameters: spec.parameters.clone().into_iter().collect(),
            data_loss: data_loss(spec.data_loss_policy, &mut wrong),
            placement: placement(spec.placement, &mut wrong),
        };
        if wrong.is_empty() {
            Ok(wish)
        } else {
            Err(wrong)
        }
    }

    /// The spec on this cluster with this software; what its parameters have to do with it is checked here.
    pub(crate) fn resolve(
        self,
        cluster: &str,
        software: &Software,
    ) -> Result<RedisSpec, Vec<FieldViolation>> {
        let manifest = Manifest::of(software);
        let access = manifest
            .access(&field("version"))
            .map_err(|refused| vec![refused])?;
        let mut wrong = parameters::check(&self.parameters, software, &field("parameters"));
        wrong.extend(memory::check(&self.parameters, &self.memory));
        wrong.extend(manifest.refuse_small(&self.volume_size, &field("storage.size")));
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(RedisSpec {
            cluster: cluster.to_owned(),
            version: software.version.clone(),
            members: self.members,
            cpu: self.cpu,
            memory: self.memory,
            volume_size: self.volume_size,
            storage_class: self.storage_class,
            parameters: self.parameters,
            data_loss: self.data_loss,
            placement: self.placement,
            access,
        })
    }
}

/// The path of a field of the spec.
pub(crate) fn field(name: &str) -> String {
    format!("{FIELD}.{name}")
}

pub(crate) fn violation(
    field: impl Into<String>,
    description: impl Into<String>,
) -> FieldViolation {
    FieldViolation {
        field: field.into(),
        description: description.into(),
    }
}

/// A number of members.
pub(crate) fn members(wanted: i32, field: &str, wrong: &mut Vec<FieldViolation>) -> u32 {
    if !(1..=MAX_MEMBERS).contains(&wanted) {
        wrong.push(violation(
            field,
            format!("{wanted} is not between 1 and {MAX_MEMBERS}; three and more survive the loss of a member"),
        ));
    }
    u32::try_from(wanted).unwrap_or_default()
}

fn cluster(name: &str, wrong: &mut Vec<FieldViolation>) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    let id = name
        .strip_prefix("clusters/")
        .filter(|id| !id.is_empty() && !id.contains('/'));
    if id.is_none() {
        wrong.push(violation(
            field("cluster"),
            format!("{name:?} is not of the form clusters/{{cluster}}"),
        ));
    }
    id.map(ToOwned::to_owned)
}

/// A quantity between two bounds.
fn amount(
    given: &str,
    default: &str,
    least: &str,
    most: &str,
    field: &str,
    wrong: &mut Vec<FieldViolation>,
) -> String {
    let text = if given.is_empty() { default } else { given };
    let millis = |text: &str| quantity::millis(&Quantity(text.to_owned()));
    match (millis(text), millis(least), millis(most)) {
        (Ok(value), Ok(least_value), Ok(most_value))
            if value < least_value || most_value < value =>
        {
            wrong.push(violation(
                field,
                format!("{text} is not between {least} and {most}"),
            ));
        }
        (Err(malformed), ..) => wrong.push(violation(field, malformed.to_string())),
        _ => {}
    }
    text.to_owned()
}

fn storage_class(name: &str, wrong: &mut Vec<FieldViolation>) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
    let edges = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let bytes = name.as_bytes();
    if 253 < bytes.len()
        || !bytes.iter().copied().all(inner)
        || !edges(bytes.first())
        || !edges(bytes.last())
    {
        wrong.push(violation(
            field("storage.storage_class"),
            format!("{name:?} is not the name of a storage class"),
        ));
    }
    Some(name.to_owned())
}

fn data_loss(policy: i32, wrong: &mut Vec<FieldViolation>) -> DataLoss {
    match pb::DataLossPolicy::try_from(policy) {
        Ok(pb::DataLossPolicy::Unspecified | pb::DataLossPolicy::Never) => DataLoss::Never,
        Ok(pb::DataLossPolicy::Bounded) => DataLoss::Bounded,
        Err(_) => {
            wrong.push(violation(
                field("data_loss_policy"),
                format!("{policy} is not a policy"),
            ));
            DataLoss::Never
        }
    }
}

fn placement(placement: i32, wrong: &mut Vec<FieldViolation>) -> Placement {
    match pb::Placement::try_from(placement) {
        Ok(pb::Placement::Unspecified | pb::Placement::SpreadPreferred) => {
            Placement::SpreadPreferred
        }
        Ok(pb::Placement::SpreadRequired) => Placement::SpreadRequired,
        Err(_) => {
            wrong.push(violation(
                field("placement"),
                format!("{placement} is not a placement"),
            ));
            Placement::SpreadPreferred
        }
    }
}

impl From<&RedisSpec> for pb::RedisSpec {
    fn from(spec: &RedisSpec) -> Self {
        Self {
            cluster: format!("clusters/{}", spec.cluster),
            version: spec.version.clone(),
            members: i32::try_from(spec.members).unwrap_or_default(),
            cpu: spec.cpu.clone(),
            memory: spec.memory.clone(),
            storage: Some(pb::Storage {
                size: spec.volume_size.clone(),
                storage_class: spec.storage_class.clone().unwrap_or_default(),
            }),
            parameters: spec.parameters.clone().into_iter().collect(),
            data_loss_policy: match spec.data_loss {
                DataLoss::Never => pb::DataLossPolicy::Never,
                DataLoss::Bounded => pb::DataLossPolicy::Bounded,
            }
            .into(),
            placement: match spec.placement {
                Placement::SpreadPreferred => pb::Placement::SpreadPreferred,
                Placement::SpreadRequired => pb::Placement::SpreadRequired,
            }
            .into(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
