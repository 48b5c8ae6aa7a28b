//! Labels of pods, by which the services find them. Pure.

use std::collections::BTreeMap;

use upm_crds::names::label;

use super::model::{Live, Node, View};
use super::plan::{Decision, Inputs};

/// What a pod's labels say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// On which route it is: `false` writes, `true` reads; `None` none.
    pub readonly: Option<bool>,
    /// Which role it has.
    pub primary: Option<bool>,
}

impl Labels {
    /// Reads them from a pod's labels, when they are of this replication.
    pub fn read(labels: &BTreeMap<String, String>, replication: &str) -> Self {
        let ours = labels
            .get(label::REDIS_REPLICATION)
            .is_some_and(|name| name == replication);
        let readonly = labels
            .get(label::REDIS_READONLY)
            .filter(|_| ours)
            .and_then(|value| value.parse().ok());
        let primary = match labels.get(label::ROLE).map(String::as_str) {
            Some(label::ROLE_PRIMARY) => Some(true),
            Some(label::ROLE_REPLICA) => Some(false),
            _ => None,
        };
        Self { readonly, primary }
    }

    /// The labels to apply.
    pub fn map(&self, replication: &str) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        if let Some(readonly) = self.readonly {
            labels.insert(label::REDIS_REPLICATION.to_owned(), replication.to_owned());
            labels.insert(label::REDIS_READONLY.to_owned(), readonly.to_string());
        }
        if let Some(primary) = self.primary {
            let role = if primary {
                label::ROLE_PRIMARY
            } else {
                label::ROLE_REPLICA
            };
            labels.insert(label::ROLE.to_owned(), role.to_owned());
        }
        labels
    }
}

/// The labels of every member, given those it has.
///
/// The write route leads to the primary only after it was granted the recorded epoch and, when the group needs one, a replica is
/// online; it is taken away before anybody is asked to promise. What is not known is left as it is: a pod that does not answer is taken
/// out by its own readiness.
pub fn desired(
    inputs: Inputs<'_>,
    decision: &Decision,
    have: &BTreeMap<String, Labels>,
) -> BTreeMap<String, Labels> {
    let members = &inputs.group.members;
    have.iter()
        .filter_map(|(name, labels)| {
            let node = members.get(name)?;
            Some((name.clone(), one(inputs, decision, name, node, labels)))
        })
        .collect()
}

fn one(inputs: Inputs<'_>, decision: &Decision, name: &str, node: &Node, have: &Labels) -> Labels {
    let state = inputs.state;
    let view = inputs.world.agent(name);
    if state.primary.as_deref() == Some(name) {
        let leads = view.is_some_and(|view| view.leads(state.epoch));
        let ready =
            |view: &View| have.readonly == Some(false) || view.min_replicas == 0 || view.online > 0;
        let readonly = match view {
            _ if decision.withdraw => None,
            Some(view) if leads && view.reachable && ready(view) => Some(false),
            Some(_) if leads && have.readonly == Some(false) => Some(false),
            Some(_) => None,
            None => have.readonly.filter(|readonly| !readonly),
        };
        let primary = if leads { Some(true) } else { have.primary };
        return Labels { readonly, primary };
    }
    if node.isolated || node.removed {
        return Labels {
            readonly: None,
            primary: Some(false).filter(|_| !node.removed),
        };
    }
    let readonly = match view {
        Some(view)
            if view.live == Live::Replica && view.grant_epoch == state.epoch && view.link_up =>
        {
            Some(true)
        }
        // an election parks everybody for a moment: readers are refused by the server and try again
        Some(view) if view.live == Live::Parked || view.reachable => have
            .readonly
            .filter(|readonly| *readonly && decision.withdraw),
        _ => have.readonly.filter(|readonly| *readonly),
    };
    Labels {
        readonly,
        primary: Some(false),
    }
}
