//! What a request carries to its handler.

use std::{
    collections::BTreeSet,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::header::AUTHORIZATION;
use tokio::time::Instant;
use tonic::metadata::MetadataValue;

use crate::{
    audit,
    auth::{self, Projects, Verifier},
    error::{Details, Kind},
    identity::SpiffeId,
    status,
    telemetry::TraceParent,
};

/// Header in which the gateway names the address of its client, and modules pass it on. Every call of the gateway is a call from
/// outside, with it or without: the gateway's own identity gives it no right.
pub const FORWARDED_FOR: &str = "x-forwarded-for";

/// What every handler starts with: `let ctx = mesh::Context::of(&request)?;`.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who calls.
    pub caller: Caller,
    /// When the answer is of no use any more; `None` for streams without a limit.
    pub deadline: Option<Instant>,
    /// W3C trace context of the call, `00-<trace>-<span>-<flags>`.
    pub traceparent: String,
    /// The draft of the record; only for methods with audit WRITE.
    pub audit: Option<audit::Draft>,
    /// For what the caller's permission was checked.
    pub scope: Scope,
    pub(crate) policy: Option<Verifier>,
    pub(crate) token: Option<Token>,
}

/// For what the permission of the method was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// For the platform, or the method has no permission.
    Platform,
    /// For this project, `projects/{project}`.
    Project(String),
    /// The caller has the permission somewhere: the handler answers only what lies in [`Context::projects`] of it.
    AnyProject,
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who acts.
    pub principal: Principal,
    /// Address of the client, as the gateway saw it, or of the peer. Empty for calls inside of a process.
    pub source_address: String,
    /// Who is at the other end of the connection; a module that forwards a user's call differs from `principal`.
    pub peer: Option<SpiffeId>,
    /// When the caller's token ends; streams end with it.
    pub expires: Option<SystemTime>,
}

/// Who acts. Its display form is what operation-log records hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Nobody that is known.
    Anonymous,
    /// A user, `users/{user}`.
    User(String),
    /// A module by its name, on its own behalf.
    Module(String),
    /// An agent by its id.
    Agent(String),
}

/// The caller's access token, kept only to forward it.
#[derive(Clone)]
pub(crate) struct Token(pub(crate) Arc<str>);

// === impl Context ===

impl Context {
    /// The context that the stack attached. Errors: INTERNAL `NO_CONTEXT` when the request did not come through a [`crate::Stack`].
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, tonic::Status> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| {
            status::own(
                Kind::Internal,
                "NO_CONTEXT",
                "the request did not come through the mesh",
            )
        })
    }

    /// A context for background work with a new trace. `reason` names the work, module first, for example `redis.workflow`; the
    /// principal is that module.
    pub fn internal(reason: &'static str) -> Self {
        let module = reason.split('.').next().unwrap_or(reason);
        Self {
            caller: Caller {
                principal: Principal::Module(module.to_owned()),
                source_address: String::new(),
                peer: None,
                expires: None,
            },
            deadline: None,
            traceparent: TraceParent::current()
                .unwrap_or_else(TraceParent::random)
                .to_string(),
            audit: None,
            scope: Scope::Platform,
            policy: None,
            token: None,
        }
    }

    /// The same for another principal, for example the one that an operation recorded: what [`Context::may`] answers, and who is in
    /// records. It holds no token: to other modules, its calls stay those of the module.
    #[must_use]
    pub fn acting_as(mut self, principal: Principal, policy: Verifier) -> Self {
        self.caller.principal = principal;
        self.policy = Some(policy);
        self.token = None;
        self
    }

    /// The same with a deadline from now.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.deadline = Some(Instant::now() + time);
        self
    }

    /// The same in another trace, for example the one that an operation recorded. A malformed one is ignored.
    #[must_use]
    pub fn in_trace(mut self, traceparent: &str) -> Self {
        if TraceParent::parse(traceparent).is_some() {
            traceparent.clone_into(&mut self.traceparent);
        }
        self
    }

    /// The trace id, 32 hex digits.
    pub fn trace_id(&self) -> &str {
        self.traceparent.split('-').nth(1).unwrap_or_default()
    }

    /// Time left, `None` without a deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether the caller has a permission (`redis.services.get`) in a project (`projects/{project}`), or on the platform. Decided
    /// locally from the policy snapshot. Modules may everything, agents and unknown callers nothing.
    pub fn may(&self, permission: &str, project: Option<&str>) -> bool {
        match &self.caller.principal {
            Principal::Module(_) => true,
            Principal::User(user) => self
                .policy
                .as_ref()
                .is_some_and(|policy| policy.may(user, permission, project)),
            Principal::Anonymous | Principal::Agent(_) => false,
        }
    }

    /// Errors: PERMISSION_DENIED when the caller [may](Self::may) not.
    pub fn require(&self, permission: &str, project: Option<&str>) -> Result<(), tonic::Status> {
        if self.may(permission, project) {
            return Ok(());
        }
        Err(denied(permission, project))
    }

    /// Refuses to change the account of a user (`users/{user}`) who has a permission that the caller does not have: who could would have
    /// it too. A disabled user counts with what they have when enabled.
    ///
    /// # Errors
    /// PERMISSION_DENIED `ACCOUNT_HOLDS_MORE` with the first such permission; UNAVAILABLE `POLICY_UNAVAILABLE`.
    pub fn require_no_less(&self, user: &str) -> Result<(), tonic::Status> {
        let caller = match &self.caller.principal {
            Principal::Module(_) => return Ok(()),
            Principal::User(caller) => caller.as_str(),
            Principal::Anonymous | Principal::Agent(_) => "",
        };
        if caller == user {
            return Ok(());
        }
        let policy = self.policy.as_ref().ok_or_else(auth::unavailable)?;
        let Some(beyond) = policy.first_beyond(caller, user)? else {
            return Ok(());
        };
        let place = beyond.project.as_deref().unwrap_or("the platform");
        let details = Details::fact("permission", beyond.permission.as_str())
            .with_fact("project", beyond.project.as_deref().unwrap_or_default());
        Err(status::own_with(
            Kind::PermissionDenied,
            "ACCOUNT_HOLDS_MORE",
            format!(
                "{user} has the permission {} on {place}, which the caller has not",
                beyond.permission
            ),
            &details,
        ))
    }

    /// Who has a role (`roles/{role}`) on the platform, disabled or not.
    ///
    /// # Errors
    /// UNAVAILABLE `POLICY_UNAVAILABLE`.
    pub fn holders(&self, role: &str) -> Result<BTreeSet<String>, tonic::Status> {
        self.policy
            .as_ref()
            .ok_or_else(auth::unavailable)?
            .holders(role)
    }

    /// In which projects the caller has a permission; what a list over all projects filters by.
    pub fn projects(&self, permission: &str) -> Projects {
        match &self.caller.principal {
            Principal::Module(_) => Projects::All,
            Principal::User(user) => self
                .policy
                .as_ref()
                .map_or_else(Projects::none, |policy| policy.projects(user, permission)),
            Principal::Anonymous | Principal::Agent(_) => Projects::none(),
        }
    }

    /// A request to another module on behalf of the same caller: its token, the remaining time, the trace, the client's address.
    pub fn forward<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(remaining) = self.remaining() {
            request.set_timeout(remaining);
        }
        let metadata = request.metadata_mut();
        let trace = TraceParent::current()
            .filter(|current| current.trace_id() == self.trace_id())
            .map_or_else(|| self.traceparent.clone(), |current| current.to_string());
        if let Ok(value) = MetadataValue::try_from(trace) {
            metadata.insert(TraceParent::HEADER, value);
        }
        if let Some(token) = &self.token
            && let Ok(mut value) = MetadataValue::try_from(format!("Bearer {}", token.0))
        {
            value.set_sensitive(true);
            metadata.insert(AUTHORIZATION.as_str(), value);
        }
        if !self.caller.source_address.is_empty()
            && let Ok(value) = MetadataValue::try_from(self.caller.source_address.as_str())
        {
            metadata.insert(FORWARDED_FOR, value);
        }
        request
    }
}

/// The answer to a caller without a permission.
pub(crate) fn denied(permission: &str, project: Option<&str>) -> tonic::Status {
    let details =
        Details::fact("permission", permission).with_fact("project", project.unwrap_or_default());
    let place = project.unwrap_or("the platform");
    status::own_with(
        Kind::PermissionDenied,
        "PERMISSION_DENIED",
        format!("the permission {permission} on {place} is needed"),
        &details,
    )
}

// === impl Caller ===

impl Caller {
    /// `users/{user}` when a user acts.
    pub fn user(&self) -> Option<&str> {
        match &self.principal {
            Principal::User(user) => Some(user),
            _ => None,
        }
    }

    /// The module at the other end of the connection, whoever it acts for.
    pub fn module(&self) -> Option<&str> {
        self.peer.as_ref().and_then(SpiffeId::module_name)
    }

    /// The agent's id when an agent calls.
    pub fn agent(&self) -> Option<&str> {
        match &self.principal {
            Principal::Agent(id) => Some(id),
            _ => None,
        }
    }
}

// === impl Principal ===

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => Ok(()),
            Self::User(user) => f.write_str(user),
            Self::Module(name) => write!(f, "spiffe://{}/module/{name}", SpiffeId::TRUST_DOMAIN),
            Self::Agent(id) => write!(f, "spiffe://{}/agent/{id}", SpiffeId::TRUST_DOMAIN),
        }
    }
}

// === impl Token ===

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn background_work_acts_as_its_module_in_a_new_trace() {
        let ctx = Context::internal("redis.workflow");
        assert_eq!(
            ctx.caller.principal.to_string(),
            "spiffe://upm/module/redis"
        );
        assert_eq!(ctx.trace_id().len(), 32);
        assert_ne!(
            ctx.trace_id(),
            Context::internal("redis.workflow").trace_id()
        );
        assert!(ctx.may("resource.projects.get", None));
    }

    #[test]
    fn who_acts_for_a_recorded_principal_has_its_permissions_only() {
        let ctx = Context::internal("redis.workflow")
            .acting_as(Principal::User("users/alice".into()), Verifier::new());
        assert!(!ctx.may("redis.services.get", None));
        let draft = audit::Draft::background(&ctx, "redis", "redis.workflow/restart");
        assert_eq!(draft.entry.principal, "users/alice");
        assert_eq!(draft.entry.trace_id, ctx.trace_id());
    }

    #[tokio::test]
    async fn a_forwarded_request_carries_token_time_trace_and_address_and_hides_the_token() {
        let mut ctx = Context::internal("redis").within(Duration::from_secs(5));
        ctx.token = Some(Token("a.b.c".into()));
        ctx.caller.source_address = "192.0.2.7".into();
        let request = ctx.forward(());
        let metadata = request.metadata();
        assert_eq!(
            metadata.get("authorization").expect("token"),
            "Bearer a.b.c"
        );
        assert_eq!(metadata.get(FORWARDED_FOR).expect("address"), "192.0.2.7");
        assert_eq!(
            metadata
                .get("traceparent")
                .expect("trace")
                .to_str()
                .expect("text"),
            ctx.traceparent
        );
        assert!(metadata.get("grpc-timeout").is_some());
        assert!(!format!("{request:?}{ctx:?}").contains("a.b.c"));
    }
}
