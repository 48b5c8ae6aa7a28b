//! From the objects of the API to what decisions are made from. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod as ApiPod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use upm_crds::names::{self, UNIT_AGENT_PORT, annotation};
use upm_crds::redis_replication::{
    Bootstrap, DataLossPolicy, DepartedVolume, HistoryPosition, RedisReplication,
    RedisReplicationSpec, RedisReplicationStatus, SwitchoverResult,
};

use super::agents::Target;
use super::model::{
    Acceptance, Departed, Group, History, Last, Leave, Node, Pod, Position, Prior, Request, State,
};

/// The group that the object describes, with the members that its status still counts on.
pub fn group(object: &RedisReplication) -> Group {
    let spec = &object.spec;
    let mut members = std::collections::BTreeMap::new();
    let source = Node {
        host: spec.source.host.clone(),
        port: spec.source.port,
        ..Node::default()
    };
    members.insert(spec.source.name.clone(), source);
    for replica in &spec.replica {
        let node = Node {
            host: replica.host.clone(),
            port: replica.port,
            isolated: replica.isolated,
            removed: false,
        };
        members.insert(replica.name.clone(), node);
    }
    if let Some(status) = &object.status {
        let prior = status.prior.iter();
        let before = prior.flat_map(|prior| prior.ackers.iter().chain([&prior.primary]));
        for name in status.primary.iter().chain(&status.ackers).chain(before) {
            if !members.contains_key(name) {
                let known = status.topology.get(name);
                let node = Node {
                    host: known.map(|member| member.host.clone()).unwrap_or_default(),
                    port: known.map_or(spec.source.port, |member| member.port),
                    isolated: false,
                    removed: true,
                };
                members.insert(name.clone(), node);
            }
        }
    }
    let skip = object
        .annotations()
        .get(annotation::SKIP_RECONCILE)
        .is_some_and(|value| value != "false");
    Group {
        members,
        source: spec.source.name.clone(),
        generation: object.metadata.generation.unwrap_or(0),
        request: spec.switchover.as_ref().map(|wanted| Request {
            id: wanted.request_id.clone(),
            target: wanted.target.clone(),
            expected_epoch: Some(wanted.expected_epoch),
        }),
        acceptance: spec.failover.as_ref().map(|failover| Acceptance {
            expected_epoch: failover.expected_epoch,
            loss_id: failover.accept_loss.clone(),
        }),
        has_served: spec.bootstrap == Bootstrap::Refuse,
        bounded_loss: spec.data_loss_policy == DataLossPolicy::Bounded,
        skip,
    }
}

/// Paths of the fields that are set and have no effect: accepted for existing manifests.
pub fn ignored(spec: &RedisReplicationSpec) -> Vec<&'static str> {
    let announces = |host: Option<&String>, port: Option<i32>| host.is_some() || port.is_some();
    let source = &spec.source;
    let mut ignored = Vec::new();
    if spec.aes_secret.is_some() {
        ignored.push("spec.aesSecret");
    }
    // Members serve only what is granted to them, and Sentinels can grant nothing: with them nobody would decide.
    if !spec.sentinel.is_empty() {
        ignored.push("spec.sentinel");
    }
    if announces(source.announce_host.as_ref(), source.announce_port) {
        ignored.push("spec.source.announceHost and announcePort");
    }
    if spec
        .replica
        .iter()
        .any(|replica| announces(replica.announce_host.as_ref(), replica.announce_port))
    {
        ignored.push("spec.replica[].announceHost and announcePort");
    }
    ignored
}

/// What the status remembers.
pub fn state(status: &RedisReplicationStatus, now: Timestamp) -> State {
    State {
        epoch: status.epoch,
        primary: status.primary.clone(),
        ackers: status.ackers.iter().cloned().collect(),
        member_ids: status.member_ids.clone(),
        excluded: status.excluded.iter().cloned().collect(),
        version: status.record_version,
        departed: departed(&status.departed),
        must_cover: status.must_cover.as_ref().map(history),
        prior: status.prior.as_ref().map(|prior| Prior {
            epoch: prior.epoch,
            primary: prior.primary.clone(),
            ackers: prior.ackers.iter().cloned().collect(),
            member_ids: prior.member_ids.clone(),
            departed: departed(&prior.departed),
            must_cover: prior.must_cover.as_ref().map(history),
        }),
        positions: status
            .positions
            .iter()
            .map(|position| {
                let at = Position {
                    replid: position.replid.clone(),
                    offset: position.offset,
                    keys: position.keys,
                };
                (position.name.clone(), at)
            })
            .collect(),
        answered: status
            .answered_requests
            .iter()
            .chain(status.last_switchover.iter().map(|last| &last.request_id))
            .cloned()
            .collect(),
        last: status.last_switchover.as_ref().map(|last| Last {
            id: last.request_id.clone(),
            succeeded: last.result == SwitchoverResult::Succeeded,
            ago: last
                .completion_time
                .as_ref()
                .and_then(|time| Duration::try_from(now.duration_since(time.0)).ok())
                .unwrap_or_default(),
        }),
        source: status.observed_source.clone(),
    }
}

fn history(at: &HistoryPosition) -> History {
    History {
        replid: at.replid.clone(),
        offset: at.offset,
    }
}

fn departed(volumes: &[DepartedVolume]) -> std::collections::BTreeSet<Departed> {
    volumes
        .iter()
        .map(|volume| Departed {
            name: volume.name.clone(),
            id: volume.member_id.clone(),
        })
        .collect()
}

/// Whether the member is a pod of this cluster: its host is the pod's stable name.
pub fn in_cluster(name: &str, node: &Node) -> bool {
    node.host.is_empty()
        || node
            .host
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
}

/// The request to let exactly this pod go.
fn leave(found: &ApiPod) -> Option<Leave> {
    let uid = found.metadata.uid.as_deref()?;
    let reason = upm_crds::leave::requested(found.annotations(), uid)?;
    Some(Leave {
        reason: reason.to_owned(),
        granted: upm_crds::leave::granted(found.annotations(), uid),
    })
}

/// What is seen of a member's pod. `absent` is how long it has not been there.
pub fn pod(name: &str, node: &Node, found: Option<&ApiPod>, absent: Duration) -> Pod {
    let Some(found) = found else {
        return Pod {
            present: !in_cluster(name, node),
            absent,
            ..Pod::default()
        };
    };
    Pod {
        present: true,
        absent: Duration::ZERO,
        leaving: found.metadata.deletion_timestamp.is_some(),
        uid: found.metadata.uid.clone().unwrap_or_default(),
        leave: leave(found),
        routed: false,
    }
}

/// Where the others reach the member's server: at the pod's address, which stands as long as the pod does and needs no name service. A
/// new pod boots parked and is told anew.
pub fn address(node: &Node, found: Option<&ApiPod>) -> String {
    found
        .and_then(|pod| pod.status.as_ref()?.pod_ip.clone())
        .filter(|address| !address.is_empty())
        .unwrap_or_else(|| node.host.clone())
}

/// The name in the certificate of a unit's pod: it follows from the unit, whatever host clients know the member by.
fn certified(found: Option<&ApiPod>) -> Option<String> {
    let metadata = &found?.metadata;
    let (name, namespace) = (metadata.name.as_deref()?, metadata.namespace.as_deref()?);
    let service = names::headless_service(names::set_of_unit(name)?);
    Some(format!("{name}.{service}.{namespace}.svc"))
}

/// Where the member's unit agent is; `None` while it has no address.
pub fn target(name: &str, node: &Node, found: Option<&ApiPod>) -> Option<Target> {
    let address = match found {
        Some(pod) => pod
            .status
            .as_ref()?
            .pod_ip
            .clone()
            .filter(|address| !address.is_empty())?,
        None if in_cluster(name, node) => return None,
        None => node.host.clone(),
    };
    let address = if address.contains(':') {
        format!("[{address}]")
    } else {
        address
    };
    Some(Target {
        host: certified(found).unwrap_or_else(|| node.host.clone()),
        address: format!("{address}:{UNIT_AGENT_PORT}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_known_by_its_certificate_whatever_its_host() {
        let found: ApiPod = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "demo-1", "namespace": "p1" }, "status": { "podIP": "10.0.0.7" },
        }))
        .unwrap();
        for host in [
            "demo-1.redis.example.com",
            "10.0.0.7",
            "demo-1.demo-headless-svc.p1",
        ] {
            let node = Node {
                host: host.to_owned(),
                ..Node::default()
            };
            let target = target("demo-1", &node, Some(&found)).unwrap();
            assert_eq!(target.host, "demo-1.demo-headless-svc.p1.svc", "{host}");
        }
        let outside = Node {
            host: "db.example.com".to_owned(),
            ..Node::default()
        };
        let target = target("other", &outside, None).unwrap();
        assert_eq!(
            target.host, "db.example.com",
            "it is no unit of this cluster"
        );
    }

    #[test]
    fn sentinels_leave_the_elections_to_us_and_are_named_as_ignored() {
        let mut object = RedisReplication::new("demo", RedisReplicationSpec::default());
        object.spec.sentinel = vec!["s-0".to_owned()];
        assert!(!group(&object).skip, "somebody must elect");
        assert_eq!(ignored(&object.spec), ["spec.sentinel"]);
    }
}
