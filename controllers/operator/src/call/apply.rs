//! Server-side apply that leaves the API server alone when there is nothing to change.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tracing::{Instrument as _, info_span};
use upm_crds::names::annotation;

use super::{covers, name_of, within};
use crate::Error;

/// What applying an object did.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied<K> {
    /// Nothing: the object is as wanted.
    Unchanged,
    /// The object was made or changed; this is how the API server has it now.
    Changed(Box<K>),
}

/// Applies `desired` as `manager`'s, with force. `current` is what is known of the object; when it was applied with the
/// same intent and nothing drifted, the API server is not asked. A resource version in `desired` makes it a compare-and-swap.
///
/// # Errors
/// Those of the call, see [`within`]; [`Error::Conflict`] when the object is no longer of the given resource version.
pub async fn apply<K>(
    api: &Api<K>,
    current: Option<&K>,
    desired: &K,
    manager: &str,
) -> Result<Applied<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let name = desired.name_any();
    let mut intent = stamped(desired)?;
    if let Some(current) = current {
        let found = serde_json::to_value(current).map_err(anyhow::Error::from)?;
        if covers(&found, &intent) {
            return Ok(Applied::Unchanged);
        }
    }
    if let Some(version) = desired.resource_version() {
        intent["metadata"]["resourceVersion"] = json!(version);
    }
    let params = PatchParams::apply(manager).force();
    let span = info_span!("apply", kind = %K::kind(&()), name);
    let changed = within(
        &name_of::<K>("apply", &name),
        api.patch(&name, &params, &Patch::Apply(&intent)),
    )
    .instrument(span)
    .await?;
    Ok(Applied::Changed(Box::new(changed)))
}

/// The object as it is applied: with its digest as an annotation, so that fields which the next intent drops are noticed.
///
/// # Errors
/// When the object has no JSON form.
pub fn stamped<K: Resource<DynamicType = ()> + Serialize>(desired: &K) -> Result<Value, Error> {
    let mut intent = serde_json::to_value(desired).map_err(anyhow::Error::from)?;
    intent["apiVersion"] = json!(K::api_version(&()));
    intent["kind"] = json!(K::kind(&()));
    if let Some(object) = intent.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = intent["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    let digest = digest(&intent);
    intent["metadata"]["annotations"][annotation::APPLIED] = json!(digest);
    Ok(intent)
}

/// The first 16 hexadecimal digits of the SHA-256 of a JSON value; the order of an object's keys does not matter.
pub fn digest(value: &Value) -> String {
    let mut hash = Sha256::new();
    feed(&mut hash, value);
    let head = hash
        .finalize()
        .iter()
        .take(8)
        .fold(0_u64, |head, byte| head << 8 | u64::from(*byte));
    format!("{head:016x}")
}

/// Every value with its kind and length, so that no two values give the same bytes.
fn feed(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Object(fields) => {
            hash.update(b"{");
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            for key in keys {
                feed(hash, &json!(key));
                feed(hash, &fields[key]);
            }
            hash.update(b"}");
        }
        Value::Array(items) => {
            hash.update(b"[");
            for item in items {
                feed(hash, item);
            }
            hash.update(b"]");
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            hash.update(value.to_string().as_bytes());
            hash.update(b",");
        }
    }
}
