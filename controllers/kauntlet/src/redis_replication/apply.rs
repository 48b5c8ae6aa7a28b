//! The rim: looks at the cluster and its unit agents, and does what the plan says, step after step, until it says nothing more.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use tracing::{info, warn};
use upm_crds::conditions;
use upm_crds::names::label;
use upm_crds::redis_replication::{RedisReplication, RedisReplicationStatus};
use upm_operator::{Context, Controller, Error, Informer, Next, call};

use super::agents::{self, Agents, Target};
use super::model::{Group, Seen, State, World};
use super::plan::{Action, Change, Decision, Inputs, Memory, Phase, plan};
use super::routes::{self, Labels};
use super::{read, services, status};

/// The most steps in one go; more are done in the next.
const ROUNDS: usize = 24;
/// How often a healthy group is looked at.
const HEALTHY: Duration = Duration::from_secs(1);
/// The same while anything is not as it should be.
const UNHEALTHY: Duration = Duration::from_millis(300);
/// How often positions are brought to the status when nothing else changes.
const POSITIONS: Duration = Duration::from_secs(5);

/// The controller of RedisReplications.
#[derive(Debug)]
pub struct Replications {
    pub(super) context: Context,
    pub(super) pods: Informer<Pod>,
    pub(super) services: Informer<Service>,
    pub(super) agents: Arc<Agents>,
    pub(super) held: Mutex<HashMap<(String, String), Held>>,
}

/// What is kept of one object between two looks; losing it only costs time.
#[derive(Debug, Default)]
pub(super) struct Held {
    memory: Memory,
    looked: Option<Instant>,
    answered: HashMap<String, Instant>,
    absent: HashMap<String, Instant>,
    /// The newest version that was written here, and the one that it replaced: the watch may still show that one.
    newest: Option<(String, RedisReplication)>,
    wrote: Option<Instant>,
    refused: bool,
}

/// Everything one look brought.
#[derive(Clone, Debug)]
pub struct Look {
    object: RedisReplication,
    group: Group,
    state: State,
    world: World,
    memory: Memory,
    targets: BTreeMap<String, Target>,
    labels: BTreeMap<String, (String, Labels)>,
    elapsed: Duration,
}

impl Look {
    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            group: &self.group,
            state: &self.state,
            world: &self.world,
            memory: &self.memory,
        }
    }
}

impl Controller for Replications {
    const NAME: &'static str = "kauntlet";
    type Object = RedisReplication;
    type Observed = Look;
    type Plan = (Look, Decision);

    async fn observe(&self, object: &RedisReplication) -> Result<Look, Error> {
        Ok(self.look(self.newest(object), false).await)
    }

    fn plan(&self, _: &RedisReplication, look: &Look) -> Result<(Look, Decision), Error> {
        Ok((look.clone(), plan(look.inputs())))
    }

    fn status(
        &self,
        _: &RedisReplication,
        _: &Look,
        _: &(Look, Decision),
    ) -> Option<RedisReplicationStatus> {
        // written as a compare-and-swap, together with what it decides
        None
    }

    async fn apply(
        &self,
        object: &RedisReplication,
        (look, decision): (Look, Decision),
    ) -> Result<Next, Error> {
        if object.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Await);
        }
        self.rounds(look, decision).await
    }
}

fn key(object: &RedisReplication) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

impl Replications {
    fn with_held<T>(&self, object: &RedisReplication, with: impl FnOnce(&mut Held) -> T) -> T {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        with(held.entry(key(object)).or_default())
    }

    /// The object as it is known best: the watch may lag behind what was written here.
    fn newest(&self, seen: &RedisReplication) -> RedisReplication {
        self.with_held(seen, |held| match &held.newest {
            Some((replaced, newest))
                if seen.metadata.resource_version.as_ref() == Some(replaced)
                    && newest.uid() == seen.uid() =>
            {
                newest.clone()
            }
            _ => seen.clone(),
        })
    }

    async fn look(&self, object: RedisReplication, again: bool) -> Look {
        let namespace = object.namespace().unwrap_or_default();
        let group = read::group(&object);
        let state = read::state(&object.status.clone().unwrap_or_default(), Timestamp::now());
        let pods: BTreeMap<String, Option<Arc<Pod>>> = group
            .members
            .keys()
            .map(|name| (name.clone(), self.pods.get(&namespace, name)))
            .collect();
        let mut targets = BTreeMap::new();
        for (name, node) in &group.members {
            if let Some(target) =
                read::target(name, node, pods.get(name).and_then(Option::as_deref))
            {
                targets.insert(name.clone(), target);
            }
        }
        let quick = self.with_held(&object, |held| {
            let silent = |name: &&String| {
                again
                    && held
                        .answered
                        .get(*name)
                        .is_none_or(|at| at.elapsed() > Duration::from_secs(1))
            };
            targets.keys().filter(silent).cloned().collect::<Vec<_>>()
        });
        let mut views = self.agents.observe(&targets, &quick).await;
        let now = Instant::now();
        let mut world = World::default();
        let mut labels = BTreeMap::new();
        let (memory, elapsed) = self.with_held(&object, |held| {
            for (name, node) in &group.members {
                let found = pods.get(name).and_then(Option::as_deref);
                let absent = match found {
                    Some(_) => {
                        held.absent.remove(name);
                        Duration::ZERO
                    }
                    None => held.absent.entry(name.clone()).or_insert(now).elapsed(),
                };
                let (view, distrust) = match views.remove(name) {
                    Some(Ok(view)) => (Some(view), None),
                    Some(Err(status)) => (None, agents::distrust(&status)),
                    None => (None, None),
                };
                let answered = held.answered.entry(name.clone()).or_insert(now);
                if view.as_ref().is_some_and(|view| view.reachable) {
                    *answered = now;
                }
                if let Some(pod) = found {
                    let have = Labels::read(&pod.metadata, &object.name_any());
                    labels.insert(name.clone(), (pod.uid().unwrap_or_default(), have));
                }
                let seen = Seen {
                    view,
                    distrust,
                    silent: now.duration_since(*answered),
                    host: read::address(node, found),
                    port: node.port,
                    pod: read::pod(name, node, found, absent),
                };
                world.members.insert(name.clone(), seen);
            }
            held.answered
                .retain(|name, _| group.members.contains_key(name));
            held.absent
                .retain(|name, _| group.members.contains_key(name));
            let elapsed = held
                .looked
                .map_or(Duration::ZERO, |before| now.duration_since(before));
            held.looked = Some(now);
            held.memory.note(&group, &state, &world, elapsed);
            (held.memory.clone(), elapsed)
        });
        Look {
            object,
            group,
            state,
            world,
            memory,
            targets,
            labels,
            elapsed,
        }
    }

    async fn rounds(&self, mut look: Look, mut decision: Decision) -> Result<Next, Error> {
        let mut trouble = self.services(&look.object).await.err();
        for _ in 0..ROUNDS {
            self.with_held(&look.object, |held| {
                held.memory.decided(&decision, look.elapsed);
            });
            if let Err(error) = self.labels(&mut look, &decision).await {
                trouble = Some(error);
            }
            if decision.actions.is_empty() || self.context.cancel.is_cancelled() {
                break;
            }
            let object = self.act(&mut look, &decision).await?;
            let Some(object) = object else { break };
            look = self.look(object, true).await;
            decision = plan(look.inputs());
        }
        let steady = self
            .finish(&look, &decision, trouble.as_ref().map(Error::public))
            .await?;
        match trouble {
            Some(error) if steady => Err(error),
            _ => Ok(Next::After(if steady { HEALTHY } else { UNHEALTHY })),
        }
    }

    /// Does what was decided; returns the newest object, or nothing when it is better to wait a moment.
    async fn act(
        &self,
        look: &mut Look,
        decision: &Decision,
    ) -> Result<Option<RedisReplication>, Error> {
        if let [Action::Record(change)] = &decision.actions[..] {
            return self.record(look, decision, change).await.map(Some);
        }
        if let Some(newer) = self.before_promises(look, decision).await? {
            return Ok(newer);
        }
        let done = join_all(
            decision
                .actions
                .iter()
                .map(|action| self.agents.act(&look.targets, action)),
        )
        .await;
        let mut refused = 0;
        for (member, status) in done.into_iter().flatten() {
            refused += 1;
            info!(member, code = ?status.code(), reason = status.message(), "Not done yet");
        }
        Ok((refused < decision.actions.len()).then(|| look.object.clone()))
    }

    /// Before members are asked to promise an epoch, the record must be in reach and as it was decided from: members that promised wait
    /// for it, and take nobody's writes meanwhile. `Some` when nothing is to be asked for now.
    async fn before_promises(
        &self,
        look: &Look,
        decision: &Decision,
    ) -> Result<Option<Option<RedisReplication>>, Error> {
        let promises = decision
            .actions
            .iter()
            .any(|action| matches!(action, Action::Promise { .. }));
        if !promises || decision.phase == Phase::Steady {
            return Ok(None);
        }
        let api: Api<RedisReplication> = self.api(&look.object);
        let newest = call::get(&api, &look.object.name_any()).await?;
        let same = newest.resource_version() == look.object.resource_version();
        Ok((!same).then_some(Some(newest)))
    }

    /// The compare-and-swap. When somebody else was faster, the newest object is what everything is decided anew from.
    async fn record(
        &self,
        look: &Look,
        decision: &Decision,
        change: &Change,
    ) -> Result<RedisReplication, Error> {
        let now = Timestamp::now();
        let mut wanted = Self::built(look, decision, None, now);
        status::record(&mut wanted, change, now);
        let api: Api<RedisReplication> = self.api(&look.object);
        let mut object = look.object.clone();
        object.status = Some(wanted);
        match call::replace_status(&api, &object).await {
            Ok(written) => {
                info!(epoch = change.epoch, primary = change.primary, ackers = ?change.ackers, why = change.why, "Recorded");
                self.remember(&look.object, &written);
                if change.epoch != look.state.epoch {
                    let note = format!("epoch {}: {}", change.epoch, change.why);
                    let events = &self.context.events;
                    if change
                        .evidence
                        .is_some_and(|evidence| evidence.at_risk().is_some())
                    {
                        events.warning(&written, "DataAtRisk", "Elect", note).await;
                    } else {
                        events
                            .normal(&written, "PrimaryElected", "Elect", note)
                            .await;
                    }
                }
                Ok(written)
            }
            Err(error) if error.is_conflict() => call::get(&api, &look.object.name_any()).await,
            Err(error) => Err(error),
        }
    }

    fn remember(&self, replaced: &RedisReplication, written: &RedisReplication) {
        let version = replaced
            .metadata
            .resource_version
            .clone()
            .unwrap_or_default();
        self.with_held(written, |held| {
            held.newest = Some((version, written.clone()));
            held.wrote = Some(Instant::now());
        });
    }

    fn api<K>(&self, object: &RedisReplication) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(
            self.context.client.clone(),
            &object.namespace().unwrap_or_default(),
        )
    }

    fn built(
        look: &Look,
        decision: &Decision,
        trouble: Option<&str>,
        now: Timestamp,
    ) -> RedisReplicationStatus {
        let before = look.object.status.clone().unwrap_or_default();
        let names = services::build(&look.object)
            .iter()
            .map(kube::ResourceExt::name_any)
            .collect::<Vec<_>>();
        let readwrite = names.first().map(String::as_str).unwrap_or_default();
        let readonly = names.get(1).map(String::as_str).unwrap_or_default();
        let mut status = status::build(&status::Parts {
            inputs: look.inputs(),
            decision,
            before: &before,
            generation: look.object.metadata.generation,
            services: Some((readwrite, readonly)),
            trouble,
            now,
        });
        let ignored = read::ignored(&look.object.spec);
        conditions::ignored(&mut status.conditions, &ignored, now);
        conditions::observed(&mut status.conditions, look.object.metadata.generation);
        status
    }

    /// Writes what was seen when it matters; returns whether everything is as it should be.
    async fn finish(
        &self,
        look: &Look,
        decision: &Decision,
        trouble: Option<String>,
    ) -> Result<bool, Error> {
        let wanted = Self::built(look, decision, trouble.as_deref(), Timestamp::now());
        let before = look.object.status.clone().unwrap_or_default();
        let steady = wanted.ready && decision.phase == Phase::Steady && decision.actions.is_empty();
        let refused = decision.phase == Phase::Refused;
        let newly = self.with_held(&look.object, |held| {
            refused && !std::mem::replace(&mut held.refused, refused)
        });
        if newly {
            warn!(name = look.object.name_any(), missing = ?decision.missing, "No safe election");
            self.context
                .events
                .warning(
                    &look.object,
                    "NoSafeElection",
                    "Elect",
                    decision.message.clone(),
                )
                .await;
        }
        let due = self.with_held(&look.object, |held| {
            held.refused = refused;
            held.wrote.is_none_or(|at| at.elapsed() >= POSITIONS)
        });
        if status::differs(&before, &wanted) || (due && before != wanted) {
            let mut object = look.object.clone();
            object.status = Some(wanted);
            match call::replace_status(&self.api(&look.object), &object).await {
                Ok(written) => self.remember(&look.object, &written),
                // decided anew in a moment, from the newer object
                Err(error) if error.is_conflict() || error.is_not_found() => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(steady)
    }

    /// Brings the labels of the pods to what routes should be.
    async fn labels(&self, look: &mut Look, decision: &Decision) -> Result<(), Error> {
        let have: BTreeMap<String, Labels> = look
            .labels
            .iter()
            .map(|(name, (_, labels))| (name.clone(), labels.clone()))
            .collect();
        let wanted = routes::desired(look.inputs(), decision, &have);
        let api: Api<Pod> = self.api(&look.object);
        let mut trouble = Ok(());
        for (name, labels) in wanted {
            let Some((uid, have)) = look.labels.get_mut(&name) else {
                continue;
            };
            if *have == labels {
                continue;
            }
            let patch = serde_json::json!({
                "apiVersion": "v1",
                "kind": "Pod",
                // exactly this pod, not the next one of its name
                "metadata": {
                    "name": name,
                    "uid": uid,
                    "labels": labels.map(&look.object.name_any()),
                    "annotations": labels.annotations(uid),
                },
            });
            let params = PatchParams::apply(label::KAUNTLET).force();
            match call::within(
                &format!("label Pod {name}"),
                api.patch(&name, &params, &Patch::Apply(patch)),
            )
            .await
            {
                Ok(_) => {
                    let newly = labels.granted && !have.granted;
                    *have = labels;
                    if newly {
                        let note = format!("{name} may leave: nobody needs what it holds");
                        self.context
                            .events
                            .normal(&look.object, "LeaveGranted", "Leave", note)
                            .await;
                    }
                }
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                Err(error) => trouble = Err(error),
            }
        }
        trouble
    }

    /// Makes the services what they should be.
    async fn services(&self, object: &RedisReplication) -> Result<(), Error> {
        let api: Api<Service> = self.api(object);
        let namespace = object.namespace().unwrap_or_default();
        for service in services::build(object) {
            let current = self.services.get(&namespace, &service.name_any());
            call::apply(&api, current.as_deref(), &service, label::KAUNTLET).await?;
        }
        Ok(())
    }
}
