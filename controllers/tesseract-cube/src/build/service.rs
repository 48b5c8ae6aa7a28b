//! Services of a set and of its units.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use upm_crds::UnitSet;
use upm_crds::names::{self, label};
use upm_crds::unit_set::ServiceType;

use super::{Map, set_meta};
use crate::package::Package;

fn ports(set: &UnitSet, package: &Package) -> Vec<ServicePort> {
    let ports = package
        .main(&set.spec.type_)
        .and_then(|main| main.ports.clone())
        .unwrap_or_default();
    let named = ports.into_iter().map(|port| {
        let name = port
            .name
            .unwrap_or_else(|| format!("port-{}", port.container_port));
        ServicePort {
            target_port: Some(IntOrString::Int(port.container_port)),
            port: port.container_port,
            protocol: Some(port.protocol.unwrap_or_else(|| "TCP".to_owned())),
            name: Some(name),
            ..ServicePort::default()
        }
    });
    named.collect()
}

/// The ports that clients use: the unit agent's is for controllers only.
fn client_ports(set: &UnitSet, package: &Package) -> Vec<ServicePort> {
    let mut ports = ports(set, package);
    ports.retain(|port| port.port != names::UNIT_AGENT_PORT);
    ports
}

/// Gives every pod its host name, also before it is ready.
pub(crate) fn headless(set: &UnitSet, package: &Package) -> Service {
    let name = set.name_any();
    Service {
        metadata: set_meta(set, names::headless_service(&name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(Map::from([(label::UNIT_SET.to_owned(), name)])),
            ports: Some(ports(set, package)),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Leads to every unit that is ready.
pub(crate) fn external(set: &UnitSet, package: &Package, type_: ServiceType) -> Service {
    let name = set.name_any();
    Service {
        metadata: set_meta(set, names::external_service(&name)),
        spec: Some(ServiceSpec {
            type_: Some(type_.as_str().to_owned()),
            selector: Some(Map::from([(label::UNIT_SET.to_owned(), name)])),
            ports: Some(client_ports(set, package)),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Leads to one unit while it is ready.
pub(crate) fn unit(set: &UnitSet, package: &Package, ordinal: i32, type_: ServiceType) -> Service {
    let unit = names::unit_name(&set.name_any(), ordinal);
    let mut metadata = set_meta(set, names::unit_service(&unit));
    metadata
        .labels
        .get_or_insert_default()
        .insert(label::UNIT.to_owned(), unit.clone());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(type_.as_str().to_owned()),
            selector: Some(Map::from([(label::UNIT.to_owned(), unit)])),
            ports: Some(client_ports(set, package)),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
