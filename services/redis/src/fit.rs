//! Whether a cluster can take the members of a service at all: said before anything is made. Pure.

use crds::quantity;
use engine::{Error, pool::Placement};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use upm_proto::resource::v1::{Node, StorageClass};

use crate::spec::{RedisSpec, field};

/// What members ask for, in thousandths of a CPU and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    cpu_millis: i128,
    memory_bytes: i128,
}

impl Request {
    /// Of one member.
    pub(crate) fn of(spec: &RedisSpec) -> Self {
        let millis = |text: &str| quantity::millis(&Quantity(text.to_owned())).unwrap_or_default();
        Self {
            cpu_millis: millis(&spec.cpu),
            memory_bytes: millis(&spec.memory) / 1000,
        }
    }

    /// Of so many members.
    pub(crate) fn times(self, members: u32) -> Self {
        Self {
            cpu_millis: self.cpu_millis * i128::from(members),
            memory_bytes: self.memory_bytes * i128::from(members),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis + other.cpu_millis,
            memory_bytes: self.memory_bytes + other.memory_bytes,
        }
    }

    /// How often it fits into what a node has.
    fn fits(self, node: &Node) -> i128 {
        self.fits_beside(node, 0, 0)
    }

    /// The same beside pods that ask for so much there.
    fn fits_beside(self, node: &Node, cpu_millis: i64, memory_bytes: i64) -> i128 {
        let free = |has: i64, asked: i64| i128::from(has.saturating_sub(asked).max(0));
        let cpu = free(node.allocatable_cpu_millis, cpu_millis) / self.cpu_millis.max(1);
        let memory = free(node.allocatable_memory_bytes, memory_bytes);
        cpu.min(memory / self.memory_bytes.max(1))
    }
}

/// Refuses what can never run: a member larger than every node, members that must be apart on too few nodes. Nodes that are not ready or take
/// no pods are left out; without any report there is no claim.
pub(crate) fn refuse_hopeless(
    cluster: &str,
    spec: &RedisSpec,
    nodes: &[Node],
) -> Result<(), Error> {
    let usable = usable(nodes);
    if usable.is_empty() {
        return Ok(());
    }
    let unfit = |reason, name: &str, message: String| Error::Unfit {
        what: format!("clusters/{cluster}"),
        reason,
        field: field(name),
        message,
    };
    let one = Request::of(spec);
    let fitting = usable.iter().filter(|node| one.fits(node) > 0).count();
    if fitting == 0 {
        let most = |of: fn(&Node) -> i64| usable.iter().map(|node| of(node)).max();
        let cpu = most(|node| node.allocatable_cpu_millis).unwrap_or_default();
        let memory = most(|node| node.allocatable_memory_bytes).unwrap_or_default();
        let name = if i128::from(cpu) < one.cpu_millis {
            "cpu"
        } else {
            "memory"
        };
        let message = format!(
            "no node of clusters/{cluster} can take a member with cpu {} and memory {}: the most that a node has is {cpu}m and {} MiB",
            spec.cpu,
            spec.memory,
            memory >> 20
        );
        return Err(unfit("NO_NODE_FITS", name, message));
    }
    if spec.placement == Placement::SpreadRequired && (fitting as u64) < u64::from(spec.members) {
        let message = format!(
            "{} members must be on nodes of their own, and {fitting} nodes of clusters/{cluster} can take one",
            spec.members
        );
        return Err(unfit("NOT_ENOUGH_NODES", "members", message));
    }
    Ok(())
}

/// Refuses a storage class that the cluster does not have. Without any report there is no claim.
pub(crate) fn refuse_unknown_class(
    cluster: &str,
    spec: &RedisSpec,
    classes: &[StorageClass],
) -> Result<(), Error> {
    let Some(wanted) = spec.storage_class.as_deref() else {
        return Ok(());
    };
    let id = |class: &StorageClass| {
        let name = class.name.rsplit('/').next();
        name.unwrap_or_default().to_owned()
    };
    let known: Vec<String> = classes.iter().map(id).collect();
    if known.is_empty() || known.iter().any(|class| class == wanted) {
        return Ok(());
    }
    Err(Error::Unfit {
        what: format!("clusters/{cluster}/storageClasses/{wanted}"),
        reason: "STORAGE_CLASS_UNKNOWN",
        field: field("storage.storage_class"),
        message: format!(
            "clusters/{cluster} has no storage class {wanted}; it has {}",
            known.join(", ")
        ),
    })
}

/// A warning when the new members ask for more than the pods that are on the nodes leave, those of others too, or for more than the nodes have
/// together beside what the platform has placed there. Nodes may be added and pods may go, so it is no refusal.
pub(crate) fn warning(
    spec: &RedisSpec,
    members: u32,
    placed: Request,
    nodes: &[Node],
) -> Option<String> {
    let usable = usable(nodes);
    if usable.is_empty() {
        return None;
    }
    if let Some(room) = room(spec, &usable)
        && room < i128::from(members)
    {
        return Some(format!(
            "the pods on the cluster's nodes, those of others too, leave room for {room} of {members} new members; the others wait until there is more"
        ));
    }
    let sum = |of: fn(&Node) -> i64| usable.iter().map(|node| i128::from(of(node))).sum::<i128>();
    let cpu = sum(|node| node.allocatable_cpu_millis);
    let memory = sum(|node| node.allocatable_memory_bytes);
    let wanted = Request::of(spec).times(members);
    let all = placed.plus(wanted);
    if all.cpu_millis <= cpu && all.memory_bytes <= memory {
        return None;
    }
    Some(format!(
        "the cluster has no room by what is known: its nodes have {cpu}m CPU and {} MiB together, services of the platform ask for {}m and {} MiB, these members for {}m and {} MiB more; members wait until there is room",
        memory >> 20,
        placed.cpu_millis,
        placed.memory_bytes >> 20,
        wanted.cpu_millis,
        wanted.memory_bytes >> 20
    ))
}

/// How many members fit beside the pods that are on the nodes; `None` when it is not known of every node.
fn room(spec: &RedisSpec, usable: &[&Node]) -> Option<i128> {
    let one = Request::of(spec);
    let mut room = 0;
    for node in usable {
        let fits = one.fits_beside(
            node,
            node.requested_cpu_millis?,
            node.requested_memory_bytes?,
        );
        room += match spec.placement {
            Placement::SpreadRequired => fits.min(1),
            Placement::SpreadPreferred => fits,
        };
    }
    Some(room)
}

fn usable(nodes: &[Node]) -> Vec<&Node> {
    nodes
        .iter()
        .filter(|node| node.ready && node.schedulable)
        .collect()
}

#[cfg(test)]
mod tests {
    use mesh::Classify as _;

    use super::*;
    use crate::spec::Wish;

    fn node(cpu_millis: i64, memory_mib: i64) -> Node {
        Node {
            ready: true,
            schedulable: true,
            allocatable_cpu_millis: cpu_millis,
            allocatable_memory_bytes: memory_mib << 20,
            ..Node::default()
        }
    }

    fn spec(cpu: &str, memory: &str, placement: Placement) -> RedisSpec {
        let wish = Wish::parse(Some(&upm_proto::redis::v1::RedisSpec {
            members: 3,
            cpu: cpu.into(),
            memory: memory.into(),
            ..Default::default()
        }));
        let spec = wish.expect("a spec");
        let software = crate::spec::tests::software();
        let mut spec = spec.resolve("c", &software).expect("no parameters");
        spec.placement = placement;
        spec
    }

    fn refused(spec: &RedisSpec, nodes: &[Node]) -> Option<&'static str> {
        let refused = refuse_hopeless("c", spec, nodes).err();
        refused.map(|error| error.reason())
    }

    #[test]
    fn a_member_larger_than_every_node_is_refused() {
        let nodes = [node(2000, 4096), node(4000, 2048)];
        let of = |cpu, memory| refused(&spec(cpu, memory, Placement::SpreadPreferred), &nodes);
        assert_eq!(of("4", "1Gi"), None);
        assert_eq!(of("5", "1Gi"), Some("NO_NODE_FITS"));
        assert_eq!(of("1", "8Gi"), Some("NO_NODE_FITS"));
        assert_eq!(of("3", "3Gi"), Some("NO_NODE_FITS"), "no node has both");
        assert_eq!(
            refused(&spec("5", "1Gi", Placement::SpreadPreferred), &[]),
            None
        );
        let mut away = node(2000, 4096);
        away.ready = false;
        assert_eq!(
            refused(&spec("5", "1Gi", Placement::SpreadPreferred), &[away]),
            None
        );
    }

    #[test]
    fn members_apart_need_a_node_each() {
        let apart = spec("500m", "256Mi", Placement::SpreadRequired);
        let nodes = [node(2000, 4096), node(2000, 4096), node(100, 4096)];
        assert_eq!(refused(&apart, &nodes), Some("NOT_ENOUGH_NODES"));
        assert_eq!(
            refused(
                &apart,
                &[node(2000, 4096), node(2000, 4096), node(600, 300)]
            ),
            None
        );
    }

    #[test]
    fn a_full_cluster_is_warned_of() {
        let spec = spec("500m", "256Mi", Placement::SpreadPreferred);
        let nodes = [node(2000, 4096)];
        assert_eq!(warning(&spec, 3, Request::default(), &nodes), None);
        let demo = Request::of(&spec).times(3);
        let text = warning(&spec, 3, demo, &nodes).expect("1.5 and 1.5 of 2 CPUs");
        assert!(text.contains("2000m"), "{text}");
        assert_eq!(warning(&spec, 3, demo, &[]), None, "nothing is known");
    }

    #[test]
    fn pods_of_others_leave_less_room() {
        let mut spec = spec("500m", "256Mi", Placement::SpreadPreferred);
        let beside = |cpu: i64, memory_mib: i64| Node {
            requested_cpu_millis: Some(cpu),
            requested_memory_bytes: Some(memory_mib << 20),
            ..node(2000, 4096)
        };
        let nothing = Request::default();
        assert_eq!(warning(&spec, 3, nothing, &[beside(500, 0)]), None);
        let text = warning(&spec, 3, nothing, &[beside(1000, 0)]).expect("two fit");
        assert!(text.contains("room for 2 of 3"), "{text}");
        let text = warning(&spec, 3, nothing, &[beside(9000, 0)]).expect("none fits");
        assert!(text.contains("room for 0 of 3"), "{text}");
        assert!(
            warning(&spec, 3, nothing, &[beside(0, 3900)]).is_some(),
            "memory"
        );
        let unknown = [beside(1000, 0), node(2000, 4096)];
        assert_eq!(warning(&spec, 3, nothing, &unknown), None, "no claim");
        spec.placement = Placement::SpreadRequired;
        let two = [beside(0, 0), beside(0, 0)];
        assert!(warning(&spec, 3, nothing, &two).is_some(), "a node each");
    }

    #[test]
    fn a_storage_class_must_be_one_of_the_clusters() {
        let mut spec = spec("500m", "256Mi", Placement::SpreadPreferred);
        let class = |name: &str| StorageClass {
            name: format!("clusters/c/storageClasses/{name}"),
            ..StorageClass::default()
        };
        let check = |spec: &RedisSpec, classes: &[StorageClass]| {
            refuse_unknown_class("c", spec, classes).map_err(|error| error.reason())
        };
        assert!(check(&spec, &[class("fast")]).is_ok(), "the default");
        spec.storage_class = Some("slow".to_owned());
        assert_eq!(check(&spec, &[class("fast")]), Err("STORAGE_CLASS_UNKNOWN"));
        assert!(check(&spec, &[class("fast"), class("slow")]).is_ok());
        assert!(check(&spec, &[]).is_ok(), "nothing is known");
    }
}
