//! Who may be the next primary without losing a confirmed write. Pure.
//!
//! A write is *confirmed* when `WAIT 1` counted one replica: it is in the primary's log and in that of at least one acker. So nothing
//! confirmed is lost when the new primary's log holds
//!
//! * everything that **every** acker received (R + W > N with W = 1 needs R = N), or
//! * everything the old primary wrote, because each confirmed write is in its log.
//!
//! The first needs all ackers fenced with positions that say what they acknowledged; the second needs the old primary fenced with its
//! data proven whole. A member is fenced when it promised the new epoch and is parked.
//!
//! Acknowledgements belong to volumes, not to names: a member with another volume than the one on record says nothing about what was
//! acknowledged under its name (`SameVolume`), and a volume that is not here any more is missed (`VolumePresent`).

mod loss;

pub use loss::Prospect;

use std::collections::BTreeSet;

use super::model::{Departed, Group, History, Live, Role, Standing, State, View, World};

/// Why a member may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// All ackers promised; its log covers theirs.
    CoversAllAckers,
    /// Its log covers that of the old primary, which is fenced and uninterrupted.
    CoversPrimary,
    /// It is the old primary, restarted with all its data.
    PrimaryIntact,
    /// All machines went down, and none is known to have more on its disk; what was confirmed in the last moments before may be gone.
    MostAfterPowerLoss,
    /// It was elected, and restarted with all its data before it was granted the epoch.
    ElectedIntact,
    /// Nobody led since, and it has all its data.
    LastLeader,
    /// The user accepts the loss of confirmed writes.
    LossAccepted,
}

impl Evidence {
    /// What may be lost all the same.
    pub fn at_risk(self) -> Option<&'static str> {
        match self {
            Self::CoversAllAckers
            | Self::CoversPrimary
            | Self::PrimaryIntact
            | Self::ElectedIntact
            | Self::LastLeader => None,
            Self::MostAfterPowerLoss => Some(
                "all machines went down at once, and their disks are synced once a second: writes confirmed in the last two seconds \
                 before may be lost; appendfsync=always prevents that",
            ),
            Self::LossAccepted => Some("confirmed writes may be lost, as was accepted"),
        }
    }
}

/// A fact that is missing for a safe election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicate {
    /// Its name.
    pub name: &'static str,
    /// About which member.
    pub member: String,
    /// What is the case.
    pub detail: String,
}

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This member.
    Winner(String, Evidence),
    /// Nobody yet; each of these facts would help.
    Nobody(Vec<Predicate>),
}

/// What an election is about.
#[derive(Clone, Copy, Debug)]
pub struct Election<'a> {
    /// The group.
    pub group: &'a Group,
    /// What is on record.
    pub state: &'a State,
    /// What is seen.
    pub world: &'a World,
    /// The epoch that shall begin.
    pub next: i64,
    /// Who should win among equals.
    pub prefer: Option<&'a str>,
    /// The old primary should not win among equals.
    pub away: bool,
}

/// The state that an election is about: the recorded one, or that of the epoch before when the recorded epoch never began.
///
/// Whoever confirms a write in an epoch needs one of the epoch's ackers. Until anything else is recorded in an epoch, its ackers are those
/// of its election; when each of them is fenced and was told nothing in it, nobody confirmed anything, and nobody will.
pub fn basis(group: &Group, state: &State, world: &World, next: i64) -> Option<State> {
    let prior = state.prior.as_ref()?;
    let election = Election {
        group,
        state,
        world,
        next,
        prefer: None,
        away: false,
    };
    let untouched = |name: &String| {
        election
            .recorded(name)
            .is_ok_and(|(_, view)| view.grant_epoch < state.epoch)
    };
    if state.ackers.is_empty() || !state.ackers.iter().all(untouched) {
        return None;
    }
    Some(State {
        epoch: prior.epoch,
        primary: Some(prior.primary.clone()),
        ackers: prior.ackers.clone(),
        member_ids: prior.member_ids.clone(),
        departed: prior.departed.clone(),
        must_cover: prior.must_cover.clone(),
        ..state.clone()
    })
}

/// Whether one log holds what another holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Covers {
    Yes,
    No,
    /// The logs have no history in common.
    Unrelated,
}

fn covers(log: &View, other: &View) -> Covers {
    if log.replid == other.replid {
        return if log.offset >= other.offset {
            Covers::Yes
        } else {
            Covers::No
        };
    }
    if !other.replid.is_empty() && log.replid2 == other.replid {
        // up to and without this offset both histories are one
        return if other.offset < log.second_offset {
            Covers::Yes
        } else {
            Covers::No
        };
    }
    Covers::Unrelated
}

/// Whether a log holds a history up to its offset.
pub(super) fn has(log: &View, history: &History) -> bool {
    (log.replid == history.replid && log.offset >= history.offset)
        || (log.replid2 == history.replid && history.offset < log.second_offset)
}

/// Enough of a member id to tell it from others.
fn short(id: &str) -> &str {
    match id.get(..8) {
        Some(short) => short,
        None if id.is_empty() => "of unknown id",
        None => id,
    }
}

fn missing(name: &'static str, member: &str, detail: impl Into<String>) -> Predicate {
    Predicate {
        name,
        member: member.to_owned(),
        detail: detail.into(),
    }
}

impl<'a> Election<'a> {
    fn primary(&self) -> &'a str {
        self.state.primary.as_deref().unwrap_or_default()
    }

    /// A fenced member whose server answers and has its data loaded.
    fn fenced(&self, name: &str) -> Result<&'a View, Predicate> {
        let Some(view) = self.world.agent(name) else {
            return Err(missing(
                "MemberReachable",
                name,
                "its unit agent does not answer",
            ));
        };
        if !view.fenced(self.next) {
            return Err(missing(
                "MemberPromised",
                name,
                format!("it has not promised epoch {}", self.next),
            ));
        }
        if !view.reachable {
            return Err(missing("ServerAnswers", name, view.reason.clone()));
        }
        if view.loading {
            return Err(missing("DataLoaded", name, "it loads its data"));
        }
        Ok(view)
    }

    /// The member that has the volume on record under this name: mostly that of this name, another one when volumes were exchanged.
    fn holder(&self, name: &'a str) -> Result<&'a str, Predicate> {
        let Some(view) = self.world.agent(name) else {
            return Ok(name);
        };
        if !self.state.other_volume(name, view) {
            return Ok(name);
        }
        let recorded = self.state.member_id(name).unwrap_or_default();
        match self.world.with_volume(recorded) {
            Some((holder, _)) => Ok(holder),
            None => Err(missing(
                "SameVolume",
                name,
                format!(
                    "its volume {} is another one; the data of volume {} are missing",
                    short(&view.member_id),
                    short(recorded)
                ),
            )),
        }
    }

    /// The fenced holder of the volume on record under this name.
    fn recorded(&self, name: &'a str) -> Result<(&'a str, &'a View), Predicate> {
        let holder = self.holder(name)?;
        Ok((holder, self.fenced(holder)?))
    }

    /// Who wins.
    pub fn verdict(&self) -> Verdict {
        let mut lacking = Vec::new();
        for way in [
            Self::by_uninterrupted_primary,
            Self::by_ackers,
            Self::by_restarted_primary,
            Self::by_elected,
            Self::by_last_leader,
        ] {
            match way(self) {
                Ok((winner, evidence)) => return Verdict::Winner(winner, evidence),
                Err(facts) => lacking.extend(facts),
            }
        }
        Verdict::Nobody(lacking)
    }

    /// The old primary is fenced and was not interrupted: its log has everything.
    fn by_uninterrupted_primary(&self) -> Result<(String, Evidence), Vec<Predicate>> {
        match self.recorded(self.primary()) {
            Ok((name, primary))
                if primary.was_granted(self.state.epoch)
                    && primary.standing == Standing::Continuous =>
            {
                Ok((self.best_beside(name, primary), Evidence::CoversPrimary))
            }
            _ => Err(Vec::new()),
        }
    }

    /// The old primary is fenced and was restarted with everything.
    fn by_restarted_primary(&self) -> Result<(String, Evidence), Vec<Predicate>> {
        let (name, primary) = self.recorded(self.primary()).map_err(|fact| vec![fact])?;
        if !primary.was_granted(self.state.epoch) {
            return Err(Vec::new());
        }
        if !primary.aof_intact {
            return Err(vec![missing(
                "PrimaryIntact",
                name,
                "its append-only file was not whole when it restarted",
            )]);
        }
        if primary.keys == 0
            && self
                .world
                .members
                .values()
                .any(|seen| seen.view.as_ref().is_some_and(|view| view.keys > 0))
        {
            return Err(vec![missing(
                "PrimaryNotEmpty",
                name,
                "it is empty and others are not",
            )]);
        }
        if !primary.host_restarted {
            if !self.group.takes_part(name) {
                return Err(vec![missing(
                    "PrimaryTakesPart",
                    name,
                    "it is isolated or removed",
                )]);
            }
            return Ok((name.to_owned(), Evidence::PrimaryIntact));
        }
        self.by_disks(name, primary)
    }

    /// The old primary's machine went down: its last second may be gone from its disk. Only when all machines did, and everybody is here
    /// again, nothing better is left than the disk that is known to hold most.
    fn by_disks(
        &self,
        name: &'a str,
        primary: &View,
    ) -> Result<(String, Evidence), Vec<Predicate>> {
        let mut facts = Vec::new();
        let mut best = (name, primary.recorded_position.1);
        for member in self.group.voters() {
            let view = match self.recorded(member) {
                Ok((_, view)) => view,
                Err(fact) => {
                    facts.push(fact);
                    continue;
                }
            };
            if !view.host_restarted && view.standing != Standing::Untold {
                let detail = format!(
                    "its machine was restarted and that of {member} was not, so {member} may have more"
                );
                facts.push(missing("PrimaryIntact", name, detail));
            }
            // one history: offsets of what is on the disks can be compared
            let (replid, offset) = &view.recorded_position;
            if *replid == primary.recorded_position.0 && *offset > best.1 && view.aof_intact {
                best = (member, *offset);
            }
        }
        for volume in &self.state.departed {
            facts.push(Self::departed(volume));
        }
        if !self.group.takes_part(best.0) {
            facts.push(missing(
                "PrimaryTakesPart",
                best.0,
                "it is isolated or removed",
            ));
        }
        if facts.is_empty() {
            Ok((best.0.to_owned(), Evidence::MostAfterPowerLoss))
        } else {
            Err(facts)
        }
    }

    fn departed(volume: &Departed) -> Predicate {
        missing(
            "VolumePresent",
            &volume.name,
            format!(
                "volume {} may have acknowledged, and is not here any more",
                short(&volume.id)
            ),
        )
    }

    /// A member whose log covers that of the uninterrupted old primary, as wished for.
    fn best_beside(&self, name: &str, primary: &View) -> String {
        let able = |member: &&String| {
            member.as_str() != name
                && self.group.takes_part(member)
                && self.world.server(member).is_some_and(|view| {
                    !view.loading
                        && !view.syncing
                        && view.replid == primary.replid
                        && view.offset >= primary.offset
                        && view.live != Live::Primary
                })
        };
        let preferred = self
            .prefer
            .and_then(|wish| self.group.members.keys().find(|member| *member == wish))
            .filter(able);
        let stays = self.group.takes_part(name)
            && !self.away
            && self.prefer.is_none_or(|wish| wish == name);
        match preferred {
            Some(wish) => wish.clone(),
            None if stays => name.to_owned(),
            None => self
                .group
                .members
                .keys()
                .find(able)
                .cloned()
                .unwrap_or_else(|| name.to_owned()),
        }
    }

    /// All ackers are fenced: who covers what each of them acknowledged.
    fn by_ackers(&self) -> Result<(String, Evidence), Vec<Predicate>> {
        let mut facts = Vec::new();
        let mut fenced = Vec::new();
        for name in &self.state.ackers {
            match self.recorded(name) {
                Ok((holder, view)) => match self.position_known(holder, view) {
                    Ok(()) => fenced.push((holder, view)),
                    Err(fact) => facts.push(fact),
                },
                Err(fact) => facts.push(fact),
            }
        }
        for volume in &self.state.departed {
            match self.world.with_volume(&volume.id) {
                // it came back, perhaps under another name
                Some((holder, _)) if !volume.id.is_empty() => {
                    let known = self
                        .fenced(holder)
                        .and_then(|view| self.position_known(holder, view).map(|()| view));
                    match known {
                        Ok(view) => fenced.push((holder, view)),
                        Err(fact) => facts.push(fact),
                    }
                }
                _ => facts.push(Self::departed(volume)),
            }
        }
        if !facts.is_empty() {
            return Err(facts);
        }
        let in_line = |view: &View| {
            view.standing == Standing::Synced
                && view.grant_epoch == self.state.epoch
                && view.recorded == Some(Role::Replica)
        };
        let winner = fenced
            .iter()
            .filter(|(name, view)| in_line(view) && self.group.takes_part(name))
            .filter(|(_, view)| self.has_what_left(view))
            .filter(|(_, view)| {
                fenced.iter().all(|(_, other)| {
                    // a former primary that never followed since has acknowledged nothing to this one
                    other.standing == Standing::Continuous
                        // nor one that still has its tail of before this history, and copies it
                        || (other.standing == Standing::Unsynced && view.replid2 == other.replid)
                        || covers(view, other) != Covers::No
                })
            })
            .max_by_key(|(name, view)| {
                (
                    view.offset,
                    self.prefer == Some(*name),
                    view.persistence_healthy,
                    std::cmp::Reverse(*name),
                )
            });
        match winner {
            Some((name, _)) => Ok(((*name).to_owned(), Evidence::CoversAllAckers)),
            None => Err(vec![missing(
                "SomeAckerSynchronized",
                self.primary(),
                "no replica has synchronized with it in this epoch and covers the others",
            )]),
        }
    }

    /// Whether it has what nobody but the primary had when the last acker left.
    fn has_what_left(&self, view: &View) -> bool {
        self.state
            .must_cover
            .as_ref()
            .is_none_or(|left| has(view, left))
    }

    /// Whether the position of an acker says what it acknowledged.
    fn position_known(&self, name: &str, view: &View) -> Result<(), Predicate> {
        let known = match view.standing {
            Standing::Interrupted | Standing::Unknown => false,
            // never told anything, by a volume that is not known to be the one on record
            Standing::Untold => self.state.member_id(name).is_some(),
            Standing::Continuous | Standing::Unsynced | Standing::Synced => true,
        };
        if known {
            return Ok(());
        }
        let detail = "it was restarted, so what it had acknowledged is not known from its position";
        Err(missing("PositionKnown", name, detail))
    }

    /// A member that was elected and restarted before it was granted the epoch: nobody was primary in between.
    fn by_elected(&self) -> Result<(String, Evidence), Vec<Predicate>> {
        let (name, elected) = match self.recorded(self.primary()) {
            Ok(recorded) => recorded,
            Err(fact) if fact.name == "SameVolume" => return Err(vec![fact]),
            Err(_) => return Err(Vec::new()),
        };
        if elected.was_granted(self.state.epoch)
            || elected.grant_epoch > self.state.epoch
            || !self.group.takes_part(name)
        {
            return Err(Vec::new());
        }
        let others_have_data = self
            .world
            .members
            .values()
            .any(|seen| seen.view.as_ref().is_some_and(|view| view.keys > 0));
        let at = self.state.positions.get(self.primary());
        // an empty group that had not begun yet; one that had data would be served empty
        let all_empty = !others_have_data
            && at.is_none_or(|at| at.keys == 0)
            && self.state.departed.is_empty()
            && self
                .group
                .voters()
                .all(|member| self.recorded(member).is_ok());
        let unmoved = at.is_some_and(|at| {
            !at.replid.is_empty() && elected.replid == at.replid && elected.offset >= at.offset
        });
        if all_empty
            || unmoved
            || (elected.aof_intact && !elected.host_restarted && elected.keys > 0)
        {
            return Ok((name.to_owned(), Evidence::ElectedIntact));
        }
        Err(vec![missing(
            "ElectedIntact",
            name,
            "it was elected, and lost its position before it could lead",
        )])
    }

    /// Nobody led in the recorded epoch: then the last one who did has everything.
    ///
    /// It takes a look at all members, each fenced and with its record: one who led later, or followed somebody who did, would show it.
    fn by_last_leader(&self) -> Result<(String, Evidence), Vec<Predicate>> {
        let mut views = Vec::new();
        for name in self.group.members.keys() {
            match self.fenced(name) {
                Ok(view) if view.recorded.is_some() && view.grant_epoch < self.state.epoch => {
                    views.push((name, view));
                }
                _ => return Err(Vec::new()),
            }
        }
        let newest = views
            .iter()
            .map(|(_, view)| view.grant_epoch)
            .max()
            .unwrap_or(0);
        let last = views
            .into_iter()
            .find(|(_, view)| view.recorded == Some(Role::Primary) && view.grant_epoch == newest);
        let (name, view) = last.ok_or_else(Vec::new)?;
        let whole = view.standing == Standing::Continuous
            || (view.aof_intact && !view.host_restarted && view.keys > 0);
        if whole && self.group.takes_part(name) {
            return Ok((name.clone(), Evidence::LastLeader));
        }
        Err(vec![missing(
            "LastLeaderIntact",
            name,
            "nobody led since, and its data are not known to be whole",
        )])
    }

    /// Ackers under the new epoch: those that will be told to follow now, and those that cannot be shown not to acknowledge on their own.
    pub fn ackers(&self, winner: &str) -> BTreeSet<String> {
        let unfenced = |name: &&String| {
            self.world
                .agent(name)
                .is_none_or(|view| !view.fenced(self.next))
        };
        let present = |name: &&String| self.world.agent(name).is_some();
        self.group
            .voters()
            .filter(present)
            .chain(self.state.ackers.iter().filter(unfenced))
            .filter(|name| name.as_str() != winner)
            .cloned()
            .collect()
    }
}
