//! An object as it was read, or why it could not be: one that cannot be read must not hide the others.

use std::borrow::Cow;
use std::fmt::Debug;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DynamicResourceScope;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object that is not of the form of its kind. It is left alone.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Which field is wrong, and how.
    pub error: String,
}

/// What a status that is not of the form of its kind does.
pub(crate) trait Status: Clone + Debug + Send + Sync + 'static {
    /// Whether the object is read as if it had none.
    const IGNORED: bool;
}

/// The status is computed anew by who reads it, so that what another version wrote there is not needed.
#[derive(Clone, Debug)]
pub(crate) struct Computed;

impl Status for Computed {
    const IGNORED: bool = true;
}

/// The status is a record that nobody else has: an object without it would be another one.
#[derive(Clone, Debug)]
pub(crate) struct Record;

impl Status for Record {
    const IGNORED: bool = false;
}

/// An object, or why it cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct Read<K, S> {
    pub(crate) object: Result<K, Unreadable>,
    status: PhantomData<S>,
}

#[cfg(test)]
impl<K, S> Read<K, S> {
    pub(crate) fn of(object: K) -> Self {
        Self {
            object: Ok(object),
            status: PhantomData,
        }
    }
}

impl<'de, K, S> Deserialize<'de> for Read<K, S>
where
    K: DeserializeOwned,
    S: Status,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        let object = K::deserialize(&value).or_else(|error| {
            let metadata = || {
                let metadata = value.get("metadata").cloned().unwrap_or_default();
                serde_json::from_value(metadata).unwrap_or_default()
            };
            let unreadable = Unreadable {
                metadata: metadata(),
                error: error.to_string(),
            };
            let without = S::IGNORED
                && value
                    .as_object_mut()
                    .is_some_and(|object| object.remove("status").is_some());
            if without {
                K::deserialize(&value).map_err(|_| unreadable)
            } else {
                Err(unreadable)
            }
        });
        Ok(Self {
            object,
            status: PhantomData,
        })
    }
}

impl<K: Resource, S> Resource for Read<K, S> {
    type DynamicType = K::DynamicType;
    // also where the kind has namespaces, a whole cluster of them is watched
    type Scope = DynamicResourceScope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.object {
            Ok(object) => object.meta(),
            Err(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.object {
            Ok(object) => object.meta_mut(),
            Err(unreadable) => &mut unreadable.metadata,
        }
    }
}

/// What an event says, apart from objects that cannot be read.
pub(crate) fn split<K, S>(event: Event<Read<K, S>>) -> Result<Event<K>, (bool, Unreadable)> {
    match event {
        Event::Apply(read) => read.object.map(Event::Apply).map_err(|it| (true, it)),
        Event::InitApply(read) => read.object.map(Event::InitApply).map_err(|it| (true, it)),
        Event::Delete(read) => read.object.map(Event::Delete).map_err(|it| (false, it)),
        Event::Init => Ok(Event::Init),
        Event::InitDone => Ok(Event::InitDone),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use upm_crds::UnitSet;

    use super::*;

    fn set(status: &Value) -> Value {
        json!({
            "apiVersion": "upm.syntropycloud.io/v1alpha2", "kind": "UnitSet",
            "metadata": { "name": "demo", "namespace": "p1" },
            "spec": { "type": "redis", "version": "7.0.15", "units": 3, "storage": [] },
            "status": status,
        })
    }

    fn read<S: Status>(value: Value) -> Result<UnitSet, Unreadable> {
        let read: Read<UnitSet, S> = serde_json::from_value(value).unwrap();
        read.object
    }

    #[test]
    fn status_of_another_version_does_not_hide_the_object() {
        let odd = set(&json!({ "units": "three" }));
        let object = read::<Computed>(odd.clone()).unwrap();
        assert_eq!((object.spec.units, object.status), (3, None));
        let refused = read::<Record>(odd).unwrap_err();
        assert!(refused.error.contains("three"), "{}", refused.error);
    }

    #[test]
    fn object_that_cannot_be_read_keeps_its_name_and_the_reason() {
        let mut wrong = set(&json!({}));
        wrong["spec"]["units"] = json!("three");
        let refused = read::<Computed>(wrong).unwrap_err();
        assert_eq!(refused.metadata.name.as_deref(), Some("demo"));
        assert!(refused.error.contains("three"), "{}", refused.error);
    }
}
