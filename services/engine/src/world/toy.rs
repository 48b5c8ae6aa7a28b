//! An engine that is as small as an engine can be.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Check, Elections, Engine, Error, Observed, Package, Predicate, Primary, Service, Switchover,
    desired::{DesiredState, MAIN, SwitchoverRequest},
    intent::{IntentTemplate, Part},
    names::ServiceName,
    pool::{Placement, Pool},
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
        manifest: r#"{"type_": "toy", "ports": {"toy": 1}, "storage": [{"name": "data", "mount_path": "/data", "minimum": ""}], "users": []}"#.into(),
        create_us: 0,
    }
}

impl Engine for Toy {
    const KIND: &'static str = "toy";
    const COLLECTION: &'static str = "toyServices";
    const TYPES: &'static [&'static str] = &["toy"];
    const SPEC_VERSION: i32 = 1;
    type Spec = ToySpec;

    fn pools(spec: &ToySpec) -> Vec<Pool> {
        vec![pool(MAIN, spec.members)]
    }

    fn topology(
        _: &ToySpec,
        desired: &DesiredState,
        names: &ServiceName,
    ) -> Result<Vec<IntentTemplate>, Error> {
        let mut replication = crds::RedisReplication::new(
            &names.service,
            crds::RedisReplicationSpec {
                replica: (1..desired.members_of(MAIN))
                    .map(|ordinal| crds::redis_replication::ReplicaNode {
                        name: crds::names::unit_name(&names.service, ordinal as i32),
                        ..Default::default()
                    })
                    .collect(),
                switchover: desired.topology.switchover.as_ref().map(|asked| {
                    crds::redis_replication::Switchover {
                        request_id: asked.request_id.clone(),
                        target: asked.switchover.target.clone(),
                        expected_epoch: asked.switchover.expected_epoch,
                    }
                }),
                ..Default::default()
            },
        );
        replication.metadata.namespace = Some(names.project.clone());
        Ok(vec![IntentTemplate::of(Part::Topology, &replication)?])
    }

    fn check(check: &Check, service: &Service, observed: &Observed) -> Vec<Predicate> {
        if *check == Check::Writable {
            let primary = Electing.primary(service, observed);
            return vec![Predicate::new("WRITES_ACCEPTED", primary.is_some(), "")];
        }
        let mark = service.wanted(&Part::Topology).next();
        let status =
            mark.and_then(|mark| observed.current_status::<crds::RedisReplicationStatus>(mark));
        let members = status.map_or(0, |status| status.topology.len());
        vec![Predicate::new(
            "MEMBERS_TAKE_PART",
            members == service.desired.members_of(MAIN) as usize,
            format!("{members} members"),
        )]
    }

    fn elections() -> Option<&'static dyn Elections> {
        Some(&Electing)
    }

    fn resource(service: &Service, observed: Option<&Observed>) -> Result<prost_types::Any, Error> {
        let objects = observed.map_or(0, |observed| observed.objects.len());
        Ok(prost_types::Any {
            type_url: "toy".into(),
            value: format!("{} {:?} {objects}", service.name, service.life).into_bytes(),
        })
    }
}

/// Units as small as they can be.
pub(crate) fn pool(id: &'static str, units: u32) -> Pool {
    Pool {
        id,
        units,
        cpu: String::new(),
        memory: String::new(),
        volume_size: "1Gi".into(),
        storage_class: None,
        parameters: [].into(),
        placement: Placement::SpreadPreferred,
    }
}

/// How the toy chooses its primary.
struct Electing;

impl Elections for Electing {
    fn primary(&self, service: &Service, observed: &Observed) -> Option<Primary> {
        let status = status(service, observed)?;
        let unit = status.primary?;
        Some(Primary {
            ordinal: crds::names::ordinal(&service.name.service, &unit)? as u32,
            unit,
            epoch: status.epoch,
        })
    }

    fn best_replica(&self, service: &Service, observed: &Observed, below: u32) -> Option<String> {
        let primary = self.primary(service, observed)?;
        (0..below)
            .filter(|ordinal| *ordinal != primary.ordinal)
            .map(|ordinal| crds::names::unit_name(&service.name.service, ordinal as i32))
            .next()
    }

    fn switchover(
        &self,
        service: &Service,
        asked: &SwitchoverRequest,
        observed: &Observed,
    ) -> Switchover {
        let last = status(service, observed)
            .and_then(|status| status.last_switchover)
            .filter(|last| last.request_id == asked.request_id);
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
}

fn status(service: &Service, observed: &Observed) -> Option<crds::RedisReplicationStatus> {
    observed.last_status("RedisReplication", &service.name.service)
}
