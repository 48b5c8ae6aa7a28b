//! Labels of pods, by which the services find them, and the answer to their requests to leave. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use upm_crds::names::{annotation, label};

use super::leave::{self, Answer};
use super::model::{Live, Node, Standing, View};
use super::plan::{Decision, Inputs};

/// What a pod's labels say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// On which route it is: `false` writes, `true` reads; `None` none.
    pub readonly: Option<bool>,
    /// Which role it has.
    pub primary: Option<bool>,
    /// Whether exactly this pod may leave, as its annotation says.
    pub granted: bool,
}

impl Labels {
    /// Reads them from a pod's metadata, when they are of this replication.
    pub fn read(pod: &ObjectMeta, replication: &str) -> Self {
        let none = BTreeMap::new();
        let labels = pod.labels.as_ref().unwrap_or(&none);
        let annotations = pod.annotations.as_ref().unwrap_or(&none);
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
        Self {
            readonly,
            primary,
            granted: annotations
                .get(annotation::LEAVE_GRANTED)
                .is_some_and(|of| Some(of) == pod.uid.as_ref()),
        }
    }

    /// The annotations to apply to the pod with this uid.
    pub fn annotations(&self, uid: &str) -> BTreeMap<String, String> {
        let granted = self
            .granted
            .then(|| (annotation::LEAVE_GRANTED.to_owned(), uid.to_owned()));
        granted.into_iter().collect()
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
            let wanted = Labels {
                granted: leave::answer(inputs.group, inputs.state, inputs.world, name)
                    == Some(Answer::Granted),
                ..one(inputs, decision, name, node, labels)
            };
            Some((name.clone(), wanted))
        })
        .collect()
}

fn one(inputs: Inputs<'_>, decision: &Decision, name: &str, node: &Node, have: &Labels) -> Labels {
    let state = inputs.state;
    let view = inputs.world.agent(name);
    if state.primary.as_deref() == Some(name) {
        let leads = view.is_some_and(|view| view.leads(state.epoch));
        // a primary that goes on under a new epoch never stopped taking writes
        let goes_on = view.is_some_and(|view| goes_on(view, state.epoch));
        let ready =
            |view: &View| have.readonly == Some(false) || view.min_replicas == 0 || view.online > 0;
        let readonly = match view {
            _ if decision.withdraw => None,
            Some(view) if leads && view.reachable && ready(view) => Some(false),
            Some(_) if (leads || goes_on) && have.readonly == Some(false) => Some(false),
            Some(_) => None,
            None => have.readonly.filter(|readonly| !readonly),
        };
        let primary = match view {
            Some(_) => (leads || goes_on).then_some(true),
            // not seen: it may lead, and is not taken for a replica by those who restart pods
            None => have.primary.filter(|primary| *primary),
        };
        return Labels {
            readonly,
            primary,
            granted: false,
        };
    }
    let follows = view.is_some_and(|view| {
        view.live == Live::Replica
            && view.link_up
            && (view.grant_epoch == state.epoch || same_history(inputs, view))
    });
    // nobody is called a replica who is parked, copies, or is not seen
    let primary = follows.then_some(false);
    if node.isolated || node.removed {
        return Labels {
            readonly: None,
            primary: primary.filter(|_| !node.removed),
            granted: false,
        };
    }
    let readonly = match view {
        Some(_) if follows => Some(true),
        // an election parks everybody for a moment: readers are refused by the server and try again
        Some(view) if view.live == Live::Parked || view.reachable => have
            .readonly
            .filter(|readonly| *readonly && decision.withdraw),
        _ => have.readonly.filter(|readonly| *readonly),
    };
    Labels {
        readonly,
        primary,
        granted: false,
    }
}

/// Whether a primary leads on while the record is an epoch ahead of its grant.
fn goes_on(view: &View, epoch: i64) -> bool {
    view.live == Live::Primary && view.grant_epoch < epoch && view.standing == Standing::Continuous
}

/// Whether a replica follows the recorded primary, which goes on or has begun a new epoch that the replica was not told of yet.
fn same_history(inputs: Inputs<'_>, replica: &View) -> bool {
    let state = inputs.state;
    let leader = state
        .primary
        .as_deref()
        .and_then(|name| inputs.world.agent(name));
    leader.is_some_and(|leader| {
        (leader.leads(state.epoch) || goes_on(leader, state.epoch))
            && leader.replid == replica.replid
            && replica.primary_replid == leader.replid
    })
}

#[cfg(test)]
mod tests;
