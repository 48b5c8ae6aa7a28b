//! What a set's status says. Pure.

mod progress;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use upm_crds::conditions::{self, kind};
use upm_crds::names::{self, annotation, label};
use upm_crds::unit::Phase;
use upm_crds::unit_set::{ServiceName, ServiceNames, Synced, UnitSummary};
use upm_crds::{Condition, Unit, UnitSet, UnitSetStatus, quantity};

use super::{Observed, Plan};
use crate::build::pod::restart_mark;
use crate::build::volume;
use crate::facts;
use progress::{Report, report};

pub(super) fn status(set: &UnitSet, observed: &Observed, plan: &Plan) -> UnitSetStatus {
    let before = set.status.clone().unwrap_or_default();
    let wanted = || (0..set.spec.units).map(|ordinal| observed.pods.get(&ordinal));
    let all = |holds: &dyn Fn(&Pod) -> bool| wanted().all(|pod| pod.is_some_and(|pod| holds(pod)));
    let ready = wanted()
        .flatten()
        .filter(|pod| facts::is_ready(pod))
        .count();
    let synced = |holds, before| Some(synced(holds, before, observed.now));
    let report = report(
        set,
        observed,
        plan,
        i32::try_from(ready).unwrap_or(i32::MAX),
    );
    let mut status = UnitSetStatus {
        conditions: before.conditions,
        observed_generation: set.metadata.generation,
        units: i32::try_from(observed.units.len()).unwrap_or(i32::MAX),
        ready_units: i32::try_from(ready).unwrap_or(i32::MAX),
        updated_units: match plan {
            Plan::Converge(converge) => i32::try_from(converge.updated.len()).unwrap_or(i32::MAX),
            Plan::AddFinalizer | Plan::Blocked | Plan::Teardown(_) => before.updated_units,
        },
        restarted_at: match &set.spec.restarted_at {
            Some(at) if all(&|pod| restarted(pod, at)) => Some(at.clone()),
            Some(_) => before.restarted_at,
            None => None,
        },
        unit_pvc_synced: synced(volumes_synced(set, observed), before.unit_pvc_synced),
        unit_image_synced: synced(
            all(&|pod| pod.annotations().get(annotation::MAIN_VERSION) == Some(&set.spec.version)),
            before.unit_image_synced,
        ),
        unit_resource_synced: synced(
            all(&|pod| resources_synced(set, pod)),
            before.unit_resource_synced,
        ),
        in_update: match plan {
            Plan::Converge(converge) => progress::names(set, &converge.decision.in_update),
            Plan::AddFinalizer | Plan::Blocked | Plan::Teardown(_) => String::new(),
        },
        external_service: set.spec.external_service.as_ref().and_then(|_| {
            let name = names::external_service(&set.name_any());
            observed
                .services
                .contains_key(&name)
                .then_some(ServiceName { name })
        }),
        unit_service: set
            .spec
            .unit_service
            .as_ref()
            .map(|_| unit_services(observed)),
        unit_statuses: observed
            .units
            .iter()
            .take(names::MAX_UNITS as usize)
            .map(|(ordinal, unit)| {
                summary(
                    *ordinal,
                    unit,
                    observed.pods.get(ordinal).map(AsRef::as_ref),
                )
            })
            .collect(),
    };
    write(
        &mut status.conditions,
        &report,
        set,
        observed.in_project,
        observed.now,
    );
    status
}

fn write(
    conditions: &mut Vec<Condition>,
    report: &Report,
    set: &UnitSet,
    in_project: bool,
    now: Timestamp,
) {
    for line in &report.lines {
        conditions::set(
            conditions,
            line.kind,
            line.holds,
            line.reason,
            line.message.clone(),
            now,
        );
    }
    if !report
        .lines
        .iter()
        .any(|line| line.kind == kind::VOLUMES_RETAINED)
    {
        conditions::remove(conditions, kind::VOLUMES_RETAINED);
    }
    conditions::ignored(conditions, &set.spec.ignored(), now);
    if in_project {
        conditions::remove(conditions, kind::IN_PROJECT);
    } else {
        let namespace = set.namespace().unwrap_or_default();
        let words = format!(
            "namespace {namespace} belongs to no Project: where writing is confined to projects nothing is made in it; make a Project {namespace}"
        );
        conditions::set(
            conditions,
            kind::IN_PROJECT,
            false,
            "NamespaceWithoutProject",
            words,
            now,
        );
    }
    conditions::observed(conditions, set.metadata.generation);
}

fn synced(holds: bool, before: Option<Synced>, now: Timestamp) -> Synced {
    let status = if holds { "True" } else { "False" };
    match before {
        Some(before) if before.status == status => before,
        Some(_) | None => Synced {
            status: status.to_owned(),
            // the API stores whole seconds
            last_transition_time: Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
        },
    }
}

fn volumes_synced(set: &UnitSet, observed: &Observed) -> bool {
    (0..set.spec.units).all(|ordinal| {
        let unit = names::unit_name(&set.name_any(), ordinal);
        set.spec.storage.iter().all(|storage| {
            let claim = observed.claims.get(&names::pvc(&unit, &storage.name));
            let capacity = claim.and_then(|claim| volume::capacity(claim));
            capacity.is_some_and(|capacity| quantity::compare(capacity, &storage.size).is_ge())
        })
    })
}

fn resources_synced(set: &UnitSet, pod: &Pod) -> bool {
    let Some(wanted) = &set.spec.resources else {
        return true;
    };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let Some(found) = containers
        .filter(|c| c.name == set.spec.type_)
        .find_map(|c| c.resources.as_ref())
    else {
        return false;
    };
    let same = |wanted: &Option<BTreeMap<_, _>>, found: &Option<BTreeMap<_, _>>| {
        wanted.iter().flatten().all(|(name, amount)| {
            let found = found.as_ref().and_then(|found| found.get(name));
            found.is_some_and(|found| quantity::compare(found, amount).is_eq())
        })
    };
    same(&wanted.limits, &found.limits) && same(&wanted.requests, &found.requests)
}

fn unit_services(observed: &Observed) -> ServiceNames {
    let services = observed.services.values();
    let named = services.filter_map(|service| {
        Some((
            service.labels().get(label::UNIT)?.clone(),
            service.name_any(),
        ))
    });
    ServiceNames {
        name: named.collect(),
    }
}

fn summary(ordinal: i32, unit: &Unit, pod: Option<&Pod>) -> UnitSummary {
    let ready = pod.is_some_and(facts::is_ready);
    let seen = unit.status.as_ref();
    let phase = match (ready, seen.map(|status| status.phase).unwrap_or_default()) {
        (true, _) => Phase::Ready,
        // the unit's own status is a moment behind
        (false, Phase::Ready) => Phase::Running,
        (false, other) => other,
    };
    UnitSummary {
        name: unit.name_any(),
        ordinal,
        phase: phase.to_string(),
        ready,
        node_name: pod.and_then(facts::node_name).map(str::to_owned),
        pod_ip: pod.and_then(|pod| pod.status.as_ref()?.pod_ip.clone()),
        version: pod.and_then(|pod| pod.annotations().get(annotation::MAIN_VERSION).cloned()),
        role: pod.and_then(|pod| pod.labels().get(label::ROLE).cloned()),
        message: seen
            .map(|status| status.task.clone())
            .filter(|task| !task.is_empty() && !ready),
    }
}

/// Whether a pod was started for this mark, or for a later one.
fn restarted(pod: &Pod, at: &str) -> bool {
    let found = pod.annotations().get(annotation::RESTARTED_AT);
    let found = found.map(String::as_str);
    found.is_some() && restart_mark(Some(at), found) == found
}
