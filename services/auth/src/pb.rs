//! Messages to domain values and back.

use upm_mesh::FieldViolation;
use upm_proto::auth::v1 as pb;
use upm_store::{etag, ids};

use crate::Error;
use crate::model::bindings::BindingRow;
use crate::model::roles::RoleRow;
use crate::permissions::{BuiltIn, built_in, is_permission};

const DESCRIPTION_CHARS: usize = 1000;
const PERMISSIONS: usize = 200;

/// What can be said of a custom role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoleSpec {
    pub(crate) description: String,
    pub(crate) permissions: Vec<String>,
    pub(crate) scope: pb::RoleScope,
}

/// A binding that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewBinding {
    pub(crate) role: String,
    pub(crate) user: String,
    /// Empty for the platform.
    pub(crate) project: String,
}

/// The id of a custom role that may be changed.
pub(crate) fn custom_role(path: &str, name: &str) -> Result<String, Error> {
    let id = ids::in_name(path, "roles", name)?;
    if built_in(id).is_some() {
        Err(Error::RoleBuiltIn(name.to_owned()))
    } else {
        Ok(id.to_owned())
    }
}

/// Checks what `role_of_request` says; only the fields that `matter` are complained about.
pub(crate) fn parse_role(
    role: &pb::Role,
    matter: impl Fn(&str) -> bool,
) -> Result<RoleSpec, Error> {
    let mut problems = Vec::new();
    if matter("description") && DESCRIPTION_CHARS < role.description.chars().count() {
        let text = format!("must have at most {DESCRIPTION_CHARS} characters");
        problems.push(FieldViolation::new("role.description", text));
    }
    if matter("permissions") {
        if role.permissions.is_empty() || PERMISSIONS < role.permissions.len() {
            let text = format!("must be 1 to {PERMISSIONS}");
            problems.push(FieldViolation::new("role.permissions", text));
        }
        for bad in role.permissions.iter().filter(|text| !is_permission(text)) {
            let text = format!("{bad:?} is not <module>.<resource>.<verb>");
            problems.push(FieldViolation::new("role.permissions", text));
        }
    }
    let scope = pb::RoleScope::try_from(role.scope).unwrap_or_else(|_| {
        problems.push(FieldViolation::new("role.scope", "is not known"));
        pb::RoleScope::Unspecified
    });
    if !problems.is_empty() {
        return Err(Error::Fields(problems));
    }
    let mut permissions = role.permissions.clone();
    permissions.sort();
    permissions.dedup();
    Ok(RoleSpec {
        description: role.description.clone(),
        permissions,
        scope,
    })
}

pub(crate) fn parse_binding(binding: Option<&pb::RoleBinding>) -> Result<NewBinding, Error> {
    let missing = pb::RoleBinding::default();
    let given = binding.unwrap_or(&missing);
    let problems: Vec<FieldViolation> = [
        ids::in_name("role_binding.role", "roles", &given.role).err(),
        ids::in_name("role_binding.user", "users", &given.user).err(),
        parse_project("role_binding.project", &given.project).err(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !problems.is_empty() {
        return Err(Error::Fields(problems));
    }
    Ok(NewBinding {
        role: given.role.clone(),
        user: given.user.clone(),
        project: given.project.clone(),
    })
}

/// Accepts `projects/{project}` and nothing.
pub(crate) fn parse_project(path: &str, project: &str) -> Result<(), FieldViolation> {
    if project.is_empty() {
        return Ok(());
    }
    let id = ids::in_name(path, "projects", project)?;
    ids::field(path, id)
}

pub(crate) fn built_in_role(role: &BuiltIn) -> pb::Role {
    pb::Role {
        name: format!("roles/{}", role.id),
        description: role.description.to_owned(),
        permissions: role
            .permissions
            .iter()
            .map(|&text| text.to_owned())
            .collect(),
        built_in: true,
        scope: role.scope.into(),
        etag: etag::of(role.id, 0),
    }
}

pub(crate) fn role(row: &RoleRow) -> pb::Role {
    pb::Role {
        name: format!("roles/{}", row.id),
        description: row.description.clone(),
        permissions: permissions(row),
        built_in: false,
        scope: row.scope,
        etag: etag::of(&row.uid, row.version),
    }
}

/// The permissions of a stored role; one that cannot be read grants nothing.
pub(crate) fn permissions(row: &RoleRow) -> Vec<String> {
    serde_json::from_str(&row.permissions).unwrap_or_else(|error| {
        tracing::error!(role.id = %row.id, %error, "A stored role cannot be read");
        Vec::new()
    })
}

pub(crate) fn binding(row: &BindingRow) -> pb::RoleBinding {
    pb::RoleBinding {
        name: format!("roleBindings/{}", row.id),
        role: row.role.clone(),
        user: row.user_name.clone(),
        project: row.project.clone(),
    }
}

/// `<role>.<user>` or `<role>.<user>.<project>`: ids hold no dot.
pub(crate) fn binding_id(new: &NewBinding) -> String {
    let id = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
    let mut parts = vec![id(&new.role), id(&new.user)];
    if !new.project.is_empty() {
        parts.push(id(&new.project));
    }
    parts.join(".")
}
