//! The faults.

use super::{Cluster, Controller, Volumes};
use crate::redis_replication::model::Request;

impl Cluster {
    pub(super) fn fault(&mut self) {
        let size = self.servers.len();
        let index = self.dice.below(size);
        let kind = self.dice.below(15);
        self.note(|| format!("fault {kind} at {index}"));
        if self.faults.volumes != Volumes::Stay && self.dice.one_in(8) {
            self.disturb(index);
            return;
        }
        if self.faults.blurred && self.dice.one_in(6) {
            self.unwritable = self.dice.below(120) as u32;
            return;
        }
        if self.faults.leaves && self.dice.one_in(3) {
            self.cube.begin(size);
            return;
        }
        match kind {
            0 => {
                let rewrites = self.dice.below(6) as u32;
                self.servers[index].restart(rewrites);
            }
            1 => {
                self.servers[index].kill();
                self.servers[index].up = false;
            }
            2 | 3 => {
                if !self.servers[index].up {
                    self.servers[index].boot();
                }
            }
            4 => {
                if self.servers[index].up {
                    self.servers[index].frozen = true;
                }
            }
            5 => self.servers[index].frozen = false,
            6 => {
                let other = self.dice.below(size);
                if other != index {
                    self.cut.insert((index.min(other), index.max(other)));
                }
            }
            7 => self.cut.clear(),
            8 => {
                let who = self.dice.below(2);
                self.controllers[who].blind.insert(index);
            }
            9 => {
                for controller in &mut self.controllers {
                    controller.blind.clear();
                }
            }
            10 => {
                // the leader dies; what it sent is still on its way, from a controller that no longer knows anything
                let (mut old, mut new) = (self.controllers.remove(0), self.controllers.remove(0));
                old.awake = false;
                new = Controller {
                    awake: true,
                    flying: new.flying,
                    blind: new.blind,
                    ..Controller::default()
                };
                self.controllers = vec![new, old];
            }
            // a member is left out, or taken in again
            12 | 13 if self.state.primary.as_deref() != Some(&self.servers[index].name) => {
                let node = self
                    .group
                    .members
                    .get_mut(&self.servers[index].name)
                    .unwrap();
                node.isolated = !node.isolated;
            }
            // always the same machine: when all lose power, the last second is gone everywhere
            11 if self.faults.power && self.dice.one_in(2) => self.servers[1].power_loss(),
            11 if self.faults.power => {
                for server in &mut self.servers {
                    server.power_loss();
                }
            }
            11 => {
                for server in &mut self.servers {
                    server.kill();
                    server.boot();
                }
            }
            _ => {
                let epoch = self.state.epoch;
                let target = if self.dice.one_in(2) {
                    String::new()
                } else {
                    format!("r-{index}")
                };
                let id = format!("request-{}", self.dice.roll());
                self.group.request = Some(Request {
                    id,
                    target,
                    expected_epoch: Some(epoch),
                });
            }
        }
    }

    /// Volumes or the record are not what they were.
    fn disturb(&mut self, index: usize) {
        match self.faults.volumes {
            Volumes::Stay => {}
            Volumes::Change => {
                let other = (index + 1) % self.servers.len();
                if self.dice.one_in(3) {
                    self.note(|| format!("volumes of {index} and {other} are exchanged"));
                    let (low, high) = (index.min(other), index.max(other));
                    let (first, second) = self.servers.split_at_mut(high);
                    first[low].swap_volumes(&mut second[0]);
                } else {
                    self.note(|| format!("{index} has a new volume"));
                    self.servers[index].wipe();
                }
            }
            Volumes::RecordRollsBack => {
                let earlier = self.dice.below(self.history.len());
                if let Some(state) = self.history.get(earlier).cloned() {
                    self.note(|| format!("the record is put back to {state:?}"));
                    self.version += 1;
                    self.state = state;
                }
            }
        }
    }
}
