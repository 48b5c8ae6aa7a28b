//! Giving roles to users and taking them away.

use serde_json::json;
use upm_mesh::{Context, Principal};
use upm_proto::auth::v1 as pb;
use upm_store::page::{PageRequest, Query};
use upm_store::{Connection, Store, audited, ids, time};

use crate::model::bindings::{self as model, BindingRow};
use crate::model::policy;
use crate::pb::{self as convert, NewBinding, violation};
use crate::peer::Users;
use crate::permissions::{ADMINISTRATOR, first_missing};
use crate::policy::Policy;
use crate::{Error, roles};

/// Bindings. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Bindings {
    pub(crate) store: Store,
    pub(crate) policy: Policy,
    pub(crate) users: Users,
}

impl Bindings {
    pub(crate) async fn list(
        &self,
        request: pb::ListRoleBindingsRequest,
    ) -> Result<pb::ListRoleBindingsResponse, Error> {
        let filter = format!("{}\n{}", request.user, request.project);
        let query = Query {
            method: "/upm.auth.v1.RoleService/ListRoleBindings",
            filter: &filter,
            ..Query::default()
        };
        let page: PageRequest<String> =
            PageRequest::parse(&self.store, query, request.page_size, &request.page_token)?;
        self.store
            .read("list role bindings", move |conn| {
                let after = page.after().map(String::as_str);
                let rows = model::page(conn, &request.user, &request.project, after, page.limit())?;
                let (rows, next_page_token) = page.finish(rows, |row| row.id.clone())?;
                let role_bindings = rows.iter().map(convert::binding).collect();
                Ok(pb::ListRoleBindingsResponse {
                    role_bindings,
                    next_page_token,
                })
            })
            .await
    }

    pub(crate) async fn create(
        &self,
        ctx: Context,
        new: NewBinding,
    ) -> Result<pb::RoleBinding, Error> {
        if self.users.standing(&ctx, &new.user).await?.is_none() {
            return Err(violation("role_binding.user", "does not exist").into());
        }
        let made = self
            .store
            .transact("create a role binding", move |conn| {
                policy::lock(conn)?;
                let role_id = ids::in_name("role_binding.role", "roles", &new.role)?;
                let role = roles::find(conn, role_id)?;
                roles::require_scope(&role, &new.project)?;
                require_held(conn, &ctx, &new.project, &role.permissions)?;
                bind(conn, &ctx, &new)
            })
            .await?;
        self.policy.changed();
        Ok(made)
    }

    pub(crate) async fn delete(
        &self,
        ctx: Context,
        request: pb::DeleteRoleBindingRequest,
    ) -> Result<(), Error> {
        let id = ids::in_name("name", "roleBindings", &request.name)?.to_owned();
        self.store
            .transact("delete a role binding", move |conn| {
                policy::lock(conn)?;
                let Some(row) = model::find(conn, &id)? else {
                    let missing = Error::NoBinding(request.name.clone());
                    return if request.allow_missing { Ok(()) } else { Err(missing) };
                };
                require_administrator_without(conn, &row)?;
                model::delete(conn, &id)?;
                policy::bump(conn)?;
                let diff = json!({ "role": [row.role, null], "user": [row.user_name, null], "project": [row.project, null] });
                Ok(audited(conn, &ctx, &request.name, diff)?)
            })
            .await?;
        self.policy.changed();
        Ok(())
    }

    /// The bindings of one user.
    pub(crate) async fn of_user(&self, user: String) -> Result<Vec<pb::RoleBinding>, Error> {
        self.store
            .read("list a user's role bindings", move |conn| {
                Ok(model::of_user(conn, &user)?
                    .iter()
                    .map(convert::binding)
                    .collect())
            })
            .await
    }
}

/// Makes a binding, or finds the one that exists. The policy is locked.
pub(crate) fn bind(
    conn: &mut Connection,
    ctx: &Context,
    new: &NewBinding,
) -> Result<pb::RoleBinding, Error> {
    let id = convert::binding_id(new);
    if let Some(existing) = model::find(conn, &id)? {
        return Ok(convert::binding(&existing));
    }
    let row = BindingRow {
        id,
        role: new.role.clone(),
        user_name: new.user.clone(),
        project: new.project.clone(),
        create_us: time::now_us(),
    };
    model::insert(conn, &row)?;
    policy::bump(conn)?;
    let made = convert::binding(&row);
    let diff = json!({ "role": [null, row.role], "user": [null, row.user_name], "project": [null, row.project] });
    audited(conn, ctx, &made.name, diff)?;
    Ok(made)
}

/// Refuses to give what the caller does not have there; the empty project is the platform.
pub(crate) fn require_held(
    conn: &mut Connection,
    ctx: &Context,
    project: &str,
    wanted: &[String],
) -> Result<(), Error> {
    let held = match &ctx.caller.principal {
        // The platform's own work.
        Principal::Module(_) => return Ok(()),
        Principal::User(user) => held(conn, user, project)?,
        Principal::Anonymous | Principal::Agent(_) => Vec::new(),
    };
    match first_missing(&held, wanted) {
        None => Ok(()),
        Some(permission) => Err(Error::PermissionNotHeld {
            permission: permission.to_owned(),
        }),
    }
}

/// Every permission that a user has in a project, or on the platform.
fn held(conn: &mut Connection, user: &str, project: &str) -> Result<Vec<String>, Error> {
    let mut held = Vec::new();
    for binding in model::of_user(conn, user)? {
        if binding.project.is_empty() || binding.project == project {
            let id = ids::in_name("role", "roles", &binding.role)?;
            held.extend(roles::find(conn, id)?.permissions);
        }
    }
    Ok(held)
}

/// Refuses to remove the last administrator who may act.
fn require_administrator_without(conn: &mut Connection, row: &BindingRow) -> Result<(), Error> {
    if row.role != ADMINISTRATOR || !row.project.is_empty() {
        return Ok(());
    }
    let others = model::acting_administrators(conn)?
        .iter()
        .any(|user| *user != row.user_name);
    if others {
        Ok(())
    } else {
        Err(Error::LastAdministrator {
            user: row.user_name.clone(),
        })
    }
}
