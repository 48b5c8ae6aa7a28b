//! Members that are lost for good, and losses that are accepted.

use super::*;

#[test]
fn silent_acker_is_cut_off_before_it_is_forgotten() {
    let mut case = healthy();
    // its pod object is gone, or pending, or terminating: none of it says that no process acknowledges
    case.seen(2).view = None;
    case.seen(2).pod.leaving = true;
    case.seen(2).silent = Duration::from_secs(29);
    assert!(case.plan().actions.is_empty());
    case.seen(2).silent = Duration::from_secs(31);
    let (group, state, world) = (case.group.clone(), case.state.clone(), case.world.clone());
    case.memory.note(&group, &state, &world, Duration::ZERO);
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!(change.excluded, [name(2)].into());
    assert!(change.ackers.contains("r-2"));
    (case.state.excluded, case.state.version) = (change.excluded.clone(), 1);
    let grant = |decision: &Decision| match &decision.actions[..] {
        [
            Action::Grant {
                admitted,
                record_version,
                ..
            },
        ] => (admitted.clone(), *record_version),
        other => panic!("{other:?}"),
    };
    assert_eq!(grant(&case.plan()), ([id(1)].into(), 1));
    case.view(0).admitted = [id(1)].into();
    // what was decided from an older record may still be on its way
    assert_eq!(grant(&case.plan()), ([id(1)].into(), 1));
    case.view(0).record_version = 1;
    case.view(0).offset = 130;
    let (state, world) = (case.state.clone(), case.world.clone());
    case.memory.note(&group, &state, &world, Duration::ZERO);
    assert!(
        case.plan().actions.is_empty(),
        "r-1 has not what it had acknowledged"
    );
    case.view(1).offset = 130;
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!(change.ackers, [name(1)].into());
    assert!(!change.member_ids.contains_key("r-2"));
}

#[test]
fn only_acker_is_not_cut_off_for_its_silence() {
    let mut case = healthy();
    case.seen(2).view = None;
    case.seen(2).silent = Duration::from_secs(60);
    case.view(1).link_up = false;
    assert!(case.plan().actions.is_empty(), "{:?}", case.plan());
}

#[test]
fn power_loss_of_all_elects_the_fullest_disk_and_says_so() {
    let mut case = healthy();
    for index in 0..3 {
        case.fence(index, 6);
        let view = case.view(index);
        (view.standing, view.host_restarted) = (Standing::Interrupted, true);
        view.replid = format!("random-{index}");
        view.recorded_position = ("h".to_owned(), 100 + [0, 20, 10][index]);
    }
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!(change.primary, name(1));
    assert!(change.why.contains("appendfsync=always"), "{}", change.why);
    assert!(change.evidence.unwrap().at_risk().is_some());
    // a server that synced every write does not count as interrupted by the power
    case.view(0).host_restarted = false;
    let decision = case.plan();
    assert_eq!(recorded(&decision).primary, name(0));
    assert!(recorded(&decision).evidence.unwrap().at_risk().is_none());
    // somebody is not back yet
    case.view(0).host_restarted = true;
    case.seen(2).view = None;
    assert_eq!(case.plan().phase, Phase::Refused);
}

#[test]
fn accepted_loss_is_taken_whoever_is_reachable() {
    for gone in [vec![0, 1], vec![0, 2], vec![0], vec![1, 2], vec![0, 1, 2]] {
        let mut case = healthy().primary_lost();
        case.group.bounded_loss = true;
        case.seen(0).view = Some(View {
            live: Live::Parked,
            aof_intact: false,
            member_id: id(0),
            ..leader(5, 100)
        });
        for index in 0..3 {
            case.view(index).standing = Standing::Interrupted;
        }
        for index in &gone {
            case.seen(*index).view = None;
        }
        let mut elected = None;
        for _ in 0..400 {
            let decision = case.plan();
            case.memory.decided(&decision, Duration::from_millis(300));
            for index in 0..3 {
                let seen = case.seen(index);
                if seen.view.is_none() {
                    seen.silent += Duration::from_millis(300);
                }
            }
            for action in decision.actions {
                match action {
                    Action::Promise {
                        members,
                        besides,
                        epoch,
                    } => {
                        for member in members.iter().chain(&besides) {
                            let index = member[2..].parse().unwrap();
                            case.fence(index, epoch);
                        }
                    }
                    Action::Record(change) => elected = Some(change),
                    other => panic!("{other:?}"),
                }
            }
            if elected.is_some() {
                break;
            }
        }
        if gone.len() == 3 {
            assert!(elected.is_none() && case.plan().phase == Phase::Refused);
        } else {
            let change = elected.unwrap_or_else(|| panic!("nobody is elected without {gone:?}"));
            assert!(change.why.contains("would lead"), "{}", change.why);
        }
    }
}

#[test]
fn loss_is_ranked_by_position_and_not_by_keys() {
    let mut case = healthy().primary_lost();
    case.fence(1, 6);
    case.fence(2, 6);
    for index in 1..3 {
        case.view(index).standing = Standing::Interrupted;
    }
    case.view(1).recorded_position = ("h".to_owned(), 99);
    case.view(2).recorded_position = ("h".to_owned(), 80);
    (case.view(1).keys, case.view(2).keys) = (5, 900);
    let decision = case.plan();
    assert_eq!(decision.phase, Phase::Refused);
    let prospect = decision.prospect.unwrap();
    assert_eq!(prospect.candidate, name(1));
    // accepting exactly this is enough, anything else is not
    case.group.acceptance = Some(Acceptance {
        expected_epoch: 5,
        loss_id: "another".to_owned(),
    });
    assert_eq!(case.plan().phase, Phase::Refused);
    case.group.acceptance = Some(Acceptance {
        expected_epoch: 4,
        loss_id: prospect.loss_id.clone(),
    });
    assert_eq!(case.plan().phase, Phase::Refused);
    case.group.acceptance = Some(Acceptance {
        expected_epoch: 5,
        loss_id: prospect.loss_id,
    });
    let decision = case.plan();
    assert_eq!(recorded(&decision).primary, name(1));
    assert_eq!(recorded(&decision).evidence, Some(Evidence::LossAccepted));
}

#[test]
fn winner_that_never_led_and_is_gone_does_not_block() {
    let mut case = healthy();
    case.group.request = Some(Request {
        id: "a".to_owned(),
        target: name(2),
        expected_epoch: Some(5),
    });
    case.view(0).paused = true;
    case.fence(0, 6);
    let decision = case.plan();
    let change = recorded(&decision).clone();
    assert_eq!(change.primary, name(2));
    // its node dies before the grant, for good
    case.state.epoch = change.epoch;
    case.state.primary = Some(change.primary);
    case.state.ackers = change.ackers;
    case.state.member_ids = change.member_ids;
    case.state.prior = change.prior;
    case.state.answered = ["a".to_owned()].into();
    case.seen(2).view = None;
    case.seen(2).silent = Duration::from_secs(10);
    case.view(1).link_up = false;
    assert!(matches!(
        &case.plan().actions[..],
        [Action::Promise { epoch: 7, .. }]
    ));
    case.fence(0, 7);
    case.fence(1, 7);
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!((change.primary.as_str(), change.epoch), ("r-0", 7));
    assert!(
        change.ackers.contains("r-2"),
        "it may still follow who led before"
    );
    assert_eq!(change.prior.as_ref().unwrap().epoch, 5);
    // one that was told to follow it may have acknowledged, and is asked then
    case.view(1).grant_epoch = 6;
    let decision = case.plan();
    assert_eq!(recorded(&decision).primary, name(1));
    assert_eq!(recorded(&decision).prior.as_ref().unwrap().epoch, 6);
}

#[test]
fn record_that_was_rolled_back_follows_the_living_leader() {
    let mut case = healthy();
    case.state.epoch = 3;
    case.state.primary = Some(name(2));
    let decision = case.plan();
    let change = recorded(&decision);
    assert_eq!((change.primary.as_str(), change.epoch), ("r-0", 5));
    assert_eq!(change.ackers, [name(1), name(2)].into());
    // a volume of another group knows nothing of this one
    let mut case = healthy();
    case.view(2).grant_epoch = 40;
    case.view(2).member_id = id(9);
    case.view(2).live = Live::Parked;
    let decision = case.plan();
    assert_eq!(recorded(&decision).epoch, 5);
}
