//! Module `auth`, as far as it is asked here.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use upm_mesh::audit::LogSink;
use upm_mesh::{Channel, Server, SpiffeId, Verifier};
use upm_proto::auth::v1::{
    self as pb,
    policy_service_server::{PolicyService, PolicyServiceServer},
};

#[derive(Clone, Default)]
pub(super) struct Auth {
    /// Whether it does not answer.
    pub(super) away: Arc<AtomicBool>,
    /// Projects that it was told to forget.
    pub(super) forgotten: Arc<Mutex<Vec<pb::ForgetProjectRequest>>>,
}

impl Auth {
    pub(super) fn channel(self) -> Channel {
        Server::builder("auth", Verifier::new(), Arc::new(LogSink))
            .routes(tonic::service::Routes::new(PolicyServiceServer::new(self)))
            .build()
            .in_memory(SpiffeId::module("resource").expect("a module"))
    }
}

#[tonic::async_trait]
impl PolicyService for Auth {
    type WatchPolicyStream = Pin<Box<dyn Stream<Item = Result<pb::PolicySnapshot, Status>> + Send>>;

    async fn forget_project(
        &self,
        request: Request<pb::ForgetProjectRequest>,
    ) -> Result<Response<()>, Status> {
        if self.away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("away"));
        }
        self.forgotten.lock().unwrap().push(request.into_inner());
        Ok(Response::new(()))
    }

    async fn test_permissions(
        &self,
        _: Request<pb::TestPermissionsRequest>,
    ) -> Result<Response<pb::TestPermissionsResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn watch_policy(
        &self,
        _: Request<pb::WatchPolicyRequest>,
    ) -> Result<Response<Self::WatchPolicyStream>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}
