//! What a unit's status says. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use upm_crds::conditions::{self, kind};
use upm_crds::names::{self, annotation, label};
use upm_crds::unit::{ClaimCapacity, ClaimStatus, ConfigSyncStatus, Phase, PodIp};
use upm_crds::{Unit, UnitStatus};

use super::{Observed, Plan};
use crate::build::pod::revision_of;
use crate::build::volume;
use crate::facts;

pub(super) fn status(unit: &Unit, observed: &Observed, plan: &Plan) -> UnitStatus {
    let pod = observed.pod.as_deref();
    let before = unit.status.clone().unwrap_or_default();
    let ready = pod.is_some_and(facts::is_ready);
    let pod_status = pod.and_then(|pod| pod.status.as_ref());
    let phase = phase(unit, pod, observed);
    let mut status = UnitStatus {
        conditions: before.conditions,
        observed_generation: unit.metadata.generation,
        phase,
        ready,
        node_ready: if pod.and_then(facts::node_name).is_some() {
            observed.node_ready.clone()
        } else {
            String::new()
        },
        node_name: pod.and_then(facts::node_name).map(str::to_owned),
        task: plan.task.clone(),
        process_state: process_state(unit, pod).to_owned(),
        host_ip: pod_status.and_then(|status| status.host_ip.clone()),
        pod_ips: pod_status
            .and_then(|status| status.pod_ips.as_ref())
            .into_iter()
            .flatten()
            .map(|ip| PodIp { ip: ip.ip.clone() })
            .collect(),
        version: pod.and_then(|pod| pod.annotations().get(annotation::MAIN_VERSION).cloned()),
        revision: pod.map(|pod| revision_of(pod.annotations())),
        role: pod.and_then(|pod| pod.labels().get(label::ROLE).cloned()),
        config_sync_status: pod
            .map(|pod| config_synced(unit, pod, before.config_sync_status, observed.now)),
        persistent_volume_claim: claims(unit, observed),
    };
    let (reason, message) = match phase {
        Phase::Ready => ("ServerAnswers", String::new()),
        Phase::Stopped => ("Stopped", "startup is false".to_owned()),
        Phase::Pending | Phase::Running | Phase::Succeeded | Phase::Failed | Phase::Unknown => {
            ("NotReady", plan.task.clone())
        }
    };
    conditions::set(
        &mut status.conditions,
        kind::READY,
        ready,
        reason,
        message,
        observed.now,
    );
    conditions::observed(&mut status.conditions, unit.metadata.generation);
    status
}

fn phase(unit: &Unit, pod: Option<&Pod>, observed: &Observed) -> Phase {
    let Some(pod) = pod else {
        return if unit.spec.startup {
            Phase::Pending
        } else {
            Phase::Stopped
        };
    };
    match facts::phase(pod) {
        "Succeeded" => Phase::Succeeded,
        "Failed" => Phase::Failed,
        "Unknown" => Phase::Unknown,
        "Running" if facts::node_name(pod).is_some() && observed.node_ready != "True" => {
            Phase::Unknown
        }
        "Running" if facts::is_ready(pod) => Phase::Ready,
        "Running" => Phase::Running,
        _ => Phase::Pending,
    }
}

fn process_state(unit: &Unit, pod: Option<&Pod>) -> &'static str {
    let main = unit
        .spec
        .template
        .annotations
        .get(annotation::MAIN_CONTAINER);
    let statuses = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
    let container: Option<&ContainerStatus> = statuses
        .into_iter()
        .flatten()
        .find(|container| Some(&container.name) == main);
    match container {
        None if pod.is_some() => "starting",
        None => "stopped",
        Some(container) if container.ready => "running",
        Some(container) => {
            let state = container.state.as_ref();
            let crashed = state.is_some_and(|state| {
                state.terminated.is_some()
                    || state
                        .waiting
                        .as_ref()
                        .is_some_and(|w| w.reason.as_deref() == Some("CrashLoopBackOff"))
            });
            if crashed { "crashed" } else { "starting" }
        }
    }
}

/// Whether the pod was started with what the unit says now.
fn config_synced(
    unit: &Unit,
    pod: &Pod,
    before: Option<ConfigSyncStatus>,
    now: Timestamp,
) -> ConfigSyncStatus {
    let same = revision_of(pod.annotations()) == revision_of(&unit.spec.template.annotations);
    let status = if same { "True" } else { "False" };
    match before {
        Some(before) if before.status == status => before,
        Some(_) | None => ConfigSyncStatus {
            status: status.to_owned(),
            last_transition_time: Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
        },
    }
}

fn claims(unit: &Unit, observed: &Observed) -> Vec<ClaimStatus> {
    let one = |claim: &PersistentVolumeClaim| ClaimStatus {
        name: claim.name_any(),
        volume_name: claim
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.clone()),
        access_modes: claim
            .status
            .as_ref()
            .and_then(|status| status.access_modes.clone())
            .unwrap_or_default(),
        capacity: ClaimCapacity {
            storage: volume::capacity(claim).map(|size| size.0.clone()),
        },
        phase: claim
            .status
            .as_ref()
            .and_then(|status| status.phase.clone())
            .unwrap_or_default(),
    };
    let names = unit
        .spec
        .volume_claim_templates
        .iter()
        .map(|template| names::pvc(&unit.name_any(), &template.name));
    names
        .filter_map(|name| observed.claims.get(&name))
        .map(|claim| one(claim))
        .collect()
}
