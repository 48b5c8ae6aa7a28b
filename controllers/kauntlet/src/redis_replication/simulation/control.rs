//! The controllers: they look, decide, and send requests that arrive late, twice, or never.

use std::collections::BTreeSet;
use std::time::Duration;

use upm_unit_agent::member::record::Role;

use super::server::Write;
use super::{Cluster, STEP, address};
use crate::redis_replication::model::{Seen, World};
use crate::redis_replication::plan::{Action, Inputs, plan};

impl Cluster {
    /// What a controller sees; some of it may be from its last look.
    fn world(&mut self, controller: usize) -> World {
        let mut world = World::default();
        for index in 0..self.servers.len() {
            let server = &self.servers[index];
            let (host, port) = address(index);
            let mut seen = Seen {
                host,
                port,
                pod: self.cube.pod(index),
                ..Seen::default()
            };
            let reaches = server.up && !self.controllers[controller].blind.contains(&index);
            let now = reaches.then(|| server.view(self.online(index), address));
            let earlier = self.faults.blurred && self.dice.one_in(4);
            let views = &mut self.controllers[controller].views;
            seen.view = match (&now, views.get(&index)) {
                (Some(_), Some(before)) if earlier => Some(before.clone()),
                _ => now.clone(),
            };
            match now {
                Some(now) => views.insert(index, now),
                None => views.remove(&index),
            };
            seen.silent = self.controllers[controller]
                .silent
                .get(&index)
                .copied()
                .unwrap_or_default();
            let name = self.servers[index].name.clone();
            world.members.insert(name, seen);
        }
        world
    }

    pub(super) fn control(&mut self, who: usize) {
        for index in 0..self.servers.len() {
            let server = &self.servers[index];
            let answers =
                server.up && !server.frozen && !self.controllers[who].blind.contains(&index);
            let silent = self.controllers[who].silent.entry(index).or_default();
            *silent = if answers {
                Duration::ZERO
            } else {
                *silent + STEP
            };
        }
        // a sleeping controller still believes what it knew
        if self.controllers[who].awake {
            self.controllers[who].state = self.state.clone();
            self.controllers[who].version = self.version;
        } else if self.dice.one_in(2) {
            return;
        }
        if !self.controllers[who].flying.is_empty() {
            return;
        }
        let world = self.world(who);
        let group = self.group.clone();
        self.cube
            .answer(&group, &self.controllers[who].state, &world);
        let controller = &mut self.controllers[who];
        let state = controller.state.clone();
        controller.memory.note(&group, &state, &world, STEP);
        let decision = plan(Inputs {
            group: &group,
            state: &state,
            world: &world,
            memory: &controller.memory,
        });
        controller.memory.decided(&decision, STEP);
        controller.phase = decision.phase;
        controller.message = format!("{} {:?}", decision.message, decision.missing);
        let version = controller.version;
        let mut flying = Vec::new();
        for action in decision.actions {
            if let Action::Promise {
                members,
                besides,
                epoch,
            } = action
            {
                for member in members.into_iter().chain(besides) {
                    let arrives = self.dice.below(4) as u32;
                    flying.push((
                        arrives,
                        version,
                        Action::Promise {
                            members: vec![member],
                            besides: Vec::new(),
                            epoch,
                        },
                    ));
                }
            } else {
                flying.push((self.dice.below(4) as u32, version, action));
            }
        }
        self.controllers[who].flying = flying;
    }

    pub(super) fn deliver(&mut self, who: usize) {
        let flying = std::mem::take(&mut self.controllers[who].flying);
        let mut left = Vec::new();
        for (steps, known, action) in flying {
            if steps > 0 {
                left.push((steps - 1, known, action));
                continue;
            }
            if self.dice.one_in(40) {
                continue; // lost
            }
            if self.dice.one_in(40) {
                left.push((self.dice.below(20) as u32, known, action.clone())); // arrives twice
            }
            self.execute(who, known, action);
        }
        self.controllers[who].flying.extend(left);
    }

    fn execute(&mut self, who: usize, known: u64, action: Action) {
        let member = match &action {
            Action::Record(change) => {
                if known == self.version && self.unwritable == 0 {
                    assert!(change.epoch >= self.state.epoch, "epochs only grow");
                    self.note(|| format!("c{who} records {change:?}"));
                    self.version += 1;
                    change.enter(&mut self.state);
                    if change
                        .evidence
                        .is_some_and(|evidence| evidence.at_risk().is_some())
                    {
                        assert!(
                            self.faults.power || self.faults.bounded,
                            "a loss is accepted only after a power loss of all, or when the user takes it"
                        );
                        let winner = self.index(&change.primary);
                        let held: BTreeSet<Write> =
                            self.servers[winner].log.iter().copied().collect();
                        self.confirmed.retain(|write| held.contains(write));
                    }
                    self.history.push(self.state.clone());
                    let (state, version) = (self.state.clone(), self.version);
                    let controller = &mut self.controllers[who];
                    (controller.state, controller.version) = (state, version);
                }
                return;
            }
            Action::Promise { members, .. } => members[0].clone(),
            Action::Grant { member, .. }
            | Action::Follow { member, .. }
            | Action::Pause { member, .. }
            | Action::Resume { member, .. }
            | Action::Await { member, .. } => member.clone(),
        };
        let index = self.index(&member);
        if !self.servers[index].up || self.controllers[who].blind.contains(&index) {
            return;
        }
        let primary = match &action {
            Action::Follow { host, .. } => {
                (0..self.servers.len()).find(|index| address(*index).0 == *host)
            }
            _ => None,
        };
        let server = &mut self.servers[index];
        let done = match &action {
            Action::Promise { epoch, .. } => server.promise(*epoch),
            Action::Grant {
                epoch,
                min_replicas,
                at,
                member_id,
                admitted,
                group,
                record_version,
                ..
            } => server.lead(
                *epoch,
                *min_replicas,
                at,
                member_id,
                (admitted, group, *record_version),
            ),
            Action::Follow {
                epoch,
                replid,
                offset,
                ..
            } => server.follow(*epoch, primary.unwrap(), replid, *offset),
            Action::Pause { epoch, .. } => server.pause(*epoch),
            Action::Resume { epoch, .. } => server.resume(*epoch),
            Action::Await { .. } | Action::Record(_) => true,
        };
        self.note(|| format!("c{who} {action:?}: {done}"));
        if done
            && matches!(action, Action::Grant { .. })
            && self.servers[index].live == Some(Role::Primary)
        {
            self.check_log(index);
        }
    }
}
