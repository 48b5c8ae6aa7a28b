//! Who may connect to a set's pods.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use upm_crds::UnitSet;
use upm_crds::names::{self, UNIT_AGENT_PORT, label};

use super::{Map, set_meta};

/// The label that every namespace has of itself.
const NAMESPACE: &str = "kubernetes.io/metadata.name";

/// The policy of a set: the unit agents' port is for pods of the agent's namespace alone, every other port is as open as without a policy,
/// because clients and exporters are wherever their owners put them.
pub(crate) fn policy(set: &UnitSet, system_namespace: &str) -> NetworkPolicy {
    let name = set.name_any();
    let selector = |key: &str, value: &str| LabelSelector {
        match_labels: Some(Map::from([(key.to_owned(), value.to_owned())])),
        ..LabelSelector::default()
    };
    let range = |protocol: &str, first: i32, last: i32| NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(first)),
        end_port: (first != last).then_some(last),
    };
    let agents = NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer {
            namespace_selector: Some(selector(NAMESPACE, system_namespace)),
            ..NetworkPolicyPeer::default()
        }]),
        ports: Some(vec![range("TCP", UNIT_AGENT_PORT, UNIT_AGENT_PORT)]),
    };
    let others = NetworkPolicyIngressRule {
        from: None,
        ports: Some(vec![
            range("TCP", 1, UNIT_AGENT_PORT - 1),
            range("TCP", UNIT_AGENT_PORT + 1, 65_535),
            range("UDP", 1, 65_535),
            range("SCTP", 1, 65_535),
        ]),
    };
    NetworkPolicy {
        metadata: set_meta(set, names::network_policy(&name)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(label::UNIT_SET, &name)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![agents, others]),
            egress: None,
        }),
    }
}
