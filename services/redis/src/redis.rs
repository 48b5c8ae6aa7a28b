//! What Redis says about itself to the engine.

use engine::{
    Check, Elections, Engine, Error, Observed, Predicate, Primary, Service, Switchover,
    desired::{DesiredState, MAIN, SwitchoverRequest},
    intent::IntentTemplate,
    names::ServiceName,
    pool::Pool,
};

use crate::{intents, pb, spec::RedisSpec, status};

/// Redis replication.
#[derive(Debug)]
pub(crate) struct Redis;

impl Engine for Redis {
    const KIND: &'static str = "redis";
    const COLLECTION: &'static str = "redisServices";
    const TYPES: &'static [&'static str] = &["redis"];
    const SPEC_VERSION: i32 = 1;
    type Spec = RedisSpec;

    fn pools(spec: &RedisSpec) -> Vec<Pool> {
        vec![Pool {
            id: MAIN,
            units: spec.members,
            cpu: spec.cpu.clone(),
            memory: spec.memory.clone(),
            volume_size: spec.volume_size.clone(),
            storage_class: spec.storage_class.clone(),
            parameters: spec.parameters.clone(),
            placement: spec.placement,
        }]
    }

    fn topology(
        spec: &RedisSpec,
        desired: &DesiredState,
        names: &ServiceName,
    ) -> Result<Vec<IntentTemplate>, Error> {
        intents::topology(spec, desired, names)
    }

    fn check(check: &Check, service: &Service, observed: &Observed) -> Vec<Predicate> {
        status::check(check, service, observed)
    }

    fn elections() -> Option<&'static dyn Elections> {
        Some(&Replication)
    }

    fn resource(service: &Service, observed: Option<&Observed>) -> Result<prost_types::Any, Error> {
        Ok(pb::any(&pb::service(service, observed)?))
    }
}

/// A primary that the cluster elects, and the platform moves.
struct Replication;

impl Elections for Replication {
    fn primary(&self, service: &Service, observed: &Observed) -> Option<Primary> {
        status::primary(service, observed)
    }

    fn best_replica(&self, service: &Service, observed: &Observed, below: u32) -> Option<String> {
        status::best_replica(service, observed, below)
    }

    fn switchover(
        &self,
        service: &Service,
        asked: &SwitchoverRequest,
        observed: &Observed,
    ) -> Switchover {
        status::switchover(service, asked, observed)
    }
}
