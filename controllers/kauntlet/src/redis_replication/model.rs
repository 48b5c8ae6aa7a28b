//! What decisions are made from: the group as it is wanted, what its status remembers, and what is seen now. No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use upm_proto::unit::v1 as pb;

/// The group as its spec wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The members by name, with the recorded primary and the ackers even when the spec no longer names them.
    pub members: BTreeMap<String, Node>,
    /// `spec.source.name`.
    pub source: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `spec.switchover`.
    pub request: Option<Request>,
    /// Whether an election may lose confirmed writes after a while.
    pub bounded_loss: bool,
    /// `spec.failover`.
    pub acceptance: Option<Acceptance>,
    /// The group has served before: members that are all new and empty have lost its data.
    pub has_served: bool,
    /// Whether topology is left alone.
    pub skip: bool,
}

/// A member as the spec names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Host.
    pub host: String,
    /// Port.
    pub port: i32,
    /// Left out of routes and elections.
    pub isolated: bool,
    /// The spec no longer names it.
    pub removed: bool,
}

/// A wanted change of the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Its unique name.
    pub id: String,
    /// The wanted primary; empty for the best replica.
    pub target: String,
    /// The epoch it was made in.
    pub expected_epoch: Option<i64>,
}

/// The acceptance of a stated loss.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acceptance {
    /// The epoch that the loss was stated in.
    pub expected_epoch: i64,
    /// Names the loss.
    pub loss_id: String,
}

/// A volume that may have acknowledged, and is not here any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Departed {
    /// Name of the member that had it.
    pub name: String,
    /// Its member id.
    pub id: String,
}

/// A history up to an offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Replication id.
    pub replid: String,
    /// Bytes.
    pub offset: i64,
}

/// Who counted in the epoch before the recorded one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prior {
    /// The epoch.
    pub epoch: i64,
    /// Its primary.
    pub primary: String,
    /// Its ackers.
    pub ackers: BTreeSet<String>,
    /// Member ids by name.
    pub member_ids: BTreeMap<String, String>,
    /// Volumes that were not here any more.
    pub departed: BTreeSet<Departed>,
    /// What whoever led next had to have.
    pub must_cover: Option<History>,
}

/// What the status remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The newest epoch.
    pub epoch: i64,
    /// Its primary.
    pub primary: Option<String>,
    /// The replicas whose acknowledgement may count.
    pub ackers: BTreeSet<String>,
    /// Member ids of the primary and the ackers, as far as they are known.
    pub member_ids: BTreeMap<String, String>,
    /// Ackers that the primary does not admit any more.
    pub excluded: BTreeSet<String>,
    /// Grows with every change of what is on record.
    pub version: i64,
    /// Volumes that may have acknowledged and are not here any more.
    pub departed: BTreeSet<Departed>,
    /// What whoever leads next must have besides what the ackers have.
    pub must_cover: Option<History>,
    /// Who counted before, until this epoch is known to have begun.
    pub prior: Option<Prior>,
    /// Last known positions.
    pub positions: BTreeMap<String, Position>,
    /// The last switchover.
    pub last: Option<Last>,
    /// Requests of the spec that were answered.
    pub answered: BTreeSet<String>,
    /// `spec.source.name` when it was last acted on.
    pub source: Option<String>,
}

/// A position in a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Replication id.
    pub replid: String,
    /// Bytes.
    pub offset: i64,
    /// Keys.
    pub keys: i64,
}

/// The last switchover, as far as decisions need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// Its request.
    pub id: String,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// How long ago it ended.
    pub ago: Duration,
}

/// What is seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// The members by name.
    pub members: BTreeMap<String, Seen>,
}

/// What is seen of a member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// What its unit agent says; `None` when it does not answer.
    pub view: Option<View>,
    /// Why no connection with its unit agent comes about, when it is the certificates.
    pub distrust: Option<String>,
    /// How long the server has not answered.
    pub silent: Duration,
    /// Where the others reach its server now.
    pub host: String,
    /// On which port.
    pub port: i32,
    /// Its pod.
    pub pod: Pod,
}

/// What is seen of a pod. Members outside Kubernetes have none, and count as present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Whether it is there, or need not be.
    pub present: bool,
    /// How long it has not been there.
    pub absent: Duration,
    /// Whether it is being deleted.
    pub leaving: bool,
    /// Its uid.
    pub uid: String,
    /// The request to let exactly this pod go.
    pub leave: Option<Leave>,
    /// Whether it is on the write route.
    pub routed: bool,
}

/// A request to let a pod go; see `upm_crds::leave`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leave {
    /// Why, a CamelCase word.
    pub reason: String,
    /// Whether it was granted.
    pub granted: bool,
}

impl Default for Pod {
    fn default() -> Self {
        Self {
            present: true,
            absent: Duration::ZERO,
            leaving: false,
            uid: String::new(),
            leave: None,
            routed: false,
        }
    }
}

/// What a server may do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Live {
    /// Nothing.
    #[default]
    Parked,
    /// Follow.
    Replica,
    /// Take writes.
    Primary,
}

/// What a member was last told to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Lead.
    Primary,
    /// Follow.
    Replica,
}

/// How the data stand to what the member was told; see `upm.unit.v1.Standing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Not known: the server did not answer.
    #[default]
    Unknown,
    /// Never told anything.
    Untold,
    /// The granted primary, uninterrupted.
    Continuous,
    /// Follows, has acknowledged nothing.
    Unsynced,
    /// Follows; the offset covers all it acknowledged.
    Synced,
    /// Restarted since.
    Interrupted,
}

/// A unit agent's view of its member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Whether the server answered.
    pub reachable: bool,
    /// Why not.
    pub reason: String,
    /// Whether there is a server process that could be frozen.
    pub unresponsive: bool,
    /// What the server may do now.
    pub live: Live,
    /// What the member was last told.
    pub recorded: Option<Role>,
    /// Under which epoch.
    pub grant_epoch: i64,
    /// The newest promise.
    pub promised: i64,
    /// How the data stand to that.
    pub standing: Standing,
    /// Replication id.
    pub replid: String,
    /// The one before.
    pub replid2: String,
    /// Up to where the one before counts; -1 for not at all.
    pub second_offset: i64,
    /// Bytes.
    pub offset: i64,
    /// Whom it follows.
    pub follows: (String, i32),
    /// Replication id of the primary it was told to follow.
    pub primary_replid: String,
    /// Whether the link is up.
    pub link_up: bool,
    /// Whether a full copy is under way.
    pub syncing: bool,
    /// Seconds since the last byte of the primary; -1 without a link.
    pub io_age: i64,
    /// Replicas that are online.
    pub online: usize,
    /// Whether it loads its data.
    pub loading: bool,
    /// Keys.
    pub keys: i64,
    /// Whether its append-only file held everything at every start since it was told.
    pub aof_intact: bool,
    /// Whether its machine was restarted under it since.
    pub host_restarted: bool,
    /// Whether persistence works.
    pub persistence_healthy: bool,
    /// Bytes.
    pub used_memory: i64,
    /// Bytes; 0 for no limit.
    pub max_memory: i64,
    /// Whether writes are paused.
    pub paused: bool,
    /// `min-replicas-to-write` in force.
    pub min_replicas: i32,
    /// Version of the server.
    pub version: String,
    /// The last recorded position, before the start: what its disk holds at least.
    pub recorded_position: (String, i64),
    /// Born with its volume; empty when it has not told one.
    pub member_id: String,
    /// Member ids of those that may replicate from it.
    pub admitted: BTreeSet<String>,
    /// Version of the record that admitted them.
    pub record_version: i64,
    /// Of one that was last told to lead: member ids of itself and of all that may have acknowledged in that epoch; empty when it was not
    /// told them.
    pub group: BTreeSet<String>,
    /// Why the server does not have the passwords of the Secret; empty when it has.
    pub credentials_reason: String,
    /// The server's last words about its link; empty while it is up.
    pub link_error: String,
}

impl View {
    /// Whether it cannot acknowledge anybody of an epoch before this one.
    pub fn fenced(&self, epoch: i64) -> bool {
        self.promised >= epoch && self.live == Live::Parked
    }

    /// Whether it was told to lead in this epoch.
    pub fn was_granted(&self, epoch: i64) -> bool {
        self.recorded == Some(Role::Primary) && self.grant_epoch == epoch
    }

    /// Whether it takes writes under this epoch.
    pub fn leads(&self, epoch: i64) -> bool {
        self.live == Live::Primary && self.was_granted(epoch)
    }
}

impl From<pb::RedisMember> for View {
    fn from(told: pb::RedisMember) -> Self {
        let live = match told.grant() {
            pb::RedisGrant::Primary => Live::Primary,
            pb::RedisGrant::Replica => Live::Replica,
            pb::RedisGrant::Parked | pb::RedisGrant::Unspecified => Live::Parked,
        };
        let recorded = match told.recorded_grant() {
            pb::RedisGrant::Primary => Some(Role::Primary),
            pb::RedisGrant::Replica => Some(Role::Replica),
            pb::RedisGrant::Parked | pb::RedisGrant::Unspecified => None,
        };
        let standing = match told.standing() {
            pb::Standing::Unspecified => Standing::Unknown,
            pb::Standing::Untold => Standing::Untold,
            pb::Standing::Continuous => Standing::Continuous,
            pb::Standing::Unsynced => Standing::Unsynced,
            pb::Standing::Synced => Standing::Synced,
            pb::Standing::Interrupted => Standing::Interrupted,
        };
        Self {
            live,
            recorded,
            standing,
            unresponsive: told.process() == pb::ProcessState::Unresponsive,
            online: told
                .replicas
                .iter()
                .filter(|replica| replica.state == "online")
                .count(),
            reachable: told.reachable,
            reason: told.reason,
            grant_epoch: told.grant_epoch,
            promised: told.promised_epoch,
            replid: told.replid,
            replid2: told.replid2,
            second_offset: told.second_repl_offset,
            offset: told.offset,
            follows: (told.primary_host, told.primary_port),
            primary_replid: told.primary_replid,
            link_up: told.link_up,
            syncing: told.sync_in_progress,
            io_age: told.seconds_since_io,
            loading: told.loading,
            keys: told.keys,
            aof_intact: told.aof_intact,
            host_restarted: told.host_restarted,
            persistence_healthy: told.persistence_healthy,
            used_memory: told.used_memory,
            max_memory: told.max_memory,
            paused: told.writes_paused,
            min_replicas: told.min_replicas_to_write,
            version: told.version,
            recorded_position: (told.recorded_replid, told.recorded_offset),
            member_id: told.member_id,
            admitted: told.admitted_member_ids.into_iter().collect(),
            record_version: told.record_version,
            group: told.group_member_ids.into_iter().collect(),
            credentials_reason: told.credentials_reason,
            link_error: told.link_error,
        }
    }
}

impl Group {
    /// Members that take part in routes and elections.
    pub fn voters(&self) -> impl Iterator<Item = &String> {
        self.members
            .iter()
            .filter(|(_, node)| !node.isolated && !node.removed)
            .map(|(name, _)| name)
    }

    /// Whether the member takes part.
    pub fn takes_part(&self, name: &str) -> bool {
        self.members
            .get(name)
            .is_some_and(|node| !node.isolated && !node.removed)
    }

    /// `min-replicas-to-write`: with three members or more a primary that lost all replicas stops taking writes.
    pub fn min_replicas(&self) -> i32 {
        i32::from(self.voters().count() >= 3)
    }
}

impl State {
    /// The member id on record under this name.
    pub fn member_id(&self, name: &str) -> Option<&str> {
        self.member_ids
            .get(name)
            .map(String::as_str)
            .filter(|id| !id.is_empty())
    }

    /// Member ids of those that may replicate from the primary.
    pub fn admitted(&self) -> BTreeSet<String> {
        self.ackers
            .iter()
            .filter(|name| Some(*name) != self.primary.as_ref() && !self.excluded.contains(*name))
            .filter_map(|name| self.member_id(name))
            .map(str::to_owned)
            .collect()
    }

    /// Member ids of the primary and of everybody who may have acknowledged in the recorded epoch.
    pub fn group(&self) -> BTreeSet<String> {
        self.ackers
            .iter()
            .chain(self.primary.iter())
            .filter_map(|name| self.member_id(name))
            .chain(self.departed.iter().map(|volume| volume.id.as_str()))
            .filter(|id| !id.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Whether the member has another volume than the one on record under its name.
    pub fn other_volume(&self, name: &str, view: &View) -> bool {
        !view.member_id.is_empty()
            && match self.member_id(name) {
                Some(id) => id != view.member_id,
                // on record without an id, and never told anything: whoever was told lies elsewhere
                None => self.ackers.contains(name) && view.standing == Standing::Untold,
            }
    }
}

impl World {
    /// The member that has this volume now.
    pub fn with_volume(&self, id: &str) -> Option<(&String, &View)> {
        self.members
            .iter()
            .filter_map(|(name, seen)| Some((name, seen.view.as_ref()?)))
            .find(|(_, view)| view.member_id == id)
    }

    /// A member's view, whether or not its server answers.
    pub fn agent(&self, name: &str) -> Option<&View> {
        self.members.get(name)?.view.as_ref()
    }

    /// A member's view, when its server answers.
    pub fn server(&self, name: &str) -> Option<&View> {
        self.agent(name).filter(|view| view.reachable)
    }
}
