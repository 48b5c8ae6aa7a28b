//! Messages of the API and what they mean.

use std::collections::BTreeMap;

use engine::{DeletionPolicy, Error, Observed, Service, Told, desired::RetainedVolumes, rfc3339};
use prost::Message;
use serde_json::{Value, json};
use store::time;
use upm_proto::{
    operation::v1 as operation,
    redis::v1::{self as pb, watch_redis_services_response::Event},
};

use crate::{redis::Redis, spec::RedisSpec, status};

const SERVICE_TYPE: &str = "type.googleapis.com/upm.redis.v1.RedisService";
const EMPTY_TYPE: &str = "type.googleapis.com/google.protobuf.Empty";

/// A service as clients see it.
pub(crate) fn service(
    service: &Service,
    observed: Option<&Observed>,
) -> Result<pb::RedisService, Error> {
    let spec: RedisSpec = engine::spec_of::<Redis>(service)?;
    Ok(pb::RedisService {
        name: service.name.to_string(),
        uid: service.uid.clone(),
        etag: service.etag(),
        spec: Some((&spec).into()),
        labels: service.labels.clone().into_iter().collect(),
        description: service.description.clone(),
        deletion_policy: to_policy(service.deletion_policy).into(),
        status: Some(status::view(service, &spec, observed)),
        create_time: Some(time::timestamp(service.create_us)),
        update_time: Some(time::timestamp(service.update_us)),
    })
}

/// A service inside an operation.
pub(crate) fn any(service: &pb::RedisService) -> prost_types::Any {
    prost_types::Any {
        type_url: SERVICE_TYPE.to_owned(),
        value: service.encode_to_vec(),
    }
}

/// What a watcher is told.
pub(crate) fn told(told: Told) -> Result<pb::WatchRedisServicesResponse, Error> {
    let event = match told {
        Told::Service((row, observed)) => Event::RedisService(service(&row, observed.as_ref())?),
        Told::Deleted(name) => Event::Deleted(name),
        Told::Bookmark(token) => Event::Bookmark(token),
    };
    Ok(pb::WatchRedisServicesResponse { event: Some(event) })
}

/// The answer to deleting what is not there.
pub(crate) fn nothing_to_delete(target: &str) -> operation::Operation {
    let now = time::timestamp(time::now_us());
    operation::Operation {
        done: true,
        state: operation::OperationState::Succeeded.into(),
        target: target.to_owned(),
        kind: "redis.delete".to_owned(),
        progress_percent: 100,
        create_time: Some(now),
        end_time: Some(now),
        result: Some(operation::operation::Result::Response(prost_types::Any {
            type_url: EMPTY_TYPE.to_owned(),
            value: Vec::new(),
        })),
        ..Default::default()
    }
}

/// A deletion policy; `None` when it is not said.
pub(crate) fn policy(given: i32, field: &str) -> Result<Option<DeletionPolicy>, Error> {
    match pb::DeletionPolicy::try_from(given) {
        Ok(pb::DeletionPolicy::Unspecified) => Ok(None),
        Ok(pb::DeletionPolicy::KeepData) => Ok(Some(DeletionPolicy::KeepData)),
        Ok(pb::DeletionPolicy::DeleteData) => Ok(Some(DeletionPolicy::DeleteData)),
        Ok(pb::DeletionPolicy::DoNotDelete) => Ok(Some(DeletionPolicy::DoNotDelete)),
        Err(_) => Err(Error::invalid(field, format!("{given} is not a policy"))),
    }
}

fn to_policy(policy: DeletionPolicy) -> pb::DeletionPolicy {
    match policy {
        DeletionPolicy::KeepData => pb::DeletionPolicy::KeepData,
        DeletionPolicy::DeleteData => pb::DeletionPolicy::DeleteData,
        DeletionPolicy::DoNotDelete => pb::DeletionPolicy::DoNotDelete,
    }
}

/// What to do with volumes that are found.
pub(crate) fn retained(given: i32) -> Result<RetainedVolumes, Error> {
    match pb::RetainedData::try_from(given) {
        Ok(pb::RetainedData::Unspecified) => Ok(RetainedVolumes::Refuse),
        Ok(pb::RetainedData::Adopt) => Ok(RetainedVolumes::Adopt),
        Ok(pb::RetainedData::Discard) => Ok(RetainedVolumes::Discard),
        Err(_) => Err(Error::invalid(
            "retained_data",
            format!("{given} is not a choice"),
        )),
    }
}

/// What a creation says, in an order that does not change: two equal requests look equal.
pub(crate) fn content(request: &pb::CreateRedisServiceRequest) -> Value {
    let service = request.redis_service.clone().unwrap_or_default();
    let spec = service.spec.unwrap_or_default();
    let storage = spec.storage.unwrap_or_default();
    let sorted = |map: std::collections::HashMap<String, String>| {
        map.into_iter().collect::<BTreeMap<_, _>>()
    };
    json!({
        "parent": request.parent,
        "id": request.redis_service_id,
        "retained_data": request.retained_data,
        "labels": sorted(service.labels),
        "description": service.description,
        "deletion_policy": service.deletion_policy,
        "cluster": spec.cluster,
        "version": spec.version,
        "members": spec.members,
        "cpu": spec.cpu,
        "memory": spec.memory,
        "size": storage.size,
        "storage_class": storage.storage_class,
        "parameters": sorted(spec.parameters),
        "data_loss_policy": spec.data_loss_policy,
        "placement": spec.placement,
    })
}

/// A mark for a restart: different from every earlier one.
pub(crate) fn restart_mark() -> String {
    rfc3339(time::now_us())
}
