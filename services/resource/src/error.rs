//! What can go wrong in module `resource`.

use std::time::Duration;

use upm_mesh::{Classify, Details, FieldViolation, Kind, QuotaViolation, describe};
use upm_store as store;

/// Errors of this module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the request are wrong.
    #[error("{}", describe(.0))]
    Fields(Vec<FieldViolation>),
    /// The project does not exist.
    #[error("project {0} does not exist")]
    NoProject(String),
    /// A project of this id exists.
    #[error("project {0} exists already")]
    ProjectExists(String),
    /// Others still know the project that had this id.
    #[error(
        "project {0} was deleted just now; its id is free when its roles are taken away and its clusters have been told"
    )]
    ProjectBeingDeleted(String),
    /// The project still has services.
    #[error("project {project} still has {services} services")]
    ProjectNotEmpty {
        /// Id of the project.
        project: String,
        /// How many.
        services: i64,
    },
    /// A service of this id exists in the project, perhaps of another engine.
    #[error("{0} exists already")]
    ServiceExists(String),
    /// The project's quota does not allow it.
    #[error("the quota of project {project} allows {limit} {what}, {wanted} would be used")]
    QuotaExceeded {
        /// Id of the project.
        project: String,
        /// `services` or `units`.
        what: &'static str,
        /// The quota.
        limit: i32,
        /// What would be used.
        wanted: i64,
    },
    /// The cluster does not exist.
    #[error("cluster {0} does not exist")]
    NoCluster(String),
    /// A cluster of this id exists.
    #[error("cluster {0} exists already")]
    ClusterExists(String),
    /// The cluster still has services.
    #[error("cluster {cluster} still has {services} services")]
    ClusterNotEmpty {
        /// Id of the cluster.
        cluster: String,
        /// How many.
        services: i64,
    },
    /// No such node or storage class was reported.
    #[error("{0} was not reported by the cluster's agent")]
    NotReported(String),
    /// No such package.
    #[error("software {0} is not in the catalogue")]
    NoSoftware(String),
    /// A built-in package cannot be read.
    #[error("read built-in package {name}: {problem}")]
    Package {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Module `auth` refused or cannot be reached.
    #[error("ask module auth: {}", .0.message())]
    Auth(tonic::Status),
    /// The hub refused or cannot be reached.
    #[error("ask the hub: {}", .0.message())]
    Hub(tonic::Status),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A query failed.
    #[error("query the resources")]
    Query(#[from] diesel::result::Error),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Fields(vec![FieldViolation::new(field, description)])
    }
}

impl From<FieldViolation> for Error {
    fn from(violation: FieldViolation) -> Self {
        Self::Fields(vec![violation])
    }
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Fields(_) => Kind::InvalidArgument,
            Self::NoProject(_)
            | Self::NoCluster(_)
            | Self::NotReported(_)
            | Self::NoSoftware(_) => Kind::NotFound,
            Self::ProjectExists(_) | Self::ServiceExists(_) | Self::ClusterExists(_) => {
                Kind::AlreadyExists
            }
            Self::ProjectBeingDeleted(_)
            | Self::ProjectNotEmpty { .. }
            | Self::ClusterNotEmpty { .. } => Kind::FailedPrecondition,
            Self::QuotaExceeded { .. } => Kind::ResourceExhausted,
            Self::Hub(_) | Self::Auth(_) => Kind::Unavailable,
            Self::Store(error) => error.kind(),
            Self::Package { .. } | Self::Query(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Fields(_) => "INVALID_FIELD",
            Self::NoProject(_) => "PROJECT_NOT_FOUND",
            Self::ProjectExists(_) => "PROJECT_EXISTS",
            Self::ProjectBeingDeleted(_) => "PROJECT_BEING_DELETED",
            Self::ProjectNotEmpty { .. } => "PROJECT_NOT_EMPTY",
            Self::ServiceExists(_) => "SERVICE_EXISTS",
            Self::QuotaExceeded { .. } => "QUOTA_EXCEEDED",
            Self::NoCluster(_) => "CLUSTER_NOT_FOUND",
            Self::ClusterExists(_) => "CLUSTER_EXISTS",
            Self::ClusterNotEmpty { .. } => "CLUSTER_NOT_EMPTY",
            Self::NotReported(_) => "NOT_REPORTED",
            Self::NoSoftware(_) => "SOFTWARE_NOT_FOUND",
            Self::Package { .. } => "PACKAGE_MALFORMED",
            Self::Hub(_) => "HUB_UNAVAILABLE",
            Self::Auth(_) => "AUTH_UNAVAILABLE",
            Self::Store(error) => error.reason(),
            Self::Query(_) => "QUERY_FAILED",
        }
    }

    fn details(&self) -> Details {
        match self {
            Self::Fields(fields) => Details {
                fields: fields.clone(),
                ..Details::default()
            },
            Self::QuotaExceeded { project, .. } => Details {
                quota: vec![QuotaViolation {
                    subject: format!("project:{project}"),
                    description: self.to_string(),
                }],
                ..Details::default()
            },
            Self::ProjectBeingDeleted(_) => Details {
                retry_after: Some(Duration::from_secs(1)),
                ..Details::default()
            },
            Self::Store(error) => error.details(),
            Self::NoProject(_)
            | Self::ProjectExists(_)
            | Self::ProjectNotEmpty { .. }
            | Self::ServiceExists(_)
            | Self::NoCluster(_)
            | Self::ClusterExists(_)
            | Self::ClusterNotEmpty { .. }
            | Self::NotReported(_)
            | Self::NoSoftware(_)
            | Self::Package { .. }
            | Self::Hub(_)
            | Self::Auth(_)
            | Self::Query(_) => Details::default(),
        }
    }
}

upm_mesh::status_from!(Error, "resource.upm");
