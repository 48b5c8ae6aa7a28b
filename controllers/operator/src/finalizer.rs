//! Finalizers: added before anything is made for an object, removed when nothing is left.

use kube::{Api, Resource, ResourceExt as _};
use serde_json::json;

use crate::{Error, Object, call};

/// Whether the object carries the finalizer.
pub fn present<K: Resource>(object: &K, name: &str) -> bool {
    object
        .meta()
        .finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == name)
}

/// Adds the finalizer. Returns whether it had to be added.
///
/// # Errors
/// [`Error::Conflict`] when the object changed since it was read.
pub async fn add<K: Object>(api: &Api<K>, object: &K, name: &str) -> Result<bool, Error> {
    if present(object, name) || object.meta().deletion_timestamp.is_some() {
        return Ok(false);
    }
    let mut finalizers = object.meta().finalizers.clone().unwrap_or_default();
    finalizers.push(name.to_owned());
    replace(api, object, &finalizers).await?;
    Ok(true)
}

/// Removes finalizers; an object that is gone is fine.
///
/// # Errors
/// [`Error::Conflict`] when the object changed since it was read.
pub async fn remove<K: Object>(api: &Api<K>, object: &K, names: &[&str]) -> Result<(), Error> {
    let finalizers = object.meta().finalizers.clone().unwrap_or_default();
    let left: Vec<String> = finalizers
        .iter()
        .filter(|finalizer| !names.contains(&finalizer.as_str()))
        .cloned()
        .collect();
    if left.len() == finalizers.len() {
        return Ok(());
    }
    match replace(api, object, &left).await {
        Err(error) if error.is_not_found() => Ok(()),
        done => done,
    }
}

async fn replace<K: Object>(api: &Api<K>, object: &K, finalizers: &[String]) -> Result<(), Error> {
    // the resource version makes it a compare-and-swap: nobody else's finalizer is lost
    let patch = json!({ "metadata": {
        "resourceVersion": object.resource_version(),
        "finalizers": finalizers,
    }});
    call::patch_merge(api, &object.name_any(), &patch)
        .await
        .map(drop)
}
