//! The modules `user` and `resource`, as this module needs them.

use std::time::Duration;

use tonic::Code;
use upm_mesh::{Channel, Context, Kind, Peers, status};
use upm_proto::resource::v1::{self as resource, project_service_client::ProjectServiceClient};
use upm_proto::user::v1 as pb;
use upm_proto::user::v1::user_service_client::UserServiceClient;
use upm_store::time;

use crate::Error;

const LIMIT: Duration = Duration::from_secs(9);

/// Module `user`. Cheap to clone.
#[derive(Clone)]
#[allow(missing_debug_implementations)]
pub(crate) struct Users {
    client: UserServiceClient<Channel>,
}

/// Module `resource`. Cheap to clone.
#[derive(Clone)]
#[allow(missing_debug_implementations)]
pub(crate) struct Projects {
    client: ProjectServiceClient<Channel>,
}

impl Projects {
    pub(crate) fn new(peers: &Peers) -> Self {
        Self {
            client: ProjectServiceClient::new(peers.channel("resource")),
        }
    }

    /// The uid of a project (`projects/{project}`); `None` when there is none.
    pub(crate) async fn uid(&self, ctx: &Context, name: &str) -> Result<Option<String>, Error> {
        let request = resource::GetProjectRequest {
            name: name.to_owned(),
        };
        let request = own(ctx).forward(request);
        match self.client.clone().get_project(request).await {
            Ok(project) => Ok(Some(project.into_inner().uid)),
            Err(missing) if Kind::of(missing.code()) == Some(Kind::NotFound) => Ok(None),
            Err(failed) => Err(failed.into()),
        }
    }
}

/// What a session depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// `users/{user}`
    pub(crate) name: String,
    /// Never used again for another user.
    pub(crate) uid: String,
    pub(crate) disabled: bool,
    /// When the password was set; 0 for none. Logins with another one have ended.
    pub(crate) password_us: i64,
}

impl Users {
    pub(crate) fn new(peers: &Peers) -> Self {
        Self {
            client: UserServiceClient::new(peers.channel("user")),
        }
    }

    /// Creates the first user; `None` when there are users.
    pub(crate) async fn create_first(
        &self,
        ctx: &Context,
        user_id: &str,
        password: &str,
    ) -> Result<Option<Standing>, Error> {
        let request = pb::CreateFirstUserRequest {
            user_id: user_id.to_owned(),
            password: password.to_owned(),
        };
        match self
            .client
            .clone()
            .create_first_user(own(ctx).forward(request))
            .await
        {
            Ok(user) => Ok(Some(Standing::of(user.into_inner()))),
            Err(refused) if status::reason(&refused).as_deref() == Some("USERS_EXIST") => Ok(None),
            Err(failed) => Err(failed.into()),
        }
    }

    /// The user whose password it is.
    pub(crate) async fn verify(
        &self,
        ctx: &Context,
        user_id: &str,
        password: &str,
    ) -> Result<Standing, Error> {
        let request = pb::VerifyPasswordRequest {
            user_id: user_id.to_owned(),
            password: password.to_owned(),
        };
        match self
            .client
            .clone()
            .verify_password(own(ctx).forward(request))
            .await
        {
            Ok(verified) => Ok(Standing::of(verified.into_inner().user.unwrap_or_default())),
            Err(refused) if refused.code() == Code::Unauthenticated => Err(Error::BadCredentials),
            Err(failed) => Err(failed.into()),
        }
    }

    /// How a user stands now; `None` when there is no such user.
    pub(crate) async fn standing(
        &self,
        ctx: &Context,
        name: &str,
    ) -> Result<Option<Standing>, Error> {
        let request = pb::GetUserRequest {
            name: name.to_owned(),
        };
        match self
            .client
            .clone()
            .get_user(own(ctx).forward(request))
            .await
        {
            Ok(user) => Ok(Some(Standing::of(user.into_inner()))),
            Err(missing) if Kind::of(missing.code()) == Some(Kind::NotFound) => Ok(None),
            Err(failed) => Err(failed.into()),
        }
    }

    /// Follows the users who must not act.
    pub(crate) async fn watch_disabled(
        &self,
        ctx: &Context,
    ) -> Result<tonic::Streaming<pb::DisabledUsers>, Error> {
        let request = ctx.forward(pb::WatchDisabledUsersRequest {});
        Ok(self
            .client
            .clone()
            .watch_disabled_users(request)
            .await?
            .into_inner())
    }
}

impl Standing {
    fn of(user: pb::User) -> Self {
        Self {
            password_us: user
                .password_change_time
                .as_ref()
                .map_or(0, time::from_timestamp),
            uid: user.uid,
            disabled: user.disabled,
            name: user.name,
        }
    }
}

/// This module's own call on behalf of a request: its rights are the module's, also when the request came with a token.
fn own(ctx: &Context) -> Context {
    let left = ctx.remaining().unwrap_or(LIMIT).min(LIMIT);
    Context::internal("auth")
        .in_trace(&ctx.traceparent)
        .within(left)
}
