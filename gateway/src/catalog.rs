//! What the gateway knows of the methods that it offers: who owns them, how long they take, whether they may be repeated.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::uri::PathAndQuery;
use upm_proto::policy::{self, Access, Idempotency};
use upm_transcode::{MethodTable, Tables};

use crate::{Config, measure::Counters, refusal::Refusal};

/// A method that callers from outside may reach.
#[derive(Debug)]
pub(crate) struct Method {
    /// `/package.Service/Method`
    pub(crate) path: PathAndQuery,
    owner: Owner,
    /// The longest time for a call; streams may have none.
    pub(crate) timeout: Option<Duration>,
    /// Whether doing it twice is the same as doing it once.
    pub(crate) repeatable: bool,
    /// Whether it is meant for callers who have no token yet.
    pub(crate) public: bool,
    pub(crate) client_streaming: bool,
    pub(crate) server_streaming: bool,
    pub(crate) counters: Counters,
}

#[derive(Debug)]
enum Owner {
    /// This module or upstream.
    Named(Arc<str>),
    /// The module that this field of the request names.
    ByField(&'static [u32]),
}

/// The methods by their path.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    methods: HashMap<String, Arc<Method>>,
}

impl Catalog {
    /// The methods of the platform that the policy opens to callers from outside.
    pub(crate) fn platform(tables: &Tables) -> Self {
        let entry = |table: &MethodTable| {
            let policy = policy::find(table.path()).filter(|method| is_public(method))?;
            let owner = if policy.route_by.is_empty() {
                Owner::Named(policy.module().into())
            } else {
                Owner::ByField(policy.route_by)
            };
            let repeatable = match policy.idempotency {
                Idempotency::NoSideEffects | Idempotency::Idempotent => true,
                // The channel to the module repeats these when the request has its id.
                Idempotency::Never | Idempotency::RequestId => false,
            };
            let public = policy.access == Access::Public;
            Method::new(table, owner, policy.timeout, repeatable, public)
        };
        Self::of(tables, entry)
    }

    /// All methods of the services that have an upstream.
    pub(crate) fn open(tables: &Tables, services: &[Arc<str>], config: &Config) -> Self {
        use prost_reflect::prost_types::method_options::IdempotencyLevel;
        let entry = |table: &MethodTable| {
            let owner = services.iter().find(|name| ***name == *table.service())?;
            let streams = table.client_streaming() || table.server_streaming();
            let timeout = config.default_timeout.filter(|_| !streams);
            // AIP-131, AIP-194: a GET changes nothing and may be repeated.
            let reads = table.routes().first().is_some_and(|route| {
                *tables.binding(*route).verb() == upm_transcode::route::Verb::Is(http::Method::GET)
            });
            let declared = table.idempotency() != IdempotencyLevel::IdempotencyUnknown;
            Method::new(
                table,
                Owner::Named(owner.clone()),
                timeout,
                reads || declared,
                false,
            )
        };
        Self::of(tables, entry)
    }

    fn of(tables: &Tables, entry: impl Fn(&MethodTable) -> Option<Method>) -> Self {
        let methods = tables
            .methods()
            .iter()
            .filter_map(|table| Some((table.path().to_owned(), Arc::new(entry(table)?))))
            .collect();
        Self { methods }
    }

    pub(crate) fn find(&self, path: &str) -> Result<&Arc<Method>, Refusal> {
        self.methods
            .get(path)
            .ok_or_else(|| Refusal::unknown_method(path))
    }

    pub(crate) fn contains(&self, path: &str) -> bool {
        self.methods.contains_key(path)
    }

    /// In no order.
    pub(crate) fn methods(&self) -> impl Iterator<Item = &Arc<Method>> {
        self.methods.values()
    }

    /// Counts on where an older catalog stopped.
    pub(crate) fn inherit(&mut self, older: &Self) {
        for (path, method) in &mut self.methods {
            if let (Some(old), Some(method)) = (older.methods.get(path), Arc::get_mut(method)) {
                method.counters = old.counters.clone();
            }
        }
    }
}

impl Method {
    fn new(
        table: &MethodTable,
        owner: Owner,
        timeout: Option<Duration>,
        repeatable: bool,
        public: bool,
    ) -> Option<Self> {
        Some(Self {
            path: table.path().parse().ok()?,
            owner,
            timeout,
            repeatable,
            public,
            client_streaming: table.client_streaming(),
            server_streaming: table.server_streaming(),
            counters: Counters::default(),
        })
    }

    /// A stream that the gateway itself calls.
    pub(crate) fn stream(path: &str) -> Option<Self> {
        Some(Self {
            path: path.parse().ok()?,
            owner: Owner::Named("".into()),
            timeout: None,
            repeatable: false,
            public: false,
            client_streaming: true,
            server_streaming: true,
            counters: Counters::default(),
        })
    }

    pub(crate) fn unary(&self) -> bool {
        !self.client_streaming && !self.server_streaming
    }

    /// Whether the owner depends on the request.
    pub(crate) fn needs_message(&self) -> bool {
        matches!(self.owner, Owner::ByField(_))
    }

    /// The module or upstream that a call belongs to. `message` is the first of the request.
    pub(crate) fn owner(&self, message: &[u8]) -> Result<Arc<str>, Refusal> {
        let field = match &self.owner {
            Owner::Named(name) => return Ok(name.clone()),
            Owner::ByField(field) => field,
        };
        let name = upm_mesh::wire::string_field(message, field)
            .map_err(|_| Refusal::malformed("the request is no protobuf message"))?
            .unwrap_or_default();
        let module = name.split('/').nth(1).unwrap_or_default();
        if module.is_empty() {
            return Err(Refusal::invalid_name(
                "must be `operations/{module}` or `operations/{module}/{operation}`",
            ));
        }
        Ok(module.into())
    }
}

/// Whether callers from outside may reach a method.
pub(crate) fn is_public(method: &policy::Method) -> bool {
    match method.access {
        Access::Permission | Access::Public | Access::Authenticated => true,
        Access::Internal | Access::Agent => false,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use upm_proto::operation::v1::GetOperationRequest;

    use super::*;

    fn platform() -> Catalog {
        Catalog::platform(&Tables::from_descriptor_set(upm_proto::DESCRIPTOR_SET).unwrap())
    }

    #[test]
    fn methods_for_modules_and_agents_are_hidden() {
        let catalog = platform();
        for hidden in [
            "/upm.hub.v1.AgentService/Session",
            "/upm.hub.v1.LedgerService/ApplyObjects",
            "/upm.user.v1.UserService/VerifyPassword",
            "/upm.unit.v1.RedisMemberService/GrantPrimary",
            "/upm.nothing.v1.Service/Method",
        ] {
            assert!(catalog.find(hidden).is_err(), "{hidden}");
        }
        assert!(catalog.find("/upm.auth.v1.AuthService/Login").is_ok());
    }

    #[test]
    fn an_operation_belongs_to_the_module_in_its_name() {
        let catalog = platform();
        let method = catalog
            .find("/upm.operation.v1.OperationService/GetOperation")
            .unwrap();
        let request = |name: &str| GetOperationRequest { name: name.into() }.encode_to_vec();
        assert!(method.needs_message());
        assert_eq!(
            &*method.owner(&request("operations/redis/1")).unwrap(),
            "redis"
        );
        assert!(method.owner(&request("redis")).is_err());
        assert!(method.owner(b"\xff").is_err());
    }
}
