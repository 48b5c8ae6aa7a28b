//! Random faults against the real plan and the real rules of the unit agent: crashes, freezes, power losses, partitions, two controllers
//! of which one sleeps, requests that arrive late or twice or never. Checked at every step: no confirmed write is ever missing in a
//! member that takes writes, one member per epoch confirms, epochs only grow; and at the end, when all faults are over: healthy.

mod control;
mod cube;
mod faults;
mod server;
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use cube::Cube;
use server::{Server, Write};
use upm_unit_agent::member::record::Role;

use super::model::{Group, Node, State, View};
use super::plan::{Action, Memory, Phase};

const STEP: Duration = Duration::from_millis(100);

/// Small, fast, repeatable.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.roll() % most.max(1) as u64) as usize
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

#[derive(Clone, Debug)]
struct Pending {
    write: Write,
    at: usize,
    run: u64,
    replid: String,
    offset: i64,
    acknowledged: bool,
}

#[derive(Clone, Debug, Default)]
struct Controller {
    state: State,
    version: u64,
    memory: Memory,
    silent: HashMap<usize, Duration>,
    /// Requests on their way: when they arrive, and the version of the record they were decided from.
    flying: Vec<(u32, u64, Action)>,
    awake: bool,
    phase: Phase,
    message: String,
    blind: BTreeSet<usize>,
    /// What it saw of each member the last time.
    views: HashMap<usize, View>,
}

struct Cluster {
    dice: Dice,
    servers: Vec<Server>,
    cut: BTreeSet<(usize, usize)>,
    state: State,
    version: u64,
    group: Group,
    controllers: Vec<Controller>,
    pending: Vec<Pending>,
    confirmed: BTreeSet<Write>,
    confirmers: BTreeMap<i64, usize>,
    next_write: Write,
    faults: Faults,
    /// Restarts members one by one.
    cube: Cube,
    /// Steps for which the record cannot be written.
    unwritable: u32,
    /// Every record that there was.
    history: Vec<State>,
    trace: Vec<String>,
}

/// What may happen beside what always may: crashes, freezes, partitions, late requests, switchovers.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// Machines lose power, one and all.
    power: bool,
    /// What happens to volumes and to the record.
    volumes: Volumes,
    /// Members are asked to leave, one after another, as in a rolling restart.
    leaves: bool,
    /// The record cannot be written for a while, and members are seen at different moments.
    blurred: bool,
    /// A loss is accepted after a while of refusal (`Bounded`).
    bounded: bool,
}

/// What happens to volumes and to the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Volumes {
    /// Nothing.
    #[default]
    Stay,
    /// They are replaced by new ones, and exchanged.
    Change,
    /// The record is put back to an earlier one.
    RecordRollsBack,
}

fn address(index: usize) -> (String, i32) {
    (format!("10.0.0.{index}"), 6379)
}

impl Cluster {
    fn new(seed: u64, size: usize, faults: Faults) -> Self {
        let mut group = Group {
            source: "r-0".to_owned(),
            generation: 1,
            bounded_loss: faults.bounded,
            ..Group::default()
        };
        for index in 0..size {
            let (host, port) = address(index);
            group.members.insert(
                format!("r-{index}"),
                Node {
                    host,
                    port,
                    ..Node::default()
                },
            );
        }
        let controllers = vec![
            Controller {
                awake: true,
                ..Controller::default()
            },
            Controller::default(),
        ];
        Self {
            dice: Dice(seed),
            servers: (0..size).map(Server::new).collect(),
            cut: BTreeSet::new(),
            state: State::default(),
            version: 0,
            group,
            controllers,
            pending: Vec::new(),
            confirmed: BTreeSet::new(),
            confirmers: BTreeMap::new(),
            next_write: 0,
            faults,
            cube: Cube::default(),
            unwritable: 0,
            history: Vec::new(),
            trace: Vec::new(),
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        self.trace.push(what());
    }

    fn linked(&self, a: usize, b: usize) -> bool {
        !self.cut.contains(&(a.min(b), a.max(b)))
    }

    fn index(&self, name: &str) -> usize {
        self.servers
            .iter()
            .position(|server| server.name == name)
            .unwrap()
    }

    fn online(&self, primary: usize) -> usize {
        self.servers
            .iter()
            .filter(|server| server.link && server.follows == Some(primary))
            .count()
    }

    fn takes_writes(&self, index: usize) -> bool {
        let server = &self.servers[index];
        server.up
            && !server.frozen
            && server.live == Some(Role::Primary)
            && !server.paused
            && self.online(index) as i32 >= server.min_replicas
    }

    fn replicate(&mut self) {
        for index in 0..self.servers.len() {
            let server = &self.servers[index];
            if !server.up || server.frozen {
                continue;
            }
            if let Some(left) = server.rewriting {
                let server = &mut self.servers[index];
                server.rewriting = left.checked_sub(1);
                if server.rewriting.is_none() {
                    server.file = server.log.clone();
                    server.record.aof_current = true;
                }
            }
            if self.dice.one_in(5) {
                self.servers[index].sync();
            }
            let Some(primary) = self.servers[index].follows else {
                continue;
            };
            let source = self.servers[primary].clone();
            let reaches = source.up && self.linked(index, primary);
            let server = &mut self.servers[index];
            if reaches && !source.admitted.contains(&server.record.member_id) {
                server.link = false;
                server.copying = None;
                continue;
            }
            if !reaches {
                // a cut network is noticed late, an ended process at once
                if !source.up || server.io_age > 30 {
                    server.link = false;
                }
                server.copying = None;
                server.io_age += 1;
                continue;
            }
            if source.frozen {
                server.io_age += 1;
                continue;
            }
            // a member that does not lead passes on what it has; a parked one lets nobody copy it
            if source.live.is_none() && !server.link {
                continue;
            }
            self.pull(index, &source);
        }
    }

    /// One step of replication; slow at random.
    fn pull(&mut self, index: usize, source: &Server) {
        if self.dice.one_in(3) {
            return;
        }
        let some = self.dice.below(4) as i64;
        let copying_for = self.dice.below(6) as u32;
        let server = &mut self.servers[index];
        server.io_age = 0;
        let same = server.replid == source.replid && server.offset <= source.offset;
        let before = server.replid == source.replid2 && server.offset < source.second;
        if same || before {
            if before {
                server.replid2 = std::mem::replace(&mut server.replid, source.replid.clone());
                server.second = server.offset + 1;
            }
            server.copying = None;
            server.link = true;
            let behind = (source.offset - server.offset) as usize;
            let start = source.log.len() - behind;
            assert_eq!(
                server.log.len(),
                start,
                "{}: a history means one log",
                server.name
            );
            assert_eq!(
                server.log[..],
                source.log[..start],
                "{}: a history means one log",
                server.name
            );
            for write in source.log[start..].iter().take(some as usize) {
                server.append(*write);
            }
            return;
        }
        server.link = false;
        match server.copying {
            None => {
                server.copying = Some(copying_for);
                server.record.aof_current = false;
            }
            Some(0) => {
                server.copying = None;
                server.log = source.log.clone();
                server.replid = source.replid.clone();
                server.replid2 = source.replid2.clone();
                server.second = source.second;
                server.offset = source.offset;
                server.rewriting = Some(copying_for);
                server.link = true;
            }
            Some(left) => server.copying = Some(left - 1),
        }
    }

    fn clients(&mut self) {
        for index in 0..self.servers.len() {
            if !self.takes_writes(index) {
                continue;
            }
            self.check_log(index);
            for _ in 0..self.dice.below(3) {
                self.next_write += 1;
                let write = self.next_write;
                let server = &mut self.servers[index];
                server.append(write);
                self.pending.push(Pending {
                    write,
                    at: index,
                    run: server.run,
                    replid: server.replid.clone(),
                    offset: server.offset,
                    acknowledged: false,
                });
            }
        }
        for pending in &mut self.pending {
            pending.acknowledged |= self.servers.iter().any(|server| {
                server.link
                    && server.follows == Some(pending.at)
                    && server.replid == pending.replid
                    && server.offset >= pending.offset
            });
        }
        let mut waiting = std::mem::take(&mut self.pending);
        waiting.retain(|pending| {
            let server = &self.servers[pending.at];
            if server.run != pending.run || !server.up || server.live != Some(Role::Primary) {
                return false;
            }
            if server.frozen || !pending.acknowledged || self.dice.one_in(3) {
                return true;
            }
            let epoch = server.record.grant.as_ref().unwrap().epoch;
            let first = *self.confirmers.entry(epoch).or_insert(pending.at);
            assert_eq!(
                first, pending.at,
                "two members confirm writes of epoch {epoch}"
            );
            self.confirmed.insert(pending.write);
            false
        });
        self.pending = waiting;
    }

    /// A member that takes writes holds everything confirmed in earlier epochs.
    fn check_log(&self, index: usize) {
        let server = &self.servers[index];
        let epoch = server.record.grant.as_ref().unwrap().epoch;
        if epoch < self.state.epoch && self.state.primary.as_deref() != Some(&server.name) {
            return; // deposed; it confirms nothing any more, which the epochs' confirmers check
        }
        let held: BTreeSet<&Write> = server.log.iter().collect();
        if let Some(lost) = self.confirmed.iter().find(|write| !held.contains(write)) {
            panic!(
                "{} takes writes in epoch {epoch} without the confirmed write {lost}",
                server.name
            );
        }
    }

    fn step(&mut self) {
        self.unwritable = self.unwritable.saturating_sub(1);
        if let Some(last) = &mut self.state.last {
            last.ago += STEP;
        }
        self.replicate();
        self.clients();
        self.roll_out();
        for who in 0..self.controllers.len() {
            self.control(who);
            self.deliver(who);
        }
    }

    fn healthy(&self) -> Result<(), String> {
        let primary = self.state.primary.as_deref().ok_or("no primary")?;
        let index = self.index(primary);
        let leader = &self.servers[index];
        if !self.takes_writes(index)
            || leader.record.grant.as_ref().map(|grant| grant.epoch) != Some(self.state.epoch)
        {
            return Err(format!(
                "{primary} does not take writes: {:?}",
                self.controllers[0].message
            ));
        }
        for (other, server) in self.servers.iter().enumerate() {
            if other != index && !(server.link && server.follows == Some(index)) {
                return Err(format!(
                    "{} does not follow: {:?}",
                    server.name, self.controllers[0].message
                ));
            }
        }
        Ok(())
    }
}
