//! The journal of an operation: one record per step, changed only by the pure transitions here.

use serde::{Deserialize, Serialize};
use upm_proto::operation::v1 as pb;

use crate::{Predicate, plan::Plan, steps::Step};

/// The steps of one operation and where each of them is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    /// In order.
    pub steps: Vec<Record>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Which.
    pub step: Step,
    /// What it does, in words.
    pub description: String,
    /// How long it usually takes.
    pub expected_ms: i64,
    /// Whether the operation can still be cancelled once this step has begun.
    pub point_of_no_return: bool,
    /// Where it is.
    pub state: State,
    /// When it began, microseconds UTC; 0 before.
    pub start_us: i64,
    /// When it ended, microseconds UTC; 0 before.
    pub end_us: i64,
    /// How often it was begun.
    pub attempts: i32,
    /// What it waits for or was refused by.
    pub predicates: Vec<Predicate>,
}

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Not begun.
    Pending,
    /// Being done or waiting.
    Running,
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Not needed.
    Skipped,
    /// Done and then undone.
    Undone,
}

impl State {
    /// Whether it may have had an effect that undoing has to look at.
    fn touched(self) -> bool {
        matches!(self, Self::Running | Self::Done | Self::Failed)
    }

    /// Whether nothing is left to do for it on the way forward.
    fn settled(self) -> bool {
        matches!(self, Self::Done | Self::Skipped)
    }
}

impl Journal {
    /// The journal of an operation that has not begun.
    pub fn of(plan: &Plan) -> Self {
        let steps = plan
            .steps
            .iter()
            .map(|planned| Record {
                step: planned.step.clone(),
                description: planned.description.clone(),
                expected_ms: planned.expected.as_millis() as i64,
                point_of_no_return: planned.point_of_no_return,
                state: State::Pending,
                start_us: 0,
                end_us: 0,
                attempts: 0,
                predicates: Vec::new(),
            })
            .collect();
        Self { steps }
    }

    /// The step to do next; `None` when all are settled.
    pub fn next(&self) -> Option<usize> {
        self.steps.iter().position(|record| !record.state.settled())
    }

    /// The step to undo next: the last one that may have had an effect.
    pub fn next_undo(&self) -> Option<usize> {
        self.steps.iter().rposition(|record| record.state.touched())
    }

    /// Whether a cancel is still accepted.
    pub fn cancellable(&self) -> bool {
        !self
            .steps
            .iter()
            .any(|record| record.point_of_no_return && record.state != State::Pending)
    }

    /// Begins a step, again after a crash.
    pub fn begin(&mut self, at: usize, now_us: i64) {
        let record = &mut self.steps[at];
        record.state = State::Running;
        record.attempts += 1;
        if record.start_us == 0 {
            record.start_us = now_us;
        }
    }

    /// Ends a step well.
    pub fn done(&mut self, at: usize, now_us: i64) {
        let record = &mut self.steps[at];
        record.state = State::Done;
        record.end_us = now_us;
        for predicate in &mut record.predicates {
            predicate.satisfied = true;
        }
    }

    /// Leaves a step out.
    pub fn skip(&mut self, at: usize, now_us: i64, why: Predicate) {
        let record = &mut self.steps[at];
        record.state = State::Skipped;
        record.end_us = now_us;
        record.predicates = vec![why];
    }

    /// Ends a step badly.
    pub fn fail(&mut self, at: usize, now_us: i64) {
        let record = &mut self.steps[at];
        record.state = State::Failed;
        record.end_us = now_us;
    }

    /// Notes what a step waits for; says whether that is news.
    pub fn wait(&mut self, at: usize, predicates: Vec<Predicate>) -> bool {
        let record = &mut self.steps[at];
        let news = record.predicates != predicates;
        record.predicates = predicates;
        news
    }

    /// Notes that a step's effect is gone.
    pub fn undone(&mut self, at: usize, now_us: i64) {
        let record = &mut self.steps[at];
        record.state = State::Undone;
        record.end_us = now_us;
    }

    /// 0 to 100 from the steps' expected times; a running step counts for the part of its time that has passed.
    pub fn progress_percent(&self, now_us: i64) -> i32 {
        let total: i64 = self
            .steps
            .iter()
            .map(|record| record.expected_ms.max(1))
            .sum();
        let passed: i64 = self
            .steps
            .iter()
            .map(|record| match record.state {
                State::Done | State::Skipped => record.expected_ms.max(1),
                State::Running => {
                    let elapsed_ms = (now_us - record.start_us).max(0) / 1000;
                    elapsed_ms.min(record.expected_ms * 9 / 10)
                }
                State::Pending | State::Failed | State::Undone => 0,
            })
            .sum();
        if total == 0 {
            return 0;
        }
        (passed * 100 / total).clamp(0, 100) as i32
    }
}

impl Record {
    /// As clients see it.
    pub fn to_pb(&self) -> pb::Step {
        pb::Step {
            name: self.step.name.clone(),
            description: self.description.clone(),
            state: pb::StepState::from(self.state).into(),
            start_time: moment(self.start_us),
            end_time: moment(self.end_us),
            predicates: self.predicates.iter().cloned().map(Into::into).collect(),
            attempts: self.attempts,
            expected_duration: Some(millis(self.expected_ms)),
            point_of_no_return: self.point_of_no_return,
        }
    }
}

/// A moment, unless it has not come.
pub(crate) fn moment(us: i64) -> Option<prost_types::Timestamp> {
    (us != 0).then(|| store::time::timestamp(us))
}

/// A length of time.
pub(crate) fn millis(ms: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: ms / 1000,
        nanos: (ms % 1000 * 1_000_000) as i32,
    }
}

impl From<State> for pb::StepState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::StepPending,
            State::Running => Self::StepRunning,
            State::Done => Self::StepDone,
            State::Failed => Self::StepFailed,
            State::Skipped => Self::StepSkipped,
            State::Undone => Self::StepUndone,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{plan::OnFailure, steps::Action};

    fn journal(steps: usize, point: usize) -> Journal {
        let mut plan = Plan::new("create", Duration::from_mins(1), OnFailure::Keep);
        for at in 0..steps {
            plan = plan.then(
                Step::new(&format!("Step{at}"), Action::Release),
                Duration::from_secs(1),
                "does it",
            );
            if at == point {
                plan = plan.point_of_no_return();
            }
        }
        Journal::of(&plan)
    }

    #[test]
    fn can_be_cancelled_until_the_point_of_no_return_begins() {
        let mut journal = journal(3, 1);
        journal.begin(0, 1);
        journal.done(0, 2);
        assert!(journal.cancellable());
        journal.begin(1, 3);
        assert!(!journal.cancellable());
    }

    #[test]
    fn counts_attempts_and_keeps_the_first_start() {
        let mut journal = journal(1, 9);
        journal.begin(0, 10);
        journal.begin(0, 20);
        assert_eq!(
            (journal.steps[0].attempts, journal.steps[0].start_us),
            (2, 10)
        );
    }

    proptest! {
        #[test]
        fn goes_forward_to_the_end_and_progress_never_falls(steps in 1_usize..12, skips in proptest::collection::vec(any::<bool>(), 12)) {
            let mut journal = journal(steps, 99);
            let mut before = 0;
            let mut turns = 0;
            while let Some(at) = journal.next() {
                journal.begin(at, turns);
                if skips[at] {
                    journal.skip(at, turns, Predicate::met("NOT_NEEDED", ""));
                } else {
                    journal.done(at, turns);
                }
                let now = journal.progress_percent(turns);
                prop_assert!(before <= now);
                before = now;
                turns += 1;
                prop_assert!(turns as usize <= steps);
            }
            prop_assert_eq!(before, 100);
        }

        #[test]
        fn undoes_in_reverse_what_was_touched_and_nothing_else(steps in 1_usize..12, reached in 0_usize..12) {
            let mut journal = journal(steps, 99);
            let reached = reached.min(steps - 1);
            for at in 0..reached {
                journal.begin(at, 1);
                journal.done(at, 2);
            }
            journal.begin(reached, 3);
            let mut order = Vec::new();
            while let Some(at) = journal.next_undo() {
                order.push(at);
                journal.undone(at, 4);
            }
            prop_assert_eq!(order, (0..=reached).rev().collect::<Vec<_>>());
            prop_assert!(journal.steps[reached + 1..].iter().all(|record| record.state == State::Pending));
        }
    }
}
