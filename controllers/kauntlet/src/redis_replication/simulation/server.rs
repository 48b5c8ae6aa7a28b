//! A model of one member: a Redis server with its append-only file, under the unit agent's real rules.

use std::collections::BTreeSet;

use upm_unit_agent::info::{Info, PARKED};
use upm_unit_agent::member::append_only::may_save;
use upm_unit_agent::member::record::{Record, Role};
use upm_unit_agent::member::rules::{self, Elected, History};

use crate::redis_replication::model::{self, Live, View};

pub(super) type Write = u64;

#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) name: String,
    /// Whether its pod runs.
    pub(super) up: bool,
    pub(super) frozen: bool,
    pub(super) run: u64,
    pub(super) record: Record,
    pub(super) live: Option<Role>,
    pub(super) paused: bool,
    pub(super) min_replicas: i32,
    pub(super) log: Vec<Write>,
    pub(super) replid: String,
    pub(super) replid2: String,
    pub(super) second: i64,
    pub(super) offset: i64,
    pub(super) follows: Option<usize>,
    pub(super) link: bool,
    /// Steps until a full copy is there.
    pub(super) copying: Option<u32>,
    /// Steps until the append-only file is whole again.
    pub(super) rewriting: Option<u32>,
    pub(super) io_age: i64,
    /// What the file holds, and how much of that is on the disk.
    pub(super) file: Vec<Write>,
    pub(super) synced: usize,
    /// The position that the disk is known to hold, and what of that this run found.
    pub(super) noted: (String, i64),
    found: (String, i64),
    /// Member ids that may replicate from it.
    pub(super) admitted: BTreeSet<String>,
    /// The same as it tells: a parked one tells none.
    told_admitted: BTreeSet<String>,
    record_version: i64,
    fresh: u64,
    born: u64,
}

impl Server {
    pub(super) fn new(index: usize) -> Self {
        let mut server = Self {
            name: format!("r-{index}"),
            up: true,
            frozen: false,
            run: index as u64 * 1_000_000,
            record: Record::default(),
            live: None,
            paused: false,
            min_replicas: 1000,
            log: Vec::new(),
            replid: String::new(),
            replid2: String::new(),
            second: -1,
            offset: 0,
            follows: None,
            link: false,
            copying: None,
            rewriting: None,
            io_age: -1,
            file: Vec::new(),
            synced: 0,
            noted: (String::new(), 0),
            found: (String::new(), 0),
            admitted: BTreeSet::new(),
            told_admitted: BTreeSet::new(),
            record_version: 0,
            fresh: index as u64 * 1_000_000,
            born: index as u64 * 1_000_000,
        };
        server.wipe();
        server
    }

    /// The pod comes back with a new volume.
    pub(super) fn wipe(&mut self) {
        self.kill();
        self.born += 1;
        self.record = Record {
            member_id: format!("{:032x}", self.born),
            ..Record::default()
        };
        self.file.clear();
        self.synced = 0;
        self.rewriting = None;
        self.noted = (String::new(), 0);
        self.boot();
        self.record.aof_current = true;
    }

    /// Two pods come back with each other's volume.
    pub(super) fn swap_volumes(&mut self, other: &mut Self) {
        self.kill();
        other.kill();
        std::mem::swap(&mut self.record, &mut other.record);
        std::mem::swap(&mut self.file, &mut other.file);
        std::mem::swap(&mut self.synced, &mut other.synced);
        std::mem::swap(&mut self.noted, &mut other.noted);
        std::mem::swap(&mut self.rewriting, &mut other.rewriting);
        self.boot();
        other.boot();
    }

    /// The second passes in which the disk is synced.
    pub(super) fn sync(&mut self) {
        self.synced = self.file.len();
        if self.live.is_some() && self.rewriting.is_none() && self.copying.is_none() {
            self.noted = (self.replid.clone(), self.offset);
        }
    }

    fn new_replid(&mut self) -> String {
        self.fresh += 1;
        format!("id{}", self.fresh)
    }

    pub(super) fn info(&self) -> Info {
        Info {
            run_id: self.run.to_string(),
            replid: self.replid.clone(),
            replid2: self.replid2.clone(),
            second_offset: self.second,
            offset: self.offset,
            master: self.live == Some(Role::Primary),
            aof_current: self.rewriting.is_none() && self.copying.is_none(),
            append_ok: true,
            append_only: true,
            primary_host: PARKED.0.to_owned(),
            primary_port: self
                .follows
                .map_or(PARKED.1, |primary| PARKED.1 + 1 + primary as i32),
            ..Info::default()
        }
    }

    /// The process ends; everything in memory is gone.
    pub(super) fn kill(&mut self) {
        self.frozen = false;
        self.link = false;
        self.live = None;
        self.paused = false;
        self.copying = None;
    }

    /// The process is ended and starts again. One that was let go ends politely: it returns with a snapshot, and its append-only file is
    /// whole after so many steps.
    pub(super) fn restart(&mut self, rewrites: u32) {
        let polite = self.up && !self.frozen && self.live.is_none();
        let saved = polite && may_save(&self.record, &self.info());
        let snapshot = (self.log.clone(), self.replid.clone(), self.offset);
        self.kill();
        self.boot();
        if saved {
            (self.log, self.replid, self.offset) = snapshot;
            self.record.aof_current = false;
            self.rewriting = Some(rewrites);
        }
    }

    /// The machine restarts: what was not synced is gone.
    pub(super) fn power_loss(&mut self) {
        self.kill();
        self.file.truncate(self.synced);
        self.record.host_restarted = true;
        self.up = false;
    }

    /// The process starts, parked.
    pub(super) fn boot(&mut self) {
        self.kill();
        self.up = true;
        self.run += 1;
        let whole = self.record.aof_current && self.rewriting.is_none();
        self.record.aof_current &= whole;
        self.record.aof_intact &= whole;
        self.rewriting = None;
        self.admitted.clear();
        self.told_admitted.clear();
        self.record_version = 0;
        self.found = self.noted.clone();
        self.log.clone_from(&self.file);
        self.replid = self.new_replid();
        self.replid2 = String::new();
        self.second = -1;
        self.offset = 0;
        self.follows = None;
        self.io_age = -1;
        self.min_replicas = 1000;
        // loaded: the file holds what the server has
        self.record.aof_current = true;
    }

    pub(super) fn park(&mut self) {
        self.live = None;
        self.follows = None;
        self.link = false;
        self.copying = None;
        self.paused = false;
        self.min_replicas = 1000;
        self.told_admitted.clear();
        self.record_version = 0;
    }

    pub(super) fn append(&mut self, write: Write) {
        self.log.push(write);
        self.offset += 1;
        if self.rewriting.is_none() {
            self.file.push(write);
        }
    }

    pub(super) fn promise(&mut self, epoch: i64) -> bool {
        let Ok(next) = rules::promise(&self.record, epoch) else {
            return false;
        };
        self.record = next;
        if self.frozen {
            self.kill();
            self.boot();
        } else {
            self.park();
        }
        true
    }

    pub(super) fn follow(&mut self, epoch: i64, primary: usize, replid: &str, offset: i64) -> bool {
        if self.frozen {
            if self.live == Some(Role::Primary)
                && let Ok(next) = rules::promise(&self.record, epoch)
            {
                self.record = next;
                self.kill();
                self.boot();
            }
            return false;
        }
        let history = History {
            replid: replid.to_owned(),
            offset,
            host: format!("10.0.0.{primary}"),
            port: 6379,
        };
        let Ok(mut next) = rules::follow(&self.record, epoch, &history, &self.info()) else {
            return false;
        };
        let there = self.follows == Some(primary) && self.live == Some(Role::Replica);
        next.aof_current &= there && self.link;
        self.record = next;
        if !there {
            self.park();
            self.follows = Some(primary);
        }
        self.live = Some(Role::Replica);
        true
    }

    pub(super) fn lead(
        &mut self,
        epoch: i64,
        min_replicas: i32,
        at: &model::Position,
        member_id: &str,
        (admitted, group, record_version): (&BTreeSet<String>, &BTreeSet<String>, i64),
    ) -> bool {
        if self.frozen {
            return false;
        }
        let leading = self.live == Some(Role::Primary);
        let elected = Elected {
            replid: at.replid.clone(),
            offset: at.offset,
            member_id: member_id.to_owned(),
        };
        if leading && record_version < self.record_version {
            return false;
        }
        let Ok(next) = rules::lead(
            &self.record,
            epoch,
            min_replicas,
            &elected,
            group,
            leading,
            &self.info(),
        ) else {
            return false;
        };
        self.record = next;
        if !leading {
            self.park();
            self.replid2 = self.replid.clone();
            self.second = self.offset + 1;
            self.replid = self.new_replid();
        }
        self.admitted.clone_from(admitted);
        self.told_admitted.clone_from(admitted);
        self.record_version = record_version;
        self.live = Some(Role::Primary);
        self.min_replicas = if self.paused { 1000 } else { min_replicas };
        true
    }

    pub(super) fn pause(&mut self, epoch: i64) -> bool {
        let holds = rules::holds(&self.record, epoch, self.live == Some(Role::Primary)).is_ok();
        if self.frozen || !holds {
            return false;
        }
        self.paused = true;
        self.min_replicas = 1000;
        true
    }

    pub(super) fn resume(&mut self, epoch: i64) -> bool {
        let holds = rules::holds(&self.record, epoch, self.live == Some(Role::Primary));
        let (false, Ok(min_replicas)) = (self.frozen, holds) else {
            return false;
        };
        self.paused = false;
        self.min_replicas = min_replicas;
        true
    }

    /// What the unit agent tells; `address` turns a member into its address.
    pub(super) fn view(&self, online: usize, address: impl Fn(usize) -> (String, i32)) -> View {
        let grant = self.record.grant.as_ref();
        let standing = match rules::standing(&self.record, &self.info()) {
            rules::Standing::Untold => model::Standing::Untold,
            rules::Standing::Continuous => model::Standing::Continuous,
            rules::Standing::Unsynced => model::Standing::Unsynced,
            rules::Standing::Synced => model::Standing::Synced,
            rules::Standing::Interrupted => model::Standing::Interrupted,
        };
        let mut view = View {
            reachable: !self.frozen,
            unresponsive: self.frozen,
            live: match self.live {
                None => Live::Parked,
                Some(Role::Replica) => Live::Replica,
                Some(Role::Primary) => Live::Primary,
            },
            recorded: grant.map(|grant| match grant.role {
                Role::Primary => model::Role::Primary,
                Role::Replica => model::Role::Replica,
            }),
            grant_epoch: grant.map_or(0, |grant| grant.epoch),
            promised: self.record.promised_epoch,
            aof_intact: self.record.aof_intact,
            host_restarted: self.record.host_restarted,
            paused: self.paused,
            min_replicas: self.min_replicas,
            primary_replid: grant
                .map(|grant| grant.primary_replid.clone())
                .unwrap_or_default(),
            io_age: -1,
            second_offset: -1,
            member_id: self.record.member_id.clone(),
            admitted: self.told_admitted.clone(),
            record_version: self.record_version,
            group: grant.map(|grant| grant.group.clone()).unwrap_or_default(),
            recorded_position: self.found.clone(),
            ..View::default()
        };
        if !self.frozen {
            view.standing = standing;
            view.replid.clone_from(&self.replid);
            view.replid2.clone_from(&self.replid2);
            view.second_offset = self.second;
            view.offset = self.offset;
            view.follows = self
                .follows
                .map_or_else(|| ("127.0.0.1".to_owned(), 1), address);
            view.link_up = self.link;
            view.syncing = self.copying.is_some();
            view.io_age = self.io_age;
            view.online = online;
            view.keys = self.log.len() as i64;
            view.persistence_healthy = true;
        }
        view
    }
}
