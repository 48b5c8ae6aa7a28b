//! What pods and nodes say, in the words of the plans.

use k8s_openapi::api::core::v1::{Event, Node, Pod, PodCondition};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use upm_crds::leave;
use upm_crds::names::{annotation, label};

use crate::build::pod::revision_of;
use crate::rollout::{Leave, PodFacts, Role};

/// Key of the taint of a node that takes no new pods.
const CORDONED: &str = "node.kubernetes.io/unschedulable";

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == type_)
}

/// Since when the server answers.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    Some(
        ready
            .last_transition_time
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    )
}

/// Whether the pod is not being deleted and its server answers.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && ready_since(pod).is_some()
}

/// Pending, Running, Succeeded, Failed or Unknown.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

/// Whether the pod ended for good.
pub(crate) fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Failed" | "Succeeded")
}

/// Why a pod has no node.
pub(crate) fn unschedulable(pod: &Pod) -> Option<&str> {
    let scheduled =
        condition(pod, "PodScheduled").filter(|scheduled| scheduled.status == "False")?;
    scheduled.message.as_deref()
}

/// Why a container of the pod does not run.
pub(crate) fn container_trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let mut containers = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    containers.find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        // these two are the ordinary way
        (reason != "ContainerCreating" && reason != "PodInitializing")
            .then(|| format!("container {} waits: {reason}", container.name))
    })
}

/// How long a server may start before its probe is asked why it does not answer.
const STARTS: SignedDuration = SignedDuration::from_secs(10);

/// Whether the pod runs and has not been ready for longer than a start takes.
pub(crate) fn runs_unready(pod: &Pod, now: Timestamp) -> bool {
    let unready = condition(pod, "Ready").filter(|ready| ready.status != "True");
    let since = unready.and_then(|ready| ready.last_transition_time.as_ref());
    phase(pod) == "Running" && since.is_some_and(|since| now.duration_since(since.0) >= STARTS)
}

/// What the newest of these events says that the unit agent answered.
pub(crate) fn probe_words(events: &[Event]) -> Option<String> {
    let time = |event: &Event| {
        event
            .last_timestamp
            .as_ref()
            .map(|time| time.0)
            .or_else(|| event.event_time.as_ref().map(|time| time.0))
    };
    let newest = events.iter().max_by_key(|event| time(event))?;
    let message = newest.message.as_deref()?;
    let (_, words) = message.split_once("not ready: ")?;
    let words = words.lines().next()?.trim();
    (!words.is_empty()).then(|| words.to_owned())
}

/// The pod's node.
pub(crate) fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Part of the pod in its topology.
pub(crate) fn role(pod: &Pod) -> Option<Role> {
    match pod.labels().get(label::ROLE)?.as_str() {
        label::ROLE_PRIMARY => Some(Role::Primary),
        label::ROLE_REPLICA => Some(Role::Replica),
        _ => None,
    }
}

/// The pod as the plans see it.
pub(crate) fn pod_facts(pod: &Pod) -> PodFacts {
    let uid = pod.uid().unwrap_or_default();
    let leave = leave::requested(pod.annotations(), &uid).map(|_| Leave {
        since: pod
            .annotations()
            .get(annotation::LEAVE_REQUESTED_AT)
            .and_then(|since| since.parse().ok())
            .unwrap_or(Timestamp::UNIX_EPOCH),
        granted: leave::granted(pod.annotations(), &uid),
    });
    PodFacts {
        revision: revision_of(pod.annotations()),
        ready_since: ready_since(pod),
        ends: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        created: pod
            .creation_timestamp()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        role: role(pod),
        leave,
    }
}

/// Whether the pod's node is being drained: it takes no new pods, and this pod would not be put there again.
pub(crate) fn is_drained(pod: &Pod, node: &Node) -> bool {
    let cordoned = node
        .spec
        .as_ref()
        .is_some_and(|spec| spec.unschedulable == Some(true));
    // a pod that tolerates the cordon would come back to the node, again and again
    let tolerates = pod
        .spec
        .iter()
        .flat_map(|spec| spec.tolerations.iter().flatten())
        .any(|toleration| {
            toleration
                .key
                .as_deref()
                .is_none_or(|key| key.is_empty() || key == CORDONED)
        });
    cordoned && !tolerates
}

/// `True`, `False` or `Unknown`: whether the node reports that it is ready.
pub(crate) fn node_ready(node: Option<&Node>) -> &str {
    let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready");
    ready.map_or("Unknown", |ready| ready.status.as_str())
}
