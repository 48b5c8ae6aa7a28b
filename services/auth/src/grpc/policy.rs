//! `upm.auth.v1.PolicyService`.

use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};
use upm_mesh::{Context, FieldViolation};
use upm_proto::auth::v1 as pb;
use upm_proto::auth::v1::policy_service_server::PolicyService;

use crate::Error;
use crate::bindings::Bindings;
use crate::pb as convert;
use crate::policy::Policy;

const MOST: usize = 100;

#[derive(Clone)]
pub(crate) struct PolicyHandler {
    pub(crate) bindings: Bindings,
    pub(crate) policy: Policy,
}

#[tonic::async_trait]
impl PolicyService for PolicyHandler {
    type WatchPolicyStream = BoxStream<'static, Result<pb::PolicySnapshot, Status>>;

    async fn test_permissions(
        &self,
        request: Request<pb::TestPermissionsRequest>,
    ) -> Result<Response<pb::TestPermissionsResponse>, Status> {
        let ctx = Context::of(&request)?;
        let mut request = request.into_inner();
        check(&request)?;
        let project = (!request.project.is_empty()).then_some(request.project.as_str());
        request
            .permissions
            .retain(|permission| ctx.may(permission, project));
        Ok(Response::new(pb::TestPermissionsResponse {
            permissions: request.permissions,
        }))
    }

    async fn forget_project(
        &self,
        request: Request<pb::ForgetProjectRequest>,
    ) -> Result<Response<()>, Status> {
        self.bindings.forget_project(request.into_inner()).await?;
        Ok(Response::new(()))
    }

    async fn watch_policy(
        &self,
        request: Request<pb::WatchPolicyRequest>,
    ) -> Result<Response<Self::WatchPolicyStream>, Status> {
        let stream = self
            .policy
            .watch(request.into_inner().known_revision)
            .boxed();
        Ok(Response::new(stream))
    }
}

fn check(request: &pb::TestPermissionsRequest) -> Result<(), Error> {
    convert::parse_project("project", &request.project)?;
    if MOST < request.permissions.len() {
        return Err(FieldViolation::new("permissions", format!("must be at most {MOST}")).into());
    }
    Ok(())
}
