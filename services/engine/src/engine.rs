//! What an engine has to say about itself, so that everything else can be written once.

use std::{collections::BTreeMap, marker::PhantomData};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Error, Predicate,
    desired::{DesiredState, SwitchoverRequest, Units},
    intent::{IntentTemplate, Part},
    names::ServiceName,
    observed::Observed,
    package::{self, Package},
    pool::{self, Pool},
    service::Service,
    steps::Check,
};

/// A kind of data service. Everything here is pure: no clock, no client, no randomness.
pub trait Engine: Send + Sync + 'static {
    /// `redis`: the module's name, and the first part of operation kinds and permissions.
    const KIND: &'static str;
    /// `redisServices`: the collection in resource names.
    const COLLECTION: &'static str;
    /// Types of the packages that it runs, such as `redis`.
    const TYPES: &'static [&'static str];
    /// Version of [`Engine::Spec`]'s stored form.
    const SPEC_VERSION: i32;
    /// What the user wants, parsed.
    type Spec: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;

    /// The units that the spec wants, by pools. The UnitSets are made of them.
    fn pools(spec: &Self::Spec) -> Vec<Pool>;

    /// What makes a service out of running units: a replication resource, say.
    fn topology(
        spec: &Self::Spec,
        desired: &DesiredState,
        names: &ServiceName,
    ) -> Result<Vec<IntentTemplate>, Error>;

    /// What holds of a check that is the engine's own: [`Check::TopologyReady`], [`Check::Writable`], [`Check::Engine`].
    fn check(check: &Check, service: &Service, observed: &Observed) -> Vec<Predicate>;

    /// How a primary is chosen, where the platform does; members of others elect by themselves.
    fn elections() -> Option<&'static dyn Elections> {
        None
    }

    /// Whether `wanted` (a verb) cannot begin while `running` works on the service.
    fn conflicts(_running: &str, _wanted: &str) -> bool {
        true
    }

    /// The resource as clients see it.
    fn resource(service: &Service, observed: Option<&Observed>) -> Result<prost_types::Any, Error>;
}

/// How a primary is chosen by the platform. Pure.
pub trait Elections: Send + Sync {
    /// Who takes writes; `None` while nobody does, or nothing is known.
    fn primary(&self, service: &Service, observed: &Observed) -> Option<Primary>;

    /// The member that would lose nothing and wait least as the next primary, among the ordinals below `below`.
    fn best_replica(&self, service: &Service, observed: &Observed, below: u32) -> Option<String>;

    /// How far a switchover is.
    fn switchover(
        &self,
        service: &Service,
        asked: &SwitchoverRequest,
        observed: &Observed,
    ) -> Switchover;
}

/// Units of each pool.
pub fn units(pools: &[Pool]) -> Units {
    pools
        .iter()
        .map(|pool| (pool.id.to_owned(), pool.units))
        .collect()
}

/// Who takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Name of its unit.
    pub unit: String,
    /// Its number.
    pub ordinal: u32,
    /// How often the primary changed.
    pub epoch: i64,
}

/// How far a switchover is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switchover {
    /// The target is the primary.
    Done,
    /// Not yet; why.
    Waiting(Vec<Predicate>),
    /// The cluster gave it up and undid it.
    Failed {
        /// UPPER_SNAKE.
        reason: String,
        /// In words.
        message: String,
    },
}

/// [`Engine`] without its spec type, so that runner and steps are compiled once.
pub(crate) trait AnyEngine: Send + Sync {
    fn kind(&self) -> &'static str;
    /// The service's own objects: a UnitSet for each pool, the topology.
    fn intents(&self, service: &Service, package: &Package) -> Result<Vec<IntentTemplate>, Error>;
    fn volume_sizes(&self, service: &Service) -> Result<BTreeMap<String, String>, Error>;
    fn check(&self, check: &Check, service: &Service, observed: &Observed) -> Vec<Predicate>;
    fn elections(&self) -> Option<&'static dyn Elections>;
    fn conflicts(&self, running: &str, wanted: &str) -> bool;
    fn resource(
        &self,
        service: &Service,
        observed: Option<&Observed>,
    ) -> Result<prost_types::Any, Error>;
}

/// An engine as a value.
pub(crate) struct Erased<E>(pub(crate) PhantomData<fn() -> E>);

impl<E: Engine> AnyEngine for Erased<E> {
    fn kind(&self) -> &'static str {
        E::KIND
    }

    fn intents(&self, service: &Service, package: &Package) -> Result<Vec<IntentTemplate>, Error> {
        let spec = spec_of::<E>(service)?;
        let project = package::project(&service.name.project)?.key;
        let mut intents = Vec::new();
        for pool in E::pools(&spec) {
            // one that was not asked for yet, or was taken away
            let Some(desired) = service.desired.pools.get(pool.id) else {
                continue;
            };
            let set = pool::unit_set(&pool, desired, &service.name, package)?;
            let part = Part::Pool(pool.id.to_owned());
            intents.push(IntentTemplate::of(part, &set)?);
        }
        intents.extend(E::topology(&spec, &service.desired, &service.name)?);
        Ok(intents
            .into_iter()
            .map(|intent| intent.after([project.clone()]))
            .collect())
    }

    fn volume_sizes(&self, service: &Service) -> Result<BTreeMap<String, String>, Error> {
        let pools = E::pools(&spec_of::<E>(service)?).into_iter();
        Ok(pools
            .map(|pool| (pool.id.to_owned(), pool.volume_size))
            .collect())
    }

    fn check(&self, check: &Check, service: &Service, observed: &Observed) -> Vec<Predicate> {
        E::check(check, service, observed)
    }

    fn elections(&self) -> Option<&'static dyn Elections> {
        E::elections()
    }

    fn conflicts(&self, running: &str, wanted: &str) -> bool {
        E::conflicts(running, wanted)
    }

    fn resource(
        &self,
        service: &Service,
        observed: Option<&Observed>,
    ) -> Result<prost_types::Any, Error> {
        E::resource(service, observed)
    }
}

/// The spec of a stored service.
pub fn spec_of<E: Engine>(service: &Service) -> Result<E::Spec, Error> {
    serde_json::from_value(service.spec.clone()).map_err(|source| Error::Decode {
        what: "spec",
        name: service.name.to_string(),
        source,
    })
}

/// A spec as it is stored.
pub fn spec_to_json<E: Engine>(spec: &E::Spec) -> Result<Value, Error> {
    serde_json::to_value(spec).map_err(|source| Error::Encode {
        what: "a spec",
        source,
    })
}
