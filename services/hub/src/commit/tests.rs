//! Groups on a real store: what one asks for wrongly costs the others nothing.

use std::sync::Arc;

use upm_mesh as mesh;
use upm_proto::hub::v1 as pb;
use upm_store::{Cache, ModuleContext, testing};

use crate::{
    Config, Error, Hub, MIGRATIONS, ledger,
    session::{Command, Refusal, Reply},
};

/// A hub on a fresh store, and what keeps it going.
pub(crate) struct World {
    pub(crate) hub: Hub,
    _tasks: mesh::Tasks,
    _store: testing::TestStore,
}

impl World {
    pub(crate) async fn new(config: Config) -> Self {
        let test = testing::sqlite("hub", MIGRATIONS).await;
        let authority = Arc::new(mesh::Authority::create().unwrap());
        let id = mesh::SpiffeId::module("hub").unwrap();
        let issued = authority
            .issue(&id, &[], std::time::Duration::from_secs(600))
            .unwrap();
        let identity = mesh::Identity::issued(issued, &authority.certificates()).unwrap();
        let ctx = ModuleContext {
            name: "hub",
            store: test.store.clone(),
            cache: Cache::in_process(),
            peers: mesh::Peers::default(),
            drain: mesh::Drain::new(),
        };
        let (module, port) = crate::module(ctx, config, authority, identity)
            .await
            .unwrap();
        Self {
            hub: port.hub().clone(),
            _tasks: module.tasks,
            _store: test,
        }
    }

    /// Agents that may have sessions.
    pub(crate) async fn agents(&self, count: usize) -> Vec<String> {
        let ids: Vec<_> = (0..count).map(|n| format!("a{n}")).collect();
        let made = ids.clone();
        self.hub
            .inner
            .store
            .transact("invite", move |conn| {
                for id in &made {
                    let token = ledger::random_token();
                    ledger::agents::invite(conn, id, &token, true, 60_000_000)?;
                    ledger::agents::approve(conn, id)?;
                }
                Ok::<_, Error>(())
            })
            .await
            .unwrap();
        ids
    }

    async fn apply(&self, agent: &str, generation: u64) -> Result<Vec<pb::Written>, Error> {
        let body = serde_json::json!({
            "apiVersion": "upm.syntropycloud.io/v1alpha2", "kind": "UnitSet",
            "metadata": {"name": "k", "namespace": "p"}, "spec": {"units": generation},
        });
        let request = pb::ApplyObjectsRequest {
            agent_id: agent.into(),
            writer: Some(pb::Writer {
                owner: "projects/p/redisServices/s".into(),
                epoch: 1,
            }),
            intents: vec![pb::Intent {
                key: Some(pb::Key {
                    group: "upm.syntropycloud.io".into(),
                    version: "v1alpha2".into(),
                    kind: "UnitSet".into(),
                    namespace: "p".into(),
                    name: "k".into(),
                }),
                intent_uid: vec![1; 16].into(),
                generation,
                json: serde_json::to_vec(&body).unwrap().into(),
                ..pb::Intent::default()
            }],
        };
        self.hub.apply_objects(request, "").await
    }
}

#[tokio::test]
async fn a_request_that_is_refused_leaves_the_others_of_its_group_alone() {
    let world = World::new(Config::default()).await;
    let agents = world.agents(20).await;
    world.apply(&agents[3], 9).await.unwrap();
    let asked = agents.iter().map(|agent| world.apply(agent, 5));
    let unknown = world.apply("nobody", 5);
    let (answers, unknown) = tokio::join!(futures::future::join_all(asked), unknown);
    assert!(
        matches!(unknown, Err(Error::AgentNotFound(_))),
        "{unknown:?}"
    );
    for (n, answer) in answers.into_iter().enumerate() {
        if n == 3 {
            assert!(
                matches!(answer, Err(Error::StaleGeneration { current: 9, .. })),
                "{answer:?}"
            );
        } else {
            let written = answer.unwrap();
            assert_eq!((written[0].rev, written[0].changed), (1, true));
        }
    }
}

#[tokio::test]
async fn requests_of_one_agent_keep_their_order_in_a_group() {
    let world = World::new(Config::default()).await;
    let agents = world.agents(1).await;
    let asked = (1..=30).map(|generation| world.apply(&agents[0], generation));
    for (n, answer) in futures::future::join_all(asked)
        .await
        .into_iter()
        .enumerate()
    {
        assert_eq!(answer.unwrap()[0].rev, n as u64 + 1);
    }
}

#[tokio::test]
async fn many_agents_that_come_at_once_get_their_epochs_and_a_stranger_among_them_does_not() {
    let world = World::new(Config::default()).await;
    let mut ids = world.agents(50).await;
    ids.push("nobody".into());
    let claim = |id: String| {
        let hello = pb::Hello {
            cluster_uid: format!("cluster-{id}"),
            ..pb::Hello::default()
        };
        let committer = world.hub.inner.committer.clone();
        async move {
            committer
                .commit(&id, 0, Command::Claim(Box::new(hello)))
                .await
                .unwrap()
        }
    };
    let replies = futures::future::join_all(ids.into_iter().map(claim)).await;
    let (last, known) = replies.split_last().unwrap();
    assert_eq!(*last, Reply::Refused(Refusal::Unknown));
    for reply in known {
        assert!(
            matches!(reply, Reply::Claimed(claim) if claim.epoch == 1),
            "{reply:?}"
        );
    }
}
