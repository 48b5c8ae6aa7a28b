//! What steps ask about the cluster, put together from the ledger and the engine.

use mesh::{Details, Kind};

use crate::{
    Predicate,
    error::DOMAIN,
    intent::Part,
    observed::Observed,
    predicate::all_hold,
    service::Service,
    steps::{Bench, DONE, Fault, Outcome},
    units::{self, Foreign},
};

impl Bench<'_> {
    /// Whether all units of a pool are ready, and everything that this rests on.
    pub(super) async fn units_ready(&self, pool: &str) -> Result<Outcome, Fault> {
        let part = Part::Pool(pool.to_owned());
        let service = self.service().await?;
        let observed = self.observe(&service).await?;
        let mut predicates = vec![observed.agent_predicate(&service.cluster)];
        let settled = self.settled(&service, &observed, &part)?;
        if !settled.satisfied {
            predicates.push(
                self.shared_settled(&service, &Part::Project, "PROJECT_APPLIED")
                    .await?,
            );
            predicates.push(
                self.shared_settled(&service, &Part::Package, "PACKAGE_APPLIED")
                    .await?,
            );
        }
        predicates.push(settled);
        let wanted = service.desired.pools.get(pool).cloned().unwrap_or_default();
        for mark in service.wanted(&part) {
            if let (Foreign::Yes, message) = units::foreign_volumes(mark, &observed) {
                return Err(data_retained(&service, &message));
            }
            predicates.extend(units::ready(&wanted, mark, &observed));
        }
        Ok(waiting_or_done(predicates))
    }

    /// Whether the objects of a part are gone.
    pub(super) async fn part_gone(&self, part: &Part) -> Result<Outcome, Fault> {
        let service = self.service().await?;
        let observed = self.observe(&service).await?;
        let gone = Self::gone(&service, &observed, part);
        if all_hold(&gone) {
            return Ok(DONE);
        }
        let mut predicates = vec![observed.agent_predicate(&service.cluster)];
        predicates.extend(gone);
        Ok(Outcome::Waiting(predicates))
    }

    /// The service, what is known of it, and the predicates that its cluster is there and has the part.
    pub(super) async fn settled_part(
        &self,
        part: &Part,
    ) -> Result<(Service, Observed, Vec<Predicate>), Fault> {
        let service = self.service().await?;
        let observed = self.observe(&service).await?;
        let predicates = vec![
            observed.agent_predicate(&service.cluster),
            self.settled(&service, &observed, part)?,
        ];
        Ok((service, observed, predicates))
    }
}

pub(super) fn waiting_or_done(predicates: Vec<Predicate>) -> Outcome {
    if all_hold(&predicates) {
        DONE
    } else {
        Outcome::Waiting(predicates)
    }
}

/// The cluster has volumes of an earlier service that the module does not know: nothing was started, so nothing is kept.
fn data_retained(service: &Service, message: &str) -> Fault {
    let name = service.name.to_string();
    Fault::Permanent {
        status: mesh::status::to_rpc(&mesh::status::build(
            Kind::FailedPrecondition,
            DOMAIN,
            "DATA_RETAINED",
            format!(
                "volumes of an earlier {name} exist: set retained_data to ADOPT or DISCARD. {message}"
            ),
            &Details::fact("service", &name).with_fact("cluster", &service.cluster),
        )),
        roll_back: true,
    }
}
