//! Events about objects, for people. They never carry secrets: callers pass names and reasons only.

use std::fmt;
use std::time::Duration;

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tracing::debug;

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
        let reference = object.object_ref(&());
        // an event is a courtesy: failing to publish it must not fail the reconcile
        match tokio::time::timeout(DEADLINE, self.0.publish(&event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, reason, "Did not publish an event"),
            Err(_) => debug!(reason, "Publishing an event took too long"),
        }
    }
}
