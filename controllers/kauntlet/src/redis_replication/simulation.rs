//! Random faults against the real plan and the real rules of the unit agent: crashes, freezes, power losses, partitions, two controllers
//! of which one sleeps, requests that arrive late or twice or never. Checked at every step: no confirmed write is ever missing in a
//! member that takes writes, one member per epoch confirms, epochs only grow; and at the end, when all faults are over: healthy.

mod server;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use server::{Server, Write};
use upm_unit_agent::member::record::Role;

use super::model::{Group, Node, Request, Seen, State, World};
use super::plan::{Action, Inputs, Memory, Phase, plan};

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
    power: bool,
    /// What else may happen.
    volumes: Volumes,
    /// Every record that there was.
    history: Vec<State>,
    trace: Vec<String>,
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
    fn new(seed: u64, size: usize, power: bool, volumes: Volumes) -> Self {
        let mut group = Group {
            source: "r-0".to_owned(),
            generation: 1,
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
            power,
            volumes,
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

    // --- the data plane

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

    // --- the control plane

    fn world(&self, controller: usize) -> World {
        let mut world = World::default();
        for (index, server) in self.servers.iter().enumerate() {
            let (host, port) = address(index);
            let mut seen = Seen {
                host,
                port,
                ..Seen::default()
            };
            let reaches = server.up && !self.controllers[controller].blind.contains(&index);
            seen.view = reaches.then(|| server.view(self.online(index), address));
            seen.silent = self.controllers[controller]
                .silent
                .get(&index)
                .copied()
                .unwrap_or_default();
            world.members.insert(server.name.clone(), seen);
        }
        world
    }

    fn control(&mut self, who: usize) {
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

    fn deliver(&mut self, who: usize) {
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
                if known == self.version {
                    assert!(change.epoch >= self.state.epoch, "epochs only grow");
                    self.note(|| format!("c{who} records {change:?}"));
                    self.version += 1;
                    change.enter(&mut self.state);
                    if change
                        .evidence
                        .is_some_and(|evidence| evidence.at_risk().is_some())
                    {
                        assert!(
                            self.power,
                            "a loss is accepted only after a power loss of all"
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

    // --- the faults

    fn fault(&mut self) {
        let size = self.servers.len();
        let index = self.dice.below(size);
        let kind = self.dice.below(15);
        self.note(|| format!("fault {kind} at {index}"));
        if self.volumes != Volumes::Stay && self.dice.one_in(8) {
            self.disturb(index);
            return;
        }
        match kind {
            0 => {
                self.servers[index].kill();
                self.servers[index].boot();
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
            11 if self.power && self.dice.one_in(2) => self.servers[1].power_loss(),
            11 if self.power => {
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
        match self.volumes {
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

    fn step(&mut self) {
        self.replicate();
        self.clients();
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

/// Returns whether nobody could be elected safely in the end.
fn run(seed: u64, size: usize, power: bool, volumes: Volumes, faults: usize) -> bool {
    let mut cluster = Cluster::new(seed, size, power, volumes);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..60 {
            cluster.step();
        }
        let set_up = cluster.healthy();
        assert!(set_up.is_ok(), "set up: {set_up:?}");
        for _ in 0..faults {
            cluster.fault();
            for _ in 0..cluster.dice.below(40) {
                cluster.step();
            }
        }
        cluster.note(|| "all faults are over".to_owned());
        cluster.cut.clear();
        for node in cluster.group.members.values_mut() {
            node.isolated = false;
        }
        for index in 0..size {
            cluster.servers[index].frozen = false;
            if !cluster.servers[index].up {
                cluster.servers[index].boot();
            }
        }
        // without its lease a controller ends
        cluster.controllers.truncate(1);
        cluster.controllers[0].blind.clear();
        for _ in 0..400 {
            cluster.step();
        }
        // when machines lost power together with what only they had, refusing is the right answer
        let may_refuse = cluster.power || cluster.volumes == Volumes::Change;
        let refused = may_refuse && cluster.controllers[0].phase == Phase::Refused;
        let healthy = cluster.healthy();
        assert!(refused || healthy.is_ok(), "healed: {healthy:?}");
        refused
    }));
    let error = match outcome {
        Ok(refused) => return refused,
        Err(error) => error,
    };
    {
        for line in cluster.trace.iter().rev().take(60).rev() {
            println!("{line}");
        }
        for server in &mut cluster.servers {
            server.log.drain(..server.log.len().saturating_sub(12));
            server.file.drain(..server.file.len().saturating_sub(12));
            println!("{server:?}");
        }
        println!(
            "state {:?}\nseed {seed}, {size} members, power losses {power}",
            cluster.state
        );
        std::panic::resume_unwind(error);
    }
}

fn seeds() -> u64 {
    std::env::var("SIMULATION_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(60)
}

#[test]
fn loses_nothing_and_heals_with_three_members() {
    for seed in 0..seeds() {
        run(seed, 3, false, Volumes::Stay, 40);
    }
}

#[test]
fn loses_nothing_and_heals_with_two_and_with_five_members() {
    for seed in 0..seeds() / 2 {
        run(1_000_000 + seed, 2, false, Volumes::Stay, 30);
        run(2_000_000 + seed, 5, false, Volumes::Stay, 40);
    }
}

#[test]
fn loses_nothing_when_machines_lose_power() {
    for seed in 0..seeds() {
        run(3_000_000 + seed, 3, true, Volumes::Stay, 30);
    }
}

#[test]
fn loses_nothing_when_volumes_are_replaced_or_exchanged() {
    let mut refused = 0;
    for seed in 0..seeds() {
        refused += u64::from(run(4_000_000 + seed, 3, false, Volumes::Change, 30));
        refused += u64::from(run(5_000_000 + seed, 5, false, Volumes::Change, 30));
    }
    println!("{refused} of {} groups refused in the end", 2 * seeds());
}

#[test]
fn loses_nothing_and_heals_when_the_record_rolls_back() {
    for seed in 0..seeds() {
        run(6_000_000 + seed, 3, false, Volumes::RecordRollsBack, 30);
    }
}
