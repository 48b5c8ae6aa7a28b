//! Logging in, refreshing, logging out.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde_json::json;
use upm_mesh::Context;
use upm_proto::auth::v1 as pb;
use upm_store::{audited, ids};

use crate::model::{bindings, policy, sessions as model};
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
        // What can be no id counts nowhere and is asked of nobody: two spellings of one user would be two counters.
        ids::resource_id(&request.user_id).map_err(|_| Error::BadCredentials)?;
        let address = address(&ctx.caller.source_address);
        self.throttle.attempt(&request.user_id, &address).await?;
        let verified = self
            .users
            .verify(&ctx, &request.user_id, &request.password)
            .await;
        let user = match verified {
            Ok(user) => user,
            Err(Error::BadCredentials) => return Err(Error::BadCredentials),
            Err(failed) => {
                // Nobody has guessed: the password was not looked at.
                self.throttle.give_back(&request.user_id, &address).await;
                return Err(failed);
            }
        };
        self.throttle.succeeded(&request.user_id, &address).await;
        let (sessions, name) = (self.sessions.clone(), user.name.clone());
        let refresh = self
            .sessions
            .store
            .transact("log in", move |conn| {
                // Who had this name before has left their roles behind.
                if bindings::delete_of_predecessors(conn, &user.name, &user.uid)? > 0 {
                    policy::lock(conn)?;
                    policy::bump(conn)?;
                }
                let (session, refresh) = sessions.begin(conn, &user)?;
                let diff = json!({ "session": session.id, "begun": true });
                audited(conn, &ctx, &user.name, diff)?;
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
        let by = address(&ctx.caller.source_address);
        let (user, refresh) = self
            .sessions
            .rotate(&ctx, &request.refresh_token, &by)
            .await?;
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
                    json!({ "session": session.id, "ended": true }),
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

/// The address without the port, which each connection has anew; of IPv6 the /64 network, of which a caller has all addresses.
fn address(source: &str) -> String {
    let ip = source
        .parse::<SocketAddr>()
        .map(|socket| socket.ip())
        .or_else(|_| source.parse::<IpAddr>());
    ip.map_or_else(|_| source.to_owned(), |ip| network(ip).to_string())
}

fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_address() {
        assert_eq!(address("[2001:db8::1]:4711"), address("2001:db8::ffff:2"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("192.0.2.1:80"), "192.0.2.1");
        assert_eq!(address("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(address(""), "");
    }
}
