//! What a set needs next. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use upm_crds::names::{self, annotation, finalizer, label};
use upm_crds::unit_set::{UpdateStrategyType, VolumeRetentionPolicy};
use upm_crds::{Unit, UnitSet};
use upm_operator::Next;

use super::claims::{Retained, retained};
use super::teardown::{Teardown, teardown};
use super::{Observed, SecretState};
use crate::build::config_map::{self, Keys};
use crate::build::pod::{self, Inputs, revision_of};
use crate::build::{disruption, network, service, unit, volume};
use crate::facts::pod_facts;
use crate::package::Package;
use crate::rollout::{Bounds, Decision, Power, Step, UnitFacts, Waiting, leave, power, rollout};

/// How often what a gatekeeper answers is looked at while a unit waits for it.
const LOOK_AT_ANSWER: SignedDuration = SignedDuration::from_secs(2);
const PROGRESS_DEADLINE: SignedDuration = SignedDuration::from_mins(10);

/// What to do for a set.
#[derive(Debug)]
pub(crate) enum Plan {
    /// The set has to be kept from vanishing before anything is made for it.
    AddFinalizer,
    /// Nothing can be done: the spec or the package is not usable. What runs goes on running.
    Blocked,
    /// The set is being deleted.
    Teardown(Teardown),
    /// Make it so.
    Converge(Box<Converge>),
}

/// Everything that is changed for a set, in this order.
#[derive(Debug, Default)]
pub(crate) struct Converge {
    pub(crate) retained: Retained,
    pub(crate) make_secret: bool,
    pub(crate) add_keys: Vec<String>,
    pub(crate) maps: Vec<ConfigMap>,
    pub(crate) services: Vec<Service>,
    pub(crate) units: Vec<Unit>,
    pub(crate) budget: PodDisruptionBudget,
    /// Who may connect; `None` where no policies are made.
    pub(crate) policy: Option<NetworkPolicy>,
    pub(crate) decision: Decision,
    pub(crate) surplus: Surplus,
    pub(crate) drop_maps: Vec<(String, Option<String>)>,
    pub(crate) drop_services: Vec<(String, Option<String>)>,
    pub(crate) drop_claims: Vec<(String, Option<String>)>,
    /// Ordinals whose pod is of the target revision.
    pub(crate) updated: BTreeSet<i32>,
    pub(crate) next: Option<Next>,
}

/// Units beyond the wanted number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surplus {
    /// The one to delete now: name and uid.
    pub(crate) delete: Option<(String, Option<String>)>,
    /// The one to ask the gatekeeper for.
    pub(crate) ask: Option<i32>,
    /// Those that are asked for and not next.
    pub(crate) take_back: Vec<i32>,
    pub(crate) waiting: Option<Waiting>,
}

pub(super) fn plan(set: &UnitSet, observed: &Observed) -> Plan {
    if set.metadata.deletion_timestamp.is_some() {
        return Plan::Teardown(teardown(set, observed));
    }
    if !upm_operator::finalizer::present(set, finalizer::UNIT_SET) {
        return Plan::AddFinalizer;
    }
    match (&observed.package, &observed.value) {
        (Ok(package), Ok(value)) if observed.errors.is_empty() => {
            Plan::Converge(Box::new(converge(set, observed, package, value)))
        }
        _ => Plan::Blocked,
    }
}

fn converge(set: &UnitSet, observed: &Observed, package: &Package, value: &str) -> Converge {
    let keys = Keys::of(&set.spec.type_, package, value);
    let retained = retained(set, observed);
    let (make_secret, add_keys) = match &observed.secret {
        SecretState::NotWanted => (false, Vec::new()),
        SecretState::Absent => (true, Vec::new()),
        SecretState::Present { missing, .. } => (false, missing.clone()),
    };
    let target = |ordinal| {
        let started_for = observed
            .pods
            .get(&ordinal)
            .and_then(|pod| pod.annotations().get(annotation::RESTARTED_AT));
        pod::template(Inputs {
            set,
            package,
            ordinal,
            keys: &keys,
            settings: &observed.settings,
            started_for: started_for.map(String::as_str),
        })
    };
    let wanted: Vec<i32> = (0..set.spec.units).collect();
    let facts: Vec<UnitFacts> = wanted
        .iter()
        .filter_map(|ordinal| {
            let unit = observed.units.get(ordinal)?;
            Some(facts(
                *ordinal,
                unit,
                revision_of(&target(*ordinal).annotations),
                observed,
            ))
        })
        .collect();
    let powered = power(&facts, set.spec.startup, observed.now);
    let decision = decide(set, &facts, observed.now);
    let mut units = Vec::new();
    for ordinal in wanted {
        let on = powered.on.contains(&ordinal)
            || (set.spec.startup && !observed.units.contains_key(&ordinal));
        let template = match observed.units.get(&ordinal) {
            Some(found) if !takes_target(ordinal, found, &facts, &decision) => {
                kept(&found.spec.template, &target(ordinal))
            }
            None if retained.blocks() => continue,
            Some(_) | None => target(ordinal),
        };
        let mut wanted = unit::unit(set, ordinal, template, on);
        // a unit that is left as it was seen must not overwrite what was written meanwhile
        wanted.metadata.resource_version = observed
            .units
            .get(&ordinal)
            .and_then(|found| found.resource_version());
        units.push(wanted);
    }
    let surplus = surplus(set, observed);
    let updating =
        decision.waiting.is_some() || !decision.steps.is_empty() || !decision.in_update.is_empty();
    let mut converge = Converge {
        retained,
        make_secret,
        add_keys,
        maps: maps(set, observed, package, value, updating),
        services: services(set, package),
        units,
        budget: disruption::budget(set, observed.units.len(), observed.gate.is_kept()),
        policy: (observed.settings.network_policies)
            .then(|| network::policy(set, &observed.settings.system_namespace)),
        updated: facts
            .iter()
            .filter(|facts| facts.updated())
            .map(|facts| facts.ordinal)
            .collect(),
        ..Converge::default()
    };
    leftovers(set, observed, &mut converge);
    converge.next = next(&decision, &powered, &surplus, &converge, observed.now);
    converge.decision = decision;
    converge.surplus = surplus;
    converge
}

fn facts(ordinal: i32, unit: &Unit, target: String, observed: &Observed) -> UnitFacts {
    UnitFacts {
        ordinal,
        gated: observed.gate.keeps(&unit.name_any()),
        maintenance: crate::unit::in_maintenance(unit),
        drained: observed.drained.contains(&ordinal),
        next: revision_of(&unit.spec.template.annotations),
        target,
        pod: observed.pods.get(&ordinal).map(|pod| pod_facts(pod)),
    }
}

/// A set that does not run is not updated step by step: its units take the target as soon as their pods are gone.
fn decide(set: &UnitSet, facts: &[UnitFacts], now: Timestamp) -> Decision {
    if !set.spec.startup {
        let gone = facts
            .iter()
            .filter(|facts| facts.pod.is_none() && facts.next != facts.target);
        return Decision {
            steps: gone.map(|facts| Step::Write(facts.ordinal)).collect(),
            ..Decision::default()
        };
    }
    let rolling = set
        .spec
        .update_strategy
        .rolling_update
        .clone()
        .unwrap_or_default();
    let bounds = Bounds {
        partition: rolling.partition.unwrap_or(0),
        max_unavailable: usize::try_from(rolling.max_unavailable.unwrap_or(1))
            .unwrap_or(1)
            .max(1),
        progress_deadline: rolling
            .progress_deadline_seconds
            .map_or(PROGRESS_DEADLINE, |seconds| {
                SignedDuration::from_secs(i64::from(seconds))
            }),
        on_delete: set.spec.update_strategy.type_ == UpdateStrategyType::OnDelete,
    };
    rollout(facts, &bounds, now)
}

/// Whether the unit's next start uses the target.
fn takes_target(ordinal: i32, found: &Unit, facts: &[UnitFacts], decision: &Decision) -> bool {
    let at_target = facts
        .iter()
        .any(|facts| facts.ordinal == ordinal && facts.next == facts.target);
    at_target
        || found.spec.template.spec.containers.is_empty()
        || decision
            .steps
            .iter()
            .any(|step| matches!(step, Step::Restart(i) | Step::Write(i) if *i == ordinal))
}

/// The template as it is, with the labels of now: they need no restart.
fn kept(
    found: &upm_crds::unit::PodTemplate,
    target: &upm_crds::unit::PodTemplate,
) -> upm_crds::unit::PodTemplate {
    upm_crds::unit::PodTemplate {
        labels: target.labels.clone(),
        ..found.clone()
    }
}

fn maps(
    set: &UnitSet,
    observed: &Observed,
    package: &Package,
    value: &str,
    updating: bool,
) -> Vec<ConfigMap> {
    let name = set.name_any();
    let mounted_by = |map: &str| -> BTreeSet<String> {
        let units = observed.units.values().map(|unit| &unit.spec.template.spec);
        let pods = observed.pods.values().filter_map(|pod| pod.spec.as_ref());
        units
            .chain(pods)
            .flat_map(|spec| config_map::mounted(spec, map))
            .collect()
    };
    let kept = |map: &str| {
        config_map::kept(
            observed.maps.get(map).map(AsRef::as_ref),
            &mounted_by(map),
            updating,
        )
    };
    let mut maps = vec![config_map::template_map(
        set,
        package,
        kept(&names::config_template(&name)),
    )];
    for ordinal in 0..set.spec.units {
        let map = names::config_value(&names::unit_name(&name, ordinal));
        maps.push(config_map::value_map(set, ordinal, value, kept(&map)));
    }
    maps
}

fn services(set: &UnitSet, package: &Package) -> Vec<Service> {
    let mut services = vec![service::headless(set, package)];
    services.extend(
        set.spec
            .external_service
            .as_ref()
            .map(|wanted| service::external(set, package, wanted.type_)),
    );
    if let Some(wanted) = &set.spec.unit_service {
        services.extend(
            (0..set.spec.units).map(|ordinal| service::unit(set, package, ordinal, wanted.type_)),
        );
    }
    services
}

/// The highest unit beyond the wanted number goes, one at a time and the primary last; those that do not serve go first, because their
/// going costs nothing. One that a topology names is asked for.
fn surplus(set: &UnitSet, observed: &Observed) -> Surplus {
    let mut surplus = Surplus::default();
    let extra = observed.units.range(set.spec.units..);
    let mut extra: Vec<(UnitFacts, &std::sync::Arc<Unit>)> = extra
        .map(|(ordinal, unit)| (facts(*ordinal, unit, String::new(), observed), unit))
        .collect();
    if extra
        .iter()
        .any(|(_, unit)| unit.metadata.deletion_timestamp.is_some())
    {
        return surplus;
    }
    let held: Vec<i32> = extra
        .iter()
        .filter(|(facts, _)| facts.maintenance)
        .map(|(facts, _)| facts.ordinal)
        .collect();
    extra.retain(|(facts, _)| !facts.maintenance);
    extra.sort_by_key(|(facts, _)| {
        (
            facts.serves(),
            facts.is_primary(),
            std::cmp::Reverse(facts.ordinal),
        )
    });
    let Some((next, unit)) = extra.first() else {
        surplus.waiting = (!held.is_empty()).then_some(Waiting::Maintenance(held));
        return surplus;
    };
    if next.may_leave() {
        surplus.delete = Some((unit.name_any(), unit.uid()));
    } else {
        surplus.ask = (!next.asked()).then_some(next.ordinal);
        let units = std::slice::from_ref(next);
        surplus.waiting = Some(leave(units, &[next.ordinal], observed.now));
    }
    let asked = extra.iter().skip(1).filter(|(facts, _)| facts.asked());
    surplus.take_back = asked.map(|(facts, _)| facts.ordinal).collect();
    surplus
}

/// What belongs to ordinals that are no longer there, and services that are no longer wanted.
fn leftovers(set: &UnitSet, observed: &Observed, converge: &mut Converge) {
    let name = set.name_any();
    let gone = |labels: &std::collections::BTreeMap<String, String>| {
        let ordinal = labels
            .get(label::UNIT)
            .and_then(|unit| names::ordinal(&name, unit));
        ordinal.is_some_and(|ordinal| {
            ordinal >= set.spec.units
                && !observed.units.contains_key(&ordinal)
                && !observed.pods.contains_key(&ordinal)
        })
    };
    let wanted: BTreeSet<String> = converge
        .services
        .iter()
        .map(kube::ResourceExt::name_any)
        .collect();
    for (service_name, service) in &observed.services {
        let of_unit = service.labels().contains_key(label::UNIT);
        if if of_unit {
            gone(service.labels()) || set.spec.unit_service.is_none()
        } else {
            !wanted.contains(service_name)
        } {
            converge
                .drop_services
                .push((service_name.clone(), service.uid()));
        }
    }
    for (map_name, map) in &observed.maps {
        if gone(map.labels()) {
            converge.drop_maps.push((map_name.clone(), map.uid()));
        }
    }
    if set.spec.volume_retention_policy == VolumeRetentionPolicy::Delete {
        let uid = set.uid().unwrap_or_default();
        for (claim_name, claim) in &observed.claims {
            let ours =
                volume::belongs_to(claim, &uid) && claim.metadata.deletion_timestamp.is_none();
            if ours && gone(claim.labels()) {
                converge.drop_claims.push((claim_name.clone(), claim.uid()));
            }
        }
    }
}

fn next(
    decision: &Decision,
    power: &Power,
    surplus: &Surplus,
    converge: &Converge,
    now: Timestamp,
) -> Option<Next> {
    let asks = [&decision.waiting, &surplus.waiting]
        .into_iter()
        .any(|waiting| matches!(waiting, Some(Waiting::Leave { .. })));
    // why the gatekeeper does not agree changes without a change of what is watched here
    let answer = asks.then(|| now + LOOK_AT_ANSWER);
    let moments = [decision.again, power.again, answer];
    let soonest = moments
        .into_iter()
        .flatten()
        .filter(|moment| *moment > now)
        .min();
    if !converge.retained.discard.is_empty() || !converge.retained.adopt.is_empty() {
        return Some(Next::After(Duration::from_secs(2)));
    }
    soonest.map(|moment| {
        let wait = Duration::try_from(moment.duration_since(now)).unwrap_or_default();
        Next::After(wait + Duration::from_secs(1))
    })
}
