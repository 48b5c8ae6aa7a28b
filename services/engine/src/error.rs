//! What can be wrong with a request about a data service, and what the caller is told.

use mesh::{Classify, Details, FieldViolation, Kind, PreconditionViolation};

use crate::{Predicate, desired::Retained};

/// Domain of the errors of data services.
pub const DOMAIN: &str = "engine.upm";

/// An error about a data service or one of its operations.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the request are wrong.
    #[error("{}", in_words(.0))]
    Invalid(Vec<FieldViolation>),
    /// There is no such service.
    #[error("{0} does not exist")]
    ServiceNotFound(String),
    /// There is one already.
    #[error("{0} exists already")]
    ServiceExists(String),
    /// Something that the request names in a field does not exist.
    #[error("{what} does not exist")]
    Missing {
        /// Resource name.
        what: String,
        /// `CLUSTER_NOT_FOUND` and the like.
        reason: &'static str,
        /// The request field.
        field: String,
    },
    /// Something that the request names in a field cannot be used now.
    #[error("{message}")]
    Unfit {
        /// Resource name.
        what: String,
        /// `CLUSTER_CORDONED` and the like.
        reason: &'static str,
        /// The request field.
        field: String,
        /// In words.
        message: String,
    },
    /// Volumes of an earlier service of this name exist and nobody chose what to do with them.
    #[error(
        "volumes of an earlier {name} exist on clusters/{} ({} x {}): set retained_data to ADOPT or DISCARD",
        retained.cluster, retained.members(), retained.size()
    )]
    DataRetained {
        /// Service name.
        name: String,
        /// What is there.
        retained: Retained,
    },
    /// Retained volumes are on another cluster than the one that is asked for.
    #[error("volumes of an earlier {name} are on clusters/{cluster}: create the service there")]
    DataElsewhere {
        /// Service name.
        name: String,
        /// Cluster id.
        cluster: String,
    },
    /// Fewer members than there are retained volumes: one that is left out may have the newest data.
    #[error(
        "an earlier {name} had {members} members, and the volume of any of them may have the newest data: create it with {members} members, \
         and scale in afterwards"
    )]
    DataLeftOut {
        /// Service name.
        name: String,
        /// How many members had volumes.
        members: u32,
    },
    /// Another operation works on the service.
    #[error("{operation} works on {name}: wait for it or cancel it")]
    InProgress {
        /// Service name.
        name: String,
        /// Operation name.
        operation: String,
    },
    /// The service is not in a state in which that can be done.
    #[error("{name}: {message}")]
    Refused {
        /// Service name.
        name: String,
        /// UPPER_SNAKE.
        reason: &'static str,
        /// In words.
        message: String,
        /// What does not hold.
        predicates: Vec<Predicate>,
    },
    /// There is no such operation, or the caller may not see it.
    #[error("{0} does not exist")]
    OperationNotFound(String),
    /// The operation has ended.
    #[error("{0} has ended")]
    OperationDone(String),
    /// The operation can only go on.
    #[error("{operation} cannot be undone any more: {step} has begun")]
    PastPointOfNoReturn {
        /// Operation name.
        operation: String,
        /// The step.
        step: String,
    },
    /// Somebody changed the service while the request was checked.
    #[error("{0} was changed meanwhile; send the request again")]
    Changed(String),
    /// Another replica has taken the operation over.
    #[error("the lease of {0} was lost")]
    Fenced(String),
    /// Another module refused; its status goes on as it is.
    #[error("{}", .0.message())]
    Peer(Box<tonic::Status>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A value could not be made into JSON.
    #[error("encode {what}")]
    Encode {
        /// What.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// Stored JSON could not be read.
    #[error("read the stored {what} of {name}")]
    Decode {
        /// What.
        what: &'static str,
        /// Of which row.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Something that cannot be.
    #[error("{0}")]
    Broken(&'static str),
}

impl Error {
    /// One wrong field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldViolation {
            field: field.into(),
            description: description.into(),
        }])
    }

    /// A refusal without predicates.
    pub fn refused(
        name: impl Into<String>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self::Refused {
            name: name.into(),
            reason,
            message: message.into(),
            predicates: Vec::new(),
        }
    }
}

fn in_words(fields: &[FieldViolation]) -> String {
    fields
        .iter()
        .map(|violation| format!("{}: {}", violation.field, violation.description))
        .collect::<Vec<_>>()
        .join("; ")
}

impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Peer(Box::new(status))
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) => Kind::InvalidArgument,
            Self::ServiceNotFound(_) | Self::OperationNotFound(_) | Self::Missing { .. } => {
                Kind::NotFound
            }
            Self::ServiceExists(_) => Kind::AlreadyExists,
            Self::Unfit { .. }
            | Self::DataRetained { .. }
            | Self::DataElsewhere { .. }
            | Self::DataLeftOut { .. }
            | Self::InProgress { .. }
            | Self::Refused { .. }
            | Self::OperationDone(_)
            | Self::PastPointOfNoReturn { .. } => Kind::FailedPrecondition,
            Self::Changed(_) | Self::Fenced(_) => Kind::Aborted,
            Self::Peer(status) => Kind::of(status.code()).unwrap_or(Kind::Internal),
            Self::Store(error) => error.kind(),
            Self::Encode { .. } | Self::Decode { .. } | Self::Broken(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "INVALID_FIELD",
            Self::ServiceNotFound(_) => "SERVICE_NOT_FOUND",
            Self::ServiceExists(_) => "SERVICE_EXISTS",
            Self::Missing { reason, .. }
            | Self::Unfit { reason, .. }
            | Self::Refused { reason, .. } => reason,
            Self::DataRetained { .. } => "DATA_RETAINED",
            Self::DataElsewhere { .. } => "DATA_ON_OTHER_CLUSTER",
            Self::DataLeftOut { .. } => "DATA_LEFT_OUT",
            Self::InProgress { .. } => "OPERATION_IN_PROGRESS",
            Self::OperationNotFound(_) => "OPERATION_NOT_FOUND",
            Self::OperationDone(_) => "OPERATION_DONE",
            Self::PastPointOfNoReturn { .. } => "PAST_POINT_OF_NO_RETURN",
            Self::Changed(_) => "CHANGED_MEANWHILE",
            Self::Fenced(_) => "LEASE_LOST",
            Self::Peer(_) => "PEER_REFUSED",
            Self::Store(error) => error.reason(),
            Self::Encode { .. } | Self::Decode { .. } | Self::Broken(_) => "ENGINE_FAILED",
        }
    }

    fn details(&self) -> Details {
        match self {
            Self::Invalid(fields) => Details {
                fields: fields.clone(),
                ..Details::default()
            },
            Self::Missing { what, field, .. } => {
                Details::field(field, format!("{what} does not exist")).with_fact("resource", what)
            }
            Self::Unfit {
                what,
                reason,
                field,
                message,
            } => Details {
                preconditions: vec![PreconditionViolation {
                    kind: (*reason).to_owned(),
                    subject: what.clone(),
                    description: message.clone(),
                }],
                ..Details::field(field, message).with_fact("resource", what)
            },
            Self::ServiceNotFound(name) | Self::ServiceExists(name) | Self::Changed(name) => {
                Details::fact("service", name)
            }
            Self::DataRetained { name, retained } => Details::fact("service", name)
                .with_fact("cluster", &retained.cluster)
                .with_fact("members", retained.members().to_string())
                .with_fact("size", retained.size())
                .with_fact("since", rfc3339(retained.since_us)),
            Self::DataElsewhere { name, cluster } => {
                Details::fact("service", name).with_fact("cluster", cluster)
            }
            Self::DataLeftOut { name, members } => {
                Details::fact("service", name).with_fact("members", members.to_string())
            }
            Self::InProgress { name, operation } => Details {
                preconditions: vec![PreconditionViolation {
                    kind: "NO_OPERATION_IN_PROGRESS".to_owned(),
                    subject: name.clone(),
                    description: self.to_string(),
                }],
                ..Details::fact("operation", operation).with_fact("service", name)
            },
            Self::Refused {
                name, predicates, ..
            } => Details {
                preconditions: violations(name, predicates),
                ..Details::fact("service", name)
            },
            Self::OperationNotFound(operation)
            | Self::OperationDone(operation)
            | Self::Fenced(operation) => Details::fact("operation", operation),
            Self::PastPointOfNoReturn { operation, step } => {
                Details::fact("operation", operation).with_fact("step", step)
            }
            Self::Store(error) => error.details(),
            Self::Peer(_) | Self::Encode { .. } | Self::Decode { .. } | Self::Broken(_) => {
                Details::default()
            }
        }
    }
}

/// The predicates that do not hold, as details of an error about `subject`.
pub(crate) fn violations(subject: &str, predicates: &[Predicate]) -> Vec<PreconditionViolation> {
    predicates
        .iter()
        .filter(|predicate| !predicate.satisfied)
        .map(|predicate| PreconditionViolation {
            kind: predicate.name.clone(),
            subject: subject.to_owned(),
            description: predicate.reason.clone(),
        })
        .collect()
}

/// A moment as RFC 3339.
pub fn rfc3339(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us)
        .map_or_else(|_| us.to_string(), |moment| moment.to_string())
}

/// Another module's status goes on as it is; the others are made here.
impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Peer(status) => *status,
            other => mesh::into_status(other, DOMAIN),
        }
    }
}
