//! Why the unit agent does not do what it is asked to, as gRPC says it.

use prost::Message;
use tonic::{Code, Status};
use upm_proto::google::rpc;

/// The domain of the reasons.
pub const DOMAIN: &str = "unit.upm";

/// Why the unit agent does not do what it is asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A newer epoch was promised.
    #[error("epoch {asked} is older than the promised epoch {promised}")]
    StaleEpoch {
        /// What was asked for.
        asked: i64,
        /// What the member promised.
        promised: i64,
    },
    /// The epoch has begun for this member; it can only promise a later one.
    #[error("epoch {0} has begun for this member")]
    EpochBegun(i64),
    /// The member has another role in that epoch.
    #[error("the member was told to be {was} in epoch {epoch}")]
    OtherRole {
        /// Which epoch.
        epoch: i64,
        /// What it was told.
        was: &'static str,
    },
    /// The server was restarted since the epoch was granted; a new epoch is needed.
    #[error("the server was restarted since epoch {0} was granted")]
    Restarted(i64),
    /// The data are not those the member was elected with.
    #[error("the member is at {replid}:{offset}, elected at {expected_replid}:{expected_offset}")]
    PositionChanged {
        /// Its replication id.
        replid: String,
        /// Its offset.
        offset: i64,
        /// The one it was elected with.
        expected_replid: String,
        /// The least offset.
        expected_offset: i64,
    },
    /// A newer record of the group is in force.
    #[error("record {asked} is older than record {known}, which is in force")]
    StaleRecord {
        /// What was asked with.
        asked: i64,
        /// What is in force.
        known: i64,
    },
    /// The grant is for the data of another volume.
    #[error("the grant is for volume {0}, and this is another one")]
    OtherVolume(String),
    /// The member does not hold the epoch as primary.
    #[error("the member is not the primary of epoch {0}")]
    NotPrimary(i64),
    /// The server loads its data or copies them.
    #[error("the server loads its data")]
    Loading,
    /// The server does not run.
    #[error("the server does not run: {0}")]
    ServerDown(String),
    /// The server did not do it in time.
    #[error("the server did not do it: {0}")]
    Unresponsive(String),
    /// The process could not be ended.
    #[error("the server could neither be parked nor ended")]
    FenceUnconfirmed,
    /// The volume could not be written.
    #[error("the data volume could not be written: {0}")]
    Volume(String),
    /// The configuration cannot be rendered.
    #[error("the configuration cannot be rendered: {0}")]
    Configuration(String),
    /// The request is wrong in itself.
    #[error("{0}")]
    Invalid(&'static str),
    /// The unit agent is ending.
    #[error("the unit agent is ending")]
    Ending,
}

impl Refusal {
    fn classify(&self) -> (Code, &'static str) {
        match self {
            Self::StaleEpoch { .. } => (Code::FailedPrecondition, "STALE_EPOCH"),
            Self::StaleRecord { .. } => (Code::FailedPrecondition, "STALE_RECORD"),
            Self::OtherVolume(_) => (Code::FailedPrecondition, "OTHER_VOLUME"),
            Self::EpochBegun(_) => (Code::FailedPrecondition, "EPOCH_BEGUN"),
            Self::OtherRole { .. } => (Code::FailedPrecondition, "OTHER_ROLE"),
            Self::Restarted(_) => (Code::FailedPrecondition, "RESTARTED"),
            Self::PositionChanged { .. } => (Code::FailedPrecondition, "POSITION_CHANGED"),
            Self::NotPrimary(_) => (Code::FailedPrecondition, "NOT_PRIMARY"),
            Self::Configuration(_) => (Code::FailedPrecondition, "CONFIGURATION"),
            Self::Loading => (Code::Unavailable, "LOADING"),
            Self::ServerDown(_) => (Code::Unavailable, "SERVER_DOWN"),
            Self::Unresponsive(_) => (Code::Unavailable, "UNRESPONSIVE"),
            Self::FenceUnconfirmed => (Code::Unavailable, "FENCE_UNCONFIRMED"),
            Self::Volume(_) => (Code::Unavailable, "VOLUME"),
            Self::Ending => (Code::Unavailable, "ENDING"),
            Self::Invalid(_) => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        }
    }

    /// The stable reason.
    pub fn reason(&self) -> &'static str {
        self.classify().1
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let (code, reason) = refusal.classify();
        let message = refusal.to_string();
        let info = rpc::ErrorInfo {
            reason: reason.to_owned(),
            domain: DOMAIN.to_owned(),
            ..rpc::ErrorInfo::default()
        };
        let details = rpc::Status {
            code: code as i32,
            message: message.clone(),
            details: vec![prost_types::Any {
                type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
                value: info.encode_to_vec(),
            }],
        };
        Self::with_details(code, message, details.encode_to_vec().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_the_reason_as_error_info() {
        let status = Status::from(Refusal::StaleEpoch {
            asked: 3,
            promised: 4,
        });
        assert_eq!(status.code(), Code::FailedPrecondition);
        let details = rpc::Status::decode(status.details()).unwrap();
        let info = rpc::ErrorInfo::decode(details.details[0].value.as_slice()).unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("STALE_EPOCH", DOMAIN)
        );
    }
}
