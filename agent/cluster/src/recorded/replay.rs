//! Records a session, and plays a recorded one to either side.

use std::collections::BTreeMap;

use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use upm_hub::session::Session as Hub;
use upm_proto::{
    hub::v1::{self as pb, agent_frame},
    ledger::key_text,
};
use upm_store::Store;

use super::{
    HubSide, OWNER, facts, key,
    line::{Line, Step, decode, encode},
};
use crate::{
    session::{Action, Persist, Session, Stored},
    simulation::Cluster,
};

/// Heartbeats and acknowledgements are over after this.
const QUIET: u64 = 14_000;

/// An agent with its cluster.
pub(super) struct AgentSide {
    pub(super) core: Session,
    cluster: Cluster,
    /// The durable copy.
    head: Persist,
    stored: BTreeMap<String, Stored>,
}

impl AgentSide {
    pub(super) fn new() -> Self {
        Self {
            core: Session::new(facts(), 1, 0),
            cluster: Cluster::default(),
            head: Persist::default(),
            stored: BTreeMap::new(),
        }
    }

    /// Whether it wants another connection.
    pub(super) fn gave_up(&mut self) -> bool {
        let mut lost = false;
        while let Some(action) = self.core.next_action() {
            lost |= matches!(action, Action::Reconnect(_));
        }
        lost
    }

    /// Does everything that can be done; true when there was something.
    pub(super) fn work(&mut self, now: u64) -> bool {
        let mut moved = false;
        while let Some(work) = self.core.next_work(now) {
            let done = self.cluster.work(&work, false);
            self.core.done(now, done);
            moved = true;
        }
        if let Some(persist) = self.core.next_persist(now) {
            self.core.persisted(now, &persist);
            for (text, stored) in &persist.entries {
                match stored {
                    Some(stored) => self.stored.insert(text.clone(), stored.clone()),
                    None => self.stored.remove(text),
                };
            }
            self.head = persist;
            moved = true;
        }
        self.cluster.finalize();
        while let Some(text) = self.cluster.unseen.pop_first() {
            let name = text.rsplit('/').next().unwrap();
            let seen = self.cluster.observe(&text);
            self.core.observed(now, key(name), seen);
            moved = true;
        }
        moved
    }

    fn end(&self) -> BTreeMap<String, u64> {
        let objects = self.cluster.objects.iter();
        let carried =
            |live: &crate::applier::decide::Live| live.intent.as_ref().unwrap().generation;
        objects
            .map(|(text, (_, live))| (text.clone(), carried(live)))
            .collect()
    }

    fn restart(&mut self, without: Option<&String>) {
        self.core = Session::new(facts(), 2, 0);
        match without {
            None => self.stored.clear(),
            Some(text) => {
                self.stored.remove(text);
                let entries = self.stored.iter();
                let entries = entries.map(|(text, stored)| (text.clone(), Some(stored.clone())));
                self.core.load(Persist {
                    entries: entries.collect(),
                    ..self.head.clone()
                });
            }
        }
        let objects = self.cluster.objects.keys().cloned();
        self.cluster.unseen.extend(objects);
    }
}

struct Recorder {
    hub: HubSide,
    agent: AgentSide,
    now: u64,
    lines: Vec<Line>,
}

impl Recorder {
    fn note(&mut self, step: Step) {
        let at = self.now;
        self.lines.push(Line { at, step });
    }

    fn connect(&mut self) {
        self.note(Step::Connect);
        self.hub.connect(self.now);
        self.agent.core.connect(self.now);
    }

    fn cut(&mut self) {
        self.note(Step::Break);
        self.hub.core = None;
        self.agent.core.disconnect(self.now);
    }

    fn restart(&mut self, without: Option<String>) {
        self.agent.restart(without.as_ref());
        self.note(Step::Restart { without });
    }

    async fn write(&mut self, name: &str, uid: u8, generation: u64, filler: usize) {
        self.write_with(name, uid, generation, filler, 0).await;
    }

    async fn write_with(
        &mut self,
        name: &str,
        uid: u8,
        generation: u64,
        filler: usize,
        ttl_seconds: u32,
    ) {
        // what does not compress is sent in parts
        let mut filling = vec![0; filler];
        StdRng::seed_from_u64(uid.into()).fill_bytes(&mut filling);
        let body = serde_json::json!({
            "apiVersion": "upm.syntropycloud.io/v1alpha2", "kind": "UnitSet",
            "metadata": {"name": name, "namespace": "p"},
            "spec": {"units": generation, "note": hex::encode(filling)},
        });
        let request = pb::ApplyObjectsRequest {
            agent_id: String::new(),
            writer: Some(pb::Writer {
                owner: OWNER.into(),
                epoch: 1,
            }),
            intents: vec![pb::Intent {
                key: Some(key(name)),
                intent_uid: vec![uid; 16].into(),
                generation,
                json: serde_json::to_vec(&body).unwrap().into(),
                ttl_seconds,
                ..pb::Intent::default()
            }],
        };
        self.note(Step::Write {
            request: encode(&request),
        });
        self.hub.write(request, self.now).await;
    }

    async fn erase(&mut self, name: &str) {
        let request = pb::DeleteObjectsRequest {
            writer: Some(pb::Writer {
                owner: OWNER.into(),
                epoch: 1,
            }),
            keys: vec![key(name)],
            ..pb::DeleteObjectsRequest::default()
        };
        self.note(Step::Erase {
            request: encode(&request),
        });
        self.hub.erase(request, self.now).await;
    }

    /// The agent is alone for a while.
    fn alone(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.now += 500;
            self.agent.core.tick(self.now);
            while self.agent.work(self.now) {}
        }
    }

    /// Runs until nothing moves, and past the next heartbeat.
    async fn settle(&mut self) {
        let until = self.now + QUIET;
        while self.now < until {
            let mut moved = self.hub.work(self.now).await | self.agent.work(self.now);
            assert!(!self.agent.gave_up(), "the agent gives the session up");
            while let Some(frame) = self.hub.core.as_mut().and_then(Hub::next_frame) {
                self.note(Step::Hub {
                    frame: encode(&frame),
                });
                self.agent.core.frame(self.now, frame);
                moved = true;
            }
            while let Some(frame) = self.agent.core.next_frame() {
                self.note(Step::Agent {
                    frame: encode(&frame),
                });
                if let Some(core) = &mut self.hub.core {
                    core.frame(self.now, frame);
                }
                moved = true;
            }
            if !moved {
                self.now += 500;
                self.agent.core.tick(self.now);
                if let Some(core) = &mut self.hub.core {
                    core.tick(self.now);
                }
            }
        }
    }
}

/// A session of today: first connection, changes, a body in parts, a refusal, resume with nothing, with changes, after the loss of the
/// copy with a list and of one entry with buckets; patches of an intent and of its status; a time to live that runs out.
pub(super) async fn record(store: Store) -> Vec<Line> {
    let mut all = Recorder {
        hub: HubSide::new(store).await,
        agent: AgentSide::new(),
        now: 0,
        lines: Vec::new(),
    };
    all.write("a", 1, 1, 0).await;
    all.write("b", 2, 1, 100_000).await;
    all.connect();
    all.settle().await;
    all.write("a", 1, 2, 0).await;
    all.write("c", 3, 3, 0).await; // the API server of the test refuses every fifth generation
    all.settle().await;
    all.cut();
    all.connect();
    all.settle().await;
    all.cut();
    all.write("a", 1, 4, 0).await;
    all.erase("b").await;
    all.write("d", 4, 1, 600).await;
    all.connect();
    all.settle().await;
    all.cut();
    all.restart(None);
    all.connect();
    all.settle().await;
    all.cut();
    all.restart(Some(key_text(&key("d"))));
    all.connect();
    all.settle().await;
    all.write("a", 1, 5, 0).await;
    all.settle().await;
    for generation in [2, 4] {
        all.write_with("d", 4, generation, 600, 60).await;
        all.settle().await;
    }
    all.cut();
    all.alone(70_000);
    all.connect();
    all.settle().await;
    let (ledger, cluster) = (all.hub.end().await, all.agent.end());
    all.note(Step::End { ledger, cluster });
    all.lines
}

/// What the agent said, to today's hub.
pub(super) async fn agent_to_hub(store: Store, lines: &[Line]) {
    let mut hub = HubSide::new(store).await;
    let incarnation = hub.incarnation().await;
    for Line { at, step } in lines {
        match step {
            Step::Connect => hub.connect(*at),
            Step::Break => hub.core = None,
            Step::Restart { .. } | Step::Hub { .. } => {}
            Step::Write { request } => hub.write(decode(request), *at).await,
            Step::Erase { request } => hub.erase(decode(request), *at).await,
            Step::Agent { frame } => {
                let mut frame: pb::AgentFrame = decode(frame);
                // the ledger that it knew was another one
                if let Some(agent_frame::Message::Hello(hello)) = &mut frame.message
                    && !hello.hub_incarnation.is_empty()
                {
                    hello.hub_incarnation = incarnation.clone().into();
                }
                if let Some(core) = &mut hub.core {
                    core.frame(*at, frame);
                }
            }
            Step::End { ledger, .. } => assert_eq!(&hub.end().await, ledger),
        }
        loop {
            while hub.core.as_mut().and_then(Hub::next_frame).is_some() {}
            if !hub.work(*at).await {
                break;
            }
        }
        if let Some(core) = &mut hub.core {
            core.tick(*at);
            assert_eq!(core.closed(), None, "the hub gives the session up");
        }
    }
}

/// What the hub said, to today's agent.
pub(super) fn hub_to_agent(lines: &[Line]) {
    let mut agent = AgentSide::new();
    for Line { at, step } in lines {
        match step {
            Step::Connect => agent.core.connect(*at),
            Step::Break => agent.core.disconnect(*at),
            Step::Restart { without } => agent.restart(without.as_ref()),
            Step::Write { .. } | Step::Erase { .. } | Step::Agent { .. } => {}
            Step::Hub { frame } => agent.core.frame(*at, decode(frame)),
            Step::End { cluster, .. } => assert_eq!(&agent.end(), cluster),
        }
        agent.core.tick(*at);
        while agent.work(*at) {}
        while agent.core.next_frame().is_some() {}
        assert!(!agent.gave_up(), "the agent gives the session up");
    }
}
