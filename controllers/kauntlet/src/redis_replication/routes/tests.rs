use std::time::Duration;

use super::*;
use crate::redis_replication::model::{Group, Role, Seen, State, World};
use crate::redis_replication::plan::{Memory, Phase};

fn view(live: Live, epoch: i64) -> View {
    View {
        reachable: true,
        live,
        recorded: Some(if live == Live::Primary {
            Role::Primary
        } else {
            Role::Replica
        }),
        grant_epoch: epoch,
        promised: epoch,
        standing: if live == Live::Primary {
            Standing::Continuous
        } else {
            Standing::Synced
        },
        replid: "h".to_owned(),
        primary_replid: "h".to_owned(),
        link_up: live == Live::Replica,
        online: usize::from(live == Live::Primary),
        ..View::default()
    }
}

/// What the labels of `r-0`, the recorded primary of epoch 5, and `r-1` become.
fn labels(views: [Option<View>; 2], have: [Labels; 2], withdraw: bool) -> [Labels; 2] {
    let mut group = Group::default();
    let mut world = World::default();
    let mut had = BTreeMap::new();
    for (index, (view, have)) in views.into_iter().zip(have).enumerate() {
        let name = format!("r-{index}");
        group.members.insert(name.clone(), Node::default());
        let seen = Seen {
            view,
            silent: Duration::ZERO,
            ..Seen::default()
        };
        world.members.insert(name.clone(), seen);
        had.insert(name, have);
    }
    let state = State {
        epoch: 5,
        primary: Some("r-0".to_owned()),
        ..State::default()
    };
    let memory = Memory::default();
    let inputs = Inputs {
        group: &group,
        state: &state,
        world: &world,
        memory: &memory,
    };
    let decision = Decision {
        phase: Phase::Steady,
        withdraw,
        ..Decision::default()
    };
    let mut wanted = desired(inputs, &decision, &had).into_values();
    [wanted.next().unwrap(), wanted.next().unwrap()]
}

fn on(readonly: bool) -> Labels {
    Labels {
        readonly: Some(readonly),
        primary: Some(!readonly),
        granted: false,
    }
}

#[test]
fn member_that_follows_is_a_replica_and_on_the_read_route() {
    let views = [Some(view(Live::Primary, 5)), Some(view(Live::Replica, 5))];
    assert_eq!(
        labels(views, Default::default(), false),
        [on(false), on(true)]
    );
}

#[test]
fn nobody_is_called_a_replica_who_is_parked_or_unseen() {
    let leader = || Some(view(Live::Primary, 5));
    for other in [
        Some(view(Live::Parked, 5)),
        None,
        Some(View {
            link_up: false,
            syncing: true,
            ..view(Live::Replica, 5)
        }),
    ] {
        let [_, labelled] = labels([leader(), other.clone()], Default::default(), false);
        assert_eq!(labelled.primary, None, "{other:?}");
        let [_, labelled] = labels([leader(), other.clone()], [on(false), on(true)], false);
        assert_eq!(labelled.primary, None, "also when it was one: {other:?}");
    }
}

#[test]
fn primary_that_was_parked_is_not_called_one_any_more() {
    let views = [Some(view(Live::Parked, 5)), Some(view(Live::Parked, 5))];
    let [primary, _] = labels(views, [on(false), on(true)], true);
    assert_eq!((primary.primary, primary.readonly), (None, None));
    let unseen = [None, Some(view(Live::Replica, 5))];
    let [primary, _] = labels(unseen, [on(false), on(true)], false);
    assert_eq!(primary.primary, Some(true), "it may lead still");
}

#[test]
fn routes_stay_while_the_primary_goes_on_under_a_new_epoch() {
    let views = || [Some(view(Live::Primary, 4)), Some(view(Live::Replica, 4))];
    let kept = labels(views(), [on(false), on(true)], false);
    assert_eq!(kept, [on(false), on(true)]);
    let granted = [Some(view(Live::Primary, 5)), Some(view(Live::Replica, 4))];
    let kept = labels(granted, [on(false), on(true)], false);
    assert_eq!(kept, [on(false), on(true)], "the replica was not told yet");
    let elected = [
        Some(View {
            standing: Standing::Synced,
            ..view(Live::Parked, 4)
        }),
        Some(view(Live::Replica, 4)),
    ];
    let [primary, replica] = labels(elected, [on(false), on(true)], false);
    assert_eq!(primary.readonly, None, "not granted yet");
    assert_eq!(replica.readonly, None, "it follows the one before");
}

#[test]
fn grant_is_written_for_exactly_one_pod() {
    let granted = Labels {
        granted: true,
        ..Labels::default()
    };
    assert_eq!(
        granted.annotations("u1"),
        BTreeMap::from([(annotation::LEAVE_GRANTED.to_owned(), "u1".to_owned())])
    );
    assert!(Labels::default().annotations("u1").is_empty());
    let pod = |uid: &str| ObjectMeta {
        uid: Some(uid.to_owned()),
        annotations: Some(granted.annotations("u1")),
        ..ObjectMeta::default()
    };
    assert!(Labels::read(&pod("u1"), "demo").granted);
    assert!(!Labels::read(&pod("u2"), "demo").granted);
}
