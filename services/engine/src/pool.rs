//! A pool of a service: units that are alike, and the UnitSet that is made of them. Pure.

use std::collections::BTreeMap;

use crds::{
    names,
    unit_set::{self, GeneratedSecret, PodAntiAffinityPreset, UnitSet, UnitSetSpec},
};
use k8s_openapi::{
    api::core::v1::ResourceRequirements,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    desired::{DesiredPool, MAIN, RetainedVolumes, Volumes},
    names::ServiceName,
    package::Package,
};

/// Units that are alike, as a spec wants them.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// [`crate::desired::MAIN`], or one of [`crate::names::POOLS`].
    pub id: &'static str,
    /// How many.
    pub units: u32,
    /// A Kubernetes quantity, for each unit; empty for the package's.
    pub cpu: String,
    /// A Kubernetes quantity, for each unit; empty for the package's.
    pub memory: String,
    /// Size of each volume, a Kubernetes quantity.
    pub volume_size: String,
    /// Class of the volumes; `None` for the cluster's default.
    pub storage_class: Option<String>,
    /// Over the package's defaults.
    pub parameters: BTreeMap<String, String>,
    /// Where its units may run.
    pub placement: Placement,
}

/// Where units of a pool may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// On nodes of their own as far as there are any.
    #[default]
    SpreadPreferred,
    /// On nodes of their own.
    SpreadRequired,
}

/// Metadata of an object of a service.
pub fn metadata(names: &ServiceName, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(names.project.clone()),
        labels: Some(BTreeMap::from([(
            names::label::MANAGED_BY.to_owned(),
            "upm".to_owned(),
        )])),
        ..Default::default()
    }
}

/// The UnitSet of a pool.
pub fn unit_set(
    pool: &Pool,
    desired: &DesiredPool,
    names: &ServiceName,
    package: &Package,
) -> Result<UnitSet, Error> {
    let manifest = package.manifest()?;
    let storage = manifest.storage.into_iter().map(|need| unit_set::Storage {
        name: need.name,
        size: Quantity(pool.volume_size.clone()),
        storage_class_name: pool.storage_class.clone(),
        mount_path: need.mount_path,
    });
    let makes_secret = pool.id == MAIN && !manifest.users.is_empty();
    let spec = UnitSetSpec {
        type_: package.type_.clone(),
        edition: Some(package.edition.clone()).filter(|edition| !edition.is_empty()),
        version: package.version.clone(),
        package: Some(package.name.clone()),
        units: i32::try_from(desired.units).unwrap_or(i32::MAX),
        startup: true,
        restarted_at: desired.restarted_at.clone(),
        parameters: pool.parameters.clone(),
        resources: resources(pool),
        pod_anti_affinity_preset: Some(match pool.placement {
            Placement::SpreadPreferred => PodAntiAffinityPreset::Soft,
            Placement::SpreadRequired => PodAntiAffinityPreset::Hard,
        }),
        storage: storage.collect(),
        // a password for each user: whoever knows that of the clients' must not pass for a member; one Secret for all pools
        generated_secret: makes_secret.then(|| GeneratedSecret {
            name: names::credentials(&names.service),
            keys: manifest.users,
        }),
        volume_retention_policy: match desired.volumes {
            Volumes::Retain => unit_set::VolumeRetentionPolicy::Retain,
            Volumes::Delete => unit_set::VolumeRetentionPolicy::Delete,
        },
        retained_volumes: match desired.retained {
            RetainedVolumes::Refuse => unit_set::RetainedVolumes::Refuse,
            RetainedVolumes::Adopt => unit_set::RetainedVolumes::Adopt,
            RetainedVolumes::Discard => unit_set::RetainedVolumes::Discard,
        },
        ..Default::default()
    };
    Ok(UnitSet {
        metadata: metadata(names, names.set(pool.id)),
        spec,
        status: None,
    })
}

/// As much is guaranteed as may be used: what a unit has is not taken from it when a node is short.
fn resources(pool: &Pool) -> Option<ResourceRequirements> {
    let amounts: BTreeMap<String, Quantity> = [("cpu", &pool.cpu), ("memory", &pool.memory)]
        .into_iter()
        .filter(|(_, amount)| !amount.is_empty())
        .map(|(name, amount)| (name.to_owned(), Quantity(amount.clone())))
        .collect();
    (!amounts.is_empty()).then(|| ResourceRequirements {
        limits: Some(amounts.clone()),
        requests: Some(amounts),
        ..Default::default()
    })
}
