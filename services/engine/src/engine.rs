//! What an engine has to say about itself, so that everything else can be written once.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Error, Predicate,
    intent::IntentTemplate,
    names::ServiceName,
    observed::Observed,
    package::Package,
    service::Service,
    shape::{Shape, SwitchoverWish},
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

    /// The service's own objects in its cluster: a UnitSet, a replication resource.
    fn intents(
        spec: &Self::Spec,
        shape: &Shape,
        names: &ServiceName,
        package: &Package,
    ) -> Result<Vec<IntentTemplate>, Error>;

    /// How many members the spec wants.
    fn members(spec: &Self::Spec) -> u32;

    /// The spec with another number of members.
    fn with_members(spec: Self::Spec, members: u32) -> Self::Spec;

    /// Size of each member's data volume, a Kubernetes quantity.
    fn volume_size(spec: &Self::Spec) -> String;

    /// Whether the replication does what the shape says.
    fn replication_ready(service: &Service, observed: &Observed) -> Vec<Predicate>;

    /// Whether the service takes writes and every member follows.
    fn writable(service: &Service, observed: &Observed) -> Vec<Predicate>;

    /// Who takes writes; `None` while nobody does, or nothing is known.
    fn primary(service: &Service, observed: &Observed) -> Option<Primary>;

    /// The member that would lose nothing and wait least as the next primary, among the ordinals below `below`.
    fn best_replica(service: &Service, observed: &Observed, below: u32) -> Option<String>;

    /// How far a switchover is.
    fn switchover(service: &Service, wish: &SwitchoverWish, observed: &Observed) -> Switchover;

    /// Whether `wanted` (a verb) cannot begin while `running` works on the service.
    fn conflicts(_running: &str, _wanted: &str) -> bool {
        true
    }

    /// The resource as clients see it.
    fn resource(service: &Service, observed: Option<&Observed>) -> Result<prost_types::Any, Error>;
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
    fn intents(&self, service: &Service, package: &Package) -> Result<Vec<IntentTemplate>, Error>;
    fn with_members(&self, service: &Service, members: u32) -> Result<Value, Error>;
    fn volume_size(&self, service: &Service) -> Result<String, Error>;
    fn replication_ready(&self, service: &Service, observed: &Observed) -> Vec<Predicate>;
    fn writable(&self, service: &Service, observed: &Observed) -> Vec<Predicate>;
    fn primary(&self, service: &Service, observed: &Observed) -> Option<Primary>;
    fn best_replica(&self, service: &Service, observed: &Observed, below: u32) -> Option<String>;
    fn switchover(
        &self,
        service: &Service,
        wish: &SwitchoverWish,
        observed: &Observed,
    ) -> Switchover;
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
        E::intents(
            &spec_of::<E>(service)?,
            &service.shape,
            &service.name,
            package,
        )
    }

    fn with_members(&self, service: &Service, members: u32) -> Result<Value, Error> {
        spec_to_json::<E>(&E::with_members(spec_of::<E>(service)?, members))
    }

    fn volume_size(&self, service: &Service) -> Result<String, Error> {
        Ok(E::volume_size(&spec_of::<E>(service)?))
    }

    fn replication_ready(&self, service: &Service, observed: &Observed) -> Vec<Predicate> {
        E::replication_ready(service, observed)
    }

    fn writable(&self, service: &Service, observed: &Observed) -> Vec<Predicate> {
        E::writable(service, observed)
    }

    fn primary(&self, service: &Service, observed: &Observed) -> Option<Primary> {
        E::primary(service, observed)
    }

    fn best_replica(&self, service: &Service, observed: &Observed, below: u32) -> Option<String> {
        E::best_replica(service, observed, below)
    }

    fn switchover(
        &self,
        service: &Service,
        wish: &SwitchoverWish,
        observed: &Observed,
    ) -> Switchover {
        E::switchover(service, wish, observed)
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
