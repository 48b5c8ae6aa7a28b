//! Parts of the tests: keys and tokens, a policy, services, a sink, servers on sockets.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use http::Uri;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Notify,
    task::JoinHandle,
};
use tonic::{Request, Response, Status, service::Routes};
use upm_proto::{
    auth::v1::{Jwk, Jwks, PolicySnapshot, Role, RoleBinding},
    operatorlog::v1::Entry,
    user::v1::{self as pb, user_service_server::UserService},
};

use crate::{
    Authority, Channel, ClientAuth, Context, Drain, Identity, Limits, Server, SpiffeId, Stack,
    Verifier, audit,
    auth::Claims,
    error::{Details, Kind},
    server, status,
};

/// A signing key of tokens.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) kid: &'static str,
    key: EncodingKey,
    jwk: Jwk,
}

impl Keys {
    pub(crate) fn new(kid: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let point = pair.public_key_raw();
        assert_eq!((point.len(), point[0]), (65, 4), "an uncompressed point");
        Self {
            kid,
            key: EncodingKey::from_ec_der(pair.serialized_der()),
            jwk: Jwk {
                kty: "EC".into(),
                crv: "P-256".into(),
                r#use: "sig".into(),
                alg: "ES256".into(),
                kid: kid.into(),
                x: URL_SAFE_NO_PAD.encode(&point[1..33]),
                y: URL_SAFE_NO_PAD.encode(&point[33..]),
            },
        }
    }

    pub(crate) fn token(&self, user: &str, seconds: i64) -> String {
        self.signed(&claims(user, seconds))
    }

    pub(crate) fn signed(&self, claims: &Claims) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.to_owned());
        jsonwebtoken::encode(&header, claims, &self.key).expect("a token")
    }
}

pub(crate) fn claims(user: &str, seconds: i64) -> Claims {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    Claims {
        iss: "upm".into(),
        sub: user.into(),
        aud: "upm".into(),
        exp: now.saturating_add_signed(seconds),
        iat: now,
        jti: uuid::Uuid::now_v7().to_string(),
    }
}

/// `root` administers, `alice` has Redis in project a, `bob` reads in project b, `gone` is disabled.
pub(crate) fn policy(keys: &Keys) -> PolicySnapshot {
    let role = |name: &str, permissions: &[&str]| Role {
        name: name.into(),
        permissions: permissions.iter().map(ToString::to_string).collect(),
        ..Role::default()
    };
    let bound = |role: &str, user: &str, project: &str| RoleBinding {
        role: role.into(),
        user: user.into(),
        project: project.into(),
        ..RoleBinding::default()
    };
    PolicySnapshot {
        revision: 1,
        roles: vec![
            role("roles/platform-admin", &["*.*.*"]),
            role("roles/redis", &["redis.*.*"]),
            role("roles/reader", &["*.*.get", "*.*.list"]),
        ],
        role_bindings: vec![
            bound("roles/platform-admin", "users/root", ""),
            bound("roles/platform-admin", "users/gone", ""),
            bound("roles/redis", "users/alice", "projects/a"),
            bound("roles/reader", "users/bob", "projects/b"),
        ],
        jwks: Some(Jwks {
            keys: vec![keys.jwk.clone()],
        }),
        disabled_users: vec!["users/gone".into()],
    }
}

/// Keeps what it is given.
#[derive(Clone, Default)]
pub(crate) struct Recorder(pub(crate) Arc<Mutex<Vec<Entry>>>);

impl Recorder {
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.0.lock().expect("not poisoned").clone()
    }

    pub(crate) fn only(&self) -> Entry {
        let entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.into_iter().next().expect("one")
    }
}

impl audit::Sink for Recorder {
    fn write(&self, entry: Entry) -> BoxFuture<'_, ()> {
        self.0.lock().expect("not poisoned").push(entry);
        Box::pin(std::future::ready(()))
    }
}

/// A user service whose answers depend on the name that is asked for.
#[derive(Default)]
pub(crate) struct Users {
    /// Calls of any kind that reached a handler.
    pub(crate) reached: AtomicUsize,
    /// Calls that `users/flaky` refuses before it answers.
    pub(crate) refusals: AtomicUsize,
    pub(crate) entered: Notify,
    pub(crate) release: Arc<Notify>,
    pub(crate) next: Mutex<Option<Channel>>,
}

impl Users {
    fn flaky(&self) -> Result<(), Status> {
        let left = self.refusals.load(Ordering::SeqCst);
        if left == 0 {
            return Ok(());
        }
        self.refusals.store(left - 1, Ordering::SeqCst);
        Err(Status::unavailable("come back"))
    }
}

fn not_tested<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not part of the tests"))
}

#[tonic::async_trait]
impl UserService for Users {
    async fn create_user(
        &self,
        request: Request<pb::CreateUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        self.reached.fetch_add(1, Ordering::SeqCst);
        self.flaky()?;
        let ctx = Context::of(&request)?;
        let draft = ctx.audit.expect("a method with audit WRITE has a draft");
        if request.get_ref().user_id == "taken" {
            let details = Details::field("user_id", "is taken");
            return Err(status::build(
                Kind::AlreadyExists,
                "user.upm",
                "USER_EXISTS",
                "it exists",
                &details,
            ));
        }
        Ok(Response::new(pb::User {
            name: format!("users/{}", request.get_ref().user_id),
            display_name: draft.entry.request,
            ..pb::User::default()
        }))
    }

    async fn get_user(
        &self,
        request: Request<pb::GetUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        self.reached.fetch_add(1, Ordering::SeqCst);
        let ctx = Context::of(&request)?;
        match request.get_ref().name.as_str() {
            "users/slow" => tokio::time::sleep(Duration::from_mins(1)).await,
            "users/panics" => panic!("on purpose"),
            "users/flaky" => self.flaky()?,
            "users/waits" => {
                self.entered.notify_one();
                self.release.notified().await;
            }
            "users/forwards" => {
                let next = self
                    .next
                    .lock()
                    .expect("not poisoned")
                    .clone()
                    .expect("a next one");
                let mut client = pb::user_service_client::UserServiceClient::new(next);
                let name = "users/there".to_owned();
                return client
                    .get_user(ctx.forward(pb::GetUserRequest { name }))
                    .await;
            }
            _ => {}
        }
        let remaining = ctx.remaining().unwrap_or_default().as_millis();
        Ok(Response::new(pb::User {
            name: request.into_inner().name,
            uid: ctx.trace_id().to_owned(),
            display_name: ctx.caller.principal.to_string(),
            email: ctx.caller.source_address.clone(),
            etag: remaining.to_string(),
            ..pb::User::default()
        }))
    }

    async fn list_users(
        &self,
        _: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        not_tested()
    }

    async fn update_user(
        &self,
        _: Request<pb::UpdateUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        not_tested()
    }

    async fn delete_user(&self, _: Request<pb::DeleteUserRequest>) -> Result<Response<()>, Status> {
        not_tested()
    }

    async fn change_password(
        &self,
        request: Request<pb::ChangePasswordRequest>,
    ) -> Result<Response<()>, Status> {
        assert!(Context::of(&request)?.caller.user().is_some());
        Ok(Response::new(()))
    }

    async fn reset_password(
        &self,
        _: Request<pb::ResetPasswordRequest>,
    ) -> Result<Response<()>, Status> {
        not_tested()
    }

    async fn disable_user(
        &self,
        _: Request<pb::DisableUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        not_tested()
    }

    async fn enable_user(
        &self,
        _: Request<pb::EnableUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        not_tested()
    }

    async fn verify_password(
        &self,
        request: Request<pb::VerifyPasswordRequest>,
    ) -> Result<Response<pb::VerifyPasswordResponse>, Status> {
        Context::of(&request)?;
        Ok(Response::new(pb::VerifyPasswordResponse::default()))
    }

    async fn create_first_user(
        &self,
        _: Request<pb::CreateFirstUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        not_tested()
    }

    type WatchDisabledUsersStream =
        std::pin::Pin<Box<dyn futures::Stream<Item = Result<pb::DisabledUsers, Status>> + Send>>;

    /// One message; then it waits to be released, and panics.
    async fn watch_disabled_users(
        &self,
        _: Request<pb::WatchDisabledUsersRequest>,
    ) -> Result<Response<Self::WatchDisabledUsersStream>, Status> {
        let release = self.release.clone();
        let stream = futures::stream::unfold(0, move |sent| {
            let release = release.clone();
            async move {
                if sent > 0 {
                    release.notified().await;
                    panic!("on purpose");
                }
                Some((Ok(pb::DisabledUsers::default()), sent + 1))
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

/// A module `user` with everything around it.
pub(crate) struct World {
    pub(crate) keys: Keys,
    pub(crate) users: Arc<Users>,
    pub(crate) records: Recorder,
    pub(crate) stack: Stack,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let keys = Keys::new("k1");
        let verifier = Verifier::fixed(&policy(&keys));
        Self::build(keys, verifier, limits)
    }

    pub(crate) fn build(keys: Keys, verifier: Verifier, limits: Limits) -> Self {
        let users = Arc::new(Users::default());
        let records = Recorder::default();
        let service = pb::user_service_server::UserServiceServer::from_arc(users.clone());
        let stack = Server::builder("user", verifier, Arc::new(records.clone()))
            .routes(Routes::new(service).add_service(Redis))
            .limits(limits)
            .build();
        Self {
            keys,
            users,
            records,
            stack,
        }
    }

    /// A request with a token.
    pub(crate) fn by<T>(&self, user: &str, message: T) -> Request<T> {
        with_token(&self.keys.token(user, 300), message)
    }

    pub(crate) fn client(&self, from: &str) -> pb::user_service_client::UserServiceClient<Channel> {
        pb::user_service_client::UserServiceClient::new(self.stack.in_memory(module(from)))
    }
}

pub(crate) fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().expect("a header value");
    request.metadata_mut().insert("authorization", value);
    request
}

pub(crate) fn get(name: &str) -> pb::GetUserRequest {
    pb::GetUserRequest { name: name.into() }
}

pub(crate) fn module(name: &str) -> SpiffeId {
    SpiffeId::module(name).expect("an id")
}

/// Answers every method of `RedisServices` with an empty message.
#[derive(Clone)]
struct Redis;

impl tonic::server::NamedService for Redis {
    const NAME: &'static str = "upm.redis.v1.RedisServices";
}

impl tower::Service<http::Request<tonic::body::Body>> for Redis {
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let scope = request
            .extensions()
            .get::<Context>()
            .map(|ctx| format!("{:?}", ctx.scope));
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let frames = [
            Ok::<_, Status>(http_body::Frame::data(bytes::Bytes::from_static(&[0; 5]))),
            Ok(http_body::Frame::trailers(trailers)),
        ];
        let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
        let mut response = http::Response::new(tonic::body::Body::new(body));
        let headers = response.headers_mut();
        headers.insert(
            "content-type",
            http::HeaderValue::from_static("application/grpc"),
        );
        let scope = scope.unwrap_or_default().parse().expect("a header value");
        headers.insert("x-scope", scope);
        std::future::ready(Ok(response))
    }
}

/// A port that nobody else gets, also while nobody listens on it.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    _held: TcpSocket,
}

impl Port {
    pub(crate) fn reserved() -> Self {
        let held = bound(([127, 0, 0, 1], 0).into());
        Self {
            address: held.local_addr().expect("an address"),
            _held: held,
        }
    }

    pub(crate) fn listener(&self) -> TcpListener {
        bound(self.address).listen(1024).expect("listening")
    }
}

/// Several may be bound to one address as long as one of them listens.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(address).expect("a port");
    socket
}

/// A stack on a socket with mutual TLS.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) task: JoinHandle<Result<(), server::Error>>,
    pub(crate) identity: Identity,
}

pub(crate) async fn serve(stack: Stack, authority: &Authority, clients: ClientAuth) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    serve_on(stack, authority, clients, listener)
}

pub(crate) fn serve_on(
    stack: Stack,
    authority: &Authority,
    clients: ClientAuth,
    listener: TcpListener,
) -> Served {
    let address = listener.local_addr().expect("an address");
    let drain = Drain::new();
    let identity = identity(authority, &module("user"));
    let task =
        tokio::spawn(stack.serve(listener, Some((identity.clone(), clients)), drain.clone()));
    Served {
        address,
        drain,
        task,
        identity,
    }
}

pub(crate) fn identity(authority: &Authority, id: &SpiffeId) -> Identity {
    let issued = authority
        .issue(id, &[], Duration::from_mins(10))
        .expect("a certificate");
    Identity::issued(issued, &authority.certificates()).expect("an identity")
}

pub(crate) fn endpoint(address: SocketAddr) -> Uri {
    format!("https://{address}").parse().expect("a URI")
}
