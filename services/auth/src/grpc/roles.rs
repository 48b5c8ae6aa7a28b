//! `upm.auth.v1.RoleService`.

use tonic::{Request, Response, Status};
use upm_mesh::Context;
use upm_proto::auth::v1 as pb;
use upm_proto::auth::v1::role_service_server::RoleService;

use crate::bindings::Bindings;
use crate::pb as convert;
use crate::roles::Roles;

#[derive(Clone)]
pub(crate) struct RoleHandler {
    pub(crate) roles: Roles,
    pub(crate) bindings: Bindings,
}

#[tonic::async_trait]
impl RoleService for RoleHandler {
    async fn list_roles(
        &self,
        request: Request<pb::ListRolesRequest>,
    ) -> Result<Response<pb::ListRolesResponse>, Status> {
        Ok(Response::new(self.roles.list(request.into_inner()).await?))
    }

    async fn get_role(
        &self,
        request: Request<pb::GetRoleRequest>,
    ) -> Result<Response<pb::Role>, Status> {
        Ok(Response::new(
            self.roles.get(request.into_inner().name).await?,
        ))
    }

    async fn create_role(
        &self,
        request: Request<pb::CreateRoleRequest>,
    ) -> Result<Response<pb::Role>, Status> {
        let ctx = Context::of(&request)?;
        Ok(Response::new(
            self.roles.create(ctx, request.into_inner()).await?,
        ))
    }

    async fn update_role(
        &self,
        request: Request<pb::UpdateRoleRequest>,
    ) -> Result<Response<pb::Role>, Status> {
        let ctx = Context::of(&request)?;
        Ok(Response::new(
            self.roles.update(ctx, request.into_inner()).await?,
        ))
    }

    async fn delete_role(
        &self,
        request: Request<pb::DeleteRoleRequest>,
    ) -> Result<Response<()>, Status> {
        let ctx = Context::of(&request)?;
        self.roles.delete(ctx, request.into_inner()).await?;
        Ok(Response::new(()))
    }

    async fn list_role_bindings(
        &self,
        request: Request<pb::ListRoleBindingsRequest>,
    ) -> Result<Response<pb::ListRoleBindingsResponse>, Status> {
        Ok(Response::new(
            self.bindings.list(request.into_inner()).await?,
        ))
    }

    async fn create_role_binding(
        &self,
        request: Request<pb::CreateRoleBindingRequest>,
    ) -> Result<Response<pb::RoleBinding>, Status> {
        let ctx = Context::of(&request)?;
        let new = convert::parse_binding(request.get_ref().role_binding.as_ref())?;
        Ok(Response::new(self.bindings.create(ctx, new).await?))
    }

    async fn delete_role_binding(
        &self,
        request: Request<pb::DeleteRoleBindingRequest>,
    ) -> Result<Response<()>, Status> {
        let ctx = Context::of(&request)?;
        self.bindings.delete(ctx, request.into_inner()).await?;
        Ok(Response::new(()))
    }
}
