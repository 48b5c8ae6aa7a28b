//! Who calls, and whether they may: pure decisions over headers, the peer, the method's policy and the policy snapshot.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, header::AUTHORIZATION};
use tonic::{Status, transport::server::TcpConnectInfo};
use upm_proto::policy::{Access, GATEWAY, Idempotency, Method};

use crate::{
    auth::{Projects, Verified, Verifier},
    context::{Caller, FORWARDED_FOR, Principal, Scope, Token, denied},
    error::{Details, Kind},
    identity::{Peer, SpiffeId},
    status, wire,
};

/// What the connection and the headers say, before anything is decided.
pub(super) struct Presented<'a> {
    pub(super) peer: Option<&'a SpiffeId>,
    pub(super) token: Result<Option<&'a str>, Status>,
    /// Whether the gateway calls: always for somebody outside, whatever its headers say.
    pub(super) outside: bool,
    pub(super) source_address: String,
}

impl<'a> Presented<'a> {
    pub(super) fn read(headers: &'a HeaderMap, extensions: &'a http::Extensions) -> Self {
        let peer = extensions.get::<Peer>().and_then(|peer| peer.0.as_ref());
        let module = peer.and_then(SpiffeId::module_name);
        let forwarded = headers.get(FORWARDED_FOR);
        // Only modules are believed what they say of the client.
        let told = forwarded
            .filter(|_| module.is_some())
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(',').next())
            .map(str::trim)
            .filter(|text| text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok());
        let source_address = match told {
            Some(text) => text.to_owned(),
            None => extensions
                .get::<TcpConnectInfo>()
                .and_then(TcpConnectInfo::remote_addr)
                .map(|address| address.ip().to_string())
                .unwrap_or_default(),
        };
        Self {
            peer,
            token: bearer(headers),
            outside: module == Some(GATEWAY),
            source_address,
        }
    }

    /// Who the certificate says it is; nobody for calls from outside.
    fn machine(&self) -> Option<Principal> {
        let peer = self.peer.filter(|_| !self.outside)?;
        peer.module_name()
            .map(|name| Principal::Module(name.to_owned()))
            .or_else(|| peer.agent_id().map(|id| Principal::Agent(id.to_owned())))
    }

    /// The caller as which a refusal is recorded.
    pub(super) fn caller(&self, principal: Principal) -> Caller {
        Caller {
            principal,
            source_address: self.source_address.clone(),
            peer: self.peer.cloned(),
            expires: None,
        }
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Status> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let refuse = || {
        status::own(
            Kind::Unauthenticated,
            "TOKEN_INVALID",
            "`authorization` must be `Bearer` and a token",
        )
    };
    let text = value.to_str().map_err(|_| refuse())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(refuse)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(refuse());
    }
    Ok(Some(token.trim()))
}

/// Who calls a method, as far as its access asks for it. Errors: UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE `POLICY_UNAVAILABLE`.
pub(super) fn authenticate(
    method: &Method,
    presented: &Presented<'_>,
    verifier: &Verifier,
) -> Result<(Caller, Option<Token>), Status> {
    let verified = match &presented.token {
        Ok(Some(token)) => Some(verifier.verify(token)),
        Ok(None) => None,
        Err(status) => Some(Err(status.clone())),
    };
    let machine = presented.machine();
    let principal = match method.access {
        // A token that has ended must not keep anybody from logging in.
        Access::Public => return Ok(named(presented, verified.and_then(Result::ok), machine)),
        Access::Internal => match &machine {
            Some(Principal::Module(name)) if method.may_be_called_by(name) => {
                return Ok(named(presented, verified.and_then(Result::ok), machine));
            }
            Some(Principal::Module(name)) => {
                return Err(status::own_with(
                    Kind::PermissionDenied,
                    "CALLER_NOT_ALLOWED",
                    format!("module {name} is no caller of this method"),
                    &Details::fact("callers", method.callers.join(", ")),
                ));
            }
            Some(Principal::Anonymous | Principal::User(_) | Principal::Agent(_)) | None => {
                return Err(only("MODULES_ONLY", "modules of the platform"));
            }
        },
        Access::Agent => match machine {
            Some(agent @ Principal::Agent(_)) => agent,
            Some(Principal::Anonymous | Principal::User(_) | Principal::Module(_)) | None => {
                return Err(only("AGENTS_ONLY", "agents"));
            }
        },
        Access::Authenticated | Access::Permission => match (verified, machine) {
            (Some(verified), _) => {
                return Ok(named(presented, Some(verified?), None));
            }
            (None, Some(Principal::Module(name))) => Principal::Module(name),
            (None, Some(Principal::Agent(_))) => {
                return Err(only("USERS_ONLY", "users and modules"));
            }
            (None, Some(Principal::Anonymous | Principal::User(_)) | None) => {
                return Err(status::own(
                    Kind::Unauthenticated,
                    "TOKEN_MISSING",
                    "`authorization: Bearer` with an access token is needed",
                ));
            }
        },
    };
    Ok((presented.caller(principal), None))
}

/// A user when there is one, else the machine, else nobody.
fn named(
    presented: &Presented<'_>,
    verified: Option<Verified>,
    machine: Option<Principal>,
) -> (Caller, Option<Token>) {
    let Some(verified) = verified else {
        return (
            presented.caller(machine.unwrap_or(Principal::Anonymous)),
            None,
        );
    };
    let mut caller = presented.caller(Principal::User(verified.user));
    caller.expires = Some(verified.expires);
    let token = presented.token.as_ref().ok().copied().flatten();
    (caller, token.map(|token| Token(token.into())))
}

fn only(reason: &str, who: &str) -> Status {
    status::own(
        Kind::PermissionDenied,
        reason,
        format!("only {who} may call this"),
    )
}

/// The resource name that a request is about; empty when its method has no scope or the field is absent.
pub(super) fn resource<'a>(method: &Method, message: &'a [u8]) -> Result<&'a str, Status> {
    wire::string_field(message, method.scope)
        .map(Option::unwrap_or_default)
        .map_err(|error| {
            status::own(
                Kind::InvalidArgument,
                "REQUEST_MALFORMED",
                error.to_string(),
            )
        })
}

/// Whether the caller may call the method for that resource. Errors: PERMISSION_DENIED, INVALID_ARGUMENT `SCOPE_INVALID`.
///
/// A reading method without a project, or with `projects/-`, is allowed to whoever has the permission in at least one project: its
/// handler filters (see [`Scope::AnyProject`]). A changing method must name its project.
pub(super) fn authorize(
    method: &Method,
    caller: &Caller,
    resource: &str,
    verifier: &Verifier,
) -> Result<Scope, Status> {
    if method.access != Access::Permission {
        return Ok(Scope::Platform);
    }
    let user = match &caller.principal {
        Principal::User(user) => Some(user.as_str()),
        Principal::Module(_) => None,
        Principal::Anonymous | Principal::Agent(_) => return Err(denied(method.permission, None)),
    };
    let may = |project| user.is_none_or(|user| verifier.may(user, method.permission, project));
    if method.scope.is_empty() {
        return if may(None) {
            Ok(Scope::Platform)
        } else {
            Err(denied(method.permission, None))
        };
    }
    let reads = method.idempotency == Idempotency::NoSideEffects;
    match project_of(resource) {
        Named::Project(project) => {
            if may(Some(project)) {
                Ok(Scope::Project(project.to_owned()))
            } else {
                Err(denied(method.permission, Some(project)))
            }
        }
        named => {
            let projects = match user {
                None => Projects::All,
                Some(user) => verifier.projects(user, method.permission),
            };
            if projects.is_empty() {
                return Err(denied(method.permission, None));
            }
            if reads && named == Named::Any {
                return Ok(Scope::AnyProject);
            }
            Err(status::own_with(
                Kind::InvalidArgument,
                "SCOPE_INVALID",
                "the request must name its project: `projects/{project}`",
                &Details::fact("given", resource.chars().take(200).collect::<String>()),
            ))
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Named<'a> {
    /// `projects/{project}`.
    Project(&'a str),
    /// All of them: nothing, or `projects/-`.
    Any,
    /// Something else.
    Other,
}

fn project_of(resource: &str) -> Named<'_> {
    if resource.is_empty() {
        return Named::Any;
    }
    let Some(rest) = resource.strip_prefix("projects/") else {
        return Named::Other;
    };
    match rest.split('/').next().unwrap_or_default() {
        "" => Named::Other,
        "-" => Named::Any,
        id => Named::Project(&resource[.."projects/".len() + id.len()]),
    }
}

#[cfg(test)]
mod tests;
