//! Sessions: an access token, and a refresh token that is good once.

use serde_json::json;
use upm_mesh::{Context, audit};
use upm_proto::auth::v1 as pb;
use upm_store::{Connection, Store, ids, outbox, time};

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
    Reused(SessionRow),
    Unknown,
}

/// So long the same caller gets the same answer again: an answer can be lost, and two commands can refresh at once.
const GRACE_US: i64 = 10 * time::SECOND_US;

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
    pub(crate) fn begin(
        &self,
        conn: &mut Connection,
        user: &Standing,
    ) -> Result<(SessionRow, Refresh), Error> {
        let now_us = time::now_us();
        let session = SessionRow {
            id: ids::uuid7(),
            user_name: user.name.clone(),
            password_us: user.password_us,
            create_us: now_us,
            expire_us: now_us.saturating_add(self.session_us),
            secret: secret::random(),
        };
        model::insert(conn, &session)?;
        let refresh = self.add_token(conn, &session, secret::random(), now_us)?;
        Ok((session, refresh))
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

    /// Trades a refresh token for the next, and says whose it is. `by` is the caller's address.
    pub(crate) async fn rotate(
        &self,
        ctx: &Context,
        token: &str,
        by: &str,
    ) -> Result<(String, Refresh), Error> {
        let (token, by, this) = (token.to_owned(), secret::hash(by), self.clone());
        let ctx = ctx.clone();
        let rotation = self
            .store
            .transact("rotate a refresh token", move |conn| {
                let rotation = this.rotate_in(conn, &token, &by)?;
                if let Rotation::Reused(session) = &rotation {
                    // The caller is nobody yet: the record says whose session it was.
                    let draft = audit::Draft::background(&ctx, "auth", "reuse-refresh-token")
                        .resource(&session.user_name)
                        .diff(json!({ "session": session.id, "ended": true }));
                    outbox::write(conn, &Some(draft))?;
                }
                Ok::<_, Error>(rotation)
            })
            .await?;
        match rotation {
            Rotation::Rotated { user, next } => Ok((user, next)),
            Rotation::Reused(session) => {
                tracing::warn!(
                    user = session.user_name,
                    session = session.id,
                    "A used refresh token came again; its session has ended"
                );
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

    fn rotate_in(
        &self,
        conn: &mut Connection,
        presented: &str,
        by: &str,
    ) -> Result<Rotation, Error> {
        let hash = secret::hash(presented);
        let Some((token, session)) = model::find_locked(conn, &hash)? else {
            return Ok(Rotation::Unknown);
        };
        let now_us = time::now_us();
        if token.used_us.is_some() {
            if let Some(next) = same_answer(conn, &session, &token, presented, by, now_us)? {
                return Ok(Rotation::Rotated {
                    user: session.user_name,
                    next,
                });
            }
            model::end(conn, &session.id)?;
            return Ok(Rotation::Reused(session));
        }
        if token.expire_us <= now_us || session.expire_us <= now_us {
            return Ok(Rotation::Unknown);
        }
        model::mark_used(conn, &hash, now_us, by)?;
        let next = if session.secret.is_empty() {
            secret::random()
        } else {
            secret::next(&session.secret, presented)
        };
        let next = self.add_token(conn, &session, next, now_us)?;
        Ok(Rotation::Rotated {
            user: session.user_name,
            next,
        })
    }

    fn add_token(
        &self,
        conn: &mut Connection,
        session: &SessionRow,
        token: String,
        now_us: i64,
    ) -> Result<Refresh, Error> {
        let end_us = now_us
            .saturating_add(self.refresh_us)
            .min(session.expire_us);
        let row = RefreshRow {
            token_hash: secret::hash(&token),
            session_id: session.id.clone(),
            expire_us: end_us,
            used_us: None,
            used_by: String::new(),
        };
        model::insert_token(conn, &row)?;
        Ok(Refresh { token, end_us })
    }
}

/// The answer that a used token got, for the caller who got it, while it is fresh and nobody has gone on from it.
fn same_answer(
    conn: &mut Connection,
    session: &SessionRow,
    used: &RefreshRow,
    presented: &str,
    by: &str,
    now_us: i64,
) -> Result<Option<Refresh>, Error> {
    let fresh = used.used_us.is_some_and(|at| now_us - at < GRACE_US);
    if !fresh || used.used_by != by || session.secret.is_empty() || session.expire_us <= now_us {
        return Ok(None);
    }
    let token = secret::next(&session.secret, presented);
    let next = model::find(conn, &secret::hash(&token))?;
    Ok(next
        .filter(|(row, _)| row.used_us.is_none())
        .map(|(row, _)| Refresh {
            token,
            end_us: row.expire_us,
        }))
}
