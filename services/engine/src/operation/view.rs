//! Operations as clients see them.

use prost::Message;
use upm_proto::operation::v1 as pb;

use crate::{
    journal::{Journal, millis, moment},
    operation::{Operation, State},
    plan::Plan,
};

const METADATA_TYPE: &str = "type.googleapis.com/upm.operation.v1.OperationMetadata";

impl Operation {
    /// As clients see it at this moment.
    pub fn to_pb(&self, now_us: i64) -> pb::Operation {
        let progress_percent = match self.state {
            State::Succeeded => 100,
            State::Pending
            | State::Running
            | State::Cancelling
            | State::Cancelled
            | State::RolledBack
            | State::Failed => self.journal.progress_percent(now_us).min(99),
        };
        let metadata = pb::OperationMetadata {
            target: self.target.clone(),
            kind: self.kind(),
            progress_percent,
        };
        let done = self.state.ended();
        let result = done.then(|| match &self.error {
            Some(error) => pb::operation::Result::Error(error.clone()),
            None => pb::operation::Result::Response(self.response.clone().unwrap_or_default()),
        });
        pb::Operation {
            name: self.name.clone(),
            metadata: Some(prost_types::Any {
                type_url: METADATA_TYPE.to_owned(),
                value: metadata.encode_to_vec(),
            }),
            done,
            state: pb::OperationState::from(self.state).into(),
            target: self.target.clone(),
            kind: self.kind(),
            steps: self
                .journal
                .steps
                .iter()
                .map(crate::journal::Record::to_pb)
                .collect(),
            progress_percent,
            create_time: moment(self.create_us),
            start_time: moment(self.start_us),
            end_time: moment(self.end_us),
            deadline: moment(self.deadline_us),
            principal: self.principal.clone(),
            trace_id: trace_id(&self.traceparent).to_owned(),
            cancellable: self.cancellable() && !self.cancel_requested,
            risk: self.risk.clone(),
            revision: self.revision,
            expected_duration: Some(millis(self.expected_ms)),
            result,
        }
    }
}

/// The answer to a `validate_only` request: the plan, and no name.
pub(crate) fn preview(engine: &str, target: &str, plan: &Plan) -> pb::Operation {
    pb::Operation {
        target: target.to_owned(),
        kind: format!("{engine}.{}", plan.verb),
        state: pb::OperationState::Pending.into(),
        steps: Journal::of(plan)
            .steps
            .iter()
            .map(crate::journal::Record::to_pb)
            .collect(),
        risk: plan.risk.clone(),
        expected_duration: Some(millis(plan.expected().as_millis() as i64)),
        ..Default::default()
    }
}

/// The 32 hex digits in a `traceparent`.
pub(crate) fn trace_id(traceparent: &str) -> &str {
    traceparent.split('-').nth(1).unwrap_or_default()
}

impl From<State> for pb::OperationState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Running => Self::Running,
            State::Cancelling => Self::Cancelling,
            State::Cancelled => Self::Cancelled,
            State::RolledBack => Self::RolledBack,
            State::Failed => Self::Failed,
            State::Succeeded => Self::Succeeded,
        }
    }
}
