//! The properties, and the runs.

use stateright::{Checker, HasDiscoveries, Model as _, Property};

use super::{Action, Agent, Down, Flaw, KEYS, Ledger, Model, Stage, State};

impl stateright::Model for Model {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.wrong.is_none() {
            actions.extend(state.progress(self));
            actions.extend(state.disturbances(self));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.step(action, self.flaw);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "nothing goes back and only the newest session writes",
                |_, state: &State| state.wrong.is_none(),
            ),
            Property::always("a bookmark is behind what it covers", |_, state: &State| {
                covered(state)
            }),
            Property::always("what exists is in the ledger", |_, state: &State| {
                in_ledger(state)
            }),
            Property::always(
                "what comes to rest has converged",
                |model: &Self, state: &State| {
                    !state.progress(model).is_empty() || state.wrong.is_some() || converged(state)
                },
            ),
            Property::sometimes("a list is sent", |_, state: &State| lists(state)),
            Property::sometimes("an older session is fenced", |_, state: &State| {
                fenced(state)
            }),
            Property::sometimes("a tombstone is forgotten", |_, state: &State| {
                state.ledgers.iter().any(|ledger| ledger.compacted > 0)
            }),
        ]
    }
}

/// A list is on its way.
fn lists(state: &State) -> bool {
    let mut sessions = state.sessions.iter().flatten();
    sessions.any(|session| {
        session
            .down
            .iter()
            .any(|frame| matches!(frame, Down::List(..)))
    })
}

/// A session has something to write whose agent has a newer one.
fn fenced(state: &State) -> bool {
    state
        .sessions
        .iter()
        .zip(&state.ledgers)
        .any(|(sessions, ledger)| {
            let mut old = sessions
                .iter()
                .filter(|session| session.epoch < ledger.epoch);
            old.any(|session| session.epoch > 0 && !session.up.is_empty())
        })
}

/// Whether something holds for every key of every agent and its ledger.
fn everywhere(state: &State, holds: impl Fn(&Agent, &Ledger, usize) -> bool) -> bool {
    let mut pairs = state.agents.iter().zip(&state.ledgers);
    pairs.all(|(agent, ledger)| (0..KEYS).all(|key| holds(agent, ledger, key)))
}

/// Every change up to the agent's last bookmark is in its copy, or was and is done with.
fn covered(state: &State) -> bool {
    everywhere(state, |agent, ledger, key| {
        let Some(row) = ledger.rows[key].filter(|row| row.rev <= agent.received) else {
            return true;
        };
        match agent.copy[key] {
            Some(entry) => entry.rev >= row.rev,
            None => row.tombstone && row.settled,
        }
    })
}

/// An object that the ledger does not know would stay for ever.
fn in_ledger(state: &State) -> bool {
    everywhere(state, |agent, ledger, key| {
        agent.cluster[key].is_none_or(|(uid, _)| {
            ledger.rows[key].is_some_and(|row| row.uid == uid && !(row.tombstone && row.settled))
        })
    })
}

/// The cluster is what the ledger says, and the ledger knows it.
fn converged(state: &State) -> bool {
    everywhere(state, |agent, ledger, key| {
        let wanted = ledger.rows[key]
            .filter(|row| !row.tombstone)
            .map(|row| (row.uid, row.generation));
        let settled = ledger.rows[key].is_none_or(|row| row.settled);
        let known = agent.copy[key].is_none_or(|entry| entry.stage == Stage::Confirmed);
        agent.cluster[key] == wanted && settled && known
    })
}

/// `MODEL_AGENTS`, `MODEL_CHANGES` and `MODEL_FAULTS` ask for more than what the tests do.
fn bounds(agents: usize, changes: u8, faults: u8) -> Model {
    let asked = |name: &str| std::env::var(name).ok()?.parse::<u8>().ok();
    Model {
        flaw: Flaw::None,
        agents: asked("MODEL_AGENTS").map_or(agents, usize::from),
        changes: asked("MODEL_CHANGES").unwrap_or(changes),
        faults: asked("MODEL_FAULTS").unwrap_or(faults),
    }
}

/// Every state within the bounds.
fn run(model: Model) -> impl Checker<Model> {
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!(
        "{model:?}: {} states, {} of them different",
        checker.state_count(),
        checker.unique_state_count()
    );
    checker
}

#[test]
fn every_order_of_two_agents_two_replicas_and_three_keys_keeps_the_promises() {
    run(bounds(2, 2, 1)).assert_properties();
}

#[test]
fn each_flaw_is_found() {
    for flaw in [
        Flaw::BookmarkEarly,
        Flaw::DeltaFromHead,
        Flaw::EpochUnchecked,
        Flaw::PurgedUnsettled,
        Flaw::PurgedUndurable,
        Flaw::MemoryCalledDurable,
        Flaw::SentCalledCommitted,
    ] {
        let model = Model {
            flaw,
            agents: 1,
            // two keys that wait need a third change while a session lives
            changes: if flaw == Flaw::BookmarkEarly { 3 } else { 2 },
            faults: 1,
        };
        let checker = model
            .checker()
            .threads(2)
            .finish_when(HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let found = checker
            .discoveries()
            .into_iter()
            .filter(|(name, _)| {
                name.starts_with("nothing")
                    || name.starts_with("what")
                    || name.starts_with("a bookmark")
            })
            .map(|(name, path)| format!("{name}: {:?}", path.into_actions()))
            .collect::<Vec<_>>();
        println!("{flaw:?}\n  {}", found.join("\n  "));
        assert!(!found.is_empty(), "{flaw:?} is not noticed");
    }
}
