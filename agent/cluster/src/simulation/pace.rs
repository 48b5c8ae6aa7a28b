//! The real hub session against the real agent session in simulated time, with a ledger in memory whose store takes its time and an API
//! server that takes its own. What the protocol promises of pace is counted in frames and in simulated milliseconds, so it comes out the same
//! on a machine of any speed.

mod ledger;
mod tests;

use std::collections::{BTreeMap, HashMap};

use upm_hub::session::{Command, Session as Hub, Settings};
use upm_proto::{
    hub::v1::{self as pb, Outcome, hub_frame},
    ledger::{key_text, limits},
};

use crate::session::{Action, Done, Facts, Session, Verdict, Work};
use ledger::Ledger;

fn key(name: &str) -> pb::Key {
    pb::Key {
        group: "upm.syntropycloud.io".into(),
        version: "v1alpha2".into(),
        kind: "UnitSet".into(),
        namespace: "p".into(),
        name: name.into(),
    }
}

/// A hub with one agent.
struct Pace {
    now: u64,
    /// What each command of the store, and each call of the API server, takes.
    store_ms: u64,
    api_ms: u64,
    /// The store does nothing before this.
    store_back: u64,
    hub: Hub,
    agent: Session,
    ledger: Ledger,
    commands: BTreeMap<(u64, u64), Command>,
    calls: BTreeMap<(u64, u64), Work>,
    order: u64,
    /// Frames that the agent was sent.
    down: u64,
    /// When an intent was handed over last, at which revision, after how many frames.
    handed: HashMap<String, (u64, u64, u64)>,
    bookmarked: u64,
    /// The generation of each object of the cluster, and since when.
    cluster: HashMap<String, (u64, u64)>,
}

impl Pace {
    /// A session that has just become live, of a ledger in which there is nothing.
    fn new(store_ms: u64, api_ms: u64) -> Self {
        let settings = Settings {
            replica: "replica".into(),
            certificate_ends: u64::MAX,
            max_age: u64::MAX,
            wall_us: 0,
            reconnect_spread_ms: 200,
        };
        let mut pace = Self {
            now: 0,
            store_ms,
            api_ms,
            store_back: 0,
            hub: Hub::new(settings, 0),
            agent: Session::new(Facts::default(), 1, 0),
            ledger: Ledger::default(),
            commands: BTreeMap::new(),
            calls: BTreeMap::new(),
            order: 0,
            down: 0,
            handed: HashMap::new(),
            bookmarked: 0,
            cluster: HashMap::new(),
        };
        pace.agent.connect(0);
        pace.pass(1_000, 1);
        assert!(pace.hub.is_live());
        pace
    }

    /// Lets time pass in steps.
    fn pass(&mut self, ms: u64, step: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.step(step);
        }
    }

    fn step(&mut self, by: u64) {
        self.now += by;
        self.agent.tick(self.now);
        self.hub.tick(self.now);
        self.exchange();
        while let Some((at, command)) = self.commands.pop_first() {
            if at.0 > self.now || self.now < self.store_back {
                self.commands.insert(at, command);
                break;
            }
            let reply = self.ledger.does(self.now, command);
            self.hub.reply(self.now, reply);
            self.exchange();
        }
        while let Some((at, work)) = self.calls.pop_first() {
            if at.0 > self.now {
                self.calls.insert(at, work);
                break;
            }
            let done = self.called(&work);
            self.agent.done(self.now, done);
            self.exchange();
        }
    }

    /// Frames go both ways until there are none.
    fn exchange(&mut self) {
        loop {
            let mut moved = false;
            self.begin();
            while let Some(frame) = self.hub.next_frame() {
                self.down += 1;
                self.note(&frame);
                self.agent.frame(self.now, frame);
                self.begin();
                moved = true;
            }
            while let Some(frame) = self.agent.next_frame() {
                self.hub.frame(self.now, frame);
                moved = true;
            }
            if !moved {
                break;
            }
        }
        assert_eq!(self.hub.closed(), None, "the hub ends the session");
        assert!(self.hub.held_bytes() <= limits::SESSION_BYTES);
    }

    /// What is to be done begins.
    fn begin(&mut self) {
        while let Some(command) = self.hub.next_command() {
            self.order += 1;
            let at = (self.now + self.store_ms, self.order);
            self.commands.insert(at, command);
        }
        while let Some(work) = self.agent.next_work(self.now) {
            self.order += 1;
            self.calls
                .insert((self.now + self.api_ms, self.order), work);
        }
        if let Some(persist) = self.agent.next_persist(self.now) {
            self.agent.persisted(self.now, &persist);
        }
        while let Some(action) = self.agent.next_action() {
            assert!(!matches!(action, Action::Reconnect(_)), "{action:?}");
        }
    }

    fn note(&mut self, frame: &pb::HubFrame) {
        match &frame.message {
            Some(hub_frame::Message::Apply(apply)) => {
                let text = key_text(apply.key.as_ref().unwrap());
                self.handed.insert(text, (self.now, apply.rev, self.down));
            }
            Some(hub_frame::Message::Bookmark(bookmark)) => self.bookmarked = bookmark.rev,
            _ => {}
        }
    }

    fn called(&mut self, work: &Work) -> Done {
        let (uid, generation) = work.intent();
        let text = work.text().to_owned();
        let outcome = match work {
            Work::Apply { .. } => {
                self.cluster.insert(text.clone(), (generation, self.now));
                Outcome::Applied
            }
            Work::Delete { .. } => match self.cluster.remove(&text) {
                Some(_) => Outcome::Deleted,
                None => Outcome::Absent,
            },
            Work::Verify { .. } => Outcome::Transient,
        };
        Done {
            text,
            intent_uid: uid.to_vec(),
            generation,
            verdict: Verdict::Outcome(Box::new(pb::ApplyResult {
                outcome: outcome.into(),
                ..pb::ApplyResult::default()
            })),
            throttled: false,
        }
    }

    /// A writer changes intents; the session hears of it, as it does on the replica where it is.
    fn write(&mut self, names: &[String]) {
        let fresh = self.ledger.write(self.now, names);
        self.hub.fresh(self.now, fresh);
        self.exchange();
    }
}
