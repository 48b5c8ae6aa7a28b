//! What can be done with users. Each change is one transaction with its audit record.

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use upm_mesh as mesh;
use upm_proto::user::v1 as pb;
use upm_store::page::{PageRequest, Query};
use upm_store::request_id::{Key, fingerprint, once};
use upm_store::{Cache, Connection, Diff, Store, audited, etag, filter, ids, lock, time};

use crate::model::{self, UserRow};
use crate::password::{Password, Passwords};
use crate::pb::{Change, NewUser, name};
use crate::{Error, list, pb as convert};

/// Who holds somebody's access token may not guess the password behind it: so many tries in so long.
const GUESSES: i64 = 10;
pub(crate) const GUESS_WINDOW: Duration = Duration::from_mins(15);

/// Who has this role on the platform administers it; at least one of them can act.
const ADMINISTRATOR: &str = "roles/platform-admin";
/// Nobody else disables or deletes users meanwhile: two administrators must not disable each other at once.
const STANDING_LOCK: &str = "user-standing";

/// The users of the platform. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Users {
    store: Store,
    passwords: Passwords,
    cache: Cache,
    /// Counts changes of who may act that this process has made.
    changes: watch::Sender<u64>,
}

/// Whether a user may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Enabled,
    Disabled,
}

impl Users {
    pub(crate) fn new(store: Store, passwords: Passwords, cache: &Cache) -> Self {
        Self {
            store,
            passwords,
            cache: cache.scoped("change-password"),
            changes: watch::Sender::new(0),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) async fn create(
        &self,
        ctx: mesh::Context,
        new: NewUser,
        request_id: String,
    ) -> Result<pb::User, Error> {
        let hash = self.hash(new.password.as_ref()).await?;
        let print = fingerprint(&json!({
            "id": new.id, "displayName": new.profile.display_name, "email": new.profile.email,
            "labels": new.profile.labels,
        }));
        let principal = ctx.caller.principal.to_string();
        self.store
            .transact("create a user", move |conn| {
                let key = Key {
                    principal: &principal,
                    method: "/upm.user.v1.UserService/CreateUser",
                    request_id: &request_id,
                };
                once(conn, key, &print, |conn| {
                    insert(conn, &ctx, &new, hash.clone())
                })
            })
            .await
    }

    /// Creates the first user. Again with the same id and password it returns the user, so that a set-up that was interrupted can
    /// go on.
    pub(crate) async fn create_first(
        &self,
        ctx: mesh::Context,
        new: NewUser,
        password: String,
    ) -> Result<pb::User, Error> {
        let hash = self.hash(new.password.as_ref()).await?;
        let id = new.id.clone();
        let existing = self
            .store
            .transact("create the first user", move |conn| {
                lock::name(conn, "first-user")?;
                match model::first_two(conn)?.as_slice() {
                    [] => insert(conn, &ctx, &new, hash.clone()).map(Ok),
                    [only] if only.id == new.id => Ok(Err(only.password_hash.clone())),
                    _ => Err(Error::UsersExist),
                }
            })
            .await?;
        match existing {
            Ok(made) => Ok(made),
            Err(hash) => {
                if self.passwords.verify(&password, hash).await? {
                    self.get(id).await
                } else {
                    Err(Error::UsersExist)
                }
            }
        }
    }

    pub(crate) async fn get(&self, id: String) -> Result<pb::User, Error> {
        self.store
            .read("get a user", move |conn| {
                let row = model::find(conn, &id)?.ok_or_else(|| Error::NotFound(id.clone()))?;
                let labels = model::labels(conn, &id)?;
                Ok(convert::user(&row, labels))
            })
            .await
    }

    pub(crate) async fn list(
        &self,
        request: pb::ListUsersRequest,
    ) -> Result<pb::ListUsersResponse, Error> {
        let terms = filter::parse(&request.filter, &list::FILTERS)?;
        let query = Query {
            method: "/upm.user.v1.UserService/ListUsers",
            filter: &request.filter,
            ..Query::default()
        };
        let page: PageRequest<String> =
            PageRequest::parse(&self.store, query, request.page_size, &request.page_token)?;
        self.store
            .read("list users", move |conn| {
                let after = page.after().map(String::as_str);
                let rows = list::page(conn, &terms, after, page.limit())?;
                let (rows, next_page_token) = page.finish(rows, |row| row.id.clone())?;
                let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
                let mut labels = model::labels_of(conn, &ids)?;
                let users = rows
                    .iter()
                    .map(|row| convert::user(row, labels.remove(&row.id).unwrap_or_default()))
                    .collect();
                Ok(pb::ListUsersResponse {
                    users,
                    next_page_token,
                })
            })
            .await
    }

    pub(crate) async fn update(
        &self,
        ctx: mesh::Context,
        change: Change,
    ) -> Result<pb::User, Error> {
        let id = change.id.clone();
        ctx.require_no_less(&name(&id))?;
        self.modify("update a user", id, move |conn, row| {
            etag::check(&change.etag, &etag::of(&row.uid, row.version))?;
            let Change {
                profile, fields, ..
            } = &change;
            let mut diff = Diff::new();
            if fields.contains("display_name") {
                diff = diff.field("displayName", &row.display_name, &profile.display_name);
                row.display_name.clone_from(&profile.display_name);
            }
            if fields.contains("email") {
                diff = diff.field("email", &row.email, &profile.email);
                row.email.clone_from(&profile.email);
            }
            if fields.contains("labels") {
                let old = model::labels(conn, &row.id)?;
                if old != profile.labels {
                    diff = diff.field("labels", &old, &profile.labels);
                    model::put_labels(conn, &row.id, &profile.labels)?;
                }
            }
            if !diff.is_empty() {
                write(conn, row)?;
            }
            Ok(audited(conn, &ctx, &name(&row.id), diff.into())?)
        })
        .await
    }

    pub(crate) async fn delete(
        &self,
        ctx: mesh::Context,
        request: pb::DeleteUserRequest,
    ) -> Result<(), Error> {
        let id = convert::parse_name("name", &request.name, ctx.caller.user())?;
        refuse_own(&ctx, &id)?;
        ctx.require_no_less(&name(&id))?;
        self.store
            .transact("delete a user", move |conn| {
                require_administrator_without(conn, &ctx, &id)?;
                let Some(row) = model::find_locked(conn, &id)? else {
                    return if request.allow_missing {
                        Ok(())
                    } else {
                        Err(Error::NotFound(id.clone()))
                    };
                };
                etag::check(&request.etag, &etag::of(&row.uid, row.version))?;
                model::delete(conn, &row)?;
                Ok(audited(
                    conn,
                    &ctx,
                    &name(&id),
                    Diff::new().removed("uid", &row.uid).into(),
                )?)
            })
            .await?;
        self.changed();
        Ok(())
    }

    pub(crate) async fn set_access(
        &self,
        ctx: mesh::Context,
        resource: &str,
        access: Access,
    ) -> Result<pb::User, Error> {
        let id = convert::parse_name("name", resource, ctx.caller.user())?;
        refuse_own(&ctx, &id)?;
        ctx.require_no_less(&name(&id))?;
        let disabled = access == Access::Disabled;
        let user = self
            .store
            .transact("disable or enable a user", move |conn| {
                // Before the row, as a deletion does.
                if disabled {
                    require_administrator_without(conn, &ctx, &id)?;
                }
                modify_in(conn, &id, |conn, row| {
                    let was = std::mem::replace(&mut row.disabled, disabled);
                    if was != disabled {
                        write(conn, row)?;
                    }
                    let diff = Diff::new().field("disabled", &was, &disabled);
                    Ok(audited(conn, &ctx, &name(&row.id), diff.into())?)
                })
            })
            .await?;
        self.changed();
        Ok(user)
    }

    /// Changes the caller's own password.
    pub(crate) async fn change_password(
        &self,
        ctx: mesh::Context,
        request: pb::ChangePasswordRequest,
    ) -> Result<(), Error> {
        let id = convert::parse_name("name", &request.name, ctx.caller.user())?;
        if ctx.caller.user() != Some(name(&id).as_str()) {
            return Err(Error::NotOwnUser);
        }
        let new = Password::parse("new_password", &request.new_password)?;
        if GUESSES < self.cache.incr(&id, GUESS_WINDOW).await? {
            return Err(Error::Throttled);
        }
        self.verify(&id, &request.old_password).await?;
        self.cache.del(&id).await?;
        self.set_password(ctx, id, new).await
    }

    /// Sets another user's password.
    pub(crate) async fn reset_password(
        &self,
        ctx: mesh::Context,
        request: pb::ResetPasswordRequest,
    ) -> Result<(), Error> {
        let id = convert::parse_name("name", &request.name, ctx.caller.user())?;
        let new = Password::parse("new_password", &request.new_password)?;
        ctx.require_no_less(&name(&id))?;
        if ctx.caller.user() != Some(name(&id).as_str()) {
            let (ctx, id) = (ctx.clone(), id.clone());
            self.store
                .read("find the other administrators", move |conn| {
                    require_administrator_beside(conn, &ctx, &id)
                })
                .await?;
        }
        self.set_password(ctx, id, new).await
    }

    /// The user, if the password is right and the user may act. Takes as long for unknown users.
    pub(crate) async fn verify(&self, id: &str, password: &str) -> Result<pb::User, Error> {
        // What can be no id is not asked of the store, which might take it for one.
        let id = if ids::resource_id(id).is_ok() { id } else { "" };
        let wanted = id.to_owned();
        let found = self
            .store
            .read("find a user to verify", move |conn| {
                let Some(row) = model::find(conn, &wanted)? else {
                    return Ok::<_, Error>(None);
                };
                let labels = model::labels(conn, &wanted)?;
                Ok(Some((row, labels)))
            })
            .await?;
        let hash = found
            .as_ref()
            .and_then(|(row, _)| row.password_hash.clone());
        let right = self.passwords.verify(password, hash).await?;
        match found {
            Some((row, labels)) if right && !row.disabled => Ok(convert::user(&row, labels)),
            _ => Err(Error::BadCredentials),
        }
    }

    async fn set_password(
        &self,
        ctx: mesh::Context,
        id: String,
        new: Password,
    ) -> Result<(), Error> {
        let hash = self.passwords.hash(&new).await?;
        self.modify("set a password", id, move |conn, row| {
            row.password_hash = Some(hash.clone());
            row.password_us = Some(time::now_us());
            write(conn, row)?;
            Ok(audited(
                conn,
                &ctx,
                &name(&row.id),
                serde_json::Value::Null,
            )?)
        })
        .await
        .map(drop)
    }

    /// Runs `work` on the locked row, and answers with the user as it is then.
    async fn modify(
        &self,
        op: &'static str,
        id: String,
        mut work: impl FnMut(&mut Connection, &mut UserRow) -> Result<(), Error> + Send + 'static,
    ) -> Result<pb::User, Error> {
        self.store
            .transact(op, move |conn| modify_in(conn, &id, &mut work))
            .await
    }

    async fn hash(&self, password: Option<&Password>) -> Result<Option<String>, Error> {
        match password {
            Some(password) => self.passwords.hash(password).await.map(Some),
            None => Ok(None),
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

fn modify_in(
    conn: &mut Connection,
    id: &str,
    work: impl FnOnce(&mut Connection, &mut UserRow) -> Result<(), Error>,
) -> Result<pb::User, Error> {
    let mut row = model::find_locked(conn, id)?.ok_or_else(|| Error::NotFound(id.to_owned()))?;
    work(conn, &mut row)?;
    let labels = model::labels(conn, id)?;
    Ok(convert::user(&row, labels))
}

fn insert(
    conn: &mut Connection,
    ctx: &mesh::Context,
    new: &NewUser,
    password_hash: Option<String>,
) -> Result<pb::User, Error> {
    let now = time::now_us();
    let deleted = model::recently_deleted(conn)?
        .into_iter()
        .find(|(id, _)| *id == new.id);
    if let Some((id, delete_us)) = deleted {
        let wait = delete_us + model::DELETED_KEPT_US - now;
        let wait = Duration::from_micros(wait.max(0).unsigned_abs());
        return Err(Error::RecentlyDeleted { id, wait });
    }
    let row = UserRow {
        id: new.id.clone(),
        uid: ids::uuid7(),
        version: 1,
        display_name: new.profile.display_name.clone(),
        email: new.profile.email.clone(),
        password_us: password_hash.is_some().then_some(now),
        password_hash,
        disabled: false,
        create_us: now,
        update_us: now,
    };
    if !model::insert(conn, &row, &new.profile.labels)? {
        return Err(Error::Exists(new.id.clone()));
    }
    let diff = Diff::new()
        .added("uid", &row.uid)
        .added("email", &row.email);
    audited(conn, ctx, &name(&row.id), diff.into())?;
    Ok(convert::user(&row, new.profile.labels.clone()))
}

fn write(conn: &mut Connection, row: &mut UserRow) -> Result<(), Error> {
    row.version += 1;
    row.update_us = time::now_us();
    Ok(model::update(conn, row)?)
}

/// Refuses to take the last administrator who may act away. Whoever disables or deletes users waits for each other here.
fn require_administrator_without(
    conn: &mut Connection,
    ctx: &mesh::Context,
    id: &str,
) -> Result<(), Error> {
    lock::name(conn, STANDING_LOCK)?;
    require_administrator_beside(conn, ctx, id)
}

/// Refuses when the user is the only administrator who may act.
fn require_administrator_beside(
    conn: &mut Connection,
    ctx: &mesh::Context,
    id: &str,
) -> Result<(), Error> {
    let administrators = ctx.holders(ADMINISTRATOR)?;
    if !administrators.contains(&name(id)) {
        return Ok(());
    }
    for other in &administrators {
        let other = convert::parse_name("name", other, None)?;
        // What this module knows of who is disabled or deleted is newer than the policy.
        if other != id && model::find(conn, &other)?.is_some_and(|row| !row.disabled) {
            return Ok(());
        }
    }
    Err(Error::LastAdministrator(name(id)))
}

fn refuse_own(ctx: &mesh::Context, id: &str) -> Result<(), Error> {
    if ctx.caller.user() == Some(name(id).as_str()) {
        Err(Error::OwnUser)
    } else {
        Ok(())
    }
}
