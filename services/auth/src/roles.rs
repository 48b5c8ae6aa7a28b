//! Built-in and custom roles.

use serde_json::json;
use upm_mesh::{Context, FieldViolation};
use upm_proto::auth::v1 as pb;
use upm_store::page::{PageRequest, Query};
use upm_store::request_id::{Key, fingerprint, once};
use upm_store::{Connection, Diff, Store, audited, etag, ids, mask};

use crate::model::roles::{self as model, RoleRow};
use crate::model::{bindings, policy};
use crate::pb::{self as convert, RoleSpec};
use crate::permissions::{BUILT_IN, built_in};
use crate::policy::Policy;
use crate::{Error, bindings as grants};

const CHANGEABLE: [&str; 3] = ["description", "permissions", "scope"];

/// Roles. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Roles {
    pub(crate) store: Store,
    pub(crate) policy: Policy,
}

impl Roles {
    pub(crate) async fn list(
        &self,
        request: pb::ListRolesRequest,
    ) -> Result<pb::ListRolesResponse, Error> {
        let query = Query {
            method: "/upm.auth.v1.RoleService/ListRoles",
            ..Query::default()
        };
        let page: PageRequest<String> =
            PageRequest::parse(&self.store, query, request.page_size, &request.page_token)?;
        self.store
            .read("list roles", move |conn| {
                let after = page.after().map(String::as_str).unwrap_or_default();
                let custom = model::page(conn, after, page.limit())?;
                let built_in = BUILT_IN.iter().filter(|role| after < role.id);
                let mut roles: Vec<pb::Role> = built_in
                    .map(convert::built_in_role)
                    .chain(custom.iter().map(convert::role))
                    .collect();
                roles.sort_by(|a, b| a.name.cmp(&b.name));
                let (roles, next_page_token) = page.finish(roles, |role| {
                    role.name.trim_start_matches("roles/").to_owned()
                })?;
                Ok(pb::ListRolesResponse {
                    roles,
                    next_page_token,
                })
            })
            .await
    }

    pub(crate) async fn get(&self, name: String) -> Result<pb::Role, Error> {
        let id = ids::in_name("name", "roles", &name)?.to_owned();
        self.store
            .read("get a role", move |conn| find(conn, &id))
            .await
    }

    pub(crate) async fn create(
        &self,
        ctx: Context,
        request: pb::CreateRoleRequest,
    ) -> Result<pb::Role, Error> {
        let id = match request.role_id.as_str() {
            "" => ids::random_id("role"),
            id => id.to_owned(),
        };
        ids::field("role_id", &id)?;
        let role = request.role.unwrap_or_default();
        let spec = convert::parse_role(&role, |_| true)?;
        let print = fingerprint(&json!({
            "id": request.role_id, "description": spec.description,
            "permissions": spec.permissions, "scope": role.scope,
        }));
        let principal = ctx.caller.principal.to_string();
        let made = self
            .store
            .transact("create a role", move |conn| {
                let key = Key {
                    principal: &principal,
                    method: "/upm.auth.v1.RoleService/CreateRole",
                    request_id: &request.request_id,
                };
                once(conn, key, &print, |conn| insert(conn, &ctx, &id, &spec))
            })
            .await?;
        self.policy.changed();
        Ok(made)
    }

    pub(crate) async fn update(
        &self,
        ctx: Context,
        request: pb::UpdateRoleRequest,
    ) -> Result<pb::Role, Error> {
        let role = request.role.unwrap_or_default();
        let id = convert::custom_role("role.name", &role.name)?;
        let fields = mask::fields(
            request.update_mask.as_ref(),
            "upm.auth.v1.Role",
            &CHANGEABLE,
            |field| match field {
                "description" => !role.description.is_empty(),
                "permissions" => !role.permissions.is_empty(),
                _ => role.scope != 0,
            },
        )?;
        let spec = convert::parse_role(&role, |field| fields.contains(field))?;
        let updated = self
            .store
            .transact("update a role", move |conn| {
                policy::lock(conn)?;
                let mut row = model::find_locked(conn, &id)?
                    .ok_or_else(|| Error::NoRole(role.name.clone()))?;
                etag::check(&role.etag, &etag::of(&row.uid, row.version))?;
                let before = convert::role(&row);
                if fields.contains("description") {
                    row.description.clone_from(&spec.description);
                }
                if fields.contains("permissions") {
                    grants::require_held(conn, &ctx, "", &spec.permissions)?;
                    // Taking a permission out of a role takes it from everybody who has the role.
                    grants::require_held(conn, &ctx, "", &before.permissions)?;
                    row.permissions = json!(spec.permissions).to_string();
                }
                if fields.contains("scope") {
                    require_scope_fits(conn, &role.name, spec.scope)?;
                    row.scope = spec.scope.into();
                }
                row.version += 1;
                model::update(conn, &row)?;
                policy::bump(conn)?;
                let after = convert::role(&row);
                audited(conn, &ctx, &role.name, difference(&before, &after))?;
                Ok::<_, Error>(after)
            })
            .await?;
        self.policy.changed();
        Ok(updated)
    }

    pub(crate) async fn delete(
        &self,
        ctx: Context,
        request: pb::DeleteRoleRequest,
    ) -> Result<(), Error> {
        let id = convert::custom_role("name", &request.name)?;
        self.store
            .transact("delete a role", move |conn| {
                policy::lock(conn)?;
                let Some(row) = model::find_locked(conn, &id)? else {
                    let missing = Error::NoRole(request.name.clone());
                    return if request.allow_missing {
                        Ok(())
                    } else {
                        Err(missing)
                    };
                };
                etag::check(&request.etag, &etag::of(&row.uid, row.version))?;
                if !bindings::places_of_role(conn, &request.name)?.is_empty() {
                    let reason = "take it away from everybody first";
                    return Err(Error::RoleBound {
                        role: request.name.clone(),
                        reason,
                    });
                }
                model::delete(conn, &id)?;
                policy::bump(conn)?;
                Ok(audited(
                    conn,
                    &ctx,
                    &request.name,
                    Diff::new().removed("uid", &row.uid).into(),
                )?)
            })
            .await?;
        self.policy.changed();
        Ok(())
    }
}

/// A role of either kind.
pub(crate) fn find(conn: &mut Connection, id: &str) -> Result<pb::Role, Error> {
    if let Some(role) = built_in(id) {
        return Ok(convert::built_in_role(role));
    }
    let row = model::find(conn, id)?.ok_or_else(|| Error::NoRole(format!("roles/{id}")))?;
    Ok(convert::role(&row))
}

fn insert(
    conn: &mut Connection,
    ctx: &Context,
    id: &str,
    spec: &RoleSpec,
) -> Result<pb::Role, Error> {
    policy::lock(conn)?;
    grants::require_held(conn, ctx, "", &spec.permissions)?;
    let row = RoleRow {
        id: id.to_owned(),
        uid: ids::uuid7(),
        version: 1,
        description: spec.description.clone(),
        permissions: json!(spec.permissions).to_string(),
        scope: spec.scope.into(),
    };
    if built_in(id).is_some() || !model::insert(conn, &row)? {
        return Err(Error::RoleExists(format!("roles/{id}")));
    }
    policy::bump(conn)?;
    let made = convert::role(&row);
    let nothing = pb::Role {
        description: String::new(),
        ..pb::Role::default()
    };
    audited(conn, ctx, &made.name, difference(&nothing, &made))?;
    Ok(made)
}

/// Bindings that exist must stay possible.
fn require_scope_fits(
    conn: &mut Connection,
    role: &str,
    scope: pb::RoleScope,
) -> Result<(), Error> {
    let places = bindings::places_of_role(conn, role)?;
    if places.iter().all(|project| scope_fits(scope, project)) {
        return Ok(());
    }
    let reason = "somebody has it where the new scope does not allow it";
    Err(Error::RoleBound {
        role: role.to_owned(),
        reason,
    })
}

/// Whether a role of this scope may be bound there; the empty project is the platform.
pub(crate) fn scope_fits(scope: pb::RoleScope, project: &str) -> bool {
    match scope {
        pb::RoleScope::Unspecified => true,
        pb::RoleScope::Platform => project.is_empty(),
        pb::RoleScope::Project => !project.is_empty(),
    }
}

/// Refuses a binding where the role's scope does not allow it.
pub(crate) fn require_scope(role: &pb::Role, project: &str) -> Result<(), Error> {
    if scope_fits(role.scope(), project) {
        return Ok(());
    }
    let place = if project.is_empty() {
        "only in projects"
    } else {
        "only on the platform"
    };
    let text = format!("{} can be bound {place}", role.name);
    Err(FieldViolation::new("role_binding.project", text).into())
}

fn difference(before: &pb::Role, after: &pb::Role) -> serde_json::Value {
    let scope = |role: &pb::Role| role.scope().as_str_name();
    Diff::new()
        .field("description", &before.description, &after.description)
        .field("permissions", &before.permissions, &after.permissions)
        .field("scope", scope(before), scope(after))
        .into()
}
