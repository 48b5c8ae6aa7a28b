//! The way of one call through the stack.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, Response, request::Parts};
use http_body_util::Full;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body};
use tower::Service as _;
use tracing::Instrument as _;
use upm_proto::policy::{self, Audit, Method};

use super::{Inner, audited, authorize};
use crate::{
    body::{self, Ends, FrameLimit, code_of, deadline_exceeded, guard, panicked},
    context::{Caller, Context, Principal, Token},
    deadline,
    error::Kind,
    identity::Peer,
    status,
    telemetry::{TraceParent, rpc::Call},
};

/// Request extension: ends the streams of a server whose grace is over.
#[derive(Clone)]
pub(super) struct Cutoff(pub(super) CancellationToken);

/// Longest message of somebody who is nobody yet, in bytes: a login, an enrolment.
const ANONYMOUS_REQUEST: usize = 64 * 1024;

/// Whose path it is.
enum Route {
    Known(&'static Method),
    /// Health and reflection: public, without a policy.
    Open(&'static str),
    Unknown,
}

impl Route {
    fn of(path: &str) -> Self {
        if let Some(method) = policy::find(path) {
            return Self::Known(method);
        }
        match path.split('/').nth(1).unwrap_or_default() {
            "grpc.health.v1.Health" => Self::Open("/grpc.health.v1.Health"),
            "grpc.reflection.v1.ServerReflection" => {
                Self::Open("/grpc.reflection.v1.ServerReflection")
            }
            _ => Self::Unknown,
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Self::Known(method) => method.path,
            Self::Open(service) => service,
            Self::Unknown => "unknown",
        }
    }
}

pub(super) async fn handle(inner: Arc<Inner>, request: Request<Body>) -> Response<Body> {
    let route = Route::of(request.uri().path());
    let call = inner.instruments.begin(route.label(), request.headers());
    let span = call.span().clone();
    let passing = async move {
        match route {
            Route::Known(method) => known(inner, method, request, call).await,
            Route::Open(_) => open(inner, request, call).await,
            Route::Unknown => answer(
                Err(status::own(
                    Kind::Unimplemented,
                    "METHOD_UNKNOWN",
                    "this server does not have the method",
                )),
                call,
                Ends::default(),
                Box::new(()),
            ),
        }
    };
    passing.instrument(span).await
}

fn answer(
    result: Result<Response<Body>, Status>,
    mut call: Call,
    ends: Ends,
    held: Box<dyn Send>,
) -> Response<Body> {
    match result {
        Ok(response) => guard(response, call, ends, held),
        Err(status) => {
            call.ended(status.code());
            status.into_http()
        }
    }
}

async fn open(inner: Arc<Inner>, request: Request<Body>, call: Call) -> Response<Body> {
    let peer = request.extensions().get::<Peer>();
    let stranger = peer.is_none_or(|peer| peer.0.is_none());
    if stranger && inner.limits.strangers.is_some() {
        let refused = status::own(
            Kind::Unimplemented,
            "METHOD_UNKNOWN",
            "this server does not have the method",
        );
        return answer(Err(refused), call, Ends::default(), Box::new(()));
    }
    let Ok(permit) = inner.streams.clone().try_acquire_owned() else {
        return answer(Err(overloaded()), call, Ends::default(), Box::new(()));
    };
    let limit = inner.limits.max_request;
    let request = request.map(|body| Body::new(FrameLimit::new(body, limit)));
    let ends = Ends {
        cutoff: request
            .extensions()
            .get::<Cutoff>()
            .map(|cutoff| cutoff.0.clone()),
        ..Ends::default()
    };
    let result = isolated(route(&inner, request)).await;
    answer(result, call, ends, Box::new(permit))
}

async fn known(
    inner: Arc<Inner>,
    method: &'static Method,
    request: Request<Body>,
    call: Call,
) -> Response<Body> {
    let permit = match admit(&inner, method) {
        Ok(permit) => permit,
        Err(status) => return answer(Err(status), call, Ends::default(), Box::new(())),
    };
    let (parts, body) = request.into_parts();
    let at = deadline_of(method, &parts);
    let cutoff = parts.extensions.get::<Cutoff>().cloned();
    let presented = authorize::Presented::read(&parts.headers, &parts.extensions);
    let authenticated = authorize::authenticate(method, &presented, &inner.verifier);
    let caller = match &authenticated {
        Ok((caller, _)) => caller.clone(),
        Err(_) => presented.caller(Principal::Anonymous),
    };
    call.span()
        .record("principal", tracing::field::display(&caller.principal));

    let seen = OnceLock::new();
    let result = match authenticated {
        Err(status) => Err(status),
        Ok((caller, token)) => {
            let pass = Pass {
                inner: &inner,
                method,
                caller,
                token,
                deadline: at,
                trace: call.trace(),
                seen: &seen,
            };
            within(at, isolated(pass.run(parts, body))).await
        }
    };

    let (code, reason) = outcome(&result);
    audited::record(
        &inner,
        audited::Outcome {
            method,
            caller: &caller,
            trace: call.trace(),
            request: seen.into_inner().unwrap_or_default(),
            code,
            reason,
        },
    )
    .await;

    let streams = method.server_streaming;
    let ends = Ends {
        deadline: at,
        expiry: caller.expires.filter(|_| streams).map(|end| {
            end.duration_since(SystemTime::now())
                .unwrap_or(Duration::ZERO)
        }),
        cutoff: cutoff.filter(|_| streams).map(|cutoff| cutoff.0),
    };
    answer(result, call, ends, Box::new(permit))
}

/// A permit, or the refusal of a call that is too much.
fn admit(inner: &Inner, method: &Method) -> Result<OwnedSemaphorePermit, Status> {
    let streams = method.client_streaming || method.server_streaming;
    let slots = if streams {
        &inner.streams
    } else {
        &inner.calls
    };
    slots.clone().try_acquire_owned().map_err(|_| overloaded())
}

fn overloaded() -> Status {
    status::own_later(
        Kind::ResourceExhausted,
        "OVERLOADED",
        "the server has too many calls at once",
        Duration::from_secs(1),
    )
}

/// The end of the call: the caller's or the policy's, whichever is first.
fn deadline_of(method: &Method, parts: &Parts) -> Option<Instant> {
    let given = deadline::read(&parts.headers);
    let time = match (given, method.timeout) {
        (Some(given), Some(policy)) => Some(given.min(policy)),
        (given, policy) => given.or(policy),
    };
    time.map(|time| Instant::now() + time)
}

async fn within(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<Response<Body>, Status>>,
) -> Result<Response<Body>, Status> {
    match deadline {
        None => work.await,
        Some(at) => tokio::time::timeout_at(at, work)
            .await
            .unwrap_or_else(|_| Err(deadline_exceeded())),
    }
}

async fn isolated(
    work: impl Future<Output = Result<Response<Body>, Status>>,
) -> Result<Response<Body>, Status> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| {
            tracing::error!(reason = "PANIC", "a handler panicked");
            Err(panicked())
        })
}

async fn route(inner: &Inner, request: Request<Body>) -> Result<Response<Body>, Status> {
    match inner.routes.clone().call(request).await {
        Ok(response) => Ok(response),
        Err(never) => match never {},
    }
}

/// What is known of a call once its caller is.
struct Pass<'a> {
    inner: &'a Inner,
    method: &'static Method,
    caller: Caller,
    token: Option<Token>,
    deadline: Option<Instant>,
    trace: &'a TraceParent,
    /// The request as far as it was read, for the record.
    seen: &'a OnceLock<Bytes>,
}

impl Pass<'_> {
    async fn run(self, mut parts: Parts, body: Body) -> Result<Response<Body>, Status> {
        let mut limit = self.inner.limits.max_request;
        if self.caller.principal == Principal::Anonymous {
            limit = limit.min(ANONYMOUS_REQUEST);
        }
        let (body, message) = if self.method.client_streaming {
            (Body::new(FrameLimit::new(body, limit)), Bytes::new())
        } else {
            let bytes = body::collect(body, limit).await?;
            let _ = self.seen.set(bytes.clone());
            (Body::new(Full::new(bytes.clone())), bytes)
        };
        let resource = authorize::resource(self.method, body::message(&message)?)?;
        let scope =
            authorize::authorize(self.method, &self.caller, resource, &self.inner.verifier)?;
        let draft = (self.method.audit == Audit::Write)
            .then(|| audited::draft(self.inner, self.method, &self.caller, self.trace, &message));
        parts.extensions.insert(Context {
            caller: self.caller,
            deadline: self.deadline,
            traceparent: self.trace.to_string(),
            audit: draft,
            scope,
            policy: Some(self.inner.verifier.clone()),
            token: self.token,
        });
        route(self.inner, Request::from_parts(parts, body)).await
    }
}

/// Code and reason of an outcome, as far as the headers say.
fn outcome(result: &Result<Response<Body>, Status>) -> (Code, Option<String>) {
    match result {
        Err(status) => (status.code(), status::reason(status)),
        Ok(response) => match code_of(response.headers()) {
            None | Some(Code::Ok) => (Code::Ok, None),
            Some(code) => {
                let status = Status::from_header_map(response.headers());
                (code, status.as_ref().and_then(status::reason))
            }
        },
    }
}
