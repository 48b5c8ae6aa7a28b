//! Sessions: an access token, and a refresh token that is good once.

use upm_proto::auth::v1 as pb;
use upm_store::{Connection, Store, ids, time};

use crate::keys::Keys;
use crate::model::sessions::{self as model, RefreshRow, SessionRow};
use crate::peer::Standing;
use crate::{Config, Error, secret};

/// Sessions. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    pub(crate) store: Store,
    keys: Keys,
    refresh_us: i64,
    session_us: i64,
}

/// A refresh token as it goes out, with its end.
#[derive(Debug, Clone)]
pub(crate) struct Refresh {
    token: String,
    end_us: i64,
}

/// What became of a refresh token that was presented.
enum Rotation {
    Rotated {
        user: String,
        next: Refresh,
    },
    /// It was used before: somebody has a copy, so the whole family has ended.
    Reused,
    Unknown,
}

impl Sessions {
    pub(crate) fn new(store: Store, keys: Keys, config: &Config) -> Self {
        Self {
            store,
            keys,
            refresh_us: time::micros(config.refresh_token()),
            session_us: time::micros(config.session()),
        }
    }

    /// Begins a session, in the transaction of the login.
    pub(crate) fn begin(&self, conn: &mut Connection, user: &Standing) -> Result<Refresh, Error> {
        let now_us = time::now_us();
        let session = SessionRow {
            id: ids::uuid7(),
            user_name: user.name.clone(),
            password_us: user.password_us,
            create_us: now_us,
            expire_us: now_us.saturating_add(self.session_us),
        };
        model::insert(conn, &session)?;
        self.next_token(conn, &session, now_us)
    }

    /// The session that a refresh token belongs to, if it has not ended.
    pub(crate) async fn find(&self, token: &str) -> Result<SessionRow, Error> {
        let hash = secret::hash(token);
        let found = self
            .store
            .read("find a session", move |conn| {
                Ok::<_, Error>(model::find(conn, &hash)?)
            })
            .await?;
        found
            .map(|(_, session)| session)
            .ok_or(Error::RefreshTokenInvalid)
    }

    /// Trades a refresh token for the next, and says whose it is.
    pub(crate) async fn rotate(&self, token: &str) -> Result<(String, Refresh), Error> {
        let (hash, this) = (secret::hash(token), self.clone());
        let rotation = self
            .store
            .transact("rotate a refresh token", move |conn| {
                this.rotate_in(conn, &hash)
            })
            .await?;
        match rotation {
            Rotation::Rotated { user, next } => Ok((user, next)),
            Rotation::Reused => {
                tracing::warn!("A used refresh token came again; its session has ended");
                Err(Error::RefreshTokenInvalid)
            }
            Rotation::Unknown => Err(Error::RefreshTokenInvalid),
        }
    }

    /// The answer with both tokens.
    pub(crate) fn response(
        &self,
        user: String,
        refresh: Refresh,
    ) -> Result<pb::TokenResponse, Error> {
        let (access_token, end_us) = self.keys.access_token(&user)?;
        Ok(pb::TokenResponse {
            access_token,
            refresh_token: refresh.token,
            expire_time: Some(time::timestamp(end_us)),
            refresh_expire_time: Some(time::timestamp(refresh.end_us)),
            user,
        })
    }

    fn rotate_in(&self, conn: &mut Connection, hash: &str) -> Result<Rotation, Error> {
        let Some((token, session)) = model::find_locked(conn, hash)? else {
            return Ok(Rotation::Unknown);
        };
        let now_us = time::now_us();
        if token.used_us.is_some() {
            model::end(conn, &session.id)?;
            return Ok(Rotation::Reused);
        }
        if token.expire_us <= now_us || session.expire_us <= now_us {
            return Ok(Rotation::Unknown);
        }
        model::mark_used(conn, hash, now_us)?;
        let next = self.next_token(conn, &session, now_us)?;
        Ok(Rotation::Rotated {
            user: session.user_name,
            next,
        })
    }

    fn next_token(
        &self,
        conn: &mut Connection,
        session: &SessionRow,
        now_us: i64,
    ) -> Result<Refresh, Error> {
        let token = secret::random();
        let end_us = now_us
            .saturating_add(self.refresh_us)
            .min(session.expire_us);
        let row = RefreshRow {
            token_hash: secret::hash(&token),
            session_id: session.id.clone(),
            expire_us: end_us,
            used_us: None,
        };
        model::insert_token(conn, &row)?;
        Ok(Refresh { token, end_us })
    }
}
