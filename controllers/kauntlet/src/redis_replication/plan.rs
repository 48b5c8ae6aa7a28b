//! What to do next. Pure: `(group, state, world, memory) → decision`, and every decision is taken anew from what is seen, so a crash
//! between any two actions is a normal event.

mod failover;
mod rollback;
mod setup;
mod steady;
pub(super) mod switchover;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::election::{Predicate, Prospect};
use super::model::{Departed, Group, History, Live, Position, Prior, Standing, State, View, World};

/// A step. All of them are idempotent; those for unit agents carry an epoch that guards them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Compare-and-swap of the status. Always alone.
    Record(Box<Change>),
    /// Ask for promises. `waited`: the others are asked too, but their answers are not waited for long.
    Promise {
        /// Whose answers are needed.
        members: Vec<String>,
        /// Who is fenced besides.
        besides: Vec<String>,
        /// The epoch that shall begin.
        epoch: i64,
    },
    /// Grant the epoch.
    Grant {
        /// To whom.
        member: String,
        /// Which.
        epoch: i64,
        /// `min-replicas-to-write`.
        min_replicas: i32,
        /// The position of the election; empty id for a primary that goes on.
        at: Position,
        /// Its member id; empty when it has not told one.
        member_id: String,
        /// Member ids of those that may replicate from it.
        admitted: BTreeSet<String>,
        /// Member ids of the primary and of everybody who may have acknowledged.
        group: BTreeSet<String>,
        /// Version of the record that says so.
        record_version: i64,
    },
    /// Follow the primary.
    Follow {
        /// Who.
        member: String,
        /// Under which epoch.
        epoch: i64,
        /// Where the primary is.
        host: String,
        /// On which port.
        port: i32,
        /// Its replication id.
        replid: String,
        /// Its offset when the epoch began.
        offset: i64,
    },
    /// Stop writes for a switchover.
    Pause {
        /// At whom.
        member: String,
        /// Under which epoch.
        epoch: i64,
    },
    /// Undo that.
    Resume {
        /// At whom.
        member: String,
        /// Under which epoch.
        epoch: i64,
    },
    /// Wait until a member has received everything.
    Await {
        /// Who.
        member: String,
        /// Everything of which history.
        replid: String,
        /// Up to where.
        offset: i64,
    },
}

impl Action {
    fn record(change: Change) -> Self {
        Self::Record(Box::new(change))
    }
}

/// What is changed in the status, on the condition that nothing else changed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The epoch.
    pub epoch: i64,
    /// Its primary.
    pub primary: String,
    /// Its ackers.
    pub ackers: BTreeSet<String>,
    /// Member ids of the primary and the ackers, as far as they are known.
    pub member_ids: BTreeMap<String, String>,
    /// Ackers that the primary does not admit any more.
    pub excluded: BTreeSet<String>,
    /// Volumes that may have acknowledged and are not here any more.
    pub departed: BTreeSet<Departed>,
    /// What whoever leads next must have besides what the ackers have.
    pub must_cover: Option<History>,
    /// The record's version becomes at least this.
    pub least_version: i64,
    /// Who counted before, while the epoch is not known to have begun.
    pub prior: Option<Prior>,
    /// Of an election: what shows that nothing confirmed is lost.
    pub evidence: Option<super::election::Evidence>,
    /// The switchover that ends with this.
    pub outcome: Option<Outcome>,
    /// The position the new primary was elected with.
    pub elected: Option<Position>,
    /// `spec.source.name` that was acted on.
    pub source: String,
    /// Why, for people.
    pub why: String,
}

#[cfg(test)]
impl Change {
    /// What the record becomes; the product writes it into the status (`status::record`).
    pub(crate) fn enter(&self, state: &mut State) {
        state.epoch = self.epoch;
        state.primary = Some(self.primary.clone());
        state.ackers.clone_from(&self.ackers);
        state.member_ids.clone_from(&self.member_ids);
        state.excluded.clone_from(&self.excluded);
        state.version = (state.version + 1).max(self.least_version);
        state.departed.clone_from(&self.departed);
        state.must_cover.clone_from(&self.must_cover);
        state.prior.clone_from(&self.prior);
        state.source = Some(self.source.clone());
        if let Some(at) = &self.elected {
            state.positions.insert(self.primary.clone(), at.clone());
        }
        if let Some(outcome) = &self.outcome {
            state.answered = switchover::answer(&state.answered, &outcome.id);
            state.last = Some(super::model::Last {
                id: outcome.id.clone(),
                succeeded: outcome.succeeded,
                ago: Duration::ZERO,
            });
        }
    }
}

/// How a switchover ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Its request.
    pub id: String,
    /// The primary before.
    pub from: String,
    /// The wanted primary.
    pub to: String,
    /// Whether the wanted primary leads now.
    pub succeeded: bool,
    /// Why not, a CamelCase word.
    pub reason: String,
    /// The same for people.
    pub message: String,
}

/// State of the whole; becomes the status' phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The first primary is being made.
    #[default]
    SettingUp,
    /// The primary leads.
    Steady,
    /// A new one is being elected.
    Electing,
    /// It is being changed as asked for.
    SwitchingOver,
    /// Nothing safe can be done.
    Refused,
}

/// What to do, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// What to do, all at once.
    pub actions: Vec<Action>,
    /// State of the whole.
    pub phase: Phase,
    /// Whether the write route is taken away.
    pub withdraw: bool,
    /// Facts that are missing.
    pub missing: Vec<Predicate>,
    /// Of a refusal: the way out.
    pub prospect: Option<Prospect>,
    /// What is going on, for people.
    pub message: String,
}

impl Decision {
    fn new(phase: Phase, message: impl Into<String>) -> Self {
        Self {
            phase,
            message: message.into(),
            ..Self::default()
        }
    }

    fn act(mut self, actions: impl IntoIterator<Item = Action>) -> Self {
        self.actions.extend(actions);
        self
    }

    fn withdraw(mut self) -> Self {
        self.withdraw = true;
        self
    }

    fn lacking(mut self, missing: Vec<Predicate>) -> Self {
        self.missing = missing;
        self
    }
}

/// What a controller remembers between two looks; losing it only costs time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// How long the primary's writes have been paused.
    pub paused: Option<Duration>,
    /// How long no safe election has been possible.
    pub refused: Option<Duration>,
    /// How long the elected member of which epoch has not led.
    pub ungranted: Option<(i64, Duration)>,
    /// Of ackers and departed volumes that can no longer acknowledge: the primary's offset when that was seen first.
    pub leaving: BTreeMap<Departed, (String, i64)>,
}

impl Memory {
    /// Takes in what is seen, `elapsed` after the last time.
    pub fn note(&mut self, group: &Group, state: &State, world: &World, elapsed: Duration) {
        let leader = state
            .primary
            .as_deref()
            .and_then(|name| world.server(name))
            .filter(|view| view.leads(state.epoch));
        self.paused = leader
            .is_some_and(|view| view.paused)
            .then(|| self.paused.map_or(Duration::ZERO, |time| time + elapsed));
        let Some(leader) = leader else {
            self.leaving.clear();
            let waited = match self.ungranted {
                Some((epoch, time)) if epoch == state.epoch => time + elapsed,
                Some(_) | None => Duration::ZERO,
            };
            self.ungranted = Some((state.epoch, waited));
            return;
        };
        self.ungranted = None;
        let leaving = steady::leaving(group, state, world, leader);
        self.leaving.retain(|volume, _| leaving.contains(volume));
        for volume in leaving {
            self.leaving
                .entry(volume)
                .or_insert_with(|| (leader.replid.clone(), leader.offset));
        }
    }

    /// Takes in what was decided.
    pub fn decided(&mut self, decision: &Decision, elapsed: Duration) {
        self.refused = match decision.phase {
            Phase::Refused => Some(self.refused.map_or(Duration::ZERO, |time| time + elapsed)),
            // what was asked for after a refusal does not begin the wait anew
            Phase::Electing => self.refused,
            Phase::SettingUp | Phase::Steady | Phase::SwitchingOver => None,
        };
    }
}

/// Everything a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The group as it is wanted.
    pub group: &'a Group,
    /// What the status remembers.
    pub state: &'a State,
    /// What is seen.
    pub world: &'a World,
    /// What the controller remembers.
    pub memory: &'a Memory,
}

/// Decides.
pub fn plan(inputs: Inputs<'_>) -> Decision {
    let Inputs {
        group,
        state,
        world,
        ..
    } = inputs;
    if group.skip {
        return Decision::new(
            Phase::Steady,
            "topology is left alone, as the annotation asks",
        );
    }
    let Some(primary) = state.primary.as_deref() else {
        return setup::plan(inputs);
    };
    if let Some(decision) = rollback::plan(inputs) {
        return decision;
    }
    let Some(view) = world.agent(primary) else {
        return failover::suspect(inputs, primary, "its unit agent does not answer");
    };
    match view.live {
        Live::Primary if view.was_granted(state.epoch) => {
            if view.reachable {
                steady::plan(inputs, primary, view)
            } else {
                failover::suspect(inputs, primary, &view.reason)
            }
        }
        // an epoch was recorded for the primary that goes on
        Live::Primary
            if view.grant_epoch < state.epoch && view.standing == Standing::Continuous =>
        {
            Decision::new(Phase::Steady, "the primary goes on under a new epoch").act([grant(
                inputs,
                primary,
                view,
                Position::default(),
            )])
        }
        Live::Primary if !view.reachable => failover::suspect(inputs, primary, &view.reason),
        _ if view.was_granted(state.epoch) => {
            failover::elect(inputs, "the primary was restarted or fenced")
        }
        _ => elected(inputs, primary, view),
    }
}

/// How long an elected member may take until it leads; then others are asked.
const TAKES_OFFICE: Duration = Duration::from_secs(20);

/// The member was elected and not granted the epoch yet.
fn elected(inputs: Inputs<'_>, primary: &str, view: &View) -> Decision {
    let state = inputs.state;
    let electing = |message: &str| Decision::new(Phase::Electing, message).withdraw();
    if view.promised > state.epoch || view.grant_epoch > state.epoch {
        return failover::elect(inputs, "the elected member promised a later epoch");
    }
    if state.other_volume(primary, view) {
        return failover::elect(inputs, "the elected member has another volume now");
    }
    if inputs
        .memory
        .ungranted
        .is_some_and(|(epoch, waited)| epoch == state.epoch && waited >= TAKES_OFFICE)
    {
        return failover::elect(inputs, "the elected member does not take the epoch");
    }
    if !view.reachable {
        return electing("waiting for the elected member's server");
    }
    if view.loading {
        return electing("waiting for the elected member to load its data");
    }
    let at = state.positions.get(primary).cloned().unwrap_or_default();
    if !at.replid.is_empty() && (view.replid != at.replid || view.offset < at.offset) {
        return failover::elect(
            inputs,
            "the elected member was restarted before it was granted the epoch",
        );
    }
    electing("the elected member is granted the epoch").act([grant(inputs, primary, view, at)])
}

/// The grant of the recorded epoch.
fn grant(inputs: Inputs<'_>, primary: &str, view: &View, at: Position) -> Action {
    let Inputs { group, state, .. } = inputs;
    Action::Grant {
        member: primary.to_owned(),
        epoch: state.epoch,
        min_replicas: group.min_replicas(),
        at,
        member_id: view.member_id.clone(),
        admitted: state.admitted(),
        group: state.group(),
        record_version: state.version,
    }
}

/// The next epoch: newer than everything anybody knows of, and not one that has begun.
pub(super) fn next_epoch(state: &State, world: &World) -> i64 {
    let views = || world.members.values().filter_map(|seen| seen.view.as_ref());
    let promised = views().map(|view| view.promised).max().unwrap_or(0);
    let begun = views().map(|view| view.grant_epoch).max().unwrap_or(0);
    (state.epoch + 1).max(promised).max(begun + 1)
}

/// The member ids of these members, as they are seen, or as they are on record of members that are not.
fn member_ids<'a>(
    state: &State,
    world: &World,
    members: impl IntoIterator<Item = &'a String>,
) -> BTreeMap<String, String> {
    let id = |name: &String| {
        world
            .agent(name)
            .map(|view| view.member_id.as_str())
            .filter(|id| !id.is_empty())
            .or_else(|| state.member_id(name))
            .map(str::to_owned)
    };
    members
        .into_iter()
        .filter_map(|name| Some((name.clone(), id(name)?)))
        .collect()
}

/// The volumes of ackers whose members have another one now, beside those that departed before. Of the recorded epoch nothing is
/// forgotten; volumes that are here under another name are those members'.
fn departed(state: &State, world: &World) -> BTreeSet<Departed> {
    let replaced = state
        .ackers
        .iter()
        .filter(|name| {
            world
                .agent(name)
                .is_some_and(|view| state.other_volume(name, view))
        })
        .map(|name| Departed {
            name: name.clone(),
            id: state.member_id(name).unwrap_or_default().to_owned(),
        });
    state.departed.iter().cloned().chain(replaced).collect()
}

fn lacking(name: &'static str, member: &str, detail: &str) -> Predicate {
    Predicate {
        name,
        member: member.to_owned(),
        detail: detail.to_owned(),
    }
}

/// Everything that this server has.
fn everything(view: &View) -> History {
    History {
        replid: view.replid.clone(),
        offset: view.offset,
    }
}

fn position(view: &View) -> Position {
    Position {
        replid: view.replid.clone(),
        offset: view.offset,
        keys: view.keys,
    }
}

#[cfg(test)]
mod tests;
