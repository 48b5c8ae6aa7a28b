//! How the effect of each step is taken back.

use crate::{
    Predicate,
    engine::Switchover,
    intent::Part,
    observed::{self, Observed, Settlement},
    service::Service,
    shape::{RetainedVolumes, Volumes},
    steps::{
        Bench, DONE, Fault, Outcome, Step, cluster::waiting_or_done, forward::reserve, not_needed,
    },
    units::{self, Foreign},
};

/// Takes back what a step did, or finds out how far that is. Steps without an effect of their own are left out.
pub(crate) async fn undo(bench: &Bench<'_>, step: Step) -> Result<Outcome, Fault> {
    let previous = bench.operation.input.previous_members;
    let created = previous == 0;
    match step {
        Step::ReserveService => {
            let release = bench
                .host
                .catalogue
                .release(&bench.ctx, &bench.operation.target);
            bench.resource(release).await?;
            Ok(DONE)
        }
        Step::ReserveUnits => {
            reserve(bench, previous).await?;
            Ok(DONE)
        }
        Step::ApplyUnitSet if created => remove_units(bench).await,
        Step::ApplyUnitSet | Step::ShrinkUnitSet => {
            bench
                .write(Part::Units, move |shape| shape.units = previous)
                .await?;
            Ok(DONE)
        }
        Step::ApplyReplication if created => {
            bench.tombstone(Part::Replication).await?;
            bench.part_gone(Part::Replication).await
        }
        Step::ApplyReplication | Step::ShrinkReplication => {
            bench
                .write(Part::Replication, move |shape| shape.members = previous)
                .await?;
            Ok(DONE)
        }
        Step::ApplySwitchover | Step::MovePrimary => withdraw_switchover(bench).await,
        // Without a mark the cluster leaves every unit as it is; the one that is being restarted gets ready again.
        Step::ApplyRestart => {
            bench
                .write(Part::Units, |shape| shape.restarted_at = None)
                .await?;
            Ok(DONE)
        }
        Step::ApplyVolumePolicy => {
            if bench.service().await?.wanted(Part::Units).next().is_some() {
                bench
                    .write(Part::Units, |shape| shape.volumes = Volumes::Retain)
                    .await?;
            }
            Ok(DONE)
        }
        Step::ApplyProject
        | Step::ApplyPackage
        | Step::AwaitUnitsReady
        | Step::ClaimVolumes
        | Step::AwaitReplicationReady
        | Step::VerifyWrites
        | Step::ForbidEmptyBeginning
        | Step::MarkReady
        | Step::AwaitUnitsRestarted
        | Step::AwaitSwitchover
        | Step::AwaitUnitsRemoved
        | Step::MarkScaled
        | Step::AwaitVolumePolicy
        | Step::DeleteReplication
        | Step::AwaitReplicationGone
        | Step::DeleteUnitSet
        | Step::AwaitUnitSetGone
        | Step::ReleaseService
        | Step::ForgetService => Ok(not_needed("it has nothing to undo")),
    }
}

/// Takes back a wish that the cluster has not fulfilled.
async fn withdraw_switchover(bench: &Bench<'_>) -> Result<Outcome, Fault> {
    let service = bench.service().await?;
    let asked = service
        .shape
        .switchover
        .clone()
        .filter(|wish| wish.request_id == bench.operation.id());
    let Some(wish) = asked else {
        return Ok(not_needed("no switchover was asked for"));
    };
    let observed = bench.observe(&service).await?;
    if matches!(
        bench.host.engine.switchover(&service, &wish, &observed),
        Switchover::Waiting(_)
    ) {
        bench
            .write(Part::Replication, |shape| shape.switchover = None)
            .await?;
    }
    Ok(DONE)
}

/// Removes a UnitSet that was made by this operation, and its volumes when they are certainly nobody's.
async fn remove_units(bench: &Bench<'_>) -> Result<Outcome, Fault> {
    let service = bench.service().await?;
    if service.marked(Part::Units).next().is_none() {
        return Ok(not_needed("the units were never asked for"));
    }
    if service.wanted(Part::Units).next().is_some() {
        let observed = bench.observe(&service).await?;
        let volumes = match volumes_to_undo(&service, bench.operation.input.retained, &observed) {
            Ok(volumes) => volumes,
            Err(predicate) => {
                return Ok(Outcome::Waiting(vec![
                    observed.agent_predicate(&service.cluster),
                    predicate,
                ]));
            }
        };
        if volumes == Volumes::Delete {
            let service = bench
                .write(Part::Units, |shape| shape.volumes = Volumes::Delete)
                .await?;
            let predicates = vec![
                observed.agent_predicate(&service.cluster),
                bench.settled(&service, &bench.observe(&service).await?, Part::Units)?,
            ];
            if let waiting @ Outcome::Waiting(_) = waiting_or_done(predicates) {
                return Ok(waiting);
            }
        }
    }
    bench.tombstone(Part::Units).await?;
    bench.part_gone(Part::Units).await
}

/// Volumes go only when nobody can have written to them: members never served, the volumes were not adopted, and the cluster says
/// that none was there before. Otherwise they stay. `Err` says what is not known yet.
fn volumes_to_undo(
    service: &Service,
    chosen: RetainedVolumes,
    observed: &Observed,
) -> Result<Volumes, Predicate> {
    if service.shape.volumes == Volumes::Delete {
        return Ok(Volumes::Delete);
    }
    if service.shape.served || chosen == RetainedVolumes::Adopt {
        return Ok(Volumes::Retain);
    }
    for mark in service.wanted(Part::Units) {
        let object = observed.find(&mark.key.kind, &mark.key.name);
        if let Settlement::Latched { .. } = observed::settlement(object, mark) {
            return Ok(Volumes::Retain);
        }
        match units::foreign_volumes(mark, observed).0 {
            Foreign::Yes => return Ok(Volumes::Retain),
            Foreign::No => {}
            Foreign::Unknown => {
                return Err(Predicate::unmet(
                    "VOLUMES_KNOWN",
                    "undoing waits until the cluster says whether volumes of an earlier service are there",
                ));
            }
        }
    }
    Ok(Volumes::Delete)
}

#[cfg(test)]
mod tests;
