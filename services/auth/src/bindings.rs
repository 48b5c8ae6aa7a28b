//! Giving roles to users and taking them away.

use serde_json::json;
use upm_mesh::{Context, FieldViolation, Principal, audit};
use upm_proto::auth::v1 as pb;
use upm_store::page::{PageRequest, Query};
use upm_store::{Connection, Diff, Store, audited, ids, outbox, time};

use crate::model::bindings::{self as model, BindingRow};
use crate::model::policy;
use crate::pb::{self as convert, NewBinding};
use crate::peer::{Projects, Users};
use crate::permissions::{ADMINISTRATOR, first_missing};
use crate::policy::Policy;
use crate::{Error, roles};

/// Bindings. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Bindings {
    pub(crate) store: Store,
    pub(crate) policy: Policy,
    pub(crate) users: Users,
    pub(crate) projects: Projects,
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
        let missing = |field: &str| FieldViolation::new(field, "does not exist");
        let user = self.users.standing(&ctx, &new.user).await?;
        let user_uid = user.ok_or_else(|| missing("role_binding.user"))?.uid;
        let project_uid = if new.project.is_empty() {
            String::new()
        } else {
            let project = self.projects.uid(&ctx, &new.project).await?;
            project.ok_or_else(|| missing("role_binding.project"))?
        };
        let holder = Holder {
            user_uid,
            project_uid,
        };
        let made = self
            .store
            .transact("create a role binding", move |conn| {
                policy::lock(conn)?;
                let role_id = ids::in_name("role_binding.role", "roles", &new.role)?;
                let role = roles::find(conn, role_id)?;
                roles::require_scope(&role, &new.project)?;
                require_held(conn, &ctx, &new.project, &role.permissions)?;
                // It may have gone since it was asked for.
                if model::is_forgotten(conn, &holder.project_uid)? {
                    return Err(missing("role_binding.project").into());
                }
                bind(conn, &ctx, &new, &holder)
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
                    return if request.allow_missing {
                        Ok(())
                    } else {
                        Err(missing)
                    };
                };
                // Whose roles somebody takes away loses what these gave.
                let role_id = ids::in_name("role", "roles", &row.role)?;
                let role = roles::find(conn, role_id)?;
                require_held(conn, &ctx, &row.project, &role.permissions)?;
                require_administrator_without(conn, &row)?;
                model::delete(conn, &id)?;
                policy::bump(conn)?;
                let diff = Diff::new()
                    .removed("role", &row.role)
                    .removed("user", &row.user_name)
                    .removed("project", &row.project);
                Ok(audited(conn, &ctx, &request.name, diff.into())?)
            })
            .await?;
        self.policy.changed();
        Ok(())
    }

    /// Takes all bindings in a project away that is gone: nobody inherits them with its name. Again is no error.
    pub(crate) async fn forget_project(
        &self,
        request: pb::ForgetProjectRequest,
    ) -> Result<(), Error> {
        convert::parse_project("project", &request.project)?;
        if request.project.is_empty() || request.project_uid.is_empty() {
            return Err(FieldViolation::new("project_uid", "name and uid are required").into());
        }
        self.store
            .transact("forget a project", move |conn| {
                policy::lock(conn)?;
                let taken = model::forget_project(conn, &request.project, &request.project_uid)?;
                if taken == 0 {
                    return Ok(());
                }
                policy::bump(conn)?;
                let ctx = Context::internal("auth");
                let draft = audit::Draft::background(&ctx, "auth", "forget-project")
                    .resource(&request.project)
                    .diff(json!({ "rolesTaken": taken }));
                Ok::<_, Error>(outbox::write(conn, &Some(draft))?)
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

/// Whom and where the names of a binding mean.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holder {
    pub(crate) user_uid: String,
    /// Empty for the platform.
    pub(crate) project_uid: String,
}

/// Makes a binding, or finds the one that exists. The policy is locked.
pub(crate) fn bind(
    conn: &mut Connection,
    ctx: &Context,
    new: &NewBinding,
    holder: &Holder,
) -> Result<pb::RoleBinding, Error> {
    let id = convert::binding_id(new);
    if let Some(existing) = model::find(conn, &id)? {
        let same = |had: &str, has: &str| had.is_empty() || had == has;
        if same(&existing.user_uid, &holder.user_uid)
            && same(&existing.project_uid, &holder.project_uid)
        {
            return Ok(convert::binding(&existing));
        }
        // Somebody else had these names.
        model::delete(conn, &id)?;
    }
    let row = BindingRow {
        id,
        role: new.role.clone(),
        user_name: new.user.clone(),
        project: new.project.clone(),
        create_us: time::now_us(),
        user_uid: holder.user_uid.clone(),
        project_uid: holder.project_uid.clone(),
    };
    model::insert(conn, &row)?;
    policy::bump(conn)?;
    let made = convert::binding(&row);
    let diff = Diff::new()
        .added("role", &row.role)
        .added("user", &row.user_name)
        .added("project", &row.project);
    audited(conn, ctx, &made.name, diff.into())?;
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
