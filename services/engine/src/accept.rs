//! Accepting a request: service row, operation, audit record and request id in one transaction.

use std::collections::BTreeMap;

use diesel::result::{DatabaseErrorKind, Error as QueryError};
use serde_json::Value;
use store::{Connection, request_id, time};

use crate::{
    Error,
    config::Config,
    desired::{DesiredState, Input, RetainedPool, RetainedVolumes},
    engine::AnyEngine,
    intent::Marks,
    journal::Journal,
    names::ServiceName,
    operation::{self, Direction, Operation, State},
    package::{self, Package},
    plan::Plan,
    service::{self, DeletionPolicy, Life, Service},
};

/// Which request it is, for doing it once.
#[derive(Clone, Debug)]
pub struct Request {
    /// Full name of the method.
    pub method: &'static str,
    /// A UUID, or empty.
    pub request_id: String,
    /// What the request says, without secrets.
    pub content: Value,
}

/// What an accepted request begins.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// The service.
    pub name: ServiceName,
    /// What will be done.
    pub plan: Plan,
    /// What the steps need to know.
    pub input: Input,
    /// What becomes of the service's row at once.
    pub change: Change,
    /// What changes, for the operation log.
    pub diff: Value,
}

/// What becomes of the service's row at once.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Change {
    /// It is made.
    Create(NewService),
    /// It gets an operation.
    Begin {
        /// The service as the request was checked against; another one in the store refuses.
        seen: Service,
        /// Where it is in its life from now on, when that changes.
        life: Option<Life>,
    },
}

/// A service to make.
#[derive(Clone, Debug)]
pub struct NewService {
    /// The engine's spec.
    pub spec: Value,
    /// Version of its form.
    pub spec_version: i32,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// For people.
    pub description: String,
    /// What deleting does by default.
    pub deletion_policy: DeletionPolicy,
    /// Cluster id.
    pub cluster: String,
    /// What it runs.
    pub package: Package,
}

/// What accepting needs beside the request.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) engine: std::sync::Arc<dyn AnyEngine>,
    pub(crate) config: Config,
    pub(crate) ctx: mesh::Context,
}

/// Does it, or finds what was done for the same request before. Returns the operation.
pub(crate) fn accept(
    conn: &mut Connection,
    around: &Surroundings,
    request: &Request,
    acceptance: &Acceptance,
) -> Result<Operation, Error> {
    let principal = around.ctx.caller.principal.to_string();
    let key = request_id::Key {
        principal: &principal,
        method: request.method,
        request_id: &request.request_id,
    };
    if let Some(answer) = request_id::lookup(conn, key, &request_id::fingerprint(&request.content))?
    {
        return known(conn, &answer);
    }
    let mut operation = new_operation(around, acceptance, &principal);
    match &acceptance.change {
        Change::Create(new) => create(conn, around, acceptance, new, &mut operation)?,
        Change::Begin { seen, life } => begin(conn, around, seen, *life, &mut operation)?,
    }
    operation::model::insert(conn, &operation)?;
    store::audited(
        conn,
        &around.ctx,
        &operation.target,
        acceptance.diff.clone(),
    )?;
    request_id::record(conn, key, operation.name.as_bytes())?;
    Ok(operation)
}

/// The operation that was accepted for this request before, if any. Changes nothing.
pub(crate) fn replay(
    conn: &mut Connection,
    ctx: &mesh::Context,
    request: &Request,
) -> Result<Option<Operation>, Error> {
    let principal = ctx.caller.principal.to_string();
    let key = request_id::Key {
        principal: &principal,
        method: request.method,
        request_id: &request.request_id,
    };
    match request_id::lookup(conn, key, &request_id::fingerprint(&request.content))? {
        Some(answer) => known(conn, &answer).map(Some),
        None => Ok(None),
    }
}

fn known(conn: &mut Connection, answer: &[u8]) -> Result<Operation, Error> {
    let name = String::from_utf8_lossy(answer).into_owned();
    operation::model::find(conn, &name)?.ok_or(Error::OperationNotFound(name))
}

fn create(
    conn: &mut Connection,
    around: &Surroundings,
    acceptance: &Acceptance,
    new: &NewService,
    operation: &mut Operation,
) -> Result<(), Error> {
    let name = acceptance.name.to_string();
    match service::model::lock(conn, &name)? {
        None => {}
        Some(earlier) if earlier.life == Life::Retained => {
            let retained = earlier
                .retained
                .ok_or(Error::Broken("a retained service without volumes"))?;
            refuse_retained(&name, &retained, &acceptance.input, &new.cluster)?;
            operation.input.earlier = Some(retained);
            service::model::forget(conn, &acceptance.name)?;
        }
        Some(_) => return Err(Error::ServiceExists(name)),
    }
    package::keep(conn, &new.package)?;
    let now = time::now_us();
    let made = Service {
        name: acceptance.name.clone(),
        engine: around.engine.kind().to_owned(),
        uid: store::ids::uuid7(),
        version: 1,
        spec: new.spec.clone(),
        spec_version: new.spec_version,
        labels: new.labels.clone(),
        description: new.description.clone(),
        deletion_policy: new.deletion_policy,
        cluster: new.cluster.clone(),
        life: Life::Creating,
        message: String::new(),
        operation: operation.name.clone(),
        package: new.package.name.clone(),
        desired: DesiredState::of(&acceptance.input.units, acceptance.input.retained),
        marks: Marks::new(),
        retained: None,
        create_us: now,
        update_us: now,
    };
    match service::model::insert(conn, &made) {
        // Another request made it since the look.
        Err(Error::Store(store::Error::Database(QueryError::DatabaseError(
            DatabaseErrorKind::UniqueViolation,
            _,
        )))) => Err(Error::ServiceExists(name)),
        inserted => inserted,
    }
}

/// Refuses to create over retained volumes unless the user has chosen, chosen where they are, and leaves out none that may have the
/// newest data.
pub(crate) fn refuse_retained(
    name: &str,
    retained: &crate::desired::Retained,
    wanted: &Input,
    cluster: &str,
) -> Result<(), Error> {
    let chosen = wanted.retained;
    if chosen == RetainedVolumes::Refuse {
        return Err(Error::DataRetained {
            name: name.to_owned(),
            retained: retained.clone(),
        });
    }
    if retained.cluster != cluster {
        return Err(Error::DataElsewhere {
            name: name.to_owned(),
            cluster: retained.cluster.clone(),
        });
    }
    let fewer = |(id, left): (&String, &RetainedPool)| {
        wanted.units.get(id).copied().unwrap_or_default() < left.units
    };
    if chosen == RetainedVolumes::Adopt && retained.pools.iter().any(fewer) {
        return Err(Error::DataLeftOut {
            name: name.to_owned(),
            members: retained.members(),
        });
    }
    Ok(())
}

fn begin(
    conn: &mut Connection,
    around: &Surroundings,
    seen: &Service,
    life: Option<Life>,
    operation: &mut Operation,
) -> Result<(), Error> {
    let name = seen.name.to_string();
    let mut service = service::model::lock(conn, &name)?
        .filter(|service| service.life != Life::Retained)
        .ok_or_else(|| Error::ServiceNotFound(name.clone()))?;
    refuse_conflict(conn, around.engine.as_ref(), &service, &operation.verb)?;
    if service.uid != seen.uid || service.version != seen.version || service.life != seen.life {
        return Err(Error::Changed(name));
    }
    operation.input.previous_life = Some(service.life);
    service.operation.clone_from(&operation.name);
    if let Some(life) = life {
        service.life = life;
    }
    service::model::update(conn, &service)
}

/// Refuses while another operation works on the service.
pub(crate) fn refuse_conflict(
    conn: &mut Connection,
    engine: &dyn AnyEngine,
    service: &Service,
    verb: &str,
) -> Result<(), Error> {
    if service.operation.is_empty() {
        return Ok(());
    }
    let running =
        operation::model::find(conn, &service.operation)?.filter(|running| !running.state.ended());
    match running {
        Some(running) if engine.conflicts(&running.verb, verb) => Err(Error::InProgress {
            name: service.name.to_string(),
            operation: running.name,
        }),
        Some(_) | None => Ok(()),
    }
}

fn new_operation(around: &Surroundings, acceptance: &Acceptance, principal: &str) -> Operation {
    let now = time::now_us();
    let plan = &acceptance.plan;
    let kind = around.engine.kind();
    let id = store::ids::uuid7();
    Operation {
        name: format!("operations/{kind}/{id}"),
        engine: kind.to_owned(),
        verb: plan.verb.to_owned(),
        target: acceptance.name.to_string(),
        project: acceptance.name.project.clone(),
        principal: principal.to_owned(),
        traceparent: around.ctx.traceparent.clone(),
        input: acceptance.input.clone(),
        journal: Journal::of(plan),
        risk: plan.risk.clone(),
        on_failure: plan.on_failure,
        direction: Direction::Forward,
        state: State::Pending,
        error: None,
        response: None,
        lease_owner: String::new(),
        lease_epoch: 0,
        lease_until_us: 0,
        revision: 1,
        cancel_requested: false,
        expected_ms: plan.expected().as_millis() as i64,
        deadline_us: now + time::micros(around.config.deadline(plan.deadline)),
        undo_deadline_us: 0,
        create_us: now,
        start_us: 0,
        end_us: 0,
    }
}
