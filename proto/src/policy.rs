//! What the mesh enforces for each method, compiled from the `upm.policy.v1.method` options.

// The generated table counts in plain milliseconds throughout.
#![allow(clippy::duration_suboptimal_units, clippy::unreadable_literal)]

use std::time::Duration;

include!("gen/policy.rs");

/// One method with its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Full name of the request message.
    pub input: &'static str,
    /// Whether requests stream.
    pub client_streaming: bool,
    /// Whether answers stream.
    pub server_streaming: bool,
    /// `<module>.<resource>.<verb>`; empty unless `access` is [`Access::Permission`].
    pub permission: &'static str,
    /// Who may call.
    pub access: Access,
    /// When a record is written.
    pub audit: Audit,
    /// What repeating the call means.
    pub idempotency: Idempotency,
    /// The longest time a call may take; `None` only for streams.
    pub timeout: Option<Duration>,
    /// Field numbers of the request field that names the owner module; empty for none.
    pub route_by: &'static [u32],
    /// Field numbers of the request field that holds the project's resource name; empty for platform scope.
    pub scope: &'static [u32],
    /// Who may call an [`Access::Internal`] method: module names, [`ENGINE`], or `*`; empty for all others.
    pub callers: &'static [&'static str],
}

/// In [`Method::callers`]: every module that has services.
pub const ENGINE: &str = "engine";
/// The module whose calls come from outside. Its own identity opens no INTERNAL method.
pub const GATEWAY: &str = "gateway";

impl Method {
    /// `redis` of `/upm.redis.v1.RedisServices/GetRedisService`.
    pub fn module(&self) -> &'static str {
        self.path.split('.').nth(1).unwrap_or_default()
    }

    /// Whether a module may call this INTERNAL method. False for the gateway, and for methods that are not INTERNAL.
    pub fn may_be_called_by(&self, module: &str) -> bool {
        module != GATEWAY
            && self.callers.iter().any(|&caller| {
                caller == "*" || caller == module || (caller == ENGINE && is_engine(module))
            })
    }
}

/// Whether a module has services: it has the permission `{module}.services.create`.
pub fn is_engine(module: &str) -> bool {
    METHODS.iter().any(|method| {
        method
            .permission
            .strip_suffix(".services.create")
            .is_some_and(|name| name == module)
    })
}

/// The module that has the services of a collection: `redis` of `redisServices`. `None` when no module has such services.
pub fn owner_of_collection(collection: &str) -> Option<String> {
    let module = collection.strip_suffix("Services")?.to_ascii_lowercase();
    is_engine(&module).then_some(module)
}

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever has the permission.
    Permission,
    /// Anybody.
    Public,
    /// Anybody with a valid token.
    Authenticated,
    /// Modules of the platform, by certificate.
    Internal,
    /// Agents, by certificate.
    Agent,
}

/// When a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audit {
    /// Only when the call was refused.
    Refusals,
    /// With the change, in its transaction.
    Write,
    /// Each call.
    Read,
    /// Never.
    Never,
}

/// What repeating a call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// It may be done twice.
    Never,
    /// It changes nothing.
    NoSideEffects,
    /// With the same `request_id` it is done once.
    RequestId,
    /// It leads to the same state.
    Idempotent,
}

/// Finds the policy of a path such as `/upm.user.v1.UserService/GetUser`.
pub fn find(path: &str) -> Option<&'static Method> {
    METHODS
        .binary_search_by(|method| method.path.cmp(path))
        .ok()
        .map(|at| &METHODS[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_path() {
        for method in METHODS {
            assert_eq!(find(method.path), Some(method));
        }
        assert_eq!(find("/upm.user.v1.UserService/Nothing"), None);
    }

    #[test]
    fn only_named_modules_may_call_internal_methods() {
        let verify = find("/upm.user.v1.UserService/VerifyPassword").expect("a method");
        assert!(verify.may_be_called_by("auth"));
        assert!(!verify.may_be_called_by("redis"));
        let apply = find("/upm.hub.v1.LedgerService/ApplyObjects").expect("a method");
        assert!(apply.may_be_called_by("redis"));
        assert!(!apply.may_be_called_by("user"));
        for method in METHODS {
            assert!(!method.may_be_called_by(GATEWAY), "{}", method.path);
            assert_eq!(
                method.access == Access::Internal,
                !method.callers.is_empty(),
                "{}",
                method.path
            );
        }
    }

    #[test]
    fn a_collection_of_services_has_one_owner() {
        assert_eq!(
            owner_of_collection("redisServices").as_deref(),
            Some("redis")
        );
        for none in ["Services", "userServices", "redis", "redisservices", ""] {
            assert_eq!(owner_of_collection(none), None, "{none}");
        }
    }

    #[test]
    fn the_descriptor_set_keeps_the_rest_annotations() {
        let pool = prost_reflect::DescriptorPool::decode(crate::DESCRIPTOR_SET).expect("decode");
        let http = pool
            .get_extension_by_name("google.api.http")
            .expect("the extension is in the set");
        let method = pool
            .get_service_by_name("upm.redis.v1.RedisServices")
            .expect("the service")
            .methods()
            .next()
            .expect("a method");
        assert!(method.options().has_extension(&http));
    }
}
