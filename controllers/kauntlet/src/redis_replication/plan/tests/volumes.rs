//! The first primary, kept volumes, replaced volumes, volumes that are gone.

use super::*;

#[test]
fn the_first_primary_is_the_source_when_all_are_empty() {
    let mut case = healthy();
    case.state = State::default();
    for index in 0..3 {
        *case.view(index) = View {
            reachable: true,
            standing: Standing::Untold,
            replid: format!("own-{index}"),
            ..View::default()
        };
    }
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!((change.primary.as_str(), change.epoch), ("r-0", 1));
    case.seen(1).view = None;
    assert!(
        case.plan().actions.is_empty(),
        "data that is not seen may be the newest"
    );
}

#[test]
fn volumes_of_an_earlier_group_are_led_by_its_last_primary() {
    let mut case = healthy();
    case.state = State::default();
    for index in 0..3 {
        case.fence(index, 7);
        let view = case.view(index);
        (view.standing, view.grant_epoch) = (Standing::Interrupted, 7);
    }
    case.view(0).recorded = Some(Role::Replica);
    let group: BTreeSet<String> = (0..3).map(id).collect();
    let leads = case.view(2);
    leads.recorded = Some(Role::Primary);
    leads.group.clone_from(&group);
    let decision = case.plan();
    let change = recorded(&decision);
    // as the volumes tell; then it is an election like any other
    assert_eq!((change.primary.as_str(), change.epoch), ("r-2", 7));
    assert_eq!(change.ackers, [name(0), name(1)].into());
    change.enter(&mut case.state);
    for index in 0..3 {
        case.fence(index, 8);
        case.view(index).standing = Standing::Interrupted;
    }
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!((change.primary.as_str(), change.epoch), ("r-2", 8));
    assert_eq!(change.evidence, Some(Evidence::PrimaryIntact));
    case.view(2).aof_intact = false;
    assert_eq!(case.plan().phase, Phase::Refused);
}

/// Only the volume of `r-0` is here; it led in epoch 5, before it was away and others led.
fn stale_volume() -> Case {
    let mut case = healthy();
    case.state = State::default();
    for index in 1..3 {
        case.group.members.remove(&name(index));
        case.world.members.remove(&name(index));
    }
    case.fence(0, 5);
    let view = case.view(0);
    view.standing = Standing::Interrupted;
    view.recorded = Some(Role::Primary);
    view.group = (0..3).map(id).collect();
    case
}

#[test]
fn volume_of_a_group_alone_may_be_stale_and_is_refused() {
    let mut case = stale_volume();
    let decision = case.plan();
    assert_eq!(decision.phase, Phase::Refused, "{decision:?}");
    assert_eq!(
        facts(&decision),
        [("VolumePresent", ""), ("VolumePresent", "")]
    );
    // exactly this loss can be accepted
    let prospect = decision.prospect.unwrap();
    assert_eq!(prospect.candidate, name(0));
    case.group.acceptance = Some(Acceptance {
        expected_epoch: 0,
        loss_id: "000000000000".into(),
    });
    assert_eq!(case.plan().phase, Phase::Refused);
    case.group.acceptance = Some(Acceptance {
        expected_epoch: 0,
        loss_id: prospect.loss_id,
    });
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!((change.primary.as_str(), change.epoch), ("r-0", 6));
    assert_eq!(change.evidence, Some(Evidence::LossAccepted));
}

#[test]
fn volume_of_a_replica_alone_is_refused() {
    let mut case = stale_volume();
    let view = case.view(0);
    view.recorded = Some(Role::Replica);
    view.group.clear();
    let decision = case.plan();
    assert_eq!(decision.phase, Phase::Refused, "{decision:?}");
    assert_eq!(facts(&decision), [("LastPrimaryPresent", "")]);
    assert!(decision.prospect.is_some());
}

#[test]
fn volume_of_a_service_with_one_member_goes_on() {
    let mut case = stale_volume();
    case.view(0).group = [id(0)].into();
    assert_eq!(recorded(&case.plan()).primary, name(0));
}

/// `r-1` lags, `r-2` had more; the primary is lost, and `r-2` comes back with a new volume.
fn replaced_volume() -> Case {
    let mut case = healthy().primary_lost();
    case.view(1).offset = 90;
    case.fence(1, 6);
    *case.view(2) = View {
        reachable: true,
        live: Live::Parked,
        promised: 6,
        standing: Standing::Untold,
        replid: "random".to_owned(),
        member_id: id(7),
        ..View::default()
    };
    case
}

#[test]
fn replaced_volume_of_an_acker_refuses_and_is_named() {
    let mut case = replaced_volume();
    let decision = case.plan();
    assert_eq!(decision.phase, Phase::Refused);
    assert!(
        facts(&decision).contains(&("SameVolume", "r-2")),
        "{decision:?}"
    );
    // what the record does not name may be any volume
    case.state.member_ids.clear();
    let decision = case.plan();
    assert_eq!(decision.phase, Phase::Refused);
    assert!(
        facts(&decision).contains(&("SameVolume", "r-2")),
        "{decision:?}"
    );
}

#[test]
fn volume_under_another_name_vouches_for_its_own_data() {
    let mut case = replaced_volume();
    // r-2's volume is in r-1's pod now, and the other way round
    *case.view(2) = case.view(1).clone();
    case.view(2).member_id = id(1);
    case.view(1).member_id = id(2);
    case.view(1).offset = 100;
    assert_eq!(recorded(&case.plan()).primary, name(1));
}

#[test]
fn new_volume_joins_and_the_old_one_is_missed_until_covered() {
    let mut case = healthy();
    case.group.members.remove("r-1");
    case.state.ackers = [name(2)].into();
    case.state.member_ids.remove("r-1");
    case.world.members.remove("r-1");
    case.view(0).min_replicas = 0;
    case.view(0).admitted = [id(2)].into();
    *case.view(2) = View {
        reachable: true,
        standing: Standing::Untold,
        member_id: id(7),
        ..View::default()
    };
    let decision = case.plan();
    let change = recorded(&decision).clone();
    let old = Departed {
        name: name(2),
        id: id(2),
    };
    assert_eq!(change.departed, [old.clone()].into());
    assert_eq!(change.member_ids["r-2"], id(7));
    case.state.departed = change.departed;
    case.state.member_ids = change.member_ids;
    // the new one is admitted in place of the old one before it follows
    assert!(
        matches!(&case.plan().actions[..], [Action::Grant { admitted, .. }] if *admitted == [id(7)].into()),
        "{:?}",
        case.plan()
    );
    case.view(0).admitted = [id(7)].into();
    case.view(0).group = case.state.group();
    let (group, state, world) = (case.group.clone(), case.state.clone(), case.world.clone());
    case.memory.note(&group, &state, &world, Duration::ZERO);
    assert!(matches!(&case.plan().actions[..], [Action::Follow { .. }]));
    // not covered: the primary's death is refused
    let mut lost = Case {
        group: case.group.clone(),
        state: case.state.clone(),
        world: case.world.clone(),
        memory: Memory::default(),
    };
    lost.seen(0).view = None;
    lost.seen(0).silent = Duration::from_secs(10);
    lost.fence(2, 6);
    let decision = lost.plan();
    assert_eq!(decision.phase, Phase::Refused);
    assert!(
        facts(&decision).contains(&("VolumePresent", "r-2")),
        "{decision:?}"
    );
    // covered: forgotten
    *case.view(2) = View {
        member_id: id(7),
        ..replica(5, 100)
    };
    assert_eq!(recorded(&case.plan()).departed, [].into());
    let mut again = case.state.clone();
    again.departed.clear();
    assert_eq!(again.ackers, [name(2)].into());
}

#[test]
fn members_without_their_data_are_never_served_empty() {
    let mut case = healthy();
    for index in 0..3 {
        *case.view(index) = View {
            reachable: true,
            standing: Standing::Untold,
            replid: format!("random-{index}"),
            promised: 6,
            member_id: id(index + 7),
            ..View::default()
        };
    }
    case.state.positions.insert(
        name(0),
        Position {
            replid: "h".to_owned(),
            offset: 100,
            keys: 10,
        },
    );
    let decision = case.plan();
    assert_eq!(decision.phase, Phase::Refused, "{decision:?}");
    assert!(
        facts(&decision).contains(&("SameVolume", "r-0")),
        "{decision:?}"
    );
    // not even when the whole record is gone with them
    case.state = State::default();
    case.group.has_served = true;
    let decision = case.plan();
    assert_eq!(facts(&decision), [("DataPresent", "")]);
    assert_eq!(decision.phase, Phase::Refused);
    assert!(
        decision.prospect.is_some(),
        "an empty beginning can be accepted"
    );
}

#[test]
fn first_acker_after_the_last_one_left_needs_what_it_had() {
    let mut case = healthy();
    // r-1 and r-2 are isolated; r-1 went first, and r-2 acknowledged up to 100
    for index in 1..3 {
        case.group.members.get_mut(&name(index)).unwrap().isolated = true;
    }
    case.state.ackers = [name(2)].into();
    case.state.excluded = [name(2)].into();
    case.state.member_ids.remove(&name(1));
    case.state.version = 1;
    case.fence(2, 6);
    case.view(1).offset = 50;
    case.fence(1, 6);
    let leads = case.view(0);
    (leads.admitted, leads.record_version, leads.min_replicas) = (BTreeSet::new(), 1, 0);
    let (group, state, world) = (case.group.clone(), case.state.clone(), case.world.clone());
    case.memory.note(&group, &state, &world, Duration::ZERO);
    let decision = case.plan();
    let left = recorded(&decision).clone();
    assert!(left.ackers.is_empty());
    assert_eq!(
        left.must_cover,
        Some(History {
            replid: "h".into(),
            offset: 100
        })
    );
    left.enter(&mut case.state);
    // r-1 takes part again, copies, and the primary is lost
    case.group.members.get_mut(&name(1)).unwrap().isolated = false;
    case.state.ackers.insert(name(1));
    case.state.member_ids.insert(name(1), id(1));
    *case.view(1) = View {
        member_id: id(1),
        ..replica(5, 60)
    };
    let mut lost = Case {
        group: case.group.clone(),
        state: case.state.clone(),
        world: case.world.clone(),
        memory: Memory::default(),
    }
    .primary_lost();
    lost.fence(1, 6);
    assert_eq!(lost.plan().phase, Phase::Refused, "it lacks 40 bytes");
    lost.view(1).offset = 100;
    assert_eq!(recorded(&lost.plan()).primary, name(1));
    // seen with everything, it is an acker like any other
    case.view(1).offset = 100;
    let leads = case.view(0);
    leads.admitted = [id(1)].into();
    let decision = case.plan();
    assert_eq!(recorded(&decision).must_cover, None);
}

#[test]
fn former_primary_that_copies_does_not_veto() {
    let mut case = healthy().primary_lost();
    // r-1 led before with a tail that nobody confirmed, and follows now; r-2 has everything of the history since
    *case.view(1) = View {
        replid: "o".to_owned(),
        offset: 140,
        standing: Standing::Unsynced,
        ..case.view(1).clone()
    };
    let member = case.view(2);
    (member.replid2, member.second_offset) = ("o".to_owned(), 101);
    case.fence(1, 6);
    case.fence(2, 6);
    assert_eq!(recorded(&case.plan()).primary, name(2));
}
