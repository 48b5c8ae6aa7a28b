//! The first administrator: made with a token that only who starts the platform can read.

use upm_mesh::Context;
use upm_proto::auth::v1 as pb;
use upm_store::{Diff, Store, audited};

use crate::bindings::{Holder, bind};
use crate::model::{bindings, policy as revision, setup as model};
use crate::pb::NewBinding;
use crate::peer::Users;
use crate::permissions::ADMINISTRATOR;
use crate::policy::Policy;
use crate::sessions::Sessions;
use crate::{Error, secret};

/// The one-time set-up token in clear: for the operator's eyes, or a file with mode 0600. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct SetupToken(String);

impl SetupToken {
    /// The token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SetupToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SetupToken(..)")
    }
}

/// A new token, when there is no administrator. It replaces the one before, so with several replicas the last one counts.
pub(crate) async fn offer(store: &Store) -> Result<Option<SetupToken>, Error> {
    store
        .transact("offer a set-up token", |conn| {
            revision::lock(conn)?;
            if !bindings::administrators(conn)?.is_empty() {
                model::delete(conn)?;
                return Ok(None);
            }
            let token = secret::random();
            model::put(conn, &secret::hash(&token))?;
            Ok(Some(SetupToken(token)))
        })
        .await
}

/// Set-up. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) store: Store,
    pub(crate) policy: Policy,
    pub(crate) users: Users,
    pub(crate) sessions: Sessions,
}

impl Setup {
    /// Makes the first administrator and logs them in. Where users exist but no administrator does (a set-up that was interrupted, a
    /// store of this module that was lost), the password must be that of the user, who becomes administrator.
    pub(crate) async fn run(
        &self,
        ctx: Context,
        request: pb::SetupRequest,
    ) -> Result<pb::TokenResponse, Error> {
        let hash = secret::hash(&request.setup_token);
        self.check(hash.clone()).await?;
        let (id, password) = (&request.user_id, &request.password);
        let user = match self.users.create_first(&ctx, id, password).await? {
            Some(made) => made,
            None => self.users.verify(&ctx, id, password).await?,
        };
        let sessions = self.sessions.clone();
        let name = user.name.clone();
        // One request, one record: the one about the administrator.
        let mut silent = ctx.clone();
        silent.audit = None;
        let refresh = self
            .store
            .transact("set up", move |conn| {
                revision::lock(conn)?;
                require(conn, &hash)?;
                let new = NewBinding {
                    role: ADMINISTRATOR.to_owned(),
                    user: user.name.clone(),
                    project: String::new(),
                };
                let holder = Holder {
                    user_uid: user.uid.clone(),
                    project_uid: String::new(),
                };
                bind(conn, &silent, &new, &holder)?;
                model::delete(conn)?;
                audited(
                    conn,
                    &ctx,
                    &user.name,
                    Diff::new().added("role", ADMINISTRATOR).into(),
                )?;
                sessions.begin(conn, &user).map(|begun| begun.1)
            })
            .await?;
        self.policy.changed();
        self.sessions.response(name, refresh)
    }

    async fn check(&self, hash: String) -> Result<(), Error> {
        self.store
            .read("check the set-up token", move |conn| require(conn, &hash))
            .await
    }
}

fn require(conn: &mut upm_store::Connection, hash: &str) -> Result<(), Error> {
    if !bindings::administrators(conn)?.is_empty() {
        return Err(Error::AlreadySetUp);
    }
    if model::matches(conn, hash)? {
        Ok(())
    } else {
        Err(Error::SetupTokenInvalid)
    }
}
