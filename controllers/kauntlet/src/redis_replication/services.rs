//! The services of a replication. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource as _, ResourceExt as _};
use upm_crds::names::{self, label};
use upm_crds::redis_replication::RedisReplication;

/// The service for writes and, when there are replicas, that for reads.
pub fn build(object: &RedisReplication) -> Vec<Service> {
    let name = object.name_any();
    let mut services = vec![service(object, names::readwrite_service(&name), false)];
    if !object.spec.replica.is_empty() {
        services.push(service(object, names::readonly_service(&name), true));
    }
    services
}

fn service(object: &RedisReplication, name: String, readonly: bool) -> Service {
    let selector = BTreeMap::from([
        (label::REDIS_REPLICATION.to_owned(), object.name_any()),
        (label::REDIS_READONLY.to_owned(), readonly.to_string()),
    ]);
    let port = object.spec.source.port;
    let kind = object.spec.service.as_ref().and_then(|service| {
        let text = serde_json::to_value(service).ok()?;
        text.get("type")?.as_str().map(str::to_owned)
    });
    Service {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: object.namespace(),
            labels: Some(BTreeMap::from([
                (label::MANAGED_BY.to_owned(), label::KAUNTLET.to_owned()),
                (label::REDIS_REPLICATION.to_owned(), object.name_any()),
            ])),
            owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some(kind.unwrap_or_else(|| "ClusterIP".to_owned())),
            selector: Some(selector),
            ports: Some(vec![ServicePort {
                name: Some("redis".to_owned()),
                port,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::Int(port)),
                ..ServicePort::default()
            }]),
            publish_not_ready_addresses: Some(false),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
