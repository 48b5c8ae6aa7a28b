//! A cluster as the API shows it, from its row, its agent and its nodes. Pure.

use upm_proto::{
    hub::v1::{Agent, AgentState},
    resource::v1::{Capacity, Cluster, ClusterState, Node},
};
use upm_store::time;

use super::model::ClusterRow;
use crate::fields;

/// Joins what is known of a cluster. `agent` is `Err` with a reason when the hub could not be asked.
pub(super) fn cluster(
    row: ClusterRow,
    agent: Result<Option<&Agent>, &str>,
    nodes: &[Node],
) -> Cluster {
    let (state, message) = state(agent);
    let agent = agent.ok().flatten().cloned().unwrap_or_default();
    Cluster {
        etag: row.etag(),
        name: format!("clusters/{}", row.id),
        uid: row.uid,
        display_name: row.display_name,
        labels: fields::parse_labels(&row.labels),
        state: state.into(),
        message,
        kubernetes_version: agent.k8s_version,
        agent_version: agent.build,
        last_seen_time: agent.last_seen_time,
        capacity: Some(capacity(nodes)),
        cordoned: row.cordoned,
        create_time: Some(time::timestamp(row.create_us)),
        update_time: Some(time::timestamp(row.update_us)),
    }
}

fn state(agent: Result<Option<&Agent>, &str>) -> (ClusterState, String) {
    let agent = match agent {
        Err(reason) => return (ClusterState::Unspecified, reason.to_owned()),
        Ok(None) => {
            return (
                ClusterState::AwaitingAgent,
                "no agent has joined yet".to_owned(),
            );
        }
        Ok(Some(agent)) => agent,
    };
    match agent.state() {
        AgentState::Invited | AgentState::Unspecified => (
            ClusterState::AwaitingAgent,
            "no agent has joined yet".to_owned(),
        ),
        AgentState::AwaitingApproval => (
            ClusterState::AwaitingApproval,
            "the agent has joined and waits for `upm cluster approve`".to_owned(),
        ),
        AgentState::Connected if agent.message.is_empty() => (ClusterState::Healthy, String::new()),
        AgentState::Connected => (ClusterState::Unhealthy, agent.message.clone()),
        AgentState::Disconnected => (
            ClusterState::Unreachable,
            "the agent is not connected; services go on by themselves".to_owned(),
        ),
        AgentState::Revoked => (
            ClusterState::Revoked,
            "the agent's certificate is revoked; a new join command lets it in again".to_owned(),
        ),
    }
}

fn capacity(nodes: &[Node]) -> Capacity {
    let ready: Vec<_> = nodes.iter().filter(|node| node.ready).collect();
    Capacity {
        ready_nodes: ready.len() as i32,
        nodes: nodes.len() as i32,
        allocatable_cpu_millis: ready.iter().map(|node| node.allocatable_cpu_millis).sum(),
        allocatable_memory_bytes: ready.iter().map(|node| node.allocatable_memory_bytes).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(state: AgentState, message: &str) -> Agent {
        Agent {
            state: state.into(),
            message: message.to_owned(),
            ..Agent::default()
        }
    }

    #[test]
    fn a_connected_agent_with_a_complaint_makes_an_unhealthy_cluster() {
        let healthy = agent(AgentState::Connected, "");
        let sick = agent(AgentState::Connected, "the API server does not answer");
        assert_eq!(state(Ok(Some(&healthy))).0, ClusterState::Healthy);
        assert_eq!(state(Ok(Some(&sick))).0, ClusterState::Unhealthy);
    }

    #[test]
    fn an_unreachable_hub_makes_no_claim_about_the_cluster() {
        assert_eq!(state(Err("hub away")).0, ClusterState::Unspecified);
    }

    #[test]
    fn capacity_counts_only_ready_nodes() {
        let node = |ready, cpu| Node {
            ready,
            allocatable_cpu_millis: cpu,
            ..Node::default()
        };
        let sum = capacity(&[node(true, 2000), node(false, 4000)]);
        assert_eq!(
            (sum.ready_nodes, sum.nodes, sum.allocatable_cpu_millis),
            (1, 2, 2000)
        );
    }
}
