//! Watches what the hub is interested in: objects of intents for their status, and inventory. What nobody asked for is not watched;
//! objects without an intent's annotation are not reported.

mod mask;
mod requested;

use std::{
    collections::{HashMap, HashSet, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::DynamicObject,
    runtime::{WatchStreamExt as _, watcher},
};
use prost::bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use upm_proto::{
    hub::v1 as pb,
    ledger::{canonical_json, key_text},
};

use crate::{
    applier::{
        carried,
        kinds::{Kinds, Unknown},
    },
    session::Observation,
};
use mask::Condition;
use requested::Requested;

/// Before a kind that is not there is looked for again.
const MISSING: Duration = Duration::from_secs(20);
/// Between two looks at what the pods of nodes ask for: plans need no more.
const ADD_UP: Duration = Duration::from_secs(30);
/// Phases after which nothing follows by itself.
const TERMINAL: [&str; 3] = ["Failed", "Refused", "Succeeded"];

/// What was seen.
#[derive(Debug)]
pub enum Seen {
    /// An object of an intent.
    Object(pb::Key, Box<Observation>),
    /// All objects of intents that exist: group, kind, namespace (empty for all), key texts.
    Listed(String, String, String, HashSet<String>),
    /// Inventory: watch, changes, whether they are all there is.
    Inventory(u32, Vec<pb::WatchEvent>, bool),
}

/// Runs the watches of the latest interest until cancelled.
pub async fn collect(
    client: Client,
    kinds: Kinds,
    mut interest: watch::Receiver<Vec<pb::Watch>>,
    seen: mpsc::Sender<Seen>,
    cancel: CancellationToken,
) {
    let mut running = HashMap::<u32, (pb::Watch, CancellationToken)>::new();
    let mut tasks = JoinSet::new();
    loop {
        let wanted = interest.borrow_and_update().clone();
        let ids = wanted.iter().map(|w| w.watch_id).collect::<HashSet<_>>();
        running.retain(|id, (_, stop)| {
            let keep = ids.contains(id);
            if !keep {
                stop.cancel();
            }
            keep
        });
        for mut watch in wanted {
            // Where the hub resumes is the session's business.
            watch.resume_rv.clear();
            if running
                .get(&watch.watch_id)
                .is_some_and(|(w, _)| *w == watch)
            {
                continue;
            }
            let stop = cancel.child_token();
            if let Some((_, old)) = running.insert(watch.watch_id, (watch.clone(), stop.clone())) {
                old.cancel();
            }
            let (client, kinds, seen) = (client.clone(), kinds.clone(), seen.clone());
            tasks.spawn(async move {
                let one = One {
                    watch,
                    seen,
                    known: HashMap::new(),
                    forms: HashMap::new(),
                    fresh: HashSet::new(),
                    listing: Vec::new(),
                    requested: Requested::default(),
                    nodes: HashMap::new(),
                };
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = one.run(client, kinds) => {}
                }
            });
        }
        tokio::select! {
            () = cancel.cancelled() => break,
            changed = interest.changed() => if changed.is_err() { break },
            Some(_) = tasks.join_next() => {}
        }
    }
    tasks.shutdown().await;
}

/// One watch.
struct One {
    watch: pb::Watch,
    seen: mpsc::Sender<Seen>,
    /// Objects of intents that were reported, with their conditions.
    known: HashMap<String, (pb::Key, Vec<Condition>)>,
    /// What the objects said besides their status, and for which generation of their intents.
    forms: HashMap<String, (u64, u64)>,
    /// Those that the present list has named.
    fresh: HashSet<String>,
    listing: Vec<pb::WatchEvent>,
    /// What pods ask for, when the hub wants to know that of nodes.
    requested: Requested,
    /// The nodes of which it is said.
    nodes: HashMap<String, DynamicObject>,
}

impl One {
    async fn run(mut self, client: Client, kinds: Kinds) {
        let watch = &self.watch;
        let kind = loop {
            match kinds.get(&watch.group, &watch.version, &watch.kind).await {
                Ok(kind) => break kind,
                Err(Unknown::Kind) => {
                    tracing::info!(
                        kind = watch.kind,
                        "The API server does not know a kind that the hub wants to see"
                    );
                }
                Err(Unknown::Away(why)) => {
                    tracing::warn!(kind = watch.kind, why, "Kinds cannot be discovered");
                }
            }
            tokio::time::sleep(MISSING).await;
        };
        let mut pods = if self.adds_up() {
            // Pods that have ended ask for nothing.
            let running =
                watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
            watcher(Api::<Pod>::all(client.clone()), running)
                .default_backoff()
                .boxed()
        } else {
            stream::pending().boxed()
        };
        let mut add_up = tokio::time::interval(ADD_UP);
        add_up.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let watch = &self.watch;
        let api: Api<DynamicObject> = if watch.namespace.is_empty() || !kind.namespaced {
            Api::all_with(client, &kind.resource)
        } else {
            Api::namespaced_with(client, &watch.namespace, &kind.resource)
        };
        let mut config = watcher::Config::default();
        if !watch.selector.is_empty() {
            config = config.labels(&watch.selector);
        }
        let mut events = watcher(api, config).default_backoff().boxed();
        loop {
            let next = tokio::select! {
                next = events.try_next() => next,
                Some(pod) = pods.next() => {
                    match pod {
                        // At once when all are known, and every so often after that.
                        Ok(event) => if self.requested.event(event) && self.say_requested().await.is_err() {
                            return;
                        },
                        Err(error) => tracing::warn!(%error, "What pods ask for is not known"),
                    }
                    continue;
                }
                _ = add_up.tick(), if self.adds_up() => {
                    if self.say_requested().await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            match next {
                Ok(Some(event)) => {
                    if self.event(event).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(kind = self.watch.kind, %error, "A watch broke; it begins anew");
                }
            }
        }
    }

    /// Whether the hub wants to know what the pods of each node ask for.
    fn adds_up(&self) -> bool {
        let watch = &self.watch;
        watch.inventory
            && watch.kind == "Node"
            && watch.field_mask.iter().any(|path| path == requested::FIELD)
    }

    /// Reports the nodes anew whose pods ask for something else than the last time.
    async fn say_requested(&mut self) -> Result<(), ()> {
        let changed = self.nodes.iter();
        let changed: Vec<DynamicObject> = changed
            .filter(|(name, _)| self.requested.changed(name))
            .map(|(_, node)| node.clone())
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        let mut events = Vec::new();
        for node in &changed {
            events.push(self.inventory(node, false));
        }
        self.send(Seen::Inventory(self.watch.watch_id, events, false))
            .await
    }

    async fn event(&mut self, event: watcher::Event<DynamicObject>) -> Result<(), ()> {
        match event {
            watcher::Event::Init => {
                self.fresh.clear();
                self.listing.clear();
                self.nodes.clear();
                Ok(())
            }
            watcher::Event::InitApply(object) if self.watch.inventory => {
                let event = self.inventory(&object, false);
                self.listing.push(event);
                Ok(())
            }
            watcher::Event::Apply(object) if self.watch.inventory => {
                let event = self.inventory(&object, false);
                self.send(Seen::Inventory(self.watch.watch_id, vec![event], false))
                    .await
            }
            watcher::Event::Delete(object) if self.watch.inventory => {
                let event = self.inventory(&object, true);
                self.send(Seen::Inventory(self.watch.watch_id, vec![event], false))
                    .await
            }
            watcher::Event::InitDone if self.watch.inventory => {
                let events = std::mem::take(&mut self.listing);
                self.send(Seen::Inventory(self.watch.watch_id, events, true))
                    .await
            }
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                self.object(object).await
            }
            watcher::Event::Delete(object) => {
                let text = key_text(&self.key(&object));
                self.gone(&text).await
            }
            watcher::Event::InitDone => {
                let missing = self
                    .known
                    .keys()
                    .filter(|text| !self.fresh.contains(*text))
                    .cloned()
                    .collect::<Vec<_>>();
                for text in missing {
                    self.gone(&text).await?;
                }
                let watch = &self.watch;
                self.send(Seen::Listed(
                    watch.group.clone(),
                    watch.kind.clone(),
                    watch.namespace.clone(),
                    self.fresh.clone(),
                ))
                .await
            }
        }
    }

    async fn send(&self, seen: Seen) -> Result<(), ()> {
        self.seen.send(seen).await.map_err(|_| ())
    }

    fn key(&self, object: &DynamicObject) -> pb::Key {
        pb::Key {
            group: self.watch.group.clone(),
            version: self.watch.version.clone(),
            kind: self.watch.kind.clone(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }

    fn body(&mut self, object: &DynamicObject) -> (serde_json::Value, Bytes) {
        let mut whole = serde_json::to_value(object).unwrap_or_default();
        if self.adds_up()
            && let Some(sum) = self.requested.of(&object.name_any())
        {
            whole["status"]["requested"] = sum;
        }
        let masked = mask::masked(&whole, &self.watch.field_mask);
        let text = masked.to_string();
        // Integers beyond 2^53 have no canonical form; then the plain one is as stable.
        let body = canonical_json(text.as_bytes()).unwrap_or_else(|_| text.into_bytes());
        (whole, body.into())
    }

    fn inventory(&mut self, object: &DynamicObject, gone: bool) -> pb::WatchEvent {
        if gone {
            self.nodes.remove(&object.name_any());
        } else if self.adds_up() {
            let mut node = object.clone();
            node.metadata.managed_fields = None;
            self.nodes.insert(object.name_any(), node);
        }
        pb::WatchEvent {
            key: Some(self.key(object)),
            object: if gone {
                Bytes::new()
            } else {
                self.body(object).1
            },
            gone,
            resource_version: object.resource_version().unwrap_or_default(),
        }
    }

    async fn object(&mut self, object: DynamicObject) -> Result<(), ()> {
        let key = self.key(&object);
        let text = key_text(&key);
        self.fresh.insert(text.clone());
        let Some(intent) = carried(object.annotations()) else {
            // It never was an intent's, or is not any more.
            return self.gone(&text).await;
        };
        let (whole, body) = self.body(&object);
        let now = mask::conditions(&whole);
        let before = self
            .known
            .get(&text)
            .map(|(_, c)| c.as_slice())
            .unwrap_or_default();
        let (edges, worse) = mask::edges(before, &now);
        let phase = whole
            .pointer("/status/phase")
            .and_then(serde_json::Value::as_str);
        let form = (intent.generation, form(&whole));
        let edited = self
            .forms
            .insert(text.clone(), form)
            .is_some_and(|before| before.0 == form.0 && before.1 != form.1);
        let observation = Observation {
            edited,
            intent_uid: intent.uid,
            intent_generation: intent.generation,
            observed_generation: object.metadata.generation.unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
            body,
            gone: false,
            // After a list nobody knows what happened before: only what the object says now is certain.
            edges: if self.known.contains_key(&text) {
                edges
            } else {
                Vec::new()
            },
            urgent: worse || phase.is_some_and(|p| TERMINAL.contains(&p)),
        };
        self.known.insert(text, (key.clone(), now));
        self.send(Seen::Object(key, Box::new(observation))).await
    }

    async fn gone(&mut self, text: &str) -> Result<(), ()> {
        self.forms.remove(text);
        let Some((key, _)) = self.known.remove(text) else {
            return Ok(());
        };
        let observation = Observation {
            gone: true,
            urgent: true,
            ..Observation::default()
        };
        self.send(Seen::Object(key, Box::new(observation))).await
    }
}

/// A digest of what intents say of objects: everything but the status and what the API server keeps in the metadata.
fn form(object: &serde_json::Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        match name.as_str() {
            "status" => {}
            "metadata" => {
                for part in ["labels", "annotations"] {
                    value.get(part).map(ToString::to_string).hash(&mut hasher);
                }
            }
            _ => (name, value.to_string()).hash(&mut hasher),
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::form;

    #[test]
    fn form_changes_with_what_intents_say_and_with_nothing_else() {
        let object = json!({
            "kind": "X", "metadata": { "labels": { "a": "b" }, "resourceVersion": "1" },
            "spec": { "units": 3 }, "status": { "ready": 1 },
        });
        let mut later = object.clone();
        later["status"]["ready"] = json!(2);
        later["metadata"]["resourceVersion"] = json!("2");
        assert_eq!(form(&object), form(&later));
        for (path, value) in [
            ("/spec/units", json!(4)),
            ("/metadata/labels/a", json!("c")),
        ] {
            let mut edited = object.clone();
            *edited.pointer_mut(path).unwrap() = value;
            assert_ne!(form(&object), form(&edited), "{path}");
        }
    }
}
