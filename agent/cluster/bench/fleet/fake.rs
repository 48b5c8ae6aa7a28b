//! What is not real: the API server, which takes 5 ms for each call, and the Secret and ConfigMaps in it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::mpsc;
use upm_agent::{
    applier::Worker,
    collector::Seen,
    durable::Durable,
    hub::credential::{Kept, Vault},
    session::{Done, Observation, Persist, Verdict, Work},
    tunnel::Tunnels,
};
use upm_mesh::Channel;
use upm_proto::hub::v1::{self as pb, Outcome, agent_service_client::AgentServiceClient};

/// One call.
const CALL: Duration = Duration::from_millis(5);

/// The API server of one cluster.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) kept: Mutex<Kept>,
    /// What the agent's copy was when it began; read once.
    pub(crate) persist: Mutex<Persist>,
    pub(crate) seen: mpsc::Sender<Seen>,
}

impl Fake {
    pub(crate) fn new(persist: Persist, seen: mpsc::Sender<Seen>) -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::default(),
            persist: Mutex::new(persist),
            seen,
        })
    }
}

impl Worker for Fake {
    fn work(&self, work: Work) -> BoxFuture<'static, Done> {
        let seen = self.seen.clone();
        async move {
            tokio::time::sleep(CALL).await;
            let (outcome, observation) = match &work {
                Work::Apply { apply, .. } => (
                    Outcome::Applied,
                    apply.key.clone().map(|key| (key, observed(apply))),
                ),
                Work::Delete { .. } => (Outcome::Deleted, None),
                Work::Verify { .. } => (Outcome::Unchanged, None),
            };
            let (uid, generation) = work.intent();
            let done = Done {
                text: work.text().to_owned(),
                intent_uid: uid.to_vec(),
                generation,
                verdict: Verdict::Outcome(Box::new(pb::ApplyResult {
                    outcome: outcome.into(),
                    live_uid: "00000000-0000-0000-0000-000000000000".into(),
                    resource_version: generation.to_string(),
                    observed_generation: generation as i64,
                    apply_us: CALL.as_micros() as u32,
                    ..pb::ApplyResult::default()
                })),
                throttled: false,
            };
            if let Some((key, observation)) = observation {
                let _ = seen.try_send(Seen::Object(key, Box::new(observation)));
            }
            done
        }
        .boxed()
    }
}

/// What the watch says of an object that was applied.
fn observed(apply: &pb::Apply) -> Observation {
    let body = format!(
        r#"{{"status":{{"observedGeneration":{},"phase":"Ready","units":3}}}}"#,
        apply.generation
    );
    Observation {
        intent_uid: apply.intent_uid.to_vec(),
        intent_generation: apply.generation,
        observed_generation: apply.generation as i64,
        resource_version: apply.generation.to_string(),
        body: body.into_bytes().into(),
        ..Observation::default()
    }
}

impl Vault for Fake {
    fn load(&self) -> BoxFuture<'_, anyhow::Result<Kept>> {
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        async move { Ok(kept) }.boxed()
    }

    fn save<'a>(&'a self, kept: &'a Kept) -> BoxFuture<'a, anyhow::Result<()>> {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept.clone();
        async { Ok(()) }.boxed()
    }
}

impl Durable for Fake {
    fn load(&self) -> BoxFuture<'_, anyhow::Result<Persist>> {
        let persist =
            std::mem::take(&mut *self.persist.lock().unwrap_or_else(PoisonError::into_inner));
        async move { Ok(persist) }.boxed()
    }

    fn save<'a>(&'a self, _: &'a Persist) -> BoxFuture<'a, anyhow::Result<()>> {
        async {
            tokio::time::sleep(CALL).await;
            Ok(())
        }
        .boxed()
    }
}

impl Tunnels for Fake {
    fn open(&self, _: pb::OpenTunnel, _: AgentServiceClient<Channel>) -> BoxFuture<'static, ()> {
        // Nobody opens a tunnel here.
        std::future::ready(()).boxed()
    }
}
