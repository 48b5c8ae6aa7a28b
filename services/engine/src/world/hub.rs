//! A hub that plays the cluster: what is applied has happened at once, unless the test says otherwise.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};
use upm_proto::hub::v1::{
    self as pb, ledger_service_server::LedgerService, watch_objects_response::Event,
};

/// How the cluster behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Play {
    /// The agent has no session.
    pub(crate) away: bool,
    /// Units never become ready.
    pub(crate) stuck: bool,
    /// Volumes of an earlier set are there.
    pub(crate) foreign: bool,
    /// The API server refuses UnitSets.
    pub(crate) refuses: bool,
    /// Switchovers fail.
    pub(crate) keeps_primary: bool,
    /// The hub does not answer.
    pub(crate) down: bool,
}

/// One thing that was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wrote {
    pub(crate) name: String,
    pub(crate) uid: Vec<u8>,
    pub(crate) generation: u64,
    pub(crate) tombstone: bool,
    pub(crate) json: Value,
}

#[derive(Clone)]
pub(crate) struct Fake {
    inner: Arc<Mutex<Inner>>,
    changes: broadcast::Sender<pb::Object>,
}

#[derive(Default)]
struct Inner {
    play: Play,
    objects: BTreeMap<String, pb::Object>,
    epochs: HashMap<String, u64>,
    /// Only what changed the ledger.
    log: Vec<Wrote>,
    primary: Option<(String, i64)>,
    last_switchover: Value,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            inner: Arc::default(),
            changes: broadcast::channel(256).0,
        }
    }
}

impl Fake {
    /// Changes how the cluster behaves, and lets it look at everything again.
    pub(crate) fn play(&self, change: impl FnOnce(&mut Play)) {
        let mut inner = self.inner.lock().unwrap();
        change(&mut inner.play);
        let names: Vec<String> = inner.objects.keys().cloned().collect();
        let changed: Vec<pb::Object> = names.iter().map(|name| inner.reconcile(name)).collect();
        drop(inner);
        for object in changed {
            let _ = self.changes.send(object);
        }
    }

    pub(crate) fn log(&self) -> Vec<Wrote> {
        self.inner.lock().unwrap().log.clone()
    }

    /// What was written for one object, in order.
    pub(crate) fn wrote(&self, name: &str) -> Vec<Wrote> {
        self.log()
            .into_iter()
            .filter(|wrote| wrote.name == name)
            .collect()
    }

    /// Objects that are there.
    pub(crate) fn alive(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap();
        inner
            .objects
            .iter()
            .filter(|(_, object)| !object.tombstone)
            .map(|(name, _)| name.clone())
            .collect()
    }

    pub(crate) fn primary(&self) -> Option<String> {
        self.inner
            .lock()
            .unwrap()
            .primary
            .clone()
            .map(|(name, _)| name)
    }

    pub(crate) fn epoch_of(&self, owner: &str) -> u64 {
        self.inner
            .lock()
            .unwrap()
            .epochs
            .get(owner)
            .copied()
            .unwrap_or_default()
    }

    fn answers(&self) -> Result<(), Status> {
        if self.inner.lock().unwrap().play.down {
            return Err(Status::unavailable("the hub is away"));
        }
        Ok(())
    }
}

impl Inner {
    /// What agent and controllers make of an object.
    fn reconcile(&mut self, name: &str) -> pb::Object {
        let play = self.play;
        let mut object = self.objects[name].clone();
        object.agent_connected = !play.away;
        if !play.away {
            let kind = object.key.clone().unwrap_or_default().kind;
            let refused = play.refuses && kind == "UnitSet" && !object.tombstone;
            let outcome = match (object.tombstone, refused) {
                (true, _) => pb::Outcome::Deleted,
                (false, true) => pb::Outcome::Rejected,
                (false, false) => pb::Outcome::Applied,
            };
            object.state = if refused {
                pb::IntentState::Latched
            } else {
                pb::IntentState::Settled
            }
            .into();
            object.result = Some(pb::ObjectResult {
                generation: object.generation,
                outcome: outcome.into(),
                ..Default::default()
            });
            let intent: Value = serde_json::from_slice(&object.json).unwrap_or_default();
            object.status = (!refused && !object.tombstone).then(|| {
                let mut status = self.status(&kind, &intent);
                status["observedGeneration"] = json!(object.generation);
                let live = json!({"metadata": {"generation": object.generation}, "status": status});
                pb::ObjectStatus {
                    json: live.to_string().into_bytes().into(),
                    intent_generation: object.generation,
                    update_time: Some(store::time::timestamp(store::time::now_us())),
                    ..Default::default()
                }
            });
        }
        self.objects.insert(name.to_owned(), object.clone());
        object
    }

    fn status(&mut self, kind: &str, intent: &Value) -> Value {
        let spec = &intent["spec"];
        match kind {
            "UnitSet" => {
                let blocked = self.play.foreign && spec["retainedVolumes"] == "Refuse";
                let ready = if self.play.stuck || blocked {
                    json!(0)
                } else {
                    spec["units"].clone()
                };
                let restarted = if self.play.stuck {
                    Value::Null
                } else {
                    spec["restartedAt"].clone()
                };
                json!({
                    "units": spec["units"], "readyUnits": ready, "updatedUnits": ready, "restartedAt": restarted,
                    "conditions": [{
                        "type": "VolumesRetained", "status": if blocked { "True" } else { "False" },
                        "reason": "Found", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
                    }],
                })
            }
            "RedisReplication" => {
                let (primary, epoch) = self
                    .primary
                    .clone()
                    .unwrap_or_else(|| ("demo-0".to_owned(), 1));
                let wish = &spec["switchover"];
                let mut now = (primary.clone(), epoch);
                if wish["requestId"].is_string()
                    && self.last_switchover["requestId"] != wish["requestId"]
                {
                    let fits = wish["expectedEpoch"] == json!(epoch);
                    let result = if fits && !self.play.keeps_primary {
                        "Succeeded"
                    } else {
                        "Failed"
                    };
                    if result == "Succeeded" {
                        now = (
                            wish["target"].as_str().unwrap_or_default().to_owned(),
                            epoch + 1,
                        );
                    }
                    self.last_switchover = json!({
                        "requestId": wish["requestId"], "result": result, "reason": "REPLICA_BEHIND", "message": "too far",
                    });
                }
                self.primary = Some(now.clone());
                let members = 1 + spec["replica"].as_array().map_or(0, Vec::len);
                let topology: serde_json::Map<String, Value> = (0..members)
                    .map(|at| (format!("demo-{at}"), json!({})))
                    .collect();
                json!({"primary": now.0, "epoch": now.1, "topology": topology, "lastSwitchover": self.last_switchover})
            }
            _ => json!({}),
        }
    }
}

fn refused(kind: mesh::Kind, reason: &str) -> Status {
    mesh::status::build(kind, "hub.upm", reason, reason, &mesh::Details::default())
}

fn name_of(key: &pb::Key) -> String {
    format!("{}/{}", key.kind, key.name)
}

type Changes = Pin<Box<dyn Stream<Item = Result<pb::WatchObjectsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl LedgerService for Fake {
    async fn apply_objects(
        &self,
        request: Request<pb::ApplyObjectsRequest>,
    ) -> Result<Response<pb::ApplyObjectsResponse>, Status> {
        self.answers()?;
        let request = request.into_inner();
        let writer = request.writer.unwrap_or_default();
        let mut changed = Vec::new();
        {
            let mut inner = self.inner.lock().unwrap();
            let seen = inner.epochs.entry(writer.owner.clone()).or_default();
            if writer.epoch < *seen {
                return Err(refused(mesh::Kind::FailedPrecondition, "STALE_WRITER"));
            }
            *seen = writer.epoch;
            for intent in request.intents {
                let key = intent.key.clone().unwrap_or_default();
                let name = name_of(&key);
                let known = inner.objects.get(&name).filter(|object| !object.tombstone);
                if let Some(known) = known {
                    if known.intent_uid != intent.intent_uid {
                        return Err(refused(mesh::Kind::AlreadyExists, "INTENT_EXISTS"));
                    }
                    if known.generation == intent.generation && known.json == intent.json {
                        continue;
                    }
                    if intent.generation <= known.generation {
                        return Err(refused(mesh::Kind::Aborted, "STALE_GENERATION"));
                    }
                }
                inner.log.push(Wrote {
                    name: name.clone(),
                    uid: intent.intent_uid.to_vec(),
                    generation: intent.generation,
                    tombstone: false,
                    json: serde_json::from_slice(&intent.json).unwrap_or_default(),
                });
                inner.objects.insert(
                    name.clone(),
                    pb::Object {
                        agent_id: request.agent_id.clone(),
                        key: Some(key),
                        owner: writer.owner.clone(),
                        intent_uid: intent.intent_uid,
                        generation: intent.generation,
                        json: intent.json,
                        state: pb::IntentState::Dirty.into(),
                        ..Default::default()
                    },
                );
                changed.push(inner.reconcile(&name));
            }
        }
        for object in changed {
            let _ = self.changes.send(object);
        }
        Ok(Response::new(pb::ApplyObjectsResponse::default()))
    }

    async fn delete_objects(
        &self,
        request: Request<pb::DeleteObjectsRequest>,
    ) -> Result<Response<pb::DeleteObjectsResponse>, Status> {
        self.answers()?;
        let request = request.into_inner();
        let writer = request.writer.unwrap_or_default();
        let mut changed = Vec::new();
        {
            let mut inner = self.inner.lock().unwrap();
            let seen = inner.epochs.entry(writer.owner.clone()).or_default();
            if writer.epoch < *seen {
                return Err(refused(mesh::Kind::FailedPrecondition, "STALE_WRITER"));
            }
            *seen = writer.epoch;
            for key in request.keys {
                let name = name_of(&key);
                let Some(object) = inner
                    .objects
                    .get_mut(&name)
                    .filter(|object| !object.tombstone)
                else {
                    continue;
                };
                object.tombstone = true;
                object.generation += 1;
                let wrote = Wrote {
                    name: name.clone(),
                    uid: object.intent_uid.to_vec(),
                    generation: object.generation,
                    tombstone: true,
                    json: serde_json::from_slice(&object.json).unwrap_or_default(),
                };
                inner.log.push(wrote);
                changed.push(inner.reconcile(&name));
            }
        }
        for object in changed {
            let _ = self.changes.send(object);
        }
        Ok(Response::new(pb::DeleteObjectsResponse::default()))
    }

    async fn get_object(
        &self,
        request: Request<pb::GetObjectRequest>,
    ) -> Result<Response<pb::Object>, Status> {
        self.answers()?;
        let name = name_of(&request.into_inner().key.unwrap_or_default());
        let inner = self.inner.lock().unwrap();
        let object = inner.objects.get(&name).cloned();
        object
            .map(Response::new)
            .ok_or_else(|| refused(mesh::Kind::NotFound, "OBJECT_NOT_FOUND"))
    }

    async fn list_objects(
        &self,
        request: Request<pb::ListObjectsRequest>,
    ) -> Result<Response<pb::ListObjectsResponse>, Status> {
        self.answers()?;
        let owner = request.into_inner().owner;
        let inner = self.inner.lock().unwrap();
        Ok(Response::new(pb::ListObjectsResponse {
            objects: inner
                .objects
                .values()
                .filter(|object| object.owner == owner)
                .cloned()
                .collect(),
            next_page_token: String::new(),
        }))
    }

    type WatchObjectsStream = Changes;

    async fn watch_objects(
        &self,
        request: Request<pb::WatchObjectsRequest>,
    ) -> Result<Response<Changes>, Status> {
        self.answers()?;
        let owner = request.into_inner().owner;
        let receiver = self.changes.subscribe();
        let now: Vec<pb::Object> = self
            .inner
            .lock()
            .unwrap()
            .objects
            .values()
            .cloned()
            .collect();
        let later = BroadcastStream::new(receiver).filter_map(|change| async { change.ok() });
        let changes = stream::iter(now)
            .chain(later)
            .filter(move |object| std::future::ready(owner.is_empty() || object.owner == owner))
            .map(|object| {
                Ok(pb::WatchObjectsResponse {
                    event: Some(Event::Object(object)),
                })
            });
        Ok(Response::new(Box::pin(changes)))
    }

    async fn read_secret(
        &self,
        _: Request<pb::ReadSecretRequest>,
    ) -> Result<Response<pb::ReadSecretResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
