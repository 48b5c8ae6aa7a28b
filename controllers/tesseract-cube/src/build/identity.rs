//! The certificate of a unit agent, issued by the cluster's own CA.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use upm_crds::Unit;
use upm_crds::names::{self, annotation, label};
use upm_operator::authority::{CA_CERTIFICATE, Issued};

use super::{Map, labels, owner, set_of};

/// How long a certificate is valid; it is renewed after two thirds.
pub(crate) const LIFETIME: Duration = Duration::from_hours(30 * 24);

/// How often it is looked whether the cluster's CAs are others; the rotation of the CA relies on it.
pub(crate) const LOOK: SignedDuration = SignedDuration::from_hours(1);

/// The DNS names of a unit.
pub(crate) fn hosts(unit: &Unit, cluster_domain: &str) -> Vec<String> {
    let set = set_of(unit);
    let namespace = unit.namespace().unwrap_or_default();
    let host = format!(
        "{}.{}.{namespace}.svc",
        unit.name_any(),
        names::headless_service(&set)
    );
    vec![format!("{host}.{cluster_domain}"), host]
}

/// The Secret that a unit's pod mounts. It goes with the unit.
pub(crate) fn secret(unit: &Unit, issued: &Issued) -> Secret {
    let mut labels = labels(&set_of(unit));
    labels.insert(label::UNIT.to_owned(), unit.name_any());
    Secret {
        metadata: ObjectMeta {
            name: Some(names::identity_secret(&unit.name_any())),
            namespace: unit.namespace(),
            labels: Some(labels),
            annotations: Some(Map::from([
                (
                    annotation::NOT_BEFORE.to_owned(),
                    issued.not_before.to_string(),
                ),
                (
                    annotation::NOT_AFTER.to_owned(),
                    issued.not_after.to_string(),
                ),
            ])),
            owner_references: owner(unit).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(issued.secret_data()),
        ..Secret::default()
    }
}

/// When a certificate has to be renewed: now, if it is missing, unreadable, or of another CA.
pub(crate) fn renew_at(secret: Option<&Secret>, ca_pem: &str, now: Timestamp) -> Timestamp {
    let Some(secret) = secret else { return now };
    let ours = secret
        .data
        .as_ref()
        .and_then(|data| data.get(CA_CERTIFICATE));
    if ours.is_none_or(|ca| ca.0 != ca_pem.as_bytes()) {
        return now;
    }
    let moment = |key| secret.annotations().get(key)?.parse::<Timestamp>().ok();
    match (
        moment(annotation::NOT_BEFORE),
        moment(annotation::NOT_AFTER),
    ) {
        (Some(begin), Some(end)) if begin < end => begin + end.duration_since(begin) / 3 * 2,
        _ => now,
    }
}
