//! What an election that loses confirmed writes would come to: stated before anybody accepts it. Pure.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::{Election, short};
use crate::redis_replication::model::{Role, Standing, View};

/// Who would lead, and what would be lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prospect {
    /// The member that would lead.
    pub candidate: String,
    /// What would be lost, for people.
    pub loss: String,
    /// Names the epoch, the candidate's volume, and the volumes whose data are given up: 12 hex digits. An acceptance repeats it.
    pub loss_id: String,
}

impl Election<'_> {
    /// Who would lead when a loss is accepted; `None` when nobody who takes part can be asked. It need not be fenced yet.
    ///
    /// Members are compared by their position in the history of the recorded epoch, as far as it is known of each, and never by the number
    /// of their keys alone; an empty member never comes before one with data.
    pub fn prospect(&self) -> Option<Prospect> {
        let able: Vec<(&String, &View)> = self
            .group
            .voters()
            .filter_map(|name| Some((name, self.world.server(name)?)))
            .filter(|(_, view)| !view.loading)
            .collect();
        let data = able.iter().any(|(_, view)| view.keys > 0);
        let history = self.history();
        let (name, view) = able
            .into_iter()
            .filter(|(_, view)| view.keys > 0 || !data)
            .max_by_key(|(name, view)| {
                (
                    view.recorded.is_some() && view.grant_epoch == self.state.epoch,
                    Self::position(view, history.as_deref()),
                    view.keys,
                    Reverse(name.as_str()),
                )
            })?;
        Some(Prospect {
            candidate: name.clone(),
            loss: self.loss(name, view, history.as_deref()),
            loss_id: self.loss_id(view),
        })
    }

    /// Replication id of the recorded epoch.
    fn history(&self) -> Option<String> {
        let told = self.world.members.values().find_map(|seen| {
            let view = seen.view.as_ref()?;
            (view.grant_epoch == self.state.epoch
                && view.recorded == Some(Role::Replica)
                && !view.primary_replid.is_empty())
            .then(|| view.primary_replid.clone())
        });
        told.or_else(|| {
            let at = self.state.positions.get(self.primary())?;
            (!at.replid.is_empty()).then(|| at.replid.clone())
        })
    }

    /// The least offset that a member's data have in this history.
    fn position(view: &View, history: Option<&str>) -> Option<i64> {
        let history = history?;
        match view.standing {
            Standing::Continuous | Standing::Synced | Standing::Unsynced
                if view.replid == history =>
            {
                Some(view.offset)
            }
            Standing::Interrupted if view.recorded_position.0 == history && view.aof_intact => {
                Some(view.recorded_position.1)
            }
            Standing::Continuous
            | Standing::Synced
            | Standing::Unsynced
            | Standing::Interrupted
            | Standing::Untold
            | Standing::Unknown => None,
        }
    }

    fn loss(&self, name: &str, view: &View, history: Option<&str>) -> String {
        let known = self
            .state
            .positions
            .values()
            .filter(|at| Some(at.replid.as_str()) == history)
            .map(|at| at.offset)
            .max();
        let bytes = match (known, Self::position(view, history)) {
            (Some(most), Some(has)) => format!(
                "{} bytes of what others were last seen with",
                (most - has).max(0)
            ),
            _ => "an unknown part of what others had".to_owned(),
        };
        let given_up: Vec<String> = self
            .given_up(view)
            .into_iter()
            .map(|(name, id)| format!("{name} (volume {})", short(&id)))
            .collect();
        format!(
            "{name} would lead with {} keys, without {bytes}, and without what was confirmed since; the data that only {} had are given up",
            view.keys,
            if given_up.is_empty() {
                "others".to_owned()
            } else {
                given_up.join(", ")
            }
        )
    }

    /// The volumes on record, besides the candidate's, by name and member id.
    fn given_up(&self, candidate: &View) -> BTreeSet<(String, String)> {
        let recorded = self
            .state
            .ackers
            .iter()
            .chain(self.state.primary.iter())
            .map(|name| (name, self.state.member_id(name).unwrap_or_default()));
        let departed = self
            .state
            .departed
            .iter()
            .map(|volume| (&volume.name, volume.id.as_str()));
        recorded
            .chain(departed)
            .filter(|(_, id)| id.is_empty() || *id != candidate.member_id)
            // who is here follows the candidate; what it has more is named by its position
            .filter(|(_, id)| id.is_empty() || self.world.with_volume(id).is_none())
            .map(|(name, id)| (name.clone(), id.to_owned()))
            .collect()
    }

    fn loss_id(&self, candidate: &View) -> String {
        let mut digest = Sha256::new();
        digest.update(format!("{}\0{}\0", self.state.epoch, candidate.member_id));
        for (name, id) in self.given_up(candidate) {
            digest.update(format!("{name}\0{id}\0"));
        }
        hex::encode(digest.finalize())[..12].to_owned()
    }
}
