//! Calls to the API server, each with a deadline and a name for its errors.

mod apply;
mod drift;

pub use apply::{Applied, apply, digest, stamped};
pub use drift::{covers, differences};

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use kube::api::{
    DeleteParams, ListParams, ObjectList, Patch, PatchParams, PostParams, Preconditions,
    PropagationPolicy,
};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// The longest a single call may take.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Runs a call to the API server with the deadline; `what` names it in errors.
///
/// # Errors
/// [`Error::Deadline`], [`Error::Conflict`] or [`Error::Kube`].
pub async fn within<T>(
    what: &str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::kube(what, error)),
        Err(_) => Err(Error::Deadline {
            what: what.to_owned(),
            within: DEADLINE,
        }),
    }
}

fn name_of<K: Resource<DynamicType = ()>>(verb: &str, name: &str) -> String {
    format!("{verb} {} {name}", K::kind(&()))
}

/// Reads an object; not there is `None`.
pub async fn get_opt<K>(api: &Api<K>, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    within(&name_of::<K>("read", name), api.get_opt(name)).await
}

/// Reads an object that must be there.
pub async fn get<K>(api: &Api<K>, name: &str) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    within(&name_of::<K>("read", name), api.get(name)).await
}

/// Reads the objects that the label selector finds.
pub async fn list<K>(api: &Api<K>, labels: &str) -> Result<ObjectList<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    within(
        &name_of::<K>("list", labels),
        api.list(&ListParams::default().labels(labels)),
    )
    .await
}

/// Reads the objects that the field selector finds.
pub async fn list_where<K>(api: &Api<K>, fields: &str) -> Result<ObjectList<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    within(
        &name_of::<K>("list", fields),
        api.list(&ListParams::default().fields(fields)),
    )
    .await
}

/// Makes an object; `None` when there is one of this name.
pub async fn create<K>(api: &Api<K>, object: &K) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let what = name_of::<K>("create", &object.name_any());
    // the API server answers "already exists" with the code of a conflict, so it is looked at first
    match tokio::time::timeout(DEADLINE, api.create(&PostParams::default(), object)).await {
        Ok(Ok(made)) => Ok(Some(made)),
        Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => Ok(None),
        Ok(Err(error)) => Err(Error::kube(&what, error)),
        Err(_) => Err(Error::Deadline {
            what,
            within: DEADLINE,
        }),
    }
}

/// What happens to the objects that an object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
}

/// Deletes exactly the object with this uid; gone, or another one of this name, is fine.
pub async fn delete<K>(
    api: &Api<K>,
    name: &str,
    uid: Option<String>,
    propagation: Propagation,
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let params = DeleteParams {
        propagation_policy: Some(match propagation {
            Propagation::Background => PropagationPolicy::Background,
            Propagation::Foreground => PropagationPolicy::Foreground,
        }),
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match within(&name_of::<K>("delete", name), api.delete(name, &params)).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Merges a patch into an object. With `metadata.resourceVersion` in it, it is a compare-and-swap.
pub async fn patch_merge<K>(api: &Api<K>, name: &str, patch: &serde_json::Value) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    within(
        &name_of::<K>("patch", name),
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)),
    )
    .await
}

/// Replaces the status as a compare-and-swap on the object's resource version.
///
/// # Errors
/// [`Error::Conflict`] when the object changed since it was read.
pub async fn replace_status<K>(api: &Api<K>, object: &K) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let name = object.name_any();
    within(
        &name_of::<K>("write the status of", &name),
        api.replace_status(&name, &PostParams::default(), object),
    )
    .await
}

/// Writes the status as `manager`'s alone; what it no longer mentions is removed.
pub async fn apply_status<K, S>(
    api: &Api<K>,
    name: &str,
    status: &S,
    manager: &str,
) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    S: Serialize,
{
    let patch = serde_json::json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": name },
        "status": status,
    });
    let params = PatchParams::apply(manager).force();
    within(
        &name_of::<K>("write the status of", name),
        api.patch_status(name, &params, &Patch::Apply(patch)),
    )
    .await
}
