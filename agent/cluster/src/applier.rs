//! Brings intents into the cluster: server-side apply under the field manager `upm`, fenced by the generation that the live object
//! carries, within the cluster's own policy. Deletes only what a tombstone names.

pub mod decide;
pub mod kinds;
pub mod outcome;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::BoxFuture};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy},
    runtime::events::{Event, EventType, Recorder},
};
use tracing::Instrument as _;
use upm_crds::names::annotation;
use upm_mesh::telemetry;
use upm_operator::call;
use upm_proto::{
    hub::v1::{self as pb, Outcome, Propagation},
    ledger::key_text,
    mutation::Mutation,
};

use crate::{
    metrics::Metrics,
    policy::Policy,
    session::{Done, Verdict, Work},
};
use decide::{Carried, Decision, Deletion, Live};
use kinds::{Kind, Kinds, Unknown};
use outcome::Failure;

/// Field manager of everything that the platform wants.
const MANAGER: &str = "upm";
/// What was read longer ago than this is not acted on: shorter than the lease of the leader.
const STALE: Duration = Duration::from_secs(10);
/// Fields of a drift that are named.
const MAX_DRIFT: usize = 8;
/// The API accepts at most 1024 bytes.
const MAX_NOTE: usize = 250;
/// Looks at an object that others keep changing, before it is left for later.
const RACES: u32 = 5;
/// A call that takes this long counts as a sign that the API server has too much to do.
const SLOW: Duration = Duration::from_secs(2);

/// Does the work of a session on objects.
pub trait Worker: Send + Sync + 'static {
    /// Does one piece of work.
    fn work(&self, work: Work) -> BoxFuture<'static, Done>;
}

/// The worker of a real cluster.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    /// Clients that act as a ServiceAccount, by the namespace of the project.
    accounts: HashMap<String, Client>,
    kinds: Kinds,
    policy: Policy,
}

impl std::fmt::Debug for Applier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applier")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Worker for Applier {
    fn work(&self, work: Work) -> BoxFuture<'static, Done> {
        let applier = self.clone();
        // From when it was asked for, not from when it is first polled.
        let began = Instant::now();
        async move { applier.run(work, began).await }.boxed()
    }
}

/// What came of one piece of work before it is a result.
type Ended = Result<(Outcome, pb::Error, Option<Live>), Failure>;

impl Applier {
    /// A worker.
    pub fn new(client: Client, kinds: Kinds, policy: Policy) -> Self {
        Self {
            client,
            accounts: HashMap::new(),
            kinds,
            policy,
        }
    }

    /// The same worker, with a client for each ServiceAccount that the policy names.
    ///
    /// # Errors
    /// When no client can be made of the configuration.
    pub fn impersonating(mut self, config: &kube::Config) -> Result<Self, kube::Error> {
        for (project, account) in &self.policy.accounts {
            let mut config = config.clone();
            config.auth_info.impersonate = Some(account.user());
            let client = Client::try_from(config)?;
            self.accounts.insert(project.clone(), client);
        }
        Ok(self)
    }

    /// As whom a key's calls are made.
    fn client(&self, key: &pb::Key) -> Result<Client, Failure> {
        if self.policy.account(&key.namespace).is_none() {
            return Ok(self.client.clone());
        }
        // Without its client an intent is not done with the agent's own rights instead.
        self.accounts.get(&key.namespace).cloned().ok_or_else(|| {
            let why = "no client for the ServiceAccount of this project";
            Failure::local(Outcome::Transient, "IMPERSONATION_UNAVAILABLE", why)
        })
    }

    async fn run(&self, work: Work, began: Instant) -> Done {
        let (uid, generation) = work.intent();
        let mut done = Done {
            text: work.text().to_owned(),
            intent_uid: uid.to_vec(),
            generation,
            verdict: Verdict::BodyNeeded,
            throttled: false,
        };
        let ended = match &work {
            Work::Verify {
                key,
                intent_uid,
                generation,
                digest,
                ..
            } => match self.verify(key, intent_uid, *generation, digest).await {
                Ok(None) => return done,
                Ok(Some(live)) => Ok((Outcome::Unchanged, pb::Error::default(), Some(live))),
                Err(failure) => Err(failure),
            },
            Work::Apply { apply, .. } => {
                let span = tracing::info_span!(
                    "apply",
                    intent.key = work.text(),
                    intent.generation = generation
                );
                let span = telemetry::with_traceparent(span, &apply.traceparent);
                self.apply(apply).instrument(span).await
            }
            Work::Delete {
                delete,
                attempt,
                expired,
                ..
            } => {
                let span = tracing::info_span!("delete", intent.key = work.text());
                let span = telemetry::with_traceparent(span, &delete.traceparent);
                let fence = expired.then_some(began);
                self.delete(delete, *attempt, fence).instrument(span).await
            }
        };
        let (result, throttled) = result(ended, began.elapsed().as_micros() as u32);
        match result.outcome() {
            Outcome::Unchanged => {}
            Outcome::Applied | Outcome::Deleted | Outcome::Absent => {
                tracing::info!(
                    key = done.text,
                    generation,
                    outcome = result.outcome().as_str_name(),
                    "Intent done"
                );
            }
            outcome => {
                let error = result.error.clone().unwrap_or_default();
                tracing::warn!(
                    key = done.text,
                    generation,
                    outcome = outcome.as_str_name(),
                    reason = error.reason,
                    message = error.message,
                    "Intent not done"
                );
            }
        }
        done.throttled = throttled || began.elapsed() > SLOW;
        done.verdict = Verdict::Outcome(Box::new(result));
        done
    }

    /// The API of a key's kind.
    async fn api(&self, key: &pb::Key) -> Result<Api<DynamicObject>, Failure> {
        self.policy.allows(key).map_err(|why| {
            Failure::local(Outcome::DeniedLocalPolicy, "DENIED_LOCAL_POLICY", why)
        })?;
        let kind = self
            .kinds
            .get(&key.group, &key.version, &key.kind)
            .await
            .map_err(|unknown| match unknown {
                Unknown::Kind => Failure::local(
                    Outcome::UnsupportedKind,
                    "UNSUPPORTED_KIND",
                    format!("the API server does not know {} {}", key.version, key.kind),
                ),
                Unknown::Away(why) => Failure::local(Outcome::Transient, "API_SERVER_AWAY", why),
            })?;
        self.api_of(key, &kind)
    }

    fn api_of(&self, key: &pb::Key, kind: &Kind) -> Result<Api<DynamicObject>, Failure> {
        match (kind.namespaced, key.namespace.is_empty()) {
            (true, false) => Ok(Api::namespaced_with(
                self.client(key)?,
                &key.namespace,
                &kind.resource,
            )),
            (false, true) => Ok(Api::all_with(self.client.clone(), &kind.resource)),
            _ => Err(Failure::local(
                Outcome::Rejected,
                "WRONG_SCOPE",
                "the key's namespace does not fit the scope of its kind",
            )),
        }
    }

    /// A call with a deadline whose failure is understood.
    async fn call<T>(
        &self,
        key: &pb::Key,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        let mut failure = match tokio::time::timeout(call::DEADLINE, call).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => outcome::of_error(&error),
            Err(_) => Failure::local(Outcome::Transient, "API_SERVER_SLOW", "no answer in time"),
        };
        if failure.kind_gone {
            self.kinds.forget(key);
        }
        if self.policy.account(&key.namespace).is_some() && failure.is_for_want_of_rights() {
            // What the account of the project may do is this cluster's word as well.
            failure.outcome = Outcome::DeniedLocalPolicy;
        }
        Err(failure)
    }

    async fn live(&self, api: &Api<DynamicObject>, key: &pb::Key) -> Result<Option<Live>, Failure> {
        let found = self.call(key, api.get_opt(&key.name)).await?;
        Ok(found.as_ref().map(live))
    }

    async fn verify(
        &self,
        key: &pb::Key,
        uid: &[u8],
        generation: u64,
        digest: &[u8],
    ) -> Result<Option<Live>, Failure> {
        let api = self.api(key).await?;
        let live = self.live(&api, key).await?;
        Ok(live.filter(|live| decide::carries(Some(live), uid, generation, digest)))
    }

    async fn apply(&self, apply: &pb::Apply) -> Ended {
        let key = apply.key.clone().unwrap_or_default();
        let api = self.api(&key).await?;
        for wanted in apply.preconditions.iter().flat_map(|p| &p.depends_on) {
            let found = match self.api(wanted).await {
                Ok(api) => self.live(&api, wanted).await?,
                Err(failure) => return Err(failure),
            };
            if found.is_none() {
                return Err(Failure::local(
                    Outcome::BlockedOnDependency,
                    "DEPENDENCY_MISSING",
                    format!(
                        "{} {}/{} does not exist",
                        wanted.kind, wanted.namespace, wanted.name
                    ),
                ));
            }
        }
        let mut params = PatchParams::apply(match apply.field_manager.as_str() {
            "" => MANAGER,
            manager => manager,
        });
        params.force = apply.force;
        let mut races = 0;
        let began = Instant::now();
        loop {
            let found = self.call(&key, api.get_opt(&key.name)).await?;
            let before = found.as_ref().map(live);
            let mut drift = Vec::new();
            if let Decision::Outcome(outcome, error) = decide::decide(before.as_ref(), apply) {
                if outcome == Outcome::Unchanged
                    && let Some(found) = &found
                {
                    drift = drifted(found, apply)
                        .map_err(|why| Failure::local(Outcome::Rejected, "BODY", why))?;
                }
                if drift.is_empty() {
                    return Ok((outcome, error, before));
                }
                // whoever edited it owns those fields now
                params.force = true;
            }
            let fence = before
                .as_ref()
                .filter(|_| !Mutation::ObjectUnfenced.is_on());
            let object = object(apply, fence)
                .map_err(|why| Failure::local(Outcome::Rejected, "BODY", why))?;
            if began.elapsed() > STALE {
                // This process stood still: another one may lead by now, and a creation has no resource version to be fenced by.
                return Err(stood_still());
            }
            let written = self
                .call(&key, api.patch(&key.name, &params, &Patch::Apply(&object)))
                .await;
            let failure = match written {
                Ok(written) => {
                    let after = live(&written);
                    let unchanged =
                        before.is_some_and(|b| b.resource_version == after.resource_version);
                    let outcome = if unchanged {
                        Outcome::Unchanged
                    } else {
                        Outcome::Applied
                    };
                    let mut said = pb::Error::default();
                    if !drift.is_empty() {
                        said = Box::pin(self.reverted(&key, &written, &drift)).await;
                    }
                    return Ok((outcome, said, Some(after)));
                }
                Err(failure) => failure,
            };
            // The object was changed, or went, between the look and the write: look again.
            races += 1;
            let Some(before) = before.filter(|_| failure.may_be_race() && races < RACES) else {
                return Err(failure);
            };
            match self.live(&api, &key).await? {
                Some(now) if now.resource_version == before.resource_version => {
                    return Err(failure);
                }
                Some(_) => {}
                // Somebody deleted it: whether it shall be made again is not for this piece of work to say.
                None => {
                    return Err(Failure::local(
                        Outcome::Transient,
                        "OBJECT_GONE",
                        "the object went while it was written",
                    ));
                }
            }
        }
    }

    /// Says that somebody else's edits were taken back: to the log, in an event at the object, in a metric, and with the result.
    async fn reverted(&self, key: &pb::Key, object: &DynamicObject, drift: &[String]) -> pb::Error {
        let message = format!(
            "edited by somebody else, and taken back: {}",
            drift.join(", ")
        );
        tracing::warn!(key = key_text(key), drift = message, "Drift taken back");
        Metrics::drift(&key.kind);
        if let Ok(kind) = self.kinds.get(&key.group, &key.version, &key.kind).await {
            let recorder = Recorder::new(self.client.clone(), "upm/agent".into());
            let event = Event {
                type_: EventType::Warning,
                reason: "DriftReverted".to_owned(),
                note: Some(message.chars().take(MAX_NOTE).collect()),
                action: "Apply".to_owned(),
                secondary: None,
            };
            let reference = object.object_ref(&kind.resource);
            let published = recorder.publish(&event, &reference);
            // an event is a courtesy
            match tokio::time::timeout(call::DEADLINE, published).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "Did not publish an event"),
                Err(_) => tracing::debug!("Publishing an event took too long"),
            }
        }
        pb::Error {
            reason: "DRIFT_REVERTED".into(),
            message,
            http_status: 0,
        }
    }

    /// Deletes what a tombstone names, at any time; or what no session has wanted for its time to live, within [`STALE`] of `fence`.
    async fn delete(&self, delete: &pb::Delete, attempt: u32, fence: Option<Instant>) -> Ended {
        let key = delete.key.clone().unwrap_or_default();
        let api = match self.api(&key).await {
            Ok(api) => api,
            // What the API server does not know does not exist; what this cluster never allowed needs no forgetting.
            Err(failure)
                if failure.outcome == Outcome::UnsupportedKind
                    || failure.outcome == Outcome::DeniedLocalPolicy && delete.orphan =>
            {
                return Ok((Outcome::Absent, failure.error, None));
            }
            Err(failure) => return Err(failure),
        };
        let before = self.live(&api, &key).await?;
        match decide::decide_delete(before.as_ref(), delete, attempt) {
            Deletion::Outcome(outcome, error) => Ok((outcome, error, before)),
            Deletion::Forget => {
                let none = serde_json::json!({"metadata": {"annotations": {
                    annotation::INTENT_UID: null,
                    annotation::INTENT_GENERATION: null,
                    annotation::INTENT_DIGEST: null,
                }}});
                let params = PatchParams {
                    field_manager: Some(MANAGER.into()),
                    ..PatchParams::default()
                };
                self.call(&key, api.patch(&key.name, &params, &Patch::Merge(&none)))
                    .await?;
                Ok((Outcome::Unchanged, pb::Error::default(), before))
            }
            Deletion::Delete { uid } => {
                if fence.is_some_and(|asked| asked.elapsed() > STALE) {
                    // This process stood still: another one may lead by now and have a session that wants the object.
                    return Err(stood_still());
                }
                let params = DeleteParams {
                    preconditions: Some(Preconditions {
                        uid: Some(uid),
                        resource_version: None,
                    }),
                    propagation_policy: Some(match delete.propagation() {
                        Propagation::Foreground => PropagationPolicy::Foreground,
                        Propagation::Orphan => PropagationPolicy::Orphan,
                        _ => PropagationPolicy::Background,
                    }),
                    ..DeleteParams::default()
                };
                match self.call(&key, api.delete(&key.name, &params)).await {
                    Ok(_) => {}
                    Err(failure) if failure.error.http_status == 404 => {}
                    // Another object has the name by now: the next look says so.
                    Err(failure) => return Err(failure),
                }
                match self.live(&api, &key).await? {
                    None => Ok((Outcome::Deleted, pb::Error::default(), None)),
                    Some(live) => Ok((
                        Outcome::Deleting,
                        pb::Error {
                            reason: "FINALIZERS".into(),
                            message: "finalizers have not finished".into(),
                            http_status: 0,
                        },
                        Some(live),
                    )),
                }
            }
        }
    }
}

fn stood_still() -> Failure {
    Failure::local(
        Outcome::Transient,
        "STOOD_STILL",
        "what was read is too old to be acted on",
    )
}

fn result(ended: Ended, apply_us: u32) -> (pb::ApplyResult, bool) {
    let mut result = pb::ApplyResult {
        apply_us,
        ..pb::ApplyResult::default()
    };
    let mut throttled = false;
    match ended {
        Ok((outcome, error, live)) => {
            result.outcome = outcome.into();
            result.error = (error != pb::Error::default()).then_some(error);
            if let Some(live) = live {
                result.live_uid = live.uid;
                result.resource_version = live.resource_version;
                result.observed_generation = live.generation;
            }
        }
        Err(failure) => {
            result.outcome = failure.outcome.into();
            result.error = Some(failure.error);
            result.conflicts = failure.conflicts;
            throttled = failure.throttled;
        }
    }
    (result, throttled)
}

/// What matters of a live object.
fn live(object: &DynamicObject) -> Live {
    Live {
        uid: object.uid().unwrap_or_default(),
        resource_version: object.resource_version().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        deleting: object.metadata.deletion_timestamp.is_some(),
        intent: carried(object.annotations()),
    }
}

/// The intent that annotations tell of.
pub(crate) fn carried(annotations: &BTreeMap<String, String>) -> Option<Carried> {
    Some(Carried {
        uid: hex::decode(annotations.get(annotation::INTENT_UID)?).ok()?,
        generation: annotations
            .get(annotation::INTENT_GENERATION)?
            .parse()
            .ok()?,
        digest: hex::decode(annotations.get(annotation::INTENT_DIGEST)?).ok()?,
    })
}

/// Fields of an object that are not what its intent says, though it carries the intent.
fn drifted(found: &DynamicObject, apply: &pb::Apply) -> Result<Vec<String>, String> {
    let mut wanted = object(apply, None)?;
    if let Some(annotations) = wanted.pointer_mut("/metadata/annotations")
        && let Some(annotations) = annotations.as_object_mut()
    {
        // of the request that led to the first write
        annotations.remove(annotation::TRACEPARENT);
    }
    let found = serde_json::to_value(found).map_err(|error| error.to_string())?;
    Ok(call::differences(&found, &wanted, MAX_DRIFT))
}

/// The object to apply: the intent's body and its annotations, and the resource version on which the decision was made, so that the API
/// server refuses the write when the object has changed meanwhile.
fn object(apply: &pb::Apply, before: Option<&Live>) -> Result<serde_json::Value, String> {
    let Some(pb::apply::Body::Json(json)) = &apply.body else {
        return Err("the intent has no body".into());
    };
    let mut object: serde_json::Value = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let metadata = object
        .get_mut("metadata")
        .and_then(serde_json::Value::as_object_mut)
        .ok_or("the body has no metadata")?;
    if let Some(before) = before {
        metadata.insert(
            "resourceVersion".into(),
            before.resource_version.clone().into(),
        );
    }
    let annotations = metadata
        .entry("annotations")
        .or_insert_with(|| serde_json::json!({}))
        .as_object_mut()
        .ok_or("the body's annotations are no object")?;
    annotations.insert(
        annotation::INTENT_UID.into(),
        hex::encode(&apply.intent_uid).into(),
    );
    annotations.insert(
        annotation::INTENT_GENERATION.into(),
        apply.generation.to_string().into(),
    );
    annotations.insert(
        annotation::INTENT_DIGEST.into(),
        hex::encode(&apply.digest).into(),
    );
    if !apply.traceparent.is_empty() {
        annotations.insert(
            annotation::TRACEPARENT.into(),
            apply.traceparent.clone().into(),
        );
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_of_others_are_drift_and_what_others_add_is_not() {
        let apply = pb::Apply {
            intent_uid: vec![0xab; 16].into(),
            generation: 7,
            digest: vec![0xcd; 32].into(),
            traceparent: "00-1-2-02".into(),
            body: Some(pb::apply::Body::Json(
                r#"{"apiVersion":"v1","kind":"X","metadata":{"name":"x","labels":{"a":"b"}},"spec":{"units":3}}"#
                    .into(),
            )),
            ..pb::Apply::default()
        };
        let mut found = object(&apply, None).unwrap();
        found["metadata"]["finalizers"] = serde_json::json!(["f"]);
        found["metadata"]["annotations"][annotation::TRACEPARENT] = "00-0-0-01".into();
        found["status"] = serde_json::json!({ "units": 1 });
        let read = |found: &serde_json::Value| -> DynamicObject {
            serde_json::from_value(found.clone()).unwrap()
        };
        assert_eq!(drifted(&read(&found), &apply).unwrap(), [] as [&str; 0]);
        found["spec"]["units"] = 5.into();
        found["metadata"]["labels"]["a"] = "c".into();
        assert_eq!(
            drifted(&read(&found), &apply).unwrap(),
            ["metadata.labels.a", "spec.units"]
        );
    }

    #[test]
    fn puts_the_intents_annotations_on_the_object() {
        let apply = pb::Apply {
            intent_uid: vec![0xab; 16].into(),
            generation: 7,
            digest: vec![0xcd; 32].into(),
            traceparent: "00-1-2-01".into(),
            body: Some(pb::apply::Body::Json(
                r#"{"metadata":{"name":"x","annotations":{"a":"b"}}}"#.into(),
            )),
            ..pb::Apply::default()
        };
        let made = object(&apply, None).unwrap();
        assert!(made["metadata"].get("resourceVersion").is_none());
        let live = Live {
            resource_version: "41".into(),
            ..Live::default()
        };
        let fenced = object(&apply, Some(&live)).unwrap();
        assert_eq!(fenced["metadata"]["resourceVersion"], "41");
        let annotations: BTreeMap<String, String> =
            serde_json::from_value(made["metadata"]["annotations"].clone()).unwrap();
        assert_eq!(annotations["a"], "b");
        assert_eq!(annotations[annotation::TRACEPARENT], "00-1-2-01");
        let read = carried(&annotations).unwrap();
        assert_eq!(
            (read.uid, read.generation, read.digest),
            (vec![0xab; 16], 7, vec![0xcd; 32])
        );
    }
}
