//! How the effect of each step is taken back.

use crate::{
    Predicate,
    desired::{PoolPatch, RetainedVolumes, Volumes},
    engine::Switchover,
    intent::Part,
    observed::{self, Observed, Settlement},
    service::Service,
    steps::{
        Action, Bench, Call, DONE, Fault, Outcome, Step, Undo,
        cluster::waiting_or_done,
        forward::{apply, apply_topology, requested, reserve},
        not_needed,
    },
    units::{self, Foreign},
};

/// Takes back what a step did, or finds out how far that is. Steps without an effect of their own are left out.
pub(crate) async fn undo(bench: &Bench<'_>, step: &Step) -> Result<Outcome, Fault> {
    match &step.action {
        Action::Reserve { before: None, .. } => {
            let release = bench
                .host
                .catalogue
                .release(&bench.ctx, &bench.operation.target);
            bench.resource(release).await?;
            Ok(DONE)
        }
        Action::Reserve {
            before: Some(before),
            ..
        } => {
            reserve(bench, *before).await?;
            Ok(DONE)
        }
        Action::Apply { pool, undo, .. } => match undo {
            Undo::Nothing => Ok(nothing()),
            Undo::Patch(back) => apply(bench, pool, back).await,
            Undo::Remove => remove_units(bench, pool).await,
        },
        Action::ApplyTopology { patch, undo } => {
            if patch.switchover.is_some() {
                return withdraw_switchover(bench).await;
            }
            match undo {
                Undo::Nothing => Ok(nothing()),
                Undo::Patch(back) => apply_topology(bench, back).await,
                Undo::Remove => {
                    bench.tombstone(&Part::Topology).await?;
                    bench.part_gone(&Part::Topology).await
                }
            }
        }
        Action::Call {
            verb: Call::KeepPrimaryBelow { .. },
        } => withdraw_switchover(bench).await,
        Action::Release
        | Action::ApplyShared { .. }
        | Action::Await { .. }
        | Action::Delete { .. }
        | Action::Gone { .. }
        | Action::Mark { .. } => Ok(nothing()),
    }
}

fn nothing() -> Outcome {
    not_needed("it has nothing to undo")
}

/// Takes back a wish that the cluster has not fulfilled.
async fn withdraw_switchover(bench: &Bench<'_>) -> Result<Outcome, Fault> {
    let service = bench.service().await?;
    let asked = requested(bench, &service).zip(bench.host.engine.elections());
    let Some((asked, elections)) = asked else {
        return Ok(not_needed("no switchover was asked for"));
    };
    let observed = bench.observe(&service).await?;
    if matches!(
        elections.switchover(&service, &asked, &observed),
        Switchover::Waiting(_)
    ) {
        bench
            .write(&Part::Topology, |desired| {
                desired.topology.switchover = None;
            })
            .await?;
    }
    Ok(DONE)
}

/// Removes a UnitSet that was made by this operation, and its volumes when they are certainly nobody's.
async fn remove_units(bench: &Bench<'_>, pool: &str) -> Result<Outcome, Fault> {
    let part = Part::Pool(pool.to_owned());
    let service = bench.service().await?;
    if service.marked(&part).next().is_none() {
        return Ok(not_needed("the units were never asked for"));
    }
    if service.wanted(&part).next().is_some() {
        let observed = bench.observe(&service).await?;
        let volumes =
            match volumes_to_undo(&service, pool, bench.operation.input.retained, &observed) {
                Ok(volumes) => volumes,
                Err(predicate) => {
                    return Ok(Outcome::Waiting(vec![
                        observed.agent_predicate(&service.cluster),
                        predicate,
                    ]));
                }
            };
        if volumes == Volumes::Delete {
            apply(bench, pool, &PoolPatch::volumes(Volumes::Delete)).await?;
            let service = bench.service().await?;
            let predicates = vec![
                observed.agent_predicate(&service.cluster),
                bench.settled(&service, &bench.observe(&service).await?, &part)?,
            ];
            if let waiting @ Outcome::Waiting(_) = waiting_or_done(predicates) {
                return Ok(waiting);
            }
        }
    }
    bench.tombstone(&part).await?;
    bench.part_gone(&part).await
}

/// Volumes go only when nobody can have written to them: members never served, the volumes were not adopted, and the cluster says
/// that none was there before. Otherwise they stay. `Err` says what is not known yet.
fn volumes_to_undo(
    service: &Service,
    pool: &str,
    chosen: RetainedVolumes,
    observed: &Observed,
) -> Result<Volumes, Predicate> {
    let wanted = service.desired.pools.get(pool);
    if wanted.is_some_and(|pool| pool.volumes == Volumes::Delete) {
        return Ok(Volumes::Delete);
    }
    if service.desired.topology.served || chosen == RetainedVolumes::Adopt {
        return Ok(Volumes::Retain);
    }
    for mark in service.wanted(&Part::Pool(pool.to_owned())) {
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
