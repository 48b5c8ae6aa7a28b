//! `upm.auth.v1.AuthService`.

use std::time::UNIX_EPOCH;

use tonic::{Request, Response, Status};
use upm_mesh::Context;
use upm_proto::auth::v1 as pb;
use upm_proto::auth::v1::auth_service_server::AuthService;
use upm_store::{Store, time};

use crate::bindings::Bindings;
use crate::login::Logins;
use crate::model::keys as key_rows;
use crate::setup::Setup;
use crate::{Error, keys};

#[derive(Clone)]
pub(crate) struct AuthHandler {
    pub(crate) store: Store,
    pub(crate) setup: Setup,
    pub(crate) logins: Logins,
    pub(crate) bindings: Bindings,
}

#[tonic::async_trait]
impl AuthService for AuthHandler {
    async fn setup(
        &self,
        request: Request<pb::SetupRequest>,
    ) -> Result<Response<pb::TokenResponse>, Status> {
        let ctx = Context::of(&request)?;
        Ok(Response::new(
            self.setup.run(ctx, request.into_inner()).await?,
        ))
    }

    async fn login(
        &self,
        request: Request<pb::LoginRequest>,
    ) -> Result<Response<pb::TokenResponse>, Status> {
        let ctx = Context::of(&request)?;
        Ok(Response::new(
            self.logins.login(ctx, request.into_inner()).await?,
        ))
    }

    async fn refresh(
        &self,
        request: Request<pb::RefreshRequest>,
    ) -> Result<Response<pb::TokenResponse>, Status> {
        let ctx = Context::of(&request)?;
        Ok(Response::new(
            self.logins.refresh(ctx, request.into_inner()).await?,
        ))
    }

    async fn logout(&self, request: Request<pb::LogoutRequest>) -> Result<Response<()>, Status> {
        let ctx = Context::of(&request)?;
        self.logins.logout(ctx, request.into_inner()).await?;
        Ok(Response::new(()))
    }

    async fn who_am_i(
        &self,
        request: Request<pb::WhoAmIRequest>,
    ) -> Result<Response<pb::WhoAmIResponse>, Status> {
        let caller = Context::of(&request)?.caller;
        let user = caller.user().ok_or(Error::UsersOnly)?.to_owned();
        let end = caller
            .expires
            .and_then(|end| end.duration_since(UNIX_EPOCH).ok());
        Ok(Response::new(pb::WhoAmIResponse {
            role_bindings: self.bindings.of_user(user.clone()).await?,
            user,
            expire_time: end.map(|end| time::timestamp(time::micros(end))),
        }))
    }

    async fn get_jwks(&self, _: Request<pb::GetJwksRequest>) -> Result<Response<pb::Jwks>, Status> {
        let rows = self
            .store
            .read("read the keys", |conn| Ok::<_, Error>(key_rows::all(conn)?));
        Ok(Response::new(keys::jwks(&rows.await?)))
    }
}
