//! What the hub knows of the objects of one service, as a value.

use serde::de::DeserializeOwned;
use serde_json::Value;
use upm_proto::hub::v1 as hub;

use crate::{Predicate, intent::Mark};

/// The objects of a service with their results and status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// As the hub listed them.
    pub objects: Vec<hub::Object>,
}

/// How far an intent has come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Settlement {
    /// The cluster has this generation.
    Settled,
    /// Not yet; why.
    Waiting(Predicate),
    /// The agent will not try this generation again.
    Latched {
        /// UPPER_SNAKE.
        reason: String,
        /// In words.
        message: String,
    },
}

impl Observed {
    /// The object of this kind and name.
    pub fn find(&self, kind: &str, name: &str) -> Option<&hub::Object> {
        self.objects.iter().find(|object| {
            object
                .key
                .as_ref()
                .is_some_and(|key| key.kind == kind && key.name == name)
        })
    }

    /// The live object as the agent reported it; `None` before the first report and when it does not exist.
    pub fn live(&self, kind: &str, name: &str) -> Option<Value> {
        let status = self.find(kind, name)?.status.as_ref()?;
        if status.gone {
            return None;
        }
        serde_json::from_slice(&status.json).ok()
    }

    /// The `status` of the live object, once its controller has looked at the newest generation of the intent.
    pub fn current_status<T: DeserializeOwned>(&self, mark: &Mark) -> Option<T> {
        let object = self.find(&mark.key.kind, &mark.key.name)?;
        let status = object.status.as_ref()?;
        if object.intent_uid != mark.uid.as_bytes()[..]
            || status.intent_generation < mark.generation
        {
            return None;
        }
        let live = self.live(&mark.key.kind, &mark.key.name)?;
        let generation = live["metadata"]["generation"].as_i64().unwrap_or_default();
        let observed = live["status"]["observedGeneration"]
            .as_i64()
            .unwrap_or_default();
        if observed < generation {
            return None;
        }
        serde_json::from_value(live["status"].clone()).ok()
    }

    /// The `status` of the live object, however old.
    pub fn last_status<T: DeserializeOwned>(&self, kind: &str, name: &str) -> Option<T> {
        let live = self.live(kind, name)?;
        serde_json::from_value(live.get("status")?.clone()).ok()
    }

    /// Whether the cluster's agent is connected; `None` when the hub knows no object.
    pub fn agent_connected(&self) -> Option<bool> {
        self.objects.first().map(|object| object.agent_connected)
    }

    /// The predicate that goes before all others.
    pub fn agent_predicate(&self, cluster: &str) -> Predicate {
        match self.agent_connected() {
            Some(true) => Predicate::met(
                "AGENT_CONNECTED",
                format!("the agent of clusters/{cluster} is connected"),
            ),
            Some(false) | None => Predicate::unmet(
                "AGENT_CONNECTED",
                format!(
                    "the agent of clusters/{cluster} is away; the operation goes on when it comes back"
                ),
            ),
        }
    }

    /// When the cluster reported last.
    pub fn observe_time(&self) -> Option<prost_types::Timestamp> {
        self.objects
            .iter()
            .filter_map(|object| object.status.as_ref()?.update_time)
            .max_by_key(|time| (time.seconds, time.nanos))
    }
}

/// How far the ledger has come with one generation of one intent.
pub(crate) fn settlement(object: Option<&hub::Object>, mark: &Mark) -> Settlement {
    let what = format!("{} {}", mark.key.kind, mark.key.name);
    let Some(object) = object else {
        return Settlement::Waiting(Predicate::unmet(
            "INTENT_APPLIED",
            format!("{what} is not in the ledger yet"),
        ));
    };
    let result = object.result.as_ref().filter(|result| {
        result.generation == mark.generation && object.generation == mark.generation
    });
    let Some(result) = result else {
        return Settlement::Waiting(Predicate::unmet(
            "INTENT_APPLIED",
            format!(
                "{what} waits for the agent ({})",
                state_in_words(object.state())
            ),
        ));
    };
    let (reason, message) = result
        .error
        .as_ref()
        .map_or((String::new(), String::new()), |error| {
            (error.reason.clone(), error.message.clone())
        });
    match result.outcome() {
        hub::Outcome::Applied | hub::Outcome::Unchanged => Settlement::Settled,
        outcome if object.state() == hub::IntentState::Latched => Settlement::Latched {
            reason: if reason.is_empty() {
                outcome.as_str_name().to_owned()
            } else {
                reason
            },
            message: format!("{what}: {}{}", outcome.as_str_name(), after_colon(&message)),
        },
        outcome => Settlement::Waiting(Predicate::unmet(
            "INTENT_APPLIED",
            format!("{what}: {}{}", outcome.as_str_name(), after_colon(&message)),
        )),
    }
}

/// Whether a tombstone has done its work, or there is nothing left that it could do.
pub(crate) fn gone(object: Option<&hub::Object>, mark: &Mark) -> Result<(), Predicate> {
    let what = format!("{} {}", mark.key.kind, mark.key.name);
    let Some(object) = object else {
        return Ok(());
    };
    if !object.tombstone {
        return Err(Predicate::unmet(
            "OBJECT_GONE",
            format!("{what} has no tombstone yet"),
        ));
    }
    let outcome = object
        .result
        .as_ref()
        .filter(|result| result.generation == object.generation)
        .map(hub::ObjectResult::outcome);
    match outcome {
        Some(hub::Outcome::Deleted | hub::Outcome::Absent) => Ok(()),
        Some(hub::Outcome::Deleting) => Err(Predicate::unmet(
            "OBJECT_GONE",
            format!("{what} is being deleted; its finalizers have not finished"),
        )),
        Some(_) | None if object.state() == hub::IntentState::Settled => Ok(()),
        Some(_) | None => Err(Predicate::unmet(
            "OBJECT_GONE",
            format!(
                "{what} waits for the agent ({})",
                state_in_words(object.state())
            ),
        )),
    }
}

fn after_colon(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

fn state_in_words(state: hub::IntentState) -> &'static str {
    match state {
        hub::IntentState::Unspecified => "its state is unknown",
        hub::IntentState::Dirty => "not handed over yet",
        hub::IntentState::InFlight => "handed over",
        hub::IntentState::Received => "received, not applied yet",
        hub::IntentState::Settled => "settled",
        hub::IntentState::TransientFail => "the agent tries again",
        hub::IntentState::Latched => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::{MarkKey, Part};

    fn mark(generation: u64) -> Mark {
        Mark {
            part: Part::Pool(String::new()),
            key: MarkKey {
                group: "upm.syntropycloud.io".into(),
                version: "v1alpha2".into(),
                kind: "UnitSet".into(),
                namespace: "p".into(),
                name: "demo".into(),
            },
            uid: uuid::Uuid::nil(),
            generation,
            digest: String::new(),
            deleted: false,
        }
    }

    fn object(generation: u64, outcome: hub::Outcome, state: hub::IntentState) -> hub::Object {
        hub::Object {
            key: Some(hub::Key::from(&mark(1).key)),
            intent_uid: vec![0; 16].into(),
            generation,
            state: state.into(),
            result: Some(hub::ObjectResult {
                generation,
                outcome: outcome.into(),
                ..Default::default()
            }),
            agent_connected: true,
            ..Default::default()
        }
    }

    #[test]
    fn a_result_of_an_older_generation_settles_nothing() {
        let old = object(1, hub::Outcome::Applied, hub::IntentState::Settled);
        assert_eq!(settlement(Some(&old), &mark(1)), Settlement::Settled);
        assert!(matches!(
            settlement(Some(&old), &mark(2)),
            Settlement::Waiting(_)
        ));
        assert!(matches!(settlement(None, &mark(1)), Settlement::Waiting(_)));
    }

    #[test]
    fn tells_a_latch_from_a_transient_failure() {
        let latched = object(1, hub::Outcome::Rejected, hub::IntentState::Latched);
        assert!(matches!(
            settlement(Some(&latched), &mark(1)),
            Settlement::Latched { .. }
        ));
        let transient = object(1, hub::Outcome::Transient, hub::IntentState::TransientFail);
        assert!(matches!(
            settlement(Some(&transient), &mark(1)),
            Settlement::Waiting(_)
        ));
    }

    #[test]
    fn an_object_is_gone_only_behind_its_tombstone() {
        let mut live = object(2, hub::Outcome::Applied, hub::IntentState::Settled);
        assert!(gone(Some(&live), &mark(1)).is_err());
        live.tombstone = true;
        live.state = hub::IntentState::InFlight.into();
        assert!(gone(Some(&live), &mark(1)).is_err());
        let mut deleted = object(2, hub::Outcome::Deleted, hub::IntentState::Settled);
        deleted.tombstone = true;
        assert_eq!(gone(Some(&deleted), &mark(1)), Ok(()));
        assert_eq!(gone(None, &mark(1)), Ok(()));
    }

    #[test]
    fn reads_a_status_only_when_the_controller_has_seen_the_intent() {
        let mut seen = object(2, hub::Outcome::Applied, hub::IntentState::Settled);
        let json = serde_json::json!({"metadata": {"generation": 4}, "status": {"observedGeneration": 4, "x": 1}});
        seen.status = Some(hub::ObjectStatus {
            json: json.to_string().into_bytes().into(),
            intent_generation: 2,
            ..Default::default()
        });
        let observed = Observed {
            objects: vec![seen],
        };
        assert!(observed.current_status::<Value>(&mark(2)).is_some());
        assert!(observed.current_status::<Value>(&mark(3)).is_none());
        let mut old = observed.clone();
        old.objects[0].status.as_mut().unwrap().json =
            serde_json::json!({"metadata": {"generation": 5}, "status": {"observedGeneration": 4}})
                .to_string()
                .into_bytes()
                .into();
        assert!(old.current_status::<Value>(&mark(2)).is_none());
        assert!(old.last_status::<Value>("UnitSet", "demo").is_some());
    }
}
