use std::time::Duration;

use proptest::prelude::*;
use upm_proto::google::rpc;

use super::*;
use crate::{
    desired::RetainedVolumes,
    plan::Plan,
    steps::{Action, Step},
    workflows,
    world::{PACE, demo, main},
};

fn operation(plan: &Plan) -> Operation {
    Operation {
        name: "operations/toy/x".into(),
        engine: "toy".into(),
        verb: plan.verb.into(),
        target: demo().to_string(),
        project: "p".into(),
        principal: "users/ada".into(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        input: Input::default(),
        journal: Journal::of(plan),
        risk: String::new(),
        on_failure: plan.on_failure,
        direction: Direction::Forward,
        state: State::Pending,
        error: None,
        response: None,
        lease_owner: String::new(),
        lease_epoch: 0,
        lease_until_us: 0,
        revision: 1,
        cancel_requested: false,
        expected_ms: 0,
        deadline_us: 0,
        undo_deadline_us: 0,
        create_us: 1,
        start_us: 0,
        end_us: 0,
    }
}

/// What may happen to an operation at any time.
#[derive(Clone, Copy, Debug)]
enum Event {
    Works,
    Fails { roll_back: bool },
    Cancelled,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => Just(Event::Works),
        1 => any::<bool>().prop_map(|roll_back| Event::Fails { roll_back }),
        1 => Just(Event::Cancelled),
    ];
    proptest::collection::vec(event, 0..60)
}

proptest! {
    #[test]
    fn whatever_happens_it_ends_once_and_rightly(events in events()) {
        let plan = workflows::create(&PACE, &demo(), "c", &main(3), RetainedVolumes::Refuse);
        let mut operation = operation(&plan);
        let mut turns = 0;
        let mut events = events.into_iter();
        while !operation.state.ended() {
            turns += 1;
            prop_assert!(turns < 200, "{operation:#?}");
            let event = events.next().unwrap_or(Event::Works);
            if matches!(event, Event::Cancelled) && operation.cancellable() {
                operation.cancel_requested = true;
            }
            match operation.next() {
                Next::Do(at) => {
                    operation.begin(at, turns);
                    match event {
                        Event::Fails { roll_back } => operation.fail(at, rpc::Status::default(), roll_back, turns, 10),
                        Event::Works | Event::Cancelled => operation.journal.done(at, turns),
                    }
                }
                Next::Undo(at) => operation.journal.undone(at, turns),
                Next::TurnRound => operation.turn_round(Direction::Cancelling, 10),
                Next::Succeed => operation.end(State::Succeeded, turns),
                Next::EndUndone => {
                    let state = if operation.direction == Direction::Cancelling { State::Cancelled } else { State::RolledBack };
                    operation.end(state, turns);
                }
                Next::Nothing => prop_assert!(false, "it has not ended"),
            }
        }
        prop_assert_eq!(operation.next(), Next::Nothing);
        prop_assert!(!operation.cancellable());
        let touched = |state| operation.journal.steps.iter().any(|record| record.state == state);
        match operation.state {
            State::Succeeded => prop_assert!(!touched(StepState::Pending) && operation.error.is_none()),
            State::Cancelled | State::RolledBack => {
                prop_assert!(!touched(StepState::Done) && !touched(StepState::Running) && operation.error.is_some());
            }
            _ => prop_assert!(operation.error.is_some()),
        }
        let shown = operation.to_pb(turns);
        prop_assert!(shown.done && !shown.cancellable);
    }
}

#[test]
fn a_cancel_that_came_too_late_changes_nothing() {
    let plan = Plan::new("restart", Duration::from_secs(1), OnFailure::Keep)
        .then(
            Step::new("ApplyRestart", Action::Release),
            Duration::from_secs(1),
            "restart",
        )
        .point_of_no_return();
    let mut operation = operation(&plan);
    operation.begin(0, 1);
    operation.cancel_requested = true;
    assert_eq!(operation.next(), Next::Do(0));
}

#[test]
fn shows_the_plan_of_what_is_only_validated() {
    let plan = workflows::create(&PACE, &demo(), "c", &main(3), RetainedVolumes::Refuse);
    let shown = preview("toy", "projects/p/toyServices/demo", &plan);
    assert!(shown.name.is_empty() && !shown.done);
    assert_eq!(shown.kind, "toy.create");
    assert!(
        shown
            .steps
            .iter()
            .all(|step| step.state() == upm_proto::operation::v1::StepState::StepPending)
    );
}
