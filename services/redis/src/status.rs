//! What the status of a service's objects means: members, roles, addresses, predicates. Pure.

mod predicates;

use crds::{
    Condition, RedisReplicationStatus, UnitSetStatus, names,
    redis_replication::{Member, Refusal, Role},
    unit_set::UnitSummary,
};
use engine::{Life, Observed, Predicate, Primary, Service, UNIT_SET_KIND, desired::MAIN};
use upm_proto::redis::v1 as pb;

pub(crate) use self::predicates::{
    best_replica, check, replication_ready, switchover, target_ready, writable,
};
use crate::spec::RedisSpec;

pub(crate) const REPLICATION_KIND: &str = "RedisReplication";

/// What was seen of a service, as the platform tells it.
pub(crate) fn view(
    service: &Service,
    spec: &RedisSpec,
    observed: Option<&Observed>,
) -> pb::RedisStatus {
    let (members, port) = (spec.members, spec.access.port);
    let units = unit_set(service, observed);
    let replication = replication(service, observed);
    let listed = member_list(service, port, units.as_ref(), replication.as_ref());
    let (state, message) = state(service, members, observed, replication.as_ref(), &listed);
    pb::RedisStatus {
        state: state.into(),
        message,
        primary: replication
            .as_ref()
            .and_then(|replication| replication.primary.clone())
            .unwrap_or_default(),
        epoch: replication
            .as_ref()
            .map_or(0, |replication| replication.epoch),
        readwrite_address: address(
            &names::readwrite_service(&service.name.service),
            &service.name.project,
            port,
        ),
        readonly_address: readonly_address(service, spec),
        conditions: conditions(units.as_ref(), replication.as_ref())
            .into_iter()
            .map(Into::into)
            .collect(),
        operation: service.operation.clone(),
        agent_connected: observed
            .and_then(Observed::agent_connected)
            .unwrap_or(false),
        observe_time: observed.and_then(Observed::observe_time),
        members: listed,
        refusal: replication
            .and_then(|replication| replication.refusal)
            .map(|refusal| pb::Refusal {
                candidate: refusal.candidate.unwrap_or_default(),
                loss: refusal.loss,
                loss_id: refusal.loss_id,
                missing: refusal
                    .missing
                    .into_iter()
                    .map(|fact| {
                        let name = predicates::upper_snake(&fact.predicate);
                        let about = if fact.member.is_empty() {
                            fact.detail
                        } else {
                            format!("{}: {}", fact.member, fact.detail)
                        };
                        Predicate::unmet(&name, about).into()
                    })
                    .collect(),
            }),
    }
}

/// The refused election, by the last report, and the epoch it is about.
pub(crate) fn refusal(service: &Service, observed: &Observed) -> Option<(i64, Refusal)> {
    let replication = replication(service, Some(observed))?;
    Some((replication.epoch, replication.refusal?))
}

/// Who takes writes, by the last report.
pub(crate) fn primary(service: &Service, observed: &Observed) -> Option<Primary> {
    let replication = replication(service, Some(observed))?;
    let unit = replication.primary.filter(|unit| !unit.is_empty())?;
    let ordinal = names::ordinal(&service.name.service, &unit)?;
    Some(Primary {
        ordinal: u32::try_from(ordinal).ok()?,
        unit,
        epoch: replication.epoch,
    })
}

/// `host:port` of a Kubernetes service.
pub(crate) fn address(service: &str, namespace: &str, port: u16) -> String {
    format!("{service}.{namespace}.svc:{port}")
}

/// Address for reads; empty with one member.
pub(crate) fn readonly_address(service: &Service, spec: &RedisSpec) -> String {
    if spec.members < 2 {
        return String::new();
    }
    address(
        &names::readonly_service(&service.name.service),
        &service.name.project,
        spec.access.port,
    )
}

fn unit_set(service: &Service, observed: Option<&Observed>) -> Option<UnitSetStatus> {
    observed?.last_status(UNIT_SET_KIND, &service.name.service)
}

fn replication(service: &Service, observed: Option<&Observed>) -> Option<RedisReplicationStatus> {
    observed?.last_status(REPLICATION_KIND, &service.name.service)
}

fn member_list(
    service: &Service,
    port: u16,
    units: Option<&UnitSetStatus>,
    replication: Option<&RedisReplicationStatus>,
) -> Vec<pb::RedisMember> {
    let reported = units.map_or(0, |units| units.unit_statuses.len());
    let count = reported
        .max(service.desired.units_of(MAIN) as usize)
        .min(64);
    (0..count)
        .map(|ordinal| {
            let name = names::unit_name(&service.name.service, ordinal as i32);
            let unit =
                units.and_then(|units| units.unit_statuses.iter().find(|unit| unit.name == name));
            let known = replication.and_then(|replication| replication.topology.get(&name));
            let primary = replication.and_then(|replication| replication.primary.as_deref());
            pb::RedisMember {
                address: format!(
                    "{}:{port}",
                    names::unit_host(&service.name.service, ordinal as i32, &service.name.project)
                ),
                ..member(&name, unit, known, primary)
            }
        })
        .collect()
}

fn member(
    name: &str,
    unit: Option<&UnitSummary>,
    known: Option<&Member>,
    primary: Option<&str>,
) -> pb::RedisMember {
    let ready = unit.is_some_and(|unit| unit.ready);
    let role = match known.map(|member| member.role) {
        Some(Role::Source) if primary == Some(name) => pb::MemberRole::Primary,
        Some(Role::Replica) => pb::MemberRole::Replica,
        // It says of itself that it takes writes, but it was not chosen: it is fenced, or about to be.
        Some(Role::Source | Role::None) if ready => pb::MemberRole::Parked,
        Some(Role::Source | Role::None) | None => pb::MemberRole::Unspecified,
    };
    let link_up = match role {
        pb::MemberRole::Primary => true,
        pb::MemberRole::Replica => known.is_some_and(linked),
        pb::MemberRole::Parked | pb::MemberRole::Unspecified => false,
    };
    let message = known
        .and_then(|member| member.message.clone())
        .filter(|message| !message.is_empty())
        .or_else(|| unit.and_then(|unit| unit.message.clone()))
        .unwrap_or_default();
    pb::RedisMember {
        name: name.to_owned(),
        role: role.into(),
        version: known
            .and_then(|member| member.version.clone())
            .unwrap_or_default(),
        ready,
        link_up,
        lag_bytes: match role {
            pb::MemberRole::Primary => 0,
            _ => known.and_then(|member| member.lag_bytes).unwrap_or(-1),
        },
        node: unit
            .and_then(|unit| unit.node_name.clone())
            .unwrap_or_default(),
        message,
        address: String::new(),
    }
}

/// Whether a replica's link to its primary is up and it has the whole data set.
pub(super) fn linked(member: &Member) -> bool {
    member.role == Role::Replica
        && member.master_link_status.as_deref() == Some("up")
        && member.master_sync_in_progress != Some(true)
}

fn state(
    service: &Service,
    members: u32,
    observed: Option<&Observed>,
    replication: Option<&RedisReplicationStatus>,
    listed: &[pb::RedisMember],
) -> (pb::ServiceState, String) {
    let told = service.message.clone();
    match service.life {
        Life::Creating => return (pb::ServiceState::Creating, told),
        Life::Failed => return (pb::ServiceState::Failed, told),
        Life::Deleting | Life::Retained => return (pb::ServiceState::Deleting, told),
        Life::Active => {}
    }
    let Some(observed) = observed else {
        return (
            pb::ServiceState::Degraded,
            "the hub does not answer; what the service does is not known".to_owned(),
        );
    };
    let away = if observed.agent_connected() == Some(true) {
        String::new()
    } else {
        format!(
            "the agent of clusters/{} is away; this is what it reported last. ",
            service.cluster
        )
    };
    let Some(replication) = replication else {
        return (
            pb::ServiceState::Unavailable,
            format!("{away}the cluster has not reported the replication"),
        );
    };
    if !replication.writable {
        let why = predicates::why_not_writable(replication);
        return (
            pb::ServiceState::Unavailable,
            format!("{away}no writes: {why}"),
        );
    }
    let fit = |member: &&pb::RedisMember| member.ready && member.link_up;
    let well = listed.iter().filter(fit).count();
    if well < members as usize {
        let ill: Vec<String> = listed
            .iter()
            .filter(|member| !fit(member))
            .map(|member| match member.message.as_str() {
                "" => member.name.clone(),
                message => format!("{} ({message})", member.name),
            })
            .collect();
        let message = format!(
            "{away}{well} of {members} members do their part; not {}",
            ill.join(", ")
        );
        return (pb::ServiceState::Degraded, message);
    }
    (pb::ServiceState::Ready, away.trim_end().to_owned())
}

/// Conditions of the objects as named predicates.
fn conditions(
    units: Option<&UnitSetStatus>,
    replication: Option<&RedisReplicationStatus>,
) -> Vec<Predicate> {
    use crds::conditions::kind;
    let of = |conditions: Option<&Vec<Condition>>, type_: &str, name: &str, wanted: &str| {
        conditions
            .and_then(|conditions| crds::conditions::find(conditions, type_))
            .map(|condition| {
                Predicate::new(
                    name,
                    condition.status == wanted,
                    predicates::words(condition),
                )
            })
    };
    let units = units.map(|units| &units.conditions);
    let replication = replication.map(|replication| &replication.conditions);
    [
        of(units, kind::PACKAGE_FOUND, "PACKAGE_FOUND", "True"),
        of(units, kind::VOLUMES_RETAINED, "VOLUMES_CHOSEN", "False"),
        of(units, kind::READY, "UNITS_READY", "True"),
        of(
            replication,
            kind::PRIMARY_ELECTED,
            "PRIMARY_ELECTED",
            "True",
        ),
        of(replication, kind::TOPOLOGY_READY, "TOPOLOGY_READY", "True"),
        of(replication, kind::RESOURCE_READY, "ROUTES_READY", "True"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
pub(crate) mod tests;
