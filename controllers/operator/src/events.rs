//! Events about objects, for people. They never carry secrets: callers pass names and reasons only.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tracing::debug;

use crate::informer::Unreadable;

/// The API accepts at most 1024 bytes.
const MAX_NOTE_CHARS: usize = 250;
const DEADLINE: Duration = Duration::from_secs(5);

/// Publishes events; equal ones are counted as a series.
#[derive(Clone)]
pub struct Events(Recorder);

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// Events reported by the controller of this name.
    pub fn new(client: Client, reporter: &str) -> Self {
        Self(Recorder::new(
            client,
            Reporter {
                controller: format!("upm/{reporter}"),
                instance: None,
            },
        ))
    }

    /// Something happened as it should. `reason` and `action` are CamelCase words.
    pub async fn normal<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &str,
        action: &str,
        note: impl Into<String>,
    ) {
        self.publish(object, EventType::Normal, reason, action, note.into())
            .await;
    }

    /// Something a person should look at.
    pub async fn warning<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        reason: &str,
        action: &str,
        note: impl Into<String>,
    ) {
        self.publish(object, EventType::Warning, reason, action, note.into())
            .await;
    }

    async fn publish<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        type_: EventType,
        reason: &str,
        action: &str,
        note: String,
    ) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.chars().take(MAX_NOTE_CHARS).collect()),
            action: action.to_owned(),
            secondary: None,
        };
        self.about(&object.object_ref(&()), &event).await;
    }

    /// Something a person should look at, about an object that could not be read as one of its kind.
    pub(crate) async fn unreadable<K: Resource<DynamicType = ()>>(&self, unreadable: &Unreadable) {
        let metadata = unreadable.metadata.clone();
        let reference = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            ..ObjectReference::default()
        };
        let note = format!("is left alone, it cannot be read: {}", unreadable.error);
        let event = Event {
            type_: EventType::Warning,
            reason: "Unreadable".to_owned(),
            note: Some(note.chars().take(MAX_NOTE_CHARS).collect()),
            action: "Read".to_owned(),
            secondary: None,
        };
        self.about(&reference, &event).await;
    }

    async fn about(&self, reference: &ObjectReference, event: &Event) {
        let reason = &event.reason;
        // an event is a courtesy: failing to publish it must not fail the reconcile
        match tokio::time::timeout(DEADLINE, self.0.publish(event, reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, reason, "Did not publish an event"),
            Err(_) => debug!(reason, "Publishing an event took too long"),
        }
    }
}
