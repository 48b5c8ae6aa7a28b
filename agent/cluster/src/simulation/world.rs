//! Hub replicas, agent, cluster and what lies between them.

mod cluster_side;
mod ledger_side;
mod line;
mod silence;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::DefaultHasher,
    sync::Arc,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use upm_hub::{
    ledger,
    session::{Command, Fresh, Reply, Session as Hub},
};
use upm_proto::hub::v1 as pb;
use upm_store::Store;

use super::{cluster::Cluster, oracle};
use silence::Silence;

use crate::{
    applier::decide::Live,
    session::{Facts, Persist, Session, Stored, Work},
};

/// Names in play: few, so that they meet.
const NAMES: u8 = 7;
const OWNER: &str = "projects/p/redisServices/s";
/// When a world begins: late enough that a contact may seem to have been a minute earlier than it was.
const DAWN: u64 = 3_600_000;
/// What the agent can receive at once: little, so that credit matters.
pub(super) const WINDOW: u32 = 4;

/// What was committed under a key, in order: revision, tombstone.
pub(super) type History = BTreeMap<String, Vec<(u64, bool)>>;

#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) uid: Vec<u8>,
    pub(super) generation: u64,
    pub(super) tombstone: bool,
}

/// A session of the hub. All but the one of the present connection belong to connections whose end their replica has not seen.
struct Side {
    core: Hub,
    began: u64,
    /// The replica's process stands still until then.
    frozen: u64,
    /// Frames of the desired lane that were sent, that were acknowledged.
    sent: u64,
    acked: u64,
}

/// The agent's present connection.
struct Line {
    id: u64,
    /// Nothing passes any more, and nobody was told.
    is_half_open: bool,
    /// Both sides read one frame at a time.
    is_slow: bool,
}

/// Work under way: what was seen of the object, and when, once it was looked at.
struct Begun {
    work: Work,
    asked: u64,
    read: Option<(Option<Live>, u64)>,
}

impl Begun {
    /// How old is what it goes by: what it has read, or for a time to live, that the session asked for it.
    fn age(&self, now: u64) -> u64 {
        match (&self.work, &self.read) {
            (Work::Delete { expired: true, .. }, _) => now - self.asked,
            (_, Some((_, at))) => now - at,
            (_, None) => 0,
        }
    }
}

pub(super) struct World {
    pub(super) store: Store,
    pub(super) id: String,
    pub(super) seed: u64,
    pub(super) rng: StdRng,
    pub(super) now: u64,
    sides: BTreeMap<u64, Side>,
    line: Option<Line>,
    lines: u64,
    /// Store commands that were not done: the connection, the epoch they were given under.
    commands: Vec<(u64, u64, Command)>,
    /// Answers of the store that did not arrive.
    replies: Vec<(u64, Reply)>,
    /// What writers committed and the replicas were not told yet.
    fresh: Vec<Fresh>,
    stalled: u64,
    pub(super) agent: Session,
    agent_began: u64,
    agent_frozen: u64,
    durable: HashMap<String, Stored>,
    head: Persist,
    persisting: Option<Persist>,
    pub(super) silence: Silence,
    pub(super) down: VecDeque<pb::HubFrame>,
    pub(super) up: VecDeque<pb::AgentFrame>,
    pub(super) cluster: Cluster,
    /// The objects of the list with which a process begins its watch; the process hears its end last.
    listing: Option<HashSet<String>>,
    running: Vec<Begun>,
    /// Work of an agent process that stood still while another one took its place.
    late: Vec<Begun>,
    pub(super) history: History,
    pub(super) wanted: BTreeMap<String, Wanted>,
    /// (key, intent) of every tombstone.
    pub(super) tombstones: HashSet<(String, Vec<u8>)>,
    hint: bool,
    redial_at: u64,
    pub(super) calm: bool,
    epoch: u64,
    claimed: u64,
    needed: HashSet<u64>,
    sent: HashSet<(u64, String, u64)>,
    pub(super) frames: (usize, usize),
    backup: Option<Arc<(ledger::backup::Backup, Past)>>,
    /// The store is of a past in which revisions meant something else; digests find that out, revisions cannot.
    pub(super) restored: bool,
    /// What is committed per connection: results and status, up to which sequence number.
    committed: HashMap<u64, (u64, u64)>,
    /// Keys that somebody took out of the durable copy.
    pub(super) damaged: HashSet<String>,
    /// Sums up everything that was delivered: the same for every run of a seed.
    pub(super) trace: DefaultHasher,
}

/// What the world wanted when a backup was taken.
#[derive(Clone)]
struct Past {
    history: History,
    wanted: BTreeMap<String, Wanted>,
}

fn key(name: u8) -> pb::Key {
    pb::Key {
        group: "upm.syntropycloud.io".into(),
        version: "v1alpha2".into(),
        kind: "UnitSet".into(),
        namespace: "p".into(),
        name: format!("k{name}"),
    }
}

fn facts() -> Facts {
    Facts {
        build: "test".into(),
        cluster_uid: "cluster".into(),
        ..Facts::default()
    }
}

impl World {
    pub(super) async fn new(store: Store, seed: u64) -> Self {
        let id = super::approved(&store, "sim").await;
        Self {
            store,
            id,
            seed,
            rng: StdRng::seed_from_u64(seed),
            now: DAWN,
            sides: BTreeMap::new(),
            line: None,
            lines: 0,
            commands: Vec::new(),
            replies: Vec::new(),
            fresh: Vec::new(),
            stalled: 0,
            agent: Session::new(facts(), seed, 0),
            agent_began: DAWN,
            agent_frozen: 0,
            durable: HashMap::new(),
            head: Persist::default(),
            persisting: None,
            silence: Silence::since(DAWN),
            down: VecDeque::new(),
            up: VecDeque::new(),
            cluster: Cluster::default(),
            listing: None,
            running: Vec::new(),
            late: Vec::new(),
            history: BTreeMap::new(),
            wanted: BTreeMap::new(),
            tombstones: HashSet::new(),
            hint: false,
            redial_at: 0,
            calm: false,
            epoch: 0,
            claimed: 0,
            needed: HashSet::new(),
            sent: HashSet::new(),
            frames: (0, 0),
            backup: None,
            restored: false,
            committed: HashMap::new(),
            damaged: HashSet::new(),
            trace: DefaultHasher::new(),
        }
    }

    /// One random step.
    pub(super) async fn step(&mut self) {
        match self.rng.random_range(0..1_000) {
            0..90 => self.write().await,
            90..250 => self.deliver_down(),
            250..410 => self.deliver_up(),
            410..560 => self.command().await,
            560..710 => self.reply(),
            710..820 => self.work(),
            820..855 => self.persist(),
            855..895 => self.watch(),
            895..935 => {
                let by = self.rng.random_range(1..400);
                self.tick(by);
            }
            935..955 => self.connect(),
            955..960 => self.cut(),
            960..964 => self.restart_agent(),
            964..970 => self.cluster.finalize(),
            970..971 => self.away().await,
            971..972 => self.forget_body(),
            972..974 => {
                let by = self.rng.random_range(1_000..20_000);
                self.tick(by);
            }
            974..975 => self.half_open(),
            975..977 => self.slow(),
            977..979 => self.stall(),
            979..981 => self.freeze_replica(),
            981..982 => self.freeze_agent(),
            982..985 => self.late_work(),
            985..994 => self.tell(),
            _ => {
                if self.hint {
                    self.hint = false;
                    self.wake();
                }
            }
        }
        self.after();
    }

    /// No more faults: runs until nothing moves any more.
    pub(super) async fn settle(&mut self) {
        self.calm = true;
        self.stalled = 0;
        self.agent_frozen = 0;
        for side in self.sides.values_mut() {
            side.frozen = 0;
        }
        if let Some(line) = &mut self.line {
            line.is_slow = false;
        }
        let mut quiet = 0;
        for _ in 0..20_000 {
            self.connect();
            let moved = self.move_all().await;
            if moved {
                quiet = 0;
                continue;
            }
            quiet += 1;
            // The last of all is a process that stood still.
            if quiet == 8 && !self.late.is_empty() {
                self.late_work();
                quiet = 0;
            }
            if quiet > 16 {
                return;
            }
            self.cluster.finalize();
            let by = if quiet < 5 { 50 } else { 14_000 };
            self.tick(by);
            // The poll of heads finds what a lost hint hid.
            self.wake();
            self.after();
        }
        panic!("I1: it never gets quiet");
    }

    /// Connects and lets everything move, with too little time for a heartbeat.
    pub(super) async fn settle_connection(&mut self) {
        self.connect();
        for _ in 0..6 {
            while self.move_all().await {}
            self.tick(60);
            self.after();
        }
    }

    /// Moves everything that can move without the clock; false when nothing did.
    pub(super) async fn move_all(&mut self) -> bool {
        let mut moved = false;
        while !self.down.is_empty() || !self.up.is_empty() {
            moved |= !self.only_beats();
            self.deliver_down();
            self.deliver_up();
            self.after();
        }
        while !self.commands.is_empty() || !self.replies.is_empty() {
            moved |= self
                .commands
                .iter()
                .any(|(_, _, c)| !matches!(c, Command::Scan { .. }));
            self.command().await;
            self.reply();
            self.after();
        }
        if !self.running.is_empty() {
            self.work();
            self.after();
            moved = true;
        }
        while self.has_unseen() {
            self.watch();
            self.after();
            moved = true;
        }
        if self.persisting.is_some() {
            self.persist();
            self.after();
            moved = true;
        }
        moved
    }

    /// What the agent holds durably: key, revision, whether it is a tombstone.
    pub(super) fn durable(&self) -> impl Iterator<Item = (&String, u64, bool)> {
        self.durable
            .iter()
            .map(|(text, stored)| (text, stored.rev, stored.tombstone))
    }

    /// How long something stands still: mostly a moment, sometimes a minute.
    fn pause(&mut self) -> u64 {
        if self.rng.random_bool(0.8) {
            self.rng.random_range(100..3_000)
        } else {
            self.rng.random_range(3_000..60_000)
        }
    }

    /// The generation that the agent's copy holds of a key.
    pub(super) fn newest(&self, text: &str) -> u64 {
        let mut desired = self.agent.desired();
        let found = desired.find(|(t, ..)| *t == text);
        found.map_or(0, |(_, _, generation, _)| generation)
    }

    pub(super) fn agent_now(&self) -> u64 {
        self.now - self.agent_began
    }

    fn agent_stands_still(&self) -> bool {
        self.now < self.agent_frozen
    }

    fn tick(&mut self, by: u64) {
        self.now += by;
        if !self.agent_stands_still() {
            self.agent.tick(self.agent_now());
            oracle::time_to_live_is_kept(self);
        }
        let now = self.now;
        for side in self.sides.values_mut().filter(|side| now >= side.frozen) {
            side.core.tick(now - side.began);
            if by > 1_000 {
                side.core.wake(now - side.began);
            }
        }
    }
}
