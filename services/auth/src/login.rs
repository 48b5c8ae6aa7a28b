//! Logging in, refreshing, logging out.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;
use upm_mesh::Context;
use upm_proto::auth::v1 as pb;
use upm_store::audited;

use crate::model::sessions as model;
use crate::peer::Users;
use crate::sessions::Sessions;
use crate::throttle::Throttle;
use crate::{Error, secret};

/// Logins. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Logins {
    pub(crate) sessions: Sessions,
    pub(crate) users: Users,
    pub(crate) throttle: Throttle,
}

impl Logins {
    pub(crate) async fn login(
        &self,
        ctx: Context,
        request: pb::LoginRequest,
    ) -> Result<pb::TokenResponse, Error> {
        let address = address(&ctx.caller.source_address);
        self.throttle.attempt(&request.user_id, &address).await?;
        let user = self
            .users
            .verify(&ctx, &request.user_id, &request.password)
            .await?;
        self.throttle.succeeded(&request.user_id, &address).await;
        let (sessions, name) = (self.sessions.clone(), user.name.clone());
        let refresh = self
            .sessions
            .store
            .transact("log in", move |conn| {
                let refresh = sessions.begin(conn, &user)?;
                audited(conn, &ctx, &user.name, json!({ "session": "begun" }))?;
                Ok::<_, Error>(refresh)
            })
            .await?;
        self.sessions.response(name, refresh)
    }

    pub(crate) async fn refresh(
        &self,
        ctx: Context,
        request: pb::RefreshRequest,
    ) -> Result<pb::TokenResponse, Error> {
        let session = self.sessions.find(&request.refresh_token).await?;
        let standing = self.users.standing(&ctx, &session.user_name).await?;
        let stands =
            standing.is_some_and(|user| !user.disabled && user.password_us == session.password_us);
        if !stands {
            self.end(session.id).await?;
            return Err(Error::RefreshTokenInvalid);
        }
        let (user, refresh) = self.sessions.rotate(&request.refresh_token).await?;
        self.sessions.response(user, refresh)
    }

    /// Ends the family of a refresh token, used or not. An unknown one is no error.
    pub(crate) async fn logout(
        &self,
        ctx: Context,
        request: pb::LogoutRequest,
    ) -> Result<(), Error> {
        let hash = secret::hash(&request.refresh_token);
        self.sessions
            .store
            .transact("log out", move |conn| {
                let Some((_, session)) = model::find_locked(conn, &hash)? else {
                    return Ok(());
                };
                model::end(conn, &session.id)?;
                Ok(audited(
                    conn,
                    &ctx,
                    &session.user_name,
                    json!({ "session": "ended" }),
                )?)
            })
            .await
    }

    async fn end(&self, session_id: String) -> Result<(), Error> {
        self.sessions
            .store
            .transact("end a session", move |conn| {
                Ok(model::end(conn, &session_id)?)
            })
            .await
    }
}

/// The address without the port, which each connection has anew.
fn address(source: &str) -> String {
    let ip = source
        .parse::<SocketAddr>()
        .map(|socket| socket.ip())
        .or_else(|_| source.parse::<IpAddr>());
    ip.map_or_else(|_| source.to_owned(), |ip| ip.to_string())
}
