//! The gRPC face: convert, call, convert.

use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};
use upm_mesh::{Context, Drain};
use upm_proto::user::v1 as pb;
use upm_proto::user::v1::user_service_server::UserService;

use crate::users::{Access, Users};
use crate::{disabled, pb as convert};

/// Serves `upm.user.v1.UserService`.
#[derive(Debug, Clone)]
pub(crate) struct Handler {
    pub(crate) users: Users,
    pub(crate) drain: Drain,
}

#[tonic::async_trait]
impl UserService for Handler {
    type WatchDisabledUsersStream = BoxStream<'static, Result<pb::DisabledUsers, Status>>;

    async fn create_user(
        &self,
        request: Request<pb::CreateUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        let ctx = Context::of(&request)?;
        let request = request.into_inner();
        let new = convert::parse_new(&request)?;
        Ok(Response::new(
            self.users.create(ctx, new, request.request_id).await?,
        ))
    }

    async fn get_user(
        &self,
        request: Request<pb::GetUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        let ctx = Context::of(&request)?;
        let id = convert::parse_name("name", &request.get_ref().name, ctx.caller.user())?;
        Ok(Response::new(self.users.get(id).await?))
    }

    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        Ok(Response::new(self.users.list(request.into_inner()).await?))
    }

    async fn update_user(
        &self,
        request: Request<pb::UpdateUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        let ctx = Context::of(&request)?;
        let change = convert::parse_change(request.into_inner(), ctx.caller.user())?;
        Ok(Response::new(self.users.update(ctx, change).await?))
    }

    async fn delete_user(
        &self,
        request: Request<pb::DeleteUserRequest>,
    ) -> Result<Response<()>, Status> {
        let ctx = Context::of(&request)?;
        self.users.delete(ctx, request.into_inner()).await?;
        Ok(Response::new(()))
    }

    async fn change_password(
        &self,
        request: Request<pb::ChangePasswordRequest>,
    ) -> Result<Response<()>, Status> {
        let ctx = Context::of(&request)?;
        self.users
            .change_password(ctx, request.into_inner())
            .await?;
        Ok(Response::new(()))
    }

    async fn reset_password(
        &self,
        request: Request<pb::ResetPasswordRequest>,
    ) -> Result<Response<()>, Status> {
        let ctx = Context::of(&request)?;
        self.users.reset_password(ctx, request.into_inner()).await?;
        Ok(Response::new(()))
    }

    async fn disable_user(
        &self,
        request: Request<pb::DisableUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        let ctx = Context::of(&request)?;
        let name = &request.get_ref().name;
        Ok(Response::new(
            self.users.set_access(ctx, name, Access::Disabled).await?,
        ))
    }

    async fn enable_user(
        &self,
        request: Request<pb::EnableUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        let ctx = Context::of(&request)?;
        let name = &request.get_ref().name;
        Ok(Response::new(
            self.users.set_access(ctx, name, Access::Enabled).await?,
        ))
    }

    async fn verify_password(
        &self,
        request: Request<pb::VerifyPasswordRequest>,
    ) -> Result<Response<pb::VerifyPasswordResponse>, Status> {
        let request = request.into_inner();
        let user = self
            .users
            .verify(&request.user_id, &request.password)
            .await?;
        Ok(Response::new(pb::VerifyPasswordResponse {
            user: Some(user),
        }))
    }

    async fn create_first_user(
        &self,
        request: Request<pb::CreateFirstUserRequest>,
    ) -> Result<Response<pb::User>, Status> {
        let ctx = Context::of(&request)?;
        let request = request.into_inner();
        let new = convert::parse_first(&request)?;
        Ok(Response::new(
            self.users.create_first(ctx, new, request.password).await?,
        ))
    }

    async fn watch_disabled_users(
        &self,
        _: Request<pb::WatchDisabledUsersRequest>,
    ) -> Result<Response<Self::WatchDisabledUsersStream>, Status> {
        let stream = disabled::watch(self.users.clone(), self.drain.clone()).boxed();
        Ok(Response::new(stream))
    }
}
