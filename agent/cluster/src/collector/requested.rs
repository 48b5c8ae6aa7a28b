//! What the pods of each node ask for together: those of others too, so that a plan can say whether there is room before anything is made.

use std::collections::HashMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{ResourceExt as _, runtime::watcher};
use serde_json::{Value, json};
use upm_crds::quantity;

/// The path in a Node that stands for it. No API server has it.
pub(super) const FIELD: &str = "status.requested";

/// Requests, as the scheduler counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ask {
    cpu_millis: i128,
    memory_bytes: i128,
}

impl Ask {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis + other.cpu_millis,
            memory_bytes: self.memory_bytes + other.memory_bytes,
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.max(other.cpu_millis),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
        }
    }

    fn of<'a>(quantity: impl Fn(&str) -> Option<&'a Quantity>) -> Self {
        let millis = |name| {
            let millis = quantity(name).and_then(|found| quantity::millis(found).ok());
            millis.unwrap_or_default()
        };
        Self {
            cpu_millis: millis("cpu"),
            memory_bytes: millis("memory") / 1000,
        }
    }
}

/// The node of a pod and what the pod asks for there; `None` for one that is on no node, or has ended.
fn ask(pod: &Pod) -> Option<(String, Ask)> {
    let spec = pod.spec.as_ref()?;
    let node = spec.node_name.clone().filter(|node| !node.is_empty())?;
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let of = |container: &Container| {
        let requests = container
            .resources
            .as_ref()
            .and_then(|r| r.requests.as_ref());
        Ask::of(|name| requests.and_then(|requests| requests.get(name)))
    };
    // Init containers that stay run beside the others, each other one before them.
    let (mut beside, mut before) = (Ask::default(), Ask::default());
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            beside = beside.plus(of(container));
        } else {
            before = before.most(beside.plus(of(container)));
        }
    }
    let together = spec.containers.iter().map(of).fold(beside, Ask::plus);
    let overhead = Ask::of(|name| spec.overhead.as_ref().and_then(|o| o.get(name)));
    Some((node, together.most(before).plus(overhead)))
}

/// Sums over the pods of a cluster.
#[derive(Debug, Default)]
pub(super) struct Requested {
    /// Node and request of each pod.
    pods: HashMap<String, (String, Ask)>,
    /// The list that is coming in.
    listing: HashMap<String, (String, Ask)>,
    /// Whether all pods are known.
    listed: bool,
    /// What was said of each node the last time.
    told: HashMap<String, Ask>,
}

impl Requested {
    /// Takes what the watch of pods says; whether the list has just become complete.
    pub(super) fn event(&mut self, event: watcher::Event<Pod>) -> bool {
        let key = |pod: &Pod| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        match event {
            watcher::Event::Init => self.listing.clear(),
            watcher::Event::InitApply(pod) => {
                if let Some(asked) = ask(&pod) {
                    self.listing.insert(key(&pod), asked);
                }
            }
            watcher::Event::InitDone => {
                self.pods = std::mem::take(&mut self.listing);
                self.listed = true;
                return true;
            }
            watcher::Event::Apply(pod) => {
                match ask(&pod) {
                    Some(asked) => self.pods.insert(key(&pod), asked),
                    None => self.pods.remove(&key(&pod)),
                };
            }
            watcher::Event::Delete(pod) => {
                self.pods.remove(&key(&pod));
            }
        }
        false
    }

    /// What to say of a node; `None` while not all pods are known.
    pub(super) fn of(&mut self, node: &str) -> Option<Value> {
        if !self.listed {
            return None;
        }
        let sum = self.sum(node);
        self.told.insert(node.to_owned(), sum);
        Some(json!({"cpu": format!("{}m", sum.cpu_millis), "memory": sum.memory_bytes.to_string()}))
    }

    /// Whether something else has to be said of a node than the last time.
    pub(super) fn changed(&self, node: &str) -> bool {
        self.listed && self.told.get(node) != Some(&self.sum(node))
    }

    fn sum(&self, node: &str) -> Ask {
        let here = self.pods.values().filter(|(on, _)| on == node);
        here.map(|(_, ask)| *ask).fold(Ask::default(), Ask::plus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, node: &str, phase: &str, spec: Value) -> Pod {
        let mut spec = spec;
        spec["nodeName"] = json!(node);
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "p"}, "spec": spec, "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn container(cpu: &str, memory: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    #[test]
    fn a_pod_asks_for_what_the_scheduler_counts() {
        let mut stays = container("50m", "1Mi");
        stays["restartPolicy"] = json!("Always");
        let spec = json!({
            "containers": [container("200m", "10Mi"), container("1", "1Gi"), {"name": "none"}],
            "initContainers": [stays, container("4", "1Mi")],
            "overhead": {"cpu": "10m"},
        });
        let (node, asked) = ask(&pod("a", "n1", "Running", spec.clone())).unwrap();
        assert_eq!(node, "n1");
        assert_eq!(
            asked.cpu_millis, 4060,
            "the init container before the others"
        );
        assert_eq!(asked.memory_bytes, (1 << 30) + (11 << 20));
        assert_eq!(ask(&pod("a", "", "Pending", spec.clone())), None);
        assert_eq!(ask(&pod("a", "n1", "Succeeded", spec)), None);
    }

    #[test]
    fn sums_follow_pods_that_come_and_go() {
        let mut requested = Requested::default();
        let one = |name: &str, node: &str, phase: &str| {
            pod(
                name,
                node,
                phase,
                json!({"containers": [container("500m", "1Ki")]}),
            )
        };
        assert_eq!(requested.of("n1"), None, "nothing is known");
        requested.event(watcher::Event::Init);
        requested.event(watcher::Event::InitApply(one("a", "n1", "Running")));
        requested.event(watcher::Event::InitApply(one("b", "n2", "Running")));
        assert!(requested.event(watcher::Event::InitDone));
        assert_eq!(
            requested.of("n1"),
            Some(json!({"cpu": "500m", "memory": "1024"}))
        );
        assert!(!requested.changed("n1") && requested.changed("n2"));
        requested.event(watcher::Event::Apply(one("c", "n1", "Pending")));
        assert!(requested.changed("n1"));
        assert_eq!(
            requested.of("n1"),
            Some(json!({"cpu": "1000m", "memory": "2048"}))
        );
        requested.event(watcher::Event::Apply(one("a", "n1", "Failed")));
        requested.event(watcher::Event::Delete(one("c", "n1", "Running")));
        assert_eq!(
            requested.of("n1"),
            Some(json!({"cpu": "0m", "memory": "0"}))
        );
    }
}
