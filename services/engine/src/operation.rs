//! A durable operation as the module keeps it, and the one decision about it: what comes next.

pub(crate) mod model;
mod view;

use mesh::{Details, Kind, PreconditionViolation};
use serde::{Deserialize, Serialize};
use upm_proto::google::rpc;

pub(crate) use self::view::preview;
use crate::{
    desired::Input,
    journal::{Journal, State as StepState},
    plan::OnFailure,
};

/// A durable operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// `operations/{module}/{operation}`.
    pub name: String,
    /// The engine's kind.
    pub engine: String,
    /// `create`, `delete`, ….
    pub verb: String,
    /// Name of the service.
    pub target: String,
    /// Its project.
    pub project: String,
    /// Who asked for it.
    pub principal: String,
    /// W3C trace context of the request that began it.
    pub traceparent: String,
    /// What it was asked for.
    pub input: Input,
    /// Its steps.
    pub journal: Journal,
    /// What it may do to the service, in words.
    pub risk: String,
    /// What happens to done steps when a later one fails.
    pub on_failure: OnFailure,
    /// Which way it goes.
    pub direction: Direction,
    /// Where it is.
    pub state: State,
    /// Why it failed, or will have failed once it is undone.
    pub error: Option<rpc::Status>,
    /// What it made.
    pub response: Option<prost_types::Any>,
    /// Which replica works on it.
    pub lease_owner: String,
    /// Counts the replicas that worked on it; the writer epoch towards the hub.
    pub lease_epoch: i64,
    /// Until when, microseconds UTC.
    pub lease_until_us: i64,
    /// Counts every change.
    pub revision: i64,
    /// Whether somebody wants it undone.
    pub cancel_requested: bool,
    /// How long it usually takes.
    pub expected_ms: i64,
    /// When it is given up.
    pub deadline_us: i64,
    /// When undoing it is given up; 0 before it is undone.
    pub undo_deadline_us: i64,
    /// When it was accepted.
    pub create_us: i64,
    /// When its first step began; 0 before.
    pub start_us: i64,
    /// When it ended; 0 before.
    pub end_us: i64,
}

/// Which way an operation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Towards its end.
    Forward,
    /// Back, because somebody wants it.
    Cancelling,
    /// Back, because a step failed.
    RollingBack,
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Not begun.
    Pending,
    /// A step is being done.
    Running,
    /// Being undone.
    Cancelling,
    /// Undone because somebody wanted it.
    Cancelled,
    /// Undone because a step failed.
    RolledBack,
    /// Ended with an error.
    Failed,
    /// Ended well.
    Succeeded,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Do this step.
    Do(usize),
    /// Turn round: a cancel was accepted.
    TurnRound,
    /// Undo this step.
    Undo(usize),
    /// All steps are done.
    Succeed,
    /// All steps are undone.
    EndUndone,
    /// Nothing: it has ended.
    Nothing,
}

impl State {
    /// Whether nothing will happen any more.
    pub fn ended(self) -> bool {
        match self {
            Self::Pending | Self::Running | Self::Cancelling => false,
            Self::Cancelled | Self::RolledBack | Self::Failed | Self::Succeeded => true,
        }
    }
}

impl Operation {
    /// `<engine>.<verb>`.
    pub fn kind(&self) -> String {
        format!("{}.{}", self.engine, self.verb)
    }

    /// The last part of the name.
    pub fn id(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }

    /// Whether a cancel is still accepted.
    pub fn cancellable(&self) -> bool {
        !self.state.ended() && self.direction == Direction::Forward && self.journal.cancellable()
    }

    /// Decides what comes next.
    pub(crate) fn next(&self) -> Next {
        if self.state.ended() {
            return Next::Nothing;
        }
        match self.direction {
            Direction::Forward if self.cancel_requested && self.journal.cancellable() => {
                Next::TurnRound
            }
            Direction::Forward => self.journal.next().map_or(Next::Succeed, Next::Do),
            Direction::Cancelling | Direction::RollingBack => {
                self.journal.next_undo().map_or(Next::EndUndone, Next::Undo)
            }
        }
    }

    /// Begins a step.
    pub(crate) fn begin(&mut self, at: usize, now_us: i64) {
        self.state = State::Running;
        if self.start_us == 0 {
            self.start_us = now_us;
        }
        self.journal.begin(at, now_us);
    }

    /// Turns round, with a time of its own for undoing.
    pub(crate) fn turn_round(&mut self, direction: Direction, undo_deadline_us: i64) {
        self.direction = direction;
        self.state = State::Cancelling;
        self.undo_deadline_us = undo_deadline_us;
        if direction == Direction::Cancelling {
            self.error = Some(cancelled(&self.name, &self.verb));
        }
    }

    /// Notes that a step failed, and decides which way that leads: back, or to the end.
    pub(crate) fn fail(
        &mut self,
        at: usize,
        error: rpc::Status,
        roll_back: bool,
        now_us: i64,
        undo_us: i64,
    ) {
        self.journal.fail(at, now_us);
        self.error = Some(error);
        let back = roll_back || self.on_failure == OnFailure::RollBack;
        if back
            && self
                .journal
                .steps
                .iter()
                .any(|record| record.state != StepState::Pending)
        {
            self.turn_round(Direction::RollingBack, now_us + undo_us);
        } else {
            self.end(State::Failed, now_us);
        }
    }

    /// Ends it.
    pub(crate) fn end(&mut self, state: State, now_us: i64) {
        self.state = state;
        self.end_us = now_us;
        if state == State::Succeeded {
            self.error = None;
        }
    }

    /// The error of a step that waited until the deadline.
    pub(crate) fn overdue(&self, at: usize) -> rpc::Status {
        let record = &self.journal.steps[at];
        let unmet = crate::predicate::unmet_in_words(&record.predicates);
        let details = Details {
            preconditions: crate::error::violations(&self.target, &record.predicates),
            ..Details::fact("operation", &self.name).with_fact("step", &record.step.name)
        };
        mesh::status::to_rpc(&mesh::status::build(
            Kind::DeadlineExceeded,
            crate::error::DOMAIN,
            "OPERATION_DEADLINE",
            format!(
                "{} did not end before the operation's deadline: {unmet}",
                record.step.name
            ),
            &details,
        ))
    }
}

fn cancelled(operation: &str, verb: &str) -> rpc::Status {
    let words = if verb == "restart" {
        "cancelled; units that were restarted stay so, the others are left alone"
    } else {
        "cancelled; what had been done is undone"
    };
    mesh::status::to_rpc(&mesh::status::build(
        Kind::Cancelled,
        crate::error::DOMAIN,
        "OPERATION_CANCELLED",
        words.to_owned(),
        &Details {
            preconditions: Vec::<PreconditionViolation>::new(),
            ..Details::fact("operation", operation)
        },
    ))
}

#[cfg(test)]
mod tests;
