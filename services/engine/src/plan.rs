//! What an operation will do: steps in order, their expected times, the risk in words.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::steps::Step;

/// The plan of one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// `create`, `delete`, …: with the engine's kind it names the operation.
    pub verb: &'static str,
    /// The steps in order.
    pub steps: Vec<Planned>,
    /// What it may do to the service while it runs, in words.
    pub risk: String,
    /// How long it may take before it is given up.
    pub deadline: Duration,
    /// What happens to done steps when a later one fails.
    pub on_failure: OnFailure,
}

/// One planned step.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Which.
    pub step: Step,
    /// What it does, in words.
    pub description: String,
    /// How long it usually takes.
    pub expected: Duration,
    /// Whether the operation can no longer be cancelled once this step has begun.
    pub point_of_no_return: bool,
}

/// What happens to done steps when a later one fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFailure {
    /// They stay, so that one can see why and try again.
    Keep,
    /// They are undone in reverse.
    RollBack,
}

impl Plan {
    /// A plan without steps.
    pub fn new(verb: &'static str, deadline: Duration, on_failure: OnFailure) -> Self {
        Self {
            verb,
            steps: Vec::new(),
            risk: String::new(),
            deadline,
            on_failure,
        }
    }

    /// Adds a step.
    pub fn then(mut self, step: Step, expected: Duration, description: impl Into<String>) -> Self {
        self.steps.push(Planned {
            step,
            description: description.into(),
            expected,
            point_of_no_return: false,
        });
        self
    }

    /// Makes the last step the point of no return.
    pub fn point_of_no_return(mut self) -> Self {
        if let Some(last) = self.steps.last_mut() {
            last.point_of_no_return = true;
        }
        self
    }

    /// Says what it may do to the service.
    pub fn risk(mut self, risk: impl Into<String>) -> Self {
        self.risk = risk.into();
        self
    }

    /// The expected time of the whole.
    pub fn expected(&self) -> Duration {
        self.steps.iter().map(|step| step.expected).sum()
    }
}
