//! What the end of a step and the end of an operation change in the service's row. Pure.

use std::collections::BTreeMap;

use crate::{
    desired::{DesiredState, Input, Retained, RetainedPool, RetainedVolumes, Volumes},
    intent::Part,
    operation::{Operation, State},
    service::{Life, Service},
    steps::Effect,
};

/// What becomes of a service's row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RowChange {
    /// It is written.
    Update(Box<Service>),
    /// It is removed.
    Forget,
}

/// Facts of the engine that an ending needs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Facts {
    /// Size of each data volume, by the pools' ids.
    pub(crate) volume_sizes: BTreeMap<String, String>,
    /// Now, microseconds UTC.
    pub(crate) now_us: i64,
}

/// After a step.
pub(crate) fn after_step(
    mut service: Service,
    effect: &Effect,
    operation: &Operation,
    facts: &Facts,
) -> RowChange {
    match effect {
        Effect::None => {}
        Effect::Life(life) => service.life = *life,
        Effect::Spec(spec) => {
            service.spec = spec.clone();
            service.version += 1;
        }
        Effect::Depart => {
            let mut retained = left_behind(&service, facts);
            let had_units = |id: &String| service.marked(&Part::Pool(id.clone())).next().is_some();
            retained.pools.retain(|id, _| had_units(id));
            if operation.input.volumes == Volumes::Retain && !retained.pools.is_empty() {
                return RowChange::Update(Box::new(retire(service, retained)));
            }
            return RowChange::Forget;
        }
    }
    RowChange::Update(Box::new(service))
}

/// After the operation.
pub(crate) fn after_end(mut service: Service, operation: &Operation, facts: &Facts) -> RowChange {
    if service.operation != operation.name {
        return RowChange::Update(Box::new(service));
    }
    service.operation.clear();
    match operation.state {
        State::Pending | State::Running | State::Cancelling => {}
        State::Succeeded => service.message.clear(),
        State::Failed => {
            if service.life == Life::Creating {
                service.life = Life::Failed;
            }
            let why = operation
                .error
                .as_ref()
                .map_or("", |error| error.message.as_str());
            service.message = format!("{} failed: {why}", operation.kind());
        }
        State::Cancelled | State::RolledBack => match operation.input.previous_life {
            Some(previous) => {
                if service.life == Life::Deleting {
                    service.life = previous;
                }
            }
            None => return undone_creation(service, &operation.input, facts),
        },
    }
    RowChange::Update(Box::new(service))
}

/// What an operation that ends undone leaves in the cluster, in words; `None` when that is nothing.
pub(crate) fn leaves(service: &Service, operation: &Operation, facts: &Facts) -> Option<String> {
    let RowChange::Update(after) = after_end(service.clone(), operation, facts) else {
        return None;
    };
    let retained = after.retained.filter(|_| after.life == Life::Retained)?;
    let volumes: Vec<String> = retained
        .pools
        .iter()
        .map(|(pool, left)| {
            let set = service.name.set(pool);
            let units: Vec<String> = (0..i32::try_from(left.units).unwrap_or_default())
                .map(|ordinal| crds::names::unit_name(&set, ordinal))
                .collect();
            format!("{} ({} each)", units.join(", "), left.size)
        })
        .collect();
    Some(format!(
        "the volumes of {} stay on clusters/{}: create the service again with retained_data ADOPT to use them, or DISCARD to remove them",
        volumes.join(" and "),
        retained.cluster
    ))
}

/// A creation that was undone leaves nothing, except volumes that may hold somebody's data.
fn undone_creation(service: Service, input: &Input, facts: &Facts) -> RowChange {
    let mut pools = service.desired.pools.values();
    if pools.all(|pool| pool.volumes == Volumes::Delete) {
        return RowChange::Forget;
    }
    if let Some(earlier) = input.earlier.clone() {
        return RowChange::Update(Box::new(retire(service, earlier)));
    }
    if service.desired.topology.served || input.retained == RetainedVolumes::Adopt {
        let retained = left_behind(&service, facts);
        return RowChange::Update(Box::new(retire(service, retained)));
    }
    RowChange::Forget
}

fn left_behind(service: &Service, facts: &Facts) -> Retained {
    Retained {
        cluster: service.cluster.clone(),
        pools: service
            .desired
            .pools
            .iter()
            .filter(|(_, pool)| pool.volumes == Volumes::Retain)
            .map(|(id, pool)| {
                let left = RetainedPool {
                    units: pool.units,
                    size: facts.volume_sizes.get(id).cloned().unwrap_or_default(),
                };
                (id.clone(), left)
            })
            .collect(),
        since_us: facts.now_us,
    }
}

/// Only the memory of the volumes is left.
fn retire(mut service: Service, retained: Retained) -> Service {
    service.life = Life::Retained;
    service.operation.clear();
    service.message.clear();
    service.desired = DesiredState::default();
    service.marks.clear();
    service.retained = Some(retained);
    service
}
