//! The Secret with a service's passwords: made once, in the cluster, and never anew while it is there.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use rand::Rng as _;
use rand::distr::Alphanumeric;
use upm_crds::UnitSet;
use upm_crds::names::{annotation, label};
use upm_crds::unit_set::GeneratedSecret;

use super::set_meta;

const LENGTH: usize = 32;

/// 32 random letters and digits: about 190 bits.
pub(crate) fn password() -> ByteString {
    ByteString(rand::rng().sample_iter(Alphanumeric).take(LENGTH).collect())
}

/// The Secret with a password for every key. It has no owner: it goes, or stays, with the volumes.
pub(crate) fn generated(set: &UnitSet, wanted: &GeneratedSecret) -> Secret {
    let mut metadata = set_meta(set, wanted.name.clone());
    metadata.owner_references = None;
    metadata
        .labels
        .get_or_insert_default()
        .insert(label::READABLE.to_owned(), "true".to_owned());
    metadata.annotations.get_or_insert_default().insert(
        annotation::UNIT_SET_UID.to_owned(),
        set.uid().unwrap_or_default(),
    );
    let data: BTreeMap<String, ByteString> = wanted
        .keys
        .iter()
        .map(|key| (key.clone(), password()))
        .collect();
    Secret {
        metadata,
        data: Some(data),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// The keys that are wanted and not there.
pub(crate) fn missing_keys(secret: &Secret, wanted: &GeneratedSecret) -> Vec<String> {
    let present = |key: &String| {
        secret
            .data
            .as_ref()
            .is_some_and(|data| data.contains_key(key))
    };
    wanted
        .keys
        .iter()
        .filter(|key| !present(key))
        .cloned()
        .collect()
}

/// The uid of the set that the Secret was generated for; one that a user made has none.
pub(crate) fn generated_for(secret: &Secret) -> Option<&str> {
    secret
        .annotations()
        .get(annotation::UNIT_SET_UID)
        .map(String::as_str)
}
