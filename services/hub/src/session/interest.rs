//! What the hub observes in every cluster.

use upm_proto::{
    hub::v1 as pb,
    kinds::{KINDS, Kind},
};

/// Longest names that Kubernetes has: group and name, namespace.
const NAME: usize = 253;
const NAMESPACE: usize = 63;

/// Whether an object of this key is one of a kind's watch.
pub(super) fn selects(kind: &Kind, key: &pb::Key) -> bool {
    key.group == kind.group
        && key.kind == kind.kind
        && (kind.namespace().is_empty() || key.namespace == kind.namespace())
        && key.namespace.len() <= NAMESPACE
        && (1..=NAME).contains(&key.name.len())
}

/// The kind whose inventory this watch is; `None` when the hub did not ask for such a one.
pub(super) fn inventory(watch_id: u32) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| {
        kind.watch
            .is_some_and(|watch| watch.id == watch_id && watch.inventory)
    })
}

/// The interest, with the places where inventory watches resume.
pub(super) fn interest(resume: &[(u32, String)]) -> pb::Interest {
    let observed = KINDS
        .iter()
        .filter_map(|kind| Some((kind, kind.watch.as_ref()?)));
    let add = observed
        .map(|(kind, watch)| pb::Watch {
            watch_id: watch.id,
            group: kind.group.into(),
            version: kind.version.into(),
            kind: kind.kind.into(),
            namespace: kind.namespace().into(),
            selector: String::new(),
            field_mask: watch.mask.iter().map(ToString::to_string).collect(),
            min_interval_ms: 1_000,
            resume_rv: resume
                .iter()
                .find(|(id, _)| *id == watch.id)
                .map(|(_, token)| token.clone())
                .unwrap_or_default(),
            inventory: watch.inventory,
        })
        .collect();
    pb::Interest {
        add,
        remove: Vec::new(),
    }
}
