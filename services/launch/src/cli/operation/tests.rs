//! Following an operation past the end of the token, against a server that ends tokens.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use upm_mesh::{Details, Kind};
use upm_proto::auth::v1::{
    self as auth,
    auth_service_server::{AuthService, AuthServiceServer},
};
use upm_proto::operation::v1::{
    self as pb, Predicate,
    operation_service_server::{OperationService, OperationServiceServer},
};

use super::*;
use crate::cli::session;

/// Gives `token-{n}` for each refresh; the first token ends while it watches.
#[derive(Clone, Default)]
struct Server {
    refreshes: Arc<AtomicUsize>,
    watches: Arc<AtomicUsize>,
}

fn expired() -> Status {
    let details = Details::default();
    status::build(
        Kind::Unauthenticated,
        "mesh.upm",
        "TOKEN_EXPIRED",
        "ended",
        &details,
    )
}

fn at(seconds: u64) -> prost_types::Timestamp {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    prost_types::Timestamp {
        seconds: (now.as_secs() + seconds) as i64,
        nanos: 0,
    }
}

#[tonic::async_trait]
impl AuthService for Server {
    async fn refresh(
        &self,
        _: Request<auth::RefreshRequest>,
    ) -> Result<Response<auth::TokenResponse>, Status> {
        let count = self.refreshes.fetch_add(1, Ordering::SeqCst);
        // Somebody else of this login waits for the lock meanwhile.
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(Response::new(auth::TokenResponse {
            access_token: format!("token-{count}"),
            refresh_token: "next".to_owned(),
            expire_time: Some(at(300)),
            ..auth::TokenResponse::default()
        }))
    }

    async fn setup(
        &self,
        _: Request<auth::SetupRequest>,
    ) -> Result<Response<auth::TokenResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn login(
        &self,
        _: Request<auth::LoginRequest>,
    ) -> Result<Response<auth::TokenResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn logout(&self, _: Request<auth::LogoutRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn who_am_i(
        &self,
        _: Request<auth::WhoAmIRequest>,
    ) -> Result<Response<auth::WhoAmIResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn get_jwks(
        &self,
        _: Request<auth::GetJwksRequest>,
    ) -> Result<Response<auth::Jwks>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

#[tonic::async_trait]
impl OperationService for Server {
    type WatchOperationStream = Pin<Box<dyn Stream<Item = Result<Operation, Status>> + Send>>;

    async fn watch_operation(
        &self,
        request: Request<WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        self.watches.fetch_add(1, Ordering::SeqCst);
        let token = request
            .metadata()
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let name = request.into_inner().name;
        let operation = |state: OperationState| Operation {
            name: name.clone(),
            done: state == OperationState::Succeeded,
            state: state.into(),
            ..Operation::default()
        };
        let told = if token == "Bearer token-0" {
            vec![Ok(operation(OperationState::Succeeded))]
        } else {
            vec![Ok(operation(OperationState::Running)), Err(expired())]
        };
        Ok(Response::new(Box::pin(tokio_stream::iter(told))))
    }

    async fn get_operation(
        &self,
        _: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn list_operations(
        &self,
        _: Request<ListOperationsRequest>,
    ) -> Result<Response<pb::ListOperationsResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn wait_operation(
        &self,
        _: Request<pb::WaitOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn cancel_operation(
        &self,
        _: Request<CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

/// A server, and a login for it whose access token lives for so many seconds.
async fn served(folder: &Path, seconds: u64) -> (Server, Globals) {
    let server = Server::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let services = tonic::transport::Server::builder()
        .add_service(AuthServiceServer::new(server.clone()))
        .add_service(OperationServiceServer::new(server.clone()));
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(services.serve_with_incoming(incoming));
    let mut login = session::Login::to(&format!("http://{address}"), String::new(), false);
    login.accept(auth::TokenResponse {
        access_token: "first".to_owned(),
        refresh_token: "first".to_owned(),
        expire_time: Some(at(seconds)),
        ..auth::TokenResponse::default()
    });
    let path = folder.join("login.json");
    login.save(&path).unwrap();
    (server, Globals::of(path))
}

#[tokio::test]
async fn a_watch_goes_on_past_the_end_of_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let (server, globals) = served(folder.path(), 60).await;
    let channel = globals.open().await.unwrap();
    let operation = followed(&globals, channel, "operations/redis/1".to_owned()).await;
    assert_eq!(operation.unwrap().state(), OperationState::Succeeded);
    assert_eq!(server.refreshes.load(Ordering::SeqCst), 1);
    assert_eq!(server.watches.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn two_commands_at_once_refresh_one_login_once() {
    let folder = tempfile::tempdir().unwrap();
    let (server, globals) = served(folder.path(), 0).await;
    let path = globals.login_file().unwrap();
    let commands = (0..2).map(|_| {
        let path = path.clone();
        // The lock is the kernel's: each command waits in a thread of its own.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime
                .block_on(session::open(&path, session::RENEW_BEFORE))
                .map(drop)
        })
    });
    let commands: Vec<_> = commands.collect();
    let opened = tokio::task::spawn_blocking(move || {
        let ends = commands.into_iter().map(|command| command.join().unwrap());
        ends.collect::<Result<Vec<_>, _>>()
    });
    opened.await.unwrap().expect("both go on");
    assert_eq!(server.refreshes.load(Ordering::SeqCst), 1);
}

fn step(state: StepState, waits_for: &[(&str, &str)]) -> Step {
    Step {
        name: "AwaitUnitsReady".to_owned(),
        state: state.into(),
        predicates: waits_for
            .iter()
            .map(|(name, reason)| Predicate {
                name: (*name).to_owned(),
                reason: (*reason).to_owned(),
                satisfied: false,
            })
            .collect(),
        ..Step::default()
    }
}

#[test]
fn a_log_gets_changes_only_with_the_time_they_took() {
    let mut shown = Shown {
        bar: ProgressBar::hidden(),
        state: StepState::Unspecified,
        reason: String::new(),
        predicate: String::new(),
        since: Instant::now(),
    };
    let mut said = |step: &Step| shown.change(step, reason(step).unwrap_or_default());
    assert_eq!(said(&step(StepState::StepPending, &[])), None);
    assert!(said(&step(StepState::StepRunning, &[])).is_some());
    assert!(said(&step(StepState::StepRunning, &[("READY", "0 of 3")])).is_some());
    assert_eq!(
        said(&step(StepState::StepRunning, &[("READY", "1 of 3")])),
        None
    );
    let done = said(&step(StepState::StepDone, &[])).expect("an end");
    assert!(done.contains(" s)"), "{done}");
    assert_eq!(said(&step(StepState::StepDone, &[])), None);
}
