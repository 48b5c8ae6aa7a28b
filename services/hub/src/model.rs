//! A model of ledger, resume and epochs, checked in every order of steps: agents that lose connections and memory, replicas that die,
//! sessions that live on as zombies.
//!
//! The model is the protocol without bytes, credit and time; whether a resume is nothing, a delta or a list is decided by the code itself
//! ([`decide`]). Keys, agents and replicas are alike, so what differs only in their names counts once. How many changes and faults a run
//! has is bounded; within that every order is tried.

mod check;
mod side;
mod step;

use upm_proto::{
    hub::v1::{self as pb, welcome::Resume},
    ledger::{Entry as Counted, Root},
};

use crate::session::{Claim, decide};

const AGENTS: usize = 2;
const REPLICAS: u8 = 2;
const KEYS: usize = 3;

/// What is left out, to see that a property notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flaw {
    #[default]
    None,
    /// A bookmark names the last scan although keys wait.
    BookmarkEarly,
    /// A delta begins at the head.
    DeltaFromHead,
    /// The store takes what an older session writes.
    EpochUnchecked,
    /// A tombstone is forgotten before the object is gone.
    PurgedUnsettled,
    /// A tombstone is forgotten although the agent could wake up without it, and the list that would repair it removes nothing: either
    /// alone does no harm.
    PurgedUndurable,
    /// The agent calls durable what is in memory.
    MemoryCalledDurable,
    /// The agent takes a result for committed when it was sent.
    SentCalledCommitted,
}

/// What a run may contain.
#[derive(Clone, Copy, Debug)]
struct Model {
    flaw: Flaw,
    agents: usize,
    changes: u8,
    faults: u8,
}

/// Life and generation of what exists.
type Object = Option<(u8, u8)>;

/// A row of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Row {
    uid: u8,
    generation: u8,
    rev: u8,
    tombstone: bool,
    settled: bool,
}

/// One agent's ledger in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Ledger {
    head: u8,
    compacted: u8,
    durable: u8,
    epoch: u8,
    rows: [Option<Row>; KEYS],
    /// Lives that each name has had.
    lives: [u8; KEYS],
}

/// From the hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Down {
    Welcome,
    /// An intent or a tombstone.
    Row(u8, Row),
    Bookmark(u8),
    /// Everything at a revision.
    List(u8, [Option<Row>; KEYS]),
    /// A result is committed: key, life, generation, tombstone.
    Acknowledged(u8, Work),
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Up {
    /// Last bookmark, durable revision, what of the copy is live.
    Hello(u8, u8, [Object; KEYS]),
    Durable(u8),
    Result(u8, Work),
    /// The body of a revision is asked for.
    Need(u8),
}

/// What was done of a key: life, generation, whether it was the deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Work {
    uid: u8,
    generation: u8,
    tombstone: bool,
}

/// A session at a replica, with what is under way on its connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Session {
    replica: u8,
    /// 0 before the claim.
    epoch: u8,
    scanned: u8,
    bookmarked: u8,
    /// First revision of each key that was not handed over; 0 when there is none.
    dirty: [u8; KEYS],
    down: Vec<Down>,
    up: Vec<Up>,
    /// Whether the agent is still at the other end.
    open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    /// To be done.
    Told,
    /// Its body is asked for: bodies are in no list and survive no crash.
    Asked,
    /// Done; the hub may not know.
    Done,
    /// The hub has committed it.
    Confirmed,
}

/// A key of the agent's copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Entry {
    uid: u8,
    generation: u8,
    rev: u8,
    tombstone: bool,
    body: bool,
    stage: Stage,
}

/// An agent with its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Agent {
    copy: [Option<Entry>; KEYS],
    received: u8,
    /// What survives a crash.
    saved: [Option<Entry>; KEYS],
    durable: u8,
    welcomed: bool,
    /// Objects that exist: life, generation.
    cluster: [Object; KEYS],
    /// The newest that ever existed or was deleted; a deletion counts as the last generation of its life.
    newest: [(u8, u8); KEYS],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct State {
    ledgers: [Ledger; AGENTS],
    agents: [Agent; AGENTS],
    sessions: [Vec<Session>; AGENTS],
    changes: u8,
    faults: u8,
    /// Something that must never happen has happened.
    wrong: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Action {
    /// Somebody writes or deletes an intent.
    Write(usize, usize),
    Erase(usize, usize),
    /// An agent dials a replica.
    Dial(usize, u8),
    /// A session reads what has changed and sends the next key, sends a bookmark, takes what has come.
    Send(usize, usize),
    Bookmark(usize, usize),
    Take(usize, usize),
    /// A replica notices that a connection is gone.
    Notice(usize, usize),
    /// An agent takes a frame, does a key, saves its copy.
    Hear(usize),
    Do(usize, usize),
    Save(usize),
    /// Faults.
    Break(usize),
    Crash(usize),
    Forget(usize),
    Die(u8),
}

fn key(index: usize) -> pb::Key {
    pb::Key {
        group: "g".into(),
        version: "v1".into(),
        kind: "K".into(),
        namespace: "n".into(),
        name: index.to_string(),
    }
}

fn root(objects: &[Object; KEYS]) -> Root {
    let mut root = Root::default();
    for (index, (uid, generation)) in objects
        .iter()
        .enumerate()
        .filter_map(|(i, o)| Some((i, (*o)?)))
    {
        root.add(Counted {
            key: &key(index),
            intent_uid: &[uid],
            generation: u64::from(generation),
            digest: &[],
        });
    }
    root
}

/// The decision of the code itself.
fn resume(ledger: &Ledger, received: u8, theirs: &[Object; KEYS]) -> Resume {
    let live = ledger.rows.map(|row| {
        row.filter(|row| !row.tombstone)
            .map(|row| (row.uid, row.generation))
    });
    let incarnation = vec![1];
    let hello = pb::Hello {
        hub_incarnation: incarnation.clone().into(),
        received_rev: u64::from(received),
        desired_root: root(theirs).to_bytes().to_vec().into(),
        ..pb::Hello::default()
    };
    let claim = Claim {
        incarnation,
        head_rev: u64::from(ledger.head),
        compacted_rev: u64::from(ledger.compacted),
        root: root(&live),
        ..Claim::default()
    };
    decide(&hello, &claim)
}
