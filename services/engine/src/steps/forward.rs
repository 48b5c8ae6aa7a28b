//! What each step does.

use crate::{
    Predicate,
    engine::Switchover,
    error::DOMAIN,
    intent::Part,
    service::Life,
    shape::{RetainedVolumes, Shape, SwitchoverWish},
    steps::{Bench, DONE, Effect, Fault, Outcome, Step, cluster::waiting_or_done, not_needed},
    units,
};

/// Does a step, or finds out how far it is.
pub(crate) async fn run(bench: &Bench<'_>, step: Step) -> Result<Outcome, Fault> {
    let input = bench.operation.input.clone();
    match step {
        Step::ReserveService => {
            reserve(bench, input.members)
                .await
                .map_err(Fault::rolling_back)?;
            Ok(DONE)
        }
        Step::ReserveUnits => {
            reserve(bench, input.members).await?;
            Ok(DONE)
        }
        Step::ApplyProject => {
            bench.write_shared(Part::Project).await?;
            Ok(DONE)
        }
        Step::ApplyPackage => {
            bench.write_shared(Part::Package).await?;
            Ok(DONE)
        }
        Step::ApplyUnitSet => {
            let change = move |shape: &mut Shape| {
                shape.units = input.members;
                if input.previous_members == 0 {
                    shape.retained = input.retained;
                }
            };
            written(bench, Part::Units, change).await
        }
        Step::ShrinkUnitSet => {
            let change = move |shape: &mut Shape| shape.units = input.members;
            written(bench, Part::Units, change).await
        }
        Step::ClaimVolumes => {
            let change = |shape: &mut Shape| shape.retained = RetainedVolumes::Adopt;
            written(bench, Part::Units, change).await
        }
        Step::ApplyRestart => {
            let change =
                move |shape: &mut Shape| shape.restarted_at.clone_from(&input.restarted_at);
            written(bench, Part::Units, change).await
        }
        Step::ApplyReplication | Step::ShrinkReplication => {
            let change = move |shape: &mut Shape| {
                shape.members = input.members;
                shape.served = true;
                // volumes that were kept have data: all empty would mean that they are gone
                shape.begun |=
                    input.previous_members == 0 && input.retained == RetainedVolumes::Adopt;
            };
            written(bench, Part::Replication, change).await
        }
        Step::ApplySwitchover => {
            let change = move |shape: &mut Shape| shape.switchover.clone_from(&input.switchover);
            written(bench, Part::Replication, change).await
        }
        Step::AwaitUnitsReady | Step::AwaitUnitsRestarted => bench.units_ready().await,
        Step::AwaitReplicationReady => bench.replication_ready().await,
        Step::VerifyWrites => bench.writable().await,
        Step::ForbidEmptyBeginning => {
            written(bench, Part::Replication, |shape| shape.begun = true).await
        }
        Step::MarkReady => Ok(Outcome::Done(Effect::Life(Life::Active))),
        Step::MovePrimary => move_primary(bench).await,
        Step::AwaitSwitchover => await_switchover(bench).await,
        Step::AwaitUnitsRemoved => await_units_removed(bench).await,
        Step::MarkScaled => Ok(Outcome::Done(Effect::Members(input.members))),
        Step::ApplyVolumePolicy => {
            if bench.service().await?.wanted(Part::Units).next().is_none() {
                return Ok(not_needed("the service never had units"));
            }
            bench
                .write(Part::Units, move |shape| shape.volumes = input.volumes)
                .await?;
            Ok(DONE)
        }
        Step::AwaitVolumePolicy => {
            let (service, _, predicates) = bench.settled_part(Part::Units).await?;
            if service.wanted(Part::Units).next().is_none() {
                return Ok(not_needed("the service never had units"));
            }
            Ok(waiting_or_done(predicates))
        }
        Step::DeleteReplication => {
            bench.tombstone(Part::Replication).await?;
            Ok(DONE)
        }
        Step::AwaitReplicationGone => bench.part_gone(Part::Replication).await,
        Step::DeleteUnitSet => {
            bench.tombstone(Part::Units).await?;
            Ok(DONE)
        }
        Step::AwaitUnitSetGone => bench.part_gone(Part::Units).await,
        Step::ReleaseService => {
            let release = bench
                .host
                .catalogue
                .release(&bench.ctx, &bench.operation.target);
            bench.resource(release).await?;
            Ok(DONE)
        }
        Step::ForgetService => Ok(Outcome::Done(Effect::Depart)),
    }
}

/// Changes the shape and writes what follows from it.
async fn written(
    bench: &Bench<'_>,
    part: Part,
    change: impl Fn(&mut Shape) + Send + Sync + 'static,
) -> Result<Outcome, Fault> {
    bench.write(part, change).await?;
    Ok(DONE)
}

pub(super) async fn reserve(bench: &Bench<'_>, units: u32) -> Result<(), Fault> {
    let service = bench.service().await?;
    let target = &bench.operation.target;
    let call = bench
        .host
        .catalogue
        .reserve(&bench.ctx, target, &service.cluster, units, false);
    bench.resource(call).await
}

/// Asks for a primary that stays, when the present one has an ordinal that goes.
async fn move_primary(bench: &Bench<'_>) -> Result<Outcome, Fault> {
    let service = bench.service().await?;
    let request_id = bench.operation.id().to_owned();
    let asked = service
        .shape
        .switchover
        .as_ref()
        .filter(|wish| wish.request_id == request_id);
    if asked.is_some() {
        bench.write(Part::Replication, |_| {}).await?;
        return Ok(DONE);
    }
    let observed = bench.observe(&service).await?;
    let stay = bench.operation.input.members;
    let engine = &bench.host.engine;
    let Some(primary) = engine.primary(&service, &observed) else {
        return Ok(Outcome::Waiting(vec![
            observed.agent_predicate(&service.cluster),
            Predicate::unmet(
                "PRIMARY_KNOWN",
                "no member is the primary now; scaling in waits for one",
            ),
        ]));
    };
    if primary.ordinal < stay {
        return Ok(not_needed(format!("the primary {} stays", primary.unit)));
    }
    let Some(target) = engine.best_replica(&service, &observed, stay) else {
        return Ok(Outcome::Waiting(vec![
            observed.agent_predicate(&service.cluster),
            Predicate::unmet(
                "CANDIDATE_READY",
                format!(
                    "{} is the primary and goes; no member that stays follows it closely enough",
                    primary.unit
                ),
            ),
        ]));
    };
    let wish = SwitchoverWish {
        accept_loss: None,
        request_id,
        target,
        expected_epoch: primary.epoch,
    };
    bench
        .write(Part::Replication, move |shape| {
            shape.switchover = Some(wish.clone());
        })
        .await?;
    Ok(DONE)
}

async fn await_switchover(bench: &Bench<'_>) -> Result<Outcome, Fault> {
    let (service, observed, mut predicates) = bench.settled_part(Part::Replication).await?;
    let Some(wish) = service
        .shape
        .switchover
        .clone()
        .filter(|wish| wish.request_id == bench.operation.id())
    else {
        return Ok(not_needed("no switchover was asked for"));
    };
    match bench.host.engine.switchover(&service, &wish, &observed) {
        Switchover::Done => Ok(DONE),
        Switchover::Waiting(more) => {
            predicates.extend(more);
            Ok(Outcome::Waiting(predicates))
        }
        Switchover::Failed { reason, message } => {
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
                        wish.target
                    ),
                    &details,
                )),
                roll_back: false,
            })
        }
    }
}

async fn await_units_removed(bench: &Bench<'_>) -> Result<Outcome, Fault> {
    let (service, observed, mut predicates) = bench.settled_part(Part::Units).await?;
    for mark in service.wanted(Part::Units) {
        predicates.push(units::shrunk(&service.shape, mark, &observed));
    }
    Ok(waiting_or_done(predicates))
}
