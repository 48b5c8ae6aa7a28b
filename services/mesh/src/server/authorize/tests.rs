use http::{Extensions, HeaderMap};
use upm_proto::policy;

use super::*;
use crate::testing::{Keys, module, policy as snapshot};

const GET: &str = "/upm.redis.v1.RedisServices/GetRedisService";
const LIST: &str = "/upm.redis.v1.RedisServices/ListRedisServices";
const CREATE: &str = "/upm.redis.v1.RedisServices/CreateRedisService";
const USERS: &str = "/upm.user.v1.UserService/GetUser";
const VERIFY: &str = "/upm.user.v1.UserService/VerifyPassword";
const SESSION: &str = "/upm.hub.v1.AgentService/Session";
const LOGIN: &str = "/upm.auth.v1.AuthService/Login";
const WHO: &str = "/upm.auth.v1.AuthService/WhoAmI";

fn method(path: &str) -> &'static Method {
    policy::find(path).expect("a method")
}

/// Everything that a call can present.
#[derive(Default)]
struct Call {
    headers: HeaderMap,
    extensions: Extensions,
}

impl Call {
    fn from(id: &str) -> Self {
        let mut call = Self::default();
        call.extensions
            .insert(Peer(Some(id.parse().expect("an id"))));
        call
    }

    fn token(mut self, token: &str) -> Self {
        let value = format!("Bearer {token}").parse().expect("a header value");
        self.headers.insert(AUTHORIZATION, value);
        self
    }

    fn forwarded(mut self, address: &str) -> Self {
        self.headers
            .insert(FORWARDED_FOR, address.parse().expect("a header value"));
        self
    }

    fn caller(&self, path: &str, verifier: &Verifier) -> Result<Caller, String> {
        let presented = Presented::read(&self.headers, &self.extensions);
        authenticate(method(path), &presented, verifier)
            .map(|(caller, _)| caller)
            .map_err(|status| status::reason(&status).expect("a reason"))
    }
}

fn may(path: &str, principal: Principal, resource: &str) -> Result<Scope, String> {
    let verifier = Verifier::fixed(&snapshot(&Keys::new("k1")));
    let caller = Caller {
        principal,
        source_address: String::new(),
        peer: None,
        expires: None,
    };
    authorize(method(path), &caller, resource, &verifier)
        .map_err(|status| status::reason(&status).expect("a reason"))
}

fn user(name: &str) -> Principal {
    Principal::User(format!("users/{name}"))
}

#[test]
fn a_permission_counts_in_the_project_that_the_request_names() {
    let project = |id: &str| Ok(Scope::Project(format!("projects/{id}")));
    let refused = || Err("PERMISSION_DENIED".to_owned());
    assert_eq!(
        may(GET, user("alice"), "projects/a/redisServices/x"),
        project("a")
    );
    assert_eq!(
        may(GET, user("alice"), "projects/b/redisServices/x"),
        refused()
    );
    assert_eq!(
        may(GET, user("alice"), "projects/aa/redisServices/x"),
        refused()
    );
    assert_eq!(may(CREATE, user("alice"), "projects/a"), project("a"));
    assert_eq!(may(CREATE, user("bob"), "projects/b"), refused());
    assert_eq!(
        may(GET, user("root"), "projects/z/redisServices/x"),
        project("z")
    );
    assert_eq!(may(USERS, user("root"), ""), Ok(Scope::Platform));
    assert_eq!(
        may(USERS, user("bob"), ""),
        refused(),
        "a project's reader reads no users of the platform"
    );
}

#[test]
fn a_list_over_all_projects_is_left_to_the_handler_and_a_change_must_name_its_project() {
    assert_eq!(
        may(LIST, user("alice"), "projects/-"),
        Ok(Scope::AnyProject)
    );
    assert_eq!(may(LIST, user("alice"), ""), Ok(Scope::AnyProject));
    assert_eq!(
        may(LIST, user("stranger"), "projects/-"),
        Err("PERMISSION_DENIED".into())
    );
    assert_eq!(
        may(CREATE, user("alice"), "projects/-"),
        Err("SCOPE_INVALID".into())
    );
    assert_eq!(may(CREATE, user("alice"), ""), Err("SCOPE_INVALID".into()));
    assert_eq!(
        may(CREATE, user("stranger"), ""),
        Err("PERMISSION_DENIED".into())
    );
    for odd in ["projects", "projects/", "project/a", "/projects/a", "a"] {
        assert_eq!(
            may(GET, user("alice"), odd),
            Err("SCOPE_INVALID".into()),
            "{odd}"
        );
    }
}

#[test]
fn a_module_may_on_its_own_and_agents_and_strangers_may_not() {
    let denied = || Err("PERMISSION_DENIED".to_owned());
    let anywhere = Scope::Project("projects/z".into());
    assert_eq!(
        may(
            GET,
            Principal::Module("redis".into()),
            "projects/z/redisServices/x"
        ),
        Ok(anywhere)
    );
    assert_eq!(
        may(
            GET,
            Principal::Agent("a".into()),
            "projects/a/redisServices/x"
        ),
        denied()
    );
    assert_eq!(
        may(GET, Principal::Anonymous, "projects/a/redisServices/x"),
        denied()
    );
}

#[test]
fn a_forwarded_token_makes_a_modules_call_the_users() {
    let keys = Keys::new("k1");
    let verifier = Verifier::fixed(&snapshot(&keys));
    let call = Call::from("spiffe://upm/module/redis").token(&keys.token("users/alice", 300));
    for path in [GET, WHO, LOGIN] {
        let caller = call.caller(path, &verifier).expect("known");
        assert_eq!(caller.user(), Some("users/alice"), "{path}");
        assert_eq!(caller.module(), Some("redis"), "{path}");
    }
    // A bad token is not forgiven because a module brings it, unless no user is needed.
    let call = Call::from("spiffe://upm/module/auth").token(&keys.token("users/alice", 300));
    let caller = call.caller(VERIFY, &verifier).expect("a caller of it");
    assert_eq!(caller.user(), Some("users/alice"));
    let stale = Call::from("spiffe://upm/module/redis").token(&keys.token("users/alice", -60));
    assert_eq!(stale.caller(GET, &verifier), Err("TOKEN_EXPIRED".into()));
    let stale_auth = Call::from("spiffe://upm/module/auth").token(&keys.token("users/alice", -60));
    let internal = stale_auth.caller(VERIFY, &verifier).expect("a module");
    assert_eq!(internal.principal, Principal::Module("auth".into()));
    assert_eq!(stale.caller(LOGIN, &verifier).expect("public").user(), None);
}

#[test]
fn modules_act_alone_but_the_gateway_does_not() {
    let verifier = Verifier::fixed(&snapshot(&Keys::new("k1")));
    let workflow = Call::from("spiffe://upm/module/redis");
    assert_eq!(
        workflow.caller(GET, &verifier).map(|c| c.principal),
        Ok(Principal::Module("redis".into()))
    );
    let gateway = Call::from("spiffe://upm/module/gateway");
    assert_eq!(gateway.caller(GET, &verifier), Err("TOKEN_MISSING".into()));
}

#[test]
fn the_gateway_calls_no_internal_method_with_or_without_header() {
    let keys = Keys::new("k1");
    let verifier = Verifier::fixed(&snapshot(&keys));
    for method in policy::METHODS {
        if method.access != Access::Internal {
            continue;
        }
        let call = || Call::from("spiffe://upm/module/gateway");
        let refused = Err("MODULES_ONLY".to_owned());
        assert_eq!(
            call().caller(method.path, &verifier),
            refused,
            "{}",
            method.path
        );
        let forwarded = call().forwarded("203.0.113.9");
        assert_eq!(forwarded.caller(method.path, &verifier), refused);
        let admin = call().token(&keys.token("users/root", 300));
        assert_eq!(admin.caller(method.path, &verifier), refused);
    }
}

#[test]
fn a_module_calls_only_the_internal_methods_that_name_it() {
    let verifier = Verifier::fixed(&snapshot(&Keys::new("k1")));
    let refused = || Err("CALLER_NOT_ALLOWED".to_owned());
    let is_open = |module: &str, path: &str| {
        Call::from(&format!("spiffe://upm/module/{module}"))
            .caller(path, &verifier)
            .map(drop)
    };
    let join = "/upm.hub.v1.AgentAdminService/CreateJoinToken";
    let apply = "/upm.hub.v1.LedgerService/ApplyObjects";
    let watch = "/upm.auth.v1.PolicyService/WatchPolicy";
    assert_eq!(is_open("auth", VERIFY), Ok(()));
    assert_eq!(is_open("redis", VERIFY), refused());
    assert_eq!(is_open("resource", join), Ok(()));
    assert_eq!(is_open("redis", join), refused());
    assert_eq!(is_open("redis", apply), Ok(()));
    assert_eq!(is_open("user", apply), refused());
    assert_eq!(is_open("user", watch), Ok(()));
}

#[test]
fn what_the_gateway_forwards_has_none_of_the_gateways_rights() {
    let verifier = Verifier::fixed(&snapshot(&Keys::new("k1")));
    let call = Call::from("spiffe://upm/module/gateway").forwarded("203.0.113.9");
    assert_eq!(call.caller(VERIFY, &verifier), Err("MODULES_ONLY".into()));
    assert_eq!(call.caller(SESSION, &verifier), Err("AGENTS_ONLY".into()));
    assert_eq!(call.caller(WHO, &verifier), Err("TOKEN_MISSING".into()));
    let login = call.caller(LOGIN, &verifier).expect("public");
    assert_eq!(login.principal, Principal::Anonymous);
    assert_eq!(login.source_address, "203.0.113.9");
}

#[test]
fn internal_methods_are_for_modules_and_agent_methods_for_agents() {
    let keys = Keys::new("k1");
    let verifier = Verifier::fixed(&snapshot(&keys));
    let agent = Call::from("spiffe://upm/agent/a-1");
    assert_eq!(
        agent.caller(SESSION, &verifier).map(|c| c.principal),
        Ok(Principal::Agent("a-1".into()))
    );
    assert_eq!(agent.caller(VERIFY, &verifier), Err("MODULES_ONLY".into()));
    assert_eq!(agent.caller(GET, &verifier), Err("USERS_ONLY".into()));
    let admin = Call::default().token(&keys.token("users/root", 300));
    assert_eq!(admin.caller(VERIFY, &verifier), Err("MODULES_ONLY".into()));
    assert_eq!(admin.caller(SESSION, &verifier), Err("AGENTS_ONLY".into()));
    let unit = Call::from("spiffe://upm/unit/demo/redis-0");
    assert_eq!(unit.caller(VERIFY, &verifier), Err("MODULES_ONLY".into()));
    assert_eq!(unit.caller(GET, &verifier), Err("TOKEN_MISSING".into()));
    assert_eq!(
        Call::from("spiffe://upm/module/hub").caller(SESSION, &verifier),
        Err("AGENTS_ONLY".into())
    );
}

#[test]
fn only_modules_are_believed_an_address_and_only_addresses_are() {
    let verifier = Verifier::new();
    let address = |call: Call| {
        call.caller(LOGIN, &verifier)
            .expect("public")
            .source_address
    };
    assert_eq!(address(Call::default().forwarded("203.0.113.9")), "");
    assert_eq!(
        address(Call::from("spiffe://upm/agent/a").forwarded("203.0.113.9")),
        ""
    );
    assert_eq!(
        address(Call::from("spiffe://upm/module/redis").forwarded("2001:db8::1, 10.0.0.1")),
        "2001:db8::1"
    );
    assert_eq!(
        address(Call::from("spiffe://upm/module/redis").forwarded("drop table")),
        ""
    );
}

#[test]
fn an_authorization_header_that_is_no_bearer_is_refused() {
    let verifier = Verifier::new();
    for text in ["Basic YTpi", "Bearer", "Bearer ", "token"] {
        let mut call = Call::default();
        call.headers
            .insert(AUTHORIZATION, text.parse().expect("a header value"));
        assert_eq!(
            call.caller(WHO, &verifier),
            Err("TOKEN_INVALID".into()),
            "{text}"
        );
        assert!(call.caller(LOGIN, &verifier).is_ok(), "{text}");
    }
    let _ = module("redis");
}
