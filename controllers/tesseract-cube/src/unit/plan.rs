//! What a unit needs next. Pure. A running pod is never restarted here: that is decided for the whole set.

use std::cmp::Ordering;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use upm_crds::names::{self, annotation, finalizer};
use upm_crds::{Unit, quantity};
use upm_operator::Next;

use super::{Observed, REPLACE_INTERVAL};
use crate::build::{Map, identity, volume};
use crate::facts;

/// How often a pod is looked at that the watch does not show.
const UNWATCHED: std::time::Duration = std::time::Duration::from_secs(2);

/// A change of a claim.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ClaimStep {
    /// Make it.
    Create(Box<PersistentVolumeClaim>),
    /// Write labels that were changed or removed.
    Label { name: String, labels: Map },
    /// Ask for more.
    Grow { name: String, size: Quantity },
}

/// A change of the pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PodStep {
    /// It is as it shall be, or nothing can be done about it now.
    Leave,
    /// Make it.
    Create,
    /// Delete exactly this one.
    Delete {
        uid: Option<String>,
        reason: &'static str,
        note: String,
    },
    /// Write labels and annotations that changed.
    Label { labels: Map, annotations: Map },
}

/// What to do for a unit, and why it is not ready if it is not.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) claims: Vec<ClaimStep>,
    pub(crate) issue_identity: bool,
    pub(crate) pod: PodStep,
    /// Finalizers of earlier versions are in the way of a deletion.
    pub(crate) drop_finalizers: bool,
    /// What is being done, or waited for.
    pub(crate) task: String,
    pub(crate) next: Next,
}

pub(super) fn plan(unit: &Unit, observed: &Observed) -> Plan {
    let mut plan = Plan {
        claims: Vec::new(),
        issue_identity: false,
        pod: PodStep::Leave,
        drop_finalizers: false,
        task: String::new(),
        next: Next::Await,
    };
    let pod = observed.pod.as_deref();
    if unit.metadata.deletion_timestamp.is_some() {
        // the pod goes first, because it is the unit's child
        plan.drop_finalizers = pod.is_none()
            && finalizer::LEGACY
                .iter()
                .any(|f| upm_operator::finalizer::present(unit, f));
        "deleting".clone_into(&mut plan.task);
        return plan;
    }
    let foreign = claims(unit, observed, &mut plan);
    plan.issue_identity = observed.renew_at <= observed.now;
    if !plan.issue_identity {
        // the CA may be another one before that
        let look = observed.now + identity::LOOK;
        plan.next = after(observed.renew_at.min(look), observed.now);
    }
    if super::in_maintenance(unit) {
        "maintenance: the pod is left alone".clone_into(&mut plan.task);
        return plan;
    }
    match pod {
        None if !unit.spec.startup => {}
        None if !foreign.is_empty() => plan.task = foreign,
        None => {
            plan.pod = PodStep::Create;
            "starting".clone_into(&mut plan.task);
        }
        Some(pod) => running(unit, pod, observed, &mut plan),
    }
    if observed.unwatched {
        plan.next = plan.next.or(Next::After(UNWATCHED));
    }
    plan
}

/// Plans the claims; returns why no pod may be made, if so.
fn claims(unit: &Unit, observed: &Observed, plan: &mut Plan) -> String {
    let mut foreign = String::new();
    for template in &unit.spec.volume_claim_templates {
        let name = names::pvc(&unit.name_any(), &template.name);
        let Some(found) = observed.claims.get(&name) else {
            plan.claims
                .push(ClaimStep::Create(Box::new(volume::claim(unit, template))));
            continue;
        };
        let uid = template
            .annotations
            .get(annotation::UNIT_SET_UID)
            .map_or("", String::as_str);
        if !volume::belongs_to(found, uid) {
            foreign = format!("claim {name} belongs to an earlier set of this name");
            continue;
        }
        if found.metadata.deletion_timestamp.is_some() {
            foreign = format!("claim {name} is being deleted");
            continue;
        }
        let labels = differing(&template.labels, found.labels(), &[]);
        if !labels.is_empty() {
            plan.claims.push(ClaimStep::Label {
                name: name.clone(),
                labels,
            });
        }
        let (Some(wanted), Some(requested)) =
            (volume::wanted_size(template), volume::requested_size(found))
        else {
            continue;
        };
        if quantity::compare(wanted, requested) != Ordering::Greater {
            continue;
        }
        let class = found
            .spec
            .as_ref()
            .and_then(|spec| spec.storage_class_name.clone())
            .unwrap_or_default();
        if observed.growing_classes.contains(&class) {
            plan.claims.push(ClaimStep::Grow {
                name,
                size: wanted.clone(),
            });
        } else {
            plan.task =
                format!("volume {name} cannot grow: storage class {class:?} does not allow it");
        }
    }
    foreign
}

fn running(unit: &Unit, pod: &Pod, observed: &Observed, plan: &mut Plan) {
    let ours = pod
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| Some(&owner.uid) == unit.metadata.uid.as_ref());
    let name = unit.name_any();
    if let Some(ends) = pod.metadata.deletion_timestamp.as_ref() {
        plan.task = ending(pod, ends.0, observed);
        plan.next = plan.next.or(after(ends.0, observed.now));
        return;
    }
    if !ours {
        plan.task = format!("a pod {name} is there that belongs to somebody else");
        return;
    }
    if !unit.spec.startup {
        "stopping".clone_into(&mut plan.task);
        plan.pod = PodStep::Delete {
            uid: pod.uid(),
            reason: "PodStopped",
            note: format!("stops pod {name}: startup is false"),
        };
        return;
    }
    if facts::is_over(pod) {
        replace(unit, pod, observed, plan);
        return;
    }
    plan.task = trouble(pod, observed).unwrap_or_default();
    if let Some(step) = relabel(unit, pod) {
        plan.pod = step;
    }
}

/// A pod that ended is replaced; its volumes are the same.
fn replace(unit: &Unit, pod: &Pod, observed: &Observed, plan: &mut Plan) {
    let policy = unit.spec.failed_pod_recovery_policy.as_ref();
    let why = pod
        .status
        .as_ref()
        .and_then(|status| status.reason.clone())
        .unwrap_or_else(|| facts::phase(pod).to_owned());
    if policy.is_some_and(|policy| !policy.enabled) {
        plan.task = format!("the pod ended ({why}) and is not replaced: failedPodRecoveryPolicy");
        return;
    }
    let patience = policy.map_or(0, |policy| i64::from(policy.reconcile_threshold) * 10);
    let interval = SignedDuration::try_from(REPLACE_INTERVAL).unwrap_or(SignedDuration::ZERO);
    let wait = SignedDuration::from_secs(patience).max(interval);
    let created = pod
        .creation_timestamp()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let due = created + wait;
    plan.task = format!("the pod ended ({why}) and is replaced");
    if due > observed.now {
        plan.next = plan.next.or(after(due, observed.now));
        return;
    }
    plan.pod = PodStep::Delete {
        uid: pod.uid(),
        reason: "PodReplaced",
        note: format!("replaces pod {}, which ended: {why}", unit.name_any()),
    };
}

/// What to say about a pod that is being deleted. It is never forced: on a node that does not report its server may still run.
fn ending(pod: &Pod, ends: Timestamp, observed: &Observed) -> String {
    let node = facts::node_name(pod).unwrap_or("unknown");
    if observed.now < ends || observed.node_ready == "True" {
        "the pod is ending".to_owned()
    } else {
        format!(
            "the pod does not end: node {node} does not report; it is replaced when the node is back or removed"
        )
    }
}

fn trouble(pod: &Pod, observed: &Observed) -> Option<String> {
    if facts::is_ready(pod) {
        return None;
    }
    if let Some(why) = facts::unschedulable(pod) {
        return Some(format!("no node for the pod: {why}"));
    }
    if facts::node_name(pod).is_some() && observed.node_ready != "True" {
        return Some(format!(
            "node {} does not report",
            facts::node_name(pod).unwrap_or_default()
        ));
    }
    Some(
        facts::container_trouble(pod)
            .or_else(|| observed.unready.clone())
            .unwrap_or_else(|| "the server does not answer yet".to_owned()),
    )
}

/// Annotations that say what a pod was started with, and so never change.
const STARTED_WITH: [&str; 3] = [
    annotation::REVISION,
    annotation::RESTARTED_AT,
    annotation::MAIN_VERSION,
];

fn relabel(unit: &Unit, pod: &Pod) -> Option<PodStep> {
    let template = &unit.spec.template;
    let labels = differing(&template.labels, pod.labels(), &[]);
    let annotations = differing(&template.annotations, pod.annotations(), &STARTED_WITH);
    (!labels.is_empty() || !annotations.is_empty()).then_some(PodStep::Label {
        labels,
        annotations,
    })
}

/// What of `wanted` is not in `found`, besides what is `fixed`.
fn differing(wanted: &Map, found: &Map, fixed: &[&str]) -> Map {
    wanted
        .iter()
        .filter(|(key, value)| found.get(*key) != Some(value))
        .filter(|(key, _)| !fixed.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn after(moment: Timestamp, now: Timestamp) -> Next {
    let wait = std::time::Duration::try_from(moment.duration_since(now)).unwrap_or_default();
    Next::After(wait + std::time::Duration::from_secs(1))
}
