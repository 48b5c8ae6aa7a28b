//! An engine that is as small as an engine can be.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

use crate::{
    Engine, Error, Observed, Package, Predicate, Primary, Service, Switchover,
    intent::{IntentTemplate, Part},
    names::ServiceName,
    shape::{self, Shape, SwitchoverWish},
    workflows::Pace,
};

pub(crate) const PACE: Pace = Pace {
    title: "Toy",
    unit_ready: Duration::from_secs(10),
    unit_restart: Duration::from_secs(5),
    link: Duration::from_secs(1),
    switchover: Duration::from_secs(1),
    removal: Duration::from_secs(5),
};

pub(crate) struct Toy;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToySpec {
    pub(crate) members: u32,
}

pub(crate) fn package() -> Package {
    Package {
        name: "toy-1-0123456789ab".into(),
        software: "software/toy-1".into(),
        digest: "0123456789ab".into(),
        type_: "toy".into(),
        edition: String::new(),
        version: "1".into(),
        config_template: "port {{ 1 }}".into(),
        config_value: "toy: {}".into(),
        pod_template:
            "apiVersion: v1\nkind: PodTemplate\nmetadata: {name: x, annotations: {a: b}}\n\
                       template: {spec: {containers: [{name: toy, image: toy}]}}\n"
                .into(),
        manifest: "{}".into(),
        create_us: 0,
    }
}

impl Engine for Toy {
    const KIND: &'static str = "toy";
    const COLLECTION: &'static str = "toyServices";
    const TYPES: &'static [&'static str] = &["toy"];
    const SPEC_VERSION: i32 = 1;
    type Spec = ToySpec;

    fn intents(
        _: &ToySpec,
        shape: &Shape,
        names: &ServiceName,
        package: &Package,
    ) -> Result<Vec<IntentTemplate>, Error> {
        let mut units = crds::UnitSet::new(
            &names.service,
            crds::UnitSetSpec {
                type_: package.type_.clone(),
                version: package.version.clone(),
                package: Some(package.name.clone()),
                units: shape.units as i32,
                restarted_at: shape.restarted_at.clone(),
                volume_retention_policy: match shape.volumes {
                    shape::Volumes::Retain => crds::unit_set::VolumeRetentionPolicy::Retain,
                    shape::Volumes::Delete => crds::unit_set::VolumeRetentionPolicy::Delete,
                },
                retained_volumes: match shape.retained {
                    shape::RetainedVolumes::Refuse => crds::unit_set::RetainedVolumes::Refuse,
                    shape::RetainedVolumes::Adopt => crds::unit_set::RetainedVolumes::Adopt,
                    shape::RetainedVolumes::Discard => crds::unit_set::RetainedVolumes::Discard,
                },
                storage: vec![crds::unit_set::Storage {
                    name: "data".into(),
                    size: Quantity("1Gi".into()),
                    mount_path: "/data".into(),
                    ..Default::default()
                }],
                ..Default::default()
            },
        );
        units.metadata.namespace = Some(names.project.clone());
        let mut replication = crds::RedisReplication::new(
            &names.service,
            crds::RedisReplicationSpec {
                replica: (1..shape.members)
                    .map(|ordinal| crds::redis_replication::ReplicaNode {
                        name: crds::names::unit_name(&names.service, ordinal as i32),
                        ..Default::default()
                    })
                    .collect(),
                switchover: shape.switchover.as_ref().map(|wish| {
                    crds::redis_replication::Switchover {
                        request_id: wish.request_id.clone(),
                        target: wish.target.clone(),
                        expected_epoch: wish.expected_epoch,
                    }
                }),
                ..Default::default()
            },
        );
        replication.metadata.namespace = Some(names.project.clone());
        Ok(vec![
            IntentTemplate::of(Part::Units, &units)?,
            IntentTemplate::of(Part::Replication, &replication)?,
        ])
    }

    fn members(spec: &ToySpec) -> u32 {
        spec.members
    }

    fn with_members(_: ToySpec, members: u32) -> ToySpec {
        ToySpec { members }
    }

    fn volume_size(_: &ToySpec) -> String {
        "1Gi".into()
    }

    fn replication_ready(service: &Service, observed: &Observed) -> Vec<Predicate> {
        let mark = service.wanted(Part::Replication).next();
        let status =
            mark.and_then(|mark| observed.current_status::<crds::RedisReplicationStatus>(mark));
        let members = status.map_or(0, |status| status.topology.len());
        vec![Predicate::new(
            "MEMBERS_TAKE_PART",
            members == service.shape.members as usize,
            format!("{members} members"),
        )]
    }

    fn writable(service: &Service, observed: &Observed) -> Vec<Predicate> {
        let primary = Self::primary(service, observed);
        vec![Predicate::new("WRITES_ACCEPTED", primary.is_some(), "")]
    }

    fn primary(service: &Service, observed: &Observed) -> Option<Primary> {
        let status = status(service, observed)?;
        let unit = status.primary?;
        Some(Primary {
            ordinal: crds::names::ordinal(&service.name.service, &unit)? as u32,
            unit,
            epoch: status.epoch,
        })
    }

    fn best_replica(service: &Service, observed: &Observed, below: u32) -> Option<String> {
        let primary = Self::primary(service, observed)?;
        (0..below)
            .filter(|ordinal| *ordinal != primary.ordinal)
            .map(|ordinal| crds::names::unit_name(&service.name.service, ordinal as i32))
            .next()
    }

    fn switchover(service: &Service, wish: &SwitchoverWish, observed: &Observed) -> Switchover {
        let last = status(service, observed)
            .and_then(|status| status.last_switchover)
            .filter(|last| last.request_id == wish.request_id);
        match last {
            Some(last) if last.result == crds::redis_replication::SwitchoverResult::Succeeded => {
                Switchover::Done
            }
            Some(last) => Switchover::Failed {
                reason: last.reason,
                message: last.message,
            },
            None => Switchover::Waiting(vec![Predicate::unmet("SWITCHOVER_DONE", "not yet")]),
        }
    }

    fn resource(service: &Service, observed: Option<&Observed>) -> Result<prost_types::Any, Error> {
        let objects = observed.map_or(0, |observed| observed.objects.len());
        Ok(prost_types::Any {
            type_url: "toy".into(),
            value: format!("{} {:?} {objects}", service.name, service.life).into_bytes(),
        })
    }
}

fn status(service: &Service, observed: &Observed) -> Option<crds::RedisReplicationStatus> {
    observed.last_status("RedisReplication", &service.name.service)
}
