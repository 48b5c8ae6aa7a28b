//! What each step does.

use crate::{
    Predicate,
    desired::{DesiredState, PoolPatch, Switchover, TopologyPatch},
    engine,
    error::DOMAIN,
    intent::Part,
    steps::{
        Action, Bench, Call, Check, DONE, Fault, Outcome, Step, cluster::waiting_or_done,
        not_needed,
    },
    units,
};

/// Does a step, or finds out how far it is.
pub(crate) async fn run(bench: &Bench<'_>, step: &Step) -> Result<Outcome, Fault> {
    match &step.action {
        Action::Reserve {
            units,
            before: None,
        } => {
            // without its record the service must not be: another one may have the name
            let reserved = reserve(bench, *units).await;
            reserved.map_err(Fault::rolling_back)?;
            Ok(DONE)
        }
        Action::Reserve {
            units,
            before: Some(_),
        } => {
            reserve(bench, *units).await?;
            Ok(DONE)
        }
        Action::Release => {
            let release = bench
                .host
                .catalogue
                .release(&bench.ctx, &bench.operation.target);
            bench.resource(release).await?;
            Ok(DONE)
        }
        Action::ApplyShared { part } => {
            bench.write_shared(part).await?;
            Ok(DONE)
        }
        Action::Apply { pool, patch, .. } => apply(bench, pool, patch).await,
        Action::ApplyTopology { patch, .. } => apply_topology(bench, patch).await,
        Action::Await { check } => check_of(bench, check).await,
        Action::Call {
            verb: Call::KeepPrimaryBelow { members },
        } => keep_primary_below(bench, *members).await,
        Action::Delete { part } => {
            bench.tombstone(part).await?;
            Ok(DONE)
        }
        Action::Gone { part } => bench.part_gone(part).await,
        Action::Mark { effect } => Ok(Outcome::Done(effect.clone())),
    }
}

/// Changes a pool and writes its UnitSet.
pub(super) async fn apply(
    bench: &Bench<'_>,
    pool: &str,
    patch: &PoolPatch,
) -> Result<Outcome, Fault> {
    let part = Part::Pool(pool.to_owned());
    if patch.units.is_none() && bench.service().await?.wanted(&part).next().is_none() {
        return Ok(not_needed("the service never had units"));
    }
    let (id, patch) = (pool.to_owned(), patch.clone());
    let change = move |desired: &mut DesiredState| patch.change(&mut desired.pools, &id);
    bench.write(&part, change).await?;
    Ok(DONE)
}

/// Changes the topology and writes its objects.
pub(super) async fn apply_topology(
    bench: &Bench<'_>,
    patch: &TopologyPatch,
) -> Result<Outcome, Fault> {
    let (patch, operation) = (patch.clone(), bench.operation.id().to_owned());
    let change = move |desired: &mut DesiredState| patch.change(&mut desired.topology, &operation);
    bench.write(&Part::Topology, change).await?;
    Ok(DONE)
}

/// Records so many units at the project.
pub(super) async fn reserve(bench: &Bench<'_>, units: u32) -> Result<(), Fault> {
    let service = bench.service().await?;
    let target = service.name.to_string();
    let reserve = bench
        .host
        .catalogue
        .reserve(&bench.ctx, &target, &service.cluster, units, false);
    bench.resource(reserve).await
}

async fn check_of(bench: &Bench<'_>, check: &Check) -> Result<Outcome, Fault> {
    match check {
        Check::UnitsReady { pool } => bench.units_ready(pool).await,
        Check::UnitsRemoved { pool } => {
            let part = Part::Pool(pool.clone());
            let (service, observed, mut predicates) = bench.settled_part(&part).await?;
            let wanted = service.desired.pools.get(pool).cloned().unwrap_or_default();
            for mark in service.wanted(&part) {
                predicates.push(units::shrunk(&wanted, mark, &observed));
            }
            Ok(waiting_or_done(predicates))
        }
        Check::PoolApplied { pool } => {
            let part = Part::Pool(pool.clone());
            let (service, _, predicates) = bench.settled_part(&part).await?;
            if service.wanted(&part).next().is_none() {
                return Ok(not_needed("the service never had units"));
            }
            Ok(waiting_or_done(predicates))
        }
        Check::SwitchedOver => switched_over(bench).await,
        Check::TopologyReady | Check::Writable | Check::Engine { .. } => {
            let (service, observed, mut predicates) = bench.settled_part(&Part::Topology).await?;
            predicates.extend(bench.host.engine.check(check, &service, &observed));
            Ok(waiting_or_done(predicates))
        }
    }
}

/// Asks for a primary that stays. What it decided is in the desired state, so that it decides once.
async fn keep_primary_below(bench: &Bench<'_>, stay: u32) -> Result<Outcome, Fault> {
    let service = bench.service().await?;
    let Some(elections) = bench.host.engine.elections() else {
        return Ok(not_needed("its members elect by themselves"));
    };
    if requested(bench, &service).is_some() {
        bench.write(&Part::Topology, |_| {}).await?;
        return Ok(DONE);
    }
    let observed = bench.observe(&service).await?;
    let waiting = |name: &str, why: String| {
        Ok(Outcome::Waiting(vec![
            observed.agent_predicate(&service.cluster),
            Predicate::unmet(name, why),
        ]))
    };
    let Some(primary) = elections.primary(&service, &observed) else {
        let why = "no member is the primary now; scaling in waits for one";
        return waiting("PRIMARY_KNOWN", why.to_owned());
    };
    if primary.ordinal < stay {
        return Ok(not_needed(format!("the primary {} stays", primary.unit)));
    }
    let Some(target) = elections.best_replica(&service, &observed, stay) else {
        let why = format!(
            "{} is the primary and goes; no member that stays follows it closely enough",
            primary.unit
        );
        return waiting("CANDIDATE_READY", why);
    };
    let patch = TopologyPatch {
        switchover: Some(Switchover {
            target,
            expected_epoch: primary.epoch,
            accept_loss: None,
        }),
        ..TopologyPatch::default()
    };
    apply_topology(bench, &patch).await
}

/// The switchover that this operation asked for.
pub(super) fn requested(
    bench: &Bench<'_>,
    service: &crate::Service,
) -> Option<crate::desired::SwitchoverRequest> {
    let last = service.desired.topology.switchover.clone();
    last.filter(|last| last.request_id == bench.operation.id())
}

async fn switched_over(bench: &Bench<'_>) -> Result<Outcome, Fault> {
    let (service, observed, mut predicates) = bench.settled_part(&Part::Topology).await?;
    let asked = requested(bench, &service).zip(bench.host.engine.elections());
    let Some((asked, elections)) = asked else {
        return Ok(not_needed("no switchover was asked for"));
    };
    match elections.switchover(&service, &asked, &observed) {
        engine::Switchover::Done => Ok(DONE),
        engine::Switchover::Waiting(more) => {
            predicates.extend(more);
            Ok(Outcome::Waiting(predicates))
        }
        engine::Switchover::Failed { reason, message } => {
            let unmet = [Predicate::unmet(&reason, &message)];
            let details = mesh::Details {
                preconditions: crate::error::violations(&bench.operation.target, &unmet),
                ..mesh::Details::fact("service", &bench.operation.target)
                    .with_fact("cause", &reason)
            };
            Err(Fault::Permanent {
                status: mesh::status::to_rpc(&mesh::status::build(
                    mesh::Kind::FailedPrecondition,
                    DOMAIN,
                    "SWITCHOVER_FAILED",
                    format!(
                        "the switchover to {} failed and the primary is who it was: {message}",
                        asked.switchover.target
                    ),
                    &details,
                )),
                roll_back: false,
            })
        }
    }
}
