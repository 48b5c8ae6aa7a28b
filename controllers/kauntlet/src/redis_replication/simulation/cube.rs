//! What restarts members one by one: it asks for each, ends it some time after it was let go, and asks for the next one when it is back.

use std::collections::BTreeMap;

use super::Cluster;
use crate::redis_replication::leave::{self, Answer};
use crate::redis_replication::model::{Group, Leave, Pod, State, World};

/// The controller of pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Cube {
    /// How often each pod was made anew.
    made: BTreeMap<usize, u64>,
    /// Members that still have to be restarted; the first one is asked to leave.
    wanted: Vec<usize>,
    granted: bool,
}

impl Cube {
    /// All members shall be restarted, from the last one down.
    pub(super) fn begin(&mut self, size: usize) {
        if self.wanted.is_empty() {
            self.wanted = (0..size).collect();
            self.granted = false;
        }
    }

    /// Whether nobody has to be restarted any more.
    pub(super) fn is_done(&self) -> bool {
        self.wanted.is_empty()
    }

    fn asks(&self) -> Option<usize> {
        self.wanted.last().copied()
    }

    fn uid(&self, index: usize) -> String {
        let made = self.made.get(&index).copied().unwrap_or_default();
        format!("pod-{index}-{made}")
    }

    pub(super) fn pod(&self, index: usize) -> Pod {
        Pod {
            uid: self.uid(index),
            leave: (self.asks() == Some(index)).then(|| Leave {
                reason: "Restart".to_owned(),
                granted: self.granted,
            }),
            ..Pod::default()
        }
    }

    /// A controller answers, with what it sees and knows.
    pub(super) fn answer(&mut self, group: &Group, state: &State, world: &World) {
        let Some(index) = self.asks() else { return };
        let name = format!("r-{index}");
        self.granted |= leave::answer(group, state, world, &name) == Some(Answer::Granted);
    }
}

impl Cluster {
    /// Ends the pod that was let go; one that does not run was ended by something else, and is exempt.
    pub(super) fn roll_out(&mut self) {
        let Some(index) = self.cube.asks() else {
            return;
        };
        let goes = self.cube.granted || !self.servers[index].up;
        if !goes || !self.dice.one_in(5) {
            return;
        }
        self.note(|| format!("{index} is restarted"));
        let rewrites = self.dice.below(6) as u32;
        self.servers[index].restart(rewrites);
        *self.cube.made.entry(index).or_default() += 1;
        self.cube.wanted.pop();
        self.cube.granted = false;
    }
}
