//! What Redis says about itself to the engine.

use engine::{
    Engine, Error, Observed, Package, Predicate, Primary, Service, Switchover,
    intent::IntentTemplate,
    names::ServiceName,
    shape::{Shape, SwitchoverWish},
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

    fn intents(
        spec: &RedisSpec,
        shape: &Shape,
        names: &ServiceName,
        package: &Package,
    ) -> Result<Vec<IntentTemplate>, Error> {
        intents::intents(spec, shape, names, package)
    }

    fn members(spec: &RedisSpec) -> u32 {
        spec.members
    }

    fn with_members(mut spec: RedisSpec, members: u32) -> RedisSpec {
        spec.members = members;
        spec
    }

    fn volume_size(spec: &RedisSpec) -> String {
        spec.volume_size.clone()
    }

    fn replication_ready(service: &Service, observed: &Observed) -> Vec<Predicate> {
        status::replication_ready(service, observed)
    }

    fn writable(service: &Service, observed: &Observed) -> Vec<Predicate> {
        status::writable(service, observed)
    }

    fn primary(service: &Service, observed: &Observed) -> Option<Primary> {
        status::primary(service, observed)
    }

    fn best_replica(service: &Service, observed: &Observed, below: u32) -> Option<String> {
        status::best_replica(service, observed, below)
    }

    fn switchover(service: &Service, wish: &SwitchoverWish, observed: &Observed) -> Switchover {
        status::switchover(service, wish, observed)
    }

    fn resource(service: &Service, observed: Option<&Observed>) -> Result<prost_types::Any, Error> {
        Ok(pb::any(&pb::service(service, observed)?))
    }
}
