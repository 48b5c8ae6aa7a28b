//! The gatekeeper of a replication: which member may leave now, and what keeps the others. Pure.
//!
//! Whoever wants to end a member's pod asks for it on the pod. One request at a time is carried out: the primary's role is moved away
//! by an ordinary switchover, the member is parked and leaves the ackers once others hold what it acknowledged, and only then it is
//! told that it may go. The request before must have come back first: every other member follows, in sync, as a recorded acker.

use std::cmp::Reverse;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use upm_crds::conditions::{self, kind};

use super::election::Predicate;
use super::model::{Group, Leave, Live, State, View, World};

/// Bytes that another member may be behind the primary when somebody leaves: what is under way between two looks at a busy group.
const MAX_LAG: i64 = 4 * 1024 * 1024;

/// What a request to leave is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The member holds nothing that the group still needs.
    Granted,
    /// Each of these facts is missing.
    Refused(Vec<Predicate>),
}

/// What decisions about leaving are made from.
#[derive(Clone, Copy, Debug)]
struct Case<'a> {
    group: &'a Group,
    state: &'a State,
    world: &'a World,
}

/// The answer to a member's request; `None` when it did not ask.
pub fn answer(group: &Group, state: &State, world: &World, name: &str) -> Option<Answer> {
    let case = Case {
        group,
        state,
        world,
    };
    case.request(name)?;
    Some(case.answer(name))
}

/// Whether the member is on its way out: it is parked, does not count as an acker, and is not told to follow until it comes back.
///
/// The primary is not: its role is moved away first. The only acker is not either: nobody else could vouch for what it acknowledged.
pub(super) fn departs(group: &Group, state: &State, world: &World, name: &str) -> bool {
    let case = Case {
        group,
        state,
        world,
    };
    state.primary.as_deref() != Some(name) && case.turn() == Some(name) && case.others_vouch(name)
}

/// Whether this controller has to move the role away from the primary, because it asked to leave and its turn has come.
///
/// A move that has begun is finished, whatever else changed meanwhile: the writes are paused or the primary is fenced already.
pub(super) fn moves_primary(group: &Group, state: &State, world: &World, primary: &str) -> bool {
    let case = Case {
        group,
        state,
        world,
    };
    if case.request(primary).is_none() {
        return false;
    }
    let begun = world
        .server(primary)
        .is_none_or(|view| view.paused || !view.leads(state.epoch));
    begun || (case.turn() == Some(primary) && case.others(primary).next().is_some())
}

/// Whether the member asked to leave.
pub(super) fn asks(world: &World, name: &str) -> bool {
    world
        .members
        .get(name)
        .is_some_and(|seen| seen.pod.leave.is_some())
}

/// The condition that answers those who ask: granted, or the first missing fact as the reason and all of them in words. Nobody asks: none.
pub(super) fn condition(
    conditions: &mut Vec<Condition>,
    group: &Group,
    state: &State,
    world: &World,
    now: Timestamp,
) {
    let answers: Vec<(&String, Answer)> = world
        .members
        .keys()
        .filter_map(|name| Some((name, answer(group, state, world, name)?)))
        .collect();
    let granted = answers
        .iter()
        .find(|(_, answer)| *answer == Answer::Granted);
    let said = match (granted, answers.is_empty()) {
        (_, true) => {
            conditions::remove(conditions, kind::MEMBER_LEAVE);
            return;
        }
        (Some((name, _)), false) => (true, "Granted", format!("{name} may leave")),
        (None, false) => {
            let refused = answers.iter().filter_map(|(name, answer)| match answer {
                Answer::Granted => None,
                Answer::Refused(missing) => Some((*name, missing)),
            });
            let mut reason = "Refused";
            let mut words = Vec::new();
            for (name, missing) in refused {
                if let Some(first) = missing.first()
                    && words.is_empty()
                {
                    reason = first.name;
                }
                let facts: Vec<String> = missing
                    .iter()
                    .map(|fact| format!("{} ({}): {}", fact.name, fact.member, fact.detail))
                    .collect();
                words.push(format!("{name} may not leave yet: {}", facts.join("; ")));
            }
            (false, reason, words.join(". "))
        }
    };
    conditions::set(conditions, kind::MEMBER_LEAVE, said.0, said.1, said.2, now);
}

impl<'a> Case<'a> {
    fn request(self, name: &str) -> Option<&'a Leave> {
        self.world.members.get(name)?.pod.leave.as_ref()
    }

    /// Members that take part, besides the primary and this one.
    fn others(self, name: &str) -> impl Iterator<Item = &'a String> {
        let primary = self.state.primary.as_deref();
        self.group
            .voters()
            .filter(move |other| other.as_str() != name && Some(other.as_str()) != primary)
    }

    /// Whether the group still counts on the member: it takes part, or leads, or may have acknowledged something.
    fn counts(self, name: &str) -> bool {
        self.group.takes_part(name)
            || self.state.primary.as_deref() == Some(name)
            || self.state.ackers.contains(name)
    }

    fn others_vouch(self, name: &str) -> bool {
        self.others(name)
            .any(|other| self.state.ackers.contains(other))
    }

    /// The request that is carried out: the one that went farthest, then replicas before the primary, from the highest name down.
    fn turn(self) -> Option<&'a str> {
        let mut asking: Vec<(&'a String, &'a Leave)> = self
            .group
            .members
            .keys()
            .filter_map(|name| Some((name, self.request(name)?)))
            .filter(|(name, _)| self.counts(name))
            .collect();
        asking.sort_by_key(|(name, leave)| {
            let parked = self
                .world
                .agent(name)
                .is_some_and(|view| view.fenced(self.state.epoch + 1));
            let leads = self.state.primary.as_deref() == Some(name.as_str());
            (!leave.granted, !parked, leads, Reverse(*name))
        });
        asking
            .into_iter()
            .map(|(name, _)| name.as_str())
            .find(|name| self.obstacles(name).is_empty())
    }

    fn answer(self, name: &str) -> Answer {
        // parked and off the record: the group would not notice
        if !self.counts(name) {
            return Answer::Granted;
        }
        let mut missing = self.obstacles(name);
        if let Some(other) = self.turn().filter(|other| *other != name) {
            missing.push(fact("NobodyElseLeaves", other, "it leaves first"));
        }
        if !missing.is_empty() {
            return Answer::Refused(missing);
        }
        if self.state.primary.as_deref() == Some(name) {
            if self.others(name).next().is_none() {
                return Answer::Granted;
            }
            let detail = "it is the primary; its role moves to another member";
            return Answer::Refused(vec![fact("PrimaryMoved", name, detail)]);
        }
        if self.state.ackers.contains(name) && self.others_vouch(name) {
            let detail = "it may still have acknowledged a write that nobody else holds";
            return Answer::Refused(vec![fact("AckerShed", name, detail)]);
        }
        Answer::Granted
    }

    /// What keeps the member from leaving, besides what is done about its request.
    fn obstacles(self, name: &str) -> Vec<Predicate> {
        if self.group.skip {
            let detail = "the topology is left alone, as its annotation asks";
            return vec![fact("TopologyManaged", name, detail)];
        }
        let Some(primary) = self.state.primary.as_deref() else {
            return vec![fact("PrimaryLeads", "", "no primary was elected yet")];
        };
        let leader = self
            .world
            .server(primary)
            .filter(|view| view.leads(self.state.epoch));
        let Some(leader) = leader else {
            return vec![fact("PrimaryLeads", primary, "the primary does not lead")];
        };
        if leader.paused {
            let detail = "its writes are paused: a change of the primary is under way";
            return vec![fact("PrimaryLeads", primary, detail)];
        }
        let goes = |member: &str| {
            self.world
                .members
                .get(member)
                .is_some_and(|seen| seen.pod.leaving)
        };
        let mut missing = Vec::new();
        if primary != name && goes(primary) {
            missing.push(fact("MemberStays", primary, "its pod is being deleted"));
        }
        for other in self.others(name) {
            if goes(other) {
                missing.push(fact("MemberStays", other, "its pod is being deleted"));
            } else if let Err(detail) = self.in_sync(leader, other) {
                missing.push(detail);
            }
        }
        missing
    }

    /// Whether a member does its whole part under this leader; one that left does again when it has rejoined, not when it is ready.
    fn in_sync(self, leader: &View, name: &str) -> Result<(), Predicate> {
        let Some(view) = self.world.server(name) else {
            return Err(fact("MemberReachable", name, "its server does not answer"));
        };
        let lacks = |detail: &'static str| Err(fact("MemberInSync", name, detail));
        if view.loading {
            return lacks("it loads its data");
        }
        if view.syncing {
            return lacks("it copies the data of the primary");
        }
        if view.live != Live::Replica || view.grant_epoch != self.state.epoch || !view.link_up {
            return lacks("it does not follow the primary");
        }
        if view.replid != leader.replid {
            return lacks("it has not synchronized with the primary yet");
        }
        if leader.offset.saturating_sub(view.offset) > MAX_LAG {
            return lacks("it has not caught up with the primary");
        }
        if !view.persistence_healthy {
            return lacks("it cannot write its data to its volume");
        }
        if !view.credentials_reason.is_empty() {
            return Err(fact(
                "CredentialsCurrent",
                name,
                "its server does not have the passwords of the Secret",
            ));
        }
        let recorded = self.state.ackers.contains(name) && !self.state.excluded.contains(name);
        if !recorded || self.state.other_volume(name, view) {
            return Err(fact("MemberIsAcker", name, "it has not rejoined yet"));
        }
        Ok(())
    }
}

fn fact(name: &'static str, member: &str, detail: &str) -> Predicate {
    Predicate {
        name,
        member: member.to_owned(),
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
mod tests;
